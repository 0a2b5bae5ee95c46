//! OpenAI's older Completions.

mod answer;
mod request;

use super::dialect::Dialect;
use super::error_dialect::ErrorDialect;

pub(super) const DIALECT: Dialect = Dialect {
    name: "completions",
    paths: &["/v1/completions"],
    request: request::REQUEST,
    answer: &answer::CompletionAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};
