//! OpenAI's Chat Completions.

mod request;

use super::dialect::Dialect;
pub(super) use request::{message_member, part};

pub(super) const DIALECT: Dialect =
    Dialect { name: "chat", paths: &["/v1/chat/completions"], request: request::REQUEST };
