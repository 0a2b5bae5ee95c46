//! Requests of no inference API under the routes of a cluster: any path and method reaches its Service, in pieces and unread,
//! and none goes round what models' requests are checked for.

use crate::cluster::*;
use crate::harness::*;
use crate::kube_api::*;
use crate::raw::*;
use crate::web_app::*;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A policy without guards, whose model no route leads to.
pub(crate) const OPEN: &str = "version: 1\nmodels:\n  m: {pools: [own]}\npools:\n  own: {endpoints: [\"127.0.0.1:1\"], health: {enabled: false}}\n";

/// The same where prompts are checked.
const GUARDED: &str = "version: 1\nguards: {secrets: {action: block}}\nmodels:\n  m: {pools: [own]}\npools:\n  own: {endpoints: [\"127.0.0.1:1\"], \
                       health: {enabled: false}}\n";

fn service(name: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"name": "http", "port": 80}]}})
}

pub(crate) fn route(name: &str, rules: &Value) -> Value {
    json!({"kind": "HTTPRoute", "metadata": {"name": name}, "spec": {
        "parentRefs": [{"name": "inference-gateway"}], "rules": rules}})
}

pub(crate) fn to(service: &str) -> Value {
    json!([{"name": service, "port": 80}])
}

/// Puts a Service with its endpoint into the cluster.
pub(crate) fn serve(api: &KubeApi, name: &str, addr: SocketAddr) {
    apply(api, [service(name)]);
    api.put(SLICES, "default", slice(name, addr));
}

pub(crate) async fn with_policy(api: &KubeApi, policy: &str) -> Gateway {
    let launch = Launch::new(policy).server(SERVER).argument("--gateway-api");
    let launch = launch.variable("KEY_OF_ANN", "sk-of-ann-0123456789");
    let kubeconfig = api.kubeconfig(launch.folder()).display().to_string();
    follows(launch.variable("KUBECONFIG", kubeconfig)).await
}

/// Sends a request without following redirects.
pub(crate) async fn send(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    let request = client.build().unwrap().request(method.parse().unwrap(), gateway.url(path));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = if body.is_empty() { request } else { request.body(body.to_owned()) };
    Answer::of(request.send().await.unwrap()).await
}

pub(crate) async fn get(gateway: &Gateway, path: &str) -> Answer {
    send(gateway, "GET", path, &[], "").await
}

/// Waits until a path is answered by an app.
pub(crate) async fn answered_by(gateway: &Gateway, path: &str, app: &str) {
    let is_it = async || {
        let answer = get(gateway, path).await;
        (answer.status == 200 && answer.json()["app"] == app).then_some(())
    };
    until(&format!("{path} from {app}"), is_it).await;
}

