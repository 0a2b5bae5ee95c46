//! Signalbox's side of `benches/classify_ort` and `benches/classify_gpu`: forwards of a model through the public API, as
//! told on standard input.
//!
//! A line is a request in JSON, answered by one line: how long the calls took, how much of that was tokenising, and the
//! embeddings. It measures no CPU time: whoever runs it reads its clock.

#![allow(clippy::print_stdout, reason = "its answers")]

use std::error::Error;
use std::io::{BufRead, stdin};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::json;
use signalbox::classify::{Classifier, ClassifyHeads, Findings};
use signalbox::policy::{ClassifierSpec, DeviceChoice, ModelSource, Precision, WindowSpec};

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Classifies what standard input asks for.
#[derive(Parser)]
struct Arguments {
    /// How many threads compute.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A folder with another model than the built-in one.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where it runs; on the GPU there must be one.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// In which precision a GPU computes.
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    precision: Dtype,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Device {
    Cpu,
    Cuda,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    Auto,
    F32,
    F16,
    Bf16,
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
    /// Whether as many clients as there are texts each ask for their own, again and again, rather than one for all.
    #[serde(default)]
    apart: bool,
}

impl Arguments {
    fn spec(&self) -> ClassifierSpec {
        ClassifierSpec {
            model: self.model.clone().map_or(ModelSource::Builtin, ModelSource::Folder),
            device: if self.device == Device::Cuda { DeviceChoice::Cuda } else { DeviceChoice::Cpu },
            precision: match self.precision {
                Dtype::Auto => Precision::Auto,
                Dtype::F32 => Precision::F32,
                Dtype::F16 => Precision::F16,
                Dtype::Bf16 => Precision::Bf16,
            },
            threads: self.threads,
            // Whole texts as one window, and no answers kept.
            windows: WindowSpec { window: 512, overlap: 0, ..WindowSpec::default() },
            batch_tokens: 16_384,
            cache: 0,
            ..ClassifierSpec::default()
        }
    }
}

/// What one request came to.
#[derive(Default)]
struct Measured {
    tokenize: Duration,
    /// How long each text waited for its answer, in milliseconds.
    latencies: Vec<f64>,
    embeddings: Vec<Vec<f32>>,
}

impl Measured {
    fn add(&mut self, findings: Findings, waited: Duration) -> Result<(), Box<dyn Error>> {
        self.tokenize += findings.cost.tokenize;
        self.latencies.push(waited.as_secs_f64() * 1e3);
        let embedding = findings.embedding.ok_or("no embedding")?;
        self.embeddings.push(embedding.map_err(|unknown| format!("{unknown:?}"))?.to_vec());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let classifier = Classifier::load(&arguments.spec())?;
    let [model] = &classifier.models()[..] else { return Err("one model is meant".into()) };
    if arguments.device == Device::Cuda && !model.device.starts_with("cuda") {
        return Err("there is no GPU, or this was built without the feature cuda".into());
    }
    println!("{}", json!({"ready": true, "device": model.device, "dtype": model.dtype}));
    for line in stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let questions = if request.all {
            ClassifyHeads::ALL
        } else {
            ClassifyHeads { embedding: true, ..ClassifyHeads::NONE }
        };
        let begun = Instant::now();
        let measured = if request.apart {
            runtime.block_on(apart(&classifier, &request, questions))?
        } else {
            runtime.block_on(together(&classifier, &request, questions))?
        };
        let wall = begun.elapsed().as_secs_f64();
        let Measured { tokenize, latencies, embeddings } = measured;
        println!(
            "{}",
            json!({
                "wall": wall,
                "tokenize": tokenize.as_secs_f64(),
                "latencies_ms": latencies,
                "embeddings": embeddings,
            })
        );
    }
    Ok(())
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// Asks for all texts at once, each time in one forward.
async fn together(
    classifier: &Classifier,
    request: &Request,
    questions: ClassifyHeads,
) -> Result<Measured, Box<dyn Error>> {
    let mut measured = Measured::default();
    for _ in 0..request.calls {
        let begun = Instant::now();
        measured.embeddings.clear();
        for findings in classifier.classify_all(&request.texts, questions, deadline()).await {
            let cost = findings.cost;
            // The two special tokens are not counted as read; a batch that takes long is computed in parts.
            let is_as_asked = (cost.windows, cost.tokens + 2) == (1, request.tokens);
            if !is_as_asked {
                return Err(format!("{cost:?} for {} tokens", request.tokens).into());
            }
            measured.add(findings, begun.elapsed())?;
        }
    }
    Ok(measured)
}

/// Lets a client for each text ask for it again and again.
async fn apart(
    classifier: &Classifier,
    request: &Request,
    questions: ClassifyHeads,
) -> Result<Measured, Box<dyn Error>> {
    let client = async |text: &String| {
        let mut found = Vec::new();
        for _ in 0..request.calls {
            let begun = Instant::now();
            let findings = classifier.classify(text, questions, deadline()).await;
            found.push((findings, begun.elapsed()));
        }
        found
    };
    let mut measured = Measured::default();
    for (at, found) in join_all(request.texts.iter().map(client)).await.into_iter().enumerate() {
        for (findings, waited) in found {
            measured.embeddings.truncate(at);
            measured.add(findings, waited)?;
        }
    }
    Ok(measured)
}
