//! How long it takes to evaluate signals without a classifier, to decide by them, to plan, and to make a new policy ready.
//!
//! `cargo bench --bench decide`

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::FutureExt;
use signalbox::classify::Classifier;
use signalbox::decide::decide;
use signalbox::language::detect;
use signalbox::openai::{Api, ChatRequest};
use signalbox::policy::{ClassifierSpec, Fixed, Policy, SignalId, load};
use signalbox::route::{PlanInput, plan};
use signalbox::signals::{
    Audience, Detectors, Requirements, SignalQuery, SignalReason, SignalValue, Signals,
};
use signalbox::snapshot::{EndpointSlots, Snapshot};

const HEAD: &str = "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels: {m: {pools: [p]}}\n\
                    pools: {p: {endpoints: [\"127.0.0.1:1\"]}}\n";

fn policy(text: &str) -> Policy {
    load(text, Path::new("."), &Fixed::default(), None).expect("a valid policy")
}

fn classifier() -> Classifier {
    Classifier::load(&ClassifierSpec::default()).expect("the built-in model")
}

fn request(text: &str) -> ChatRequest {
    request_for("auto", text)
}

fn request_for(model: &str, text: &str) -> ChatRequest {
    let messages = serde_json::json!({"model": model, "messages": [{"role": "user", "content": text}]});
    ChatRequest::parse(Bytes::from(messages.to_string())).expect("a valid request")
}

/// A policy whose decisions each hold a tree of five signals against requests, of which there are `signals`.
fn trees(decisions: usize, signals: usize) -> String {
    let mut text = format!("{HEAD}signals:\n");
    for at in 0..signals {
        let _ = writeln!(text, "  s{at}: {{keyword: {{any: [word{at}, \"phrase {at}\"]}}}}");
    }
    text.push_str("decisions:\n");
    for at in 0..decisions {
        let of = |more: usize| (at * 3 + more) % signals;
        let _ = writeln!(
            text,
            "- {{name: d{at}, priority: {at}, model: m, when: {{all: [{{any: [s{}, {{signal: s{}, min_score: 0.9}}]}}, \
             {{any: [s{}, s{}]}}, {{not: s{}}}]}}}}",
            of(0),
            of(1),
            of(2),
            of(3),
            of(4)
        );
    }
    text
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for count in [50, 1000] {
        let policy = policy(&trees(count, 40));
        // Half of each tree holds, so that none ends early and none matches.
        let signals = (0..40).fold(Signals::empty(policy.signals.len()), |signals, at| {
            let score = if at % 2 == 0 { 0.7 } else { 0.0 };
            let value = SignalValue {
                score,
                matches: score > 0.0,
                reason: SignalReason::Hits { hits: at % 2, of: 2 },
            };
            signals.with(SignalId(at), Ok(value))
        });
        group.bench_function(BenchmarkId::new("decisions", count), |b| {
            b.iter(|| black_box(decide(&policy.recipes[0], Audience::Open, black_box(&signals))));
        });
    }
    group.finish();
}

/// Reads what every signal of a policy says of a text; nothing here waits for a classifier.
fn read(c: &mut Criterion, name: &str, signals: &str, text: &str) {
    let policy = policy(&format!("{HEAD}signals:\n{signals}"));
    let classifier = classifier();
    let detectors = Detectors::build(&policy, &classifier).expect("detectors");
    let requirements = Requirements::all(&policy);
    let request = request(text);
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            let deadline = Instant::now() + Duration::from_secs(1);
            let query = SignalQuery {
                request: &request,
                principal: None,
                requirements: &requirements,
                limits: deadline.into(),
            };
            detectors.evaluate(query, &classifier).now_or_never().expect("nothing to wait for")
        });
    });
    group.finish();
}

