//! Owns `signalbox eval`: a classifier evaluated on labelled texts.
//!
//! The arithmetic is `evaluation`'s.

mod table;

use super::Failure;
use super::offline::{OfflineArgs, OfflineSnapshot, print_line, progress_bar, runtime};
use crate::cache::{LEAST_JUDGED, is_same_question, may_be_paraphrase};
use crate::classify::{ClassifyHeads, Entity, Findings, ParaphraseScore, PiiFindings, Unknown, pii_kinds};
use crate::evaluation::{
    self, FoundThreshold, GroundTruth, JudgedOutcomes, KnownLabels, LabeledSignal, LabeledSpan, Latency,
    PairedReport, Report, Sample, SampleOutcome, Samples,
};
use crate::policy::{BasisPoints, ClassifierModels, ModelSource, Policy, is_secret};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// From which likeness on a semantic cache answers where its decision says nothing.
const USUAL_CACHE_SCORE: f32 = 0.92;

/// Arguments of `signalbox eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// JSON lines, each a `text` with a `label` (a domain, or `jailbreak` and `benign`) or, for personal data and secrets, with
    /// `types` or `spans` ([[start, end, type], …] in characters), or with an `other` text for the semantic cache (`same`
    /// and `different`); `-` is standard input.
    file: PathBuf,
    /// What the texts are labelled with; inferred from the labels when left out.
    #[arg(long, value_enum)]
    signal: Option<EvalSignal>,
    /// Evaluate this model instead of the policy's: `builtin`, a folder, or `hf://owner/name[@revision]`.
    #[arg(long, value_name = "SOURCE")]
    model: Option<String>,
    /// Evaluate this model on the same texts too, and say whether the difference can be chance.
    #[arg(long, value_name = "SOURCE")]
    compare: Option<String>,
    /// Find the lowest threshold at which a guard flags no more than this share of the benign texts, such as 0.01.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    false_positive_rate: Option<f64>,
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
    Secrets,
    Pair,
}

/// A report with its subject.
#[derive(Serialize)]
struct Evaluation {
    file: String,
    #[serde(flatten)]
    model: ModelEvaluation,
    /// The same of another model, and both side by side.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<ComparedEvaluation>,
}

#[derive(Serialize)]
struct ModelEvaluation {
    model: String,
    #[serde(flatten)]
    report: Report,
    /// The threshold for the wanted share of false positives.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<FoundThreshold>,
}

#[derive(Serialize)]
struct ComparedEvaluation {
    #[serde(flatten)]
    model: ModelEvaluation,
    paired: PairedReport,
}

/// What one model answered.
struct Answers {
    outcomes: Vec<SampleOutcome>,
    /// From which score on a text is flagged or, for classes, an answer decides.
    threshold: f32,
    latency: Latency,
}

impl Answers {
    fn judged(&self) -> JudgedOutcomes<'_> {
        JudgedOutcomes { outcomes: &self.outcomes, threshold: self.threshold }
    }
}

