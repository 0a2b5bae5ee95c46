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

/// How far the last call of a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastCall {
    None,
    /// Its arguments end inside of something.
    Cut,
    Whole,
}

impl StopReason {
    pub(super) fn of(choice: &ChatChoice<'_>, last_call: LastCall, refuses: bool) -> Self {
        let plain = |reason| Self { reason, sequence: None };
        let matched = || choice.matched_stop();
        match choice.finish_reason.as_deref() {
            Some("length") => plain("max_tokens"),
            // A call that was forced by name ends with `stop`.
            _ if last_call == LastCall::Whole => plain("tool_use"),
            Some("content_filter") => plain("refusal"),
            _ if refuses => plain("refusal"),
            finish => match matched().filter(|_| finish == Some("stop")) {
                // A call that it has cut is not to be run.
                Some(sequence) => Self { reason: "stop_sequence", sequence: Some(sequence) },
                None if last_call == LastCall::Cut => plain("tool_use"),
                None => plain("end_turn"),
            },
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

/// How deep a JSON text is inside of something, as it comes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct JsonDepth {
    brackets: usize,
    has_begun: bool,
    is_string: bool,
    is_escaped: bool,
}

impl JsonDepth {
    pub(super) fn feed(&mut self, text: &str) {
        self.has_begun |= !text.is_empty();
        for byte in text.bytes() {
            match byte {
                _ if std::mem::take(&mut self.is_escaped) => {}
                b'\\' if self.is_string => self.is_escaped = true,
                b'"' => self.is_string = !self.is_string,
                _ if self.is_string => {}
                b'{' | b'[' => self.brackets += 1,
                b'}' | b']' => self.brackets = self.brackets.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// How far a call has come whose arguments this was fed with.
    pub(super) fn call(self) -> LastCall {
        if self.has_begun && self.brackets == 0 && !self.is_string { LastCall::Whole } else { LastCall::Cut }
    }
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
