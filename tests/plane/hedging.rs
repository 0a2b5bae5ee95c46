//! A request that owes its first byte is sent to a second endpoint too, where the pool does that.

use crate::harness::*;
use crate::streaming::{ask, last_event, leased, read};
use crate::upstream::Upstream;
use serde_json::{Value, json};
use signalbox::sim::{Sim, SimOutcome};
use std::net::SocketAddr;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(600);

/// The first address is asked first.
fn policy(first: SocketAddr, second: SocketAddr, hedge: &str) -> String {
    format!(
        "version: 1\nmodels:\n  m: {{pools: [main]}}\npools:\n  main:\n    \
         endpoints: [{{address: \"{first}\", weight: 1000}}, \"{second}\"]\n    balance: {{strategy: round_robin}}\n    \
         health: {{enabled: false}}\n    hedge: {{{hedge}}}\n"
    )
}

const SOON: &str = "after: 100ms, share: 1";

/// A sim that sends the head of a stream at once, and its first token never.
async fn slow() -> Sim {
    sim_with("m", |options| options.latency.ttft = LONG).await
}

fn body(more: &Value) -> String {
    let mut body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    body.to_string()
}

async fn stream(gateway: &Gateway, more: Value) -> Answer {
    gateway.post("/v1/chat/completions", body(&more)).await
}

fn is_whole(answer: &Answer) -> bool {
    answer.status == 200 && answer.text.starts_with("data: {") && answer.text.ends_with("data: [DONE]\n\n")
}

async fn nothing_is_left(gateway: &Gateway) {
    until("the end of all leases", async || (leased(gateway).await == 0.0).then_some(())).await;
}

async fn aborted(sim: &Sim) {
    let all = async || asked(sim).iter().all(|seen| seen.outcome == SimOutcome::Aborted).then_some(());
    until("the end of what was asked in vain", all).await;
}

#[tokio::test]
async fn the_second_endpoint_answers_for_a_slow_first_whose_connection_is_closed() {
    let good = sim("m").await;
    for says_head in [true, false] {
        let bad = if says_head { slow().await } else { sim("m").await };
        bad.set_faults(faults(|faults| faults.stall_before_headers = (!says_head).then_some(LONG)));
        let gateway = Launch::new(policy(bad.addr(), good.addr(), SOON)).start().await;
        let answer = stream(&gateway, json!({})).await;
        assert!(is_whole(&answer), "{says_head}: {answer:?}");
        assert_eq!(answer.header("x-hedged"), "second");
        let line = gateway.line(answer.header("x-request-id")).await;
        assert_eq!((&line["tries"], &line["endpoint"]), (&json!(1), &json!(good.addr())), "{line}");
        assert_eq!((&line["error"], &line["hedged"]), (&Value::Null, &json!("second")), "{line}");
        aborted(&bad).await;
        nothing_is_left(&gateway).await;
        for result in ["started", "won"] {
            gateway.counts("signalbox_hedges_total", &[&format!("result=\"{result}\"")], 1.0).await;
        }
        assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0);
        assert_eq!(gateway.metric("signalbox_retries_total", &[]).await, 0.0);
    }
    let seen = asked(&good);
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].headers["host"], good.addr().to_string(), "it is asked by its own name");
    assert_eq!(&seen[0].body[..], body(&json!({})).as_bytes());
}

#[tokio::test]
async fn without_hedge_and_for_what_comes_in_time_one_endpoint_is_asked() {
    let late = Duration::from_millis(300);
    let (first, second) = (sim_with("m", |options| options.latency.ttft = late).await, sim("m").await);
    let hedged = policy(first.addr(), second.addr(), "after: 60s, share: 1");
    let gateway = Launch::new(hedged.replace("    hedge: {after: 60s, share: 1}\n", "")).start().await;
    let answer = stream(&gateway, json!({})).await;
    assert!(is_whole(&answer) && answer.header("x-hedged").is_empty(), "{answer:?}");
    let gateway = Launch::new(hedged).start().await;
    let answer = stream(&gateway, json!({})).await;
    assert!(is_whole(&answer) && answer.header("x-hedged").is_empty(), "{answer:?}");
    assert_eq!((asked(&first).len(), asked(&second).len()), (2, 0));
    assert_eq!(asked(&first)[1].headers["connection"], "close", "it is not kept for another request");
}

