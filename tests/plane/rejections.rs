//! What is not served is said in OpenAI's words, with the right status, and without a word about the inside.

use crate::harness::*;
use serde_json::Value;
use signalbox::sim::Sim;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const CHAT: &str = "/v1/chat/completions";
const GOOD: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}"#;

/// A gateway before one upstream that serves `m`.
async fn stage(more: &str) -> (Gateway, Sim) {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], more)).start().await;
    (gateway, sim)
}

/// Checks all that every rejection has; gives its message.
fn rejected(answer: &Answer, status: u16, code: &str, param: Option<&str>) -> String {
    assert_eq!(answer.status, status, "{}", answer.text);
    let json = answer.json();
    let error = &json["error"];
    let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{}", answer.text);
    assert_eq!(json.as_object().unwrap().len(), 1, "{}", answer.text);
    assert_eq!(error["code"], code, "{}", answer.text);
    assert_eq!(error["param"], param.map_or(Value::Null, Value::from), "{}", answer.text);
    assert_eq!(error["type"], if status < 500 { "invalid_request_error" } else { "server_error" });
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-vsr-response-path"), "error");
    assert!(!answer.header("x-request-id").is_empty());
    for inside in ["127.0.0.1", "localhost", "os error", "refused", "pingora", "rustls", "src/"] {
        assert!(!answer.text.contains(inside), "{inside} in {}", answer.text);
        let mut headers = answer.headers.values();
        assert!(!headers.any(|value| value.to_str().unwrap().contains(inside)), "{:?}", answer.headers);
    }
    error["message"].as_str().unwrap().to_owned()
}

/// Sends bytes as they are and reads until the gateway closes the connection.
async fn raw(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut text = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await.unwrap().unwrap();
    String::from_utf8(text).unwrap()
}

