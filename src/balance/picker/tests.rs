//! Tests of the pickers that go by prompts and engines, through a pool.

mod availability;

use super::PickPrompt;
use crate::balance::{
    Endpoint, EngineMetrics, KvCacheSize, Lease, LoadedAdapters, PickRequest, Pool, PoolMember,
};
use crate::openai::ChatRequest;
use crate::policy::{Balance, Fixed, load};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pool with its endpoints.
struct Cluster {
    pool: Arc<Pool>,
    endpoints: Vec<Arc<Endpoint>>,
    now: Instant,
}

impl Cluster {
    fn new(balance: &str, endpoints: u8) -> Self {
        let endpoint = |last| Endpoint::new(([10, 0, 0, last], 8_000).into(), format!("e{last}:8000").into());
        let endpoints: Vec<_> = (0..endpoints).map(endpoint).collect();
        let member = |endpoint: &Arc<Endpoint>| PoolMember { endpoint: Arc::clone(endpoint), weight: 1 };
        let pool = Pool::new(&strategy(balance), None, endpoints.iter().map(member).collect(), None);
        Self { pool: Arc::new(pool), endpoints, now: Instant::now() }
    }

    fn lease_for(&self, request: &ChatRequest, adapter: Option<&str>) -> Lease {
        let prompt = PickPrompt::new(request);
        let pick = PickRequest { model: "m", adapter, prompt: Some(&prompt), ..PickRequest::default() };
        self.pool.lease(&pick, &[], self.now).expect("one is available")
    }

    /// A lease of the replica that a model would be chosen with.
    fn lease_as_pair(&self, request: &ChatRequest) -> Lease {
        let prompt = PickPrompt::new(request);
        let pick = PickRequest { model: "m", prompt: Some(&prompt), ..PickRequest::default() };
        let replica = self.pool.best_replica(&pick, self.now);
        self.pool.lease(&PickRequest { replica, ..pick }, &[], self.now).expect("one is available")
    }

    fn lease(&self, request: &ChatRequest) -> Lease {
        self.lease_for(request, None)
    }

    fn place(&self, lease: &Lease) -> usize {
        let same = |endpoint: &Arc<Endpoint>| Arc::ptr_eq(endpoint, lease.endpoint());
        self.endpoints.iter().position(same).expect("one of the pool's")
    }

    fn report(&self, place: usize, change: impl FnOnce(&mut EngineMetrics)) {
        let mut metrics = EngineMetrics::new(self.now);
        (metrics.waiting, metrics.running, metrics.kv_usage) = (Some(0.0), Some(0.0), Some(0.0));
        change(&mut metrics);
        self.endpoints[place].note_engine_metrics(metrics);
    }
}

fn strategy(yaml: &str) -> Balance {
    let text = format!(
        "version: 1\nmodels: {{m: {{pools: [p]}}}}\npools: {{p: {{endpoints: ['a:1'], balance: {{strategy: {yaml}}}}}}}\n"
    );
    load(&text, Path::new("."), &Fixed::default(), None).expect("a policy").pools[0].balance.clone()
}

/// A prompt of about so many tokens.
fn prompt(of: &str, tokens: usize) -> ChatRequest {
    let text: String = of.chars().chain([' ']).cycle().take(4 * tokens).collect();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
    ChatRequest::parse(Bytes::from(body.to_string())).expect("a request")
}

impl Cluster {
    /// The same at a later time.
    fn after(mut self, time: Duration) -> Self {
        self.now += time;
        self
    }

    /// A lease for a stream, whose first token has come.
    fn stream(&self, request: &ChatRequest) -> Lease {
        let prompt = PickPrompt::new(request);
        let pick = PickRequest { model: "m", prompt: Some(&prompt), streams: true, ..PickRequest::default() };
        let lease = self.pool.lease(&pick, &[], self.now).expect("one is available");
        lease.token(self.now);
        lease
    }
}

const EVERY: [&str; 6] = ["auto", "prefix", "llm-d", "least_request", "round_robin", "kv_aware"];

/// Two endpoints that have been there for long, and one that has just joined, which comes last.
fn with_newcomer(balance: &str) -> Cluster {
    let cluster = Cluster::new(balance, 3).after(Duration::from_secs(600));
    cluster.endpoints[2].engine().joins(cluster.now);
    cluster
}

