//! OpenAI's older Completions.

mod answer;
mod request;

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
use super::error_dialect::ErrorDialect;

pub(super) const DIALECT: Dialect = Dialect {
    name: "completions",
    paths: &["/v1/completions"],
    request: request::REQUEST,
    answer: &answer::CompletionAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};

pub(super) const RENDER: Dialect = Dialect {
    name: "render_completions",
    paths: &["/v1/completions/render"],
    request: RequestDialect { generates_text: false, hands_over_prefill: false, ..request::REQUEST },
    answer: &OtherAnswers,
    ..DIALECT
};
