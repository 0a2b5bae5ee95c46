//! When and where a request is tried again, and when it must not be.

use crate::harness::*;
use crate::raw::*;
use signalbox::sim::Sim;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";

/// A policy of one pool that is asked in the order of its addresses, each of which is tried first until it fails.
fn in_order(addresses: &[SocketAddr], retry: &str, pool: &str) -> String {
    let mut endpoints = String::new();
    for (index, address) in addresses.iter().enumerate() {
        // The first of the heaviest is asked first; the others follow by weight.
        let weight = 1000 / 10_u32.pow(u32::try_from(index).unwrap()).max(1);
        write!(endpoints, "{{address: \"{address}\", weight: {}}}, ", weight.max(1)).unwrap();
    }
    format!(
        "version: 1\nretry: {{{retry}}}\nmodels:\n  m: {{pools: [main]}}\npools:\n  main:\n    endpoints: [{endpoints}]\n    balance: {{strategy: round_robin}}\n    health: {{enabled: false}}\n    ejection: {{consecutive_failures: 0}}\n{pool}"
    )
}

async fn failing(status: u16) -> Sim {
    let failing = sim("m").await;
    failing.set_faults(faults(|faults| faults.status = Some(status)));
    failing
}

/// The log line of the request that got this answer.
async fn line(gateway: &Gateway, answer: &Answer) -> serde_json::Value {
    gateway.line(answer.header("x-request-id")).await
}

#[tokio::test]
async fn another_endpoint_answers_for_one_that_cannot() {
    let good = sim("m").await;
    let refusing = Refusing::new();
    let resetting = sim("m").await;
    resetting.set_faults(faults(|faults| faults.reset_before_headers = 1.0));
    let dropping = sim("m").await;
    dropping.set_faults(faults(|faults| faults.refuse = true));
    let statuses = [failing(429).await, failing(502).await, failing(503).await, failing(504).await];
    let cases = [
        (refusing.addr, "connect"),
        (resetting.addr(), "reset"),
        // Its reset may come so early that the connection itself fails.
        (dropping.addr(), ""),
        (statuses[0].addr(), "429"),
        (statuses[1].addr(), "502"),
        (statuses[2].addr(), "503"),
        (statuses[3].addr(), "504"),
    ];
    let mut policy = "version: 1\nmodels:\n".to_owned();
    for at in 0..cases.len() {
        writeln!(policy, "  m{at}: {{pools: [p{at}], upstream_model: m}}").unwrap();
    }
    policy += "pools:\n";
    for (at, (bad, _)) in cases.iter().enumerate() {
        writeln!(
            policy,
            "  p{at}: {{endpoints: [{{address: \"{bad}\", weight: 1000}}, \"{}\"], balance: {{strategy: round_robin}}, health: {{enabled: false}}}}",
            good.addr()
        )
        .unwrap();
    }
    let gateway = Launch::new(policy).start().await;
    for (at, (_, cause)) in cases.iter().enumerate() {
        let answer = gateway.chat(&format!("m{at}"), "hi").await;
        assert_eq!(answer.status, 200, "{cause}: {}", answer.text);
        assert_eq!(answer.header("x-vsr-response-path"), "upstream");
        assert_eq!(answer.header("x-vsr-selected-model"), format!("m{at}"));
        let line = line(&gateway, &answer).await;
        assert_eq!((&line["tries"], &line["status"]), (&2.into(), &200.into()), "{line}");
        assert_eq!(line["endpoint"], good.addr().to_string());
        let labels = [format!("pool=\"p{at}\""), format!("cause=\"{cause}")];
        let retried = gateway.metric("signalbox_retries_total", &[&labels[0], &labels[1]]).await;
        assert_eq!(retried as u32, 1, "{labels:?}");
    }
    assert_eq!(asked(&good).len(), cases.len());
}

#[tokio::test]
async fn an_answer_that_is_final_is_not_asked_for_again() {
    let (bad, good) = (sim("m").await, sim("m").await);
    let policy = in_order(&[bad.addr(), good.addr()], "", "").replace("weight: 100}", "weight: 1}");
    let gateway = Launch::new(policy).start().await;
    for status in [400, 409, 413, 422, 501] {
        bad.set_faults(faults(|faults| faults.status = Some(status)));
        assert_eq!(gateway.chat("m", "hi").await.status, status);
    }
    assert_eq!((asked(&bad).len(), asked(&good).len()), (5, 0));
}

#[tokio::test]
async fn the_policy_says_what_is_worth_another_try() {
    let (bad, unavailable, good) = (failing(500).await, failing(503).await, sim("m").await);
    let refusing = Refusing::new();
    let gateway = Launch::new(in_order(&[bad.addr(), good.addr()], "on: [\"500\"]", "")).start().await;
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    let gateway =
        Launch::new(in_order(&[unavailable.addr(), good.addr()], "on: [connect]", "")).start().await;
    assert_eq!(gateway.chat("m", "hi").await.status, 503);
    let gateway = Launch::new(in_order(&[refusing.addr, good.addr()], "on: [reset]", "")).start().await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &"upstream_unreachable".into()));
    assert_eq!(asked(&good).len(), 1);
}

