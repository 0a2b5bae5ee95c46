//! Owns passive ejection: one endpoint's record of failures, its back-off, and the cap on a pool's
//! ejected share.
//! Refuses to know active health, the choice among endpoints and what counted as a failure.

use super::endpoint::Endpoint;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When failing requests take an endpoint out of its pool, for how long, and how many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failed requests in a row that eject; 0 turns passive ejection off.
    pub consecutive_failures: u32,
    /// How long the first ejection lasts; each further one lasts twice as long.
    pub base: Duration,
    /// The longest ejection.
    pub max: Duration,
    /// Basis points of the pool's members that may be ejected at once; 0 turns passive ejection off.
    pub max_share_bp: u16,
}

const WHOLE_BP: u64 = 10_000;
/// Keeps `now + ejection` far from the end of the clock, whatever was configured.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Ejection {
    /// How many of `members` may be ejected at once.
    ///
    /// The share is rounded down, but as in Envoy one may always go where the share is not zero and another
    /// stays. The only member of a pool goes only where the share is the whole pool.
    fn cap(&self, members: usize) -> usize {
        let share = u64::from(self.max_share_bp).min(WHOLE_BP);
        let allowed = (members as u64 * share / WHOLE_BP) as usize;
        if allowed == 0 && share > 0 && members > 1 { 1 } else { allowed }
    }

    /// How long the ejection numbered `times` (from 1) in a series lasts.
    fn lasts(&self, times: u32) -> Duration {
        let factor = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max).min(LONGEST)
    }
}

/// One endpoint's passive record.
///
/// An ejected endpoint is on trial when its time has passed: one success clears it, one failure ejects it
/// again for twice as long. The back-off is forgiven by one step for every `base` spent back in service, as
/// in Envoy; with the last step the trial ends too. Outcomes of requests sent before an ejection ended say
/// nothing new and are ignored.
#[derive(Debug, Default)]
pub(super) struct Record {
    failures: u32,
    times: u32,
    until: Option<Instant>,
    trial: bool,
}

impl Record {
    pub(super) fn ejected(&self, now: Instant) -> bool {
        self.until(now).is_some()
    }

    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| self.trial && now < *until)
    }

    pub(super) fn suspect(&self) -> bool {
        self.trial || self.failures > 0
    }

    pub(super) fn succeeded(&mut self, taken: Instant) {
        if !self.predates(taken) {
            self.failures = 0;
            self.trial = false;
        }
    }

    pub(super) fn failed(&mut self, taken: Instant, now: Instant, rule: &Ejection) -> bool {
        if self.predates(taken) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.trial &= self.unforgiven(now, rule.base) > 0;
        rule.consecutive_failures > 0 && (self.trial || self.failures >= rule.consecutive_failures)
    }

    pub(super) fn eject(&mut self, now: Instant, rule: &Ejection) -> Duration {
        self.times = self.unforgiven(now, rule.base).saturating_add(1);
        self.failures = 0;
        self.trial = true;
        let lasts = rule.lasts(self.times);
        self.until = Some(now + lasts);
        lasts
    }

    pub(super) fn readmit(&mut self, now: Instant) {
        if self.ejected(now) {
            self.until = Some(now);
        }
    }

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

/// The members of the newest pool in service, by which every ejection is judged.
///
/// A pool and its successors share one, behind one lock: requests that began on an older pool can't eject
/// beyond the cap of the newest.
#[derive(Debug)]
pub(super) struct Roster {
    generation: u64,
    rule: Ejection,
    endpoints: Vec<Arc<Endpoint>>,
}

impl Roster {
    /// `endpoints` are those that take traffic, each once.
    pub(super) fn new(generation: u64, rule: Ejection, endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self { generation, rule, endpoints }
    }

    /// Lets a newer pool take over, and readmits what its cap has no room for: those first whose time ends
    /// first.
    pub(super) fn succeed(&mut self, successor: Self, now: Instant) {
        if successor.generation <= self.generation {
            return;
        }
        *self = successor;
        let mut out: Vec<_> = self
            .endpoints
            .iter()
            .filter_map(|endpoint| Some((endpoint.ejected_until(now)?, endpoint)))
            .collect();
        out.sort_by_key(|(until, _)| *until);
        let excess = out.len().saturating_sub(self.rule.cap(self.endpoints.len()));
        for (_, endpoint) in &out[..excess] {
            endpoint.readmit(now);
        }
    }

