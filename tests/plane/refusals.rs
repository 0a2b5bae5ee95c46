//! What one endpoint refuses, another is asked for; and no client makes an endpoint look bad to the others.

use crate::harness::*;
use crate::raw::*;
use serde_json::{Value, json};
use signalbox::sim::Sim;
use std::net::SocketAddr;

async fn failing(status: u16) -> Sim {
    let failing = sim("m").await;
    failing.set_faults(faults(|faults| faults.status = Some(status)));
    failing
}

fn addresses(bad: SocketAddr, good: &[Sim]) -> Vec<SocketAddr> {
    std::iter::once(bad).chain(good.iter().map(Sim::addr)).collect()
}

/// Asks so many times in turn; gives how many answers had each of these statuses.
async fn statuses<const N: usize>(gateway: &Gateway, count: usize, statuses: [u16; N]) -> [usize; N] {
    let mut counts = [0; N];
    for _ in 0..count {
        let status = gateway.chat("m", "hi").await.status;
        counts[statuses.iter().position(|known| *known == status).expect("one of them")] += 1;
    }
    counts
}

#[tokio::test]
async fn an_endpoint_that_refuses_does_not_attract_the_traffic() {
    // The retries of ten seconds; a budget that refusals spend would be gone at once.
    let budget = "retry: {budget: {share: 0, min_per_second: 1}}\n";
    for (status, most) in [(401, 2), (403, 2), (404, 2), (429, 7), (500, 6), (502, 6), (503, 6), (529, 7)] {
        let bad = failing(status).await;
        let good = [sim("m").await, sim("m").await, sim("m").await];
        let gateway = Launch::new(policy_of(&addresses(bad.addr(), &good), budget)).start().await;
        assert_eq!(statuses(&gateway, 80, [200, status]).await, [80, 0], "{status}");
        let refused = asked(&bad).len();
        assert!((1..=most).contains(&refused), "{status}: {refused} of 80 went there");
    }
}

#[tokio::test]
async fn an_endpoint_that_says_when_is_asked_again_then_and_not_before() {
    let busy = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\ncontent-length: 2\r\n\r\n{}";
    let bad = Scripted::start(move |_, _| Act::Answer(busy.into())).await;
    let good = [sim("m").await];
    let gateway = Launch::new(policy_of(&addresses(bad.addr, &good), "")).start().await;
    let began = std::time::Instant::now();
    until("more than the first pauses of one who says nothing", async || {
        assert_eq!(gateway.chat("m", "hi").await.status, 200);
        (began.elapsed().as_secs() >= 2).then_some(())
    })
    .await;
    assert_eq!(bad.requests().len(), 1);
}

#[tokio::test]
async fn a_model_that_one_endpoint_lacks_is_left_out_there_for_that_model_alone() {
    let (of_m, of_other) = (sim("m").await, sim("other").await);
    let endpoints = format!("[\"{}\", \"{}\"]", of_m.addr(), of_other.addr());
    let policy = format!(
        "version: 1\nmodels: {{m: {{pools: [p]}}, other: {{pools: [p]}}}}\n\
         pools: {{p: {{endpoints: {endpoints}, health: {{enabled: false}}}}}}\n"
    );
    let gateway = Launch::new(policy).start().await;
    for _ in 0..20 {
        for model in ["m", "other"] {
            assert_eq!(gateway.chat(model, "hi").await.status, 200, "{model}");
        }
    }
    for sim in [&of_m, &of_other] {
        let seen = asked(sim).len();
        assert!((20..=21).contains(&seen), "{seen}: its own, and once the other's");
    }
}

#[tokio::test]
async fn what_every_endpoint_refuses_is_the_requests_own_fault() {
    for status in [401, 403, 404, 500] {
        let sims = [failing(status).await, failing(status).await, failing(status).await];
        let more = "    ejection: {consecutive_failures: 1, max_share: 1}\n";
        let gateway = Launch::new(policy_of(&sims.each_ref().map(Sim::addr), more)).start().await;
        assert_eq!(statuses(&gateway, 60, [status]).await, [60]);
        let seen: usize = sims.iter().map(|sim| asked(sim).len()).sum();
        let compared = seen - 60;
        assert!(
            (1..=30).contains(&compared),
            "{status}: a provoked refusal doubles few requests, not {compared}"
        );
        assert_eq!(gateway.metric("signalbox_ejections_total", &[]).await, 0.0, "{status}");
        for sim in &sims {
            sim.set_faults(faults(|_| {}));
        }
        assert_eq!(statuses(&gateway, 6, [200]).await, [6], "{status}: nobody else pays for it");
    }
}

