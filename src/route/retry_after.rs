//! Owns when a client may come back that the classifier had no answer for.

use crate::classify::Unknown;
use crate::signals::SignalEvaluation;
use std::time::Duration;

/// By when what waits for the classifier now will have been computed, in whole seconds; none where waiting helps nothing.
pub(super) fn retry_after(reason: Unknown, known: &SignalEvaluation) -> Option<Duration> {
    let seconds = known.wait.as_millis().div_ceil(1000).max(1);
    reason.is_temporary().then(|| Duration::from_secs(seconds as u64))
}
