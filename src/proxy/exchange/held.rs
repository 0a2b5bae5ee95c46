//! Answers that are held back until it is clear what follows: errors until their text is there, heads of streams until
//! their first byte. Knows nothing of what is decided then.

use super::super::held_error::HeldAnswer;
use super::Exchange;
use std::time::{Duration, Instant};

/// How long the text of an error may take whose header has come: as a rule both come at once.
const ERROR_TEXT_TIME: Duration = Duration::from_secs(1);

impl Exchange {
    /// Holds an error answer until its text is there, or the head of a stream until its first byte.
    pub(in crate::proxy) fn hold(&mut self, held: HeldAnswer) {
        if let (Some(attempts), HeldAnswer::Error(_)) = (&self.attempts, &held) {
            attempts.deadline.arm(Instant::now(), ERROR_TEXT_TIME);
        }
        if let Some(replay) = &self.replay {
            replay.hold(true);
        }
        self.held = Some(held);
    }

    /// Whether the head of a stream is held until its first byte.
    pub(in crate::proxy) fn holds_head(&self) -> bool {
        self.attempts.as_ref().is_some_and(|attempts| attempts.holds_head(&self.live))
    }

    /// Whether an answer is held.
    pub(in crate::proxy) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Lets go of an answer that is held; the next answer reaches the client again.
    pub(in crate::proxy) fn release_held(&mut self) -> Option<HeldAnswer> {
        let held = self.held.take()?;
        if let Some(replay) = &self.replay {
            replay.hold(false);
        }
        Some(held)
    }
}
