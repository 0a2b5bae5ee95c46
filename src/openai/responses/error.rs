//! Errors of the Responses API: OpenAI's body, and a flat event in a stream.

use super::super::error_dialect::ErrorDialect;
use super::super::json::object::Object;
use super::super::sse::named_event;

pub(super) const ERRORS: ErrorDialect = ErrorDialect {
    event: |error, _request_id| {
        let data = Object::default()
            .text("type", "error")
            .text("code", error.code.unwrap_or("server_error"))
            .text("message", error.message)
            .raw("param", b"null");
        let mut event = Vec::new();
        named_event(&mut event, "error", &data.end());
        event
    },
    ..ErrorDialect::OPENAI
};
