//! WebSockets: which are taken, where they go, what passes and when they end.

use crate::harness::{Gateway, Launch, until};
use crate::raw::{Message, Refusing, Wire};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

pub(crate) const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: realtime\r\nSet-Cookie: a=b\r\n\
    x-vsr-selected-model: forged\r\n\r\n";

/// A server of WebSockets whose every byte a test sends itself.
pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Takes a request, and answers it.
    pub(crate) async fn answers(&self, bytes: &str) -> (Wire, Message) {
        let mut wire = Wire::of(self.0.accept().await.unwrap().0);
        let request = wire.request().await.unwrap();
        wire.send(bytes).await;
        (wire, request)
    }
}

fn policy(addresses: &[SocketAddr], more: &str) -> String {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: text\nmodels:\n  text: {{pools: [other]}}\n  voice: {{pools: [other, main], \
         upstream_model: acme/voice}}\npools:\n  other: {{endpoints: [\"127.0.0.1:1\"], health: {{enabled: false}}}}\n  main:\n    endpoints: [{}]\n    \
         health: {{enabled: false}}\n    serves: [realtime]\n{more}",
        endpoints.join(", ")
    )
}

pub(crate) async fn ask(gateway: &Gateway, path: &str, headers: &str) -> Wire {
    let mut wire = Wire::open(gateway.addr).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: gateway\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    wire.send(request).await;
    wire
}

/// Asks for a WebSocket that the server agrees to; gives both ends of it.
async fn open(gateway: &Gateway, server: &Server) -> (Wire, Wire, Message) {
    let (mut client, (upstream, _)) =
        tokio::join!(ask(gateway, "/v1/realtime?model=voice", ""), server.answers(AGREED));
    let agreed = client.answer().await.unwrap();
    assert_eq!(agreed.status(), 101, "{}", agreed.head);
    (client, upstream, agreed)
}

async fn refused(gateway: &Gateway, path: &str, headers: &str) -> (u16, String) {
    let answer = ask(gateway, path, headers).await.answer().await.unwrap();
    (answer.status(), answer.code())
}

#[tokio::test]
async fn what_is_said_over_a_websocket_passes_as_it_is_in_both_directions() {
    let server = Server::start().await;
    let more = "    credential: {value: {env: KEY}}\nidentity: {required: true, keys: [{value: {env: OWN}, user: ann}]}\n";
    let launch =
        Launch::new(policy(&[server.addr()], more)).variable("KEY", "sk-cloud").variable("OWN", "sk-ann");
    let gateway = launch.start().await;
    let headers = "sec-websocket-protocol: realtime, openai-insecure-api-key.sk-ann\r\nx-selected-model: x\r\ncookie: a=b\r\n\
                   x-request-id: mine-1\r\nsec-websocket-extensions: permessage-deflate\r\n";
    let (mut client, (mut upstream, request)) =
        tokio::join!(ask(&gateway, "/v1/realtime?intent=a%2Bb&model=voice", headers), server.answers(AGREED));
    assert!(
        request.head.starts_with("GET /v1/realtime?intent=a%2Bb&model=acme%2Fvoice HTTP/1.1\r\n"),
        "{}",
        request.head
    );
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "realtime"),
        ("authorization", "Bearer sk-cloud"),
        ("content-length", ""),
        ("cookie", ""),
        ("x-selected-model", ""),
    ] {
        assert_eq!(request.header(name), value, "{name}: {}", request.head);
    }
    assert!(!request.head.contains("sk-ann"), "{}", request.head);
    let agreed = client.answer().await.unwrap();
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "realtime"),
        ("set-cookie", ""),
        ("x-vsr-selected-model", "voice"),
    ] {
        assert_eq!(agreed.header(name), value, "{name}: {}", agreed.head);
    }
    assert_eq!(gateway.metric("signalbox_requests_in_flight", &[]).await, 1.0);
    // What would be requests that HTTP refuses, and much of it.
    for text in ["GET / HTTP/1.1\n\n", "\r\n\r\n\r\n", "\u{0}\u{1}", &"x".repeat(300_000)] {
        client.send(text).await;
        assert_eq!(upstream.bytes(text.len()).await.unwrap(), text.as_bytes());
        upstream.send(text).await;
        assert_eq!(client.bytes(text.len()).await.unwrap(), text.as_bytes());
    }
    upstream.send("last").await;
    drop(upstream);
    assert_eq!(client.bytes(4).await.unwrap(), b"last");
    assert!(client.closed().await);
    let line = gateway.line("mine-1").await;
    assert_eq!((line["status"].as_u64(), line["user"].as_str()), (Some(101), Some("ann")), "{line}");
    assert_eq!(
        (line["model"].as_str(), line["pool"].as_str(), line["error"].as_str()),
        (Some("voice"), Some("main"), None),
        "{line}"
    );
    assert_eq!(
        (line["request_bytes"].as_u64(), line["response_bytes"].as_u64()),
        (Some(300_024), Some(300_028)),
        "{line}"
    );
}

