//! OpenAI's Chat Completions.

pub(super) mod answer;
mod request;

use super::dialect::Dialect;
pub(super) use request::{message_member, part};

pub(super) const DIALECT: Dialect = Dialect {
    name: "chat",
    paths: &["/v1/chat/completions"],
    request: request::REQUEST,
    answer: &answer::ChatAnswers,
};
