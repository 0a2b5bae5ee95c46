//! Owns whether one endpoint gives tokens while it should: those of streams that have begun, and first ones.
//! Refuses to know what follows from that.
//!
//! The times are those of SMG's worker states (sgl-model-gateway 1.13), but for the longer one before first tokens, which
//! goes by the prompts that are still computed. Whole answers come when they are done, so that they tell nothing until then.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// After so long without a token of a stream that has begun an endpoint is slow.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// After so long it is stuck, if it has got more requests meanwhile.
const WEDGED_AFTER: Duration = Duration::from_secs(3);

/// The shortest and the longest time for first tokens, where no stream has begun.
const SHORTEST_PREFILL: Duration = Duration::from_secs(10);
const LONGEST_PREFILL: Duration = Duration::from_secs(120);

/// What a token of prompts that are computed adds to that time, as on a slow engine.
const PREFILL_TOKEN: Duration = Duration::from_millis(1);

/// Of tokens that come faster than this, some are not noted: one that is later matters.
const GRAIN_US: u64 = 100_000;

/// Whether an endpoint gives tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    /// It does, or none are due.
    Live,
    /// None has come for a while.
    Stalled,
    /// None has come for longer, and it has more to do than then.
    Wedged,
}

/// How far the tokens of one request have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamPhase {
    /// The first is awaited.
    Prefill,
    /// Some have come.
    Decode,
}

/// The tokens of one endpoint's streams.
#[derive(Debug, Default)]
pub(super) struct TokenProgress {
    /// The first moment; the others are counted from it.
    start: OnceLock<Instant>,
    /// When the last token came, or the first request after none, in microseconds.
    last_us: AtomicU64,
    /// How many requests the endpoint had then.
    in_flight_then: AtomicU32,
    prefilling: AtomicU32,
    decoding: AtomicU32,
}

impl TokenProgress {
    /// A stream was asked for at `now`; the endpoint has `in_flight` requests with it.
    pub(super) fn begin(&self, now: Instant, in_flight: u32) {
        if self.prefilling.fetch_add(1, Ordering::Relaxed) == 0 && self.decoding.load(Ordering::Relaxed) == 0
        {
            self.note(self.micros(now), in_flight);
        }
    }

    /// Its first token has come.
    pub(super) fn decode(&self) {
        self.decoding.fetch_add(1, Ordering::Relaxed);
        self.prefilling.fetch_sub(1, Ordering::Relaxed);
    }

    /// It is over.
    pub(super) fn end(&self, phase: StreamPhase) {
        let counter = match phase {
            StreamPhase::Prefill => &self.prefilling,
            StreamPhase::Decode => &self.decoding,
        };
        counter.fetch_sub(1, Ordering::Relaxed);
    }

    /// A token has come at `now`, of whatever answer.
    pub(super) fn token(&self, now: Instant, in_flight: u32) {
        let now = self.micros(now);
        if now.saturating_sub(self.last_us.load(Ordering::Relaxed)) > GRAIN_US {
            self.note(now, in_flight);
        }
    }

    /// Whether tokens come, at `now`, of an endpoint with `in_flight` requests, which computes so many tokens of prompts as
    /// far as that is known.
    pub(super) fn liveness(&self, now: Instant, in_flight: u32, prefill_tokens: u64) -> Liveness {
        let decodes = self.decoding.load(Ordering::Relaxed) > 0;
        if !decodes && self.prefilling.load(Ordering::Relaxed) == 0 {
            return Liveness::Live;
        }
        let last = self.last_us.load(Ordering::Relaxed);
        let silence = Duration::from_micros(self.micros(now).saturating_sub(last));
        let patience = match prefill_tokens {
            _ if decodes => WEDGED_AFTER,
            0 => LONGEST_PREFILL,
            tokens => {
                let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
                SHORTEST_PREFILL.saturating_add(PREFILL_TOKEN.saturating_mul(tokens)).min(LONGEST_PREFILL)
            }
        };
        if silence >= patience && in_flight > self.in_flight_then.load(Ordering::Relaxed) {
            Liveness::Wedged
        } else if silence >= patience || (decodes && silence >= STALLED_AFTER) {
            Liveness::Stalled
        } else {
            Liveness::Live
        }
    }

    fn note(&self, at_us: u64, in_flight: u32) {
        self.in_flight_then.store(in_flight, Ordering::Relaxed);
        self.last_us.store(at_us, Ordering::Relaxed);
    }

    fn micros(&self, now: Instant) -> u64 {
        let start = *self.start.get_or_init(|| now);
        u64::try_from(now.saturating_duration_since(start).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        progress: TokenProgress,
        start: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            Self { progress: TokenProgress::default(), start: Instant::now() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn is(&self, millis: u64, in_flight: u32) -> Liveness {
            self.progress.liveness(self.at(millis), in_flight, 0)
        }
    }

    #[test]
    fn a_stream_that_stops_makes_its_endpoint_slow_and_stuck_once_it_has_more_to_do() {
        let it = Fixture::new();
        it.progress.begin(it.at(0), 1);
        it.progress.decode();
        it.progress.token(it.at(1_000), 1);
        assert_eq!((it.is(2_999, 5), it.is(3_000, 5)), (Liveness::Live, Liveness::Stalled));
        assert_eq!((it.is(4_000, 1), it.is(4_000, 2)), (Liveness::Stalled, Liveness::Wedged));
        it.progress.token(it.at(4_100), 2);
        assert_eq!((it.is(4_200, 2), it.is(7_100, 2)), (Liveness::Live, Liveness::Stalled));
        it.progress.end(StreamPhase::Decode);
        assert_eq!(it.is(99_000, 2), Liveness::Live, "no token is due");
    }

    #[test]
    fn first_tokens_have_longer_by_what_there_is_to_compute() {
        let it = Fixture::new();
        it.progress.begin(it.at(0), 1);
        let after = |millis, tokens| it.progress.liveness(it.at(millis), 2, tokens);
        assert_eq!((after(10_999, 1_000), after(11_000, 1_000)), (Liveness::Live, Liveness::Wedged));
        assert_eq!(
            (after(119_999, 10_000_000), after(120_000, u64::MAX)),
            (Liveness::Live, Liveness::Wedged)
        );
        assert_eq!(
            (after(119_999, 0), after(120_000, 0)),
            (Liveness::Live, Liveness::Wedged),
            "it is unknown"
        );
        it.progress.end(StreamPhase::Prefill);
    }

    #[test]
    fn what_comes_after_a_pause_is_waited_for_from_then_on() {
        let it = Fixture::new();
        it.progress.begin(it.at(0), 1);
        it.progress.end(StreamPhase::Prefill);
        it.progress.begin(it.at(500_000), 1);
        it.progress.decode();
        assert_eq!(it.is(501_000, 9), Liveness::Live);
        it.progress.end(StreamPhase::Decode);
    }
}
