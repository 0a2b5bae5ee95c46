//! Owns when an endpoint is asked again for its engine's figures: often while it has work, seldom while it has none.
//! Pure: randomness and time are the caller's.

use crate::policy::MetricsScrape;
use std::time::Duration;

/// How long an endpoint is left alone that shows no metrics.
pub(super) const NOT_OFFERED_INTERVAL: Duration = Duration::from_secs(60);

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
}

impl ScrapePace {
    /// Starts with the shortest interval.
    pub(super) fn new(scrape: &MetricsScrape) -> Self {
        Self { min: scrape.min_interval, max: scrape.max_interval, interval: scrape.min_interval }
    }

    /// How long to wait after this result.
    pub(super) fn after(&mut self, result: ScrapeResult) -> Duration {
        match result {
            ScrapeResult::Busy => self.interval = self.min,
            ScrapeResult::Idle | ScrapeResult::Failed => {
                self.interval = self.interval.saturating_mul(2).min(self.max);
            }
            ScrapeResult::NotOffered => return NOT_OFFERED_INTERVAL,
        }
        self.interval
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
}
