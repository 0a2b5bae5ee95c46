//! The admin port, and how a process shuts down.

use crate::harness::*;
use crate::streaming::{ask, clients, last_event, read};
use crate::upstream::Upstream;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Far less than the drain's time in these tests, far more than an idle process needs to end.
const PROMPT: Duration = Duration::from_secs(4);

fn drain(delay: &str, timeout: &str) -> String {
    format!("drain: {{delay: {delay}, timeout: {timeout}}}\n")
}

#[tokio::test]
async fn the_operators_port_says_alive_ready_and_what_was_counted() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    let alive = gateway.admin("/healthz").await;
    assert_eq!((alive.status, alive.text.as_str()), (200, "ok\n"));
    let ready = gateway.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    let expected = json!({
        "ready": true, "draining": false, "policy_generation": 1,
        "pools": [{"name": "main", "endpoints": 1, "available": 1}],
    });
    assert_eq!(ready.json(), expected);
    assert_eq!(gateway.chat("m", "hello").await.status, 200);
    assert_eq!(gateway.chat("nobody", "hello").await.status, 404);
    until("the counts", async || {
        let requests = gateway.metric("signalbox_requests_total", &[]).await;
        (requests == 2.0).then_some(())
    })
    .await;
    let text = gateway.admin("/metrics").await;
    assert!(text.header("content-type").starts_with("text/plain; version=0.0.4"));
    for family in [
        "requests_total",
        "rejections_total",
        "request_duration_seconds",
        "time_to_first_token_seconds",
        "tokens_total",
        "endpoint_in_flight",
        "endpoint_up",
        "requests_in_flight",
        "buffered_bytes",
        "classifier_queue",
        "classifier_unknown_total",
        "classifier_forwards_total",
        "classifier_windows_total",
        "classifier_text_tokens",
        "classifier_batch_windows",
        "policy_reloads_total",
        "policy_generation",
    ] {
        assert!(text.text.contains(&format!("# TYPE signalbox_{family} ")), "{family} in {}", text.text);
    }
    let (pool, endpoint) = ("pool=\"main\"", format!("endpoint=\"{}\"", sim.addr()));
    assert_eq!(gateway.metric("signalbox_endpoint_up", &[pool, &endpoint]).await, 1.0);
    assert_eq!(
        gateway.metric("signalbox_requests_total", &["model=\"m\"", pool, "status=\"200\""]).await,
        1.0
    );
    gateway.counts("signalbox_rejections_total", &["code=\"unknown_model\""], 1.0).await;
}

#[tokio::test]
async fn a_terminated_process_is_unready_at_once_serves_on_and_lets_its_streams_finish() {
    let (slow, quick) = (Upstream::start().await, sim("quick").await);
    let policy = format!(
        "version: 1\nmodels:\n  m: {{pools: [slow]}}\n  quick: {{pools: [quick]}}\npools:\n  \
         slow: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n  \
         quick: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n",
        slow.addr(),
        quick.addr()
    );
    let mut gateway = Launch::new(policy).server(drain("1s", "60s")).start().await;
    let mut streams = Vec::new();
    for (version, client) in clients() {
        let (mut sent, mut got) = tokio::join!(slow.stream(), ask(&client, &gateway, version, true));
        sent.chunk(b"data: 1\n\n").await;
        assert_eq!(got.chunk().await.unwrap().unwrap(), "data: 1\n\n");
        streams.push((version, sent, got));
    }
    assert_ne!(gateway.chat("quick", "before").await.header("connection"), "close");

    let told = Instant::now();
    gateway.signal("TERM");
    let unready = async || Some(gateway.admin("/readyz").await).filter(|answer| answer.status == 503);
    let unready = until("a process that is not ready", unready).await.json();
    assert!(told.elapsed() < Duration::from_secs(1), "at once, not after the delay");
    assert_eq!((&unready["ready"], &unready["draining"]), (&json!(false), &json!(true)));
    assert_eq!(gateway.admin("/healthz").await.status, 200, "it is still alive");
    let during = gateway.chat("quick", "during").await;
    assert_eq!((during.status, during.header("connection")), (200, "close"));

    let refused = async || TcpStream::connect(gateway.addr).await.is_err().then_some(());
    until("the end of the delay", refused).await;
    assert!(told.elapsed() >= Duration::from_secs(1), "clients were taken until the delay was over");
    for (version, mut sent, mut got) in streams {
        sent.chunk(b"data: 2\n\n").await;
        sent.end().await;
        assert_eq!(read(&mut got).await, ("data: 2\n\n".to_owned(), true), "over {version}");
    }
    let finished = Instant::now();
    assert!(gateway.ended().await.success());
    assert!(finished.elapsed() < PROMPT, "nothing was in flight any more");
    for id in ["h1", "h2"] {
        let line = gateway.line(id).await;
        assert_eq!((&line["status"], line.get("error")), (&json!(200), None), "{line}");
    }
}

