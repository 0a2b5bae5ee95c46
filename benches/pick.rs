//! Owns the measurement of one choice: lease, report and drop, for each strategy and pool size, alone and
//! contended; and of the choice among models with what it reads.
//! Refuses to know anything but the public faces of the layers that choose.

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use signalbox::balance::{
    Endpoint, KvEvent, LatencyStats, LearntTokens, PickPrompt, PickRequest, Pool, PoolMember, RetryBudget,
    StickySessions, StoredBlocks,
};
use signalbox::choose::{Candidate, ChoiceInput, choose, identity};
use signalbox::openai::ChatRequest;
use signalbox::policy::{
    Balance, BasisPoints, Choose, ChooseBy, ChooseWeights, Ejection, Fixed, HashKey, ModelId, Price, load,
};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const STRATEGIES: [(&str, Balance); 3] = [
    ("round-robin", Balance::RoundRobin),
    ("least-request", Balance::LeastRequest),
    ("hash", Balance::Hash(HashKey::Field(String::new()))),
];
const EJECTION: Ejection = Ejection {
    consecutive_failures: 5,
    base: Duration::from_secs(30),
    max: Duration::from_secs(300),
    max_share: BasisPoints(5_000),
    slow_factor: 0,
};

fn pool(balance: &Balance, size: u16) -> Arc<Pool> {
    let member = |index: u16| PoolMember {
        endpoint: Endpoint::new(([127, 0, 0, 1], 10_000 + index).into(), format!("pod-{index}:8000").into()),
        weight: u32::from(index % 3) + 1,
    };
    Arc::new(Pool::new(balance, Some(EJECTION), (0..size).map(member).collect(), None))
}

fn pick(pool: &Arc<Pool>, key: u64, now: Instant) {
    if let Some(lease) =
        black_box(pool.lease(&PickRequest { key: Some(key), ..PickRequest::default() }, &[], now))
    {
        lease.succeeded();
    }
}

fn alone(criterion: &mut Criterion) {
    let now = Instant::now();
    for (name, balance) in &STRATEGIES {
        let mut group = criterion.benchmark_group(*name);
        for size in [2, 16, 256] {
            let (pool, mut key) = (pool(balance, size), 0);
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| {
                    key += 1;
                    pick(&pool, key, now);
                });
            });
        }
    }
}

/// As [`by_prompt`] for `auto`, where 100 engines say what they hold: each has some of the same 100,000 tokens.
fn by_account(criterion: &mut Criterion) {
    let (now, pool) = (Instant::now(), pool(&Balance::Auto, 100));
    let tokens: Vec<u64> = (0..100_000).collect();
    for (number, member) in pool.members().iter().enumerate() {
        let count = 6_250 * number / 100;
        let stored = StoredBlocks {
            names: (1..=count as u64).collect(),
            tokens: tokens[..count * 16].to_vec(),
            block_tokens: 16,
            ..StoredBlocks::default()
        };
        member.endpoint.apply_kv_events(0, &[KvEvent::Stored(stored)]);
        member.endpoint.set_kv_complete(0, true);
    }
    let text = "All that was said before, and more of it. ".repeat(9_524);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let request = ChatRequest::parse(body.into()).expect("a request");
    let prompt = PickPrompt::new(&request);
    let pick = PickRequest { model: "m", prompt: Some(&prompt), ..PickRequest::default() };
    pool.learn_tokens(&pick, LearntTokens { tokens: &tokens, adapter: None, salt: None });
    // Hashed once: `by_prompt` says what that costs.
    criterion.bench_function("auto-100/account", |bencher| {
        bencher.iter(|| drop(black_box(pool.lease(&pick, &[], now))));
    });
}

/// How many picks the 99th percentile is of.
const TAIL_PICKS: usize = 5_000;

/// The strategies that go by prompts: 100 endpoints, prompts of 1,000 and 100,000 tokens of which some have the first
/// half, each read and hashed anew.
fn by_prompt(criterion: &mut Criterion) {
    let now = Instant::now();
    let body = |tokens: usize, number: usize| -> Bytes {
        let shared = "All that was said before, and more of it. ".repeat(tokens / 21);
        let own = format!("{number} is what this is about. ").repeat(tokens / 14);
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"{shared}"}},{{"role":"user","content":"{own}"}}]}}"#
        );
        body.into()
    };
    for (name, balance) in [("auto", Balance::Auto), ("llm-d", llm_d())] {
        let mut group = criterion.benchmark_group(format!("{name}-100"));
        for tokens in [1_000, 100_000] {
            let (pool, mut number) = (pool(&balance, 100), 0);
            let bodies: Vec<_> = (0..64).map(|number| body(tokens, number)).collect();
            // As in the proxy, a body was checked just before its endpoint is picked; nothing else was read of it.
            let mut next = || {
                number += 1;
                ChatRequest::parse(bodies[number % bodies.len()].clone()).expect("a request")
            };
            let pick = |request: ChatRequest| {
                let prompt = PickPrompt::new(&request);
                let pick = PickRequest { model: "m", prompt: Some(&prompt), ..PickRequest::default() };
                drop(black_box(pool.lease(&pick, &[], now)));
            };
            group.bench_function(BenchmarkId::from_parameter(tokens), |bencher| {
                bencher.iter_batched(&mut next, pick, BatchSize::PerIteration);
            });
            let mut times: Vec<Duration> = (0..TAIL_PICKS)
                .map(|_| {
                    let (request, began) = (next(), Instant::now());
                    pick(request);
                    began.elapsed()
                })
                .collect();
            times.sort_unstable();
            let at = |share: f64| times[(share * TAIL_PICKS as f64) as usize];
            println!("{name}-100/{tokens}: p50 {:?}, p99 {:?} of {TAIL_PICKS} picks", at(0.5), at(0.99));
        }
    }
}