#[tokio::test]
async fn any_path_and_method_reaches_the_service_of_its_route_as_it_came() {
    let (api, first, second) =
        (KubeApi::start().await, WebApp::start("first").await, WebApp::start("second").await);
    apply(&api, fixture("gateway.yaml"));
    serve(&api, "first", first.addr);
    serve(&api, "second", second.addr);
    let by = |matches: Value, service: &str| json!({"matches": [matches], "backendRefs": to(service)});
    let rules = json!([
        {"backendRefs": to("first")},
        by(json!({"path": {"type": "Exact", "value": "/exact"}}), "second"),
        by(json!({"path": {"type": "PathPrefix", "value": "/v2"}}), "second"),
        by(json!({"headers": [{"name": "version", "value": "two"}]}), "second"),
        by(json!({"queryParams": [{"name": "animal", "value": "whale"}]}), "second"),
        by(json!({"method": "PATCH"}), "second"),
    ]);
    // The model has a route of its own, so that what answers the rest answers no models.
    let pool = json!([{"group": "signalbox.dev", "kind": "Pool", "name": "own"}]);
    let of_model = json!([{"matches": [{"headers": [{"name": "x-selected-model", "value": "m"}]}], "backendRefs": pool}]);
    apply(&api, [route("web", &rules), route("models", &of_model)]);
    let gateway = with_policy(&api, OPEN).await;
    answered_by(&gateway, "/", "first").await;
    answered_by(&gateway, "/exact", "second").await;
    for (method, path, headers, app) in [
        ("GET", "/", &[][..], "first"),
        ("GET", "/exact", &[], "second"),
        ("GET", "/exact/more", &[], "first"),
        ("GET", "/v2", &[], "second"),
        ("GET", "/v2/example?a=%20b", &[], "second"),
        ("GET", "/v2example", &[], "first"),
        ("GET", "/x", &[("Version", "two")], "second"),
        ("GET", "/?animal=whale", &[], "second"),
        ("GET", "/?animal=dolphin", &[], "first"),
        ("DELETE", "/thing", &[], "first"),
        ("PATCH", "/thing", &[], "second"),
        ("OPTIONS", "/thing", &[], "first"),
    ] {
        let answer = send(&gateway, method, path, headers, "").await;
        assert_eq!(answer.status, 200, "{method} {path} {}", answer.text);
        let told = answer.json();
        assert_eq!(
            (&told["app"], &told["method"], &told["target"]),
            (&app.into(), &method.into(), &path.into())
        );
    }
    let put = send(
        &gateway,
        "PUT",
        "/a%2Fb/./c",
        &[("cookie", "a=b"), ("authorization", "Basic eA=="), ("te", "gzip")],
        "text",
    )
    .await;
    let told = put.json();
    // Clients take steps out of paths themselves.
    assert_eq!((&told["target"], &told["body"]), (&json!("/a%2Fb/c"), &json!("text")));
    assert_eq!(
        (&told["headers"]["cookie"], &told["headers"]["authorization"]),
        (&json!("a=b"), &json!("Basic eA=="))
    );
    assert_eq!((&told["headers"]["te"], put.header("set-cookie")), (&Value::Null, "session=1"));
    assert_ne!(put.header("x-selected-model"), "forged", "what an upstream says of routing is not told");
    let host = told["headers"]["host"].as_str().unwrap();
    assert_eq!(host, gateway.addr.to_string(), "the client's host");
    let head = send(&gateway, "HEAD", "/", &[], "").await;
    assert_eq!((head.status, &*head.text), (200, ""));
    let missing = send(&gateway, "GET", "/", &[("x-status", "404")], "").await;
    assert_eq!(
        (missing.status, missing.json()["app"].as_str()),
        (404, Some("first")),
        "an error is the backend's own"
    );
    gateway.counts("signalbox_requests_total", &["status=\"404\""], 1.0).await;
}

