//! Error responses, in the shapes and words of the server that is simulated.
//! It refuses to know how an error was found.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Flavour;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SimApiError {
    /// The bearer key is missing or wrong.
    Unauthorized,
    /// No such model is served.
    UnknownModel { model: String, served: Vec<String> },
    /// The body does not follow the schema.
    Malformed { message: String, at: Option<&'static str> },
    /// A value cannot be served.
    Invalid { message: String, param: Option<&'static str> },
    /// The queue is full, as llm-d's simulator says it.
    Busy,
    /// The queue is full, as vLLM says it.
    Saturated,
    /// A fault asks for this status.
    Fault(StatusCode),
    /// There is no such path.
    NoSuchPath(String),
    /// The path knows other methods.
    NoSuchMethod,
}

impl SimApiError {
    /// A value that cannot be served.
    pub(super) fn invalid(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self::Invalid { message: message.into(), param }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::UnknownModel { .. } | Self::NoSuchPath(_) => StatusCode::NOT_FOUND,
            Self::Malformed { .. } | Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Saturated => StatusCode::SERVICE_UNAVAILABLE,
            Self::Fault(status) => *status,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// Status and body in a dialect.
    pub(super) fn response(&self, flavour: Flavour) -> Response {
        let body = match flavour {
            Flavour::Vllm => self.in_vllm(),
            Flavour::OpenAi => self.in_openai(),
        };
        (self.status(), Json(body)).into_response()
    }

    fn in_vllm(&self) -> Value {
        let code = self.status().as_u16();
        let error = |message: &str, kind: &str, param: Option<&str>| json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
        match self {
            Self::Unauthorized => json!({"error": "Unauthorized"}),
            Self::UnknownModel { model, served } => {
                let aliases = served.join(", ");
                let message = format!("The model `{model}` does not exist. Valid aliases: {aliases}.");
                error(&message, "NotFoundError", Some("model"))
            }
            Self::Malformed { message, at } => {
                error(&format!("1 validation error:\n  {message}"), "Bad Request", *at)
            }
            Self::Invalid { message, param } => error(message, "BadRequestError", *param),
            Self::Busy => error("Too many requests: the waiting queue is full.", "RateLimitError", None),
            Self::Saturated => {
                let message =
                    "The engine is currently busy and cannot take more requests. Please retry later.";
                error(message, "ServiceUnavailableError", None)
            }
            Self::Fault(status) => error("Simulated fault.", vllm_kind(*status), None),
            Self::NoSuchPath(_) => json!({"detail": "Not Found"}),
            Self::NoSuchMethod => json!({"detail": "Method Not Allowed"}),
        }
    }

    fn in_openai(&self) -> Value {
        let error = |message: &str, kind: &str, param: Option<&str>, code: Option<&str>| json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
        let invalid = "invalid_request_error";
        match self {
            Self::Unauthorized => {
                error("Incorrect API key provided.", invalid, None, Some("invalid_api_key"))
            }
            Self::UnknownModel { model, .. } => {
                let message = format!("The model `{model}` does not exist or you do not have access to it.");
                error(&message, invalid, None, Some("model_not_found"))
            }
            Self::Malformed { message, at } => error(message, invalid, *at, None),
            Self::Invalid { message, param } => error(message, invalid, *param, Some("invalid_value")),
            Self::Busy | Self::Saturated => {
                error("Rate limit reached for requests.", "requests", None, Some("rate_limit_exceeded"))
            }
            Self::Fault(status) if status.is_server_error() => {
                error("The server had an error while processing your request.", "server_error", None, None)
            }
            Self::Fault(status) => error(status.as_str(), invalid, None, None),
            Self::NoSuchPath(path) => error(&format!("Invalid URL ({path})"), invalid, None, None),
            Self::NoSuchMethod => error("Not allowed to use this method.", invalid, None, None),
        }
    }
}

fn vllm_kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "AuthenticationError",
        404 => "NotFoundError",
        429 => "RateLimitError",
        400..=499 => "BadRequestError",
        503 => "ServiceUnavailableError",
        _ => "InternalServerError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_dialects_refuse_a_key_differently() {
        assert_eq!(SimApiError::Unauthorized.in_vllm(), json!({"error": "Unauthorized"}));
        assert_eq!(SimApiError::Unauthorized.in_openai()["error"]["code"], "invalid_api_key");
    }

    #[test]
    fn an_unknown_model_is_named_with_those_that_are_served() {
        let error = SimApiError::UnknownModel { model: "x".to_owned(), served: vec!["a".into(), "b".into()] };
        assert_eq!(
            error.in_vllm().to_string(),
            r#"{"error":{"message":"The model `x` does not exist. Valid aliases: a, b.","type":"NotFoundError","param":"model","code":404}}"#
        );
    }
}
