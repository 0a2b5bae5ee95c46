//! What the conformance suites of the Gateway API and of its inference extension look at, over the API server of the loopback,
//! beside what other files here cover already; `deploy/gateway-api.md` has the table.

use crate::cluster::*;
use crate::endpoint_picker::*;
use crate::harness::*;
use crate::kube_api::*;
use crate::plain_http::*;
use crate::raw::*;
use crate::web_app::*;
use crate::websockets::{AGREED, Server, ask as ask_websocket};
use base64::Engine as _;
use serde_json::{Value, json};
use signalbox::sim::{Sim, SimOptions, tls::Authority};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const OF_GATEWAY: (&str, &str, &str) = (GATEWAYS, "default", "inference-gateway");
const WEB: (&str, &str, &str) = (ROUTES, "default", "web");

/// A Gateway of the class with these listeners.
fn gateway_of(name: &str, listeners: &Value) -> Value {
    json!({"kind": "Gateway", "metadata": {"name": name}, "spec": {"gatewayClassName": "istio", "listeners": listeners}})
}

fn class() -> Value {
    fixture("gateway.yaml").remove(0)
}

async fn at_host(gateway: &Gateway, host: &str, path: &str) -> u16 {
    send(gateway, "GET", path, &[("host", host)], "").await.status
}

async fn until_at(gateway: &Gateway, host: &str, status: u16) {
    let is_it = async || (at_host(gateway, host, "/").await == status).then_some(());
    until(&format!("{status} at {host}"), is_it).await;
}

/// Encodes what a Secret holds.
fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn listeners_that_nothing_tells_apart_conflict_until_an_edit_parts_them() {
    let (api, app) = (KubeApi::start().await, WebApp::start("app").await);
    let listener = |name: &str, host: &str, port: u16| json!({"name": name, "protocol": "HTTP", "port": port, "hostname": host});
    let edit = |listeners: Value| apply(&api, [gateway_of("inference-gateway", &listeners)]);
    apply(&api, [class()]);
    edit(json!([
        listener("a", "a.example", 80),
        listener("b", "a.example", 80),
        listener("c", "c.example", 80)
    ]));
    serve(&api, "app", app.addr);
    apply(&api, [route("web", &json!([{"backendRefs": to("app")}]))]);
    let gateway = with_policy(&api, OPEN).await;
    let at = |index: usize| format!("/status/listeners/{index}/conditions");
    for index in [0, 1] {
        condition(&api, OF_GATEWAY, &at(index), "Conflicted", "HostnameConflict").await;
        condition(&api, OF_GATEWAY, &at(index), "Programmed", "Invalid").await;
    }
    condition(&api, OF_GATEWAY, &at(2), "Conflicted", "NoConflicts").await;
    condition(&api, OF_GATEWAY, "/status/conditions", "Accepted", "ListenersNotValid").await;
    until_at(&gateway, "c.example", 200).await;
    assert_eq!(at_host(&gateway, "a.example", "/").await, 404, "none of the two is picked");
    // Edits are followed while requests are served: a host, a port that is not there, one listener less.
    edit(json!([
        listener("a", "a.example", 80),
        listener("b", "b.example", 80),
        listener("c", "c.example", 81)
    ]));
    until_at(&gateway, "a.example", 200).await;
    until_at(&gateway, "b.example", 200).await;
    until_at(&gateway, "c.example", 404).await;
    condition(&api, OF_GATEWAY, &at(1), "Conflicted", "NoConflicts").await;
    condition(&api, OF_GATEWAY, &at(2), "Accepted", "PortUnavailable").await;
    edit(json!([listener("a", "a.example", 80)]));
    until_at(&gateway, "b.example", 404).await;
    let is_one = async || {
        let listeners = api.get(GATEWAYS, "default", "inference-gateway")["status"]["listeners"].clone();
        (listeners.as_array()?.len() == 1 && listeners[0]["attachedRoutes"] == 1).then_some(())
    };
    until("one listener in the state", is_one).await;
    condition(&api, OF_GATEWAY, "/status/conditions", "Accepted", "Accepted").await;
    assert_eq!(at_host(&gateway, "a.example", "/").await, 200);
}

