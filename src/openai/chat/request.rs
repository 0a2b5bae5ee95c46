//! Requests of Chat Completions: messages of all roles in one list, tools whose functions are objects of their own.

use super::super::dialect::{RequestDialect, SystemPromptPlace};

pub(super) const REQUEST: RequestDialect = RequestDialect {
    system_prompt: Some(SystemPromptPlace { member: None, messages: "messages" }),
    token_limits: &["max_completion_tokens", "max_tokens"],
    usage_is_opt_in: true,
    generates_text: true,
    ..RequestDialect::of_prompt("messages")
};