#[tokio::test]
async fn attempts_are_bounded_and_the_last_answer_passes_through() {
    let sims = [failing(503).await, failing(503).await, failing(503).await, failing(503).await];
    let addresses = sims.each_ref().map(Sim::addr);
    for (retry, attempts) in [("", 3), ("attempts: 1", 1), ("attempts: 9", 4)] {
        let before: usize = sims.iter().map(|sim| asked(sim).len()).sum();
        let gateway = Launch::new(in_order(&addresses, retry, "")).start().await;
        let answer = gateway.chat("m", "hi").await;
        assert_eq!((answer.status, answer.header("x-vsr-response-path")), (503, "upstream"));
        assert_eq!(answer.header("x-inference-pod"), "sim-0", "the upstream's own words: {}", answer.text);
        let after: usize = sims.iter().map(|sim| asked(sim).len()).sum();
        assert_eq!(after - before, attempts, "{retry}");
        assert_eq!(line(&gateway, &answer).await["tries"], attempts);
    }
}

#[tokio::test]
async fn what_fails_everywhere_says_so_without_naming_anybody() {
    let refusing = [Refusing::new(), Refusing::new()];
    let gateway = Launch::new(in_order(&refusing.each_ref().map(|one| one.addr), "", "")).start().await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &"upstream_unreachable".into()));
    assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    let resetting = Scripted::start(|_, _| Act::Close).await;
    let gateway = Launch::new(in_order(&[resetting.addr], "", "")).start().await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &"upstream_reset".into()));
    assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
}

#[tokio::test]
async fn nothing_is_tried_again_after_a_byte_was_sent() {
    let (dying, good) = (sim("m").await, sim("m").await);
    let gateway = Launch::new(in_order(&[dying.addr(), good.addr()], "", "")).start().await;
    for (stream, cut) in [(true, 2), (false, 1)] {
        dying.set_faults(faults(|faults| faults.reset_mid_stream = Some(cut)));
        let body = serde_json::json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "stream": stream,
        });
        let request = client().post(gateway.url(CHAT)).body(body.to_string());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(response.bytes().await.is_err(), "the answer is visibly cut off");
        let line = gateway.line(&id).await;
        assert_eq!((&line["tries"], &line["error"]), (&1.into(), &"upstream_reset".into()), "{line}");
    }
    assert_eq!(asked(&good).len(), 0);
}

#[tokio::test]
async fn retries_are_a_bounded_share_of_the_requests() {
    let sims = [failing(503).await, failing(503).await];
    let retry = "attempts: 2, budget: {share: 0.2, min_per_second: 0}";
    let gateway = Launch::new(in_order(&sims.each_ref().map(Sim::addr), retry, "")).start().await;
    for _ in 0..20 {
        assert_eq!(gateway.chat("m", "hi").await.status, 503);
    }
    let attempts: usize = sims.iter().map(|sim| asked(sim).len()).sum();
    assert_eq!(attempts, 24);
    gateway.counts("signalbox_retries_total", &["cause=\"503\""], 4.0).await;
}

#[tokio::test]
async fn fallback_pools_are_tried_in_their_order_each_with_its_own_name_for_the_model() {
    let refusing = Refusing::new();
    let (busy, last) = (sim("second").await, sim("org/third").await);
    busy.set_faults(faults(|faults| faults.status = Some(503)));
    let policy = format!(
        "version: 1\nmodels:\n  m:\n    upstream_model: first\n    pools: [one, {{pool: two, upstream_model: second}}, {{pool: three, upstream_model: org/third}}]\npools:\n  one: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n  two: {{endpoints: [\"{}\"], health: {{enabled: false}}, protocol: h2c}}\n  three: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n",
        refusing.addr,
        busy.addr(),
        last.addr()
    );
    let gateway = Launch::new(policy).start().await;
    let body = |model: &str| {
        format!("{{\"messages\": [{{\"role\":\"user\",\"content\":\"m\"}}] , \"model\" : \"{model}\"}}")
    };
    let answer = gateway.post(CHAT, body("m")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("x-vsr-selected-model"), "m");
    for (sim, model) in [(&busy, "second"), (&last, "org/third")] {
        let seen = &asked(sim)[0];
        assert_eq!(seen.body, body(model));
        assert_eq!(seen.headers["content-length"], body(model).len().to_string());
    }
    let line = line(&gateway, &answer).await;
    assert_eq!((&line["tries"], &line["pool"]), (&3.into(), &"three".into()), "{line}");
    busy.set_faults(faults(|_| {}));
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    assert_eq!((asked(&busy).len(), asked(&last).len()), (2, 1), "the second pool comes before the third");
}

#[tokio::test]
async fn the_last_try_goes_to_the_fallback_pool() {
    let own = [failing(503).await, failing(503).await, failing(503).await];
    let other = sim("m").await;
    let endpoints: Vec<String> = own.iter().map(|sim| format!("\"{}\"", sim.addr())).collect();
    let policy = format!(
        "version: 1\nmodels:\n  m: {{pools: [own, other]}}\npools:\n  own: {{endpoints: [{}], health: {{enabled: false}}}}\n  other: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n",
        endpoints.join(", "),
        other.addr()
    );
    let gateway = Launch::new(policy).start().await;
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    let tried: usize = own.iter().map(|sim| asked(sim).len()).sum();
    assert_eq!((tried, asked(&other).len()), (2, 1));
}

