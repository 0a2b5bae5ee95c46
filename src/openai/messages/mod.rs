//! Anthropic's Messages, and the counting of their tokens.

mod answer;
mod error;
mod request;
mod translate;

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
pub(super) use request::part;

pub(super) const MESSAGES: Dialect = Dialect {
    name: "messages",
    paths: &["/v1/messages"],
    request: request::REQUEST,
    answer: &answer::MessageAnswers,
    errors: error::ERRORS,
    translations: &[&translate::MessagesToChat],
};

pub(super) const RENDER: Dialect =
    Dialect { name: "render_messages", paths: &["/v1/messages/render"], translations: &[], ..COUNT_TOKENS };

pub(super) const COUNT_TOKENS: Dialect = Dialect {
    name: "count_tokens",
    paths: &["/v1/messages/count_tokens"],
    request: RequestDialect { token_limits: &[], generates_text: false, ..request::REQUEST },
    answer: &OtherAnswers,
    errors: error::ERRORS,
    translations: &[&translate::CountTokensToTokenize],
};
