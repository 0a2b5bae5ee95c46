//! Classification through the public API: one text at a time, at several lengths; sixteen at once; patterns alone; loading the model.
//!
//! `benches/classify_ort` compares the same with ONNX Runtime.

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use signalbox::classify::{Classifier, ClassifyHeads};
use signalbox::policy::{ClassifierSpec, ModelSource};

/// Texts of plain words, each one token; two more tokens frame them.
const TOKENS: [usize; 4] = [16, 64, 256, 512];

fn spec() -> ClassifierSpec {
    // Without a cache, so that the same text is computed again each time.
    ClassifierSpec { threads: 1, cache: 0, ..ClassifierSpec::default() }
}

fn text(tokens: usize) -> String {
    let words = ["the", "river", "runs", "through", "every", "old", "city", "and"];
    words.iter().copied().cycle().take(tokens - 2).collect::<Vec<_>>().join(" ")
}

/// Prints the median and the 99th percentile of one call, which criterion does not.
fn percentiles(_: &mut Criterion) {
    const CALLS: usize = 300;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let classifier = Classifier::load(&spec()).expect("the built-in model loads");
    for tokens in TOKENS {
        let text = text(tokens);
        let call = |_| {
            let begun = Instant::now();
            let deadline = begun + Duration::from_secs(10);
            let findings =
                runtime.block_on(classifier.classify(black_box(&text), ClassifyHeads::DOMAIN, deadline));
            assert_eq!(findings.outcome(), "ok");
            begun.elapsed()
        };
        let mut times: Vec<Duration> = (0..CALLS).map(call).collect();
        times.sort_unstable();
        println!("{tokens} tokens: p50 {:?}, p99 {:?}", times[CALLS / 2], times[CALLS * 99 / 100]);
    }
}

fn classify(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let classifier = Classifier::load(&spec()).expect("the built-in model loads");
    let mut group = c.benchmark_group("classify");
    for tokens in TOKENS {
        let text = text(tokens);
        group.bench_with_input(BenchmarkId::new("tokens", tokens), &text, |bench, text| {
            bench.iter(|| {
                let deadline = Instant::now() + Duration::from_secs(10);
                runtime.block_on(classifier.classify(black_box(text), ClassifyHeads::DOMAIN, deadline))
            });
        });
    }
    // No two alike: a window is computed once, however many texts have it.
    let texts: Vec<String> = (0..16).map(|at| format!("{at} {}", text(63))).collect();
    group.bench_function("texts/16x64", |bench| {
        bench.iter(|| {
            let deadline = Instant::now() + Duration::from_secs(10);
            runtime.block_on(classifier.classify_all(black_box(&texts), ClassifyHeads::DOMAIN, deadline))
        });
    });
    group.finish();
}

/// What patterns cost, of personal data and secrets: a classifier whose model finds neither searches by them alone.
fn patterns(c: &mut Criterion) {
    const PERSONAL: ClassifyHeads = ClassifyHeads { pii: true, ..ClassifyHeads::NONE };
    const PROSE: &str =
        "Our bank in the old city keeps its 12 rivers open on 2026-11-30; ask the clerk, he knows. ";
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models/sentence-bert-dense");
    let spec = ClassifierSpec { model: ModelSource::Folder(folder.into()), ..spec() };
    let classifier = Classifier::load(&spec).expect("the model loads");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let mut group = c.benchmark_group("patterns");
    for (name, phrase, bytes) in [
        ("prose", PROSE, 1 << 10),
        ("prose", PROSE, 16 << 10),
        ("words without values", "the password is required: ask; ", 16 << 10),
        ("mail addresses", "write to a@b.org today, it is about that; ", 1 << 20),
    ] {
        let text: String = phrase.chars().cycle().take(bytes).collect();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::new(name, bytes), &text, |bench, text| {
            bench.iter(|| {
                let deadline = Instant::now() + Duration::from_secs(10);
                runtime.block_on(classifier.classify(black_box(text), PERSONAL, deadline))
            });
        });
    }
    group.finish();
}

fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    group.sample_size(10);
    group.bench_function("load", |bench| bench.iter(|| Classifier::load(&spec()).expect("the model loads")));
    group.finish();
}

criterion_group!(benches, percentiles, classify, patterns, load);
criterion_main!(benches);
