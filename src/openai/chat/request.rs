//! Requests of Chat Completions: messages of all roles in one list, tools whose functions are objects of their own.

use super::super::dialect::{RequestDialect, SystemPromptPlace};
use super::super::segment::rule::{PartShape, ReadRule};
use super::super::segment::{SegmentKind, UnreadKind};

pub(super) const REQUEST: RequestDialect = RequestDialect {
    system_prompt: Some(SystemPromptPlace { member: None, messages: "messages" }),
    token_limits: &["max_completion_tokens", "max_tokens"],
    usage_is_opt_in: true,
    generates_text: true,
    hands_over_prefill: true,
    ..RequestDialect::of_prompt("messages")
};

/// How members of a message beside `role` and `content` are read.
pub(crate) fn message_member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "name" => ReadRule::Strings(SegmentKind::Name),
        "tool_calls" | "function_call" => ReadRule::ToolCalls,
        "reasoning" | "reasoning_content" | "reasoning_details" => ReadRule::Strings(SegmentKind::Reasoning),
        "refusal" => ReadRule::Strings(SegmentKind::Message),
        "audio" => ReadRule::Unread(UnreadKind::Audio),
        _ => return None,
    })
}

/// How parts of OpenAI's and vLLM's contents are read.
pub(crate) fn part(kind: &str) -> Option<PartShape> {
    Some(match kind {
        "text" => PartShape::text(|name| (name == "text").then_some(ReadRule::Text)),
        "refusal" => PartShape::text(|name| (name == "refusal").then_some(ReadRule::Text)),
        "image_url" | "image_pil" | "image_embeds" => PartShape::unread(UnreadKind::Image, media_member),
        "input_audio" | "audio" | "audio_url" | "audio_embeds" => {
            PartShape::unread(UnreadKind::Audio, media_member)
        }
        "video" | "video_url" | "input_video" => PartShape::unread(UnreadKind::Video, media_member),
        "prompt_embeds" => PartShape::unread(UnreadKind::Embedding, media_member),
        "file" => PartShape::unread(UnreadKind::File, |name| (name == "file").then_some(ReadRule::FileName)),
        // What `prediction` holds.
        "content" => {
            PartShape::text(|name| (name == "content").then_some(ReadRule::Parts(SegmentKind::Prediction)))
        }
        _ => return None,
    })
}

fn media_member(name: &str) -> Option<ReadRule> {
    let is_known = matches!(
        name,
        "image_url"
            | "image_pil"
            | "image_embeds"
            | "input_audio"
            | "audio"
            | "audio_url"
            | "audio_embeds"
            | "video"
            | "video_url"
            | "input_video"
            | "prompt_embeds"
            | "detail"
    );
    is_known.then_some(ReadRule::Skip)
}
