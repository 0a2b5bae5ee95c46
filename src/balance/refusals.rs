//! Owns for which models an endpoint is passed over because it refused them, for how long, and how often a refusal may be
//! compared with another endpoint's answer.
//! Refuses to know statuses, other endpoints and what is done with a request that was refused.

use std::time::{Duration, Instant};

/// The most models of one endpoint that are remembered; the pause that ends first makes room.
const MAX_MODELS: usize = 32;

/// The longest that an endpoint's own word is taken for.
const MAX_TOLD: Duration = Duration::from_secs(60);

/// One comparison in vain every second in the long run, and this many in a row.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
const COMPARE_AT_ONCE: u32 = 5;

/// The longest that comparisons in vain keep others from being made.
const MAX_COMPARE_PAUSE: Duration = Duration::from_secs(10);

/// Why an endpoint is not to be asked for a model for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has too much to do.
    Busy {
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Its engine's queue is full at this moment.
    Saturated,
    /// It refused what another endpoint answered.
    Unable,
}

impl Refusal {
    /// The first pause and the longest; each is twice as long as the one before.
    fn bounds(self) -> (Duration, Duration) {
        let (first, longest) = match self {
            // A place in a queue is free again as soon as a request ends.
            Self::Saturated => (250, 4_000),
            Self::Busy { .. } => (1_000, 16_000),
            Self::Unable => (10_000, 300_000),
        };
        (Duration::from_millis(first), Duration::from_millis(longest))
    }
}

/// One model that is not asked for.
#[derive(Clone, Copy, Debug)]
struct ModelPause {
    /// The model's name, hashed.
    model: u64,
    until: Instant,
    times: u32,
}

/// What one endpoint refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pauses: Vec<ModelPause>,
    /// When the comparisons that were in vain will have been earned.
    compared_until: Option<Instant>,
}

impl Refusals {
    pub(super) fn is_empty(&self) -> bool {
        self.pauses.is_empty()
    }

    pub(super) fn is_paused(&self, model: u64, now: Instant) -> bool {
        self.pauses.iter().any(|pause| pause.model == model && now < pause.until)
    }

    /// Takes in a refusal, and gives how long the endpoint is passed over; `None` where it is already.
    pub(super) fn refused(&mut self, model: u64, refusal: Refusal, now: Instant) -> Option<Duration> {
        if refusal == Refusal::Unable {
            // The endpoint's fault, which no client has provoked: what it took to find out is given back.
            self.compared_until = None;
        }
        if self.is_paused(model, now) {
            return None;
        }
        let (first, longest) = refusal.bounds();
        let known = self.pauses.iter().position(|pause| pause.model == model);
        let before = known.map(|at| self.pauses.swap_remove(at));
        // What was refused long ago is no row of refusals.
        let times = before.filter(|pause| now < pause.until + longest).map_or(0, |pause| pause.times);
        let own = first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(longest);
        let wait = match refusal {
            Refusal::Busy { retry_after: Some(told) } => told.min(MAX_TOLD),
            _ => own,
        };
        if self.pauses.len() == MAX_MODELS
            && let Some(soonest) = (0..MAX_MODELS).min_by_key(|at| self.pauses[*at].until)
        {
            self.pauses.swap_remove(soonest);
        }
        self.pauses.push(ModelPause { model, until: now + wait, times: times.saturating_add(1) });
        Some(wait)
    }

    /// Forgets a model that is answered again.
    pub(super) fn answered(&mut self, model: u64) {
        self.pauses.retain(|pause| pause.model != model);
    }

    /// Whether another endpoint may be asked what this one refused.
    ///
    /// Those that are under way do not count, since all of a failing endpoint's requests are refused at once: the retry
    /// budget bounds them.
    pub(super) fn may_compare(&self, now: Instant) -> bool {
        let debt = self.compared_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        debt + COMPARE_EVERY <= COMPARE_EVERY * COMPARE_AT_ONCE
    }

