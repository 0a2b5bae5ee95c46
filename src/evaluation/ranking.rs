//! Owns how well a score tells two classes apart, over all thresholds and at one.

use serde::Serialize;

/// How well a score separates the texts that are to be flagged from the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ranking {
    /// The chance that a text to be flagged scores above another; without one of the classes there is none.
    pub auroc: Option<f64>,
    /// The score from which on a text is flagged.
    pub threshold: f32,
    /// The share of texts to be flagged that are.
    pub true_positive_rate: Option<f64>,
    /// The share of the others that are flagged.
    pub false_positive_rate: Option<f64>,
}

impl Ranking {
    /// Ranks answers, each a score and whether the text was to be flagged.
    pub fn of(answers: &[(f64, bool)], threshold: f32) -> Self {
        let rate = |of: bool| {
            let scores = answers.iter().filter(|(_, is_positive)| *is_positive == of);
            let flagged = scores.clone().filter(|(score, _)| *score >= f64::from(threshold)).count();
            let all = scores.count();
            (all > 0).then(|| flagged as f64 / all as f64)
        };
        Self {
            auroc: auroc(answers),
            threshold,
            true_positive_rate: rate(true),
            false_positive_rate: rate(false),
        }
    }
}

/// The area under the ROC curve by the rank sum of Mann and Whitney, ties counting half; none without both classes.
pub fn auroc(answers: &[(f64, bool)]) -> Option<f64> {
    let positives = answers.iter().filter(|(_, is_positive)| *is_positive).count();
    let negatives = answers.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut sorted = answers.to_vec();
    sorted.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    // Equal scores share the mean of their ranks, which start at 1.
    let (mut before, mut ranks) = (0, 0.0);
    for equals in sorted.chunk_by(|(a, _), (b, _)| a.total_cmp(b).is_eq()) {
        let rank = before as f64 + f64::midpoint(equals.len() as f64, 1.0);
        ranks += rank * equals.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
        before += equals.len();
    }
    let (positives, negatives) = (positives as f64, negatives as f64);
    Some((ranks - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are computed exactly")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_the_right_order() {
        // Pairs (positive, negative): 0.8 beats 0.1 and 0.4, 0.35 beats 0.1 alone: 3 of 4.
        let answers = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        assert_eq!(auroc(&answers), Some(0.75));
        assert_eq!(auroc(&[(0.5, true), (0.5, false)]), Some(0.5));
        assert_eq!(auroc(&[(0.5, true)]), None);
    }

    #[test]
    fn rates_are_those_at_the_threshold_which_itself_flags() {
        let answers = [(0.1, false), (0.875, false), (0.3, true), (0.875, true), (0.95, true)];
        let ranking = Ranking::of(&answers, 0.875);
        assert_eq!(ranking.true_positive_rate, Some(2.0 / 3.0));
        assert_eq!(ranking.false_positive_rate, Some(0.5));
        assert_eq!(Ranking::of(&[(0.1, false)], 0.9).true_positive_rate, None);
    }

    proptest! {
        #[test]
        fn the_area_equals_the_count_over_all_pairs(
            answers in prop::collection::vec((0_u8..20, any::<bool>()), 2..80)
        ) {
            let answers: Vec<_> = answers.into_iter().map(|(score, class)| (f64::from(score) / 20.0, class)).collect();
            let (mut right, mut pairs) = (0.0, 0.0);
            for (a, _) in answers.iter().filter(|(_, class)| *class) {
                for (b, _) in answers.iter().filter(|(_, class)| !*class) {
                    pairs += 1.0;
                    right += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            match auroc(&answers) {
                None => prop_assert_eq!(pairs, 0.0),
                Some(area) => prop_assert!((area - right / pairs).abs() < 1e-9),
            }
        }
    }
}
