//! A stream of Chat Completions as the events of a message: blocks that open and close one after the other.
//!
//! Refuses to know how events are found, and whole answers.

use crate::json::escaped;
use crate::json::object::Object;
use crate::sse::named_event;
use crate::translate::chat::{ChatAnswer, ChatToolCall, ChatUsage};

use super::parts::{JsonDepth, LastCall, StopReason, call_id, message_id, tool_use, usage};

/// A message as far as it is written.
#[derive(Debug)]
pub(super) struct MessageStream {
    model: String,
    /// What is said of the prompt until the upstream has counted it.
    estimated_tokens: u64,
    bare_id: String,
    has_begun: bool,
    /// The block that is open, and its index.
    open: Option<(BlockKind, u32)>,
    /// The index of the next block.
    next: u32,
    /// What was said while a call was open: calls hold no text, and text after one is a block of its own.
    aside: String,
    refuses: bool,
    /// The index of the last call, in the chat.
    last_call: Option<u32>,
    /// How far its arguments have come.
    depth: JsonDepth,
    stop: Option<StopReason>,
    usage: Option<ChatUsage>,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockKind {
    Thinking,
    Text,
    /// A call, by its index in the chat.
    Call(u32),
}

impl MessageStream {
    pub(super) fn new(model: &str, estimated_tokens: u64) -> Self {
        Self {
            model: model.to_owned(),
            estimated_tokens,
            bare_id: String::new(),
            has_begun: false,
            open: None,
            next: 0,
            aside: String::new(),
            refuses: false,
            last_call: None,
            depth: JsonDepth::default(),
            stop: None,
            usage: None,
        }
    }

    /// Writes what an event says; nothing if it goes on with a call after another has begun.
    pub(super) fn event(&mut self, event: &ChatAnswer<'_>, out: &mut Vec<u8>) -> Option<()> {
        self.usage = event.usage.or(self.usage);
        let Some(choice) = event.choice() else { return Some(()) };
        self.begin(event, out);
        if let Some(message) = &choice.message {
            if let Some(reasoning) = message.reasoning() {
                self.text(BlockKind::Thinking, reasoning, out);
            }
            if let Some(text) = message.content() {
                self.text(BlockKind::Text, text, out);
            }
            if let Some(refusal) = message.refusal() {
                self.refuses = true;
                self.text(BlockKind::Text, refusal, out);
            }
            for call in message.tool_calls.iter().flatten() {
                self.call(call, out)?;
            }
        }
        if choice.finish_reason.is_some() {
            let last_call = self.last_call.map_or(LastCall::None, |_| self.depth.call());
            self.stop = Some(StopReason::of(choice, last_call, self.refuses));
        }
        Some(())
    }

    /// Writes the end; nothing if the answer has not said why it ends.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let stop = self.stop.take()?;
        self.close(out);
        if self.next == 0 {
            self.open(BlockKind::Text, b"{\"type\":\"text\",\"text\":\"\"}", out);
            self.close(out);
        }
        let delta = Object::default().all(stop.members()).end();
        let last = Object::default().text("type", "message_delta").raw("delta", &delta);
        let usage = usage(self.usage.unwrap_or_else(|| self.estimated_usage()));
        named_event(out, "message_delta", &last.raw("usage", &usage).end());
        named_event(out, "message_stop", b"{\"type\":\"message_stop\"}");
        Some(())
    }

    fn estimated_usage(&self) -> ChatUsage {
        ChatUsage { prompt_tokens: self.estimated_tokens, ..ChatUsage::default() }
    }

    fn begin(&mut self, event: &ChatAnswer<'_>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        event.bare_id().clone_into(&mut self.bare_id);
        let counted = self.usage.unwrap_or_else(|| self.estimated_usage());
        let message = Object::default()
            .text("id", &message_id(&self.bare_id))
            .text("type", "message")
            .text("role", "assistant")
            .text("model", &self.model)
            .raw("content", b"[]")
            .raw("stop_reason", b"null")
            .raw("stop_sequence", b"null")
            .raw("usage", &usage(counted));
        let start = Object::default().text("type", "message_start").raw("message", &message.end());
        named_event(out, "message_start", &start.end());
    }

    fn text(&mut self, kind: BlockKind, text: &str, out: &mut Vec<u8>) {
        if kind == BlockKind::Text && matches!(self.open, Some((BlockKind::Call(_), _))) {
            self.aside.push_str(text);
            return;
        }
        if self.open.is_none_or(|(open, _)| open != kind) {
            self.close(out);
            let empty: &[u8] = match kind {
                BlockKind::Thinking => b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}",
                _ => b"{\"type\":\"text\",\"text\":\"\"}",
            };
            self.open(kind, empty, out);
        }
        let delta: &[u8] = match kind {
            BlockKind::Thinking => b"{\"type\":\"thinking_delta\",\"thinking\":\"",
            _ => b"{\"type\":\"text_delta\",\"text\":\"",
        };
        self.delta(delta, text, out);
    }

    fn call(&mut self, call: &ChatToolCall<'_>, out: &mut Vec<u8>) -> Option<()> {
        let next = self.last_call.map_or(0, |last| last.saturating_add(1));
        let index = call.index.unwrap_or(match self.open {
            Some((BlockKind::Call(open), _)) if call.name().is_none() => open,
            _ => next,
        });
        let is_open = self.open.is_some_and(|(open, _)| open == BlockKind::Call(index));
        if !is_open {
            if index < next {
                return None;
            }
            self.close(out);
            let id = call_id(call, &self.bare_id, index as usize);
            self.open(BlockKind::Call(index), &tool_use(call, &id, b"{}"), out);
            (self.last_call, self.depth) = (Some(index), JsonDepth::default());
        }
        self.depth.feed(call.arguments());
        if !call.arguments().is_empty() {
            self.delta(b"{\"type\":\"input_json_delta\",\"partial_json\":\"", call.arguments(), out);
        }
        Some(())
    }

    fn open(&mut self, kind: BlockKind, block: &[u8], out: &mut Vec<u8>) {
        let index = self.next;
        (self.open, self.next) = (Some((kind, index)), index + 1);
        let start = Object::default().text("type", "content_block_start").number("index", u64::from(index));
        named_event(out, "content_block_start", &start.raw("content_block", block).end());
    }

    /// Closes the block that is open, and writes what was said beside a call.
    fn close(&mut self, out: &mut Vec<u8>) {
        let Some((kind, index)) = self.open else { return };
        if kind == BlockKind::Thinking {
            // Clients give back what has a signature alone, and the upstream asks for none.
            let id = std::mem::take(&mut self.bare_id);
            self.delta(b"{\"type\":\"signature_delta\",\"signature\":\"", &id, out);
            self.bare_id = id;
        }
        self.open = None;
        let stop = Object::default().text("type", "content_block_stop").number("index", u64::from(index));
        named_event(out, "content_block_stop", &stop.end());
        let aside = std::mem::take(&mut self.aside);
        if matches!(kind, BlockKind::Call(_)) && !aside.trim().is_empty() {
            self.text(BlockKind::Text, &aside, out);
            self.close(out);
        }
    }

    /// Writes a piece of the open block; `begun` is the delta up to its text.
    fn delta(&mut self, begun: &[u8], text: &str, out: &mut Vec<u8>) {
        let Some((_, index)) = self.open else { return };
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        out.extend_from_slice(index.to_string().as_bytes());
        out.extend_from_slice(b",\"delta\":");
        out.extend_from_slice(begun);
        out.extend_from_slice(&escaped(text));
        out.extend_from_slice(b"\"}}\n\n");
    }
}
