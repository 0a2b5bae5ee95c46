//! An answer of Chat Completions as a message, whole; and a tokenizer's as a count.
//!
//! Refuses to know a stream's events.

use crate::json::object::{Object, array, number_member};
use crate::translate::DialectWriter;
use crate::translate::chat::ChatAnswer;

use super::parts::{JsonDepth, LastCall, StopReason, call_id, input, message_id, tool_use, usage};
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
        let mut depth = JsonDepth::default();
        let last_call = calls.last().map_or(LastCall::None, |call| {
            depth.feed(call.arguments());
            depth.call()
        });
        let stop = StopReason::of(choice, last_call, message.refusal().is_some());
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
