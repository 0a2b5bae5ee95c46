//! Owns how an attempt can fail, whose fault that is, and what its client hears of it.
//!
//! Decides nothing: the attempts do, by what this says of a failure.

use crate::balance::Refusal;
use crate::openai::Rejection;
use crate::policy::{Retry, RetryCause};
use http::StatusCode;
use std::time::Duration;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptFailure {
    /// No connection was made.
    Connect { timed_out: bool },
    /// The upstream stopped taking the request before all of it was sent.
    Stalled {
        /// The connection had served a request before.
        reused: bool,
    },
    /// The upstream broke the connection.
    Reset {
        /// The connection had served a request before.
        reused: bool,
        /// The client has the header of the answer already.
        answer_begun: bool,
    },
    /// The upstream answered with an error status; its body was not read.
    Status {
        status: StatusCode,
        /// When the upstream wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The engine's queue is full, as its error's text says.
    Saturated,
    /// The endpoint was taken out of its pool before it gave a byte.
    TakenOut,
    /// It gave no byte for so long that another is asked instead.
    Slow,
    /// The prompt, which it waits for, is not computed.
    Prefill,
    /// Something did not come in time.
    Late(LateBytes),
}

/// What did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LateBytes {
    First,
    Next,
    /// The end of the whole exchange.
    Last,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// It counts towards the endpoint's ejection.
    Endpoint,
    /// The endpoint has too much to do; that is no fault, but requests had better go elsewhere.
    Load { retry_after: Option<Duration> },
    /// The same, for a moment.
    Saturation,
    /// The endpoint's or the request's own: only another endpoint's answer tells.
    Unclear,
    /// The request's own, or a long answer's.
    Nobody,
}

/// What follows a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Another endpoint is leased: try that.
    Retry,
    /// Try the same endpoint over a new connection.
    Reconnect,
    /// The client gets the upstream's own error answer.
    ForwardAnswer,
    /// The client gets this.
    GiveUp(Rejection),
}

impl AttemptFailure {
    pub(super) fn blame(self) -> Blame {
        match self {
            // The next byte: an answer has begun, and stops. The first is as late as the prompt is long, and the queue
            // before it.
            Self::Connect { .. }
            | Self::Stalled { .. }
            | Self::Reset { .. }
            | Self::Late(LateBytes::Next) => Blame::Endpoint,
            Self::Saturated => Blame::Saturation,
            Self::Late(LateBytes::First | LateBytes::Last) | Self::TakenOut | Self::Slow | Self::Prefill => {
                Blame::Nobody
            }
            Self::Status { status, retry_after } => match status.as_u16() {
                429 | 529 => Blame::Load { retry_after },
                503 if retry_after.is_some() => Blame::Load { retry_after },
                401 | 403 | 404 | 500 => Blame::Unclear,
                // 501 and 505 are about what was asked: a method, a version.
                code if code >= 500 && code != 501 && code != 505 => Blame::Endpoint,
                _ => Blame::Nobody,
            },
        }
    }

    /// Whether a failure says no more than that a connection had gone stale: the upstream closed it just as it was used,
    /// or has gone without a word.
    pub(super) fn is_of_connection(self) -> bool {
        matches!(self, Self::Reset { reused: true, answer_begun: false } | Self::Stalled { reused: true })
    }

    /// Whether it is an answer with one of these statuses.
    pub(super) fn is_listed(self, codes: &[u16]) -> bool {
        matches!(self, Self::Status { status, .. } if codes.contains(&status.as_u16()))
    }

    pub(super) fn is_retried(self, retry: &Retry) -> bool {
        match self {
            Self::Connect { .. } | Self::Stalled { .. } => retry.covers(RetryCause::Connect),
            Self::Reset { answer_begun, .. } => !answer_begun && retry.covers(RetryCause::Reset),
            Self::TakenOut | Self::Prefill => retry.covers(RetryCause::Reset),
            Self::Slow => retry.reissue.is_some(),
            Self::Saturated => retry.covers(RetryCause::Status503),
            Self::Status { status, .. } => {
                retry.covers_status(status.as_u16())
                    || (self.is_compared() && retry.covers(RetryCause::Refused))
            }
            // The time was the whole request's, or as long as another endpoint would be given.
            Self::Late(_) => false,
        }
    }

    /// Whether another endpoint's answer is to tell whose fault this is.
    pub(super) fn is_compared(self) -> bool {
        self.blame() == Blame::Unclear
    }

    /// Whether an endpoint that had better not be asked may be asked again after this.
    pub(super) fn allows_last_resort(self) -> bool {
        matches!(self, Self::TakenOut | Self::Slow) || self.blame() == Blame::Endpoint
    }

