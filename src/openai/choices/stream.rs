//! The streams of `/v1/chat/completions` and `/v1/completions`: chunks of choices.
//!
//! Refuses to know other dialects.

use std::borrow::Cow;

use crate::json::object::{
    Object, array, elements, entries, non_null_member, number_member, string_member, string_value,
};
use crate::sse::{DONE, unnamed_event};

use crate::answer::replay_stream::pieces;

/// What every chunk repeats.
const EVERYWHERE: [&str; 5] = ["id", "created", "model", "system_fingerprint", "service_tier"];

/// A stream under construction.
struct ChunkWriter<'a> {
    out: Vec<u8>,
    /// The start of every chunk.
    head: Vec<(&'a str, Vec<u8>)>,
    /// Members that only the first chunk has.
    first: Vec<(Cow<'a, str>, &'a [u8])>,
    index: u64,
}

/// Writes a chat answer as a stream.
pub(crate) fn chat_stream(answer: &[u8], include_usage: bool, now: u64) -> Option<Vec<u8>> {
    stream(answer, "chat.completion.chunk", now, include_usage, |chunks, choice| {
        let message = non_null_member(choice, "message")?;
        chunks.role(message);
        let logprobs = non_null_member(choice, "logprobs");
        for (key, value) in entries(message).filter(|(key, _)| key != "role") {
            match (&*key, value.first()) {
                ("content", Some(b'"')) => chunks.content(&string_value(value)?, logprobs),
                ("tool_calls", Some(b'[')) => chunks.calls(value),
                ("function_call", Some(b'{')) => chunks.function(value),
                (key, Some(b'"')) => {
                    for piece in pieces(&string_value(value)?) {
                        chunks.delta(&Object::default().text(key, piece).end(), None);
                    }
                }
                _ => {}
            }
        }
        if string_member(message, "content").is_none_or(|content| content.is_empty())
            && let Some(logprobs) = logprobs
        {
            chunks.delta(b"{}", Some(logprobs));
        }
        let end = chunks.end(choice, &["index", "message", "logprobs"]).raw("delta", b"{}");
        chunks.chunk(end);
        Some(())
    })
}

/// Writes a completion as a stream.
pub(crate) fn completion_stream(answer: &[u8], include_usage: bool, now: u64) -> Option<Vec<u8>> {
    stream(answer, "text_completion", now, include_usage, |chunks, choice| {
        let text = string_member(choice, "text")?;
        let mut logprobs = non_null_member(choice, "logprobs");
        for piece in pieces(&text) {
            let choice = Object::default().number("index", chunks.index).text("text", piece);
            let choice = choice.raw("logprobs", logprobs.take().unwrap_or(b"null"));
            chunks.chunk(choice.raw("finish_reason", b"null"));
        }
        let end = chunks.end(choice, &["index", "text", "logprobs"]).text("text", "");
        chunks.chunk(end.raw("logprobs", logprobs.unwrap_or(b"null")));
        Some(())
    })
}

fn stream<'a>(
    answer: &'a [u8],
    object: &'static str,
    now: u64,
    include_usage: bool,
    each: impl Fn(&mut ChunkWriter<'a>, &'a [u8]) -> Option<()>,
) -> Option<Vec<u8>> {
    let choices = non_null_member(answer, "choices").filter(|choices| choices.starts_with(b"["))?;
    let mut chunks = ChunkWriter::of(answer, object, now);
    let mut has_choice = false;
    for (place, choice) in elements(choices).enumerate() {
        has_choice = true;
        chunks.index = number_member(choice, "index").unwrap_or(place as u64);
        each(&mut chunks, choice)?;
    }
    if let Some(usage) = non_null_member(answer, "usage").filter(|_| include_usage) {
        let chunk = Object::default().all(chunks.head.clone()).raw("choices", b"[]").raw("usage", usage);
        unnamed_event(&mut chunks.out, &chunk.end());
    }
    chunks.out.extend_from_slice(DONE);
    has_choice.then_some(chunks.out)
}

impl<'a> ChunkWriter<'a> {
    fn of(answer: &'a [u8], object: &'static str, now: u64) -> Self {
        let mut head: Vec<(&str, Vec<u8>)> = Vec::new();
        for key in EVERYWHERE {
            head.extend(non_null_member(answer, key).map(|value| (key, value.to_vec())));
        }
        if !head.iter().any(|(key, _)| *key == "created") {
            head.push(("created", now.to_string().into_bytes()));
        }
        head.insert(0, ("object", format!("\"{object}\"").into_bytes()));
        let is_kept =
            |key: &str| !EVERYWHERE.contains(&key) && !["object", "choices", "usage"].contains(&key);
        let first = entries(answer).filter(|(key, _)| is_kept(key)).collect();
        Self { out: Vec::new(), head, first, index: 0 }
    }