    /// Notes that another endpoint refused the same: a client that provokes refusals doubles no more than a few requests.
    pub(super) fn compared_in_vain(&mut self, now: Instant) {
        let until = self.compared_until.map_or(now, |until| until.max(now)) + COMPARE_EVERY;
        self.compared_until = Some(until.min(now + MAX_COMPARE_PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(refused: Option<Duration>) -> Option<u64> {
        refused.map(|wait| wait.as_secs())
    }

    #[test]
    fn a_model_that_is_refused_again_is_left_alone_for_longer_until_it_is_answered() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut refusals, busy) = (Refusals::default(), Refusal::Busy { retry_after: None });
        assert_eq!(seconds(refusals.refused(1, busy, at(0))), Some(1));
        assert_eq!(refusals.refused(1, busy, at(0)), None, "those sent before count once");
        assert!(
            refusals.is_paused(1, at(0)) && !refusals.is_paused(2, at(0)) && !refusals.is_paused(1, at(1))
        );
        assert_eq!(seconds(refusals.refused(1, busy, at(1))), Some(2));
        assert_eq!(seconds(refusals.refused(1, Refusal::Unable, at(3))), Some(40));
        refusals.answered(1);
        assert_eq!(seconds(refusals.refused(1, busy, at(43))), Some(1));
        assert_eq!(seconds(refusals.refused(1, busy, at(100))), Some(1), "long ago is no row");
    }

    #[test]
    fn an_engine_that_is_full_is_left_alone_for_a_moment() {
        let (now, mut refusals) = (Instant::now(), Refusals::default());
        let first = refusals.refused(1, Refusal::Saturated, now);
        assert_eq!(first, Some(Duration::from_millis(250)));
        let next = refusals.refused(1, Refusal::Saturated, now + Duration::from_millis(250));
        assert_eq!(next, Some(Duration::from_millis(500)));
    }

    #[test]
    fn what_an_endpoint_says_of_itself_is_believed_within_bounds() {
        let now = Instant::now();
        for (told, believed) in [(7, 7), (86_400, 60)] {
            let refusal = Refusal::Busy { retry_after: Some(Duration::from_secs(told)) };
            assert_eq!(seconds(Refusals::default().refused(1, refusal, now)), Some(believed));
        }
    }

    #[test]
    fn no_more_than_a_bounded_number_of_models_is_remembered() {
        let (now, mut refusals) = (Instant::now(), Refusals::default());
        for model in 0..1000 {
            refusals.refused(model, Refusal::Unable, now + Duration::from_millis(model));
        }
        assert_eq!(refusals.pauses.len(), MAX_MODELS);
        assert!(refusals.is_paused(999, now + Duration::from_secs(1)));
    }

    /// Compares so often as is allowed, in vain.
    fn in_vain(refusals: &mut Refusals, now: Instant) -> usize {
        let mut count = 0;
        while refusals.may_compare(now) {
            refusals.compared_in_vain(now);
            count += 1;
        }
        count
    }

    #[test]
    fn comparisons_in_vain_are_few_in_the_long_run() {
        let (now, mut refusals) = (Instant::now(), Refusals::default());
        assert_eq!(in_vain(&mut refusals, now), 5);
        let later = now + Duration::from_secs(2);
        assert_eq!(in_vain(&mut refusals, later), 2);
        refusals.refused(1, Refusal::Busy { retry_after: None }, later);
        assert!(!refusals.may_compare(later), "that was told, not found out");
        refusals.refused(1, Refusal::Unable, later);
        assert_eq!(in_vain(&mut refusals, later), 5, "what proved right costs nothing");
    }

    #[test]
    fn however_many_comparisons_are_in_vain_at_once_others_follow_soon() {
        let (now, mut refusals) = (Instant::now(), Refusals::default());
        for _ in 0..1000 {
            assert!(refusals.may_compare(now), "none of those under way is known to be in vain");
        }
        (0..1000).for_each(|_| refusals.compared_in_vain(now));
        assert!(!refusals.may_compare(now + Duration::from_secs(5)));
        assert!(refusals.may_compare(now + Duration::from_secs(6)));
    }
}
