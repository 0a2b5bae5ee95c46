//! Errors in Anthropic's shape, with the types and the statuses that its clients choose their exceptions by.

use http::StatusCode;

use super::super::error_dialect::{ErrorDialect, ErrorText};
use super::super::json::object::Object;
use super::super::sse::named_event;

pub(super) const ERRORS: ErrorDialect = ErrorDialect {
    status,
    body: |error, request_id| write(error, request_id),
    event: |error, request_id| {
        let mut event = Vec::new();
        named_event(&mut event, "error", &write(error, request_id));
        event
    },
    has_request_id: true,
    keep_alive: "event: ping\ndata: {\"type\": \"ping\"}\n\n",
};

/// Anthropic's own status of a lack of capacity, which no HTTP library knows.
const OVERLOADED: u16 = 529;

/// A status as Anthropic's API has it; those of the client's own faults, and of others, stay.
fn status(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => StatusCode::from_u16(OVERLOADED).unwrap_or(status),
        StatusCode::BAD_GATEWAY => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    }
}

/// The type of an error by its status.
pub(crate) fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | OVERLOADED => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

fn write(error: &ErrorText<'_>, request_id: &str) -> Vec<u8> {
    let said = Object::default().text("type", kind(error.status)).text("message", error.message).end();
    Object::default().text("type", "error").raw("error", &said).text("request_id", request_id).end()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::Rejection;

    #[test]
    fn an_error_has_anthropics_type_and_status_and_names_its_request() {
        let retry_after = Duration::from_secs(1);
        for (rejection, expected, kind) in [
            (Rejection::MissingModel, 400, "invalid_request_error"),
            (Rejection::TooLarge { limit: 1 }, 413, "request_too_large"),
            (Rejection::Unidentified, 401, "authentication_error"),
            (Rejection::UnknownModel { name: "m".to_owned() }, 404, "not_found_error"),
            (Rejection::Overloaded { retry_after }, 529, "overloaded_error"),
            (Rejection::UpstreamReset, 500, "api_error"),
            (Rejection::UpstreamTimeout, 504, "timeout_error"),
        ] {
            let body: Value = serde_json::from_slice(&ERRORS.body_of(&rejection, "req_1")).unwrap();
            let error = json!({"type": kind, "message": rejection.to_string()});
            assert_eq!(body, json!({"type": "error", "error": error, "request_id": "req_1"}));
            assert_eq!(ERRORS.status_of(&rejection), expected);
            let event = String::from_utf8(ERRORS.event_of(&rejection, "req_1")).unwrap();
            assert_eq!(event, format!("event: error\ndata: {body}\n\n"));
        }
    }
}
