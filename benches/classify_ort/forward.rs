//! Signalbox's side of `benches/classify_ort`: forwards of the built-in model through the public API, as told on standard
//! input.
//!
//! A line is a request in JSON, answered by one line: how long the calls took, how much of that was tokenising, and the
//! embeddings. It measures no CPU time: whoever runs it reads its clock.

#![allow(clippy::print_stdout, reason = "its answers")]

use std::error::Error;
use std::io::{BufRead, stdin};
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Deserialize;
use serde_json::json;
use signalbox::classify::{Classifier, Questions, Spec};

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Classifies what standard input asks for.
#[derive(Parser)]
struct Arguments {
    /// How many threads compute.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Deserialize)]
struct Request {
    /// One batch.
    texts: Vec<String>,
    /// How many tokens each text is, so that nothing else is measured.
    tokens: usize,
    /// How often the batch is computed.
    calls: u32,
    /// Whether every question is asked, rather than for the embedding alone.
    all: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    // Whole texts as one window, and no answers kept.
    let spec = Spec { threads: arguments.threads, window: 512, overlap: 0, cache: 0, ..Spec::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let classifier = Classifier::load(&spec)?;
    println!("{}", json!({"ready": true}));
    for line in stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let questions =
            if request.all { Questions::ALL } else { Questions { embedding: true, ..Questions::NONE } };
        let mut tokenize = Duration::ZERO;
        let mut embeddings = Vec::new();
        let begun = Instant::now();
        for _ in 0..request.calls {
            let deadline = Instant::now() + Duration::from_secs(600);
            let found = runtime.block_on(classifier.classify_all(&request.texts, questions, deadline));
            embeddings.clear();
            for findings in found {
                let cost = findings.cost;
                // The two special tokens are not counted as read.
                let is_as_asked =
                    (cost.windows, cost.batch, cost.tokens + 2) == (1, request.texts.len(), request.tokens);
                if !is_as_asked {
                    return Err(format!("{cost:?} for {} tokens", request.tokens).into());
                }
                tokenize += cost.tokenize;
                let embedding = findings.embedding.ok_or("no embedding")?;
                embeddings.push(embedding.map_err(|unknown| format!("{unknown:?}"))?.to_vec());
            }
        }
        let wall = begun.elapsed().as_secs_f64();
        println!("{}", json!({"wall": wall, "tokenize": tokenize.as_secs_f64(), "embeddings": embeddings}));
    }
    Ok(())
}