fn llm_d() -> Balance {
    let text = "version: 1\nmodels: {m: {pools: [p]}}\npools: {p: {endpoints: ['a:1'], balance: {strategy: llm-d}}}\n";
    load(text, Path::new("."), &Fixed::default(), None).expect("a policy").pools[0].balance.clone()
}

/// One other thread picks from the same pool without a pause.
fn contended(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("contended");
    for (name, balance) in &STRATEGIES {
        let (pool, mut key, done) = (pool(balance, 16), 0, AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    pick(&pool, 7, now);
                }
            });
            group.bench_function(BenchmarkId::new(*name, 16), |bencher| {
                bencher.iter(|| {
                    key += 1;
                    pick(&pool, key, now);
                });
            });
            done.store(true, Ordering::Relaxed);
        });
    }
}

fn budget(criterion: &mut Criterion) {
    let (budget, now) = (RetryBudget::new(2_000, 10), Instant::now());
    criterion.bench_function("budget", |bencher| bencher.iter(|| budget.request(black_box(now))));
}

/// 16 models, all measured, priced and reachable.
fn models(criterion: &mut Criterion) {
    let now = Instant::now();
    let price = |index: u64| Price {
        currency: "USD".into(),
        prompt_micros: 100_000 + index * 7_919 % 16 * 10_000,
        completion_micros: 400_000,
        cached_micros: 50_000,
    };
    let prices: Vec<_> = (0..16).map(price).collect();
    let candidate = |index: usize| {
        let stats = LatencyStats::default();
        let ttft = Duration::from_millis(100 + index as u64 * 7_919 % 16 * 10);
        stats.observe(now, Some(ttft), 100, ttft * 10);
        Candidate {
            model: ModelId(index),
            identity: identity(&format!("model-{index}"), None),
            weight: index as u32 % 3 + 1,
            price: prices.get(index),
            quality: BasisPoints(5_000 + index as u16 * 100),
            reading: stats.snapshot(now),
            replica: None,
            reachable: true,
            in_flight: index as u32 % 5,
            capacity: 4,
        }
    };
    let candidates: Vec<_> = (0..16).map(candidate).collect();
    let mut group = criterion.benchmark_group("choose-16");
    for by in [ChooseBy::First, ChooseBy::Weight, ChooseBy::Cost, ChooseBy::Latency, ChooseBy::Score] {
        let how = Choose {
            by,
            min_quality: BasisPoints(5_200),
            max_ttft: Some(Duration::from_millis(220)),
            max_time_per_token: Some(Duration::from_secs(1)),
            weights: ChooseWeights { quality: 1_000, cost: 1_000, latency: 1_000, load: 1_000 },
        };
        for key in [None, Some(7)].into_iter().take(1 + usize::from(by == ChooseBy::Weight)) {
            let name = format!("{}{}", by.as_str(), if key.is_some() { "-by-key" } else { "" });
            let (prompt_tokens, expected_tokens) = (1_000, 500);
            let input =
                ChoiceInput { prompt_tokens, expected_tokens, random: 1 << 63, key, held: None, margin: 0.1 };
            let pick = || choose(black_box(&candidates), black_box(&how), black_box(&input));
            group.bench_function(name, |bencher| bencher.iter(pick));
        }
    }
}

/// What a choice reads before and tells after.
fn readings(criterion: &mut Criterion) {
    let (stats, now) = (LatencyStats::default(), Instant::now());
    let sessions: StickySessions = StickySessions::default();
    let (ttft, ttl) = (Duration::from_millis(100), Duration::from_secs(600));
    criterion.bench_function("latency/observe", |bencher| {
        bencher.iter(|| stats.observe(black_box(now), Some(ttft), 100, ttft * 10));
    });
    criterion.bench_function("latency/snapshot", |bencher| bencher.iter(|| stats.snapshot(black_box(now))));
    (0..65_536).for_each(|key| sessions.insert(key, "model", now, ttl));
    let mut key = 0_u64;
    criterion.bench_function("sticky/insert-and-get", |bencher| {
        bencher.iter(|| {
            key = key.wrapping_add(7_919);
            sessions.insert(key % 65_536, "model", now, ttl);
            sessions.get(key % 65_536, now)
        });
    });
}

criterion_group!(benches, alone, by_prompt, by_account, contended, budget, models, readings);
criterion_main!(benches);
