//! One message or item of a conversation: its role, its content and its other members.
//!
//! Owns the shapes of OpenAI's two conversations and of Anthropic's. Refuses to judge: an unexpected shape has no text.
//! Works on bytes that are known to be JSON.

use super::json;
use super::json::string::{decode, decodes_to};

/// How much of a `type` is read, in bytes; every known one is shorter.
const MAX_KIND: usize = 64;

/// The author of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The operator of the application: `system`, `developer`, or the API's own place for it.
    System,
    /// The user, also of what has no role: a prompt, an input, a query.
    User,
    /// The model.
    Assistant,
    /// A tool, which gives its result.
    Tool,
    /// A role that no API names, or none.
    Other,
}

impl Role {
    pub(super) fn read(value: &[u8]) -> Self {
        let Some(inside) = json::string(value) else {
            return Self::Other;
        };
        match &*decode(inside, MAX_KIND) {
            "system" | "developer" => Self::System,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" | "function" => Self::Tool,
            _ => Self::Other,
        }
    }
}

/// The members of a message or item that matter, each as written.
pub(super) struct InputMessage<'a> {
    pub(super) role: Role,
    pub(super) content: Option<&'a [u8]>,
    /// The bytes between the quotes of `type`.
    pub(super) kind: &'a [u8],
    /// The result of a tool, in an item of its own.
    pub(super) output: Option<&'a [u8]>,
    pub(super) tool_calls: Option<&'a [u8]>,
    /// The one call, as it was before `tool_calls`.
    pub(super) function_call: Option<&'a [u8]>,
}

impl<'a> InputMessage<'a> {
    /// Reads a message; one that is no object has nothing.
    pub(super) fn read(object: &'a [u8]) -> Self {
        Self::of(json::object(object))
    }

    /// Reads a message by its keys and values.
    pub(super) fn of(members: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut message = Self {
            role: Role::Other,
            content: None,
            kind: b"",
            output: None,
            tool_calls: None,
            function_call: None,
        };
        for (key, value) in members {
            if decodes_to(key, "content") {
                message.content = Some(value);
            } else if decodes_to(key, "role") {
                message.role = Role::read(value);
            } else if decodes_to(key, "type") {
                message.kind = json::string(value).unwrap_or_default();
            } else if decodes_to(key, "output") {
                message.output = Some(value);
            } else if decodes_to(key, "tool_calls") {
                message.tool_calls = Some(value);
            } else if decodes_to(key, "function_call") {
                message.function_call = Some(value);
            }
        }
        message
    }

    /// Says what kind of item this is.
    pub(super) fn item(&self) -> ItemKind {
        ItemKind::of(&decode(self.kind, MAX_KIND))
    }
}

/// The kinds of items of a Responses input; Chat's messages are all messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemKind {
    /// A message, if there is a role or a content.
    Message,
    /// The model calls a tool.
    ToolCall,
    /// A tool gives back `output`.
    ToolResult,
    /// An image outside any message.
    Image,
}

impl ItemKind {
    /// Tells items apart by their `type`.
    pub(super) fn of(kind: &str) -> Self {
        if kind.ends_with("_call_output") {
            Self::ToolResult
        } else if kind.ends_with("_call") {
            Self::ToolCall
        } else if is_image(kind) {
            Self::Image
        } else {
            Self::Message
        }
    }
}