#[tokio::test]
async fn gateways_of_one_host_and_port_are_served_as_one() {
    let (api, first, second) =
        (KubeApi::start().await, WebApp::start("first").await, WebApp::start("second").await);
    let listeners = json!([{"name": "http", "protocol": "HTTP", "port": 80, "hostname": "shared.example"}]);
    apply(&api, [class(), gateway_of("one", &listeners), gateway_of("two", &listeners)]);
    serve(&api, "first", first.addr);
    serve(&api, "second", second.addr);
    let at = |name: &str, path: &str, service: &str| {
        let matches = json!([{"path": {"type": "PathPrefix", "value": path}}]);
        let mut route = route(name, &json!([{"matches": matches, "backendRefs": to(service)}]));
        route["spec"]["parentRefs"] = json!([{"name": name}]);
        route
    };
    apply(&api, [at("one", "/one", "first"), at("two", "/two", "second")]);
    let gateway = with_policy(&api, OPEN).await;
    for path in ["/one", "/two"] {
        let is_there = async || (at_host(&gateway, "shared.example", path).await == 200).then_some(());
        until(path, is_there).await;
    }
    assert_eq!(at_host(&gateway, "shared.example", "/three").await, 404);
    assert_eq!((first.seen().len(), second.seen().len()), (1, 1));
    for name in ["one", "two"] {
        condition(&api, (GATEWAYS, "default", name), "/status/conditions", "Programmed", "Programmed").await;
    }
}

#[tokio::test]
async fn a_listener_takes_a_secret_of_another_namespace_only_as_long_as_that_grants_it() {
    let (api, app) = (KubeApi::start().await, WebApp::start("app").await);
    let (granted, own) = (Authority::new("granted"), Authority::new("own"));
    let (cert, key) = granted.cert_pem(&["a.example"]);
    let secret = json!({"metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
        "data": {"tls.crt": encoded(&cert), "tls.key": encoded(&key)}});
    api.put(SECRETS, "certs", secret);
    let listeners = json!([{"name": "https", "protocol": "HTTPS", "port": 443, "hostname": "a.example",
        "tls": {"certificateRefs": [{"name": "tls", "namespace": "certs"}]}}]);
    apply(&api, [class(), gateway_of("inference-gateway", &listeners)]);
    serve(&api, "app", app.addr);
    apply(&api, [route("web", &json!([{"backendRefs": to("app")}]))]);
    let launch = Launch::new(OPEN).argument("--gateway-api");
    let kubeconfig = api.kubeconfig(launch.folder()).display().to_string();
    let (cert, key) = own.cert_pem(&["a.example"]);
    std::fs::write(launch.folder().join("cert.pem"), cert).unwrap();
    std::fs::write(launch.folder().join("key.pem"), key).unwrap();
    let server = "drain: {delay: 0s, timeout: 10s}\nlisteners:\n  - {address: \"127.0.0.1:0\", public_port: 443, \
                  tls: {cert_file: cert.pem, key_file: key.pem}}\n";
    let gateway = follows(launch.server(server).variable("KUBECONFIG", kubeconfig)).await;
    let get = async |authority: &Authority| {
        let ca = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy();
        let client = client.resolve("a.example", gateway.addr).build().unwrap();
        let answer = client.get(format!("https://a.example:{}/", gateway.addr.port())).send().await.ok()?;
        Some(answer.status().as_u16())
    };
    let at = "/status/listeners/0/conditions";
    condition(&api, OF_GATEWAY, at, "ResolvedRefs", "RefNotPermitted").await;
    assert_eq!((get(&granted).await, get(&own).await), (None, Some(404)), "nothing of the Secret is shown");
    let asked = api.asked();
    assert!(asked.iter().all(|asked| !asked.contains("/secrets")), "it is not even read");
    let grant = |name: &str| {
        json!({"metadata": {"name": "grant"}, "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"}],
            "to": [{"group": "", "kind": "Secret", "name": name}]}})
    };
    api.put(GRANTS, "certs", grant("tls"));
    until("the granted certificate", async || (get(&granted).await == Some(200)).then_some(())).await;
    condition(&api, OF_GATEWAY, at, "Programmed", "Programmed").await;
    api.put(GRANTS, "certs", grant("other"));
    until("the grant's end", async || get(&granted).await.is_none().then_some(())).await;
    condition(&api, OF_GATEWAY, at, "ResolvedRefs", "RefNotPermitted").await;
}

