//! Where a pool has too much to do, some requests wait in turn, some are refused, and the most important lose nothing.

use crate::harness::*;
use crate::streaming::leased;
use serde_json::json;
use signalbox::sim::{Sim, SimOptions};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(600);

/// One model behind one pool, whose tenants differ in priority; `more` is put into the pool.
fn policy(sims: &[&Sim], more: &str, queue: &str) -> String {
    let addresses: Vec<_> = sims.iter().map(|sim| sim.addr()).collect();
    policy_of(&addresses, more)
        + &format!(
            "identity: {{trusted_peers: [127.0.0.0/8]}}\nadmission:\n  objectives: {{interactive: 10, batch: -1}}\n  \
             tenants: {{high: interactive, low: batch}}\n  queue: {{{queue}}}\n"
        )
}

fn chat_of(gateway: &Gateway, tenant: &str) -> reqwest::RequestBuilder {
    chat_from(&client(), gateway, tenant)
}

fn chat_from(client: &reqwest::Client, gateway: &Gateway, tenant: &str) -> reqwest::RequestBuilder {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8});
    let request = client.post(gateway.url("/v1/chat/completions")).header("content-type", "application/json");
    request.header("x-authz-user-id", "u").header("x-authz-tenant-id", tenant).body(body.to_string())
}

async fn ask(gateway: &Gateway, tenant: &str) -> Answer {
    Answer::of(chat_of(gateway, tenant).send().await.unwrap()).await
}

/// Asks in a task of its own.
fn ask_meanwhile(gateway: &Gateway, tenant: &str) -> tokio::task::JoinHandle<Answer> {
    let request = chat_of(gateway, tenant);
    tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await })
}

/// What the gate would do with a request of no tenant, as the operator is told.
async fn would_be(gateway: &Gateway, headers: &[(&str, &str)]) -> serde_json::Value {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let request = client().post(format!("http://{}/api/v1/pick", gateway.admin)).body(body.to_string());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request.send().await.unwrap()).await.json()["admission"].clone()
}

async fn until_waiting(gateway: &Gateway, count: f64) {
    gateway.counts("signalbox_pool_queue_requests", &[], count).await;
}

/// A sim that takes a request and answers it only when it is told to.
async fn stalled() -> Sim {
    let stalled = sim("m").await;
    stalled.set_faults(faults(|faults| faults.stall_before_headers = Some(LONG)));
    stalled
}

/// A gateway before one endpoint that may have one request, and has it.
async fn full(sim: &Sim, queue: &str) -> (Gateway, tokio::task::JoinHandle<Answer>) {
    let gateway = Launch::new(policy(&[sim], "    max_in_flight: 1\n", queue)).start().await;
    let first = ask_meanwhile(&gateway, "middle");
    until("the first request", async || (asked(sim).len() == 1).then_some(())).await;
    sim.set_faults(faults(|_| {}));
    (gateway, first)
}

#[tokio::test]
async fn what_gives_way_is_refused_with_a_time_to_come_back_and_what_waits_goes_in_turn() {
    let sim = stalled().await;
    let (gateway, first) = full(&sim, "").await;
    let refused = ask(&gateway, "low").await;
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (429, Some("rate_limit_exceeded"))
    );
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(refused.header("x-llm-d-request-dropped-reason"), "rejected-saturated");
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    let line = gateway.line(refused.header("x-request-id")).await;
    assert_eq!(
        (&line["admission"], &line["pool"], &line["tries"]),
        (&json!("saturated"), &json!("main"), &json!(0))
    );

    assert_eq!((&line["pool_saturation"], &line["priority"]), (&json!(null), &json!(null)), "it met no gate");
    let told = would_be(&gateway, &[]).await;
    assert_eq!(
        (&told["outcome"], &told["saturation"], &told["ahead"]),
        (&json!("wait"), &json!(1.0), &json!(0))
    );
    let told = would_be(&gateway, &[("x-llm-d-inference-objective", "batch")]).await;
    assert_eq!((&told["outcome"], &told["priority"]), (&json!("saturated"), &json!(-1)));

    let mut waiting = Vec::new();
    for (at, tenant) in ["middle", "middle", "other", "high"].into_iter().enumerate() {
        waiting.push(ask_meanwhile(&gateway, tenant));
        until_waiting(&gateway, at as f64 + 1.0).await;
    }
    assert_eq!(gateway.metric("signalbox_pool_saturation_ratio", &["pool=\"main\""]).await, 1.0);
    assert_eq!(gateway.metric("signalbox_pool_queue_requests", &["priority=\"10\""]).await, 1.0);
    let told = would_be(&gateway, &[("x-llm-d-inference-fairness-id", "middle")]).await;
    assert_eq!((&told["ahead"], &told["of_tenant"]), (&json!(4), &json!(2)), "{told}");
    let told = would_be(&gateway, &[("x-llm-d-inference-fairness-id", "new")]).await;
    assert_eq!(
        (&told["ahead"], &told["of_tenant"]),
        (&json!(3), &json!(0)),
        "its turn comes before their second"
    );
    assert_eq!(told["queued"], json!([{"priority": 10, "requests": 1}, {"priority": 0, "requests": 3}]));
    assert!(told["expected_wait_ms"].as_f64().unwrap() >= 1_000.0);
    first.abort();
    let mut ended = Vec::new();
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.header("x-queued-ms").is_empty());
        ended.push(gateway.line(answer.header("x-request-id")).await);
    }
    for line in &ended {
        assert_eq!(line["admission"], "waited", "{line}");
    }
    let waited: Vec<f64> = ended.iter().map(|line| line["queued_ms"].as_f64().unwrap()).collect();
    let order: Vec<_> = asked(&sim).iter().skip(1).map(|seen| seen.headers["x-request-id"].clone()).collect();
    let own_id = |at: usize| ended[at]["request_id"].as_str().unwrap().to_owned();
    let expected = [own_id(3), own_id(0), own_id(2), own_id(1)];
    assert_eq!(order, expected, "the highest, then the tenants in turn: {waited:?}");
    assert_eq!(ended[3]["priority"], 10);
    gateway.counts("signalbox_admissions_total", &["result=\"waited\""], 4.0).await;
    gateway.counts("signalbox_pool_queue_seconds_count", &[], 4.0).await;
    until_waiting(&gateway, 0.0).await;
    assert_eq!(ask(&gateway, "low").await.status, 200, "there is room again");
}