#[test]
fn a_model_is_chosen_with_the_replica_that_would_get_the_request_without_a_choice_of_models() {
    for balance in BY_PREFIX {
        let cluster = with_newcomer(balance);
        let mut counts = [0; 3];
        for number in 0..400 {
            let lease = cluster.lease_as_pair(&prompt(&format!("{balance} {number}"), 500));
            assert!(lease.margin().is_some_and(|margin| margin.next.is_some()), "{balance}");
            counts[cluster.place(&lease)] += 1;
        }
        assert!((12..140).contains(&counts[2]), "{balance}: {counts:?}");
    }
}

const BY_PREFIX: [&str; 4] = ["auto", "prefix", "kv_aware", "llm-d"];

#[test]
fn the_same_prompt_goes_where_it_went_before() {
    for balance in BY_PREFIX {
        let cluster = Cluster::new(balance, 8);
        let long = prompt("system", 4_000);
        let first = cluster.lease(&long);
        let home = cluster.place(&first);
        assert_eq!(first.work().expect("it is counted").cached(), 0, "{balance}");
        drop(first);
        for _ in 0..8 {
            let again = cluster.lease(&long);
            assert_eq!(cluster.place(&again), home, "{balance}");
            assert!(again.work().expect("it is counted").cached() > 3_700, "{balance}");
        }
    }
}

#[test]
fn another_models_or_adapters_cache_is_of_no_use() {
    let cluster = Cluster::new("auto", 2);
    let long = prompt("system", 4_000);
    drop(cluster.lease(&long));
    assert_eq!(cluster.lease_for(&long, Some("a-lora")).work().expect("it is counted").cached(), 0);
}

#[test]
fn cold_prompts_spread_though_each_is_over_before_the_next() {
    for balance in ["auto", "llm-d"] {
        let cluster = Cluster::new(balance, 4);
        let mut counts = [0; 4];
        for number in 0..40 {
            counts[cluster.place(&cluster.lease(&prompt(&format!("{number}"), 1_000)))] += 1;
        }
        assert!(counts.iter().all(|count| (7..=13).contains(count)), "{balance}: {counts:?}");
    }
}

#[test]
fn affinity_breaks_where_waiting_costs_more_than_computing_anew() {
    let cluster = Cluster::new("auto", 2);
    let long = prompt("system", 2_000);
    let home = cluster.place(&cluster.lease(&long));
    cluster.report(home, |metrics| metrics.waiting = Some(40.0));
    cluster.report(1 - home, |_| {});
    assert_eq!(cluster.place(&cluster.lease(&long)), 1 - home);
}

#[test]
fn a_prompt_that_all_send_does_not_keep_one_endpoint_busy_alone() {
    for endpoints in [2, 4] {
        let cluster = Cluster::new("auto", endpoints);
        let long = prompt("system", 4_000);
        let held: Vec<Lease> = (0..400).map(|_| cluster.lease(&long)).collect();
        let mut counts = vec![0_usize; usize::from(endpoints)];
        for lease in &held {
            counts[cluster.place(lease)] += 1;
        }
        let fair = 400 / usize::from(endpoints);
        assert!(counts.iter().all(|count| 2 * count <= 3 * fair), "{counts:?}");
    }
}

/// How often each endpoint gets one prompt that comes all the time, once those before have shown how often: each request with
/// words of its own, and over when `in_flight` more have come.
fn shares_of_a_common_prompt(endpoints: u8, in_flight: usize, every: Duration) -> Vec<f64> {
    let mut cluster = Cluster::new("auto", endpoints);
    let common = "Every conversation here begins with these very words. ".repeat(450);
    let (mut held, mut counts) = (VecDeque::new(), vec![0; usize::from(endpoints)]);
    for number in 0..1_200 {
        let messages = json!([{"role": "system", "content": common}, {"role": "user", "content": format!("{number} ").repeat(150)}]);
        let body = json!({"model": "m", "messages": messages});
        let request = ChatRequest::parse(Bytes::from(body.to_string())).expect("a request");
        let lease = cluster.stream(&request);
        counts[cluster.place(&lease)] += usize::from(number >= 400);
        held.push_back(lease);
        held.drain(..held.len().saturating_sub(in_flight));
        cluster.now += every;
    }
    counts.iter().map(|count| *count as f64 * f64::from(endpoints) / 800.0).collect()
}

