//! Each step of an upstream has its time, and running out of it is always visible.

use crate::harness::*;
use crate::streaming::{ask, clients, last_event, leased, read};
use crate::upstream::Upstream;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(60);

fn timeouts(text: &str) -> String {
    format!("    timeouts: {{{text}}}\n")
}

/// Asserts an OpenAI-shaped 504, in the answer, the log and the metrics.
async fn timed_out(gateway: &Gateway, response: reqwest::Response, id: &str) {
    let answer = Answer::of(response).await;
    assert_eq!(answer.status, 504, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-vsr-response-path"), "error");
    let error = &answer.json()["error"];
    assert_eq!((&error["code"], &error["type"]), (&json!("upstream_timeout"), &json!("server_error")));
    assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    let line = gateway.line(id).await;
    assert_eq!((&line["status"], &line["error"]), (&json!(504), &json!("upstream_timeout")), "{line}");
    assert_eq!(leased(gateway).await, 0.0);
}

/// Asserts that a stream which has begun ends with an event that says that time ran out.
async fn cut_short(gateway: &Gateway, mut response: reqwest::Response, id: &str) -> String {
    assert_eq!(response.status(), 200);
    let (text, ended) = read(&mut response).await;
    assert_eq!(last_event(&text)["error"]["code"], "upstream_timeout", "{id}: {text}");
    assert!(!ended, "{id}: nothing says that it is whole");
    let line = gateway.line(id).await;
    assert_eq!((&line["status"], &line["error"]), (&json!(200), &json!("upstream_timeout")), "{line}");
    assert_eq!(leased(gateway).await, 0.0);
    text
}

#[tokio::test]
async fn an_upstream_without_a_first_byte_is_answered_with_504() {
    let sim = sim_with("m", |options| options.faults.stall_before_headers = Some(LONG)).await;
    for protocol in ["http1", "h2c"] {
        let more = format!("    protocol: {protocol}\n{}", timeouts("first_byte: 200ms"));
        let gateway = Launch::new(policy_of(&[sim.addr()], &more)).start().await;
        for (version, client) in clients() {
            let id = format!("{version}-{protocol}");
            let began = Instant::now();
            timed_out(&gateway, ask(&client, &gateway, &id, true).await, &id).await;
            assert!(began.elapsed() >= Duration::from_millis(200));
            assert_eq!(gateway.line(&id).await["tries"], 1, "what took too long once is not tried again");
        }
        until("the upstream request's end", async || {
            asked(&sim).iter().all(|seen| seen.outcome == signalbox::sim::SimOutcome::Aborted).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_head_of_a_stream_is_not_its_first_byte() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], &timeouts("first_byte: 300ms"))).start().await;
    for (version, client) in clients() {
        let (mut call, response) = tokio::join!(upstream.stream(), ask(&client, &gateway, version, true));
        cut_short(&gateway, response, version).await;
        call.closed().await;
    }
}

#[tokio::test]
async fn a_gap_in_a_stream_ends_it_with_an_error_event() {
    let sim = sim_with("m", |options| options.faults.stall_mid_stream = Some(LONG)).await;
    for protocol in ["http1", "h2c"] {
        let more = format!("    protocol: {protocol}\n{}", timeouts("idle: 200ms"));
        let gateway = Launch::new(policy_of(&[sim.addr()], &more)).start().await;
        for (version, client) in clients() {
            let id = format!("{version}-{protocol}");
            let text = cut_short(&gateway, ask(&client, &gateway, &id, true).await, &id).await;
            assert!(text.starts_with("data: {\"id\""), "{text}");
        }
        until("the upstream's places", async || (sim.running() == 0).then_some(())).await;
    }
}

#[tokio::test]
async fn a_stream_that_never_pauses_is_not_cut_by_the_idle_timeout() {
    let sim = sim_with("m", |options| options.latency.itl = Duration::from_millis(60)).await;
    let gateway =
        Launch::new(policy_of(&[sim.addr()], &timeouts("first_byte: 500ms, idle: 500ms"))).start().await;
    let mut response = ask(&client(), &gateway, "steady", true).await;
    let (text, ended) = read(&mut response).await;
    assert!(ended && text.ends_with("data: [DONE]\n\n"), "{text}");
    let line = gateway.line("steady").await;
    assert!(line["duration_ms"].as_f64().unwrap() > 500.0, "it took longer than any one pause may: {line}");
}

#[tokio::test]
async fn the_total_time_holds_before_the_first_byte_and_after_it() {
    let sim = sim_with("m", |options| options.latency.itl = Duration::from_millis(100)).await;
    let gateway = Launch::new(policy_of(&[sim.addr()], &timeouts("total: 400ms"))).start().await;
    for (version, client) in clients() {
        let id = format!("{version}-after");
        let text = cut_short(&gateway, ask(&client, &gateway, &id, true).await, &id).await;
        assert!(text.matches("data: ").count() > 2, "some of it came: {text}");
    }
    sim.set_faults(faults(|faults| faults.stall_before_headers = Some(LONG)));
    for (version, client) in clients() {
        let id = format!("{version}-before");
        timed_out(&gateway, ask(&client, &gateway, &id, true).await, &id).await;
    }
}

#[tokio::test]
async fn an_address_that_takes_no_connection_is_answered_with_504() {
    let full = Full::new().await;
    let gateway = Launch::new(policy_of(&[full.address], &timeouts("connect: 200ms"))).start().await;
    let began = Instant::now();
    timed_out(&gateway, ask(&client(), &gateway, "connect", false).await, "connect").await;
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_tried_elsewhere() {
    let full = Full::new().await;
    let sim = sim("m").await;
    let more = timeouts("connect: 200ms") + "    balance: {strategy: round_robin}\n";
    let gateway = Launch::new(policy_of(&[full.address, sim.addr()], &more)).start().await;
    let mut tries = 0;
    for id in ["first", "second"] {
        let response = ask(&client(), &gateway, id, false).await;
        assert_eq!(response.status(), 200);
        tries += gateway.line(id).await["tries"].as_u64().unwrap();
    }
    assert_eq!(tries, 3, "one of the two began at the address that takes no connection");
    gateway.counts("signalbox_retries_total", &["cause=\"connect\""], 1.0).await;
}

/// A listener whose backlog is full: connections to it neither succeed nor fail.
struct Full {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl Full {
    async fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        let patience = Duration::from_millis(150);
        while let Ok(connected) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
            waiting.push(connected.unwrap());
            assert!(waiting.len() < 64, "the backlog has no end");
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}