#[tokio::test]
async fn of_many_requests_at_once_none_hears_the_refusal_of_one_replica() {
    for bad in [1, 2] {
        let sims = [sim("m").await, sim("m").await, sim("m").await, sim("m").await];
        let gateway = Launch::new(policy_of(&sims.each_ref().map(Sim::addr), "")).start().await;
        assert_eq!(statuses(&gateway, 8, [200]).await, [8]);
        for sim in &sims[..bad] {
            sim.set_faults(faults(|faults| faults.status = Some(404)));
        }
        let asked_at_once = (0..200).map(|_| gateway.chat("m", "hi"));
        for answer in futures::future::join_all(asked_at_once).await {
            assert_eq!(answer.status, 200, "{bad} of four refuse: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_response_that_one_replica_alone_has_makes_no_other_look_as_if_it_lacked_the_model() {
    let found = r#"{"id":"resp_2","object":"response","status":"completed","output":[]}"#;
    let unknown = r#"{"error":{"message":"Response with id 'resp_1' not found."}}"#;
    let owner = Scripted::start(move |_, _| Act::Answer(answer("200 OK", found))).await;
    let other = Scripted::start(move |_, _| Act::Answer(answer("404 Not Found", unknown))).await;
    let gateway = Launch::new(policy_of(&[other.addr, owner.addr], "")).start().await;
    let ask = async |more: Value| {
        let mut body = json!({"model": "m", "input": "hi"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        gateway.post("/v1/responses", body.to_string()).await.status
    };
    for more in [
        json!({"previous_response_id": "resp_1"}),
        json!({"conversation": "conv_1"}),
        json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]}),
    ] {
        for _ in 0..4 {
            assert_eq!(ask(more.clone()).await, 200, "{more}: the replica that has it is found");
        }
    }
    assert!(other.requests().len() > 4, "it is asked again and again");
    // What refers to nothing shows that the replica lacks the model, and is answered elsewhere from then on.
    for _ in 0..8 {
        assert_eq!(ask(json!({"previous_response_id": null})).await, 200);
    }
    assert!(other.requests().len() <= 1);
}

#[tokio::test]
async fn where_all_are_busy_the_client_hears_it_and_nothing_is_doubled() {
    let sims = [failing(429).await, failing(429).await];
    let gateway = Launch::new(policy_of(&sims.each_ref().map(Sim::addr), "")).start().await;
    assert_eq!(statuses(&gateway, 20, [429]).await, [20]);
    let seen: usize = sims.iter().map(|sim| asked(sim).len()).sum();
    assert!(seen <= 24, "{seen}: an endpoint that had better not be asked is no retry's");
}

#[tokio::test]
async fn a_pools_only_endpoint_that_fails_leaves_the_budget_to_others() {
    for status in [429, 502, 503] {
        let (own, cloud) = (failing(status).await, sim("m").await);
        let pool = |sim: &Sim| format!("{{endpoints: [\"{}\"], health: {{enabled: false}}}}", sim.addr());
        let policy = format!(
            "version: 1\nmodels: {{m: {{pools: [own, cloud]}}}}\npools: {{own: {}, cloud: {}}}\n\
             retry: {{budget: {{share: 0, min_per_second: 1}}}}\n",
            pool(&own),
            pool(&cloud)
        );
        let gateway = Launch::new(policy).start().await;
        assert_eq!(statuses(&gateway, 60, [200, status]).await, [60, 0], "{status}");
        let seen = asked(&own).len();
        assert!((1..=6).contains(&seen), "{status}: {seen} went to the one that fails");
    }
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_with_a_time_to_come_back() {
    let refusing = Refusing::new();
    let resetting = Scripted::start(|_, _| Act::Close).await;
    for (address, code) in [(refusing.addr, "upstream_unreachable"), (resetting.addr, "upstream_reset")] {
        let gateway = Launch::new(policy_of(&[address], "")).start().await;
        let answer = gateway.chat("m", "hi").await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some(code)));
        assert_eq!(answer.header("retry-after"), "1", "{code}");
    }
}

#[tokio::test]
async fn without_an_endpoint_the_client_hears_when_the_first_may_be_back() {
    let sim = failing(502).await;
    let more = "    ejection: {consecutive_failures: 1, base: 20s, max_share: 1}\n";
    let gateway = Launch::new(policy_of(&[sim.addr()], more)).start().await;
    assert_eq!(gateway.chat("m", "hi").await.status, 502);
    let answer = gateway.chat("m", "hi").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("no_healthy_endpoint")));
    let told: u64 = answer.header("retry-after").parse().unwrap();
    assert!((15..=20).contains(&told), "{told}");
}
