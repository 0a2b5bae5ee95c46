//! Clients that are slow, silent or many: what each may use before it has brought a request, and who goes first.

use crate::harness::*;
use crate::raw::*;
use serde_json::json;
use signalbox::sim::Sim;
use signalbox::sim::tls::Authority;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":2}"#;

/// Far less than any default of the time for a header, far more than those of these tests.
const SOON: Duration = Duration::from_secs(8);

async fn stage(limits: &str, more: &str) -> (Sim, Gateway) {
    let sim = sim("m").await;
    let server = format!("limits: {{{limits}}}\ndrain: {{delay: 0s}}\n");
    let gateway = Launch::new(policy_of(&[sim.addr()], "") + more).server(server).start().await;
    (sim, gateway)
}

fn stall(sim: &Sim) {
    sim.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(60))));
}

/// Connections that have sent this and nothing else.
async fn waiting(addr: SocketAddr, many: usize, bytes: &str) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..many {
        let mut wire = Wire::open(addr).await;
        wire.send(bytes).await;
        wires.push(wire);
    }
    wires
}

#[tokio::test]
async fn what_is_not_a_whole_header_in_time_ends_on_both_ports() {
    let (sim, gateway) = stage("header_timeout: 300ms", "").await;
    let began = Instant::now();
    for addr in [gateway.addr, gateway.admin] {
        for (sent, status) in [
            ("", None),
            ("P", None),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n", None),
            ("GET /v1/mod", Some(408)),
            ("GET /v1/models HTTP/1.1\r\nhost: x\r\n", Some(408)),
            ("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r", Some(408)),
        ] {
            let mut wire = Wire::open(addr).await;
            wire.send(sent).await;
            let answer = wire.answer().await;
            assert_eq!(answer.as_ref().map(Message::status), status, "{sent:?}");
            if let Some(answer) = answer {
                assert_eq!(
                    (answer.code().as_str(), answer.header("connection")),
                    ("request_timeout", "close")
                );
            }
            assert!(wire.closed().await, "{sent:?}");
        }
    }
    assert!(began.elapsed() < SOON);
    assert!(gateway.metric("signalbox_connection_refusals_total", &["reason=\"slow_header\""]).await >= 6.0);
    assert!(asked(&sim).is_empty());
}