fn cheap(c: &mut Criterion) {
    let sentence = "Could you explain, step by step, why the refund of order 4711 was not booked yet? ";
    let text = |bytes: usize| sentence.repeat(bytes / sentence.len() + 1)[..bytes].to_owned();
    let words: Vec<String> = (0..1000).map(|at| format!("keyword{at}")).collect();
    let keywords = |rest: &str| format!("  a: {{keyword: {{any: [refund, {}]{rest}}}}}\n", words.join(", "));
    read(c, "keywords: 1000 words, 8 KB", &keywords(""), &text(8 << 10));
    read(c, "keywords: 1000 words, 1 edit, 8 KB", &keywords(", max_edits: 1"), &text(8 << 10));
    let many = (0..50).fold(String::new(), |mut all, at| {
        let _ = writeln!(all, "  s{at}: {{keyword: {{any: [word{at}, \"step by {at}\"]}}}}");
        all
    });
    read(c, "keywords: 50 signals, 8 KB", &many, &text(8 << 10));
    let few = "  a: {keyword: {any: [urgent, chargeback, invoice, \"step by step\"]}}\n";
    read(c, "keywords: 1 signal, 32 KB", few, &text(32 << 10));
    let all = format!("{few}{}", few.replace("a:", "b:").replace("any", "case_sensitive: true, all"));
    read(c, "keywords: 1 signal of each case, 32 KB", &all, &text(32 << 10));
    for kilobytes in [10, 100] {
        let signals = "  a: {structure: {count: '\\?', min: 3}}\n  b: {structure: {sequence: [explain, because], min: 1}}\n";
        read(c, &format!("structure: 2 signals, {kilobytes} KB"), signals, &text(kilobytes * 1000));
    }
    read(c, "language, 8 KB", "  a: {language: {any: [fr]}}\n", &text(8 << 10));
    read(c, "context, 8 KB", "  a: {context: {min_tokens: 2000}}\n", &text(8 << 10));
    read(c, "context, 100 KB", "  a: {context: {min_tokens: 2000}}\n", &text(100_000));
    let facts = "  a: {conversation: {feature: turns, min: 2}}\n  b: {metadata: {key: plan, exists: true}}\n\
                 \x20 c: {identity: {groups: [staff]}}\n";
    read(c, "facts, 1 KB", facts, &text(1 << 10));
}

/// Detects the language of a short prompt, an ordinary one and a long one.
fn languages(c: &mut Criterion) {
    let sentence = "Could you explain, step by step, why the refund of order 4711 was not booked yet? ";
    let mut group = c.benchmark_group("language");
    for bytes in [40, 1 << 10, 32 << 10] {
        let text = &sentence.repeat(bytes / sentence.len() + 1)[..bytes];
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| b.iter(|| detect(black_box(text))));
    }
    group.finish();
}

/// Plans a request that names its model, and one that leaves it to a decision by signals that are not learned.
fn plans(c: &mut Criterion) {
    let pool = "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels: {m: {pools: [p]}, n: {pools: [p]}}\n\
                pools: {p: {endpoints: [\"127.0.0.1:1\"]}}\n";
    let signals = "signals: {urgent: {keyword: {any: [urgent, chargeback, invoice]}}}\n\
                   decisions: [{name: urgent, when: urgent, model: n}]\n";
    let policy = Arc::new(policy(&format!("{pool}{signals}")));
    let snapshot = Snapshot::around(Arc::new(classifier()), policy.into(), EndpointSlots::default(), None);
    let snapshot = snapshot.expect("a snapshot");
    let mut group = c.benchmark_group("plan");
    for kilobytes in [1, 32] {
        let text =
            "Could you explain why the refund of order 4711 was not booked yet? \n".repeat(kilobytes * 15);
        for model in ["m", "auto"] {
            let request = request_for(model, &text);
            let input = || PlanInput {
                api: Api::Chat,
                request: &request,
                principal: None,
                sent: &[],
                deadline: Instant::now() + Duration::from_secs(1),
                dry_run: true,
            };
            group.bench_function(BenchmarkId::new(model, format!("{kilobytes} KB")), |b| {
                b.iter(|| plan(&snapshot, input()).now_or_never().expect("nothing to wait for"));
            });
        }
    }
    group.finish();
}

fn reload(c: &mut Criterion) {
    let classifier = classifier();
    let mut group = c.benchmark_group("reload");
    group.sample_size(20);
    let text = trees(1000, 1000);
    group.bench_function("load 1000 decisions over 1000 signals", |b| b.iter(|| policy(black_box(&text))));
    let policy = policy(&text);
    group.bench_function("build their detectors", |b| {
        b.iter(|| Detectors::build(black_box(&policy), &classifier).expect("detectors"));
    });
    group.bench_function("gather their requirements", |b| {
        b.iter(|| Requirements::for_audience(black_box(&policy), &policy.recipes[0], Audience::Open));
    });
    group.finish();
}

criterion_group!(benches, decisions, cheap, languages, plans, reload);
criterion_main!(benches);
