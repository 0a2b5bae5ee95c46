//! OpenAI's Responses.

mod answer;
mod request;

use super::dialect::Dialect;
pub(super) use request::{item, part};

pub(super) const DIALECT: Dialect = Dialect {
    name: "responses",
    paths: &["/v1/responses"],
    request: request::REQUEST,
    answer: &answer::ResponseAnswers,
};