#[tokio::test]
async fn a_websocket_whose_client_leaves_is_over_for_the_upstream_too() {
    let server = Server::start().await;
    let gateway = Launch::new(policy(&[server.addr()], "")).start().await;
    let (client, mut upstream, _) = open(&gateway, &server).await;
    drop(client);
    assert!(upstream.closed().await);
    gateway.counts("signalbox_requests_in_flight", &[], 0.0).await;
}

#[tokio::test]
async fn without_a_model_the_first_pool_that_has_websockets_gets_it() {
    let server = Server::start().await;
    let gateway = Launch::new(policy(&[server.addr()], "")).start().await;
    for path in ["/v1/realtime", "/v1/realtime/?model=auto"] {
        let (mut client, (_upstream, request)) =
            tokio::join!(ask(&gateway, path, ""), server.answers(AGREED));
        assert!(
            request.head.starts_with(&format!("GET {}", path.split('?').next().unwrap())),
            "{}",
            request.head
        );
        assert_eq!(client.answer().await.unwrap().header("x-vsr-selected-model"), "voice");
    }
}

#[tokio::test]
async fn a_websocket_that_may_not_be_is_refused_aloud() {
    let server = Server::start().await;
    let guarded = "guards: {pii: {action: mask}}\n";
    let gateway = Launch::new(policy(&[server.addr()], "")).start().await;
    let strict = Launch::new(policy(&[server.addr()], guarded)).start().await;
    for (path, headers, status, code) in [
        ("/v1/responses", "", 426, "websocket_not_supported"),
        ("/v1/chat/completions", "", 426, "websocket_not_supported"),
        ("/v1/realtime?model=nobody", "", 404, "model_not_found"),
        ("/v1/realtime?model=text", "", 501, "not_served"),
        ("/v1/realtime?model=voice", "origin: https://evil.example\r\n", 403, "origin_not_allowed"),
    ] {
        assert_eq!(refused(&gateway, path, headers).await, (status, code.to_owned()), "{path}");
    }
    assert_eq!(refused(&strict, "/v1/realtime?model=voice", "").await, (422, "unclassified".to_owned()));
    let page = "origin: http://gateway\r\n";
    let (mut client, _) =
        tokio::join!(ask(&gateway, "/v1/realtime?model=voice", page), server.answers(AGREED));
    assert_eq!(client.answer().await.unwrap().status(), 101);
}

#[tokio::test]
async fn what_the_upstream_says_in_a_websockets_place_reaches_the_client() {
    let server = Server::start().await;
    let gateway = Launch::new(policy(&[server.addr()], "")).start().await;
    let refusal = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 25\r\n\r\n{\"error\":{\"code\":\"beta\"}}";
    let (mut client, _) =
        tokio::join!(ask(&gateway, "/v1/realtime?model=voice", ""), server.answers(refusal));
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status(), answer.code()), (400, "beta".to_owned()));
    let (mut client, _) = tokio::join!(ask(&gateway, "/v1/realtime?model=voice", ""), server.answers(""));
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status(), answer.code()), (502, "upstream_reset".to_owned()));
}

#[tokio::test]
async fn another_replica_is_asked_where_one_cannot_be_reached() {
    let (server, refusing) = (Server::start().await, Refusing::new());
    let policy = policy(&[refusing.addr, server.addr()], "    balance: {strategy: round_robin}\n");
    let gateway = Launch::new(policy).start().await;
    for _turn in 0..2 {
        open(&gateway, &server).await;
    }
}

#[tokio::test]
async fn a_websocket_that_is_silent_ends_and_one_too_many_waits() {
    let server = Server::start().await;
    let limits = "limits: {websockets: {max_open: 1, idle_timeout: 1s}}\ndrain: {delay: 0s}\n";
    let gateway = Launch::new(policy(&[server.addr()], "")).server(limits).start().await;
    let (mut client, mut upstream, _) = open(&gateway, &server).await;
    assert_eq!(
        refused(&gateway, "/v1/realtime?model=voice", "").await,
        (503, "too_many_websockets".to_owned())
    );
    assert!(client.closed().await && upstream.closed().await);
    gateway.counts("signalbox_requests_in_flight", &[], 0.0).await;
    open(&gateway, &server).await;
}

#[tokio::test]
async fn a_process_that_ends_lets_websockets_go_on_for_a_while() {
    let server = Server::start().await;
    let drain = "drain: {delay: 0s, timeout: 1s}\n";
    let mut gateway = Launch::new(policy(&[server.addr()], "")).server(drain).start().await;
    let (mut client, mut upstream, _) = open(&gateway, &server).await;
    gateway.signal("TERM");
    until("a process that drains", async || gateway.stderr().contains("draining").then_some(())).await;
    client.send("still here").await;
    assert_eq!(upstream.bytes(10).await.unwrap(), b"still here");
    assert!(client.closed().await && upstream.closed().await);
    assert!(gateway.ended().await.success());
}
