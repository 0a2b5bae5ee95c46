//! Requests of Anthropic's Messages: the system prompt in a member of its own, tools without a wrapper.

use std::borrow::Cow;

use super::super::dialect::{RequestDialect, SystemPromptPlace};
use super::super::tools::ToolMembers;

pub(super) const REQUEST: RequestDialect = RequestDialect {
    system_prompt: Some(SystemPromptPlace { member: Some("system"), messages: "messages" }),
    token_limits: &["max_tokens"],
    generates_text: true,
    convert_tool,
    ..RequestDialect::of_prompt("messages")
};

/// Writes a tool of Chat's shape with `input_schema`; any other shape stays as it is.
fn convert_tool(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(function) = ToolMembers::read(raw).function.map(ToolMembers::read) else {
        return Cow::Borrowed(raw);
    };
    let string = |inside: &[u8]| [b"\"", inside, b"\""].concat();
    let mut out = [&b"{\"name\":"[..], &string(function.name.unwrap_or_default())].concat();
    if let Some(description) = function.description {
        out.extend_from_slice(b",\"description\":");
        out.extend_from_slice(&string(description));
    }
    out.extend_from_slice(b",\"input_schema\":");
    out.extend_from_slice(function.parameters.unwrap_or(b"{\"type\":\"object\"}"));
    out.push(b'}');
    Cow::Owned(out)
}
