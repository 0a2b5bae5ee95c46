//! OpenAI's Responses.

mod answer;
mod error;
mod request;
mod stored;
mod translate;

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
use super::error_dialect::ErrorDialect;
use memchr::memmem;
pub(super) use request::{item, part};
pub use stored::StoredResponse;

pub(super) const DIALECT: Dialect = Dialect {
    name: "responses",
    paths: &["/v1/responses"],
    request: request::REQUEST,
    answer: &answer::ResponseAnswers,
    errors: error::ERRORS,
    translations: &[&translate::ResponsesToChat],
};

pub(super) const INPUT_TOKENS: Dialect = Dialect {
    name: "input_tokens",
    paths: &["/v1/responses/input_tokens"],
    request: RequestDialect { token_limits: &[], generates_text: false, ..request::REQUEST },
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[&translate::InputTokensToTokenize],
};

pub(super) const COMPACT: Dialect = Dialect {
    name: "compact",
    paths: &["/v1/responses/compact"],
    request: RequestDialect { token_limits: &[], generates_text: false, ..request::REQUEST },
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};

pub(super) const STORED: Dialect = Dialect {
    name: "stored_response",
    // That of all ids.
    paths: &["/v1/responses/"],
    request: RequestDialect::of_prompt("input"),
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};

pub(super) const RENDER: Dialect =
    Dialect { name: "render_responses", paths: &["/v1/responses/render"], translations: &[], ..INPUT_TOKENS };

/// How far into an answer its id is looked for, in bytes.
const ID_WITHIN: usize = 4096;

/// The longest id, in bytes.
const MAX_ID: usize = 256;

/// Reads the id of a response from the first bytes of an answer, whole or streamed: the first `id` that begins with
/// `resp_`, as those of the API do.
pub fn response_id(first: &[u8]) -> Option<&[u8]> {
    let first = &first[..first.len().min(ID_WITHIN)];
    let is_id = |at: &usize| {
        let before = first[..*at].trim_ascii_end().strip_suffix(b":");
        before.is_some_and(|before| before.trim_ascii_end().ends_with(b"\"id\""))
    };
    let start = memmem::find_iter(first, b"\"resp_").find(is_id)? + 1;
    let length = memchr::memchr(b'"', &first[start..])?;
    (length <= MAX_ID).then_some(&first[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_response_is_the_first_that_is_called_so() {
        for (answer, id) in [
            (r#"{"id":"resp_1","previous_response_id":"resp_0"}"#, Some("resp_1")),
            (r#"{"previous_response_id": "resp_0", "id" : "resp_1"}"#, Some("resp_1")),
            ("event: response.created\ndata: {\"response\":{\"id\":\"resp_2\"}}\n\n", Some("resp_2")),
            (r#"{"id":"chatcmpl-1"}"#, None),
            (r#"{"id":"resp_cut"#, None),
            ("", None),
        ] {
            assert_eq!(response_id(answer.as_bytes()), id.map(str::as_bytes), "{answer}");
        }
        let long = format!(r#"{{"id":"resp_{}"}}"#, "x".repeat(MAX_ID));
        assert_eq!(response_id(long.as_bytes()), None);
    }
}