#[tokio::test]
async fn an_idle_process_ends_at_once_in_spite_of_keep_alive_connections() {
    let sim = sim("m").await;
    for name in ["TERM", "INT"] {
        let mut gateway = Launch::new(policy_of(&[sim.addr()], "")).server(drain("0s", "60s")).start().await;
        let clients = clients();
        for (version, client) in &clients {
            assert!(ask(client, &gateway, version, false).await.text().await.is_ok());
        }
        let told = Instant::now();
        gateway.signal(name);
        assert!(gateway.ended().await.success(), "{name}");
        assert!(told.elapsed() < PROMPT, "{name}");
        assert!(gateway.stdout().contains("\"request_id\":\"h2\""), "no line is lost");
    }
}

#[tokio::test]
async fn a_stream_longer_than_the_drain_is_cut_at_its_end() {
    let upstream = Upstream::start().await;
    let mut gateway = Launch::new(policy_of(&[upstream.addr()], "")).server(drain("0s", "1s")).start().await;
    let asker = client();
    let (mut sent, mut got) = tokio::join!(upstream.stream(), ask(&asker, &gateway, "long", true));
    sent.chunk(b"data: 1\n\n").await;
    assert!(got.chunk().await.unwrap().is_some());
    let told = Instant::now();
    gateway.signal("TERM");
    let (rest, is_whole) = read(&mut got).await;
    assert!(!is_whole, "visibly not whole");
    assert_eq!(last_event(&rest)["error"]["code"], "shutting_down");
    assert!(told.elapsed() >= Duration::from_secs(1));
    assert!(gateway.ended().await.success());
    assert!(told.elapsed() < Duration::from_secs(1) + PROMPT);
    assert!(gateway.stderr().contains("requests are cut"), "{}", gateway.stderr());
    sent.closed().await;
}

#[tokio::test]
async fn at_the_end_of_the_drain_each_api_hears_of_it_in_its_own_words() {
    let upstream = Upstream::start().await;
    let mut gateway = Launch::new(policy_of(&[upstream.addr()], "")).server(drain("0s", "1s")).start().await;
    let mut streams = Vec::new();
    for path in ["/v1/messages", "/v1/responses"] {
        let body = json!({"model": "m", "stream": true, "max_tokens": 5, "messages": [], "input": "x"});
        let request = client().post(gateway.url(path)).body(body.to_string());
        let (mut sent, got) = tokio::join!(upstream.stream(), request.send());
        sent.chunk(b"event: ping\ndata: {\"type\": \"ping\"}\n\n").await;
        let mut got = got.unwrap();
        assert!(got.chunk().await.unwrap().is_some());
        streams.push((path, sent, got));
    }
    // One that has no answer yet gets one.
    let (waiting, asker) = (upstream.call(), client());
    let (url, body) = (gateway.url("/v1/chat/completions"), r#"{"model":"m","messages":[]}"#);
    let asking =
        tokio::spawn(async move { Answer::of(asker.post(url).body(body).send().await.unwrap()).await });
    let _waiting = waiting.await;
    gateway.signal("TERM");
    for (path, _sent, mut got) in streams {
        let (rest, is_whole) = read(&mut got).await;
        assert!(!is_whole && rest.starts_with("event: error\ndata: {\"type\":\"error\""), "{path}: {rest}");
    }
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.text);
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_hangup_has_the_policy_read_again_and_cuts_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    let asker = client();
    let (mut sent, mut got) = tokio::join!(upstream.stream(), ask(&asker, &gateway, "long", true));
    sent.chunk(b"data: 1\n\n").await;
    assert!(got.chunk().await.unwrap().is_some());
    gateway.signal("HUP");
    let said = async || gateway.stderr().contains("the policy is read again").then_some(());
    until("the hangup's effect", said).await;
    sent.chunk(b"data: 2\n\n").await;
    sent.end().await;
    assert_eq!(read(&mut got).await, ("data: 2\n\n".to_owned(), true));
}

#[tokio::test]
async fn a_hand_over_without_a_successor_changes_nothing() {
    let sim = sim("m").await;
    let mut gateway = Launch::new(policy_of(&[sim.addr()], "")).server(drain("0s", "60s")).start().await;
    gateway.signal("QUIT");
    let said = async || gateway.stderr().contains("no successor waits").then_some(());
    until("the warning", said).await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, answer.header("connection")), (200, "keep-alive"));
    assert_eq!(gateway.admin("/readyz").await.status, 200);
    gateway.signal("TERM");
    assert!(gateway.ended().await.success(), "and the next signal is heard");
}

#[tokio::test]
async fn an_interrupt_ends_a_process_at_once_also_while_it_drains() {
    let upstream = Upstream::start().await;
    for signals in [&["INT"][..], &["TERM", "INT"]] {
        let mut gateway =
            Launch::new(policy_of(&[upstream.addr()], "")).server(drain("0s", "60s")).start().await;
        let asker = client();
        let (sent, got) = tokio::join!(upstream.stream(), ask(&asker, &gateway, "long", true));
        if let [first, _] = signals {
            gateway.signal(first);
            let refused = async || TcpStream::connect(gateway.addr).await.is_err().then_some(());
            until("a process that takes no more clients", refused).await;
        }
        let told = Instant::now();
        gateway.signal("INT");
        assert!(gateway.ended().await.success());
        assert!(told.elapsed() < PROMPT, "{signals:?}");
        drop((sent, got));
    }
}
