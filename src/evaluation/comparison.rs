//! Owns the comparison of two classifiers on the same texts: how many only one of them has right, and whether that can be
//! chance.

use super::report::SampleOutcome;
use super::sample::{GroundTruth, LabeledSignal, Samples};
use serde::Serialize;

/// What two classifiers did on the same texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// How many texts there are.
    pub texts: usize,
    /// How many the first alone has right.
    pub only_first: usize,
    /// How many the second alone has right.
    pub only_second: usize,
    /// The second's share of right answers less the first's.
    pub difference: f64,
    /// Its 95 % interval, by Bonett and Price (2012) for paired shares.
    pub interval: [f64; 2],
    /// How probable a difference as large is where both are equally good, by the exact test of `McNemar`.
    pub p_value: f64,
}

/// The comparison on all texts and, for guards, on attacks and on the others by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedReport {
    /// On all texts.
    pub all: Comparison,
    /// On the texts that are to be flagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attacks: Option<Comparison>,
    /// On those that are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub benign: Option<Comparison>,
}

/// What one classifier answered, and from which score on that counts.
#[derive(Debug, Clone, Copy)]
pub struct JudgedOutcomes<'a> {
    /// An outcome for each sample.
    pub outcomes: &'a [SampleOutcome],
    /// From which score on a text is flagged.
    pub threshold: f32,
}

impl PairedReport {
    /// Compares the outcomes of two classifiers for the same samples; none of nothing.
    pub fn of(samples: &Samples, first: JudgedOutcomes<'_>, second: JudgedOutcomes<'_>) -> Option<Self> {
        let right = |JudgedOutcomes { outcomes, threshold }: JudgedOutcomes<'_>| -> Vec<bool> {
            let each = samples.items.iter().zip(outcomes);
            each.map(|(sample, outcome)| is_right(&sample.truth, outcome, threshold)).collect()
        };
        let (first, second) = (right(first), right(second));
        let pairs = |class: Option<usize>| {
            let each = samples.items.iter().zip(first.iter().copied().zip(second.iter().copied()));
            let of_class = each
                .filter(|(sample, _)| class.is_none_or(|class| sample.truth == GroundTruth::Class(class)));
            Comparison::of(of_class.map(|(_, pair)| pair))
        };
        let is_guard = samples.signal == LabeledSignal::Jailbreak;
        let of_class = |class| if is_guard { pairs(Some(class)) } else { None };
        Some(Self { all: pairs(None)?, attacks: of_class(1), benign: of_class(0) })
    }
}

impl Comparison {
    /// Compares pairs, each whether the first and the second were right; none of nothing.
    pub fn of(pairs: impl Iterator<Item = (bool, bool)>) -> Option<Self> {
        let (mut texts, mut only_first, mut only_second) = (0, 0, 0);
        for (first, second) in pairs {
            texts += 1;
            only_first += usize::from(first && !second);
            only_second += usize::from(second && !first);
        }
        if texts == 0 {
            return None;
        }
        let n = texts as f64;
        let (first, second) = ((only_first as f64 + 1.0) / (n + 2.0), (only_second as f64 + 1.0) / (n + 2.0));
        let middle = second - first;
        let reach = 1.959_963_985 * ((first + second - middle * middle) / (n + 2.0)).sqrt();
        Some(Self {
            texts,
            only_first,
            only_second,
            difference: (only_second as f64 - only_first as f64) / n,
            interval: [(middle - reach).max(-1.0), (middle + reach).min(1.0)],
            p_value: p_value(only_first, only_second),
        })
    }
}

