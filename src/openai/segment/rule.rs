//! How members of requests are read, and the tables that all rooms share.
//!
//! A table names what is known. What it does not name is read as [`SegmentKind::Other`], so that a member that an API
//! adds tomorrow is seen.

use super::{SegmentKind, UnreadKind};

/// From how many digits on a word may be personal data.
const MANY_DIGITS: usize = 9;

/// How long a word of an API is at most, in bytes.
const MAX_PLAIN_WORD: usize = 32;

/// How the value of a member is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadRule {
    /// Not read: data of what is unread as a whole, or secrets that the model does not get.
    Skip,
    /// Words of an API, which are passed over, such as `high`; any other string is read, since few servers check what
    /// they put into a template.
    Words,
    /// The text of the message.
    Text,
    /// The same, of another kind than the message.
    TextAs(SegmentKind),
    /// Every string and key, however deep.
    Strings(SegmentKind),
    /// A string, or parts of a content, of which none belongs to the message's own text.
    Parts(SegmentKind),
    /// The content of a tool's result, which is a message of its own.
    ToolResult,
    /// Calls of tools.
    ToolCalls,
    /// Tools that are offered.
    Tools,
    /// Where Anthropic's document comes from.
    Source,
    /// A file of which only the name is text.
    FileName,
    /// A stored prompt with its variables.
    StoredPrompt,
    /// Not text.
    Unread(UnreadKind),
}

impl ReadRule {
    /// The same rule where nothing belongs to a message's own text; `kind` is that of the text around it.
    pub(super) fn outside(self, kind: SegmentKind) -> Self {
        match self {
            Self::Text => Self::Parts(kind),
            Self::TextAs(kind) => Self::Parts(kind),
            Self::ToolResult => Self::Parts(SegmentKind::ToolResult),
            other => other,
        }
    }
}

/// How a content part or an item is read.
#[derive(Clone, Copy)]
pub(crate) struct PartShape {
    /// What of it cannot be read.
    pub(crate) unread: Option<UnreadKind>,
    /// How its members are read; nothing for unknown ones.
    pub(crate) member: fn(&str) -> Option<ReadRule>,
}

impl PartShape {
    pub(crate) const fn text(member: fn(&str) -> Option<ReadRule>) -> Self {
        Self { unread: None, member }
    }

    pub(crate) const fn unread(kind: UnreadKind, member: fn(&str) -> Option<ReadRule>) -> Self {
        Self { unread: Some(kind), member }
    }
}

/// Members that parts, items and messages of all APIs have; an object of free form has any members, of which only
/// identifiers are known.
pub(super) fn common_member(name: &str, is_free: bool) -> Option<ReadRule> {
    Some(match name {
        "type" | "role" | "status" | "index" | "cache_control" | "phase" if !is_free => ReadRule::Words,
        "id" | "uuid" | "call_id" | "tool_call_id" | "tool_use_id" | "approval_request_id" => {
            ReadRule::Strings(SegmentKind::Identifier)
        }
        "encrypted_content" => ReadRule::Unread(UnreadKind::Encrypted),
        _ => return None,
    })
}

/// Members of the top level that several APIs or vLLM's versions of them have.
pub(super) fn request_member(name: &str) -> Option<ReadRule> {
    Some(match name {
        // Whom it is for, and what ends the answer: no model is shown these, but its provider is.
        "user" | "metadata" | "safety_identifier" | "prompt_cache_key" | "cache_salt" | "request_id"
        | "stop" | "stop_sequences" | "bad_words" => ReadRule::Strings(SegmentKind::Metadata),
        // Read with the request's names.
        "model" => ReadRule::Skip,
        // Accounting and delivery.
        "service_tier"
        | "prompt_cache_retention"
        | "prompt_cache_options"
        | "kv_transfer_params"
        | "stream_options"
        | "include"
        | "encoding_format"
        | "embed_dtype"
        | "endianness"
        // Sampling, and what shapes the answer.
        | "stop_token_ids"
        | "logit_bias"
        | "allowed_token_ids"
        | "logits_processors"
        | "guided_decoding_backend"
        | "chat_template_content_format"
        | "truncation"
        | "task"
        | "modalities"
        | "audio"
        | "verbosity"
        | "reasoning_effort"
        | "thinking" => ReadRule::Words,
        "tools" | "functions" => ReadRule::Tools,
        "tool_choice" | "function_call" => ReadRule::Strings(SegmentKind::Name),
        "response_format"
        | "structured_outputs"
        | "guided_json"
        | "guided_regex"
        | "guided_choice"
        | "guided_grammar"
        | "guided_whitespace_pattern" => ReadRule::Strings(SegmentKind::Schema),
        "chat_template" | "chat_template_kwargs" => ReadRule::Strings(SegmentKind::Template),
        "documents" | "text_2" => ReadRule::Strings(SegmentKind::Document),
        "prediction" => ReadRule::Parts(SegmentKind::Prediction),
        "prompt_embeds" => ReadRule::Unread(UnreadKind::Embedding),
        "prompt_token_ids" | "tokens" => ReadRule::Unread(UnreadKind::TokenIds),
        _ => return None,
    })
}

/// Members of a tool, or of the function in it.
pub(super) fn tool_member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "function" | "custom" | "tools" => ReadRule::Tools,
        "name" | "description" | "server_label" | "server_description" | "url" | "server_url"
        | "connector_id" | "container" => ReadRule::Strings(SegmentKind::ToolDescription),
        "parameters" | "input_schema" | "output_schema" | "format" | "input_examples" => {
            ReadRule::Strings(SegmentKind::Schema)
        }
        // Secrets for the tool's server, which the model does not get.
        "headers" | "authorization" | "authorization_token" => ReadRule::Skip,
        _ => return common_member(name, false),
    })
}

/// Says whether a string can be an API's word for one of several things, and too short to be personal data or an order.
pub(super) fn is_plain_word(word: &[u8]) -> bool {
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-/".contains(byte);
    word.len() <= MAX_PLAIN_WORD && digits < MANY_DIGITS && word.iter().all(is_plain)
}

/// Says whether a string is a word of the APIs or of JSON Schema, which is harmless as a key and as a value.
pub(super) fn is_api_word(word: &[u8]) -> bool {
    const WORDS: &[&str] = &[
        "$defs",
        "$ref",
        "action",
        "additionalProperties",
        "allOf",
        "allowed_tools",
        "annotations",
        "any",
        "anyOf",
        "arguments",
        "array",
        "auto",
        "boolean",
        "choice",
        "code",
        "command",
        "const",
        "content",
        "custom",
        "data",
        "default",
        "definition",
        "description",
        "enum",
        "ephemeral",
        "error",
        "examples",
        "format",
        "function",
        "grammar",
        "input",
        "integer",
        "items",
        "json",
        "json_object",
        "json_schema",
        "mode",
        "name",
        "none",
        "null",
        "number",
        "object",
        "oneOf",
        "operation",
        "output",
        "outputs",
        "parameters",
        "parsed",
        "partial",
        "pattern",
        "prefix",
        "properties",
        "queries",
        "query",
        "refusal",
        "regex",
        "required",
        "results",
        "role",
        "schema",
        "source",
        "strict",
        "string",
        "summary",
        "syntax",
        "text",
        "title",
        "tool",
        "tools",
        "type",
        "url",
        "value",
        "verbosity",
        "weight",
    ];
    WORDS.binary_search_by(|known| known.as_bytes().cmp(word)).is_ok()
}
