//! Only the gateway decides which model answers: not a client's headers, not an upstream's; and secrets stay with
//! those they were meant for.

use crate::harness::*;
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
    headers.append("x-request-id", HeaderValue::from_static("forged"));
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
    assert_eq!(answer.header("x-request-id"), "mine");
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
        ("x-request-id", "mine"),
    ];
    assert_eq!(send(&gateway, NAMED, &hops).await.status, 200);
    let got = seen.lock().unwrap().pop().unwrap();
    assert_eq!(got["authorization"], "Bearer sk-pool");
    assert_eq!(got.get_all("authorization").iter().count(), 1);
    assert_eq!(got["x-request-id"], "mine");
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
async fn a_clients_request_id_is_kept_when_it_is_sane_and_goes_upstream() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    let longest = "i".repeat(128);
    for id in ["abc-123", "trace/4:5_6.7", &longest] {
        let answer = send(&gateway, NAMED, &[("x-request-id", id)]).await;
        assert_eq!(answer.header("x-request-id"), id);
        assert_eq!(asked(&sim).pop().unwrap().headers["x-request-id"], id);
        assert_eq!(gateway.line(&format!("\"{id}\"")).await["request_id"], id);
    }
    let too_long = "i".repeat(129);
    let mut given = Vec::new();
    for id in ["", " ", "two words", "tab\there", &too_long, "nöt-ascii"] {
        let answer = send(&gateway, NAMED, &[("x-request-id", id)]).await;
        let own = answer.header("x-request-id").to_owned();
        assert!(own.starts_with("req-") && own.len() == 36, "{id}: {own}");
        assert_eq!(asked(&sim).pop().unwrap().headers["x-request-id"], own.as_str());
        assert_eq!(gateway.line(&own).await["request_id"], own.as_str());
        given.push(own);
    }
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 6, "each request has an id of its own");
    let rejected = send(&gateway, "{}", &[("x-request-id", "mine")]).await;
    assert_eq!(rejected.header("x-request-id"), "mine");
}
