//! Compares ways of choosing a replica: simulated engines in virtual time behind the gateway's own pools.
//!
//! `cargo bench --bench picking` prints a table for each workload; `-- --svg FILE` also draws the first one, `--quick` runs
//! a third of each, and a word runs the workloads whose names have it. Requests come as they come (Poisson), whatever is
//! answered by then: closed loops flatter. Nothing sleeps, and the same seed gives the same load.
//!
//! An engine is modelled on vLLM's scheduler: each step computes one token for each running sequence and, with the rest of
//! its budget, chunks of prompts in their order; blocks of the KV cache are reference-counted, reused by prefix and evicted
//! least recently used; a sequence that finds no block is preempted and computed anew. Its step takes 15 ms, 0.15 ms a
//! sequence and 1/16,000 s a token of a prompt: about Qwen3-32B on two H100, after the benchmarks that llm-d publishes.

mod cluster;
mod engine;
mod plot;

use cluster::{ModelChoosing, Outcome, Workload, run};
use signalbox::policy::{Balance, Fixed, load};
use std::io::{self, Write};
use std::path::Path;

/// The ways of choosing that are compared: name, and `balance` of the policy.
const STRATEGIES: [(&str, &str); 7] = [
    ("round_robin", "{strategy: round_robin}"),
    ("least_request", "{strategy: least_request}"),
    ("prefix alone", "{strategy: scored, scorers: {prefix: 1}}"),
    ("prefix", "{strategy: prefix}"),
    ("kv_aware", "{strategy: kv_aware}"),
    ("llm-d", "{strategy: llm-d}"),
    ("auto", "{strategy: auto}"),
];

/// How long a workload runs, in seconds.
const SECONDS: f64 = 120.0;

const SHARED: Workload = Workload {
    name: "shared prefixes: 150 groups, 6,000 + 1,200 tokens, answers of 1,000, 8 engines",
    engines: 8,
    models: &[1.0],
    groups: Some(150),
    skew: 0.0,
    shared: 6_000,
    own: 1_200,
    answer: 1_000,
    rates: &[3.0, 10.0, 15.0, 20.0, 30.0, 40.0],
};

/// Two models of four engines each, of which the second takes a fifth longer: which is quicker depends on what is cached where.
const TWO_MODELS: Workload = Workload {
    name: "two models: 60 groups, 6,000 + 1,200 tokens, answers of 300, 4 engines each, the second 1.2 times as slow",
    engines: 4,
    models: &[1.0, 1.2],
    groups: Some(60),
    answer: 300,
    rates: &[5.0, 15.0, 25.0, 35.0],
    ..SHARED
};

const WORKLOADS: [Workload; 5] = [
    SHARED,
    Workload {
        name: "uneven groups: Zipf with exponent 1, otherwise as above",
        skew: 1.0,
        rates: &[10.0, 20.0, 30.0],
        ..SHARED
    },
    Workload {
        name: "no reuse: 2,000 tokens, answers of 500, 8 engines",
        groups: None,
        shared: 0,
        own: 2_000,
        answer: 500,
        rates: &[10.0, 25.0, 40.0],
        ..SHARED
    },
    Workload {
        name: "one group: 6,000 + 200 tokens, answers of 300, 2 engines",
        engines: 2,
        groups: Some(1),
        own: 200,
        answer: 300,
        rates: &[2.0, 8.0, 14.0],
        ..SHARED
    },
    Workload {
        name: "a common prompt: one group, 6,000 + 200 tokens, answers of 300, 8 engines",
        groups: Some(1),
        own: 200,
        answer: 300,
        rates: &[8.0, 32.0, 56.0],
        ..SHARED
    },
];

/// What is asked for on the command line.
struct Options {
    seconds: f64,
    svg: Option<String>,
    words: Vec<String>,
}

impl Options {
    fn read(arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self { seconds: SECONDS, svg: None, words: Vec::new() };
        let mut arguments = arguments.filter(|one| one != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.seconds = SECONDS / 3.0,
                "--svg" => options.svg = arguments.next(),
                _ => options.words.push(argument),
            }
        }
        options
    }

    fn has(&self, workload: &Workload) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| workload.name.contains(word.as_str()))
    }
}

fn main() -> io::Result<()> {
    let options = Options::read(std::env::args().skip(1));
    if options.words.iter().any(|word| word == "--test" || word == "--list") {
        // `cargo test --benches` only asks whether it starts.
        return Ok(());
    }
    let mut out = io::stdout().lock();
    if options.has(&TWO_MODELS) {
        two_models(options.seconds, &mut out)?;
    }
    for workload in WORKLOADS.iter().filter(|workload| options.has(workload)) {
        let outcomes = table(workload, options.seconds, &mut out)?;
        if let Some(file) = options.svg.as_ref().filter(|_| workload.name == SHARED.name) {
            std::fs::write(file, plot::svg(workload, &outcomes))?;
        }
    }
    Ok(())
}

/// The outcomes of one way of choosing, at each rate.
type StrategyOutcomes = (&'static str, Vec<Outcome>);

fn table(workload: &Workload, seconds: f64, out: &mut impl Write) -> io::Result<Vec<StrategyOutcomes>> {
    writeln!(out, "\n{}\n", workload.name)?;
    writeln!(out, "| requests/s | strategy | tokens/s | TTFT mean | p90 | p99 | cached | busiest |")?;
    writeln!(out, "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    let mut all: Vec<StrategyOutcomes> = STRATEGIES.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for rate in workload.rates {
        for ((name, yaml), (_, outcomes)) in STRATEGIES.iter().zip(&mut all) {
            let outcome = run(workload, &balance(yaml), ModelChoosing::Pair, *rate, seconds);
            writeln!(
                out,
                "| {rate} | {name} | {:.0} | {:.3} s | {:.3} s | {:.3} s | {:.0} % | {:.2} x |",
                outcome.tokens,
                outcome.mean(),
                outcome.percentile(0.9),
                outcome.percentile(0.99),
                outcome.hits * 100.0,
                outcome.busiest,
            )?;
            outcomes.push(outcome);
        }
    }
    Ok(all)
}

/// What it gives to choose a model together with its replica.
fn two_models(seconds: f64, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}\n", TWO_MODELS.name)?;
    writeln!(out, "| requests/s | chosen | tokens/s | TTFT mean | p90 | p99 | whole mean | cached |")?;
    writeln!(out, "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    let ways = [("model, then replica", ModelChoosing::ModelThenReplica), ("as a pair", ModelChoosing::Pair)];
    for rate in TWO_MODELS.rates {
        for (name, choosing) in ways {
            let outcome = run(&TWO_MODELS, &balance("{strategy: auto}"), choosing, *rate, seconds);
            writeln!(
                out,
                "| {rate} | {name} | {:.0} | {:.3} s | {:.3} s | {:.3} s | {:.2} s | {:.0} % |",
                outcome.tokens,
                outcome.mean(),
                outcome.percentile(0.9),
                outcome.percentile(0.99),
                outcome.whole(),
                outcome.hits * 100.0,
            )?;
        }
    }
    Ok(())
}

fn balance(yaml: &str) -> Balance {
    let text = format!(
        "version: 1\nmodels: {{m: {{pools: [p]}}}}\npools: {{p: {{endpoints: ['a:1'], balance: {yaml}}}}}\n"
    );
    load(&text, Path::new("."), &Fixed::default(), None).expect("a policy").pools[0].balance.clone()
}