    /// Whether the retry has been paid for: what leaves an endpoint that is out adds no load, and what leaves a slow one
    /// has a budget of its own.
    pub(super) fn is_paid_for(self) -> bool {
        matches!(self, Self::TakenOut | Self::Slow)
    }

    /// What an endpoint that gave this is passed over for, where it is.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self.blame() {
            Blame::Load { retry_after } => Some(Refusal::Busy { retry_after }),
            Blame::Saturation => Some(Refusal::Saturated),
            _ => None,
        }
    }

    /// The cause as the metric `retries_total` labels it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Stalled { .. } => "stalled",
            Self::Reset { .. } => "reset",
            Self::Saturated => "saturated",
            Self::TakenOut => "taken_out",
            Self::Slow => "slow",
            Self::Prefill => "prefill",
            Self::Late(_) => "deadline",
            Self::Status { status, .. } => match status.as_u16() {
                401 | 403 | 404 => "refused",
                429 => "429",
                500 => "500",
                502 => "502",
                503 => "503",
                504 => "504",
                _ => "status",
            },
        }
    }

    pub(super) fn give_up(self) -> NextStep {
        NextStep::GiveUp(match self {
            Self::Status { .. } | Self::Saturated => return NextStep::ForwardAnswer,
            Self::Connect { timed_out: false } => Rejection::UpstreamConnect,
            Self::Connect { timed_out: true } | Self::Stalled { .. } | Self::Late(_) | Self::Slow => {
                Rejection::UpstreamTimeout
            }
            Self::Reset { .. } | Self::TakenOut => Rejection::UpstreamReset,
            Self::Prefill => Rejection::PrefillFailed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{BasisPoints, RetryBudgetSpec};

    fn status(status: u16, retry_after: Option<u64>) -> AttemptFailure {
        let retry_after = retry_after.map(Duration::from_secs);
        AttemptFailure::Status { status: StatusCode::from_u16(status).unwrap(), retry_after }
    }

    fn reset(answer_begun: bool) -> AttemptFailure {
        AttemptFailure::Reset { reused: false, answer_begun }
    }

    #[test]
    fn only_what_the_policy_lists_is_retried_and_never_an_answer_that_has_begun() {
        let retry = Retry {
            attempts: 3,
            causes: vec![
                RetryCause::Connect,
                RetryCause::Reset,
                RetryCause::Status429,
                RetryCause::Status503,
            ],
            budget: RetryBudgetSpec { share: BasisPoints(10_000), min_per_second: 0 },
            reissue: None,
        };
        let connect = AttemptFailure::Connect { timed_out: true };
        let stalled = AttemptFailure::Stalled { reused: false };
        let busy = [AttemptFailure::Saturated, status(429, None), status(503, None)];
        for failure in [connect, stalled, reset(false), AttemptFailure::TakenOut].into_iter().chain(busy) {
            assert!(failure.is_retried(&retry), "{failure:?}");
        }
        let late = AttemptFailure::Late(LateBytes::First);
        for failure in [reset(true), status(404, None), status(500, None), late] {
            assert!(!failure.is_retried(&retry), "{failure:?}");
        }
        assert!(status(404, None).is_retried(&Retry::default()), "elsewhere the model may be there");
    }

    #[test]
    fn only_what_no_client_can_provoke_counts_against_the_endpoint() {
        let blames = [
            (status(400, None), Blame::Nobody),
            (status(404, None), Blame::Unclear),
            (status(429, Some(3)), Blame::Load { retry_after: Some(Duration::from_secs(3)) }),
            (status(500, None), Blame::Unclear),
            (status(501, None), Blame::Nobody),
            (status(502, None), Blame::Endpoint),
            (status(503, None), Blame::Endpoint),
            (status(503, Some(3)), Blame::Load { retry_after: Some(Duration::from_secs(3)) }),
            (AttemptFailure::Saturated, Blame::Saturation),
            (AttemptFailure::Late(LateBytes::First), Blame::Nobody),
            (AttemptFailure::Late(LateBytes::Next), Blame::Endpoint),
            (AttemptFailure::Late(LateBytes::Last), Blame::Nobody),
            (reset(true), Blame::Endpoint),
        ];
        for (failure, blame) in blames {
            assert_eq!(failure.blame(), blame, "{failure:?}");
        }
    }

    #[test]
    fn an_upstreams_own_error_is_forwarded_and_a_silence_named() {
        assert_eq!(status(429, None).give_up(), NextStep::ForwardAnswer);
        let late = AttemptFailure::Late(LateBytes::First);
        assert_eq!(late.give_up(), NextStep::GiveUp(Rejection::UpstreamTimeout));
    }
}