/// An address that refuses connections as long as the socket lives.
fn refusing() -> (TcpSocket, std::net::SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_body_that_names_no_model_is_turned_down_before_any_upstream() {
    let (gateway, sim) = stage("").await;
    for (body, code, word) in [
        (r#"{"messages": []}"#, "model_required", "GET /v1/models"),
        (r#"{"model": "", "messages": []}"#, "model_required", "GET /v1/models"),
        (r#"{"model": 7, "messages": []}"#, "invalid_type", "expected a string"),
        (r#"{"model": null}"#, "invalid_type", "expected a string"),
        (r#"{"model": ["m"]}"#, "invalid_type", "expected a string"),
        (r#"{"model": "m", "model": "m"}"#, "duplicate_field", "`model` appears more than once"),
        (r#"{"model": "m", "mod\u0065l": "other"}"#, "duplicate_field", "`model` appears more than once"),
    ] {
        let answer = gateway.post(CHAT, body).await;
        let message = rejected(&answer, 400, code, Some("model"));
        assert!(message.contains(word), "{body}: {message}");
        assert_eq!(answer.header("x-vsr-selected-model"), "");
    }
    for body in [
        r#"{"model": "m", "messages": [], "messages": []}"#,
        r#"{"stream": true, "model": "m", "stream": false}"#,
    ] {
        let answer = gateway.post(CHAT, body).await;
        assert_eq!(answer.json()["error"]["code"], "duplicate_field", "{body}");
        assert_eq!(answer.status, 400);
    }
    assert_eq!(asked(&sim).len(), 0, "nothing of this went upstream");
    assert_eq!(gateway.post(CHAT, GOOD).await.status, 200);
}

#[tokio::test]
async fn the_error_for_a_body_that_is_not_json_names_the_place() {
    let (gateway, sim) = stage("").await;
    let cases: [(&[u8], &str); 8] = [
        (b"", "(byte 0)"),
        (b"{\"model\": \"m\",\n \"messages\": [,]}", "line 2, column 15 (byte 29)"),
        (b"{\"model\": \"m\",}", "line 1, column 15 (byte 14)"),
        (b"{\"model\": \"m\"", "(byte 13)"),
        (b"{\"model\": \"m\"} trailing", "line 1, column 16 (byte 15)"),
        (b"{\"model\": \"m\0\"}", "(byte 12)"),
        (b"{\"model\": \"m\xff\"}", "(byte 12)"),
        (b"model=m&messages=hi", "(byte 0)"),
    ];
    for (body, place) in cases {
        let answer = gateway.post(CHAT, body.to_vec()).await;
        let message = rejected(&answer, 400, "invalid_json", None);
        assert!(message.contains(place), "{}: {message}", String::from_utf8_lossy(body));
    }
    for body in ["[]", "\"m\"", "7", "null", "[{\"model\": \"m\"}]"] {
        let message = rejected(&gateway.post(CHAT, body).await, 400, "invalid_json", None);
        assert!(message.contains("must be a JSON object"), "{body}: {message}");
    }
    let deep = format!("{{\"model\": \"m\", \"messages\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let message = rejected(&gateway.post(CHAT, deep).await, 400, "invalid_json", None);
    assert!(message.contains("nested too deeply"), "{message}");
    assert_eq!(asked(&sim).len(), 0);
}

#[tokio::test]
async fn an_unknown_model_is_named_however_odd_its_name_is() {
    let (gateway, sim) = stage("").await;
    let long = "x".repeat(20_000);
    let odd = [
        "nobody",
        "M",
        "m ",
        "nö/modèl 模型",
        "\"quoted\"\\",
        "a\r\nx-evil: 1",
        "nul\0",
        "<script>",
        "${HOME}",
        &long,
    ];
    for name in odd {
        let answer = gateway.chat(name, "hi").await;
        let message = rejected(&answer, 404, "model_not_found", Some("model"));
        assert!(message.contains("listed at /v1/models"), "{message}");
        let start: String = name.chars().take(100).collect();
        assert!(message.contains(&start) || name.contains(char::is_control), "{message}");
        assert!(message.len() < 600, "a message repeats only so much");
        assert_eq!(answer.header("x-evil"), "");
        let line = gateway.line(answer.header("x-request-id")).await;
        assert_eq!((&line["status"], &line["error"]), (&Value::from(404), &Value::from("unknown_model")));
    }
    let surrogate = gateway.post(CHAT, r#"{"model": "\ud800"}"#).await;
    assert!([400, 404].contains(&surrogate.status), "{}", surrogate.text);
    let metrics = gateway.admin("/metrics").await.text;
    assert!(!metrics.contains("nobody") && !metrics.contains("xxx"), "a client's words are no labels");
    gateway.counts("signalbox_rejections_total", &["code=\"unknown_model\""], 11.0).await;
    for path in ["/v1/models/nobody", "/v1/models/n%C3%B6%2Fbody%00", "/v1/models/a%0d%0ab"] {
        let answer = Answer::of(client().get(gateway.url(path)).send().await.unwrap()).await;
        rejected(&answer, 404, "model_not_found", Some("model"));
    }
    assert_eq!(asked(&sim).len(), 0);
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let (gateway, sim) = stage("").await;
    for path in
        ["/", "/v1", "/nope", "/v1/chat", "/v1/models/%ff", "/metrics", "/healthz", "/v1/chat/completions/x"]
    {
        let answer = Answer::of(client().get(gateway.url(path)).send().await.unwrap()).await;
        let message = rejected(&answer, 404, "unknown_url", None);
        assert!(
            message.contains("GET /v1/models") && message.contains("POST /v1/chat/completions"),
            "{message}"
        );
        assert_eq!(answer.header("allow"), "");
    }
    for (method, path, allowed) in [
        ("GET", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("OPTIONS", "/v1/completions", "POST"),
        ("DELETE", "/v1/models/m", "GET"),
        ("POST", "/v1/models", "GET"),
    ] {
        let request = client().request(method.parse().unwrap(), gateway.url(path)).body(GOOD);
        let answer = Answer::of(request.send().await.unwrap()).await;
        let message = rejected(&answer, 405, "method_not_allowed", None);
        assert_eq!(answer.header("allow"), allowed);
        assert!(message.contains(allowed), "{message}");
    }
    let long = gateway.post(&format!("/{}", "x".repeat(5000)), GOOD).await;
    assert!(rejected(&long, 404, "unknown_url", None).len() < 600);
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test]
async fn a_rejection_leaves_nothing_behind_that_is_read_as_the_next_request() {
    let (gateway, sim) = stage("").await;
    // The body of a refused request looks like a request; the one behind it is real.
    let hidden = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{GOOD}", GOOD.len());
    for (path, status) in [("/nope", "404"), ("/v1/models", "405")] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", hidden.len());
        let last = "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let text = raw(&gateway, format!("{head}{hidden}{last}")).await;
        let answers: Vec<&str> =
            text.match_indices("HTTP/1.1 ").map(|(at, _)| &text[at + 9..at + 12]).collect();
        assert!(answers == [status, "200"] || answers == [status], "{text}");
    }
    assert_eq!(asked(&sim).len(), 0, "a hidden request was served");
    // An answer to HEAD has no body, or the client would take it for the next answer.
    let heads = "HEAD /v1/models HTTP/1.1\r\nhost: x\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let text = raw(&gateway, heads).await;
    let (_, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn too_large_and_too_slow_bodies_are_413_and_408() {
    let sim = sim("m").await;
    let server = "limits: {max_body_bytes: 1000, body_timeout: 300ms}\ndrain: {delay: 0s}\n";
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).server(server).start().await;
    let message = rejected(&gateway.post(CHAT, vec![b' '; 1001]).await, 413, "request_too_large", None);
    assert!(message.contains("1000 bytes"), "{message}");
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{\"model\"");
    let text = raw(&gateway, head).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 408"), "{text}");
    assert!(head.to_lowercase().contains("x-vsr-response-path: error"), "{text}");
    let error: Value = serde_json::from_str(body).unwrap();
    assert_eq!(error["error"]["code"], "request_timeout");
    assert_eq!(error["error"]["type"], "invalid_request_error");
    assert_eq!(asked(&sim).len(), 0);
}

#[tokio::test]
async fn a_model_without_a_healthy_endpoint_is_503_with_a_time_to_come_back() {
    let sim = sim("m").await;
    sim.set_faults(faults(|faults| faults.unhealthy = true));
    let policy = policy_of(&[sim.addr()], "").replace(
        "health: {enabled: false}",
        "health: {interval: 50ms, timeout: 1s, unhealthy_after: 1}\n    ejection: {max_share: 1.0}",
    );
    let gateway = Launch::new(policy).start().await;
    let answer = until("a rejection", async || {
        let answer = gateway.chat("m", "hi").await;
        (answer.status != 200).then_some(answer)
    });
    let answer = answer.await;
    let message = rejected(&answer, 503, "no_healthy_endpoint", None);
    assert!(message.contains("'m'"), "{message}");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(answer.header("x-vsr-selected-model"), "m");
}

#[tokio::test]
async fn an_upstream_that_refuses_breaks_or_stalls_is_502_or_504() {
    let (_held, refused) = refusing();
    let sim = sim("m").await;
    let port = sim.addr().port().to_string();
    let more =
        "    timeouts: {first_byte: 200ms}\n    ejection: {consecutive_failures: 0}\nretry: {attempts: 1}\n";
    let gateway = Launch::new(policy_of(&[refused], more)).start().await;
    let answer = gateway.chat("m", "hi").await;
    rejected(&answer, 502, "upstream_unreachable", None);
    assert!(!answer.text.contains(&refused.port().to_string()));

    let gateway = Launch::new(policy_of(&[sim.addr()], more)).start().await;
    sim.set_faults(faults(|faults| faults.reset_before_headers = 1.0));
    let answer = gateway.chat("m", "hi").await;
    rejected(&answer, 502, "upstream_reset", None);
    assert!(!answer.text.contains(&port), "{}", answer.text);
    sim.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(30))));
    let answer = gateway.chat("m", "hi").await;
    rejected(&answer, 504, "upstream_timeout", None);
    assert!(!answer.text.contains(&port), "{}", answer.text);
    assert_eq!(answer.header("x-vsr-selected-model"), "m", "which model it was is known");
}

#[tokio::test]
async fn one_request_too_many_is_503_until_another_ends() {
    let sim = sim("m").await;
    sim.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(30))));
    let server = "limits: {max_in_flight: 1}\ndrain: {delay: 0s}\n";
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).server(server).start().await;
    let url = gateway.url(CHAT);
    let first = tokio::spawn(async move { client().post(url).body(GOOD).send().await });
    until("the first request", async || (asked(&sim).len() == 1).then_some(())).await;
    for path in [CHAT, "/v1/completions"] {
        let answer = gateway.post(path, GOOD).await;
        rejected(&answer, 503, "overloaded", None);
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    assert_eq!(gateway.admin("/healthz").await.status, 200);
    first.abort();
    sim.set_faults(faults(|_| {}));
    let has_room = async || (gateway.post(CHAT, GOOD).await.status == 200).then_some(());
    until("room for a request", has_room).await;
}

#[tokio::test]
async fn what_cannot_be_classified_is_turned_down_where_the_policy_says_so() {
    let sim = sim("m").await;
    let decide =
        "virtual_models: [auto]\ndefault_model: m\ndecisions:\n  - {name: d, domains: [math], model: m}\n";
    let reject = "classifier: {on_unknown: reject, min_confidence: 1.0}\n";
    let policy = policy_of(&[sim.addr()], "") + decide;
    let gateway = Launch::new(policy.clone() + reject).start().await;
    for text in ["", " \n", "perhaps this and that, or neither"] {
        let answer = gateway.chat("auto", text).await;
        let message = rejected(&answer, 503, "unclassified", None);
        assert!(message.contains("could not be classified"), "{message}");
    }
    assert_eq!(asked(&sim).len(), 0);
    assert_eq!(gateway.chat("m", "").await.status, 200, "a named model needs no class");
    let gateway = Launch::new(policy).start().await;
    assert_eq!(gateway.chat("auto", "").await.header("x-vsr-selected-reason"), "default_no_text");
}

#[tokio::test]
async fn rejections_are_the_same_over_http2() {
    let (gateway, _sim) = stage("").await;
    client();
    let h2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    for (path, body, status, code, param) in [
        (CHAT, "{", 400, "invalid_json", None),
        (CHAT, r#"{"model": "nobody"}"#, 404, "model_not_found", Some("model")),
        ("/nope", GOOD, 404, "unknown_url", None),
    ] {
        let response = h2.post(gateway.url(path)).body(body).send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        rejected(&Answer::of(response).await, status, code, param);
    }
    assert_eq!(h2.post(gateway.url(CHAT)).body(GOOD).send().await.unwrap().status(), 200);
}
