//! Owns calibration: whether "0.9" is right nine times in ten.

use serde::Serialize;

/// How many bins of equal width the confidences are sorted into, as in Guo et al. (2017).
const BINS: usize = 15;

/// Confidences beside how often they were right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// The expected calibration error: the mean distance between confidence and share, weighted by the bins' counts.
    pub ece: f64,
    /// The reliability table, the lowest confidences first; empty bins are left out.
    pub bins: Vec<Bin>,
}

/// The answers whose confidence lies in one range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// The range's start.
    pub from: f64,
    /// The range's end, which belongs to the next bin, but 1 to the last.
    pub to: f64,
    /// How many answers.
    pub count: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them that was right.
    pub right: f64,
}

impl Calibration {
    /// Sorts answers, each its confidence and whether it was right, into bins; none of no answers.
    pub fn of(answers: &[(f64, bool)]) -> Option<Self> {
        if answers.is_empty() {
            return None;
        }
        let mut sums = [(0_usize, 0.0, 0_usize); BINS];
        for &(confidence, is_right) in answers {
            let bin = &mut sums[((confidence * BINS as f64) as usize).min(BINS - 1)];
            *bin = (bin.0 + 1, bin.1 + confidence, bin.2 + usize::from(is_right));
        }
        let bins = sums.iter().enumerate().filter(|(_, (count, ..))| *count > 0);
        let bins: Vec<Bin> = bins
            .map(|(at, &(count, confidence, right))| Bin {
                from: at as f64 / BINS as f64,
                to: (at + 1) as f64 / BINS as f64,
                count,
                confidence: confidence / count as f64,
                right: right as f64 / count as f64,
            })
            .collect();
        let off = |bin: &Bin| bin.count as f64 * (bin.confidence - bin.right).abs();
        let ece = bins.iter().map(off).sum::<f64>() / answers.len() as f64;
        Some(Self { ece, bins })
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are computed exactly")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_error_is_the_weighted_distance_between_confidence_and_share() {
        // 0.95 three times, right twice; 0.5 once, wrong: (3 · |0.95 − 2/3| + 1 · |0.5 − 0|) / 4.
        let calibration =
            Calibration::of(&[(0.95, true), (0.95, true), (0.95, false), (0.5, false)]).unwrap();
        assert!((calibration.ece - (3.0 * (0.95 - 2.0 / 3.0) + 0.5) / 4.0).abs() < 1e-12);
        let counts: Vec<_> = calibration.bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [1, 3]);
        assert_eq!(Calibration::of(&[]), None);
    }

    #[test]
    fn the_ends_of_the_scale_have_bins() {
        let calibration = Calibration::of(&[(0.0, false), (1.0, true)]).unwrap();
        assert_eq!(calibration.ece, 0.0);
        assert_eq!((calibration.bins[0].from, calibration.bins[1].to), (0.0, 1.0));
    }

    proptest! {
        #[test]
        fn every_answer_is_in_one_bin_and_the_error_is_a_share(
            answers in prop::collection::vec((0.0..=1.0, any::<bool>()), 1..200)
        ) {
            let calibration = Calibration::of(&answers).unwrap();
            prop_assert_eq!(calibration.bins.iter().map(|bin| bin.count).sum::<usize>(), answers.len());
            prop_assert!((0.0..=1.0).contains(&calibration.ece));
            for bin in calibration.bins {
                prop_assert!(bin.from <= bin.confidence + 1e-9 && bin.confidence <= bin.to + 1e-9);
            }
        }
    }
}