#[tokio::test]
async fn a_pooled_connection_that_has_gone_stale_is_replaced_by_a_new_one() {
    // Each connection serves one request and is closed at the next, as by a server's keep-alive timeout.
    let upstream = Scripted::start(|_, request| match request {
        0 => Act::Answer(answer("200 OK", "{}")),
        _ => Act::Close,
    })
    .await;
    let gateway = Launch::new(in_order(&[upstream.addr], "attempts: 1", "")).start().await;
    for _ in 0..4 {
        let answer = gateway.chat("m", "hi").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(line(&gateway, &answer).await["tries"], 1, "that is nobody's failure");
    }
    assert_eq!(gateway.metric("signalbox_retries_total", &[]).await as u32, 0);
}

#[tokio::test]
async fn many_connections_gone_stale_at_once_fail_nobody() {
    // Four requests at a time open four connections; all are closed at their second request.
    let upstream = Scripted::start(|_, request| match request {
        0 => Act::Answer(answer("200 OK", "{}")),
        _ => Act::Close,
    })
    .await;
    let gateway = Launch::new(in_order(&[upstream.addr], "attempts: 1", "")).start().await;
    for _ in 0..3 {
        let asked = (0..4).map(|_| gateway.chat("m", "hi"));
        for answer in futures::future::join_all(asked).await {
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_total_time_bounds_the_retries() {
    let sims =
        [failing(503).await, failing(503).await, failing(503).await, failing(503).await, failing(503).await];
    for sim in &sims {
        let stall = Some(Duration::from_millis(700));
        sim.set_faults(faults(|faults| (faults.status, faults.stall_before_headers) = (Some(503), stall)));
    }
    let policy = in_order(&sims.each_ref().map(Sim::addr), "attempts: 5", "    timeouts: {total: 1200ms}\n");
    let gateway = Launch::new(policy).start().await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &"upstream_timeout".into()));
    let line = line(&gateway, &answer).await;
    assert_eq!(line["tries"], 2, "{line}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_its_time_is_tried_elsewhere() {
    let (deaf, good) = (Deaf::start().await, sim("m").await);
    let timeouts = "    timeouts: {connect: 200ms}\n";
    let gateway = Launch::new(in_order(&[deaf.addr, good.addr()], "", timeouts)).start().await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(line(&gateway, &answer).await["tries"], 2);
    let gateway = Launch::new(in_order(&[deaf.addr], "", timeouts)).start().await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &"upstream_timeout".into()));
}

#[tokio::test]
async fn a_silent_upstream_is_given_up_after_its_time_and_not_asked_again_elsewhere() {
    let (silent, other) = (sim("m").await, sim("m").await);
    silent.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(60))));
    let policy = in_order(&[silent.addr(), other.addr()], "", "    timeouts: {first_byte: 200ms}\n");
    let gateway = Launch::new(policy).start().await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &"upstream_timeout".into()));
    assert_eq!(asked(&other).len(), 0, "the prompt may be half computed; asking again would double the load");
    until("the silent one's release", async || {
        (asked(&silent)[0].outcome == signalbox::sim::SimOutcome::Aborted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pool_that_fails_spends_no_other_pools_retries() {
    let bad = [failing(503).await, failing(503).await];
    let (resetting, good) = (sim("m").await, sim("m").await);
    resetting.set_faults(faults(|faults| faults.reset_before_headers = 1.0));
    let pool = |addresses: [SocketAddr; 2]| {
        let [one, two] = addresses;
        format!(
            "{{endpoints: [\"{one}\", \"{two}\"], balance: {{strategy: round_robin}}, health: {{enabled: false}}, \
             ejection: {{consecutive_failures: 0}}}}"
        )
    };
    let policy = format!(
        "version: 1\nretry: {{attempts: 2, budget: {{share: 0, min_per_second: 1}}}}\nmodels:\n  bad: {{pools: [bad], \
         upstream_model: m}}\n  m: {{pools: [well]}}\npools:\n  bad: {}\n  well: {}\n",
        pool(bad.each_ref().map(Sim::addr)),
        pool([resetting.addr(), good.addr()])
    );
    let gateway = Launch::new(policy).start().await;
    let began = std::time::Instant::now();
    for _ in 0..30 {
        assert_eq!(gateway.chat("bad", "hi").await.status, 503);
    }
    for _ in 0..8 {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
    }
    let spent = gateway.metric("signalbox_retries_total", &["pool=\"bad\""]).await;
    // Ten in ten seconds, of which one may have passed meanwhile.
    assert!(spent == 10.0 || began.elapsed() > Duration::from_secs(9), "{spent} retries");
    assert!(gateway.metric("signalbox_retries_total", &["pool=\"well\""]).await >= 4.0);
}
