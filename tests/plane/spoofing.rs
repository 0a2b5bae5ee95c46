//! Only the gateway decides which model answers: not a client's headers, not an upstream's; and secrets stay with
//! those they were meant for.

use crate::harness::*;
use crate::raw::{Act, Scripted, Wire};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::IntoResponse;
use signalbox::sim::Sim;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

const CHAT: &str = "/v1/chat/completions";
const MATH: &str = r#"{"model": "auto", "messages": [{"role": "user", "content": "What is 2+2 * (5-1)?"}]}"#;
const NAMED: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}"#;

/// Names by which a request could pretend to be decided.
const STEERING: [&str; 8] = [
    "x-selected-model",
    "x-vsr-selected-model",
    "x-vsr-selected-category",
    "x-vsr-selected-decision",
    "x-vsr-looper-request",
    "x-gateway-destination-endpoint",
    "x-gateway-model-name",
    "x-signalbox-anything",
];

/// An upstream that answers everything with these headers, and keeps those that it got.
async fn upstream(headers: HeaderMap) -> (SocketAddr, Arc<Mutex<Vec<HeaderMap>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let answer = move |request: Request| async move {
        kept.lock().unwrap().push(request.headers().clone());
        (headers, r#"{"object": "chat.completion"}"#).into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, seen)
}

async fn send(gateway: &Gateway, body: &'static str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client().post(gateway.url(CHAT)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await
}

/// A policy that sends mathematics to `a` and everything else to `b`.
fn two_models(a: SocketAddr, b: SocketAddr) -> String {
    format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: b\n\
         decisions:\n  - {{name: maths, domains: [math], model: a}}\n\
         models:\n  a: {{pools: [a]}}\n  b: {{pools: [b]}}\n\
         pools:\n  a: {{endpoints: [\"{a}\"]}}\n  b: {{endpoints: [\"{b}\"]}}\n"
    )
}

#[tokio::test]
async fn a_clients_steering_headers_neither_steer_nor_reach_the_upstream() {
    let (a, b) = (sim("a").await, sim("b").await);
    let gateway = Launch::new(two_models(a.addr(), b.addr())).start().await;
    let elsewhere = b.addr().to_string();
    for name in STEERING {
        for value in ["b", elsewhere.as_str(), "true"] {
            let upper = name.to_uppercase();
            let answer = send(&gateway, MATH, &[(name, value), (&upper, value)]).await;
            assert_eq!(answer.header("x-vsr-selected-model"), "a", "{name}: {value}");
            assert_eq!(answer.header("x-vsr-selected-category"), "math");
            assert_eq!(answer.headers.get_all("x-vsr-selected-model").iter().count(), 1);
        }
    }
    assert_eq!((asked(&a).len(), asked(&b).len()), (STEERING.len() * 3, 0));
    for seen in asked(&a) {
        assert!(STEERING.iter().all(|name| !seen.headers.contains_key(*name)), "{:?}", seen.headers);
    }
    let rejected =
        send(&gateway, "{}", &[("x-vsr-selected-model", "b"), ("x-vsr-response-path", "upstream")]).await;
    assert_eq!(rejected.header("x-vsr-response-path"), "error");
    assert_eq!(rejected.header("x-vsr-selected-model"), "");
}

#[tokio::test]
async fn an_upstream_cannot_say_that_another_model_answered() {
    let mut headers = HeaderMap::new();
    for name in STEERING {
        headers.append(name, HeaderValue::from_static("forged"));
    }
    headers.append("x-vsr-selected-model", HeaderValue::from_static("forged too"));
    headers.append("x-vsr-response-path", HeaderValue::from_static("forged"));
    headers.append("x-upstream-request-id", HeaderValue::from_static("forged"));
    headers.append("x-request-id", HeaderValue::from_static("theirs"));
    headers.append("x-kept", HeaderValue::from_static("kept"));
    let (address, _seen) = upstream(headers).await;
    let gateway = Launch::new(policy_of(&[address], "")).start().await;
    let answer = send(&gateway, NAMED, &[("x-request-id", "mine")]).await;
    assert_eq!(answer.status, 200);
    assert!(!format!("{:?}", answer.headers).contains("forged"), "{:?}", answer.headers);
    assert_eq!(answer.header("x-vsr-selected-model"), "m");
    assert_eq!(answer.headers.get_all("x-vsr-selected-model").iter().count(), 1);
    assert_eq!(answer.header("x-vsr-selected-category"), "", "nobody asked what it is about");
    assert_eq!(answer.header("x-vsr-response-path"), "upstream");
    assert_eq!((answer.header("x-request-id"), answer.header("x-upstream-request-id")), ("mine", "theirs"));
    assert_eq!(answer.header("x-kept"), "kept");
}

#[tokio::test]
async fn a_clients_credentials_stay_here_unless_the_pool_is_to_have_them() {
    let mine = [
        ("authorization", "Bearer sk-client"),
        ("x-api-key", "sk-client"),
        ("api-key", "sk-client"),
        ("proxy-authorization", "Basic sk-client"),
        ("cookie", "session=sk-client"),
        ("x-kept", "kept"),
    ];
    let (address, seen) = upstream(HeaderMap::new()).await;
    let gateway = Launch::new(policy_of(&[address], "")).start().await;
    assert_eq!(send(&gateway, NAMED, &mine).await.status, 200);
    let got = seen.lock().unwrap().pop().unwrap();
    assert!(!format!("{got:?}").contains("sk-client"), "{got:?}");
    assert_eq!(got["x-kept"], "kept");
    let gateway = Launch::new(policy_of(&[address], "    forward_authorization: true\n")).start().await;
    assert_eq!(send(&gateway, NAMED, &mine).await.status, 200);
    let got = seen.lock().unwrap().pop().unwrap();
    assert_eq!(got["authorization"], "Bearer sk-client");
}

#[tokio::test]
async fn a_client_cannot_have_our_headers_dropped_on_the_way() {
    let (address, seen) = upstream(HeaderMap::new()).await;
    let credential = "    credential: {value: {env: KEY}}\n";
    let gateway = Launch::new(policy_of(&[address], credential)).variable("KEY", "sk-pool").start().await;
    let hops = [
        ("connection", "authorization, x-request-id, content-length, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("authorization", "Bearer sk-client"),
    ];
    assert_eq!(send(&gateway, NAMED, &hops).await.status, 200);
    let got = seen.lock().unwrap().pop().unwrap();
    assert_eq!(got["authorization"], "Bearer sk-pool");
    assert_eq!(got.get_all("authorization").iter().count(), 1);
    assert!(got["x-request-id"].to_str().unwrap().starts_with("req-"));
    let connection = got.get("connection").map_or("", |value| value.to_str().unwrap());
    assert!(!connection.contains("authorization"), "the next proxy would drop our key: {connection}");
}

/// A pool with a key, one without, and models that prefer the one or the other.
async fn cloud_and_local(server: &str) -> (Gateway, Sim, Sim) {
    let cloud = sim_with("cloud", |options| options.api_key = Some("sk-pool-secret".to_owned())).await;
    let local = sim("local").await;
    let policy = format!(
        "version: 1\nmodels:\n  cloud: {{pools: [cloud, {{pool: local, upstream_model: local}}]}}\n\
         \x20 local: {{pools: [local, {{pool: cloud, upstream_model: cloud}}]}}\n\
         pools:\n  cloud:\n    endpoints: [\"{}\"]\n    credential: {{value: {{env: CLOUD_KEY}}}}\n\
         \x20   ejection: {{consecutive_failures: 0}}\n\
         \x20 local: {{endpoints: [\"{}\"], ejection: {{consecutive_failures: 0}}}}\nretry: {{budget: {{share: 1}}}}\n",
        cloud.addr(),
        local.addr()
    );
    let launch = Launch::new(policy).server(server).variable("CLOUD_KEY", "sk-pool-secret");
    (launch.start().await, cloud, local)
}

#[tokio::test]
async fn the_cloud_key_never_reaches_a_local_endpoint() {
    let (gateway, cloud, local) = cloud_and_local("drain: {delay: 0s}\n").await;
    assert_eq!(gateway.chat("cloud", "hi").await.status, 200);
    assert_eq!(gateway.chat("local", "hi").await.status, 200);
    // A request that begins in the one pool and ends in the other is dressed anew.
    cloud.set_faults(faults(|faults| faults.status = Some(503)));
    let moved = gateway.chat("cloud", "hi").await;
    assert_eq!(moved.status, 200, "{}", moved.text);
    assert_eq!(gateway.line(moved.header("x-request-id")).await["pool"], "local");
    cloud.set_faults(faults(|_| {}));
    local.set_faults(faults(|faults| faults.reset_before_headers = 1.0));
    let moved = gateway.chat("local", "hi").await;
    assert_eq!(moved.status, 200, "{}", moved.text);
    assert_eq!(gateway.line(moved.header("x-request-id")).await["pool"], "cloud");
    assert!(asked(&cloud).len() >= 3 && asked(&local).len() >= 3);
    for seen in cloud.requests() {
        let has = seen.headers.get("authorization").is_some_and(|value| value == "Bearer sk-pool-secret");
        assert!(has || seen.method == "GET", "{seen:?}");
    }
    for seen in local.requests() {
        assert!(!format!("{:?}", seen.headers).contains("sk-pool-secret"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_pools_key_is_in_no_log_metric_or_answer() {
    let (gateway, cloud, local) = cloud_and_local("drain: {delay: 0s}\nlog: {level: trace}\n").await;
    let mut answers = Vec::new();
    for status in [200, 400, 401, 500, 503] {
        let fault = (status != 200).then_some(status);
        cloud.set_faults(faults(|faults| faults.status = fault));
        local.set_faults(faults(|faults| faults.status = fault));
        answers.push(gateway.chat("cloud", "hi").await);
    }
    cloud.set_faults(faults(|faults| faults.refuse = true));
    local.set_faults(faults(|faults| faults.refuse = true));
    answers.push(gateway.chat("cloud", "hi").await);
    gateway.rewrite("version: 1\nnonsense: ${CLOUD_KEY}\n");
    let refused = async || gateway.stderr().contains("policy refused").then_some(());
    until("the reload's failure", refused).await;
    answers.push(gateway.admin("/metrics").await);
    answers.push(gateway.admin("/readyz").await);
    let last = gateway.line(answers[5].header("x-request-id")).await;
    assert_eq!(last["status"], answers[5].status);
    for answer in answers {
        assert!(!format!("{answer:?}").contains("sk-pool-secret"), "{answer:?}");
    }
    let printed = gateway.stdout() + &gateway.stderr();
    assert!(!printed.contains("sk-pool-secret"), "{printed}");
}

#[tokio::test]
async fn a_clients_request_id_goes_back_and_into_the_log_and_ours_goes_upstream() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    let longest = "i".repeat(128);
    let mut given = Vec::new();
    for id in ["abc-123", "trace/4:5_6.7", &longest] {
        let answer = send(&gateway, NAMED, &[("x-request-id", id)]).await;
        assert_eq!(answer.header("x-request-id"), id);
        let line = gateway.line(&format!("\"{id}\"")).await;
        assert_eq!(line["request_id"], id);
        let ours = line["gateway_request_id"].as_str().unwrap();
        assert_eq!(asked(&sim).pop().unwrap().headers["x-request-id"], ours);
        given.push(ours.to_owned());
    }
    let too_long = "i".repeat(129);
    for id in ["", " ", "two words", "tab\there", &too_long, "nöt-ascii"] {
        let answer = send(&gateway, NAMED, &[("x-request-id", id)]).await;
        let own = answer.header("x-request-id").to_owned();
        assert!(own.starts_with("req-") && own.len() == 36, "{id}: {own}");
        assert_eq!(asked(&sim).pop().unwrap().headers["x-request-id"], own.as_str());
        let line = gateway.line(&own).await;
        assert_eq!((&line["request_id"], line.get("gateway_request_id")), (&own.as_str().into(), None));
        given.push(own);
    }
    assert!(given.iter().all(|id| id.starts_with("req-")), "{given:?}");
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 9, "each request has an id of its own");
    let rejected = send(&gateway, "{}", &[("x-request-id", "mine")]).await;
    assert_eq!(rejected.header("x-request-id"), "mine");
}

#[tokio::test]
async fn an_upstreams_request_id_is_logged_and_given_under_a_name_of_its_own() {
    for name in ["x-request-id", "request-id", "apim-request-id"] {
        let mut headers = HeaderMap::new();
        headers.append(name, HeaderValue::from_static("theirs-1"));
        headers.append("x-upstream-request-id", HeaderValue::from_static("forged"));
        let (address, _seen) = upstream(headers).await;
        let gateway = Launch::new(policy_of(&[address], "")).start().await;
        let answer = send(&gateway, NAMED, &[]).await;
        assert_eq!(answer.header("x-upstream-request-id"), "theirs-1", "{name}");
        assert_ne!(answer.header("x-request-id"), "theirs-1");
        assert!(!format!("{:?}", answer.headers).contains("forged"));
        assert_eq!(gateway.line(answer.header("x-request-id")).await["upstream_request_id"], "theirs-1");
    }
}

/// What could pick an account, a project or a route, or is a client's own secret.
const PRIVATE: [&str; 22] = [
    "api-key",
    "authorization",
    "cf-access-client-id",
    "cf-access-client-secret",
    "cookie",
    "helicone-auth",
    "ocp-apim-subscription-key",
    "openai-organization",
    "openai-project",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-authz-tenant-id",
    "x-authz-user-groups",
    "x-authz-user-id",
    "x-data-parallel-rank",
    "x-goog-api-key",
    "x-goog-user-project",
    "x-litellm-api-key",
    "x_api_key",
    "x_data_parallel_rank",
    "x_gateway_destination_endpoint",
];

/// What every upstream may have.
const HARMLESS: [&str; 11] = [
    "accept",
    "accept-language",
    "anthropic-beta",
    "anthropic-version",
    "idempotency-key",
    "openai-beta",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-stainless-lang",
    "x-stainless-retry-count",
];

#[tokio::test]
async fn a_pool_with_a_key_gets_only_what_is_known_to_be_harmless() {
    let credential = "    credential: {header: x-own-key, value: {env: KEY}}\n";
    let names = PRIVATE.into_iter().chain(HARMLESS).chain(["x-session-id", "x-forwarded-for", "x-anything"]);
    let sent: Vec<(&str, &str)> = names.map(|name| (name, "sent-by-client")).collect();
    for (more, others) in [(credential, false), ("", true)] {
        let (address, seen) = upstream(HeaderMap::new()).await;
        let gateway = Launch::new(policy_of(&[address], more)).variable("KEY", "sk-pool").start().await;
        assert_eq!(send(&gateway, NAMED, &sent).await.status, 200);
        let got = seen.lock().unwrap().pop().unwrap();
        for name in PRIVATE {
            assert!(!got.contains_key(name), "{name} in {got:?}");
        }
        for name in HARMLESS {
            assert_eq!(
                got.get(name).map(HeaderValue::as_bytes),
                Some(b"sent-by-client".as_slice()),
                "{name}"
            );
        }
        for name in ["x-session-id", "x-forwarded-for", "x-anything"] {
            assert_eq!(got.contains_key(name), others, "{name} in {got:?}");
        }
        assert_eq!(got.contains_key("x-own-key"), !others);
    }
}

#[tokio::test]
async fn what_an_upstream_says_of_its_own_host_and_connection_ends_here() {
    const ENDING: [&str; 9] = [
        "set-cookie: id=theirs",
        "openai-organization: theirs",
        "openai-project: theirs",
        "strict-transport-security: max-age=1; theirs",
        "alt-svc: h3=\"theirs:443\"",
        "x-hop: theirs",
        "keep-alive: timeout=5, theirs",
        "proxy-authenticate: theirs",
        "upgrade: theirs",
    ];
    let fields = ENDING.join("\r\n") + "\r\nconnection: x-hop, keep-alive\r\nx-kept: kept\r\n";
    let body = r#"{"object":"chat.completion"}"#;
    let reply = format!(
        "HTTP/1.1 103 Early Hints\r\n{fields}\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{fields}\r\n{body}",
        body.len()
    );
    let upstream = Scripted::start(move |_, _| Act::Answer(reply.clone().into_bytes())).await;
    let gateway = Launch::new(policy_of(&[upstream.addr], "")).start().await;
    let mut wire = Wire::open(gateway.addr).await;
    wire.post(CHAT, NAMED).await;
    let mut answer = wire.answer().await.unwrap();
    let mut statuses = vec![answer.status()];
    loop {
        assert!(!answer.head.contains("theirs"), "{}", answer.head);
        assert_eq!(answer.header("x-kept"), "kept");
        if answer.status() == 200 {
            break;
        }
        answer = wire.answer().await.unwrap();
        statuses.push(answer.status());
    }
    assert_eq!(answer.body, body.as_bytes());
    assert_eq!(statuses, [103, 200]);
}

#[tokio::test]
async fn the_text_with_which_an_upstream_refuses_our_key_stays_here() {
    let reply =
        r#"{"error":{"message":"Incorrect API key provided: sk-po**cret.","code":"invalid_api_key"}}"#;
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let upstream = Scripted::start(move |_, _| Act::Answer(crate::raw::answer(status, reply))).await;
        let credential = "    credential: {value: {env: KEY}}\n";
        let launch = Launch::new(policy_of(&[upstream.addr], credential)).variable("KEY", "sk-pool-secret");
        let gateway = launch.start().await;
        let answer = send(&gateway, NAMED, &[]).await;
        assert_eq!(answer.status.to_string(), status[..3]);
        assert!(!answer.text.contains("sk-"), "{}", answer.text);
        assert_eq!(answer.json()["error"]["code"], "upstream_error");
        let gateway = Launch::new(policy_of(&[upstream.addr], "")).start().await;
        assert_eq!(
            send(&gateway, NAMED, &[]).await.text,
            reply,
            "what was the client's own comes back to it"
        );
    }
}

#[tokio::test]
async fn clients_show_their_keys_in_the_headers_that_their_sdks_know() {
    let sim = sim("m").await;
    let identity = "identity: {required: true, keys: [{value: {env: A}, user: ann}]}\n";
    let gateway = Launch::new(policy_of(&[sim.addr()], "") + identity).variable("A", "key-a").start().await;
    for header in [("authorization", "Bearer key-a"), ("x-api-key", "key-a"), ("api-key", "key-a")] {
        let answer = send(&gateway, NAMED, &[header]).await;
        assert_eq!(answer.status, 200, "{header:?}: {}", answer.text);
        assert_eq!(gateway.line(answer.header("x-request-id")).await["user"], "ann");
    }
    for seen in asked(&sim) {
        assert!(!format!("{:?}", seen.headers).contains("key-a"), "{seen:?}");
    }
    for headers in [&[][..], &[("x-api-key", "key-b")]] {
        let answer = send(&gateway, NAMED, headers).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (401, Some("invalid_api_key")));
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"signalbox\"");
    }
}
