//! Owns how a model's time to the first token grows with the work before it.
//! Refuses to know what work is, but that twice of it takes about twice as long.

use super::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// An answer of this age counts as much as 1/e of one that ends now.
const FADING: Duration = Duration::from_secs(60);

/// So little weight is as good as none.
const LEAST_WEIGHT: f64 = 0.05;

/// What the first token waits for: a time of its own, and so much for each token to compute before it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PrefillTime {
    /// Seconds without any work.
    pub base: f64,
    /// Seconds a token.
    pub per_token: f64,
}

impl PrefillTime {
    /// The seconds to the first token behind so many tokens to compute.
    pub fn of(self, work: f64) -> f64 {
        self.base + self.per_token * work.max(0.0)
    }
}

/// A line through what was measured, by least squares, with older answers fading.
///
/// One answer is added to them that had no work and took half of the mean: where all work is about the same, which says
/// nothing of the slope, half of the time is laid to the work.
#[derive(Debug, Default)]
pub(super) struct WorkFit(Mutex<Sums>);

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    weight: f64,
    work: f64,
    time: f64,
    work_squared: f64,
    work_time: f64,
    at: Option<Instant>,
}

impl WorkFit {
    /// Takes in that the first token came at `now` after `time`, behind so many tokens to compute.
    pub(super) fn observe(&self, now: Instant, work: f64, time: Duration) {
        let time = time.as_secs_f64();
        if !work.is_finite() || work < 0.0 {
            return;
        }
        let mut sums = lock(&self.0);
        let kept = sums.kept(now);
        *sums = Sums {
            weight: sums.weight * kept + 1.0,
            work: sums.work * kept + work,
            time: sums.time * kept + time,
            work_squared: sums.work_squared * kept + work * work,
            work_time: sums.work_time * kept + work * time,
            at: Some(now),
        };
    }

    /// Reads the line at `now`; `None` where nothing was measured lately.
    pub(super) fn read(&self, now: Instant) -> Option<PrefillTime> {
        let sums = *lock(&self.0);
        if sums.weight * sums.kept(now) < LEAST_WEIGHT {
            return None;
        }
        let (mean_work, mean_time) = (sums.work / sums.weight, sums.time / sums.weight);
        let (weight, work) = (sums.weight + 1.0, sums.work);
        let time = sums.time + mean_time / 2.0;
        let spread = sums.work_squared - work * work / weight;
        let slope = if mean_work > 0.0 { (sums.work_time - work * time / weight) / spread } else { 0.0 };
        let per_token =
            if slope.is_finite() { slope.clamp(0.0, mean_time / mean_work.max(1.0)) } else { 0.0 };
        Some(PrefillTime { base: (mean_time - per_token * mean_work).max(0.0), per_token })
    }
}

impl Sums {
    fn kept(&self, now: Instant) -> f64 {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (-(since.as_secs_f64() / FADING.as_secs_f64())).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pairs: &[(f64, f64)]) -> PrefillTime {
        let (fit, now) = (WorkFit::default(), Instant::now());
        for (work, seconds) in pairs {
            fit.observe(now, *work, Duration::from_secs_f64(*seconds));
        }
        fit.read(now).expect("something was measured")
    }

    #[test]
    fn nothing_is_known_before_the_first_answer_and_minutes_after_the_last() {
        let (fit, now) = (WorkFit::default(), Instant::now());
        assert_eq!(fit.read(now), None);
        fit.observe(now, 1_000.0, Duration::from_secs(1));
        assert_eq!(fit.read(now + Duration::from_secs(60)), fit.read(now));
        assert_eq!(fit.read(now + Duration::from_secs(240)), None);
    }

    #[test]
    fn of_equal_work_half_of_the_time_is_laid_to_it() {
        let line = read(&[(1_000.0, 1.0); 50]);
        assert!((line.of(0.0) - 0.5).abs() < 0.01 && (line.of(2_000.0) - 1.5).abs() < 0.01, "{line:?}");
    }

    #[test]
    fn no_work_at_all_takes_the_mean() {
        let line = read(&[(0.0, 0.2); 5]);
        assert!((line.of(10_000.0) - 0.2).abs() < 1e-9, "{line:?}");
    }

    proptest! {
        #[test]
        fn a_line_is_found_again_and_none_falls_or_begins_below_zero(
            base in 0.01_f64..2.0,
            slope in 0.000_01_f64..0.001,
            work in prop::collection::vec(0.0_f64..20_000.0, 200..300),
            noise in prop::collection::vec(0.8_f64..1.25, 300),
        ) {
            let exact: Vec<_> = work.iter().map(|work| (*work, base + slope * work)).collect();
            let line = read(&exact);
            prop_assert!((line.of(15_000.0) / (base + slope * 15_000.0) - 1.0).abs() < 0.15, "{line:?}");
            let noisy: Vec<_> = exact.iter().zip(&noise).map(|((work, time), noise)| (*work, time * noise)).collect();
            let line = read(&noisy);
            prop_assert!(line.base >= 0.0 && line.per_token >= 0.0);
            prop_assert!((line.of(10_000.0) / (base + slope * 10_000.0) - 1.0).abs() < 0.3, "{line:?}");
        }
    }
}
