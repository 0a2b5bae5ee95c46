//! How the clients of an API are told of an error: its status, its body, and the event that ends a stream; and what
//! they are sent while there is nothing to tell.
//!
//! Owns OpenAI's shape, which most APIs share; the rooms of others have their own. Refuses to know why there is an error.

use http::StatusCode;

use super::Rejection;
use super::sse::unnamed_event;

/// How one API tells of errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct ErrorDialect {
    /// The status in place of OpenAI's.
    pub(super) status: fn(StatusCode) -> StatusCode,
    /// The body, of the text of an error and of the id of its request.
    pub(super) body: fn(&ErrorText<'_>, &str) -> Vec<u8>,
    /// The event that ends a stream before its time, of the same.
    pub(super) event: fn(&ErrorText<'_>, &str) -> Vec<u8>,
    /// Whether clients look for the request's id in the header `request-id`.
    pub(super) has_request_id: bool,
    /// What keeps a silent stream open.
    pub(super) keep_alive: &'static str,
}

/// What an error says, in OpenAI's words.
#[derive(Debug)]
pub(super) struct ErrorText<'a> {
    /// OpenAI's status.
    pub(super) status: StatusCode,
    pub(super) message: &'a str,
    /// OpenAI's `code`, where there is one.
    pub(super) code: Option<&'a str>,
    /// OpenAI's whole body.
    pub(super) json: &'a [u8],
}

impl ErrorDialect {
    /// `{"error": {"message", "type", "param", "code"}}`.
    pub(super) const OPENAI: Self = Self {
        status: |status| status,
        body: |error, _request_id| error.json.to_vec(),
        event: |error, _request_id| {
            let mut event = Vec::new();
            unnamed_event(&mut event, error.json);
            event
        },
        has_request_id: false,
        keep_alive: ": keep-alive\n\n",
    };

    /// The status of a rejection.
    pub(super) fn status_of(&self, rejection: &Rejection) -> StatusCode {
        (self.status)(rejection.status())
    }

    /// The body of a rejection.
    pub(super) fn body_of(&self, rejection: &Rejection, request_id: &str) -> Vec<u8> {
        Self::tell(self.body, rejection, request_id)
    }

    /// The event that ends a stream with a rejection.
    pub(super) fn event_of(&self, rejection: &Rejection, request_id: &str) -> Vec<u8> {
        Self::tell(self.event, rejection, request_id)
    }

    fn tell(write: fn(&ErrorText<'_>, &str) -> Vec<u8>, rejection: &Rejection, request_id: &str) -> Vec<u8> {
        let (message, json) = (rejection.to_string(), rejection.body());
        let code = Some(rejection.code());
        write(&ErrorText { status: rejection.status(), message: &message, code, json: &json }, request_id)
    }
}