#[tokio::test]
async fn without_a_route_or_a_backend_the_status_says_which() {
    let api = KubeApi::start().await;
    apply(&api, fixture("gateway.yaml"));
    apply(&api, [service("empty")]);
    let at = |path: &str| json!([{"path": {"type": "PathPrefix", "value": path}}]);
    let rules = json!([
        {"matches": at("/none"), "backendRefs": to("none")},
        {"matches": at("/empty"), "backendRefs": to("empty")},
        {"matches": at("/zero"), "backendRefs": [{"name": "empty", "port": 80, "weight": 0}]},
        {"matches": at("/moved"), "filters": [{"type": "RequestRedirect", "requestRedirect": {
            "hostname": "example.org", "statusCode": 301, "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}}}]},
        {"matches": at("/own"), "backendRefs": [{"group": "signalbox.dev", "kind": "Pool", "name": "own"}]},
    ]);
    apply(&api, [route("web", &rules)]);
    let gateway = with_policy(&api, OPEN).await;
    let status = async |path: &str| {
        let answer = get(&gateway, path).await;
        (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    until("a rule without its Service", async || (status("/none").await.0 == 500).then_some(())).await;
    assert_eq!(status("/empty/x").await, (503, "no_backend_endpoint".to_owned()));
    assert_eq!(status("/zero").await, (500, "invalid_backend".to_owned()));
    assert_eq!(status("/other").await, (404, "no_route".to_owned()));
    assert_eq!(
        status("/own").await,
        (403, "unchecked_request".to_owned()),
        "a pool of the policy has its credential"
    );
    let moved = get(&gateway, "/moved/a?b=c").await;
    assert_eq!((moved.status, moved.header("location")), (301, "http://example.org/new/a?b=c"));
    // A connection is kept through all of them.
    let mut wire = Wire::open(gateway.addr).await;
    for path in ["/other", "/moved/x", "/none"] {
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await;
        assert!(wire.answer().await.is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_rules_filters_weights_and_mirrors_hold_for_any_request() {
    let api = KubeApi::start().await;
    let [main, canary, mirror] =
        [WebApp::start("main").await, WebApp::start("canary").await, WebApp::start("mirror").await];
    apply(&api, fixture("gateway.yaml"));
    for (name, app) in [("main", &main), ("canary", &canary), ("mirror", &mirror)] {
        serve(&api, name, app.addr);
    }
    let rules = json!([{
        "matches": [{"path": {"type": "PathPrefix", "value": "/api"}}],
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "X-Set", "value": "new"}], "add": [{"name": "x-add", "value": "more"}], "remove": ["x-gone"]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "add": [{"name": "x-answer", "value": "added"}], "remove": ["set-cookie"]}},
            {"type": "URLRewrite", "urlRewrite": {"hostname": "inner.example",
                "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/inner"}}},
            {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "mirror", "port": 80}}},
        ],
        "backendRefs": [
            {"name": "main", "port": 80, "weight": 3,
             "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-backend", "value": "main"}]}}]},
            {"name": "canary", "port": 80, "weight": 1},
        ],
    }]);
    apply(&api, [route("web", &rules)]);
    let gateway = with_policy(&api, OPEN).await;
    let is_there = async || (get(&gateway, "/api").await.status == 200).then_some(());
    until("the route", is_there).await;
    let mut shares = [0, 0];
    for _ in 0..80 {
        let answer =
            send(&gateway, "POST", "/api/a?b", &[("x-set", "old"), ("x-gone", "1")], "some text").await;
        assert_eq!(
            (answer.status, answer.header("x-answer"), answer.header("set-cookie")),
            (200, "added", "")
        );
        let told = answer.json();
        let headers = &told["headers"];
        assert_eq!((&told["target"], &headers["host"]), (&json!("/inner/a?b"), &json!("inner.example")));
        assert_eq!(
            (&headers["x-set"], &headers["x-add"], &headers["x-gone"]),
            (&json!("new"), &json!("more"), &Value::Null)
        );
        let is_main = told["app"] == "main";
        assert_eq!(headers["x-backend"] == "main", is_main);
        shares[usize::from(!is_main)] += 1;
    }
    // Of 80 about 60: so far off once in a million runs.
    assert!((38..=77).contains(&shares[0]), "{shares:?}");
    // Beside those of the requests that waited for the route.
    let copies = || mirror.seen().into_iter().filter(|copy| copy["method"] == "POST").collect::<Vec<_>>();
    until("a copy of each", async || (copies().len() == 80).then_some(())).await;
    let copy = copies().pop().unwrap();
    assert_eq!(
        (&copy["method"], &copy["target"], &copy["body"]),
        (&json!("POST"), &json!("/inner/a?b"), &json!("some text"))
    );
    assert_eq!((&copy["headers"]["x-set"], &copy["headers"]["x-backend"]), (&json!("new"), &Value::Null));
}

