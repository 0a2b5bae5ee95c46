//! An answer of Chat Completions as a response, whole; and a tokenizer's as a count.
//!
//! Refuses to know a stream's events.

use crate::ChatRequest;
use crate::json::object::{Object, number_member};
use crate::translate::chat::ChatAnswer;
use crate::translate::{DialectWriter, TranslatedAnswer};

use super::frame::{ResponseEnd, ResponseFrame, logged_part, message_item, reasoning_item, text_part, usage};
use super::stream::ResponseStream;

/// Writes a response.
#[derive(Debug)]
pub(super) struct ResponseWriter {
    frame: ResponseFrame,
    stream: ResponseStream,
}

impl ResponseWriter {
    pub(super) fn new(request: &ChatRequest, answer: TranslatedAnswer<'_>) -> Self {
        Self { frame: ResponseFrame::of(request, answer), stream: ResponseStream::default() }
    }
}

impl DialectWriter for ResponseWriter {
    fn whole(&mut self, answer: &[u8]) -> Option<Vec<u8>> {
        let answer = ChatAnswer::read(answer)?;
        let choice = answer.choice()?;
        let message = choice.message.as_ref()?;
        let end = ResponseEnd::of(choice.finish_reason.as_deref().unwrap_or_default());
        let id = answer.bare_id();
        let mut output = Vec::new();
        if let Some(reasoning) = message.reasoning() {
            output.push(reasoning_item(&format!("rs_{id}"), Some(reasoning)));
        }
        let mut parts: Vec<_> = message
            .content()
            .map(|text| logged_part("output_text", text, choice.logprobs()))
            .into_iter()
            .chain(message.refusal().map(|refusal| text_part("refusal", refusal)))
            .collect();
        let calls = message.tool_calls.as_deref().unwrap_or_default();
        if parts.is_empty() && output.is_empty() && calls.is_empty() {
            parts.push(text_part("output_text", ""));
        }
        if !parts.is_empty() {
            output.push(message_item(&format!("msg_{id}"), &parts, end.status()));
        }
        for (at, call) in calls.iter().enumerate() {
            let call = self.frame.call(call, id, at as u32);
            output.push(call.item(Some(call.arguments.as_str()), end.status()));
        }
        let usage = usage(answer.usage.unwrap_or_default());
        let created = answer.created.unwrap_or(self.frame.now());
        Some(self.frame.response(id, created).end(Some(end), &output, Some(&usage)))
    }

    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.stream.event(&ChatAnswer::read(data)?, &self.frame, out)
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.stream.end(&self.frame, out)
    }
}

/// Writes a count of tokens.
#[derive(Debug)]
pub(super) struct InputTokensWriter;

impl DialectWriter for InputTokensWriter {
    fn whole(&mut self, answer: &[u8]) -> Option<Vec<u8>> {
        let count = number_member(answer, "count")?;
        Some(Object::default().text("object", "response.input_tokens").number("input_tokens", count).end())
    }

    fn event(&mut self, _data: &[u8], _out: &mut Vec<u8>) -> Option<()> {
        None
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> Option<()> {
        None
    }
}
