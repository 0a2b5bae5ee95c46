//! Requests of Responses: items of many kinds, the system prompt in a member of its own, tools without a wrapper.

use std::borrow::Cow;

use super::super::dialect::{RequestDialect, SystemPromptPlace};
use super::super::tools::ToolMembers;

pub(super) const REQUEST: RequestDialect = RequestDialect {
    system_prompt: Some(SystemPromptPlace { member: Some("instructions"), messages: "input" }),
    token_limits: &["max_output_tokens"],
    generates_text: true,
    convert_tool,
    ..RequestDialect::of_prompt("input")
};

/// Lifts the function out of a tool of Chat's shape; any other shape stays as it is.
fn convert_tool(raw: &[u8]) -> Cow<'_, [u8]> {
    let function = ToolMembers::read(raw).function;
    match function.map(|function| function[1..function.len() - 1].trim_ascii()) {
        Some(members) if !members.is_empty() => {
            Cow::Owned([b"{\"type\":\"function\",", members, b"}"].concat())
        }
        _ => Cow::Borrowed(raw),
    }
}