#[tokio::test]
async fn bodies_pass_in_pieces_both_ways_however_long_they_are() {
    let (api, app) = (KubeApi::start().await, WebApp::start("app").await);
    apply(&api, fixture("gateway.yaml"));
    serve(&api, "app", app.addr);
    apply(&api, [route("web", &json!([{"backendRefs": to("app")}]))]);
    let gateway = with_policy(&api, OPEN).await;
    answered_by(&gateway, "/", "app").await;
    let mut wire = Wire::open(gateway.addr).await;
    wire.send(b"POST /echo HTTP/1.1\r\nhost: a\r\nx-echo: 1\r\ntransfer-encoding: chunked\r\n\r\n").await;
    // Each piece comes back before the next is sent: nothing waits for the whole.
    for piece in ["one", "two", "three"] {
        wire.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await;
        wire.read_until(piece).await;
    }
    wire.send(b"0\r\n\r\n").await;
    wire.read_until("0\r\n\r\n").await;
    // More than a request of an inference API may have, and more than is kept here.
    let long = "x".repeat(40 << 20);
    let answer = send(&gateway, "PUT", "/upload", &[], &long).await;
    assert_eq!((answer.status, &answer.json()["length"]), (200, &json!(long.len())));
    let echoed = send(&gateway, "POST", "/download", &[("x-echo", "1")], &long).await;
    assert_eq!(echoed.text.len(), long.len());
    let waits = send(&gateway, "POST", "/wait", &[("expect", "100-continue")], "text").await;
    assert_eq!((waits.status, &waits.json()["headers"]["expect"]), (200, &Value::Null));
}

