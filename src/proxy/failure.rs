//! Owns how a rejection gets from the phase that decided on it to `fail_to_proxy`: as the cause of Pingora's error.
//!
//! Decides nothing.

use crate::openai::Rejection;
use pingora::{Error, ErrorType};
use std::fmt;
use std::time::Duration;

/// The `retry-after` of rejections for want of capacity.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The cause of an error for which the client gets a certain rejection.
///
/// Pingora hands `fail_to_proxy` nothing but the error, so the rejection is inside of it.
#[derive(Debug)]
pub(super) struct RequestFailure {
    pub(super) rejection: Rejection,
    /// What Pingora reported.
    error: Option<Box<Error>>,
}

#[expect(clippy::unnecessary_box_returns, reason = "Pingora's errors are boxed everywhere")]
impl RequestFailure {
    /// Makes an error of our own that the client hears of as `rejection`.
    pub(super) fn explain(rejection: Rejection, context: &'static str) -> Box<Error> {
        Error::because(ErrorType::InternalError, context, Self { rejection, error: None })
    }

    /// Makes the error for which the client gets a rejection in an answer's place.
    pub(super) fn of_answer(rejection: Rejection) -> Box<Error> {
        Self::explain(rejection, "the answer may not go out")
    }

    /// Adds a rejection to an error that Pingora reported; the result is not retried.
    pub(super) fn wrap(rejection: Rejection, error: Box<Error>) -> Box<Error> {
        let (etype, esource) = (error.etype().clone(), error.esource().clone());
        let cause = Self { rejection, error: Some(error) };
        Error::create(etype, esource, None, Some(Box::new(cause)))
    }

    /// The error that Pingora reported, where there was one.
    pub(super) fn reported(&self) -> Option<&Error> {
        self.error.as_deref()
    }

    /// Finds what an error carries.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        error.cause.as_ref()?.downcast_ref()
    }
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => error.fmt(f),
            None => f.write_str(self.rejection.reason()),
        }
    }
}

impl std::error::Error for RequestFailure {}
