//! A client that leaves ends at once what was done for it.

use crate::harness::*;
use crate::streaming::{ask, clients, leased};
use crate::upstream::Upstream;
use serde_json::json;
use signalbox::sim::{RecordedRequest, Sim, SimOutcome};
use std::time::Duration;

/// Longer than any test waits: only a client that disconnects ends such a request in time.
const FOR_EVER: Duration = Duration::from_secs(600);

async fn seen(sim: &Sim, id: &str) -> RecordedRequest {
    let found = async || asked(sim).into_iter().find(|seen| seen.headers["x-test-id"] == id);
    until("the request at its upstream", found).await
}

async fn ended(gateway: &Gateway, sim: &Sim, id: &str) {
    let over =
        async || (seen(sim, id).await.outcome == SimOutcome::Aborted && sim.running() == 0).then_some(());
    until("the upstream request's end", over).await;
    until("the end of the lease", async || (leased(gateway).await == 0.0).then_some(())).await;
    assert_eq!(gateway.line(id).await["error"], "client_closed", "{id}");
}

#[tokio::test]
async fn a_client_that_disconnects_while_the_first_byte_is_awaited_ends_the_upstream_request() {
    let sim = sim_with("m", |options| options.faults.stall_before_headers = Some(FOR_EVER)).await;
    for protocol in ["http1", "h2c"] {
        let gateway =
            Launch::new(policy_of(&[sim.addr()], &format!("    protocol: {protocol}\n"))).start().await;
        for (version, client) in clients() {
            let id = format!("{version}-{protocol}");
            tokio::select! {
                response = ask(&client, &gateway, &id, false) => panic!("{response:?}"),
                _ = seen(&sim, &id) => {}
            }
            ended(&gateway, &sim, &id).await;
            assert_eq!(gateway.line(&id).await["status"], 499);
        }
        gateway.counts("signalbox_requests_total", &["status=\"499\""], 2.0).await;
    }
}

#[tokio::test]
async fn a_client_that_disconnects_in_mid_stream_ends_the_upstream_request() {
    let sim = sim_with("m", |options| options.faults.stall_mid_stream = Some(FOR_EVER)).await;
    for protocol in ["http1", "h2c"] {
        let gateway =
            Launch::new(policy_of(&[sim.addr()], &format!("    protocol: {protocol}\n"))).start().await;
        for (version, client) in clients() {
            let id = format!("{version}-{protocol}");
            let mut response = ask(&client, &gateway, &id, true).await;
            assert!(response.chunk().await.unwrap().is_some());
            assert_eq!((sim.running(), leased(&gateway).await), (1, 1.0));
            drop(response);
            ended(&gateway, &sim, &id).await;
            assert_eq!(gateway.line(&id).await["status"], 200);
        }
        let ejections = gateway.metric("signalbox_ejections_total", &[]).await;
        assert_eq!(ejections, 0.0, "it is not the endpoint's fault");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_while_its_text_is_classified_asks_no_upstream() {
    const BEFORE_IT: usize = 24;
    let sim = sim("m").await;
    let policy = policy_of(&[sim.addr()], "")
        + "virtual_models: [auto]\ndefault_model: m\nclassifier: {threads: 1, deadline: 60s}\n\
           decisions: [{name: sums, domains: [math], model: m}]\n";
    let gateway = Launch::new(policy).start().await;
    // Texts of one length, of which no window is known from another.
    let body = |at: usize| {
        let text =
            format!("number {at:02} is the powerhouse of the cell and every one knows it ").repeat(100);
        json!({"model": "auto", "messages": [{"role": "user", "content": text}]}).to_string()
    };
    let len = body(0).len();
    let ask = |client: reqwest::Client, id: &str, at: usize| {
        let request = client
            .post(gateway.url("/v1/chat/completions"))
            .header("x-request-id", id)
            .header("x-test-id", id);
        request.header("content-type", "application/json").body(body(at)).send()
    };
    let mut before = tokio::task::JoinSet::new();
    for at in 0..BEFORE_IT {
        before.spawn(ask(client(), &format!("before-{at}"), at));
    }
    // A request whose body is held has nothing left to do but to be classified.
    let read = async |many: usize| {
        let finished = gateway.metric("signalbox_requests_total", &[]).await;
        let held = gateway.metric("signalbox_buffered_bytes", &[]).await / len as f64;
        (finished + held.floor() >= many as f64).then_some(())
    };
    until("those before it", async || read(BEFORE_IT).await).await;
    for (at, (version, client)) in clients().into_iter().enumerate() {
        tokio::select! {
            response = ask(client, version, BEFORE_IT + at) => panic!("{response:?}"),
            () = until("the request", async || read(BEFORE_IT + at + 1).await) => {}
        }
        let line = gateway.line(version).await;
        let queued = gateway.metric("signalbox_classifier_queue", &[]).await;
        assert_eq!((&line["status"], &line["error"]), (&json!(499), &json!("client_closed")), "{line}");
        assert_eq!(line["request_bytes"], len);
        assert!(queued > 0.0, "its turn had not come yet");
    }
    before.abort_all();
    until("the end of all", async || {
        (gateway.metric("signalbox_requests_in_flight", &[]).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("signalbox_classifier_queue", &[]).await, 0.0, "nothing is left of them");
    let ids: Vec<_> = asked(&sim).iter().map(|seen| seen.headers["x-test-id"].clone()).collect();
    assert!(!ids.iter().any(|id| id == "h1" || id == "h2"), "{ids:?}");
    assert!(ids.len() < BEFORE_IT, "most of those before it left as well: {ids:?}");
}

#[tokio::test]
async fn a_client_that_stops_reading_does_not_hold_an_endpoint_for_ever() {
    let upstream = Upstream::start().await;
    let gateway =
        Launch::new(policy_of(&[upstream.addr()], "")).server("limits: {idle_timeout: 1s}\n").start().await;
    for (version, client) in clients() {
        let (sent, response) = tokio::join!(upstream.stream(), ask(&client, &gateway, version, true));
        let flood = tokio::spawn(sent.flood());
        assert_eq!(leased(&gateway).await, 1.0);
        until("the end of the lease", async || (leased(&gateway).await == 0.0).then_some(())).await;
        flood.await.unwrap();
        let line = gateway.line(version).await;
        assert_eq!(line["error"], "client_closed", "{line}");
        drop(response);
    }
}