impl EvalArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let text = read(&self.file)?;
        let offline = self.load(self.model.as_deref())?;
        let file = self.file.display().to_string();
        let classifier = &offline.snapshot.classifier;
        let signal = self.signal.map(EvalSignal::signal);
        let mut known = KnownLabels {
            domains: classifier.labels().iter().map(ToString::to_string).collect(),
            pii_kinds: pii_kinds(&classifier.models()).into_iter().collect(),
        };
        if signal == Some(LabeledSignal::Secrets) {
            known.pii_kinds.retain(|kind| is_secret(kind));
        }
        let samples = evaluation::read(&text, signal, &known).map_err(|bad| format!("{file}: {bad}"))?;
        let has_scores = matches!(samples.signal, LabeledSignal::Jailbreak | LabeledSignal::Pair);
        if self.false_positive_rate.is_some() && !has_scores {
            return Err(
                "--false-positive-rate is for texts that are labelled `jailbreak` and `benign`".into()
            );
        }
        let (model, answers) = self.evaluate(&offline, &samples)?;
        // Two models are never in memory at once.
        drop(offline);
        let compared = match &self.compare {
            None => None,
            Some(other) => {
                let (model, others) = self.evaluate(&self.load(Some(other))?, &samples)?;
                let sides = [&answers, &others].map(Answers::judged);
                let paired = PairedReport::of(&samples, sides[0], sides[1]);
                paired.map(|paired| ComparedEvaluation { model, paired })
            }
        };
        let evaluation = Evaluation { file, model, compared };
        let text = if self.json { serde_json::to_string(&evaluation)? } else { table::of(&evaluation) };
        print_line(&text)?;
        Ok(())
    }

    /// Loads the policy's classifier, or this model instead.
    fn load(&self, model: Option<&str>) -> Result<OfflineSnapshot, Failure> {
        self.offline.load(|spec| {
            if let Some(model) = model {
                spec.model = ModelSource::from(model.to_owned());
                spec.models = ClassifierModels::default();
            }
        })
    }

    fn evaluate(
        &self,
        offline: &OfflineSnapshot,
        samples: &Samples,
    ) -> Result<(ModelEvaluation, Answers), Failure> {
        let model = model_of(offline, samples.signal)
            .ok_or_else(|| format!("no loaded model answers `{}`", samples.signal.as_str()))?;
        let answers = runtime()?.block_on(answers(offline, samples, self.batch.get()));
        let report = evaluation::report(samples, &answers.outcomes, answers.threshold, answers.latency);
        let found = self.false_positive_rate.map(|wanted| {
            FoundThreshold::of(&scores(samples, &answers.outcomes), wanted)
                .ok_or_else(|| format!("{model}: no threshold flags so few of the benign texts"))
        });
        Ok((ModelEvaluation { model, report, found: found.transpose()? }, answers))
    }
}

/// The guard's scores, each with whether the text was to be flagged.
fn scores(samples: &Samples, outcomes: &[SampleOutcome]) -> Vec<(f64, bool)> {
    let each = samples.items.iter().zip(outcomes);
    let scores = each.filter_map(|(sample, outcome)| match (&sample.truth, outcome) {
        (GroundTruth::Class(class), SampleOutcome::Score(score)) => Some((*score, *class == 1)),
        _ => None,
    });
    scores.collect()
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is between 0 and 1".to_owned()) }
}