#[tokio::test]
async fn the_first_endpoint_answers_where_the_second_is_slower_yet() {
    let late = Duration::from_millis(400);
    let (first, second) = (sim_with("m", |options| options.latency.ttft = late).await, slow().await);
    let gateway = Launch::new(policy(first.addr(), second.addr(), SOON)).start().await;
    let answer = stream(&gateway, json!({})).await;
    assert!(is_whole(&answer), "{answer:?}");
    assert_eq!(answer.header("x-hedged"), "first");
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!(line["endpoint"], json!(first.addr()), "{line}");
    aborted(&second).await;
    nothing_is_left(&gateway).await;
    gateway.counts("signalbox_hedges_total", &["result=\"started\""], 1.0).await;
    assert_eq!(gateway.metric("signalbox_hedges_total", &["result=\"won\""]).await, 0.0);
}

#[tokio::test]
async fn what_is_kept_is_long_or_comes_whole_is_never_sent_twice() {
    let late = Duration::from_millis(300);
    let (first, second) = (sim_with("m", |options| options.latency.ttft = late).await, sim("m").await);
    let gateway =
        Launch::new(policy(first.addr(), second.addr(), "after: 50ms, share: 1, max_body_bytes: 2KiB"))
            .start()
            .await;
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(1_000)}]});
    let alone = [long, json!({"stream": false}), json!({"store": true}), json!({"background": true})];
    for more in &alone {
        assert_eq!(stream(&gateway, more.clone()).await.status, 200, "{more}");
    }
    let kept = json!({"model": "m", "stream": true, "input": "hi"}).to_string();
    assert_eq!(gateway.post("/v1/responses", kept).await.status, 200);
    assert_eq!((asked(&first).len(), asked(&second).len()), (alone.len() + 1, 0));
    let free = json!({"model": "m", "stream": true, "input": "hi", "store": false}).to_string();
    assert_eq!(gateway.post("/v1/responses", free).await.status, 200);
}

#[tokio::test]
async fn a_delay_by_what_was_measured_is_learnt_from_requests_that_go_to_one_endpoint() {
    let (first, second) = (sim("m").await, sim("m").await);
    let measured = "percentile: 0.5, after: 50ms, share: 1";
    let gateway = Launch::new(policy(first.addr(), second.addr(), measured)).start().await;
    for _ in 0..10 {
        let answers = futures::future::join_all((0..10).map(|_| stream(&gateway, json!({})))).await;
        assert!(answers.iter().all(is_whole), "{answers:?}");
    }
    let sent_twice = gateway.metric("signalbox_hedges_total", &["result=\"started\""]).await;
    first.set_faults(faults(|faults| faults.stall_before_headers = Some(LONG)));
    let answer = stream(&gateway, json!({})).await;
    assert!(is_whole(&answer) && answer.header("x-hedged") == "second", "{answer:?}");
    gateway.counts("signalbox_hedges_total", &["result=\"started\""], sent_twice + 1.0).await;
}

#[tokio::test]
async fn embeddings_are_sent_twice_though_they_come_whole() {
    let (bad, good) = (Upstream::start().await, sim("m").await);
    let gateway = Launch::new(policy(bad.addr(), good.addr(), SOON)).start().await;
    let request = json!({"model": "m", "input": "hi"}).to_string();
    let (mut asked, answer) = tokio::join!(bad.call(), gateway.post("/v1/embeddings", request));
    assert_eq!((answer.status, answer.header("x-hedged")), (200, "second"), "{}", answer.text);
    asked.closed().await;
}

