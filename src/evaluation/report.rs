//! Owns the report: labelled texts beside their answers, all figures at once.

use super::Share;
use super::calibration::Calibration;
use super::classes::{ClassScore, Confusion, Counts, macro_f1};
use super::ranking::Ranking;
use super::sample::{GroundTruth, LabeledSignal, Samples};
use super::spans::{ByKind, LabeledSpan, compare};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The answer to one text.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleOutcome {
    /// A class by its index, and how sure that is.
    Class {
        /// The class.
        class: usize,
        /// Its probability.
        confidence: f64,
    },
    /// How probable it is that the text is to be flagged.
    Score(f64),
    /// What was found where, and how sure each is.
    Entities(Vec<(LabeledSpan, f64)>),
    /// No answer, for this reason.
    Unknown(&'static str),
}

/// What one classifier did on one set of labelled texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What the texts are labelled for.
    pub signal: LabeledSignal,
    /// How many texts there were.
    pub texts: usize,
    /// How many texts were answered rightly.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// The mean F1 of the classes.
    pub macro_f1: f64,
    /// The figures of each class, or type of personal data: how many texts have it, and whether it was found there.
    pub classes: Vec<ClassScore>,
    /// What was answered to texts of each class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// The answers that are sure enough for a decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confident: Option<ConfidentAnswers>,
    /// How well the score tells attacks from the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranking: Option<Ranking>,
    /// How many of the exact places were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spans: Option<SpanReport>,
    /// Whether confidences mean what they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// How many texts have no answer, by reason.
    pub unknown: BTreeMap<&'static str, usize>,
    /// How long it took.
    pub latency: Latency,
}

/// The share of texts answered rightly, no answer being a wrong one; for personal data, the share whose types were all
/// found and no others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// The share.
    #[serde(rename = "accuracy")]
    pub value: f64,
    /// Its 95 % interval.
    #[serde(rename = "accuracy_interval")]
    pub interval: [f64; 2],
    /// The share of the texts that were answered.
    #[serde(rename = "accuracy_of_answered")]
    pub of_answered: Option<f64>,
}

impl Accuracy {
    fn of(hits: usize, answered: usize, texts: usize) -> Self {
        let share = Share::of(hits, texts);
        Self {
            value: share.map_or(0.0, |share| share.value),
            interval: share.map_or([0.0, 1.0], |share| share.interval),
            of_answered: Share::of(hits, answered).map(|share| share.value),
        }
    }
}

/// The answers at or above a confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ConfidentAnswers {
    /// The least confidence.
    pub min_confidence: f32,
    /// The share of all texts whose answer is that sure.
    pub share: f64,
    /// The accuracy of those answers; none if there are none.
    pub accuracy: Option<f64>,
}

/// The exact places: a span counts as found when its start, its end and its type are right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanReport {
    /// The share of the spans found that are right.
    pub precision: f64,
    /// The share of the right spans that were found.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// The same for each type.
    pub types: Vec<ClassScore>,
}

/// How long the answers took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// How many texts were asked at once.
    pub batch: usize,
    /// The median.
    pub p50_ms: f64,
    /// Nine in ten were quicker.
    pub p90_ms: f64,
    /// Ninety-nine in a hundred were quicker.
    pub p99_ms: f64,
    /// Texts per second over the whole run.
    pub texts_per_second: f64,
}

impl Latency {
    /// The percentiles, by nearest rank, of how long each text took; `took` is the whole run.
    pub fn of(mut each: Vec<Duration>, took: Duration, batch: usize) -> Self {
        each.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (each.len() * percent).div_ceil(100).max(1);
            each.get(rank - 1).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
        };
        Self {
            batch,
            p50_ms: percentile(50),
            p90_ms: percentile(90),
            p99_ms: percentile(99),
            texts_per_second: each.len() as f64 / took.as_secs_f64().max(f64::EPSILON),
        }
    }
}

/// Judges `outcomes`, one for each sample. `threshold` is the score from which on a text is flagged or, for classes,
/// the least confidence at which an answer decides.
pub fn report(samples: &Samples, outcomes: &[SampleOutcome], threshold: f32, latency: Latency) -> Report {
    let mut unknown = BTreeMap::new();
    for outcome in outcomes {
        if let SampleOutcome::Unknown(reason) = outcome {
            *unknown.entry(*reason).or_default() += 1;
        }
    }
    let judged = match samples.signal {
        LabeledSignal::Pii | LabeledSignal::Secrets => personal_data(samples, outcomes),
        LabeledSignal::Domain | LabeledSignal::Jailbreak | LabeledSignal::Pair => {
            classes(samples, outcomes, threshold)
        }
    };
    let answered = samples.items.len() - unknown.values().sum::<usize>();
    Report {
        signal: samples.signal,
        texts: samples.items.len(),
        accuracy: Accuracy::of(judged.hits, answered, samples.items.len()),
        macro_f1: macro_f1(&judged.classes),
        classes: judged.classes,
        confusion: judged.confusion,
        confident: judged.confident,
        ranking: judged.ranking,
        spans: judged.spans,
        calibration: judged.calibration,
        unknown,
        latency,
    }
}

