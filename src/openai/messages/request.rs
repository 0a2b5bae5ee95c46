//! Requests of Anthropic's Messages: the system prompt in a member of its own, tools without a wrapper.

use std::borrow::Cow;

use super::super::dialect::{RequestDialect, SystemPromptPlace};
use super::super::segment::rule::{PartShape, ReadRule};
use super::super::segment::{SegmentKind, UnreadKind};
use super::super::tools::ToolMembers;

pub(super) const REQUEST: RequestDialect = RequestDialect {
    system_prompt: Some(SystemPromptPlace { member: Some("system"), messages: "messages" }),
    token_limits: &["max_tokens"],
    generates_text: true,
    hands_over_prefill: true,
    member,
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

fn member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "context_management" => ReadRule::Words,
        "output_config" | "output_format" => ReadRule::Strings(SegmentKind::Schema),
        "mcp_servers" => ReadRule::Tools,
        "container" => ReadRule::Strings(SegmentKind::Identifier),
        _ => return None,
    })
}

/// How blocks of Anthropic's contents are read.
pub(crate) fn part(kind: &str) -> Option<PartShape> {
    Some(match kind {
        "thinking" => PartShape::text(|name| match name {
            "thinking" => Some(ReadRule::TextAs(SegmentKind::Reasoning)),
            "signature" => Some(ReadRule::Skip),
            _ => None,
        }),
        "redacted_thinking" => {
            PartShape::text(|name| (name == "data").then_some(ReadRule::Unread(UnreadKind::Encrypted)))
        }
        "image" => PartShape::unread(UnreadKind::Image, |name| (name == "source").then_some(ReadRule::Skip)),
        "document" => PartShape::text(|name| match name {
            "source" => Some(ReadRule::Source),
            _ => document_member(name),
        }),
        "search_result" | "web_search_result" | "web_fetch_result" => PartShape::text(document_member),
        "container_upload" => {
            PartShape::unread(UnreadKind::File, |name| (name == "file_id").then_some(ReadRule::Skip))
        }
        kind if kind.ends_with("tool_use") => PartShape::text(|name| {
            matches!(name, "name" | "input" | "server_name")
                .then_some(ReadRule::Strings(SegmentKind::ToolCall))
        }),
        kind if kind.ends_with("tool_result") => {
            PartShape::text(|name| (name == "content").then_some(ReadRule::ToolResult))
        }
        _ => return None,
    })
}

fn document_member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "title" | "context" | "source" | "url" | "page_age" => ReadRule::Strings(SegmentKind::Document),
        "content" => ReadRule::Parts(SegmentKind::Document),
        "citations" => ReadRule::Words,
        _ => return None,
    })
}