#[tokio::test]
async fn beyond_the_budget_and_beyond_so_many_at_a_time_requests_wait_where_they_are() {
    let late = Duration::from_millis(700);
    for (hedge, sent_twice) in [("after: 100ms, share: 0.25", 2), ("after: 100ms, share: 1, at_most: 3", 3)] {
        let first = sim_with("m", |options| options.latency.ttft = late).await;
        let second = slow().await;
        let gateway = Launch::new(policy(first.addr(), second.addr(), hedge)).start().await;
        let answers = futures::future::join_all((0..8).map(|_| stream(&gateway, json!({})))).await;
        assert!(answers.iter().all(is_whole), "{answers:?}");
        assert_eq!((asked(&first).len(), asked(&second).len()), (8, sent_twice), "{hedge}");
        let refused = 8.0 - sent_twice as f64;
        gateway.counts("signalbox_hedges_total", &["result=\"over_budget\""], refused).await;
        nothing_is_left(&gateway).await;
    }
}

#[tokio::test]
async fn without_another_endpoint_a_slow_one_is_waited_for() {
    let slow = sim_with("m", |options| options.latency.ttft = Duration::from_millis(500)).await;
    let other = sim("m").await;
    let gateway = Launch::new(
        policy(slow.addr(), other.addr(), SOON)
            .replace("\"]", "\", weight: 0}]")
            .replace(&format!(", \"{}", other.addr()), &format!(", {{address: \"{}", other.addr())),
    )
    .start()
    .await;
    assert!(is_whole(&stream(&gateway, json!({})).await));
    gateway.counts("signalbox_hedges_total", &["result=\"no_endpoint\""], 1.0).await;
    assert_eq!(asked(&other).len(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_ends_both() {
    let sims = [slow().await, slow().await];
    let gateway = Launch::new(policy(sims[0].addr(), sims[1].addr(), SOON)).start().await;
    let both = async || sims.iter().all(|sim| asked(sim).len() == 1).then_some(());
    tokio::select! {
        answer = stream(&gateway, json!({})) => panic!("{answer:?}"),
        () = until("the request at both", both) => {}
    }
    for sim in &sims {
        aborted(sim).await;
    }
    nothing_is_left(&gateway).await;
    gateway.counts("signalbox_requests_total", &["status=\"499\""], 1.0).await;
}

#[tokio::test]
async fn a_refusal_does_not_beat_an_answer_that_is_still_to_come() {
    let late = Duration::from_millis(500);
    let (first, busy) = (sim_with("m", |options| options.latency.ttft = late).await, sim("m").await);
    busy.set_faults(faults(|faults| faults.status = Some(503)));
    let gateway = Launch::new(policy(first.addr(), busy.addr(), SOON)).start().await;
    let answer = stream(&gateway, json!({})).await;
    assert!(is_whole(&answer), "{answer:?}");
    assert_eq!((answer.header("x-hedged"), asked(&busy).len()), ("first", 1));
    nothing_is_left(&gateway).await;
}

#[tokio::test]
async fn where_both_fail_the_request_is_tried_elsewhere() {
    let (first, second, good) = (Upstream::start().await, Upstream::start().await, sim("m").await);
    let text = policy(first.addr(), second.addr(), SOON).replace(
        &format!("\"{}\"]", second.addr()),
        &format!("{{address: \"{}\", weight: 100}}, \"{}\"]", second.addr(), good.addr()),
    );
    let gateway = Launch::new(text).start().await;
    let fail = async {
        let (one, other) = (first.call().await, second.call().await);
        assert!(one.head.contains(&format!("host: {}", first.addr())), "{}", one.head);
        assert!(other.head.contains(&format!("host: {}", second.addr())), "{}", other.head);
        assert_eq!(one.body, other.body);
        one.reset();
        other.reset();
    };
    let ((), answer) = tokio::join!(fail, stream(&gateway, json!({})));
    assert!(is_whole(&answer), "{answer:?}");
    assert_eq!((asked(&good).len(), answer.header("x-hedged")), (1, ""), "it was asked alone at last");
    nothing_is_left(&gateway).await;
}

#[tokio::test]
async fn an_endpoint_that_is_taken_out_amid_a_race_leaves_it_to_the_other() {
    let (bad, second, third) = (slow().await, sim("m").await, sim("m").await);
    // Longer than a request takes to notice that its endpoint is out.
    second.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_millis(2_500))));
    let text = policy(bad.addr(), second.addr(), SOON)
        .replace(
            &format!("\"{}\"]", second.addr()),
            &format!("{{address: \"{}\", weight: 100}}, \"{}\"]", second.addr(), third.addr()),
        )
        .replace("health: {enabled: false}", "health: {interval: 100ms, unhealthy_after: 1}");
    let gateway = Launch::new(text).start().await;
    let taken_out = async {
        until("the request at both", async || (asked(&bad).len() + asked(&second).len() == 2).then_some(()))
            .await;
        bad.set_faults(faults(|faults| faults.unhealthy = true));
    };
    let (answer, ()) = tokio::join!(stream(&gateway, json!({})), taken_out);
    assert!(is_whole(&answer), "{answer:?}");
    assert_eq!((answer.header("x-hedged"), asked(&third).len()), ("second", 0));
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!((&line["tries"], &line["endpoint"]), (&json!(1), &json!(second.addr())), "{line}");
    nothing_is_left(&gateway).await;
}