/// What differs between the signals.
#[derive(Default)]
struct SignalFigures {
    hits: usize,
    classes: Vec<ClassScore>,
    confusion: Option<Confusion>,
    confident: Option<ConfidentAnswers>,
    ranking: Option<Ranking>,
    spans: Option<SpanReport>,
    calibration: Option<Calibration>,
}

fn classes(samples: &Samples, outcomes: &[SampleOutcome], threshold: f32) -> SignalFigures {
    let mut confusion = Confusion::new(samples.labels.clone());
    // Each answer's confidence, and whether it was right or, for a score, whether the text was to be flagged.
    let mut answers = Vec::with_capacity(outcomes.len());
    for (sample, outcome) in samples.items.iter().zip(outcomes) {
        let GroundTruth::Class(truth) = sample.truth else { continue };
        match *outcome {
            SampleOutcome::Class { class, confidence } => {
                confusion.add(truth, Some(class));
                answers.push((confidence, class == truth));
            }
            SampleOutcome::Score(score) => {
                confusion.add(truth, Some(usize::from(score >= f64::from(threshold))));
                answers.push((score, truth == 1));
            }
            SampleOutcome::Entities(_) | SampleOutcome::Unknown(_) => confusion.add(truth, None),
        }
    }
    let is_score = matches!(samples.signal, LabeledSignal::Jailbreak | LabeledSignal::Pair);
    SignalFigures {
        hits: confusion.hits(),
        classes: confusion.classes(),
        confident: (!is_score).then(|| confident(&answers, samples.items.len(), threshold)),
        ranking: is_score.then(|| Ranking::of(&answers, threshold)),
        calibration: Calibration::of(&answers),
        confusion: Some(confusion),
        spans: None,
    }
}

fn confident(answers: &[(f64, bool)], texts: usize, min_confidence: f32) -> ConfidentAnswers {
    let sure = answers.iter().filter(|(confidence, _)| *confidence >= f64::from(min_confidence));
    let (count, right) = (sure.clone().count(), sure.filter(|(_, is_right)| *is_right).count());
    ConfidentAnswers {
        min_confidence,
        share: Share::of(count, texts).map_or(0.0, |share| share.value),
        accuracy: Share::of(right, count).map(|share| share.value),
    }
}

fn personal_data(samples: &Samples, outcomes: &[SampleOutcome]) -> SignalFigures {
    let (mut hits, mut by_type, mut by_span) = (0, ByKind::new(), ByKind::new());
    let (mut answers, mut has_spans) = (Vec::new(), false);
    for (sample, outcome) in samples.items.iter().zip(outcomes) {
        let found: &[(LabeledSpan, f64)] =
            if let SampleOutcome::Entities(found) = outcome { found } else { &[] };
        let types: BTreeSet<&str> = found.iter().map(|(span, _)| span.kind.as_str()).collect();
        let truth: BTreeSet<&str> = match &sample.truth {
            GroundTruth::Spans(spans) => spans.iter().map(|span| span.kind.as_str()).collect(),
            GroundTruth::Types(types) => types.iter().map(String::as_str).collect(),
            GroundTruth::Class(_) => continue,
        };
        compare(&mut by_type, &truth, &types, |kind| kind);
        hits += usize::from(truth == types && matches!(outcome, SampleOutcome::Entities(_)));
        if let GroundTruth::Spans(spans) = &sample.truth {
            has_spans = true;
            compare(&mut by_span, spans, &found.iter().map(|(span, _)| span.clone()).collect(), |span| {
                &span.kind
            });
            answers.extend(found.iter().map(|(span, confidence)| (*confidence, spans.contains(span))));
        } else {
            let there = |span: &LabeledSpan| truth.contains(span.kind.as_str());
            answers.extend(found.iter().map(|(span, confidence)| (*confidence, there(span))));
        }
    }
    SignalFigures {
        hits,
        classes: scores(by_type),
        spans: has_spans.then(|| span_report(by_span)),
        calibration: Calibration::of(&answers),
        ..SignalFigures::default()
    }
}

fn span_report(by_span: ByKind) -> SpanReport {
    let all = by_span.values().fold(Counts::default(), |all, counts| all.plus(*counts));
    SpanReport { precision: all.precision(), recall: all.recall(), f1: all.f1(), types: scores(by_span) }
}