#[tokio::test]
async fn a_policy_of_tls_decides_whom_a_service_is_believed_to_be() {
    let api = KubeApi::start().await;
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let options = SimOptions { models: vec!["llama3-8b".to_owned()], ..SimOptions::default() };
    let secure = Sim::start(options, listener, Some(authority.server_config(&["backend.example"]))).await;
    apply(&api, fixture("gateway.yaml"));
    apply(&api, fixture("services.yaml"));
    api.put(SLICES, "default", slice("llama-8b", secure.addr()));
    let policy = |host: &str| {
        json!({"kind": "BackendTLSPolicy", "metadata": {"name": "tls"}, "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "llama-8b"}],
            "validation": {"hostname": host, "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}}})
    };
    let authorities =
        |pem: String| json!({"kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": pem}});
    apply(&api, [policy("backend.example")]);
    let gateway = gateway(&api).await;
    let (of_policy, at) = ((TLS_POLICIES, "default", "tls"), "/status/ancestors/0/conditions");
    condition(&api, of_policy, at, "Accepted", "NoValidCACertificate").await;
    condition(&api, of_policy, at, "ResolvedRefs", "InvalidCACertificateRef").await;
    answers(&gateway, "llama3-8b", 500).await;
    apply(&api, [authorities(authority.ca_pem())]);
    answers(&gateway, "llama3-8b", 200).await;
    condition(&api, of_policy, at, "Accepted", "Accepted").await;
    // Another name, or another authority, and nothing is sent.
    let before = asked(&secure).len();
    apply(&api, [policy("another.example")]);
    answers(&gateway, "llama3-8b", 502).await;
    apply(&api, [policy("backend.example"), authorities(other.ca_pem())]);
    let refused = async || (gateway.chat("llama3-8b", "hello").await.status == 502).then_some(());
    until("a stranger", refused).await;
    apply(&api, [authorities(authority.ca_pem())]);
    answers(&gateway, "llama3-8b", 200).await;
    assert!(asked(&secure).len() > before);
    // A younger one for the same Service changes nothing, and says why.
    let mut younger = policy("another.example");
    younger["metadata"] = json!({"name": "younger", "creationTimestamp": "2026-01-01T00:00:00Z"});
    apply(&api, [younger]);
    condition(&api, (TLS_POLICIES, "default", "younger"), at, "Accepted", "Conflicted").await;
    condition(&api, of_policy, at, "Accepted", "Accepted").await;
    assert_eq!(gateway.chat("llama3-8b", "hello").await.status, 200);
}

#[tokio::test]
async fn a_filter_that_refers_to_an_unknown_kind_is_told_and_its_requests_are_not_let_by() {
    let (api, app) = (KubeApi::start().await, WebApp::start("app").await);
    apply(&api, fixture("gateway.yaml"));
    serve(&api, "app", app.addr);
    let at = |path: &str| json!([{"path": {"type": "PathPrefix", "value": path}}]);
    let extension = json!([{"type": "ExtensionRef", "extensionRef": {"group": "x.example", "kind": "Wasm", "name": "w"}}]);
    let mut behind = to("app");
    behind[0]["filters"] = extension.clone();
    let rules = json!([
        {"matches": at("/"), "backendRefs": to("app")},
        {"matches": at("/rule"), "filters": extension, "backendRefs": to("app")},
        {"matches": at("/backend"), "backendRefs": behind},
    ]);
    apply(&api, [route("web", &rules)]);
    let gateway = with_policy(&api, OPEN).await;
    answered_by(&gateway, "/", "app").await;
    condition(&api, WEB, OF_PARENT, "ResolvedRefs", "InvalidKind").await;
    condition(&api, WEB, OF_PARENT, "Accepted", "Accepted").await;
    for path in ["/rule", "/backend/x"] {
        assert_eq!(get(&gateway, path).await.status, 500, "{path}");
    }
    // A filter that is known to the API and not here: the rule is not accepted, and the others are.
    let auth = json!([{"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "backendRef": {"name": "app", "port": 80}}}]);
    let rules = json!([
        {"matches": at("/"), "backendRefs": to("app")},
        {"matches": at("/auth"), "filters": auth, "backendRefs": to("app")},
    ]);
    apply(&api, [route("web", &rules)]);
    condition(&api, WEB, OF_PARENT, "PartiallyInvalid", "UnsupportedValue").await;
    until("500 at /auth", async || (get(&gateway, "/auth").await.status == 500).then_some(())).await;
    assert_eq!(get(&gateway, "/rule").await.status, 200);
}

#[tokio::test]
async fn an_objective_of_the_cluster_says_how_urgent_a_request_is() {
    let (api, base) = (KubeApi::start().await, sim("phi4-mini").await);
    pool_of(&api, base.addr());
    let objective = |priority: i32| {
        json!({"kind": "InferenceObjective", "metadata": {"name": "batch"}, "spec": {
            "priority": priority, "poolRef": {"name": "vllm-phi4-mini"}}})
    };
    apply(&api, [objective(-7)]);
    let policy = "version: 1\nmodels:\n  phi4-mini: {pools: [own]}\npools:\n  own: {endpoints: [\"127.0.0.1:1\"], health: {enabled: false}}\n\
                  admission:\n  client_objectives: {from: everyone}\n";
    let gateway = with_policy(&api, policy).await;
    answers(&gateway, "phi4-mini", 200).await;
    let body = r#"{"model":"phi4-mini","messages":[{"role":"user","content":"hello"}],"max_tokens":4}"#;
    let priority = async |objective: &str| {
        let request =
            client().post(gateway.url("/v1/chat/completions")).header("content-type", "application/json");
        let request = request.header("x-gateway-inference-objective", objective).body(body);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        gateway.line(answer.header("x-request-id")).await["priority"].clone()
    };
    until("the objective's priority", async || (priority("batch").await == -7).then_some(())).await;
    assert_eq!(priority("unknown").await, 0);
    condition(&api, (OBJECTIVES, "default", "batch"), "/status/conditions", "Accepted", "Accepted").await;
    apply(&api, [objective(9)]);
    // A client may be less urgent than others by itself, not more.
    until("an edit", async || (priority("batch").await == 0).then_some(())).await;
}

/// An `InferencePool` over pods of this label, with a picker or without.
fn inference_pool(name: &str, addr: SocketAddr, picker: Option<u16>) -> Value {
    let mut spec =
        json!({"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": addr.port()}]});
    if let Some(port) = picker {
        spec["endpointPickerRef"] =
            json!({"name": "epp", "port": {"number": port}, "failureMode": "FailClose"});
    }
    json!({"kind": "InferencePool", "metadata": {"name": name}, "spec": spec})
}

fn labelled(name: &str, label: &str, addr: SocketAddr) -> Value {
    let mut pod = pod(name, addr, true);
    pod["metadata"]["labels"] = json!({"app": label});
    pod
}

fn to_pool(name: &str, weight: u32) -> Value {
    json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": name, "weight": weight})
}

#[tokio::test]
async fn pools_share_any_request_by_weight_and_gateways_have_pools_of_their_own() {
    let (api, first, second) =
        (KubeApi::start().await, WebApp::start("first").await, WebApp::start("second").await);
    let listener = |host: &str| json!([{"name": "http", "protocol": "HTTP", "port": 80, "hostname": host}]);
    apply(
        &api,
        [class(), gateway_of("one", &listener("one.example")), gateway_of("two", &listener("two.example"))],
    );
    apply(&api, [inference_pool("first", first.addr, None), inference_pool("second", second.addr, None)]);
    api.put(PODS, "default", labelled("pod-1", "first", first.addr));
    api.put(PODS, "default", labelled("pod-2", "second", second.addr));
    let of = |name: &str, backends: Value| {
        let mut route = route(name, &json!([{"backendRefs": backends}]));
        route["spec"]["parentRefs"] = json!([{"name": name}]);
        route
    };
    apply(
        &api,
        [
            of("one", json!([to_pool("first", 1)])),
            of("two", json!([to_pool("first", 1), to_pool("second", 3)])),
        ],
    );
    let gateway = with_policy(&api, OPEN).await;
    let app = async |host: &str| {
        let answer =
            send(&gateway, "POST", "/path", &[("host", host)], r#"{"model":"any","prompt":"hello"}"#).await;
        (answer.status == 200).then(|| answer.json()["app"].as_str().unwrap().to_owned())
    };
    for host in ["one.example", "two.example"] {
        until(host, async || app(host).await.map(|_| ())).await;
    }
    let mut counts = [0, 0];
    for _ in 0..80 {
        assert_eq!(app("one.example").await.as_deref(), Some("first"));
        counts[usize::from(app("two.example").await.as_deref() == Some("second"))] += 1;
    }
    assert!((38..=77).contains(&counts[1]), "{counts:?}");
    for name in ["first", "second"] {
        for kind in ["Accepted", "ResolvedRefs"] {
            condition(&api, (POOLS, "default", name), OF_PARENT, kind, kind).await;
        }
    }
    let parents = api.get(POOLS, "default", "first")["status"]["parents"].clone();
    assert_eq!(parents.as_array().unwrap().len(), 2, "a pool names each Gateway that leads there");
}

#[tokio::test]
async fn the_picker_of_a_pool_chooses_for_any_request_and_hears_what_became_of_it() {
    let api = KubeApi::start().await;
    let apps = [WebApp::start("first").await, WebApp::start("second").await];
    let picker = EndpointPicker::start(Script::Light(vec![apps[1].addr])).await;
    apply(&api, fixture("gateway.yaml"));
    let mut pool = inference_pool("pool", apps[0].addr, Some(picker.addr.port()));
    pool["spec"]["targetPorts"] = json!(apps.each_ref().map(|app| json!({"number": app.addr.port()})));
    let epp = json!({"kind": "Service", "metadata": {"name": "epp"}, "spec": {"clusterIP": "127.0.0.1",
        "ports": [{"port": picker.addr.port()}]}});
    // The tests' picker has no TLS; Istio's rule for it says so.
    let plain = json!({"kind": "DestinationRule", "metadata": {"name": "epp"}, "spec": {
        "host": "epp", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}});
    apply(&api, [pool, epp, plain]);
    api.put(PODS, "default", labelled("pod", "pool", apps[0].addr));
    apply(&api, [route("web", &json!([{"backendRefs": [to_pool("pool", 1)]}]))]);
    let gateway = with_policy(&api, OPEN).await;
    let body = r#"{"model":"any","prompt":"hello"}"#;
    let post = async || {
        send(&gateway, "POST", "/inference?a", &[("x-test", "1"), ("authorization", "Bearer k")], body).await
    };
    let answered = async || Some(post().await).filter(|answer| answer.status == 200);
    let told = until("an answer", answered).await.json();
    assert_eq!(
        (&told["app"], &told["target"], &told["body"]),
        (&json!("second"), &json!("/inference?a"), &json!(body))
    );
    let bare = send(&gateway, "GET", "/any", &[], "").await;
    assert_eq!((bare.status, &bare.json()["app"]), (200, &json!("second")), "{}", bare.text);
    let heard = until("the picker's record", async || {
        picker.heard().into_iter().find(|heard| !heard.body.is_empty() && heard.served.is_some())
    });
    let heard = heard.await;
    assert_eq!((heard.body.as_slice(), heard.headers["x-test"].as_str()), (body.as_bytes(), "1"));
    assert!(!heard.headers.contains_key("authorization"));
    assert_eq!(heard.served, Some(apps[1].addr.to_string()));
    assert!(apps[0].seen().is_empty());
    // Without its picker the pool fails closed.
    drop(picker);
    api.delete(SERVICES, "default", "epp");
    until("a refusal", async || (500..=503).contains(&post().await.status).then_some(())).await;
}

#[tokio::test]
async fn a_connection_that_was_made_for_one_listener_is_none_of_another() {
    let (api, app) = (KubeApi::start().await, WebApp::start("app").await);
    let authority = Authority::new("authority");
    let listener = |host: &str| {
        let (cert, key) = authority.cert_pem(&[host]);
        let secret = json!({"metadata": {"name": host}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": encoded(&cert), "tls.key": encoded(&key)}});
        api.put(SECRETS, "default", secret);
        json!({"name": host.replace('.', "-"), "protocol": "HTTPS", "port": 443, "hostname": host, "tls": {"certificateRefs": [{"name": host}]}})
    };
    let listeners = json!([listener("a.example"), listener("b.example")]);
    apply(&api, [class(), gateway_of("inference-gateway", &listeners)]);
    serve(&api, "app", app.addr);
    apply(&api, [route("web", &json!([{"backendRefs": to("app")}]))]);
    let launch = Launch::new(OPEN).argument("--gateway-api");
    let kubeconfig = api.kubeconfig(launch.folder()).display().to_string();
    let (cert, key) = authority.cert_pem(&["c.example"]);
    std::fs::write(launch.folder().join("cert.pem"), cert).unwrap();
    std::fs::write(launch.folder().join("key.pem"), key).unwrap();
    let server = "drain: {delay: 0s, timeout: 10s}\nlisteners:\n  - {address: \"127.0.0.1:0\", public_port: 443, \
                  tls: {cert_file: cert.pem, key_file: key.pem}}\n";
    let gateway = follows(launch.server(server).variable("KUBECONFIG", kubeconfig)).await;
    let ask = async |name: &str, host: &str| {
        let ca = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().http1_only();
        let client = client.resolve(name, gateway.addr).build().unwrap();
        let request = client.get(format!("https://{name}:{}/", gateway.addr.port())).header("host", host);
        Answer::of(request.send().await.ok()?).await.into()
    };
    let status = async |name: &str, host: &str| -> Option<u16> {
        let answer: Option<Answer> = ask(name, host).await;
        answer.map(|answer| answer.status)
    };
    until("the first listener", async || (status("a.example", "a.example").await == Some(200)).then_some(()))
        .await;
    until("the second listener", async || {
        (status("b.example", "B.example:443").await == Some(200)).then_some(())
    })
    .await;
    let refused: Option<Answer> = ask("a.example", "b.example").await;
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (421, Some("misdirected_request"))
    );
    assert_eq!(
        status("c.example", "b.example").await,
        Some(421),
        "the process's own certificate is no listener's"
    );
    assert_eq!(status("a.example", "d.example").await, Some(404), "no listener has that host");
    assert_eq!(app.seen().len(), 2);
}

#[tokio::test]
async fn pages_of_the_origins_that_a_rule_names_may_ask() {
    let api = KubeApi::start().await;
    let [llama, _phi] = services(&api).await;
    let app = WebApp::start("app").await;
    serve(&api, "app", app.addr);
    let cors = json!([{"type": "CORS", "cors": {
        "allowOrigins": ["https://a.example", "https://*.b.example"], "allowCredentials": true, "allowMethods": ["PUT", "POST"],
        "allowHeaders": ["*"], "exposeHeaders": ["x-told"], "maxAge": 30}}]);
    let at = |path: &str| json!([{"path": {"type": "PathPrefix", "value": path}}]);
    let mut chats = fixture("services.yaml").remove(2);
    chats["spec"]["rules"][0]["filters"] = cors.clone();
    let rules = json!([
        {"matches": at("/web"), "filters": cors, "backendRefs": to("app")},
        {"matches": at("/other"), "backendRefs": to("app")},
    ]);
    apply(&api, [chats, route("web", &rules)]);
    let gateway = gateway(&api).await;
    answered_by(&gateway, "/web", "app").await;
    let asks = |path: &'static str, method: &'static str, origin: &'static str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", "x-key"),
        ];
        let gateway = &gateway;
        async move { send(gateway, "OPTIONS", path, &headers, "").await }
    };
    // A page asks for a model before anybody knows which one.
    for (path, method) in [("/web/x", "PUT"), (CHAT, "POST")] {
        let told = asks(path, method, "https://x.b.example").await;
        assert_eq!(told.status, 204, "{path} {}", told.text);
        for (name, value) in [
            ("access-control-allow-origin", "https://x.b.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "PUT, POST"),
            ("access-control-allow-headers", "x-key"),
            ("access-control-max-age", "30"),
        ] {
            assert_eq!(told.header(name), value, "{path}: {name}");
        }
        let refused = asks(path, method, "https://evil.example").await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (204, ""));
    }
    assert_eq!(
        (app.seen().iter().filter(|seen| seen["method"] == "OPTIONS").count(), asked(&llama).len()),
        (0, 0)
    );
    let read = send(&gateway, "GET", "/web", &[("origin", "https://a.example")], "").await;
    assert_eq!(
        (
            read.status,
            read.header("access-control-allow-origin"),
            read.header("access-control-expose-headers")
        ),
        (200, "https://a.example", "x-told")
    );
    let body = r#"{"model":"llama3-8b","messages":[{"role":"user","content":"hello"}],"max_tokens":4}"#;
    let origin = [("origin", "https://a.example"), ("content-type", "application/json")];
    let chat = send(&gateway, "POST", CHAT, &origin, body).await;
    assert_eq!(
        (chat.status, chat.header("access-control-allow-origin")),
        (200, "https://a.example"),
        "{}",
        chat.text
    );
    // Elsewhere nothing is said, and the upstream gets the question.
    let passed = asks("/other", "PUT", "https://a.example").await;
    assert_eq!((passed.status, passed.json()["method"].as_str()), (200, Some("OPTIONS")));
    assert_eq!(passed.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_websocket_goes_where_its_route_leads_and_what_is_said_passes_as_it_is() {
    let (api, app, server) = (KubeApi::start().await, WebApp::start("app").await, Server::start().await);
    apply(&api, fixture("gateway.yaml"));
    serve(&api, "app", app.addr);
    serve(&api, "ws", server.addr());
    let at = |path: &str| json!([{"path": {"type": "PathPrefix", "value": path}}]);
    let changed = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-set", "value": "new"}]}}]);
    let rules = json!([
        {"matches": at("/"), "backendRefs": to("app")},
        {"matches": at("/ws"), "filters": changed, "backendRefs": to("ws"), "timeouts": {"request": "2s"}},
    ]);
    apply(&api, [route("web", &rules)]);
    let gateway = with_policy(&api, OPEN).await;
    answered_by(&gateway, "/", "app").await;
    let is_known = async || {
        let pools = gateway.admin("/readyz").await.json()["pools"].take();
        let is_it = |pool: &&Value| pool["name"].as_str().is_some_and(|name| name.contains("ws"));
        pools.as_array().unwrap().iter().find(is_it).filter(|pool| pool["endpoints"] == 1).map(|_| ())
    };
    until("the server's endpoint", is_known).await;
    let (mut client, (mut upstream, request)) =
        tokio::join!(ask_websocket(&gateway, "/ws/room?a=1", "cookie: a=b\r\n"), server.answers(AGREED));
    assert!(request.head.starts_with("GET /ws/room?a=1 HTTP/1.1\r\n"), "{}", request.head);
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("x-set", "new"),
        ("cookie", "a=b"),
        ("host", "gateway"),
    ] {
        assert_eq!(request.header(name), value, "{name}: {}", request.head);
    }
    let agreed = client.answer().await.unwrap();
    assert_eq!((agreed.status(), agreed.header("upgrade")), (101, "websocket"), "{}", agreed.head);
    // Longer than the rule's time for an answer: a tunnel is none.
    for text in ["GET / HTTP/1.1\r\n\r\n", "\u{0}\u{1}", &"x".repeat(100_000)] {
        tokio::time::sleep(Duration::from_millis(800)).await;
        client.send(text).await;
        assert_eq!(upstream.bytes(text.len()).await.unwrap(), text.as_bytes());
        upstream.send(text).await;
        assert_eq!(client.bytes(text.len()).await.unwrap(), text.as_bytes());
    }
    drop(client);
    assert!(upstream.closed().await);
    gateway.counts("signalbox_requests_in_flight", &[], 0.0).await;
    // A server that does not agree says so itself.
    let refused = ask_websocket(&gateway, "/web", "").await.answer().await.unwrap();
    assert_eq!(refused.status(), 200, "{}", refused.head);
}

#[tokio::test]
async fn a_rules_time_for_its_backend_bounds_the_whole_answer() {
    let api = KubeApi::start().await;
    let (slow, app) = (
        sim_with("llama3-8b", |options| {
            options.latency.itl = Duration::from_millis(100);
            options.default_max_tokens = 300;
        })
        .await,
        WebApp::start("app").await,
    );
    apply(&api, fixture("gateway.yaml"));
    apply(&api, fixture("services.yaml"));
    api.put(SLICES, "default", slice("llama-8b", slow.addr()));
    serve(&api, "app", app.addr);
    let mut chats = fixture("services.yaml").remove(2);
    chats["spec"]["rules"][0]["timeouts"] = json!({"backendRequest": "1s"});
    let rules = json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/web"}}], "timeouts": {"backendRequest": "1s"}, "backendRefs": to("app")}]);
    apply(&api, [chats, route("web", &rules)]);
    let gateway = gateway(&api).await;
    answered_by(&gateway, "/web", "app").await;
    let began = Instant::now();
    let body = r#"{"model":"llama3-8b","messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":300}"#;
    let mut wire = Wire::open(gateway.addr).await;
    wire.post(CHAT, body).await;
    wire.read_until("upstream_timeout").await;
    assert_eq!(wire.bytes(1 << 20).await, None, "the connection ends with it");
    let mut wire = Wire::open(gateway.addr).await;
    let message = r#"{"model":"llama3-8b","messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":300}"#;
    wire.post("/v1/messages", message).await;
    wire.read_until("event: error").await;
    let dripped = send(&gateway, "GET", "/web", &[("x-drip", "200")], "").await;
    assert!(
        !dripped
            .text
            .contains("drop drop drop drop drop drop drop drop drop drop drop drop drop drop drop drop")
    );
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let short = send(&gateway, "GET", "/web", &[("x-drip", "3")], "").await;
    assert_eq!(short.text, "drop drop drop ");
}