#[tokio::test]
async fn a_winner_that_dies_in_mid_stream_ends_the_stream_as_any_other_does() {
    let (bad, dying) = (slow().await, Upstream::start().await);
    let gateway = Launch::new(policy(bad.addr(), dying.addr(), SOON)).start().await;
    let client = client();
    let (mut sent, mut got) = tokio::join!(
        async {
            let mut sent = dying.stream().await;
            sent.chunk(b"data: {\"n\":1}\n\n").await;
            sent
        },
        ask(&client, &gateway, "dies", true)
    );
    assert_eq!(got.headers()["x-hedged"], "second");
    assert_eq!(got.chunk().await.unwrap().unwrap(), "data: {\"n\":1}\n\n");
    sent.chunk(b"data: {\"n\":2}\n\n").await;
    assert_eq!(got.chunk().await.unwrap().unwrap(), "data: {\"n\":2}\n\n");
    sent.reset();
    let (rest, _) = read(&mut got).await;
    assert_eq!(last_event(&rest)["error"]["code"], "upstream_reset", "{rest}");
    let line = gateway.line("dies").await;
    assert_eq!(
        (&line["endpoint"], &line["error"]),
        (&json!(dying.addr()), &json!("upstream_reset")),
        "{line}"
    );
    aborted(&bad).await;
}

#[tokio::test]
async fn an_endpoint_that_keeps_losing_is_left_out_as_slow() {
    let (quick, other) = (sim("m").await, sim("m").await);
    let bad = slow().await;
    let text = policy(bad.addr(), quick.addr(), "after: 1500ms, share: 1, at_most: 100")
        .replace("weight: 1000", "weight: 1")
        .replace(&format!("\"{}\"]", quick.addr()), &format!("\"{}\", \"{}\"]", quick.addr(), other.addr()))
        + "    ejection: {slow_factor: 3}\n";
    let gateway = Launch::new(text).start().await;
    for _ in 0..4 {
        let answers = futures::future::join_all((0..36).map(|_| stream(&gateway, json!({})))).await;
        assert!(answers.iter().all(is_whole));
        if gateway.metric("signalbox_ejections_total", &["cause=\"latency\""]).await > 0.0 {
            return;
        }
    }
    panic!("it is still there: {}", gateway.admin("/metrics").await.text);
}

#[tokio::test]
async fn a_large_request_reaches_the_second_though_the_first_takes_none_of_it() {
    let good = sim_with("m", |options| {
        (options.capacity.max_model_len, options.capacity.kv_blocks) = (4_000_000, 400_000);
    })
    .await;
    // Nothing reads what it is sent: its buffers fill up.
    let stuck = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = stuck.local_addr().unwrap();
    let gateway =
        Launch::new(policy(addr, good.addr(), "after: 100ms, share: 1, max_body_bytes: 32MiB")).start().await;
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(1_600_000)}], "max_tokens": 4});
    let answer = stream(&gateway, long.clone()).await;
    assert!(is_whole(&answer), "{}", &answer.text[..answer.text.len().min(400)]);
    assert_eq!(answer.header("x-hedged"), "second");
    assert_eq!(asked(&good)[0].body.len(), body(&long).len());
    nothing_is_left(&gateway).await;
}
