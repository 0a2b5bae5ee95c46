//! What is said of each rejection whatever its data: its status, its label and OpenAI's `code`, in one table.

use super::Rejection;
use http::StatusCode;

/// Everything about a rejection that does not depend on its data.
#[derive(Clone, Copy)]
pub(super) struct RejectionInfo {
    pub(super) status: StatusCode,
    /// The metric label.
    pub(super) reason: &'static str,
    /// The `code` in the body.
    pub(super) code: &'static str,
    /// The request's field that is at fault.
    pub(super) param: Option<&'static str>,
}

const fn info(status: StatusCode, reason: &'static str, code: &'static str) -> RejectionInfo {
    RejectionInfo { status, reason, code, param: None }
}

const fn with_param(param: &'static str, info: RejectionInfo) -> RejectionInfo {
    RejectionInfo { param: Some(param), ..info }
}

impl Rejection {
    pub(super) fn info(&self) -> RejectionInfo {
        use StatusCode as S;
        match self {
            Self::UnknownPath { .. } => info(S::NOT_FOUND, "unknown_path", "unknown_url"),
            Self::NoRoute => info(S::NOT_FOUND, "no_route", "no_route"),
            Self::Misdirected => info(S::MISDIRECTED_REQUEST, "misdirected", "misdirected_request"),
            Self::InvalidBackend => info(S::INTERNAL_SERVER_ERROR, "invalid_backend", "invalid_backend"),
            Self::UncheckedRequest => info(S::FORBIDDEN, "unchecked_request", "unchecked_request"),
            Self::DoubledPath { .. } => info(S::NOT_FOUND, "doubled_path", "unknown_url"),
            Self::MethodNotAllowed { .. } => {
                info(S::METHOD_NOT_ALLOWED, "method_not_allowed", "method_not_allowed")
            }
            Self::NoWebSocket => info(S::UPGRADE_REQUIRED, "no_websocket", "websocket_not_supported"),
            Self::ForeignOrigin => info(S::FORBIDDEN, "foreign_origin", "origin_not_allowed"),
            Self::TooManyWebSockets => {
                info(S::SERVICE_UNAVAILABLE, "too_many_websockets", "too_many_websockets")
            }
            Self::UnguardedWebSocket => info(S::UNPROCESSABLE_ENTITY, "unguarded_websocket", "unclassified"),
            Self::NotServed { .. } => info(S::NOT_IMPLEMENTED, "not_served", "not_served"),
            Self::BadForm { .. } => info(S::BAD_REQUEST, "bad_form", "invalid_form"),
            Self::FormUnchangeable => info(S::UNPROCESSABLE_ENTITY, "form_unchangeable", "form_unchangeable"),
            Self::BadJson { .. } => info(S::BAD_REQUEST, "bad_json", "invalid_json"),
            Self::NotAnObject => info(S::BAD_REQUEST, "not_an_object", "invalid_json"),
            Self::MissingModel => {
                with_param("model", info(S::BAD_REQUEST, "missing_model", "model_required"))
            }
            Self::ModelNotString => {
                with_param("model", info(S::BAD_REQUEST, "model_not_string", "invalid_type"))
            }
            Self::DuplicateField { .. } => info(S::BAD_REQUEST, "duplicate_field", "duplicate_field"),
            Self::MiscasedField { .. } => info(S::BAD_REQUEST, "miscased_field", "unknown_parameter"),
            Self::UnknownModel { .. } => {
                with_param("model", info(S::NOT_FOUND, "unknown_model", "model_not_found"))
            }
            Self::TooLarge { .. } => info(S::PAYLOAD_TOO_LARGE, "too_large", "request_too_large"),
            Self::UnsupportedCoding => {
                info(S::UNSUPPORTED_MEDIA_TYPE, "unsupported_coding", "unsupported_content_encoding")
            }
            Self::BadCoding => info(S::BAD_REQUEST, "bad_coding", "invalid_content_encoding"),
            Self::SlowBody => info(S::REQUEST_TIMEOUT, "slow_body", "request_timeout"),
            Self::BadFraming => info(S::BAD_REQUEST, "bad_framing", "bad_framing"),
            Self::BadHeader { .. } => info(S::BAD_REQUEST, "bad_header", "bad_request"),
            Self::HeaderTooLarge { .. } => {
                info(S::REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large", "request_header_too_large")
            }
            Self::SlowHeader => info(S::REQUEST_TIMEOUT, "slow_header", "request_timeout"),
            Self::Unclassified { .. } => info(S::SERVICE_UNAVAILABLE, "unclassified", "unclassified"),
            Self::Unidentified => info(S::UNAUTHORIZED, "unidentified", "invalid_api_key"),
            Self::Jailbreak { .. } => info(S::BAD_REQUEST, "jailbreak", "content_filter"),
            Self::PersonalData { .. } => info(S::BAD_REQUEST, "personal_data", "content_filter"),
            // Nothing that a retry would change: it is in the request.
            Self::Unjudged {
                reason: "unsupported" | "too_long" | "unreadable" | "unsupported_language",
                ..
            } => info(S::UNPROCESSABLE_ENTITY, "unjudged", "unclassified"),
            Self::Unjudged { .. } => info(S::SERVICE_UNAVAILABLE, "unjudged", "unclassified"),
            Self::FixedText { .. } => info(S::BAD_REQUEST, "fixed_text", "fixed_response"),
            Self::AnswerUnjudged { .. } => info(S::BAD_GATEWAY, "answer_unjudged", "answer_unjudged"),
            Self::AnswerBlocked => info(S::BAD_GATEWAY, "answer_blocked", "content_filter"),
            Self::Untranslatable { .. } => info(S::BAD_REQUEST, "untranslatable", "unsupported_parameter"),
            Self::PreviousResponseUnknown { .. } => with_param(
                "previous_response_id",
                info(S::BAD_REQUEST, "previous_response_unknown", "previous_response_not_found"),
            ),
            Self::ResponseNotKept { .. } => info(S::NOT_FOUND, "response_not_kept", "response_not_found"),
            Self::ResponseOwnerUnknown { .. } => {
                info(S::BAD_REQUEST, "response_owner_unknown", "response_not_found")
            }
            Self::NotInBackground { .. } => info(S::BAD_REQUEST, "not_in_background", "invalid_request"),
            Self::AnswerUntranslatable => {
                info(S::BAD_GATEWAY, "answer_untranslatable", "answer_untranslatable")
            }
            Self::UpstreamRefused { status, .. } => info(*status, "upstream_refused", "upstream_error"),
            Self::Overloaded { .. } => info(S::SERVICE_UNAVAILABLE, "overloaded", "overloaded"),
            Self::Shed { .. } => info(S::TOO_MANY_REQUESTS, "shed", "rate_limit_exceeded"),
            Self::ShuttingDown { .. } => info(S::SERVICE_UNAVAILABLE, "shutting_down", "shutting_down"),
            Self::NoHealthyEndpoint { .. } => {
                info(S::SERVICE_UNAVAILABLE, "no_healthy_endpoint", "no_healthy_endpoint")
            }
            Self::NoBackendEndpoint { .. } => {
                info(S::SERVICE_UNAVAILABLE, "no_backend_endpoint", "no_backend_endpoint")
            }
            Self::PickerRefused { status, .. } => info(*status, "picker_refused", "endpoint_picker_refused"),
            Self::PickerUnavailable { .. } => {
                info(S::SERVICE_UNAVAILABLE, "picker_unavailable", "endpoint_picker_unavailable")
            }
            Self::UpstreamConnect => info(S::BAD_GATEWAY, "upstream_connect", "upstream_unreachable"),
            Self::UpstreamReset => info(S::BAD_GATEWAY, "upstream_reset", "upstream_reset"),
            Self::PrefillFailed => info(S::BAD_GATEWAY, "prefill_failed", "prefill_failed"),
            Self::Indivisible => info(S::BAD_REQUEST, "indivisible", "unsupported_parameter"),
            Self::UpstreamTimeout => info(S::GATEWAY_TIMEOUT, "upstream_timeout", "upstream_timeout"),
            Self::Internal => info(S::INTERNAL_SERVER_ERROR, "internal", "internal_error"),
        }
    }
}
