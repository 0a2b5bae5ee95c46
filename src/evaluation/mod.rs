//! Owns the judging of answers by labels that people gave: which were right, how sure they were, how long they took.
//!
//! Pure arithmetic over labels, scores and spans; knows neither models nor policies, and reads no files.

mod calibration;
mod classes;
mod comparison;
mod ranking;
mod report;
mod sample;
mod spans;
mod threshold;

pub use calibration::{Bin, Calibration};
pub use classes::{ClassScore, Confusion, Counts};
pub use comparison::{Comparison, JudgedOutcomes, PairedReport};
pub use ranking::{Ranking, auroc};
pub use report::{Accuracy, ConfidentAnswers, Latency, Report, SampleOutcome, SpanReport, report};
pub use sample::{BadLine, BadLines, GroundTruth, KnownLabels, LabeledSignal, Sample, Samples, read};
pub use spans::LabeledSpan;
pub use threshold::FoundThreshold;

/// A share with the 95 % interval of Wilson's score, which also holds for few samples and shares near 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Share {
    /// The share itself, from 0 to 1.
    pub value: f64,
    /// The interval's ends.
    pub interval: [f64; 2],
}

impl Share {
    /// The share of `hits` in `of`; none of nothing.
    pub fn of(hits: usize, of: usize) -> Option<Self> {
        if of == 0 {
            return None;
        }
        let (z, n) = (1.959_963_985, of as f64);
        let value = hits as f64 / n;
        let middle = (value + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let reach = z / (1.0 + z * z / n) * (value * (1.0 - value) / n + z * z / (4.0 * n * n)).sqrt();
        Some(Self { value, interval: [(middle - reach).max(0.0), (middle + reach).min(1.0)] })
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are computed exactly")]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_share_is_wilsons() {
        let share = Share::of(8, 10).unwrap();
        assert_eq!(share.value, 0.8);
        // Wilson (1927); the same as statsmodels' proportion_confint(8, 10, method="wilson").
        assert!((share.interval[0] - 0.490_162_46).abs() < 1e-6, "{share:?}");
        assert!((share.interval[1] - 0.943_317_82).abs() < 1e-6, "{share:?}");
        let sure = Share::of(5, 5).unwrap();
        assert!(sure.interval[0] > 0.5 && sure.interval[1] <= 1.0, "{sure:?}");
        assert_eq!(Share::of(0, 0), None);
    }
}