#[tokio::test]
async fn a_rules_timeouts_and_retries_hold_for_any_request() {
    let (api, app, other) =
        (KubeApi::start().await, WebApp::start("app").await, WebApp::start("other").await);
    apply(&api, fixture("gateway.yaml"));
    serve(&api, "app", app.addr);
    serve(&api, "other", other.addr);
    // Nobody listens there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    serve(&api, "gone", gone);
    let at = |path: &str| json!([{"path": {"type": "PathPrefix", "value": path}}]);
    let both = |first: &str| json!([{"name": first, "port": 80, "weight": 1_000_000}, {"name": "other", "port": 80, "weight": 1}]);
    let rules = json!([
        {"backendRefs": to("app")},
        {"matches": at("/request"), "timeouts": {"request": "300ms"}, "backendRefs": to("app")},
        {"matches": at("/backend"), "timeouts": {"backendRequest": "300ms"}, "backendRefs": to("app")},
        {"matches": at("/gone"), "backendRefs": both("gone")},
        {"matches": at("/retried"), "retry": {"codes": [503], "attempts": 2, "backoff": "200ms"}, "backendRefs": to("app")},
    ]);
    apply(&api, [route("web", &rules)]);
    let gateway = with_policy(&api, OPEN).await;
    answered_by(&gateway, "/", "app").await;
    answered_by(&gateway, "/gone", "other").await;
    for path in ["/request", "/backend"] {
        let late = send(&gateway, "GET", path, &[("x-wait", "20000")], "").await;
        assert_eq!(
            (late.status, late.json()["error"]["code"].as_str()),
            (504, Some("upstream_timeout")),
            "{path}"
        );
        assert_eq!(send(&gateway, "GET", path, &[], "").await.status, 200);
    }
    // What has reached nobody is sent elsewhere, its body with it.
    let posted = send(&gateway, "POST", "/gone", &[], "text").await;
    assert_eq!((&posted.json()["app"], &posted.json()["body"]), (&json!("other"), &json!("text")));
    let before = app.seen().len();
    let began = Instant::now();
    let failed = send(&gateway, "POST", "/retried", &[("x-status", "503")], "text").await;
    assert_eq!(
        (failed.status, failed.json()["app"].as_str()),
        (503, Some("app")),
        "the last error is the client's"
    );
    assert_eq!(app.seen().len(), before + 3);
    assert!(app.seen()[before..].iter().all(|seen| seen["body"] == "text"));
    assert!(began.elapsed() >= Duration::from_millis(400), "each further attempt waits");
    let once = send(&gateway, "GET", "/", &[("x-status", "503")], "").await;
    assert_eq!((once.status, app.seen().len()), (503, before + 4), "nothing is repeated that no rule lists");
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_round_the_guards_to_where_models_answer() {
    let (api, app, web) = (KubeApi::start().await, WebApp::start("engine").await, WebApp::start("web").await);
    apply(&api, fixture("gateway.yaml"));
    serve(&api, "engine", app.addr);
    serve(&api, "web", web.addr);
    let at = |path: &str| json!([{"path": {"type": "PathPrefix", "value": path}}]);
    let rewritten = |to: &str| json!([{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": to}}}]);
    let rules = json!([
        {"backendRefs": to("engine")},
        {"matches": at("/web"), "backendRefs": to("web")},
        {"matches": at("/inner"), "filters": rewritten("/"), "backendRefs": to("web")},
        {"matches": at("/short"), "filters": rewritten("/v1"), "backendRefs": to("engine")},
    ]);
    apply(&api, [route("web", &rules)]);
    let gateway = with_policy(&api, GUARDED).await;
    answered_by(&gateway, "/", "engine").await;
    answered_by(&gateway, "/web", "web").await;
    let secret = r#"{"model":"m","messages":[{"role":"user","content":"AKIAIOSFODNN7EXAMPLE"}],"prompt":"AKIAIOSFODNN7EXAMPLE"}"#;
    let before = app.seen().len();
    let mut wire = Wire::open(gateway.addr).await;
    for path in [
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/V1/chat/completions",
        "/v1/chat/./completions",
        "/x/../v1/chat/completions",
        "/v1/%63hat/completions",
        "/v1%2fchat%2fcompletions",
        "/v1/chat/completions;x",
        "/v1/v1/chat/completions",
        "/x/v1/chat/completions",
        "/short/chat/completions",
        "/web/v1/chat/completions",
        "/inner/v1/completions",
        "/invocations",
        "/generate",
        "/",
    ] {
        for method in ["POST", "PUT", "GET"] {
            let length = secret.len();
            let request =
                format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{secret}");
            wire.send(request.as_bytes()).await;
            let Some(answer) = wire.answer().await else { panic!("{method} {path}") };
            assert!((400..500).contains(&answer.status()), "{method} {path}: {}", answer.head);
            // What is refused with its body unread ends its connection.
            wire = Wire::open(gateway.addr).await;
        }
    }
    // Nothing of it has reached anybody, without a body least of all.
    assert_eq!(app.seen().len(), before);
    assert!(web.seen().iter().all(|seen| seen["body"] == ""), "{:?}", web.seen());
    let posted = send(&gateway, "POST", "/web/form", &[], "a=b").await;
    assert_eq!(
        (posted.status, &posted.json()["body"]),
        (200, &json!("a=b")),
        "what answers no models is checked by nobody"
    );
    assert_eq!(get(&gateway, "/docs").await.json()["app"], "engine");
    let delete = send(&gateway, "DELETE", "/sleep", &[], "").await;
    assert_eq!((delete.status, delete.json()["error"]["code"].as_str()), (403, Some("unchecked_request")));
}

#[tokio::test]
async fn who_must_be_known_for_a_model_must_be_known_for_any_request() {
    let (api, app) = (KubeApi::start().await, WebApp::start("app").await);
    apply(&api, fixture("gateway.yaml"));
    serve(&api, "app", app.addr);
    apply(&api, [route("web", &json!([{"backendRefs": to("app")}]))]);
    let policy =
        format!("{OPEN}identity: {{required: true, keys: [{{user: ann, value: {{env: KEY_OF_ANN}}}}]}}\n");
    let gateway = with_policy(&api, &policy).await;
    let with_key = &[("authorization", "Bearer sk-of-ann-0123456789")];
    let is_there = async || (send(&gateway, "GET", "/", with_key, "").await.status == 200).then_some(());
    until("the route", is_there).await;
    assert_eq!(get(&gateway, "/").await.status, 401);
    let told = send(&gateway, "GET", "/", with_key, "").await.json();
    assert_eq!(told["headers"]["authorization"], Value::Null, "the gateway's key stays here");
}
