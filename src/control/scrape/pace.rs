//! Owns when an endpoint is asked again for its engine's figures: often while it has work, seldom while it has none or most
//! of its work comes from elsewhere, and never so often that asking is work of its own.
//! Pure: randomness and time are the caller's.

use crate::policy::MetricsScrape;
use std::time::Duration;

/// How long an endpoint is left alone that shows no metrics.
pub(super) const NOT_OFFERED_INTERVAL: Duration = Duration::from_secs(60);

/// The most times as seldom as usual that an engine is asked of whose work little is ours: others ask it too.
const MOST_SHARES: f32 = 20.0;

/// How much of a new share counts, beside those before.
const NEW_SHARE: f32 = 0.2;

/// An engine is left alone so many times as long as its page took.
const COST_FACTOR: u32 = 10;

/// What came of asking once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScrapeResult {
    /// The engine has requests, or the endpoint has some of ours.
    Busy,
    /// It has none.
    Idle,
    /// There was no good answer.
    Failed,
    /// No path shows metrics that are known.
    NotOffered,
}

/// The pace at which one endpoint is asked.
#[derive(Debug)]
pub(super) struct ScrapePace {
    min: Duration,
    max: Duration,
    interval: Duration,
    /// How many times our requests the engine has, in the mean of the last pages.
    shares: f32,
    /// How long the last page took.
    cost: Duration,
}

impl ScrapePace {
    /// Starts with the shortest interval.
    pub(super) fn new(scrape: &MetricsScrape) -> Self {
        Self {
            min: scrape.min_interval,
            max: scrape.max_interval,
            interval: scrape.min_interval,
            shares: 1.0,
            cost: Duration::ZERO,
        }
    }

    /// How long to wait after this result.
    pub(super) fn after(&mut self, result: ScrapeResult) -> Duration {
        match result {
            ScrapeResult::Busy => self.interval = self.min,
            // Doubled again from here.
            ScrapeResult::Idle | ScrapeResult::Failed => {
                self.interval = self.interval.saturating_mul(2).min(self.max);
            }
            ScrapeResult::NotOffered => return NOT_OFFERED_INTERVAL,
        }
        let of_share =
            if result == ScrapeResult::Busy { self.min.mul_f32(self.shares) } else { Duration::ZERO };
        self.interval.max(of_share).max(self.cost * COST_FACTOR).min(self.max)
    }

    /// Notes how many requests the engine had, and how many of these were ours: gateways that share it ask it no more often
    /// together than one alone would, down to a bound.
    pub(super) fn note_share(&mut self, ours: f32, all: f32) {
        let shares = if all > 0.0 { (all / ours.max(0.01)).clamp(1.0, MOST_SHARES) } else { 1.0 };
        // Work of ours is answered to at once.
        self.shares = shares.min(self.shares + (shares - self.shares) * NEW_SHARE);
    }

    /// Notes how long a page took.
    pub(super) fn note_cost(&mut self, cost: Duration) {
        self.cost = cost;
    }

    /// Has the next intervals begin with the shortest again: the endpoint has got work, or an answer was lost.
    pub(super) fn hurry(&mut self) {
        self.interval = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{EngineKind, ScrapeCondition};

    #[test]
    fn endpoints_with_work_are_asked_often_and_others_ever_less() {
        let mut pace = ScrapePace::new(&MetricsScrape {
            condition: ScrapeCondition::Always,
            engine: EngineKind::Auto,
            paths: Vec::new(),
            min_interval: Duration::from_millis(50),
            max_interval: Duration::from_millis(300),
            max_age: Duration::from_secs(1),
            send_credential: false,
        });
        let mut millis = |result| pace.after(result).as_millis();
        assert_eq!([ScrapeResult::Busy; 2].map(&mut millis), [50, 50]);
        assert_eq!([ScrapeResult::Idle; 4].map(&mut millis), [100, 200, 300, 300]);
        assert_eq!(
            [ScrapeResult::Busy, ScrapeResult::Failed, ScrapeResult::Failed].map(&mut millis),
            [50, 100, 200]
        );
        assert_eq!(millis(ScrapeResult::NotOffered), 60_000);
        pace.hurry();
        assert_eq!(pace.after(ScrapeResult::Idle).as_millis(), 100);
    }

    fn pace() -> ScrapePace {
        ScrapePace {
            min: Duration::from_millis(50),
            max: Duration::from_secs(5),
            interval: Duration::from_millis(50),
            shares: 1.0,
            cost: Duration::ZERO,
        }
    }

    #[test]
    fn an_engine_whose_work_is_mostly_of_others_is_asked_in_proportion_to_ours() {
        // In whole hundredths of a second: the mean comes near, and no nearer.
        let wait = |pace: &mut ScrapePace| {
            (pace.after(ScrapeResult::Busy).as_secs_f64() * 100.0).round() as u32 * 10
        };
        let busy = |ours: f32, all: f32| {
            let mut pace = pace();
            (0..100).for_each(|_| pace.note_share(ours, all));
            wait(&mut pace)
        };
        assert_eq!((busy(8.0, 8.0), busy(9.0, 4.0)), (50, 50), "all of it is ours");
        assert_eq!((busy(2.0, 8.0), busy(1.0, 100.0), busy(0.0, 7.0)), (200, 1_000, 1_000));
        let mut pace = pace();
        pace.note_share(1.0, 5.0);
        assert_eq!(wait(&mut pace), 90, "one page says little");
        pace.note_share(1.0, 1.0);
        assert_eq!(wait(&mut pace), 50, "work of ours is answered to at once");
    }

    #[test]
    fn asking_takes_a_tenth_of_an_engine_s_time_at_most() {
        let mut pace = pace();
        for (cost, wait) in [(4, 50), (40, 400), (900, 5_000)] {
            pace.note_cost(Duration::from_millis(cost));
            assert_eq!(pace.after(ScrapeResult::Busy).as_millis(), wait);
        }
    }
}
