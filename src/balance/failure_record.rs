//! Owns one endpoint's failures in a row, its ejections and their back-off.
//! Refuses to know other endpoints, active health and what counted as a failure.

use crate::policy::Ejection;
use std::time::{Duration, Instant};

/// Keeps `now + ejection` far from the end of the clock, whatever was configured.
const MAX_EJECTION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The failures of one endpoint's requests, and the ejections that they led to.
///
/// An ejected endpoint is on probation when its time has passed, as a circuit breaker is half open: a few requests at a
/// time go there, one success clears it, one failure ejects it again for twice as long. The back-off is forgiven by one step for every `base` spent back in service, as
/// in Envoy; with the last step the probation ends too. Outcomes of requests sent before an ejection ended say
/// nothing new and are ignored.
#[derive(Debug, Default)]
pub(super) struct FailureRecord {
    failures: u32,
    times: u32,
    until: Option<Instant>,
    probation: bool,
    /// The endpoint is not ejected until then, but passed over where others can take a request.
    is_last_resort: bool,
}

impl FailureRecord {
    pub(super) fn ejected(&self, now: Instant) -> bool {
        self.until(now).is_some()
    }

    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| self.probation && !self.is_last_resort && now < *until)
    }

    pub(super) fn passed_over(&self, now: Instant) -> bool {
        self.is_last_resort && self.probation && self.until.is_some_and(|until| now < until)
    }

    /// Whether the endpoint is on probation after an ejection: a few requests are to show whether it is well again.
    pub(super) fn on_probation(&self, now: Instant) -> bool {
        self.probation && !self.is_last_resort && self.until.is_some_and(|until| now >= until)
    }

    pub(super) fn suspect(&self) -> bool {
        self.probation || self.failures > 0
    }

    pub(super) fn succeeded(&mut self, taken: Instant) {
        // One that was passed over was asked all the same, and answered.
        if self.is_last_resort || !self.predates(taken) {
            self.failures = 0;
            self.probation = false;
            self.is_last_resort = false;
        }
    }

    pub(super) fn failed(&mut self, taken: Instant, now: Instant, rule: &Ejection) -> bool {
        if self.predates(taken) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.probation &= self.unforgiven(now, rule.base) > 0;
        rule.consecutive_failures > 0 && (self.probation || self.failures >= rule.consecutive_failures)
    }

    pub(super) fn eject(&mut self, now: Instant, rule: &Ejection) -> Duration {
        self.times = self.unforgiven(now, rule.base).saturating_add(1);
        self.failures = 0;
        self.probation = true;
        let duration = back_off(rule, self.times);
        self.until = Some(now + duration);
        self.is_last_resort = false;
        duration
    }

    /// As [`Self::eject`], but the endpoint stays the last resort.
    pub(super) fn pass_over(&mut self, now: Instant, rule: &Ejection) {
        self.eject(now, rule);
        self.is_last_resort = true;
    }

    pub(super) fn readmit(&mut self, now: Instant) {
        if self.ejected(now) {
            self.until = Some(now);
        }
    }

    /// Whether a request was sent before the last ejection ended.
    fn predates(&self, taken: Instant) -> bool {
        self.until.is_some_and(|until| taken < until)
    }

    /// The steps of back-off that time in service has not forgiven yet.
    fn unforgiven(&self, now: Instant, base: Duration) -> u32 {
        let served = self.until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        let forgiven = served.as_nanos().checked_div(base.as_nanos()).unwrap_or(u128::MAX);
        self.times.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

/// How long the ejection numbered `times` (from 1) in a series lasts: each twice as long as the one before.
fn back_off(rule: &Ejection, times: u32) -> Duration {
    let factor = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    rule.base.saturating_mul(factor).min(rule.max).min(MAX_EJECTION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::BasisPoints;

    const RULE: Ejection = Ejection {
        consecutive_failures: 3,
        base: Duration::from_secs(10),
        max: Duration::from_secs(60),
        max_share: BasisPoints(5_000),
        slow_factor: 0,
    };

    #[test]
    fn back_off_doubles_up_to_the_longest() {
        let seconds: Vec<_> = (1..6).map(|times| back_off(&RULE, times).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 60, 60]);
        assert_eq!(back_off(&RULE, u32::MAX).as_secs(), 60);
        let endless = Ejection { base: Duration::MAX, max: Duration::MAX, ..RULE };
        assert_eq!(back_off(&endless, 9), MAX_EJECTION);
    }

    #[test]
    fn probation_ends_with_one_success_and_fails_with_one_failure() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut record = FailureRecord::default();
        assert!(!record.failed(start, start, &RULE));
        record.succeeded(start);
        assert!(!record.failed(start, start, &RULE));
        assert!(!record.failed(start, start, &RULE), "a success between broke the row");
        assert!(record.failed(start, start, &RULE));
        assert_eq!(record.eject(start, &RULE).as_secs(), 10);
        assert!(record.ejected(at(9)) && !record.ejected(at(10)));

        assert!(record.failed(at(10), at(11), &RULE), "one failure on probation is enough");
        assert_eq!(record.eject(at(11), &RULE).as_secs(), 20);
        record.succeeded(at(31));
        assert!(!record.suspect());
        assert!(!record.failed(at(32), at(32), &RULE), "probation was passed");
    }

    #[test]
    fn outcomes_from_before_the_end_of_an_ejection_are_ignored() {
        let start = Instant::now();
        let late = start + Duration::from_secs(15);
        let mut record = FailureRecord::default();
        record.eject(start, &RULE);
        record.succeeded(start);
        assert!(record.ejected(start), "an old success does not end an ejection");
        assert!(!record.failed(start, late, &RULE), "an old failure does not end probation");
    }

    #[test]
    fn time_in_service_forgives_the_back_off_step_by_step() {
        let start = Instant::now();
        let mut record =
            FailureRecord { times: 3, until: Some(start), probation: true, ..FailureRecord::default() };
        let at = |seconds| start + Duration::from_secs(seconds);
        let steps: Vec<_> = [0, 9, 10, 29, 30, 99].map(|s| record.unforgiven(at(s), RULE.base)).into();
        assert_eq!(steps, [3, 3, 2, 1, 0, 0]);
        assert!(!record.failed(at(30), at(30), &RULE), "wholly forgiven, probation is over");
        assert_eq!(record.eject(at(30), &RULE).as_secs(), 10);
    }

    #[test]
    fn an_endpoint_that_is_passed_over_is_not_ejected_and_comes_back_with_one_success() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut record = FailureRecord::default();
        record.pass_over(start, &RULE);
        assert!(record.passed_over(at(9)) && !record.passed_over(at(10)) && !record.ejected(at(1)));
        assert!(!record.failed(at(5), at(5), &RULE), "asked as the last resort, it fails once more");
        record.succeeded(at(5));
        assert!(!record.passed_over(at(6)) && !record.suspect());
    }
}