#[tokio::test]
async fn each_byte_in_time_is_not_the_header_in_time() {
    let (_sim, gateway) = stage("header_timeout: 300ms", "").await;
    let mut wire = Wire::open(gateway.addr).await;
    wire.post(CHAT, BODY).await;
    assert_eq!(wire.answer().await.unwrap().status(), 200, "a kept connection is no exception");
    let began = Instant::now();
    while began.elapsed() < SOON && wire.send("x").await {
        tokio::select! {
            answer = wire.answer() => {
                assert_eq!(answer.map(|answer| answer.status()), Some(408));
                return;
            }
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    panic!("a byte now and then kept the connection");
}

#[tokio::test]
async fn half_a_tls_handshake_and_half_a_preface_over_tls_end_in_time() {
    let sim = sim("m").await;
    let authority = Authority::new("clients");
    let launch = Launch::new(policy_of(&[sim.addr()], ""));
    let (cert, key) = authority.cert_pem(&["gateway.test"]);
    std::fs::write(launch.folder().join("cert.pem"), cert).unwrap();
    std::fs::write(launch.folder().join("key.pem"), key).unwrap();
    let tls = "{cert_file: cert.pem, key_file: key.pem}";
    let server =
        format!("listeners: [{{address: \"127.0.0.1:0\", tls: {tls}}}]\nlimits: {{header_timeout: 300ms}}\n");
    let gateway = launch.server(server).start().await;
    let began = Instant::now();
    for sent in ["", "\x16", "\x16\x03\x01\x02\x00\x01"] {
        let mut wire = Wire::open(gateway.addr).await;
        wire.send(sent).await;
        assert!(wire.closed().await, "{sent:?}");
    }
    assert!(began.elapsed() < SOON);
    let reason = &["reason=\"tls_handshake_slow\""];
    assert_eq!(gateway.metric("signalbox_connection_refusals_total", reason).await, 3.0);
}

#[tokio::test]
async fn a_header_has_a_most_and_counts_among_the_bytes_held() {
    let (sim, gateway) =
        stage("max_header_bytes: 16384, max_body_bytes: 65536, max_buffered_bytes: 65536", "").await;
    let padded =
        |length: usize| format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nx-pad: {}", "x".repeat(length));
    let mut wire = Wire::open(gateway.addr).await;
    wire.send(padded(12_000) + "\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status(), 200);
    for sent in [padded(20_000) + "\r\n\r\n", padded(1 << 20)] {
        let mut wire = Wire::open(gateway.addr).await;
        wire.send(&sent).await;
        let answer = wire.answer().await.unwrap();
        assert_eq!((answer.status(), answer.code().as_str()), (431, "request_header_too_large"));
        assert!(wire.closed().await);
    }
    for (fields, status) in [(256, 200), (257, 431)] {
        let mut wire = Wire::open(gateway.addr).await;
        let more = "x-one: 1\r\n".repeat(fields - 1);
        wire.send(format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{more}\r\n")).await;
        assert_eq!(wire.answer().await.unwrap().status(), status, "{fields}");
    }
    let held = waiting(gateway.addr, 5, &padded(12_000)).await;
    until("the bytes of unfinished headers", async || {
        (gateway.metric("signalbox_buffered_bytes", &[]).await > 4.0 * 12_000.0).then_some(())
    })
    .await;
    let mut refused = waiting(gateway.addr, 1, &padded(14_000)).await.remove(0);
    assert_eq!(refused.answer().await.unwrap().status(), 503);
    drop(held);
    until("their room", async || {
        (gateway.metric("signalbox_buffered_bytes", &[]).await == 0.0).then_some(())
    })
    .await;
    assert!(asked(&sim).is_empty());
}

#[tokio::test]
async fn silent_connections_make_room_for_those_that_ask() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).open_files(256).start().await;
    let _silent = waiting(gateway.addr, 150, "").await;
    let _halves = waiting(gateway.addr, 150, "GET /v1/models HTTP/1.1\r\n").await;
    let withheld = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n");
    let _withheld = waiting(gateway.addr, 150, &withheld).await;
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
    }
    assert!(began.elapsed() < SOON);
    assert_eq!(gateway.admin("/healthz").await.status, 200);
    assert!(gateway.metric("signalbox_connections", &[]).await <= 96.0);
    assert!(gateway.metric("signalbox_connection_refusals_total", &["reason=\"evicted\""]).await > 100.0);
}

#[tokio::test]
async fn an_address_has_a_most_of_connections_unless_it_is_trusted() {
    for (trusted, status) in [("10.0.0.0/8", 503), ("127.0.0.0/8", 200)] {
        let identity = format!("identity: {{trusted_peers: [{trusted}]}}\n");
        let (sim, gateway) = stage("max_connections: 10, max_connections_per_address: 2", &identity).await;
        stall(&sim);
        let busy = waiting(gateway.addr, 2, &post(CHAT, BODY)).await;
        until("two at work", async || (asked(&sim).len() == 2).then_some(())).await;
        sim.set_faults(faults(|_| {}));
        let mut wire = waiting(gateway.addr, 1, &post(CHAT, BODY)).await.remove(0);
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.status(), status, "{trusted}");
        if status == 503 {
            assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("overloaded", "1"));
            drop(busy);
            until("a place", async || {
                // What is refused is refused at once: a client of HTTP may read that before it has written.
                let mut wire = waiting(gateway.addr, 1, &post(CHAT, BODY)).await.remove(0);
                wire.answer().await.filter(|answer| answer.status() == 200).map(drop)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn requests_that_withhold_their_bodies_take_no_slot() {
    let (sim, gateway) = stage("max_in_flight: 2", "").await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n");
    let _none = waiting(gateway.addr, 5, &head).await;
    let _half = waiting(gateway.addr, 5, &(head + "{\"model\"")).await;
    until("the requests", async || {
        (gateway.metric("signalbox_requests_in_flight", &[]).await == 10.0).then_some(())
    })
    .await;
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    stall(&sim);
    let _busy = waiting(gateway.addr, 2, &post(CHAT, BODY)).await;
    until("two at work", async || (asked(&sim).len() == 3).then_some(())).await;
    assert_eq!(gateway.chat("m", "hi").await.status, 503, "the slots are taken by those that sent theirs");
}

#[tokio::test]
async fn a_client_that_is_known_goes_before_one_that_is_not() {
    let sim = sim("m").await;
    let identity = "identity: {keys: [{value: {env: KEY}, user: alice}]}\n";
    let launch = Launch::new(policy_of(&[sim.addr()], "") + identity).variable("KEY", "sk-alice");
    let gateway = launch.server("limits: {max_in_flight: 4}\ndrain: {delay: 0s}\n").start().await;
    stall(&sim);
    let _anonymous = waiting(gateway.addr, 3, &post(CHAT, BODY)).await;
    until("three at work", async || (asked(&sim).len() == 3).then_some(())).await;
    assert_eq!(gateway.chat("m", "hi").await.status, 503);
    sim.set_faults(faults(|_| {}));
    let request = client().post(gateway.url(CHAT)).bearer_auth("sk-alice").body(BODY);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// A body of about so many bytes.
fn long_body(length: usize) -> String {
    let message = json!({"role": "user", "content": "hi"});
    json!({"model": "m", "messages": [message], "max_tokens": 2, "pad": "x".repeat(length)}).to_string()
}

#[tokio::test]
async fn of_many_uploads_at_once_as_many_succeed_as_there_is_room_for() {
    let (sim, gateway) = stage("max_body_bytes: 1100000, max_buffered_bytes: 11000000", "").await;
    sim.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_millis(1500))));
    for framed in [true, false] {
        let mut uploads = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let url = gateway.url(CHAT);
            uploads.spawn(async move {
                let body = bytes::Bytes::from(long_body(1 << 20));
                let pieces: Vec<_> = body.chunks(1 << 16).map(|piece| Ok(body.slice_ref(piece))).collect();
                let pieces: Vec<Result<_, std::io::Error>> = pieces;
                let chunked = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
                let body = if framed { body.into() } else { chunked };
                client().post(url).body(body).send().await.map(|answer| answer.status().as_u16())
            });
        }
        let mut statuses: Vec<u16> = Vec::new();
        while let Some(done) = uploads.join_next().await {
            statuses.push(done.unwrap().unwrap_or(0));
        }
        let served = statuses.iter().filter(|status| **status == 200).count();
        assert!(served >= if framed { 10 } else { 3 }, "framed: {framed}: {statuses:?}");
        assert!(statuses.contains(&503), "{statuses:?}");
    }
    until("their room", async || {
        (gateway.metric("signalbox_buffered_bytes", &[]).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_announces_much_and_sends_nothing_takes_no_room() {
    let (_sim, gateway) = stage("max_body_bytes: 1000000, max_buffered_bytes: 1000000", "").await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n");
    let _announced = waiting(gateway.addr, 5, &head).await;
    until("the requests", async || {
        (gateway.metric("signalbox_requests_in_flight", &[]).await == 5.0).then_some(())
    })
    .await;
    assert_eq!(gateway.post(CHAT, long_body(800_000)).await.status, 200);
}

#[tokio::test]
async fn copies_of_a_request_count_among_the_bytes_held() {
    let sim = sim("served").await;
    let policy =
        policy_of(&[sim.addr()], "").replace("pools: [main]}", "pools: [main], upstream_model: served}");
    let server = "limits: {max_body_bytes: 1000000, max_buffered_bytes: 1500000}\ndrain: {delay: 0s}\n";
    let gateway = Launch::new(policy).server(server).start().await;
    stall(&sim);
    let (url, body) = (gateway.url(CHAT), long_body(500_000));
    let held = tokio::spawn(async move { client().post(url).body(body).send().await });
    until("the request and its copy", async || {
        (gateway.metric("signalbox_buffered_bytes", &[]).await > 1_000_000.0).then_some(())
    })
    .await;
    let refused = gateway.post(CHAT, long_body(500_000)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text);
    held.abort();
}

#[tokio::test]
async fn a_page_in_a_browser_may_ask_where_the_server_file_says_so() {
    let sim = sim("m").await;
    let policy = policy_of(&[sim.addr()], "");
    let server = "drain: {delay: 0s}\ncors: {origins: [\"https://chat.example\"], max_age: 1m}\n";
    let open = Launch::new(policy.clone()).server(server).start().await;
    let closed = Launch::new(policy).start().await;
    let preflight = async |gateway: &Gateway, origin: &str| {
        let request = client().request(reqwest::Method::OPTIONS, gateway.url("/v1/chat/completions"));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        let request = request.header("access-control-request-headers", "authorization,content-type");
        Answer::of(request.send().await.unwrap()).await
    };
    let answer = preflight(&open, "https://chat.example").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, "https://chat.example"));
    assert_eq!(answer.header("access-control-allow-headers"), "authorization,content-type");
    assert_eq!(answer.header("access-control-max-age"), "60");
    assert!(answer.header("access-control-allow-methods").contains("DELETE"), "responses can be deleted");
    let other = preflight(&open, "https://other.example").await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (204, ""));
    assert_eq!(preflight(&closed, "https://chat.example").await.status, 405);
    let body =
        serde_json::json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1});
    let request = client().post(open.url("/v1/chat/completions")).header("origin", "https://chat.example");
    let answer = Answer::of(request.body(body.to_string()).send().await.unwrap()).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://chat.example"));
    assert!(answer.header("access-control-expose-headers").contains("x-request-id"));
}

#[tokio::test]
async fn a_probe_gets_the_head_of_the_list_of_models_and_a_doubled_path_a_hint() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    let head = Answer::of(client().head(gateway.url("/v1/models")).send().await.unwrap()).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert!(head.header("content-length").parse::<usize>().unwrap() > 2);
    let doubled = gateway.post("/v1/v1/messages", "{}").await;
    assert_eq!((doubled.status, &doubled.json()["error"]["type"]), (404, &"not_found_error".into()));
    assert!(doubled.text.contains("twice"), "{}", doubled.text);
    let refused = gateway.post("/v1/messages", "{\"model\": \"none\"}").await;
    assert_eq!((refused.status, &refused.json()["type"]), (404, &"error".into()));
    assert_eq!(refused.json()["request_id"], refused.header("request-id"));
}
