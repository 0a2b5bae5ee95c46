//! A stream that gives nothing is asked for elsewhere while it could still come, where the policy wants that.

use crate::harness::*;
use crate::streaming::leased;
use crate::upstream::Upstream;
use serde_json::{Value, json};
use signalbox::sim::{Sim, SimOutcome};
use std::net::SocketAddr;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(600);

/// The first address is asked first.
fn policy(first: SocketAddr, second: SocketAddr, reissue: &str, protocol: &str) -> String {
    format!(
        "version: 1\nretry: {{reissue: {{{reissue}}}}}\nmodels:\n  m: {{pools: [main]}}\npools:\n  main:\n    \
         endpoints: [{{address: \"{first}\", weight: 1000}}, \"{second}\"]\n    balance: {{strategy: round_robin}}\n    \
         health: {{enabled: false}}\n    protocol: {protocol}\n"
    )
}

/// A sim that sends the head of a stream at once, and its first token never.
async fn slow() -> Sim {
    sim_with("m", |options| options.latency.ttft = LONG).await
}

async fn stream(gateway: &Gateway, more: Value) -> Answer {
    let mut body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    gateway.post("/v1/chat/completions", body.to_string()).await
}

fn is_whole(answer: &Answer) -> bool {
    answer.status == 200 && answer.text.starts_with("data: {") && answer.text.ends_with("data: [DONE]\n\n")
}

#[tokio::test]
async fn a_stream_that_gives_no_byte_in_time_is_answered_by_another_endpoint() {
    for protocol in ["http1", "h2c"] {
        for says_head in [true, false] {
            let good = sim("m").await;
            let bad = if says_head { slow().await } else { sim("m").await };
            bad.set_faults(faults(|faults| faults.stall_before_headers = (!says_head).then_some(LONG)));
            let policy = policy(bad.addr(), good.addr(), "after: 300ms, share: 1", protocol);
            let guards = "guards: {answer: {words: [nothing like it]}}\n";
            for policy in [policy.clone(), policy + guards] {
                let gateway = Launch::new(policy).start().await;
                let answer = stream(&gateway, json!({})).await;
                assert!(is_whole(&answer), "{protocol} {says_head}: {answer:?}");
                let line = gateway.line(answer.header("x-request-id")).await;
                assert_eq!((&line["tries"], &line["endpoint"]), (&json!(2), &json!(good.addr())), "{line}");
                assert_eq!((&line["error"], &line["reissued"]), (&Value::Null, &json!(true)), "{line}");
                assert_eq!(answer.header("x-reissued"), "true");
                gateway.counts("signalbox_retries_total", &["cause=\"slow\""], 1.0).await;
                until("the end of the first", async || (leased(&gateway).await == 0.0).then_some(())).await;
                assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0);
            }
            until("its end upstream", async || {
                asked(&bad).iter().all(|seen| seen.outcome == SimOutcome::Aborted).then_some(())
            })
            .await;
            assert_eq!((asked(&bad).len(), asked(&good).len()), (2, 2));
        }
    }
}

#[tokio::test]
async fn what_comes_whole_is_kept_or_comes_in_time_is_never_asked_for_twice() {
    let (first, second) =
        (sim_with("m", |options| options.latency.ttft = Duration::from_millis(700)).await, sim("m").await);
    let gateway =
        Launch::new(policy(first.addr(), second.addr(), "after: 200ms, share: 1", "http1")).start().await;
    let kept = [json!({"stream": false}), json!({"store": true}), json!({"background": true})];
    for more in &kept {
        let answer = stream(&gateway, more.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!((asked(&first).len(), asked(&second).len()), (kept.len(), 0));
    let gateway = Launch::new(policy(first.addr(), second.addr(), "after: 60s", "http1")).start().await;
    assert!(is_whole(&stream(&gateway, json!({})).await));
    assert_eq!(asked(&second).len(), 0);
}

#[tokio::test]
async fn beyond_the_budget_streams_wait_where_they_are() {
    let (first, second) =
        (sim_with("m", |options| options.latency.ttft = Duration::from_millis(700)).await, sim("m").await);
    let gateway =
        Launch::new(policy(first.addr(), second.addr(), "after: 100ms, share: 0.25", "http1")).start().await;
    let asked_for = (0..8).map(|_| stream(&gateway, json!({})));
    for answer in futures::future::join_all(asked_for).await {
        assert!(is_whole(&answer), "{answer:?}");
    }
    assert_eq!((asked(&first).len(), asked(&second).len()), (8, 2), "a quarter of eight");
}

#[tokio::test]
async fn without_another_endpoint_a_slow_stream_is_waited_for() {
    let slow = sim_with("m", |options| options.latency.ttft = Duration::from_millis(600)).await;
    let policy = policy(slow.addr(), slow.addr(), "after: 100ms, share: 1", "http1");
    let gateway = Launch::new(policy.replace(&format!(", \"{}\"]", slow.addr()), "]")).start().await;
    assert!(is_whole(&stream(&gateway, json!({})).await));
    assert_eq!(asked(&slow).len(), 1);
}

#[tokio::test]
async fn an_upstream_that_dies_between_the_head_and_the_first_byte_is_replaced_by_another() {
    let (dying, good) = (Upstream::start().await, sim("m").await);
    let policy = policy(dying.addr(), good.addr(), "after: 60s", "http1");
    let gateway = Launch::new(policy).start().await;
    let (call, answer) = tokio::join!(async { dying.stream().await.reset() }, stream(&gateway, json!({})));
    let () = call;
    assert!(is_whole(&answer), "{answer:?}");
    gateway.counts("signalbox_retries_total", &["cause=\"reset\""], 1.0).await;
}

#[tokio::test]
async fn a_stream_that_is_late_everywhere_is_answered_with_504() {
    let sims = [slow().await, slow().await];
    let text = policy(sims[0].addr(), sims[1].addr(), "after: 100ms, share: 1", "http1")
        + "    timeouts: {first_byte: 700ms}\n";
    let gateway = Launch::new(text).start().await;
    let answer = stream(&gateway, json!({})).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (504, Some("upstream_timeout")));
    assert_eq!(sims.each_ref().map(|sim| asked(sim).len()), [1, 1]);
}
