//! The parts that a chat has whole and as a stream: what it says of itself, calls, ends and usage.
//!
//! Refuses to know how an answer is put together.

use crate::json;
use crate::json::object::{Object, array, non_null_member, number_member, string_member};
use crate::json::quoted;
use crate::translate::TranslatedAnswer;

/// What each piece of an answer says of it.
#[derive(Debug)]
pub(super) struct ChatHead {
    model: String,
    now: u64,
    id: String,
}

impl ChatHead {
    pub(super) fn new(answer: TranslatedAnswer<'_>) -> Self {
        Self { model: answer.model.to_owned(), now: answer.now, id: String::new() }
    }

    /// Takes over what the response says of itself.
    pub(super) fn begin(&mut self, response: &[u8]) {
        let id = string_member(response, "id").unwrap_or_default();
        self.id = format!("chatcmpl-{}", id.strip_prefix("resp_").unwrap_or(&id));
        self.now = number_member(response, "created_at").unwrap_or(self.now);
    }

    /// Begins an object of Chat.
    pub(super) fn object(&self, object: &str) -> Object {
        Object::default()
            .text("id", &self.id)
            .text("object", object)
            .number("created", self.now)
            .text("model", &self.model)
    }
}

/// Log probabilities of tokens, as a choice has them.
pub(super) fn logprobs(tokens: &[Vec<u8>]) -> Vec<u8> {
    if tokens.is_empty() {
        return b"null".to_vec();
    }
    Object::default().raw("content", &array(tokens)).raw("refusal", b"null").end()
}

/// A call as a chat has it; without its arguments as it begins.
pub(super) fn call(item: &[u8], is_whole: bool) -> Vec<u8> {
    let is_custom = string_member(item, "type").as_deref() == Some("custom_tool_call");
    let (kind, holds) = if is_custom { ("custom", "input") } else { ("function", "arguments") };
    let given = json::member(item, holds).filter(|_| is_whole).unwrap_or(b"\"\"");
    let name = json::member(item, "name").unwrap_or(b"\"\"");
    let inner = Object::default().raw("name", name).raw(holds, given).end();
    let id = json::member(item, "call_id").unwrap_or(b"\"\"");
    Object::default().raw("id", id).text("type", kind).raw(kind, &inner).end()
}

/// Why a response ends, in a chat's word.
pub(super) fn finish_reason(response: &[u8], has_calls: bool) -> &'static str {
    let details = non_null_member(response, "incomplete_details");
    let reason = details.and_then(|details| string_member(details, "reason"));
    match (string_member(response, "status").as_deref(), reason.as_deref()) {
        (Some("incomplete"), Some("content_filter")) => "content_filter",
        (Some("incomplete"), _) => "length",
        _ if has_calls => "tool_calls",
        _ => "stop",
    }
}

/// What a response cost, in a chat's words.
pub(super) fn usage(response: &[u8]) -> Vec<u8> {
    let Some(usage) = non_null_member(response, "usage") else { return b"null".to_vec() };
    let number = |of: Option<&[u8]>, name| of.and_then(|of| number_member(of, name)).unwrap_or(0);
    let (input, output) = (number(Some(usage), "input_tokens"), number(Some(usage), "output_tokens"));
    let cached = number(non_null_member(usage, "input_tokens_details"), "cached_tokens");
    let reasoning = number(non_null_member(usage, "output_tokens_details"), "reasoning_tokens");
    Object::default()
        .number("prompt_tokens", input)
        .number("completion_tokens", output)
        .number("total_tokens", input.saturating_add(output))
        .raw("prompt_tokens_details", &Object::default().number("cached_tokens", cached).end())
        .raw("completion_tokens_details", &Object::default().number("reasoning_tokens", reasoning).end())
        .end()
}

/// A value as a JSON text, or null.
pub(super) fn quoted_or_null(text: Option<&str>) -> Vec<u8> {
    text.map_or_else(|| b"null".to_vec(), quoted)
}