/// Twice the chance that of so many tosses of a coin as few or fewer fall on the rarer side.
fn p_value(one: usize, other: usize) -> f64 {
    let tosses = one + other;
    // In logarithms: half to the power of a few thousand is no number.
    let mut log_chance = -(tosses as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    for side in 0..=one.min(other) {
        if side > 0 {
            log_chance += ((tosses - side + 1) as f64 / side as f64).ln();
        }
        sum += log_chance.exp();
    }
    (2.0 * sum).min(1.0)
}

/// Whether an answer is right; for personal data, whether its types are those that are there and no others.
fn is_right(truth: &GroundTruth, outcome: &SampleOutcome, threshold: f32) -> bool {
    use std::collections::BTreeSet;
    match (truth, outcome) {
        (GroundTruth::Class(truth), SampleOutcome::Class { class, .. }) => class == truth,
        (GroundTruth::Class(truth), SampleOutcome::Score(score)) => {
            usize::from(*score >= f64::from(threshold)) == *truth
        }
        (GroundTruth::Types(types), SampleOutcome::Entities(found)) => {
            let types: BTreeSet<&str> = types.iter().map(String::as_str).collect();
            types == found.iter().map(|(span, _)| span.kind.as_str()).collect()
        }
        (GroundTruth::Spans(spans), SampleOutcome::Entities(found)) => {
            let types: BTreeSet<&str> = spans.iter().map(|span| span.kind.as_str()).collect();
            types == found.iter().map(|(span, _)| span.kind.as_str()).collect()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{KnownLabels, read};
    use super::*;
    use proptest::prelude::*;

    fn judged(outcomes: &[SampleOutcome], threshold: f32) -> JudgedOutcomes<'_> {
        JudgedOutcomes { outcomes, threshold }
    }

    fn pairs(both: usize, first: usize, second: usize, none: usize) -> Comparison {
        let repeat = |pair, count| std::iter::repeat_n(pair, count);
        let all = repeat((true, true), both).chain(repeat((true, false), first));
        Comparison::of(all.chain(repeat((false, true), second)).chain(repeat((false, false), none))).unwrap()
    }

    #[test]
    fn the_figures_are_those_of_the_textbook() {
        // 2 · (C(13,0) + … + C(13,3)) / 2^13, as statsmodels' mcnemar(exact=True) has it.
        let found = pairs(80, 3, 10, 7);
        assert!((found.p_value - 0.092_285_156_25).abs() < 1e-12, "{found:?}");
        assert!((found.difference - 0.07).abs() < 1e-12);
        // (11 − 4)/102 ± 1.96 · √(((15/102) − (7/102)²)/102).
        assert!(
            (found.interval[0] - -0.004_592).abs() < 1e-5 && (found.interval[1] - 0.141_847).abs() < 1e-5,
            "{found:?}"
        );
        assert!((pairs(5, 0, 0, 5).p_value - 1.0).abs() < 1e-12);
        assert!(pairs(0, 9000, 12_000, 0).p_value < 1e-50 && Comparison::of(std::iter::empty()).is_none());
    }

    #[test]
    fn a_guard_is_compared_on_attacks_and_on_benign_texts_too() {
        let file = "{\"text\":\"a\",\"label\":\"jailbreak\"}\n{\"text\":\"b\",\"label\":\"benign\"}\n{\"text\":\"c\",\"label\":\"benign\"}";
        let known = KnownLabels { domains: vec!["law".to_owned()], pii_kinds: vec!["AGE".to_owned()] };
        let samples = read(file, None, &known).unwrap();
        let first = [SampleOutcome::Score(0.4), SampleOutcome::Score(0.1), SampleOutcome::Score(0.6)];
        let second = [SampleOutcome::Score(0.8), SampleOutcome::Unknown("late"), SampleOutcome::Score(0.6)];
        let report = PairedReport::of(&samples, judged(&first, 0.5), judged(&second, 0.7)).unwrap();
        let counts = |one: Comparison| (one.texts, one.only_first, one.only_second);
        assert_eq!(counts(report.all), (3, 1, 2));
        assert_eq!(counts(report.attacks.unwrap()), (1, 0, 1));
        assert_eq!(counts(report.benign.unwrap()), (2, 1, 1));
        let domains = read("{\"text\":\"a\",\"label\":\"law\"}", None, &known).unwrap();
        let right = [SampleOutcome::Class { class: 0, confidence: 0.1 }];
        let report = PairedReport::of(&domains, judged(&right, 0.5), judged(&right, 0.5)).unwrap();
        assert_eq!((counts(report.all), report.attacks), ((1, 0, 0), None));
    }

    proptest! {
        #[test]
        fn changing_places_changes_the_sign_alone(both in 0..40_usize, first in 0..40_usize, second in 0..40_usize) {
            let (one, other) = (pairs(both, first, second, 1), pairs(both, second, first, 1));
            prop_assert!((one.p_value - other.p_value).abs() < 1e-9 && (0.0..=1.0).contains(&one.p_value));
            prop_assert!((one.difference + other.difference).abs() < 1e-12);
            prop_assert!(one.interval[0] <= one.interval[1] && (one.interval[0] + other.interval[1]).abs() < 1e-12);
        }
    }
}
