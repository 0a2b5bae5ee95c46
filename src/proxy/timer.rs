//! Timers for deadlines that move with every chunk: kept between waits, and from one answer to the next.
//!
//! Refuses to know what is awaited.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// A wait that ends when it is time to look at the deadline again.
///
/// Pingora's coarse timers (10 ms, shared by all that end together) cost a fraction of the runtime's, and leave
/// its event loop without a timeout to arm at every turn.
pub(super) struct DeadlineTimer {
    pub(super) at: Instant,
    pub(super) sleep: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

thread_local! {
    /// Timers of answers that came in time: one that ends too early is set anew, which is rarer than an answer.
    static SPARE: RefCell<Vec<DeadlineTimer>> = const { RefCell::new(Vec::new()) };
}

impl DeadlineTimer {
    /// A timer that has ended could not be polled again.
    const SHORTEST: Duration = Duration::from_millis(10);

    /// The longest wait: abandoned timers stay in memory until they end.
    const LONGEST: Duration = Duration::from_secs(10);

    /// The most that are kept by a thread.
    const SPARES: usize = 64;

    /// Starts a timer that ends at `due`, within the bounds above.
    pub(super) fn set(now: Instant, due: Instant) -> Self {
        let wait = due.saturating_duration_since(now).clamp(Self::SHORTEST, Self::LONGEST);
        let mut sleep = Box::pin(pingora_timeout::sleep(wait));
        // It counts from when it is first polled.
        let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        Self { at: now + wait, sleep }
    }

    /// Takes one that ends when it is due or before, set already where there is such a one.
    pub(super) fn by(due: Instant) -> Self {
        let spare = SPARE.with_borrow_mut(|spare| spare.pop_if(|timer| timer.at <= due));
        spare.unwrap_or_else(|| Self::set(Instant::now(), due))
    }

    /// Keeps a timer that has not ended for the next answer.
    pub(super) fn spare(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < Self::SPARES {
                spare.push(self);
            }
        });
    }
}