impl EvalSignal {
    fn signal(self) -> LabeledSignal {
        match self {
            Self::Domain => LabeledSignal::Domain,
            Self::Jailbreak => LabeledSignal::Jailbreak,
            Self::Pii => LabeledSignal::Pii,
            Self::Secrets => LabeledSignal::Secrets,
            Self::Pair => LabeledSignal::Pair,
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
        LabeledSignal::Secrets => ClassifyHeads::PATTERNS,
        LabeledSignal::Pair => ClassifyHeads { embedding: true, ..ClassifyHeads::NONE },
    }
}

/// The source of the model that has this signal.
fn model_of(offline: &OfflineSnapshot, signal: LabeledSignal) -> Option<String> {
    if signal == LabeledSignal::Secrets {
        return Some("patterns".to_owned());
    }
    let models = offline.snapshot.classifier.models();
    let answers = models.iter().find(|model| !model.heads.and(questions(signal)).is_empty());
    answers.map(|model| model.source.clone())
}

async fn answers(offline: &OfflineSnapshot, samples: &Samples, batch: usize) -> Answers {
    let (mut outcomes, mut each) = (Vec::new(), Vec::new());
    let mut threshold = match samples.signal {
        LabeledSignal::Domain => offline.snapshot.policy.classifier.min_confidence.fraction(),
        LabeledSignal::Jailbreak | LabeledSignal::Pii | LabeledSignal::Secrets => 1.0,
        LabeledSignal::Pair => cache_score(&offline.snapshot.policy),
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
        if samples.signal == LabeledSignal::Pair {
            let others: Vec<String> = items.iter().filter_map(|item| item.other.clone()).collect();
            let ask = questions(samples.signal);
            let others = offline.snapshot.classifier.classify_all(&others, ask, offline.deadline()).await;
            for (item, (one, other)) in items.iter().zip(all.into_iter().zip(others)) {
                outcomes.push(pair_outcome(offline, item, one, other).await);
            }
            bar.inc(texts.len() as u64);
            continue;
        }
        for findings in all {
            if let Some(Ok(risk)) = &findings.jailbreak {
                threshold = risk.threshold;
            }
            outcomes.push(outcome(findings, samples));
        }
        bar.inc(texts.len() as u64);
    }
    let took = began.elapsed();
    bar.finish_and_clear();
    Answers { outcomes, threshold, latency: Latency::of(each, took, batch) }
}

/// The least likeness at which the policy's semantic caches answer; the usual one where it has none.
fn cache_score(policy: &Policy) -> f32 {
    let caches = policy.decisions().filter_map(|decision| decision.plugins.cache.as_ref()?.min_score);
    caches.map(BasisPoints::fraction).reduce(f32::min).unwrap_or(USUAL_CACHE_SCORE)
}

/// Judges a pair as the semantic cache does: by the likeness of its embeddings where the text guard lets it pass, and by the
/// paraphrase head, for which any `min_score` will do; a pair that neither takes for the same counts for nothing.
async fn pair_outcome(
    offline: &OfflineSnapshot,
    item: &Sample,
    one: Findings,
    other: Findings,
) -> SampleOutcome {
    let unknown = Err(Unknown::Unsupported);
    let vectors = (one.embedding.unwrap_or(unknown.clone()), other.embedding.unwrap_or(unknown));
    let (one, other) = match vectors {
        (Ok(one), Ok(other)) => (one, other),
        (Err(reason), _) | (_, Err(reason)) => return SampleOutcome::Unknown(reason.as_str()),
    };
    let cosine: f32 = one.iter().zip(other.iter()).map(|(a, b)| a * b).sum();
    let Some(kept) = item.other.as_deref() else { return SampleOutcome::Score(0.0) };
    if cosine >= LEAST_JUDGED && may_be_paraphrase(&item.text, kept) {
        let judged = offline.snapshot.classifier.compare(&item.text, &[kept], offline.deadline()).await;
        if judged.first().is_some_and(|found| found.as_ref().is_ok_and(ParaphraseScore::is_same)) {
            return SampleOutcome::Score(1.0);
        }
    }
    let passes = is_same_question(&item.text, kept);
    SampleOutcome::Score(if passes { f64::from(cosine.clamp(0.0, 1.0)) } else { 0.0 })
}

/// The outcome of the one signal that was evaluated.
fn outcome(findings: Findings, samples: &Samples) -> SampleOutcome {
    let labels = &samples.labels;
    let Findings { domain, jailbreak, pii, .. } = findings;
    let domain = domain.map(|found| {
        found.map(|label| {
            let class = labels.iter().position(|known| **known == *label.name).unwrap_or(labels.len());
            SampleOutcome::Class { class, confidence: f64::from(label.confidence) }
        })
    });
    let jailbreak = jailbreak.map(|found| found.map(|risk| SampleOutcome::Score(f64::from(risk.score))));
    let entities = |found: Vec<Entity>| SampleOutcome::Entities(found.iter().map(span).collect());
    let complete = |found: PiiFindings| match samples.signal {
        LabeledSignal::Secrets => found.complete_among(is_secret),
        _ => found.complete(),
    };
    let pii = pii.map(|found| complete(found).map(entities));
    let answer = domain.or(jailbreak).or(pii);
    answer.map_or(SampleOutcome::Unknown("unsupported"), |answer| {
        answer.unwrap_or_else(|unknown| SampleOutcome::Unknown(unknown.as_str()))
    })
}

fn span(entity: &Entity) -> (LabeledSpan, f64) {
    let kind = entity.kind.to_string();
    (LabeledSpan { start: entity.chars.start, end: entity.chars.end, kind }, f64::from(entity.confidence))
}
