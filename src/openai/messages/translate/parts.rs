//! The parts that messages have whole and as streams: why they end, what they cost, ids and calls.
//!
//! Refuses to know how a message is put together.

use serde_json::value::RawValue;

use crate::json::object::Object;
use crate::json::quoted;
use crate::translate::chat::{ChatChoice, ChatToolCall, ChatUsage};

/// Why a message ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StopReason {
    reason: &'static str,
    sequence: Option<String>,
}

impl StopReason {
    pub(super) fn of(choice: &ChatChoice<'_>, calls_tools: bool, refuses: bool) -> Self {
        let plain = |reason| Self { reason, sequence: None };
        let matched = || choice.matched_stop();
        match choice.finish_reason.as_deref() {
            Some("length") => plain("max_tokens"),
            // A call that was forced by name ends with `stop`.
            _ if calls_tools => plain("tool_use"),
            Some("content_filter") => plain("refusal"),
            _ if refuses => plain("refusal"),
            Some("stop") => match matched() {
                Some(sequence) => Self { reason: "stop_sequence", sequence: Some(sequence) },
                None => plain("end_turn"),
            },
            _ => plain("end_turn"),
        }
    }

    /// The members that say so.
    pub(super) fn members(&self) -> [(&'static str, Vec<u8>); 2] {
        let sequence = self.sequence.as_deref().map_or_else(|| b"null".to_vec(), quoted);
        [("stop_reason", quoted(self.reason)), ("stop_sequence", sequence)]
    }
}

/// Anthropic's count of a prompt is without what was read from the cache or written to it; where the upstream does not tell,
/// nothing is said of the cache.
pub(super) fn usage(usage: ChatUsage) -> Vec<u8> {
    let (cached, created) = (usage.cached(), usage.created());
    let apart = cached.unwrap_or(0).saturating_add(created.unwrap_or(0));
    let mut written = Object::default().number("input_tokens", usage.prompt_tokens.saturating_sub(apart));
    if let Some(created) = created {
        written = written.number("cache_creation_input_tokens", created);
    }
    if let Some(cached) = cached {
        written = written.number("cache_read_input_tokens", cached);
    }
    written.number("output_tokens", usage.completion_tokens.unwrap_or(0)).end()
}

pub(super) fn message_id(bare: &str) -> String {
    format!("msg_{bare}")
}

/// The id of a call: the upstream's own, by which the client gives its result.
pub(super) fn call_id(call: &ChatToolCall<'_>, bare: &str, at: usize) -> String {
    let own = call.id.as_deref().filter(|id| !id.is_empty());
    own.map_or_else(|| format!("toolu_{bare}_{at}"), str::to_owned)
}

pub(super) fn tool_use(call: &ChatToolCall<'_>, id: &str, input: &[u8]) -> Vec<u8> {
    let name = call.name().unwrap_or_default();
    Object::default().text("type", "tool_use").text("id", id).text("name", name).raw("input", input).end()
}

/// A call's arguments as an object; what is none, as where a model was cut short, goes into one as Anthropic advises.
pub(super) fn input(arguments: &str) -> Vec<u8> {
    let arguments = arguments.trim();
    if arguments.is_empty() {
        return b"{}".to_vec();
    }
    let is_object = arguments.starts_with('{') && serde_json::from_str::<&RawValue>(arguments).is_ok();
    if is_object {
        return arguments.as_bytes().to_vec();
    }
    Object::default().text("INVALID_JSON", arguments).end()
}