/// One part of a message's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentPart<'a> {
    /// Text, between its quotes; refusals and reasoning too, which servers show the model like any text.
    Text(&'a [u8]),
    Image,
    /// Audio, video or a file.
    Media,
    ToolCall,
    /// A tool's result with its own content, if any.
    ToolResult(&'a [u8]),
    Other,
}

impl<'a> ContentPart<'a> {
    /// Reads a part, which some servers also take as a bare string.
    pub(super) fn read(part: &'a [u8]) -> Self {
        if let Some(inside) = json::string(part) {
            return Self::Text(inside);
        }
        let (mut kind, mut text, mut content) = (None, None, None);
        let (mut refusal, mut thinking, mut untyped) = (None, None, None);
        for (key, value) in json::object(part) {
            if decodes_to(key, "type") {
                kind = json::string(value);
            } else if decodes_to(key, "text") {
                text = json::string(value);
            } else if decodes_to(key, "refusal") {
                refusal = json::string(value);
            } else if decodes_to(key, "thinking") {
                thinking = json::string(value);
            } else if decodes_to(key, "content") {
                content = Some(value);
            } else {
                // Engines go by these where there is no type.
                let names = ["image_url", "audio_url", "video_url", "input_audio"];
                untyped = names.into_iter().find(|name| decodes_to(key, name)).or(untyped);
            }
        }
        let kind = kind.map_or_else(|| untyped.unwrap_or_default().into(), |kind| decode(kind, MAX_KIND));
        match &*kind {
            "text" | "input_text" | "output_text" => text.map_or(Self::Other, Self::Text),
            "refusal" => refusal.map_or(Self::Other, Self::Text),
            "thinking" => thinking.map_or(Self::Other, Self::Text),
            "input_audio" | "audio" | "audio_url" | "audio_embeds" | "prompt_embeds" | "video"
            | "video_url" | "input_video" | "file" | "input_file" | "document" => Self::Media,
            kind if is_image(kind) => Self::Image,
            kind if kind.ends_with("tool_use") => Self::ToolCall,
            kind if kind.ends_with("tool_result") => Self::ToolResult(content.unwrap_or_default()),
            _ => Self::Other,
        }
    }

    /// Says whether it is an image, audio, video or a file.
    pub(super) fn is_media(self) -> bool {
        matches!(self, Self::Image | Self::Media)
    }

    /// Returns the text, if it has any.
    pub(super) fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(inside) => Some(inside),
            _ => None,
        }
    }
}

fn is_image(kind: &str) -> bool {
    matches!(kind, "image_url" | "input_image" | "image" | "image_embeds" | "image_pil")
}

/// Returns the parts of a content; none if it is no array.
pub(super) fn parts(content: &[u8]) -> impl Iterator<Item = ContentPart<'_>> {
    json::array(content).map(ContentPart::read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_what_the_apis_call_them() {
        let role = |word: &str| InputMessage::read(format!("{{\"role\":{word}}}").as_bytes()).role;
        assert_eq!(role("\"developer\""), Role::System);
        assert_eq!(role(r#""us\u0065r""#), Role::User);
        assert_eq!(role("\"assistant\""), Role::Assistant);
        assert_eq!(role("\"function\""), Role::Tool);
        assert_eq!(role("\"User\""), Role::Other);
        assert_eq!(role("1"), Role::Other);
        assert_eq!(InputMessage::read(b"{}").role, Role::Other);
    }

    #[test]
    fn parts_are_told_apart() {
        let part = |json: &'static str| ContentPart::read(json.as_bytes());
        assert_eq!(part("\"a\""), ContentPart::Text(b"a"));
        assert_eq!(part(r#"{"text":"a","type":"input_text"}"#), ContentPart::Text(b"a"));
        assert_eq!(part(r#"{"type":"refusal","refusal":"no"}"#), ContentPart::Text(b"no"));
        assert_eq!(part(r#"{"thinking":"hm","text":"a","type":"thinking"}"#), ContentPart::Text(b"hm"));
        assert_eq!(part(r#"{"text":"a"}"#), ContentPart::Other);
        assert_eq!(part(r#"{"type":"text","text":1}"#), ContentPart::Other);
        assert_eq!(part(r#"{"type":"image_url","text":"a"}"#), ContentPart::Image);
        assert_eq!(part(r#"{"image_url":{"url":"https://x"}}"#), ContentPart::Image);
        assert_eq!(part(r#"{"video_url":{"url":"https://x"}}"#), ContentPart::Media);
        assert_eq!(part(r#"{"type":"input_audio"}"#), ContentPart::Media);
        assert_eq!(part(r#"{"type":"server_tool_use"}"#), ContentPart::ToolCall);
        assert_eq!(part(r#"{"type":"tool_result","content":"4"}"#), ContentPart::ToolResult(b"\"4\""));
        assert_eq!(part("1"), ContentPart::Other);
    }
}