fn scores(by_kind: ByKind) -> Vec<ClassScore> {
    by_kind.into_iter().map(|(kind, counts)| ClassScore::new(kind, counts)).collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are computed exactly")]
mod tests {
    use super::super::sample::{KnownLabels, read};
    use super::*;

    fn latency() -> Latency {
        Latency::of(vec![Duration::from_millis(2)], Duration::from_millis(4), 1)
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let each: Vec<_> = (1..=10).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(each, Duration::from_millis(20), 1);
        assert_eq!((latency.p50_ms, latency.p90_ms, latency.p99_ms), (5.0, 9.0, 10.0));
        assert_eq!(latency.texts_per_second, 500.0);
    }

    fn known() -> KnownLabels {
        let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        KnownLabels { domains: names(["law", "math"]), pii_kinds: names(["AGE", "PERSON"]) }
    }

    #[test]
    fn no_answer_is_a_wrong_one_and_counted_by_its_reason() {
        let file = "{\"text\":\"a\",\"label\":\"math\"}\n{\"text\":\"b\",\"label\":\"math\"}\n\
                    {\"text\":\"c\",\"label\":\"law\"}\n{\"text\":\"d\",\"label\":\"law\"}";
        let samples = read(file, None, &known()).unwrap();
        let outcomes = [
            SampleOutcome::Class { class: 1, confidence: 0.9 },
            SampleOutcome::Class { class: 0, confidence: 0.6 },
            SampleOutcome::Class { class: 0, confidence: 0.4 },
            SampleOutcome::Unknown("late"),
        ];
        let report = report(&samples, &outcomes, 0.5, latency());
        assert_eq!((report.accuracy.value, report.accuracy.of_answered), (0.5, Some(2.0 / 3.0)));
        assert_eq!(report.unknown, BTreeMap::from([("late", 1)]));
        assert_eq!(report.confusion.unwrap().rows, [[1, 0, 1], [1, 1, 0]]);
        let confident = report.confident.unwrap();
        assert_eq!((confident.share, confident.accuracy), (0.5, Some(0.5)));
        // (|0.9 − 1| + |0.6 − 0| + |0.4 − 1|) / 3, each in a bin of its own.
        assert!((report.calibration.unwrap().ece - 1.3 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_score_flags_from_the_threshold_on() {
        let file = "{\"text\":\"a\",\"label\":\"jailbreak\"}\n{\"text\":\"b\",\"label\":\"jailbreak\"}\n\
                    {\"text\":\"c\",\"label\":\"benign\"}\n{\"text\":\"d\",\"label\":\"benign\"}";
        let samples = read(file, None, &known()).unwrap();
        let outcomes = [0.875, 0.6, 0.7, 0.0].map(SampleOutcome::Score);
        let report = report(&samples, &outcomes, 0.875, latency());
        assert_eq!(report.accuracy.value, 0.75);
        let ranking = report.ranking.unwrap();
        assert_eq!((ranking.auroc, ranking.false_positive_rate), (Some(0.75), Some(0.0)));
        assert_eq!(report.classes[1].recall, 0.5);
        assert_eq!(report.confident, None);
    }

    #[test]
    fn types_and_spans_are_judged_by_themselves() {
        let file = "{\"text\":\"Ann is 30\",\"spans\":[[0,3,\"PERSON\"],[7,9,\"AGE\"]]}\n{\"text\":\"nothing\",\"spans\":[]}\n{\"text\":\"Bob\",\"spans\":[[0,3,\"PERSON\"]]}";
        let samples = read(file, None, &known()).unwrap();
        let span = |start, end, kind: &str| (LabeledSpan { start, end, kind: kind.to_owned() }, 0.8);
        let outcomes = [
            SampleOutcome::Entities(vec![span(0, 3, "PERSON"), span(4, 9, "AGE")]),
            SampleOutcome::Entities(vec![]),
            SampleOutcome::Unknown("busy"),
        ];
        let report = report(&samples, &outcomes, 0.5, latency());
        // The types of the first two are right, the third has no answer.
        assert_eq!(report.accuracy.value, 2.0 / 3.0);
        let spans = report.spans.unwrap();
        assert_eq!((spans.precision, spans.recall, spans.f1), (0.5, 1.0 / 3.0, 0.4));
        let labels: Vec<_> = report.classes.iter().map(|class| (class.label.as_str(), class.f1)).collect();
        assert_eq!(labels, [("AGE", 1.0), ("PERSON", 2.0 / 3.0)]);
        assert!((report.calibration.unwrap().ece - 0.3).abs() < 1e-9);
    }
}
