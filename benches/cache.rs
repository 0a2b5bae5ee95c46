//! Owns the measurement of one look-up by an equal and by a similar request, of one answer stored in a full cache, of
//! the text guard and of two questions that are compared.
//! Refuses to know anything but the cache's public face.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use signalbox::cache::{
    AnswerOrigin, CacheKey, CacheWrite, CachedAnswer, EntryQuery, ResponseCache, is_same_question,
};
use signalbox::classify::Classifier;
use signalbox::policy::{CacheSpec, CacheStore, ClassifierSpec};
use tokio::runtime::{Builder, Runtime};

const DIMENSIONS: usize = 384;
const HOUR: Duration = Duration::from_secs(3600);
const TEXT: &str = "How do I reset the password of my account?";
const OTHER: &str = "What is the best way to reset my account's password?";

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime is made")
}

fn key(number: u64) -> CacheKey {
    let mut exact = [0; 32];
    exact[..8].copy_from_slice(&number.to_le_bytes());
    CacheKey { scope: [7; 32], exact }
}

/// A vector of unit length that leans to one side, as those of real texts do.
fn embedding(random: &mut SmallRng) -> Vec<f32> {
    let lean = 0.5;
    let numbers: Vec<f32> = (0..DIMENSIONS).map(|_| random.random_range(-1.0_f32..1.0) + lean).collect();
    unit(numbers)
}

fn unit(numbers: Vec<f32>) -> Vec<f32> {
    let norm = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    numbers.into_iter().map(|number| number / norm).collect()
}

fn answer() -> CachedAnswer {
    CachedAnswer { body: Bytes::from_static(&[b'a'; 1024]), origin: AnswerOrigin::default() }
}

/// A full cache of one scope, and the embedding of its last entry, a little turned.
fn full(runtime: &Runtime, entries: usize) -> (ResponseCache, Vec<f32>) {
    let store = CacheStore::Memory { persist: None };
    let spec = CacheSpec { store, max_entries: entries, max_bytes: 1 << 30, max_answer_bytes: 1 << 20 };
    let cache = ResponseCache::open(&spec).expect("a cache in memory opens");
    let mut random = SmallRng::seed_from_u64(1);
    let (now, answer, mut last) = (SystemTime::now(), answer(), Vec::new());
    for number in 0..entries {
        last = embedding(&mut random);
        let (key, embedding) = (key(number as u64), Some(&last[..]));
        let write = CacheWrite { key: &key, text: OTHER, embedding, answer: &answer, ttl: HOUR, now };
        runtime.block_on(cache.store(write)).expect("the answer fits");
    }
    let turned = last.iter().map(|number| number + random.random_range(-0.01_f32..0.01)).collect();
    (cache, unit(turned))
}

fn look_up(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("look-up");
    for entries in [10_000, 100_000] {
        let (cache, near) = full(&runtime, entries);
        let far = embedding(&mut SmallRng::seed_from_u64(2));
        let (known, unknown) = (key(0), key(u64::MAX));
        let query = EntryQuery {
            key: &unknown,
            text: TEXT,
            embedding: None,
            min_score: None,
            judge: None,
            now: SystemTime::now(),
        };
        let similar = EntryQuery { embedding: Some(&near), min_score: Some(0.92), ..query };
        let cases = [
            ("exact", EntryQuery { key: &known, ..query }, true),
            ("similar", similar, true),
            ("similar-low", EntryQuery { min_score: Some(0.8), ..similar }, true),
            ("similar-miss", EntryQuery { embedding: Some(&far), ..similar }, false),
        ];
        for (name, query, hits) in cases {
            let found = runtime.block_on(cache.look_up(query));
            assert_eq!(found.is_some(), hits, "{name}");
            group.bench_function(BenchmarkId::new(name, entries), |bencher| {
                bencher.iter(|| runtime.block_on(cache.look_up(black_box(query))));
            });
        }
    }
}

fn store(criterion: &mut Criterion) {
    let runtime = runtime();
    let (cache, near) = full(&runtime, 100_000);
    let (answer, now, mut number) = (answer(), SystemTime::now(), 1 << 32);
    criterion.bench_function("store/full", |bencher| {
        bencher.iter(|| {
            number += 1;
            let (key, embedding) = (key(number), Some(&near[..]));
            let write = CacheWrite { key: &key, text: TEXT, embedding, answer: &answer, ttl: HOUR, now };
            runtime.block_on(cache.store(write))
        });
    });
}

fn guard(criterion: &mut Criterion) {
    criterion.bench_function("guard", |bencher| {
        bencher.iter(|| is_same_question(black_box(TEXT), black_box(OTHER)));
    });
}

/// Two questions of 20 tokens, both read before.
fn paraphrase(criterion: &mut Criterion) {
    let runtime = runtime();
    let classifier = Classifier::load(&ClassifierSpec::default()).expect("the built-in model loads");
    let (one, other) = (
        "How do I enable two-factor authentication for my account when I have lost access to the old phone number?",
        "What is the way to turn on two-step verification of my account if my old phone number is gone for good?",
    );
    criterion.bench_function("paraphrase", |bencher| {
        bencher.iter(|| {
            let deadline = std::time::Instant::now() + HOUR;
            runtime.block_on(classifier.compare(black_box(one), &[black_box(other)], deadline))
        });
    });
}

criterion_group!(benches, look_up, store, guard, paraphrase);
criterion_main!(benches);
