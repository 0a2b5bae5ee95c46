//! OpenAI's Chat Completions.

pub(super) mod answer;
mod request;
mod to_responses;
mod translate;

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
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

pub(super) const RENDER: Dialect = Dialect {
    name: "render_chat",
    paths: &["/v1/chat/completions/render"],
    request: RequestDialect { generates_text: false, hands_over_prefill: false, ..request::REQUEST },
    answer: &OtherAnswers,
    translations: &[],
    ..DIALECT
};