#[test]
fn no_endpoint_gets_more_than_half_as_much_again_as_its_share_of_a_prompt_that_all_send() {
    for (in_flight, every_ms) in [(37, 125), (192, 31), (480, 18)] {
        let shares = shares_of_a_common_prompt(8, in_flight, Duration::from_millis(every_ms));
        assert!(shares.iter().all(|share| *share <= 1.5), "{in_flight} in flight: {shares:?}");
    }
}

#[test]
fn two_endpoints_share_a_prompt_that_all_send_as_if_each_were_asked_in_turn() {
    for (in_flight, every_ms) in [(9, 500), (42, 125), (110, 71)] {
        let shares = shares_of_a_common_prompt(2, in_flight, Duration::from_millis(every_ms));
        assert!(shares.iter().all(|share| *share <= 1.1), "{in_flight} in flight: {shares:?}");
    }
}

#[test]
fn a_conversation_that_goes_on_alone_stays_where_it_is() {
    let mut cluster = Cluster::new("auto", 8);
    let mut places = Vec::new();
    for turn in 1..=30 {
        let lease = cluster.stream(&prompt("what was said before", 4_000 + 100 * turn));
        places.push(cluster.place(&lease));
        cluster.now += Duration::from_secs(8);
    }
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
}

#[test]
fn what_an_engine_said_long_ago_does_not_count_but_the_endpoint_does() {
    let mut cluster = Cluster::new("auto", 2);
    cluster.report(0, |metrics| metrics.waiting = Some(100.0));
    cluster.report(1, |_| {});
    let short = prompt("hi", 8);
    assert!((0..20).all(|_| cluster.place(&cluster.lease(&short)) == 1));
    cluster.now += Duration::from_secs(60);
    let places: Vec<_> = (0..60).map(|_| cluster.place(&cluster.lease(&short))).collect();
    assert!(places.contains(&0) && places.contains(&1));
}

#[test]
fn scores_are_those_of_the_inference_extension() {
    let at_rest = |cluster: &Cluster| (0..2).for_each(|place| cluster.report(place, |_| {}));
    let goes = |scorers: &str, prepare: fn(&Cluster), adapter: Option<&str>| {
        let cluster = Cluster::new(&format!("scored, scorers: {{{scorers}}}"), 2);
        at_rest(&cluster);
        prepare(&cluster);
        let places: Vec<_> =
            (0..20).map(|_| cluster.place(&cluster.lease_for(&prompt("hi", 8), adapter))).collect();
        assert!(places.iter().all(|place| place == &places[0]), "{scorers}: {places:?}");
        places[0]
    };
    assert_eq!(goes("queue: 1", |cluster| cluster.report(0, |one| one.waiting = Some(1.0)), None), 1);
    assert_eq!(goes("running: 1", |cluster| cluster.report(1, |one| one.running = Some(3.0)), None), 0);
    assert_eq!(goes("kv_cache: 1", |cluster| cluster.report(0, |one| one.kv_usage = Some(0.4)), None), 1);
    let adapters = |cluster: &Cluster| {
        cluster.report(1, |one| {
            one.adapters = Some(LoadedAdapters { running: vec!["sql".into()], waiting: Vec::new(), max: 4 });
        });
    };
    assert_eq!(goes("lora: 1", adapters, Some("sql")), 1);
    // A queue of 1 of at most 1 scores 0, a cache that is 40 % full .6: 2 x (1 - 0) against 3 x (1 - .6).
    let both = |cluster: &Cluster| {
        cluster.report(0, |one| one.waiting = Some(1.0));
        cluster.report(1, |one| one.kv_usage = Some(0.4));
    };
    assert_eq!(goes("queue: 2, kv_cache: 3", both, None), 1);
    assert_eq!(goes("queue: 1, kv_cache: 3", both, None), 0);
}

