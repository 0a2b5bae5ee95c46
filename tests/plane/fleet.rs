//! One of four replicas dies, stalls, resets or is slow while clients stream; and hundreds of clients leave at once.

use crate::harness::*;
use crate::streaming::leased;
use serde_json::json;
use signalbox::sim::{Faults, Sim};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    Whole,
    /// By an error event after it had begun.
    Broken,
}

async fn replica(number: usize) -> Sim {
    sim_with("m", |options| {
        options.pod = format!("pod-{number}");
        options.latency.itl = Duration::from_millis(1);
    })
    .await
}

fn body(tokens: usize) -> String {
    json!({"model": "m", "stream": true, "max_tokens": tokens, "messages": [{"role": "user", "content": "hi"}]})
        .to_string()
}

/// Streams once; any other end than these fails the test.
async fn stream(client: &reqwest::Client, url: &str) -> StreamEnd {
    let mut response = client.post(url).body(body(16)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut text = String::new();
    while let Ok(Some(piece)) = response.chunk().await {
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    if text.ends_with("data: [DONE]\n\n") {
        return StreamEnd::Whole;
    }
    assert!(
        text.contains("\"content\"") && text.contains("\"error\""),
        "neither whole nor told to be broken: {text}"
    );
    StreamEnd::Broken
}

/// Clients that stream without a pause, until they are told to end; they give how their streams ended.
fn streaming_clients(gateway: &Gateway, count: usize) -> (Arc<AtomicBool>, JoinSet<Vec<StreamEnd>>) {
    let (is_over, mut clients) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for _ in 0..count {
        let (is_over, client, url) = (Arc::clone(&is_over), client(), gateway.url("/v1/chat/completions"));
        clients.spawn(async move {
            let mut ends = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                ends.push(stream(&client, &url).await);
            }
            ends
        });
    }
    (is_over, clients)
}

async fn ends_of(is_over: &AtomicBool, clients: JoinSet<Vec<StreamEnd>>) -> Vec<StreamEnd> {
    is_over.store(true, Ordering::Relaxed);
    clients.join_all().await.into_iter().flatten().collect()
}

/// Waits until so many more requests have ended.
async fn more_requests(gateway: &Gateway, count: f64) {
    let before = gateway.metric("signalbox_requests_total", &[]).await;
    until("more requests", async || {
        (gateway.metric("signalbox_requests_total", &[]).await >= before + count).then_some(())
    })
    .await;
}

async fn nothing_is_left(gateway: &Gateway, sims: &[Sim]) {
    until("no lease", async || (leased(gateway).await == 0.0).then_some(())).await;
    gateway.counts("signalbox_requests_in_flight", &[], 0.0).await;
    until("nothing on the replicas", async || sims.iter().all(|sim| sim.running() == 0).then_some(())).await;
}

async fn start(sims: &[Sim]) -> Gateway {
    let addresses: Vec<_> = sims.iter().map(Sim::addr).collect();
    let more = "    health: {interval: 500ms, timeout: 10s}\n    timeouts: {first_byte: 10s}\n\
                retry: {budget: {share: 1, min_per_second: 100}, reissue: {after: 300ms, share: 1}}\n";
    Launch::new(policy_of(&addresses, more).replacen("    health: {enabled: false}\n", "", 1)).start().await
}

#[tokio::test]
async fn one_of_four_replicas_may_reset_stall_or_be_slow_and_no_client_hears_of_it() {
    let sims = [replica(0).await, replica(1).await, replica(2).await, replica(3).await];
    let gateway = start(&sims).await;
    let (is_over, clients) = streaming_clients(&gateway, 12);
    more_requests(&gateway, 60.0).await;
    let troubles: [fn(&mut Faults); 4] = [
        |faults| faults.reset_before_headers = 1.0,
        |faults| faults.stall_before_headers = Some(Duration::from_secs(600)),
        |faults| faults.stall_before_headers = Some(Duration::from_millis(150)),
        |faults| faults.refuse = true,
    ];
    for (sim, trouble) in sims.iter().zip(troubles) {
        sim.set_faults(faults(trouble));
        more_requests(&gateway, 80.0).await;
        sim.set_faults(faults(|_| {}));
        more_requests(&gateway, 20.0).await;
    }
    let ends = ends_of(&is_over, clients).await;
    assert_eq!(ends.iter().filter(|end| **end == StreamEnd::Broken).count(), 0, "of {}", ends.len());
    assert!(ends.len() > 400, "{}", ends.len());
    nothing_is_left(&gateway, &sims).await;
}

#[tokio::test]
async fn a_replica_that_dies_breaks_the_streams_that_it_had_begun_and_no_others() {
    let mut sims = vec![replica(0).await, replica(1).await, replica(2).await, replica(3).await];
    let gateway = start(&sims).await;
    let (is_over, clients) = streaming_clients(&gateway, 12);
    more_requests(&gateway, 60.0).await;
    let dead = sims.remove(1);
    // What it has at that moment, and what is on its way there.
    let had = dead.running() + 12;
    dead.stop().await;
    more_requests(&gateway, 200.0).await;
    let ends = ends_of(&is_over, clients).await;
    let broken = ends.iter().filter(|end| **end == StreamEnd::Broken).count();
    assert!(broken <= had && ends.len() >= 260, "{broken} of {}, it had {had}", ends.len());
    nothing_is_left(&gateway, &sims).await;
}

#[tokio::test]
async fn hundreds_of_clients_that_leave_in_mid_stream_leave_nothing_behind() {
    let sims = [replica(0).await, replica(1).await, replica(2).await, replica(3).await];
    for sim in &sims {
        sim.set_faults(faults(|faults| faults.stall_mid_stream = Some(Duration::from_secs(600))));
    }
    let gateway = start(&sims).await;
    let mut clients = JoinSet::new();
    for _ in 0..400 {
        let request = client().post(gateway.url("/v1/chat/completions")).body(body(100));
        clients.spawn(async move {
            let mut response = request.send().await.unwrap();
            assert!(response.chunk().await.unwrap().is_some());
            response
        });
    }
    let streams: Vec<_> = clients.join_all().await;
    assert_eq!(leased(&gateway).await, 400.0);
    drop(streams);
    nothing_is_left(&gateway, &sims).await;
    gateway.counts("signalbox_connections", &[], 0.0).await;
    gateway.counts("signalbox_rejections_total", &["code=\"client_closed\""], 400.0).await;
    assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0);
}