#[tokio::test]
async fn nobody_waits_longer_than_the_policy_or_its_own_time_allows() {
    for (queue, more) in [("max_wait: 200ms", ""), ("", "    timeouts: {total: 200ms}\n")] {
        let sim = stalled().await;
        let pool = format!("    max_in_flight: 1\n{more}");
        let gateway = Launch::new(policy(&[&sim], &pool, queue)).start().await;
        let first = ask_meanwhile(&gateway, "middle");
        until("the first request", async || (asked(&sim).len() == 1).then_some(())).await;
        let began = Instant::now();
        let second = ask(&gateway, "high").await;
        assert!(began.elapsed() < Duration::from_secs(10));
        if more.is_empty() {
            assert_eq!(second.status, 429, "{}", second.text);
            assert_eq!(second.header("x-llm-d-request-dropped-reason"), "rejected-ttl-expired");
            assert_eq!(gateway.line(second.header("x-request-id")).await["admission"], "expired");
        }
        first.abort();
    }
}

#[tokio::test]
async fn a_full_queue_takes_no_more_but_a_higher_one_in_place_of_a_lower() {
    let sim = stalled().await;
    let (gateway, first) = full(&sim, "max_requests: 1").await;
    let displaced = ask_meanwhile(&gateway, "middle");
    until_waiting(&gateway, 1.0).await;
    let refused = ask(&gateway, "middle").await;
    assert_eq!(
        (refused.status, refused.header("x-llm-d-request-dropped-reason")),
        (429, "rejected-saturated")
    );
    assert_eq!(gateway.line(refused.header("x-request-id")).await["admission"], "queue_full");
    let high = ask_meanwhile(&gateway, "high");
    let displaced = displaced.await.unwrap();
    assert_eq!(
        (displaced.status, displaced.header("x-llm-d-request-dropped-reason")),
        (429, "evicted-queue-pressure")
    );
    first.abort();
    assert_eq!(high.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_up_at_once() {
    let sim = stalled().await;
    let (gateway, first) = full(&sim, "max_requests: 1").await;
    for _ in 0..3 {
        let gone = ask_meanwhile(&gateway, "middle");
        until_waiting(&gateway, 1.0).await;
        gone.abort();
        until_waiting(&gateway, 0.0).await;
    }
    gateway.counts("signalbox_admissions_total", &["result=\"left\""], 3.0).await;
    first.abort();
    until("the end of all", async || {
        (gateway.metric("signalbox_requests_in_flight", &[]).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(asked(&sim).len(), 1, "none of them went upstream");
}

#[tokio::test]
async fn a_request_that_would_be_refused_anyway_is_not_classified() {
    let sim = stalled().await;
    let decisions = |objective: &str| {
        format!(
            "virtual_models: [auto]\ndefault_model: m\ndecisions:\n  - {{name: science, domains: [physics], model: m, \
             plugins: {{objective: {objective}}}}}\n"
        )
    };
    let policy = policy(&[&sim], "    max_in_flight: 1\n", "max_wait: 100ms");
    let gateway = Launch::new(policy.clone() + &decisions("batch")).start().await;
    let first = ask_meanwhile(&gateway, "middle");
    until("the first request", async || (asked(&sim).len() == 1).then_some(())).await;
    let body =
        json!({"model": "auto", "messages": [{"role": "user", "content": "What is a quark?"}]}).to_string();
    let auto = async |gateway: &Gateway, tenant: &str| {
        let request = chat_of(gateway, tenant).body(body.clone());
        let answer = Answer::of(request.send().await.unwrap()).await;
        let line = gateway.line(answer.header("x-request-id")).await;
        (answer.status, line["admission"].as_str().unwrap().to_owned(), line["classify_ms"].is_number())
    };
    assert_eq!(auto(&gateway, "low").await, (429, "saturated".to_owned(), false));
    assert_eq!(
        auto(&gateway, "middle").await,
        (429, "saturated".to_owned(), true),
        "its decision has it give way"
    );
    gateway.rewrite(&(policy + &decisions("interactive")));
    until("the new policy", async || (auto(&gateway, "middle").await.1 == "expired").then_some(())).await;
    assert_eq!(
        auto(&gateway, "low").await,
        (429, "expired".to_owned(), true),
        "its decision may have it wait"
    );
    first.abort();
}

#[tokio::test]
async fn clients_name_an_objective_only_where_the_policy_lets_them_and_upstreams_never_hear_of_it() {
    let sim = sim("m").await;
    let of = |more: &str| {
        policy_of(&[sim.addr()], "    max_in_flight: 8\n")
            + "admission:\n  objectives: {interactive: 10, plain: 3, batch: -1}\n"
            + more
    };
    for (more, objective, priority) in [
        ("", "batch", 0),
        ("  client_objectives: {from: everyone}\n", "batch", -1),
        ("  client_objectives: {from: everyone}\n", "interactive", 0),
        ("  client_objectives: {from: everyone, max_priority: 3}\n", "interactive", 3),
        ("  client_objectives: {from: everyone}\n", "unknown", 0),
    ] {
        let gateway = Launch::new(of(more)).start().await;
        for name in ["x-llm-d-inference-objective", "x-gateway-inference-objective"] {
            let request = chat_of(&gateway, "t").header(name, objective);
            let request = request.header("x-llm-d-inference-fairness-id", "me");
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!(answer.status, 200);
            let line = gateway.line(answer.header("x-request-id")).await;
            assert_eq!(
                (&line["priority"], &line["admission"]),
                (&json!(priority), &json!("passed")),
                "{more} {line}"
            );
        }
    }
    for seen in asked(&sim) {
        assert!(!format!("{:?}", seen.headers).contains("inference-"), "{seen:?}");
    }
}

#[tokio::test]
async fn an_endpoint_gets_no_more_than_it_may_have_and_without_admission_the_rest_is_refused() {
    let sims = [stalled().await, stalled().await];
    let addresses = sims.each_ref().map(Sim::addr);
    let gateway = Launch::new(policy_of(&addresses, "    max_in_flight: 2\n")).start().await;
    let held: Vec<_> = (0..4).map(|_| ask_meanwhile(&gateway, "t")).collect();
    let taken = async || sims.iter().all(|sim| asked(sim).len() == 2).then_some(());
    until("all places taken", taken).await;
    let refused = ask(&gateway, "t").await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("overloaded")));
    assert!(!refused.header("retry-after").is_empty());
    for sim in &sims {
        sim.set_faults(faults(|_| {}));
    }
    held.iter().for_each(tokio::task::JoinHandle::abort);
    until("room again", async || (ask(&gateway, "t").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_request_goes_to_a_later_pool_of_its_model_where_the_first_is_saturated() {
    let (first, second) = (stalled().await, sim("m").await);
    let text = format!(
        "version: 1\nadmission: {{}}\nmodels:\n  m: {{pools: [one, two]}}\npools:\n  one: {{endpoints: [\"{}\"], \
         max_in_flight: 1, health: {{enabled: false}}}}\n  two: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n",
        first.addr(),
        second.addr()
    );
    let gateway = Launch::new(text).start().await;
    let held = ask_meanwhile(&gateway, "t");
    until("the first request", async || (asked(&first).len() == 1).then_some(())).await;
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "t").await.status, 200);
    }
    assert_eq!((asked(&first).len(), asked(&second).len()), (1, 5));
    held.abort();
}

/// What came of the requests of one tenant.
#[derive(Debug, Default)]
struct Outcomes {
    answered: usize,
    refused: usize,
    others: Vec<String>,
    /// Of those answered, in milliseconds.
    times: Vec<u128>,
    waited: usize,
}

impl Outcomes {
    fn take(&mut self, answer: &Answer, took: Duration) {
        match answer.status {
            200 => {
                self.answered += 1;
                self.times.push(took.as_millis());
                self.waited += usize::from(!answer.header("x-queued-ms").is_empty());
            }
            429 => {
                let after: u64 = answer.header("retry-after").parse().unwrap();
                assert!((1..=60).contains(&after), "{after}");
                self.refused += 1;
            }
            _ => self.others.push(format!("{}: {}", answer.status, answer.text)),
        }
    }

    fn percentile(&self, share: f64) -> u128 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[((times.len() - 1) as f64 * share) as usize]
    }
}

/// Sends requests of three tenants at these rates for a while, whatever becomes of them.
async fn load(gateway: &Gateway, rates: [(&'static str, f64); 3], time: Duration) -> [Outcomes; 3] {
    let (mut sent, client, began) = (JoinSet::new(), client(), Instant::now());
    let mut next = rates.map(|(_, rate)| 1.0 / rate);
    while began.elapsed() < time {
        for (at, (tenant, rate)) in rates.into_iter().enumerate() {
            while next[at] < began.elapsed().as_secs_f64() {
                next[at] += 1.0 / rate;
                let request = chat_from(&client, gateway, tenant);
                sent.spawn(async move {
                    let began = Instant::now();
                    (at, Answer::of(request.send().await.unwrap()).await, began.elapsed())
                });
            }
        }
        // The rate of arrivals is what is tested.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut outcomes = [Outcomes::default(), Outcomes::default(), Outcomes::default()];
    for (at, answer, took) in sent.join_all().await {
        outcomes[at].take(&answer, took);
    }
    outcomes
}

/// A replica that runs two requests at a time, each for 160 ms: 12.5 a second.
async fn small() -> Sim {
    sim_with("m", |options: &mut SimOptions| {
        options.capacity.max_num_seqs = 2;
        options.latency.ttft = Duration::from_millis(80);
        options.latency.itl = Duration::from_millis(10);
    })
    .await
}

async fn is_idle(gateway: &Gateway, sims: &[Sim; 2]) {
    until("the end of all", async || {
        let held = [
            gateway.metric("signalbox_requests_in_flight", &[]).await,
            gateway.metric("signalbox_pool_queue_requests", &[]).await,
            leased(gateway).await,
        ];
        (held == [0.0; 3] && sims.iter().all(|sim| sim.running() + sim.waiting() == 0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn at_three_times_the_capacity_the_highest_keep_their_time_the_middle_waits_and_the_lowest_gives_way() {
    let sims = [small().await, small().await];
    let more = "    metrics: on\n    saturation: {queue: 1}\n";
    let gateway = Launch::new(policy(&sims.each_ref(), more, "max_wait: 60s")).start().await;
    let alone = load(&gateway, [("high", 6.0), ("none", 0.01), ("none", 0.01)], Duration::from_secs(2)).await;
    let [high, middle, low] =
        load(&gateway, [("high", 6.0), ("middle", 24.0), ("low", 45.0)], Duration::from_secs(4)).await;
    let summary = format!("{alone:?}\n{high:?}\n{middle:?}\n{low:?}");
    assert!([&high, &middle, &low].iter().all(|outcomes| outcomes.others.is_empty()), "{summary}");
    assert_eq!((high.refused, middle.refused), (0, 0), "{summary}");
    assert!(low.refused > low.answered, "{summary}");
    assert!(middle.waited > 0, "{summary}");
    assert!(middle.percentile(0.5) > high.percentile(0.5), "{summary}");
    assert!(high.percentile(0.9) < alone[0].percentile(0.9) + 500, "{summary}");
    is_idle(&gateway, &sims).await;
}

#[tokio::test]
async fn at_ten_times_the_capacity_nothing_of_the_highest_fails() {
    let sims = [small().await, small().await];
    // What is in flight bounds what comes between two looks at the engines.
    let more = "    metrics: on\n    saturation: {queue: 1}\n    max_in_flight: 4\n";
    let gateway =
        Launch::new(policy(&sims.each_ref(), more, "max_wait: 60s, max_requests: 20")).start().await;
    let [high, middle, low] =
        load(&gateway, [("high", 10.0), ("middle", 100.0), ("low", 140.0)], Duration::from_secs(3)).await;
    let summary = format!("{high:?}\n{middle:?}\n{low:?}");
    assert!([&high, &middle, &low].iter().all(|outcomes| outcomes.others.is_empty()), "{summary}");
    assert_eq!(high.refused, 0, "{summary}");
    assert!(high.percentile(1.0) < 3_000, "{summary}");
    assert!(middle.refused > 0 && low.refused > 0, "the queue is full: {summary}");
    is_idle(&gateway, &sims).await;
}