#[test]
fn the_score_of_a_prefix_is_the_share_of_tokens_not_of_blocks() {
    let cluster = Cluster::new("scored, scorers: {prefix: 1}", 2);
    let text = |more: &str| {
        let text: String =
            "shared ".chars().cycle().take(8_190).chain(more.chars().cycle().take(24_000)).collect();
        let body = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
        ChatRequest::parse(Bytes::from(body.to_string())).expect("a request")
    };
    cluster.lease(&text("one "));
    let request = text("two ");
    let prompt = PickPrompt::new(&request);
    let pick = PickRequest { model: "m", prompt: Some(&prompt), ..PickRequest::default() };
    let scores = cluster.pool.forecast(&pick, cluster.now).into_iter().filter_map(|one| one.standing);
    let best = scores.map(|standing| -standing.as_cost()).fold(0.0, f64::max);
    // 8 of 31 KiB are shared: 32 short blocks of 55 in all.
    assert!((0.2..0.3).contains(&best), "{best}");
}

#[test]
fn an_engine_that_holds_little_is_taken_to_have_forgotten() {
    let cluster = Cluster::new("auto", 2);
    let first = prompt("first", 8_000);
    for place in [0, 1] {
        cluster.report(place, |one| one.kv_cache = Some(KvCacheSize { block_tokens: 16, blocks: 1_000 }));
    }
    assert_eq!(cluster.lease(&first).work().expect("it is counted").cached(), 0);
    assert!(cluster.lease(&first).work().expect("it is counted").cached() > 7_900);
    for number in 0..20 {
        cluster.lease(&prompt(&format!("{number}"), 8_000));
    }
    assert_eq!(cluster.lease(&first).work().expect("it is counted").cached(), 0);
}

proptest! {
    #[test]
    fn one_that_gives_nothing_is_asked_only_where_no_other_may_be(
        balance in prop::sample::select(&EVERY[..]),
        states in prop::collection::vec((any::<bool>(), 1_u64..30), 1..8),
    ) {
        let cluster = Cluster::new(balance, u8::try_from(states.len()).expect("few"));
        let mut held = Vec::new();
        for endpoint in &cluster.endpoints {
            let members = vec![PoolMember { endpoint: Arc::clone(endpoint), weight: 1 }];
            let own = Arc::new(Pool::new(&Balance::RoundRobin, None, members, None));
            let pick = PickRequest { streams: true, ..PickRequest::default() };
            let lease = || own.lease(&pick, &[], cluster.now).expect("it is there");
            let first = lease();
            first.token(cluster.now);
            held.push([first, lease()]);
        }
        let start = cluster.now;
        let cluster = cluster.after(Duration::from_secs(40));
        for (leases, (is_live, ago)) in held.iter().zip(&states) {
            if *is_live {
                leases[0].token(cluster.now);
            } else if *ago > 3 {
                // It has as many requests as then, so that it is slow and no more.
                leases[0].token(start + Duration::from_secs(40 - *ago));
            }
        }
        let is_wedged = |place: usize| !states[place].0 && states[place].1 <= 3;
        let any_live = (0..states.len()).any(|place| !is_wedged(place));
        for number in 0..10 {
            let lease = cluster.lease(&prompt(&format!("{number}"), 50));
            prop_assert!(!any_live || !is_wedged(cluster.place(&lease)), "{states:?}");
        }
    }

    #[test]
    fn work_is_given_back_whole_whatever_happens(
        steps in prop::collection::vec((0_usize..4, 1_usize..2_000, any::<bool>(), any::<bool>()), 1..60),
        balance in prop::sample::select(&BY_PREFIX[..]),
    ) {
        let cluster = Cluster::new(balance, 3);
        let mut held = Vec::new();
        for (of, tokens, first_token, leave) in steps {
            let lease = cluster.lease(&prompt(["a", "b", "c", "d"][of], tokens));
            if first_token {
                lease.token(cluster.now);
                lease.token(cluster.now);
            }
            held.push(lease);
            if leave {
                held.remove(0);
            }
        }
        drop(held);
        for endpoint in &cluster.endpoints {
            prop_assert_eq!(endpoint.in_flight(), 0);
            prop_assert_eq!((endpoint.engine().load.prefill(), endpoint.engine().load.context()), (0, 0));
        }
    }
}
