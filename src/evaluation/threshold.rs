//! Owns the search for a threshold that flags no more of the benign texts than is wanted.

use super::Share;
use serde::Serialize;

/// The steps in which policies write thresholds.
const STEPS: f64 = 10_000.0;

/// The lowest threshold at which no more benign texts are flagged than is wanted, and what it does on these texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FoundThreshold {
    /// The share of benign texts that may be flagged.
    pub wanted: f64,
    /// The score from which on a text is flagged.
    pub threshold: f64,
    /// The share of benign texts that are.
    pub false_positives: Share,
    /// The share of the texts to be flagged that are; none without any.
    pub recall: Option<Share>,
}

impl FoundThreshold {
    /// Finds it among answers, each a score and whether the text was to be flagged; none without benign texts, or where too
    /// many of them have the highest score.
    pub fn of(answers: &[(f64, bool)], wanted: f64) -> Option<Self> {
        let scores = |of: bool| {
            answers.iter().filter(move |(_, is_positive)| *is_positive == of).map(|(score, _)| *score)
        };
        let mut benign: Vec<f64> = scores(false).collect();
        benign.sort_by(|a, b| b.total_cmp(a));
        let flagged = (wanted * benign.len() as f64 + 1e-9) as usize;
        // Above the highest score that may not be flagged.
        let step = benign.get(flagged).map(|score| (score * STEPS + 1e-6).floor() + 1.0);
        let threshold = step.unwrap_or(0.0) / STEPS;
        let reached = |of: bool| {
            let count = scores(of).filter(|score| *score >= threshold).count();
            Share::of(count, scores(of).count())
        };
        let false_positives = reached(false).filter(|_| threshold <= 1.0)?;
        Some(Self { wanted, threshold, false_positives, recall: reached(true) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_many_are_flagged_as_are_wanted() {
        let benign = (0..10).map(|at| (f64::from(at) / 10.0, false));
        let all: Vec<(f64, bool)> = benign.chain([(0.75, true), (0.95, true)]).collect();
        let found = |wanted| {
            FoundThreshold::of(&all, wanted)
                .map(|found| (found.threshold, found.false_positives.value, found.recall.unwrap().value))
        };
        assert_eq!(found(0.0), Some((0.9001, 0.0, 0.5)));
        assert_eq!(found(0.2), Some((0.7001, 0.2, 1.0)));
        assert_eq!(found(1.0), Some((0.0, 1.0, 1.0)));
        assert_eq!(FoundThreshold::of(&[(1.0, false)], 0.0), None);
        assert_eq!(FoundThreshold::of(&[(0.5, true)], 0.1), None);
    }

    proptest! {
        #[test]
        fn no_lower_threshold_flags_as_few(
            answers in prop::collection::vec((0_u32..10_000, any::<bool>()), 1..60), wanted in 0.0..0.5,
        ) {
            let answers: Vec<(f64, bool)> =
                answers.into_iter().map(|(score, is)| (f64::from(score) / STEPS, is)).collect();
            let Some(found) = FoundThreshold::of(&answers, wanted) else {
                prop_assert!(answers.iter().all(|(_, is)| *is));
                return Ok(());
            };
            prop_assert!(found.false_positives.value <= wanted + 1e-9);
            let share = |threshold: f64| {
                let benign = answers.iter().filter(|(_, is)| !is);
                benign.clone().filter(|(score, _)| *score >= threshold).count() as f64 / benign.count() as f64
            };
            let lower = found.threshold - 1.5 / STEPS;
            prop_assert!(lower < 0.0 || share(lower) > wanted - 1e-9);
        }
    }
}
