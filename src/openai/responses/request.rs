//! Requests of Responses: items of many kinds, the system prompt in a member of its own, tools without a wrapper.

use std::borrow::Cow;

use super::super::dialect::{RequestDialect, SystemPromptPlace};
use super::super::segment::rule::{PartShape, ReadRule};
use super::super::segment::{SegmentKind, UnreadKind};
use super::super::tools::ToolMembers;

pub(super) const REQUEST: RequestDialect = RequestDialect {
    system_prompt: Some(SystemPromptPlace { member: Some("instructions"), messages: "input" }),
    token_limits: &["max_output_tokens"],
    generates_text: true,
    member,
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

fn member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "reasoning" | "context_management" => ReadRule::Words,
        "text" => ReadRule::Strings(SegmentKind::Schema),
        "prompt" => ReadRule::StoredPrompt,
        "previous_response_id" | "conversation" => ReadRule::Unread(UnreadKind::Reference),
        _ => return None,
    })
}

/// How items other than messages, tool calls and their results are read.
pub(crate) fn item(kind: &str) -> Option<PartShape> {
    Some(match kind {
        "reasoning" => {
            PartShape::text(|name| (name == "summary").then_some(ReadRule::Parts(SegmentKind::Reasoning)))
        }
        "item_reference" => PartShape::unread(UnreadKind::Reference, |_| None),
        "image_generation_call" => PartShape::text(|name| match name {
            "result" => Some(ReadRule::Unread(UnreadKind::Image)),
            _ => call_member(name),
        }),
        "mcp_list_tools" => PartShape::text(|name| match name {
            "tools" => Some(ReadRule::Tools),
            "server_label" => Some(ReadRule::Strings(SegmentKind::ToolDescription)),
            _ => None,
        }),
        "mcp_approval_request" => PartShape::text(|name| {
            matches!(name, "name" | "arguments" | "server_label")
                .then_some(ReadRule::Strings(SegmentKind::ToolCall))
        }),
        "mcp_approval_response" => {
            PartShape::text(|name| (name == "reason").then_some(ReadRule::Strings(SegmentKind::ToolResult)))
        }
        "compaction" => PartShape::text(|_| None),
        kind if kind.ends_with("_call") => PartShape::text(call_member),
        _ => return None,
    })
}

/// Items of the server's own tools hold the result beside the call.
fn call_member(name: &str) -> Option<ReadRule> {
    matches!(name, "output" | "outputs" | "results" | "error")
        .then_some(ReadRule::Parts(SegmentKind::ToolResult))
}

/// How parts of the contents of Responses are read.
pub(crate) fn part(kind: &str) -> Option<PartShape> {
    Some(match kind {
        "input_text" | "output_text" => PartShape::text(|name| match name {
            "text" => Some(ReadRule::Text),
            "logprobs" => Some(ReadRule::Skip),
            _ => None,
        }),
        "summary_text" | "reasoning_text" => {
            PartShape::text(|name| (name == "text").then_some(ReadRule::Strings(SegmentKind::Reasoning)))
        }
        "input_image" | "computer_screenshot" => PartShape::unread(UnreadKind::Image, file_member),
        "input_file" => PartShape::unread(UnreadKind::File, file_member),
        _ => return None,
    })
}

fn file_member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "filename" => ReadRule::Strings(SegmentKind::Name),
        "file_id" | "file_url" | "file_data" | "image_url" | "detail" => ReadRule::Skip,
        _ => return None,
    })
}
