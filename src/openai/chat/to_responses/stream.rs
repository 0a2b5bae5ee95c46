//! The events of a response as chunks of a chat.
//!
//! Refuses to know how events are found, and whole answers.

use crate::json;
use crate::json::object::{Object, array, non_null_member, number_member, string_member};
use crate::sse::{DONE, unnamed_event};

use super::parts::{ChatHead, call, finish_reason, logprobs, quoted_or_null, usage};

/// A chat as far as it is written.
#[derive(Debug)]
pub(super) struct ChatOfEvents {
    wants_usage: bool,
    has_begun: bool,
    /// The items that are calls: the index of each, and whether it is of a custom tool.
    calls: Vec<(u64, bool)>,
    /// The response that the last event holds.
    last: Option<Vec<u8>>,
    is_over: bool,
}

impl ChatOfEvents {
    pub(super) fn new(wants_usage: bool) -> Self {
        Self { wants_usage, has_begun: false, calls: Vec::new(), last: None, is_over: false }
    }

    /// Writes what an event says; nothing if it is an error, or no event of a response.
    pub(super) fn event(&mut self, data: &[u8], head: &mut ChatHead, out: &mut Vec<u8>) -> Option<()> {
        let kind = string_member(data, "type")?;
        let said = || json::member(data, "delta").unwrap_or(b"\"\"");
        match &*kind {
            "response.created" if !std::mem::replace(&mut self.has_begun, true) => {
                head.begin(non_null_member(data, "response")?);
                chunk(head, Object::default().text("role", "assistant").text("content", ""), None, out);
            }
            "response.output_text.delta" => {
                let logged = non_null_member(data, "logprobs").into_iter().flat_map(json::array);
                let logged: Vec<_> = logged.map(<[u8]>::to_vec).collect();
                logged_chunk(head, Object::default().raw("content", said()), &logged, out);
            }
            "response.refusal.delta" => chunk(head, Object::default().raw("refusal", said()), None, out),
            "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
                chunk(head, Object::default().raw("reasoning_content", said()), None, out);
            }
            "response.output_item.added" => {
                let item = non_null_member(data, "item")?;
                let kind = string_member(item, "type").unwrap_or_default();
                if matches!(&*kind, "function_call" | "custom_tool_call") {
                    let at = self.calls.len() as u64;
                    self.calls.push((number_member(data, "output_index")?, kind == "custom_tool_call"));
                    let begun = call(item, false);
                    let call = [b"{\"index\":", at.to_string().as_bytes(), b",", &begun[1..]].concat();
                    chunk(head, Object::default().raw("tool_calls", &array([call])), None, out);
                }
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let index = number_member(data, "output_index")?;
                let at = self.calls.iter().position(|(of, _)| *of == index)?;
                let (kind, holds) =
                    if self.calls[at].1 { ("custom", "input") } else { ("function", "arguments") };
                let more = Object::default().raw(holds, said()).end();
                let call = Object::default().number("index", at as u64).raw(kind, &more).end();
                chunk(head, Object::default().raw("tool_calls", &array([call])), None, out);
            }
            "response.completed" | "response.incomplete" => {
                self.last = Some(non_null_member(data, "response")?.to_vec());
                self.end(head, out)?;
            }
            "response.failed" | "error" => return None,
            // What says again what was said, and what OpenAI runs itself.
            _ => {}
        }
        Some(())
    }

    /// Writes the end; nothing if the response has not come to one.
    pub(super) fn end(&mut self, head: &ChatHead, out: &mut Vec<u8>) -> Option<()> {
        if self.is_over {
            return Some(());
        }
        let response = self.last.as_deref()?;
        chunk(head, Object::default(), Some(finish_reason(response, !self.calls.is_empty())), out);
        if self.wants_usage {
            let last = head.object("chat.completion.chunk").raw("choices", b"[]");
            unnamed_event(out, &last.raw("usage", &usage(response)).end());
        }
        out.extend_from_slice(DONE);
        self.is_over = true;
        Some(())
    }
}

fn chunk(head: &ChatHead, delta: Object, finish: Option<&str>, out: &mut Vec<u8>) {
    write(head, delta, b"null", finish, out);
}

/// A piece of text with the log probabilities of its tokens.
fn logged_chunk(head: &ChatHead, delta: Object, tokens: &[Vec<u8>], out: &mut Vec<u8>) {
    write(head, delta, &logprobs(tokens), None, out);
}

fn write(head: &ChatHead, delta: Object, logprobs: &[u8], finish: Option<&str>, out: &mut Vec<u8>) {
    let choice = Object::default()
        .number("index", 0)
        .raw("delta", &delta.end())
        .raw("logprobs", logprobs)
        .raw("finish_reason", &quoted_or_null(finish))
        .end();
    unnamed_event(out, &head.object("chat.completion.chunk").raw("choices", &array([choice])).end());
}
