//! A response as an answer of Chat Completions, whole.
//!
//! Refuses to know a stream's events.

use crate::json;
use crate::json::object::{Object, array, elements, non_null_member, string_member};
use crate::translate::{DialectWriter, TranslatedAnswer};

use super::parts::{ChatHead, call, finish_reason, logprobs, usage};
use super::stream::ChatOfEvents;

/// Writes an answer of Chat.
#[derive(Debug)]
pub(super) struct ChatOfResponse {
    head: ChatHead,
    stream: ChatOfEvents,
}

impl ChatOfResponse {
    pub(super) fn new(answer: TranslatedAnswer<'_>, wants_usage: bool) -> Self {
        let head = ChatHead::new(answer);
        Self { head, stream: ChatOfEvents::new(wants_usage) }
    }
}

impl DialectWriter for ChatOfResponse {
    fn whole(&mut self, response: &[u8]) -> Option<Vec<u8>> {
        let output = non_null_member(response, "output").filter(|output| output.starts_with(b"["))?;
        self.head.begin(response);
        let mut said = SaidOutput::default();
        elements(output).for_each(|item| said.take(item));
        let finish = finish_reason(response, !said.calls.is_empty());
        let written = self.head.object("chat.completion").raw("choices", &array([said.choice(finish)]));
        Some(written.raw("usage", &usage(response)).end())
    }

    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.stream.event(data, &mut self.head, out)
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.stream.end(&self.head, out)
    }
}

/// What a response holds, each text as it is written between quotes.
#[derive(Debug, Default)]
struct SaidOutput {
    text: Option<Vec<u8>>,
    refusal: Option<Vec<u8>>,
    reasoning: Vec<u8>,
    calls: Vec<Vec<u8>>,
    logprobs: Vec<Vec<u8>>,
}

impl SaidOutput {
    fn take(&mut self, item: &[u8]) {
        let parts = |name| non_null_member(item, name).into_iter().flat_map(json::array);
        match string_member(item, "type").as_deref() {
            Some("message") => {
                for part in parts("content") {
                    let inside = |name| json::member(part, name).and_then(json::string).unwrap_or_default();
                    if string_member(part, "type").as_deref() == Some("refusal") {
                        self.refusal.get_or_insert_default().extend_from_slice(inside("refusal"));
                    } else {
                        self.text.get_or_insert_default().extend_from_slice(inside("text"));
                    }
                    let logged = non_null_member(part, "logprobs").into_iter().flat_map(json::array);
                    self.logprobs.extend(logged.map(<[u8]>::to_vec));
                }
            }
            Some("reasoning") => {
                let has_content = parts("content").next().is_some();
                for part in parts(if has_content { "content" } else { "summary" }) {
                    let text = json::member(part, "text").and_then(json::string).unwrap_or_default();
                    self.reasoning.extend_from_slice(text);
                }
            }
            Some("function_call" | "custom_tool_call") => self.calls.push(call(item, true)),
            // What OpenAI has run itself, which a chat has nothing for.
            _ => {}
        }
    }

    fn choice(self, finish: &str) -> Vec<u8> {
        let string = |inside: &[u8]| [b"\"", inside, b"\""].concat();
        let or_null = |text: Option<Vec<u8>>| text.map_or_else(|| b"null".to_vec(), |text| string(&text));
        let message = Object::default().text("role", "assistant").raw("content", &or_null(self.text));
        let mut message = message.raw("refusal", &or_null(self.refusal));
        if !self.reasoning.is_empty() {
            message = message.raw("reasoning_content", &string(&self.reasoning));
        }
        if !self.calls.is_empty() {
            message = message.raw("tool_calls", &array(&self.calls));
        }
        Object::default()
            .number("index", 0)
            .raw("message", &message.end())
            .raw("logprobs", &logprobs(&self.logprobs))
            .text("finish_reason", finish)
            .end()
    }
}
