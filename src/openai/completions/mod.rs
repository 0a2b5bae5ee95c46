//! OpenAI's older Completions.

mod answer;
mod request;

use super::dialect::Dialect;

pub(super) const DIALECT: Dialect = Dialect {
    name: "completions",
    paths: &["/v1/completions"],
    request: request::REQUEST,
    answer: &answer::CompletionAnswers,
};