    /// Writes one chunk of one choice.
    fn chunk(&mut self, choice: Object) {
        let mut chunk = Object::default().all(self.head.clone()).raw("choices", &array([choice.end()]));
        for (key, value) in self.first.drain(..) {
            chunk = chunk.raw(&key, value);
        }
        unnamed_event(&mut self.out, &chunk.end());
    }

    fn delta(&mut self, delta: &[u8], logprobs: Option<&[u8]>) {
        let choice = Object::default().number("index", self.index).raw("delta", delta);
        let choice = choice.raw("logprobs", logprobs.unwrap_or(b"null"));
        self.chunk(choice.raw("finish_reason", b"null"));
    }

    /// Writes who speaks, and every member that does not come in pieces.
    fn role(&mut self, message: &[u8]) {
        let mut delta = Object::default();
        if non_null_member(message, "role").is_none() {
            delta = delta.text("role", "assistant");
        }
        for (key, value) in entries(message) {
            let is_text = value.starts_with(b"\"") && key != "role";
            let grows = match &*key {
                "tool_calls" => value.starts_with(b"[") && value != b"[]",
                "function_call" => value.starts_with(b"{"),
                _ => false,
            };
            delta = match &*key {
                key if is_text && (key == "content" || value == b"\"\"") => delta.text(key, ""),
                _ if is_text || grows => delta,
                key => delta.raw(key, value),
            };
        }
        self.delta(&delta.end(), None);
    }

    /// Writes the text, token by token if the log probabilities name all of it.
    fn content(&mut self, text: &str, logprobs: Option<&[u8]>) {
        let Some(logprobs) = logprobs else {
            for piece in pieces(text) {
                self.delta(&Object::default().text("content", piece).end(), None);
            }
            return;
        };
        let tokens: Vec<&[u8]> =
            non_null_member(logprobs, "content").into_iter().flat_map(elements).collect();
        let spelt: Vec<_> =
            tokens.iter().map(|token| string_member(token, "token").unwrap_or_default()).collect();
        if spelt.concat() != text {
            let mut logprobs = Some(logprobs);
            for piece in pieces(text) {
                self.delta(&Object::default().text("content", piece).end(), logprobs.take());
            }
            return;
        }
        let mut others: Vec<_> = entries(logprobs).filter(|(key, _)| key != "content").collect();
        for (token, piece) in tokens.iter().zip(spelt) {
            let mut own = Object::default().raw("content", &array([token]));
            for (key, value) in others.drain(..) {
                own = own.raw(&key, value);
            }
            self.delta(&Object::default().text("content", &piece).end(), Some(&own.end()));
        }
    }

    /// Writes each call's name, then its arguments.
    fn calls(&mut self, calls: &[u8]) {
        for (index, call) in elements(calls).enumerate() {
            let call_of = |call: Object| {
                let calls = array([call.end()]);
                Object::default().raw("tool_calls", &calls).end()
            };
            let mut opened = Object::default().number("index", index as u64);
            for (key, value) in entries(call).filter(|(key, _)| key != "index") {
                opened = match &*key {
                    "function" => opened.raw("function", &without_arguments(value)),
                    key => opened.raw(key, value),
                };
            }
            self.delta(&call_of(opened), None);
            let function = non_null_member(call, "function").unwrap_or_default();
            for piece in pieces(&string_member(function, "arguments").unwrap_or_default()) {
                let function = Object::default().text("arguments", piece).end();
                let more = Object::default().number("index", index as u64).raw("function", &function);
                self.delta(&call_of(more), None);
            }
        }
    }

    fn function(&mut self, function: &[u8]) {
        let opened = Object::default().raw("function_call", &without_arguments(function));
        self.delta(&opened.end(), None);
        for piece in pieces(&string_member(function, "arguments").unwrap_or_default()) {
            let more = Object::default().text("arguments", piece).end();
            self.delta(&Object::default().raw("function_call", &more).end(), None);
        }
    }

    /// Starts the choice of a last chunk with the members that stand beside its message.
    fn end(&self, choice: &[u8], but: &[&str]) -> Object {
        let mut end = Object::default().number("index", self.index);
        if non_null_member(choice, "finish_reason").is_none() {
            end = end.text("finish_reason", "stop");
        }
        for (key, value) in entries(choice) {
            let is_missing = key == "finish_reason" && value == b"null";
            if !but.contains(&&*key) && !is_missing {
                end = end.raw(&key, value);
            }
        }
        end
    }
}

/// Returns a function whose arguments are still to come.
fn without_arguments(function: &[u8]) -> Vec<u8> {
    let mut opened = Object::default();
    for (key, value) in entries(function) {
        opened = match &*key {
            "arguments" if value.starts_with(b"\"") => opened.text("arguments", ""),
            key => opened.raw(key, value),
        };
    }
    opened.end()
}
