//! Owns `signalbox eval`: a classifier evaluated on labelled texts.
//!
//! The arithmetic is `evaluation`'s.

mod table;

use super::Failure;
use super::offline::{OfflineArgs, OfflineSnapshot, print_line, progress_bar, runtime};
use crate::classify::{ClassifyHeads, Entity, Findings, pii_kinds};
use crate::evaluation::{
    self, KnownLabels, LabeledSignal, LabeledSpan, Latency, Report, SampleOutcome, Samples,
};
use crate::policy::{ClassifierModels, ModelSource};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `signalbox eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// JSON lines, each a `text` with a `label` (a domain, or `jailbreak` and `benign`) or, for personal data, with
    /// `types` or `spans` ([[start, end, type], …] in characters); `-` is standard input.
    file: PathBuf,
    /// What the texts are labelled with; inferred from the labels when left out.
    #[arg(long, value_enum)]
    signal: Option<EvalSignal>,
    /// Evaluate this model instead of the policy's: `builtin`, a folder, or `hf://owner/name[@revision]`.
    #[arg(long, value_name = "SOURCE")]
    model: Option<String>,
    #[command(flatten)]
    offline: OfflineArgs,
    /// How many texts are classified at once; one at a time shows the latency of a single request on an idle machine.
    #[arg(long, value_name = "TEXTS", default_value = "1")]
    batch: NonZeroUsize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EvalSignal {
    Domain,
    Jailbreak,
    Pii,
}

/// A report with its subject.
#[derive(Serialize)]
struct Evaluation {
    file: String,
    model: String,
    #[serde(flatten)]
    report: Report,
}

impl EvalArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let text = read(&self.file)?;
        let offline = self.offline.load(|spec| {
            if let Some(model) = &self.model {
                spec.model = ModelSource::from(model.clone());
                spec.models = ClassifierModels::default();
            }
        })?;
        let file = self.file.display().to_string();
        let classifier = &offline.snapshot.classifier;
        let known = KnownLabels {
            domains: classifier.labels().iter().map(ToString::to_string).collect(),
            pii_kinds: pii_kinds(&classifier.models()).into_iter().collect(),
        };
        let samples = evaluation::read(&text, self.signal.map(EvalSignal::signal), &known)
            .map_err(|bad| format!("{file}: {bad}"))?;
        let model = model_of(&offline, samples.signal)
            .ok_or_else(|| format!("no loaded model answers `{}`", samples.signal.as_str()))?;
        let report = runtime()?.block_on(evaluate(&offline, &samples, self.batch.get()));
        let evaluation = Evaluation { file, model, report };
        let text = if self.json { serde_json::to_string(&evaluation)? } else { table::of(&evaluation) };
        print_line(&text)?;
        Ok(())
    }
}

impl EvalSignal {
    fn signal(self) -> LabeledSignal {
        match self {
            Self::Domain => LabeledSignal::Domain,
            Self::Jailbreak => LabeledSignal::Jailbreak,
            Self::Pii => LabeledSignal::Pii,
        }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn questions(signal: LabeledSignal) -> ClassifyHeads {
    match signal {
        LabeledSignal::Domain => ClassifyHeads { domain: true, ..ClassifyHeads::NONE },
        LabeledSignal::Jailbreak => ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE },
        LabeledSignal::Pii => ClassifyHeads { pii: true, ..ClassifyHeads::NONE },
    }
}

/// The source of the model that has this signal.
fn model_of(offline: &OfflineSnapshot, signal: LabeledSignal) -> Option<String> {
    let models = offline.snapshot.classifier.models();
    let answers = models.iter().find(|model| !model.heads.and(questions(signal)).is_empty());
    answers.map(|model| model.source.clone())
}

async fn evaluate(offline: &OfflineSnapshot, samples: &Samples, batch: usize) -> Report {
    let (mut outcomes, mut each) = (Vec::new(), Vec::new());
    let mut threshold = match samples.signal {
        LabeledSignal::Domain => offline.snapshot.policy.classifier.min_confidence.fraction(),
        LabeledSignal::Jailbreak | LabeledSignal::Pii => 1.0,
    };
    let (bar, began) = (progress_bar(samples.items.len()), Instant::now());
    for items in samples.items.chunks(batch) {
        let texts: Vec<String> = items.iter().map(|item| item.text.clone()).collect();
        let began_batch = Instant::now();
        let all = offline
            .snapshot
            .classifier
            .classify_all(&texts, questions(samples.signal), offline.deadline())
            .await;
        each.extend(std::iter::repeat_n(began_batch.elapsed(), texts.len()));
        for findings in all {
            if let Some(Ok(risk)) = &findings.jailbreak {
                threshold = risk.threshold;
            }
            outcomes.push(outcome(findings, &samples.labels));
        }
        bar.inc(texts.len() as u64);
    }
    let took = began.elapsed();
    bar.finish_and_clear();
    evaluation::report(samples, &outcomes, threshold, Latency::of(each, took, batch))
}

/// The outcome of the one signal that was evaluated.
fn outcome(findings: Findings, labels: &[String]) -> SampleOutcome {
    let Findings { domain, jailbreak, pii, .. } = findings;
    let domain = domain.map(|found| {
        found.map(|label| {
            let class = labels.iter().position(|known| **known == *label.name).unwrap_or(labels.len());
            SampleOutcome::Class { class, confidence: f64::from(label.confidence) }
        })
    });
    let jailbreak = jailbreak.map(|found| found.map(|risk| SampleOutcome::Score(f64::from(risk.score))));
    let entities = |found: Vec<Entity>| SampleOutcome::Entities(found.iter().map(span).collect());
    let pii = pii.map(|found| found.complete().map(entities));
    let answer = domain.or(jailbreak).or(pii);
    answer.map_or(SampleOutcome::Unknown("unsupported"), |answer| {
        answer.unwrap_or_else(|unknown| SampleOutcome::Unknown(unknown.as_str()))
    })
}

fn span(entity: &Entity) -> (LabeledSpan, f64) {
    let kind = entity.kind.to_string();
    (LabeledSpan { start: entity.chars.start, end: entity.chars.end, kind }, f64::from(entity.confidence))
}
