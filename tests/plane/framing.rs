//! What a client writes on its connection: one request after another, whole ones and malformed ones.

use crate::harness::*;
use crate::raw::*;
use signalbox::sim::Sim;
use signalbox::sim::tls::Authority;

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":2}"#;

async fn stage() -> (Sim, Gateway) {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    (sim, gateway)
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let (sim, gateway) = stage().await;
    let mut wire = Wire::open(gateway.addr).await;
    for _ in 0..3 {
        wire.post(CHAT, BODY).await;
        assert_eq!(wire.answer().await.unwrap().status(), 200);
    }
    let streamed = BODY.replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\"");
    wire.post(CHAT, &streamed).await;
    let stream = wire.answer().await.unwrap();
    assert!(stream.body.ends_with(b"data: [DONE]\n\n"));
    wire.send("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status(), 200);
    wire.post(CHAT, BODY).await;
    assert_eq!(wire.answer().await.unwrap().status(), 200);
    assert_eq!(asked(&sim).len(), 5);
}

#[tokio::test]
async fn after_a_refusal_the_connection_serves_the_next_request() {
    let (sim, gateway) = stage().await;
    let long = format!("{{\"model\":\"nobody\",\"pad\":\"{}\"}}", "x".repeat(300_000));
    let refused = [
        (post(CHAT, "{\"model\": m}"), 400, "invalid_json"),
        (post(CHAT, "{\"messages\": []}"), 400, "model_required"),
        (post(CHAT, "{\"model\": \"nobody\"}"), 404, "model_not_found"),
        (post(CHAT, &long), 404, "model_not_found"),
        ("GET /v1/nowhere HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404, "unknown_url"),
        (format!("GET {CHAT} HTTP/1.1\r\nhost: x\r\n\r\n"), 405, "method_not_allowed"),
    ];
    let mut wire = Wire::open(gateway.addr).await;
    for (request, status, code) in &refused {
        wire.send(request).await;
        let answer = wire.answer().await.unwrap_or_else(|| panic!("an answer {code}"));
        assert_eq!((answer.status(), answer.code().as_str()), (*status, *code));
        assert_eq!(answer.header("connection"), "keep-alive");
        wire.post(CHAT, BODY).await;
        assert_eq!(wire.answer().await.unwrap_or_else(|| panic!("an answer after {code}")).status(), 200);
    }
    assert_eq!(asked(&sim).len(), refused.len());
}

#[tokio::test]
async fn a_refusal_that_does_not_need_the_body_is_read_by_a_client_that_still_sends_it() {
    let (sim, gateway) = stage().await;
    for (path, status) in [("/v1/nowhere", 404), ("/v1/models", 405)] {
        for length in [10, 70_000, 5 << 20] {
            let mut wire = Wire::open(gateway.addr).await;
            assert!(wire.post(path, &"x".repeat(length)).await, "{path}: {length} bytes are taken");
            let answer = wire.answer().await.unwrap_or_else(|| panic!("{path}: an answer to {length} bytes"));
            assert_eq!((answer.status(), answer.header("connection")), (status, "close"));
            assert!(wire.closed().await);
        }
    }
    assert!(asked(&sim).is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let (sim, gateway) = stage().await;
    // Once in one piece, and once so that the second comes while the first one's answer is awaited.
    let mut wire = Wire::open(gateway.addr).await;
    let models = "GET /v1/models/m HTTP/1.1\r\nhost: x\r\n\r\n";
    wire.send(post(CHAT, BODY) + models + &post(CHAT, BODY)).await;
    for object in ["chat.completion", "model", "chat.completion"] {
        let answer = wire.answer().await.expect(object);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["object"], object);
    }
    sim.set_faults(faults(|faults| {
        faults.stall_before_headers = Some(std::time::Duration::from_millis(300));
    }));
    wire.post(CHAT, BODY).await;
    until("the first on its way", async || (asked(&sim).len() == 3).then_some(())).await;
    wire.post(CHAT, BODY).await;
    for _ in 0..2 {
        assert_eq!(wire.answer().await.expect("an answer").status(), 200);
    }
    assert_eq!(asked(&sim).len(), 4);
}

#[tokio::test]
async fn an_absolute_request_target_does_not_reach_the_upstream() {
    let upstream = Scripted::start(|_, _| Act::Answer(answer("200 OK", "{}"))).await;
    let gateway = Launch::new(policy_of(&[upstream.addr], "    path_prefix: /inner\n")).start().await;
    let mut wire = Wire::open(gateway.addr).await;
    for host in ["http://evil.test", "http://gateway", "HTTPS://evil.test:8443"] {
        // Whatever `Host` says then, the target counts (RFC 9112, 3.2.2).
        wire.send(post(&format!("{host}/v1/chat/completions?a=b"), BODY)).await;
        assert_eq!(wire.answer().await.unwrap().status(), 200, "{host}");
        let seen = upstream.requests().remove(0);
        assert!(seen.head.starts_with("POST /inner/v1/chat/completions?a=b HTTP/1.1\r\n"), "{}", seen.head);
        assert_eq!(seen.header("host"), upstream.addr.to_string());
        assert!(!seen.head.contains("evil"), "{}", seen.head);
    }
    wire.send("GET http://evil.test HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status(), 404, "no path is the shortest path");
}

#[tokio::test]
async fn a_malformed_header_gets_an_answer_in_openais_shape_and_the_end() {
    let (sim, gateway) = stage().await;
    let chat = post(CHAT, BODY);
    let with = |field: &str| chat.replacen("host: gateway", &format!("host: gateway\r\n{field}"), 1);
    let chunked = |codings: &str| {
        let chunk = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
        format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{codings}\r\n\r\n{chunk}")
    };
    let cases = [
        (chat.replace("host: gateway\r\n", ""), 400, "bad_request"),
        (with("host: gateway"), 400, "bad_request"),
        (with("host: other"), 400, "bad_request"),
        (with("connection: host"), 400, "bad_request"),
        (with("connection: close, X-Forwarded-For"), 400, "bad_request"),
        (with("x y: z"), 400, "bad_request"),
        (with("x: \x01"), 400, "bad_request"),
        (with(" folded: field"), 400, "bad_request"),
        (with("content-length: 1"), 400, "bad_request"),
        (chunked("transfer-encoding: gzip, chunked"), 400, "bad_request"),
        (chunked("transfer-encoding: chunked, chunked"), 400, "bad_request"),
        (chunked("transfer-encoding: chunked\r\ntransfer-encoding: chunked"), 400, "bad_request"),
        (chunked("transfer-encoding: chunked").replace("HTTP/1.1", "HTTP/1.0"), 400, "bad_request"),
        (chat.replace("HTTP/1.1", "HTTP/3.1"), 400, "bad_request"),
        (chat.replacen("\r\n", "\n", 1), 400, "bad_request"),
        ("\r\n\r\n".to_owned(), 400, "bad_request"),
        ("hello\r\n\r\n".to_owned(), 400, "bad_request"),
        ("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n".to_owned(), 405, "method_not_allowed"),
    ];
    for (request, status, code) in &cases {
        // Alone, in two pieces, and behind a request that is well-formed.
        let (start, end) = request.split_at(request.len() / 2);
        for pieces in [vec![request.as_str()], vec![start, end], vec![chat.as_str(), request]] {
            let mut wire = Wire::open(gateway.addr).await;
            for piece in &pieces {
                wire.send(piece).await;
            }
            if pieces[0] == chat {
                assert_eq!(wire.answer().await.unwrap().status(), 200, "{request:?}");
            }
            let answer = wire.answer().await.unwrap_or_else(|| panic!("an answer to {request:?}"));
            assert_eq!((answer.status(), answer.code().as_str()), (*status, *code), "{request:?}");
            assert_eq!(answer.header("connection"), "close", "{request:?}");
            assert!(wire.closed().await, "{request:?}");
        }
    }
    assert_eq!(asked(&sim).len(), cases.len(), "the well-formed ones");
}

#[tokio::test]
async fn a_request_shorter_than_the_preface_of_http2_is_answered() {
    let (_sim, gateway) = stage().await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "P / HTTP/1.0\r\n\r\n", "\r\nGET / HTTP/1.0\r\n\r\n"] {
        let mut wire = Wire::open(gateway.addr).await;
        wire.send(request).await;
        let answer = wire.answer().await.expect("an answer");
        assert_eq!((answer.status(), answer.code().as_str()), (404, "unknown_url"), "{request:?}");
    }
}

#[tokio::test]
async fn ambiguous_and_broken_framing_is_refused() {
    let (sim, gateway) = stage().await;
    let length = BODY.len();
    let chunk = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    let cases = [
        ("two lengths", format!("content-length: {length}\r\ncontent-length: {}\r\n\r\n{BODY}", length + 1)),
        ("an unknown coding", format!("transfer-encoding: gzip, chunked, x\r\n\r\n{chunk}")),
        ("a length that is no number", format!("content-length: +{length}\r\n\r\n{BODY}")),
        ("a chunk without a size", format!("transfer-encoding: chunked\r\n\r\nzz\r\n{BODY}\r\n0\r\n\r\n")),
        ("an empty line for a size", format!("transfer-encoding: chunked\r\n\r\n\r\n{chunk}")),
        ("an extension in place of a size", format!("transfer-encoding: chunked\r\n\r\n;a=b\r\n{chunk}")),
        (
            "a bare line feed in an extension",
            format!("transfer-encoding: chunked\r\n\r\n{length:x};a\nb\r\n{BODY}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk longer than it says",
            format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{BODY}\r\n0\r\n\r\n", length - 1),
        ),
        (
            "a bare line feed behind a chunk",
            format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{BODY}\n0\r\n\r\n"),
        ),
    ];
    for (what, rest) in &cases {
        let mut wire = Wire::open(gateway.addr).await;
        wire.send(format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{rest}")).await;
        let answer = wire.answer().await.unwrap_or_else(|| panic!("an answer to {what}"));
        assert_eq!(answer.status(), 400, "{what}");
        assert!(["bad_framing", "bad_request"].contains(&answer.code().as_str()), "{what}");
        assert!(wire.closed().await, "{what}: where the next request starts is not known");
    }
    assert!(asked(&sim).is_empty());
}

#[tokio::test]
async fn a_length_beside_chunks_is_refused_and_ends_the_connection() {
    let (sim, gateway) = stage().await;
    let smuggled = post(CHAT, BODY);
    let chunk = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    for length in [0, 1, BODY.len(), chunk.len() + smuggled.len()] {
        for fields in [
            format!("content-length: {length}\r\ntransfer-encoding: chunked"),
            format!("transfer-encoding: chunked\r\ncontent-length: {length}"),
        ] {
            let mut wire = Wire::open(gateway.addr).await;
            wire.send(format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n{chunk}{smuggled}")).await;
            let answer = wire.answer().await.unwrap();
            assert_eq!((answer.status(), answer.header("connection")), (400, "close"), "{fields}");
            assert!(wire.closed().await, "nothing after it is taken for a request");
        }
    }
    assert!(asked(&sim).is_empty());
}

#[tokio::test]
async fn a_client_that_asks_to_close_the_connection_gets_it_closed() {
    let (_sim, gateway) = stage().await;
    let asking = |request: &str| request.replacen("host:", "connection: close\r\nhost:", 1);
    let models = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    let old = |request: &str| request.replacen("HTTP/1.1", "HTTP/1.0", 1);
    let chat = post(CHAT, BODY);
    for request in [asking(&chat), asking(models), old(&chat), old(models)] {
        let mut wire = Wire::open(gateway.addr).await;
        wire.send(request).await;
        let answer = wire.answer().await.unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (200, "close"));
        assert!(wire.closed().await);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_goes_nowhere() {
    let (sim, gateway) = stage().await;
    for framing in ["content-length: 500", "transfer-encoding: chunked"] {
        let mut wire = Wire::open(gateway.addr).await;
        let id = framing.split(':').next().unwrap();
        let start = if id == "content-length" { BODY.to_owned() } else { format!("1f4\r\n{BODY}") };
        wire.send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\n{framing}\r\n\r\n{start}"
        ))
        .await;
        drop(wire);
        let line = gateway.line(&format!("\"{id}\"")).await;
        assert!([400, 499].contains(&line["status"].as_u64().unwrap()), "{line}");
    }
    assert!(asked(&sim).is_empty());
    assert_eq!(gateway.metric("signalbox_buffered_bytes", &[]).await as u64, 0);
}

#[tokio::test]
async fn every_path_of_the_api_goes_upstream_with_its_model_rewritten() {
    let upstream = Scripted::start(|_, _| Act::Answer(answer("200 OK", "{\"from\":\"upstream\"}"))).await;
    let policy =
        policy_of(&[upstream.addr], "").replace("pools: [main]}", "pools: [main], upstream_model: served}");
    let gateway = Launch::new(policy).start().await;
    let cases = [
        (CHAT, "\"messages\" : []"),
        ("/v1/completions", "\"prompt\" : [\"a\" , \"b\"]"),
        ("/v1/embeddings", "\"input\" : [1, 2,3]"),
        ("/v1/responses", "\"input\" : \"x\""),
        ("/v1/messages", "\"max_tokens\" : 1"),
        ("/v1/rerank", "\"query\":\"q\",\"documents\" : []"),
        ("/v1/score", "\"text_1\":\"q\""),
        ("/pooling", "\"input\" : \"x\""),
        ("/tokenize", "\"prompt\" : \"x\""),
    ];
    for (path, member) in cases {
        let answer = gateway.post(path, format!("{{ {member},\"model\":\"m\"}}")).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "{\"from\":\"upstream\"}"), "{path}");
        let seen = upstream.requests().remove(0);
        assert!(seen.head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{}", seen.head);
        assert_eq!(String::from_utf8_lossy(&seen.body), format!("{{ {member},\"model\":\"served\"}}"));
    }
}

#[tokio::test]
async fn bodies_come_over_tls_in_both_protocols() {
    let sim = sim("m").await;
    let authority = Authority::new("clients");
    let launch = Launch::new(policy_of(&[sim.addr()], ""));
    let (cert, key) = authority.cert_pem(&["gateway.test"]);
    std::fs::write(launch.folder().join("cert.pem"), cert).unwrap();
    std::fs::write(launch.folder().join("key.pem"), key).unwrap();
    let tls = "{cert_file: cert.pem, key_file: key.pem}";
    let gateway =
        launch.server(format!("listeners: [{{address: \"127.0.0.1:0\", tls: {tls}}}]\n")).start().await;
    let _ = client();
    let root = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
    let body = |length| BODY.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(length)), 1);
    for (http2, version) in [(true, http::Version::HTTP_2), (false, http::Version::HTTP_11)] {
        let mut client = reqwest::Client::builder().no_proxy().tls_certs_only([root.clone()]);
        client = client.resolve("gateway.test", gateway.addr);
        let client = if http2 { client } else { client.http1_only() }.build().unwrap();
        for length in [0, 70_000, 5 << 20] {
            let url = format!("https://gateway.test:{}{CHAT}", gateway.addr.port());
            let response = client.post(url).body(body(length)).send().await.unwrap();
            assert_eq!((response.status().as_u16(), response.version()), (200, version), "{length}");
            assert!(asked(&sim).pop().unwrap().body == body(length), "{length}");
        }
    }
}