    /// Notes a failed request; `Some` when the endpoint is ejected for it, with how long.
    pub(super) fn failed(&self, endpoint: &Arc<Endpoint>, taken: Instant, now: Instant) -> Option<Duration> {
        let due = endpoint.failed(taken, now, &self.rule);
        let present = || self.endpoints.iter().any(|member| Arc::ptr_eq(member, endpoint));
        let out = || self.endpoints.iter().filter(|member| member.ejected(now)).count();
        (due && present() && out() < self.rule.cap(self.endpoints.len()))
            .then(|| endpoint.eject(now, &self.rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Ejection = Ejection {
        consecutive_failures: 3,
        base: Duration::from_secs(10),
        max: Duration::from_secs(60),
        max_share_bp: 5_000,
    };

    fn rule(max_share_bp: u16) -> Ejection {
        Ejection { max_share_bp, ..RULE }
    }

    #[test]
    fn the_cap_rounds_down_but_lets_one_go_where_another_stays() {
        assert_eq!((0..6).map(|n| rule(5_000).cap(n)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
        assert_eq!((0..4).map(|n| rule(1_000).cap(n)).collect::<Vec<_>>(), [0, 0, 1, 1]);
        assert_eq!((0..4).map(|n| rule(10_000).cap(n)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((0..4).map(|n| rule(u16::MAX).cap(n)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((0..4).map(|n| rule(0).cap(n)).collect::<Vec<_>>(), [0; 4]);
    }

    #[test]
    fn back_off_doubles_up_to_the_longest() {
        let seconds: Vec<_> = (1..6).map(|times| RULE.lasts(times).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 60, 60]);
        assert_eq!(RULE.lasts(u32::MAX).as_secs(), 60);
        let endless = Ejection { base: Duration::MAX, max: Duration::MAX, ..RULE };
        assert_eq!(endless.lasts(9), LONGEST);
    }

    #[test]
    fn a_trial_is_won_by_one_success_and_lost_by_one_failure() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut record = Record::default();
        assert!(!record.failed(start, start, &RULE));
        record.succeeded(start);
        assert!(!record.failed(start, start, &RULE));
        assert!(!record.failed(start, start, &RULE), "a success between broke the row");
        assert!(record.failed(start, start, &RULE));
        assert_eq!(record.eject(start, &RULE).as_secs(), 10);
        assert!(record.ejected(at(9)) && !record.ejected(at(10)));

        assert!(record.failed(at(10), at(11), &RULE), "one failure on trial is enough");
        assert_eq!(record.eject(at(11), &RULE).as_secs(), 20);
        record.succeeded(at(31));
        assert!(!record.suspect());
        assert!(!record.failed(at(32), at(32), &RULE), "the trial was won");
    }

    #[test]
    fn outcomes_from_before_the_end_of_an_ejection_are_ignored() {
        let start = Instant::now();
        let late = start + Duration::from_secs(15);
        let mut record = Record::default();
        record.eject(start, &RULE);
        record.succeeded(start);
        assert!(record.ejected(start), "an old success does not end an ejection");
        assert!(!record.failed(start, late, &RULE), "an old failure does not lose the trial");
    }

    #[test]
    fn time_in_service_forgives_the_back_off_step_by_step() {
        let start = Instant::now();
        let mut record = Record { times: 3, until: Some(start), trial: true, failures: 0 };
        let at = |seconds| start + Duration::from_secs(seconds);
        let steps: Vec<_> = [0, 9, 10, 29, 30, 99].map(|s| record.unforgiven(at(s), RULE.base)).into();
        assert_eq!(steps, [3, 3, 2, 1, 0, 0]);
        assert!(!record.failed(at(30), at(30), &RULE), "forgiven wholly, the trial is over");
        assert_eq!(record.eject(at(30), &RULE).as_secs(), 10);
    }
}
