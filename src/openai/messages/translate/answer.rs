//! An answer of Chat Completions as a message, whole; and a tokenizer's as a count.
//!
//! Owns what both forms of an answer share: reasons and usage. Refuses to know a stream's events.

use serde_json::value::RawValue;

use crate::json::object::{Object, array, number_member};
use crate::json::quoted;
use crate::translate::DialectWriter;
use crate::translate::chat::{ChatAnswer, ChatChoice, ChatToolCall, ChatUsage};

use super::stream::MessageStream;

/// Writes a message.
#[derive(Debug)]
pub(super) struct MessageWriter {
    model: String,
    stream: MessageStream,
}

impl MessageWriter {
    pub(super) fn new(model: &str, estimated_tokens: u64) -> Self {
        Self { model: model.to_owned(), stream: MessageStream::new(model, estimated_tokens) }
    }
}

impl DialectWriter for MessageWriter {
    fn whole(&mut self, answer: &[u8]) -> Option<Vec<u8>> {
        let answer = ChatAnswer::read(answer)?;
        let choice = answer.choice()?;
        let message = choice.message.as_ref()?;
        let mut blocks = Vec::new();
        if let Some(reasoning) = message.reasoning() {
            let block = Object::default().text("type", "thinking").text("thinking", reasoning);
            blocks.push(block.text("signature", answer.bare_id()).end());
        }
        if let Some(text) = message.content().or_else(|| message.refusal()) {
            blocks.push(Object::default().text("type", "text").text("text", text).end());
        }
        let calls = message.tool_calls.as_deref().unwrap_or_default();
        for (at, call) in calls.iter().enumerate() {
            blocks.push(tool_use(call, &call_id(call, answer.bare_id(), at), &input(call.arguments())));
        }
        if blocks.is_empty() {
            blocks.push(b"{\"type\":\"text\",\"text\":\"\"}".to_vec());
        }
        let stop = StopReason::of(choice, !calls.is_empty(), message.refusal().is_some());
        let written = Object::default()
            .text("id", &message_id(answer.bare_id()))
            .text("type", "message")
            .text("role", "assistant")
            .text("model", &self.model)
            .raw("content", &array(&blocks))
            .all(stop.members())
            .raw("usage", &usage(answer.usage.unwrap_or_default()));
        Some(written.end())
    }

    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.stream.event(&ChatAnswer::read(data)?, out)
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.stream.end(out)
    }
}

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
fn input(arguments: &str) -> Vec<u8> {
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

/// Writes a count of tokens.
#[derive(Debug)]
pub(super) struct TokenCountWriter;

impl DialectWriter for TokenCountWriter {
    fn whole(&mut self, answer: &[u8]) -> Option<Vec<u8>> {
        let count = number_member(answer, "count")?;
        Some(Object::default().number("input_tokens", count).end())
    }

    fn event(&mut self, _data: &[u8], _out: &mut Vec<u8>) -> Option<()> {
        None
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> Option<()> {
        None
    }
}
