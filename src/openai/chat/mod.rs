//! OpenAI's Chat Completions.

pub(super) mod answer;
mod request;
mod to_responses;
mod translate;

use super::dialect::Dialect;
use super::error_dialect::ErrorDialect;
pub(super) use request::{message_member, part};

pub(super) const DIALECT: Dialect = Dialect {
    name: "chat",
    paths: &["/v1/chat/completions"],
    request: request::REQUEST,
    answer: &answer::ChatAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[&translate::ChatToMessages, &to_responses::ChatToResponses],
};
