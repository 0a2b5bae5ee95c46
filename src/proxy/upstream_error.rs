//! Owns what an error that ends an attempt says of it.
//!
//! Decides nothing: the attempts do.

use super::attempt_failure::AttemptFailure;
use super::exchange::Exchange;
use super::held_error::HeldAnswer;
use super::replay;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;
use std::time::Instant;

/// Finds how an attempt failed that ends with this error; `None` where that is not the upstream's doing. Lets go of what
/// was held of its answer.
pub(super) fn failure_of(
    error: &Error,
    session: &Session,
    exchange: &mut Exchange,
    reused: bool,
) -> Option<AttemptFailure> {
    let failure = match (error.esource(), error.etype()) {
        // Whose fault an error is comes before which deadline has passed. The upstream's is watched by the downstream
        // session, so that these look like the client's.
        (_, etype) if *etype == replay::LATE => AttemptFailure::Late(exchange.late_bytes(Instant::now())),
        (_, etype) if *etype == replay::TAKEN_OUT => AttemptFailure::TakenOut,
        (_, etype) if *etype == replay::SLOW => AttemptFailure::Slow,
        (_, etype) if *etype == replay::PREFILL_FAILED => AttemptFailure::Prefill,
        (ErrorSource::Upstream, ErrorType::ReadTimedout) => {
            AttemptFailure::Late(exchange.late_bytes(Instant::now()))
        }
        (ErrorSource::Upstream, ErrorType::WriteTimedout) => AttemptFailure::Stalled { reused },
        (ErrorSource::Upstream, _) => {
            let answer_begun = exchange.is_tunnel()
                || session.response_written().is_some_and(|written| !written.status.is_informational());
            AttemptFailure::Reset { reused, answer_begun }
        }
        _ => return None,
    };
    // An error answer that did not come whole is as good as none.
    let broke_off = AttemptFailure::Reset { reused: false, answer_begun: false };
    let is_held_error = matches!(exchange.release_held(), Some(HeldAnswer::Error(_)));
    Some(if is_held_error { broke_off } else { failure })
}
