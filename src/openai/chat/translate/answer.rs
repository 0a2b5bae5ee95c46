//! A message of Anthropic's as an answer of Chat Completions, whole or as a stream.
//!
//! Refuses to know how events are found.

use crate::json::object::{Object, array, elements, non_null_member, number_member, string_member};
use crate::json::{self, quoted};
use crate::sse::{DONE, unnamed_event};
use crate::translate::{DialectWriter, TranslatedAnswer};

/// Writes an answer of Chat.
#[derive(Debug)]
pub(super) struct ChatWriter {
    model: String,
    now: u64,
    wants_usage: bool,
    id: String,
    usage: MessageUsage,
    /// The blocks that are calls: the index of each, in the message.
    calls: Vec<u64>,
    finish: Option<&'static str>,
    is_over: bool,
}

/// What a message cost, in Anthropic's classes, none of which includes another.
#[derive(Debug, Default)]
struct MessageUsage {
    input: u64,
    created: Option<u64>,
    read: Option<u64>,
    output: u64,
}

impl MessageUsage {
    /// Takes over what is told; what comes later replaces what came before.
    fn take(&mut self, of: &[u8]) {
        let Some(usage) = non_null_member(of, "usage") else { return };
        self.input = number_member(usage, "input_tokens").unwrap_or(self.input);
        self.created = number_member(usage, "cache_creation_input_tokens").or(self.created);
        self.read = number_member(usage, "cache_read_input_tokens").or(self.read);
        self.output = number_member(usage, "output_tokens").unwrap_or(self.output);
    }

    fn write(&self) -> Vec<u8> {
        let (created, read) = (self.created.unwrap_or(0), self.read.unwrap_or(0));
        let prompt = self.input.saturating_add(created).saturating_add(read);
        let written = Object::default()
            .number("prompt_tokens", prompt)
            .number("completion_tokens", self.output)
            .number("total_tokens", prompt.saturating_add(self.output));
        let details = Object::default().number("cached_tokens", read).end();
        written.raw("prompt_tokens_details", &details).end()
    }
}

impl ChatWriter {
    pub(super) fn new(answer: TranslatedAnswer<'_>, wants_usage: bool) -> Self {
        Self {
            model: answer.model.to_owned(),
            now: answer.now,
            wants_usage,
            id: String::new(),
            usage: MessageUsage::default(),
            calls: Vec::new(),
            finish: None,
            is_over: false,
        }
    }

    fn head(&self, object: &str) -> Object {
        Object::default()
            .text("id", &self.id)
            .text("object", object)
            .number("created", self.now)
            .text("model", &self.model)
    }

    fn begin(&mut self, message: &[u8]) {
        let id = string_member(message, "id").unwrap_or_default();
        self.id = format!("chatcmpl-{}", id.strip_prefix("msg_").unwrap_or(&id));
        self.usage.take(message);
    }

    fn chunk(&self, delta: Object, finish: Option<&str>, out: &mut Vec<u8>) {
        let finish = finish.map_or_else(|| b"null".to_vec(), quoted);
        let choice = Object::default()
            .number("index", 0)
            .raw("delta", &delta.end())
            .raw("logprobs", b"null")
            .raw("finish_reason", &finish)
            .end();
        unnamed_event(out, &self.head("chat.completion.chunk").raw("choices", &array([choice])).end());
    }

    fn delta(&self, index: u64, delta: &[u8], out: &mut Vec<u8>) {
        let text = |name| json::member(delta, name).unwrap_or(b"\"\"");
        match string_member(delta, "type").as_deref() {
            Some("text_delta") => self.chunk(Object::default().raw("content", text("text")), None, out),
            Some("thinking_delta") => {
                self.chunk(Object::default().raw("reasoning_content", text("thinking")), None, out);
            }
            Some("input_json_delta") => {
                let Some(call) = self.calls.iter().position(|of| *of == index) else { return };
                let function = Object::default().raw("arguments", text("partial_json")).end();
                let call = Object::default().number("index", call as u64).raw("function", &function).end();
                self.chunk(Object::default().raw("tool_calls", &array([call])), None, out);
            }
            // Signatures and citations, which a chat has nothing for.
            _ => {}
        }
    }
}

impl DialectWriter for ChatWriter {
    fn whole(&mut self, answer: &[u8]) -> Option<Vec<u8>> {
        let content = non_null_member(answer, "content").filter(|content| content.starts_with(b"["))?;
        self.begin(answer);
        let (mut text, mut reasoning) = (None::<Vec<u8>>, Vec::new());
        let mut calls = Vec::new();
        for block in elements(content) {
            let inside = |name| json::member(block, name).and_then(json::string).unwrap_or_default();
            match string_member(block, "type").as_deref() {
                Some("text") => text.get_or_insert_default().extend_from_slice(inside("text")),
                Some("thinking") => reasoning.extend_from_slice(inside("thinking")),
                Some("tool_use") => {
                    let input = json::member(block, "input").unwrap_or(b"{}");
                    calls.push(call(block, &quoted(&String::from_utf8_lossy(input))).end());
                }
                _ => {}
            }
        }
        let string = |inside: &[u8]| [b"\"", inside, b"\""].concat();
        let content = text.map_or_else(|| b"null".to_vec(), |text| string(&text));
        let mut message = Object::default().text("role", "assistant").raw("content", &content);
        if !reasoning.is_empty() {
            message = message.raw("reasoning_content", &string(&reasoning));
        }
        if !calls.is_empty() {
            message = message.raw("tool_calls", &array(&calls));
        }
        let choice = Object::default()
            .number("index", 0)
            .raw("message", &message.raw("refusal", b"null").end())
            .raw("logprobs", b"null")
            .text("finish_reason", finish_reason(answer))
            .end();
        let written = self.head("chat.completion").raw("choices", &array([choice]));
        Some(written.raw("usage", &self.usage.write()).end())
    }

    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let kind = string_member(data, "type")?;
        match &*kind {
            "message_start" => {
                self.begin(non_null_member(data, "message")?);
                self.chunk(Object::default().text("role", "assistant").text("content", ""), None, out);
            }
            "content_block_start" => {
                let block = non_null_member(data, "content_block")?;
                match string_member(block, "type").as_deref() {
                    Some("tool_use") => {
                        let index = self.calls.len() as u64;
                        self.calls.push(number_member(data, "index")?);
                        let call =
                            Object::default().number("index", index).all(call(block, b"\"\"").members());
                        let calls = array([call.end()]);
                        self.chunk(Object::default().raw("tool_calls", &calls), None, out);
                    }
                    Some("text") => {
                        let said = json::member(block, "text").filter(|text| *text != b"\"\"");
                        if let Some(text) = said {
                            self.chunk(Object::default().raw("content", text), None, out);
                        }
                    }
                    _ => {}
                }
            }
            "content_block_delta" => {
                self.delta(number_member(data, "index")?, non_null_member(data, "delta")?, out);
            }
            "message_delta" => {
                self.usage.take(data);
                self.finish = non_null_member(data, "delta").map(finish_reason);
            }
            "message_stop" => self.end(out)?,
            "error" => return None,
            _ => {}
        }
        Some(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Option<()> {
        if std::mem::replace(&mut self.is_over, true) {
            return Some(());
        }
        let finish = self.finish?;
        self.chunk(Object::default(), Some(finish), out);
        if self.wants_usage {
            let usage = self.head("chat.completion.chunk").raw("choices", b"[]");
            unnamed_event(out, &usage.raw("usage", &self.usage.write()).end());
        }
        out.extend_from_slice(DONE);
        Some(())
    }
}

/// A call of a chat, with these arguments as JSON.
struct WrittenCall<'a> {
    id: &'a [u8],
    function: Vec<u8>,
}

fn call<'a>(block: &'a [u8], arguments: &[u8]) -> WrittenCall<'a> {
    let name = json::member(block, "name").unwrap_or(b"\"\"");
    let function = Object::default().raw("name", name).raw("arguments", arguments).end();
    WrittenCall { id: json::member(block, "id").unwrap_or(b"\"\""), function }
}

impl<'a> WrittenCall<'a> {
    fn members(self) -> [(&'static str, std::borrow::Cow<'a, [u8]>); 3] {
        [("id", self.id.into()), ("type", b"\"function\"".into()), ("function", self.function.into())]
    }

    fn end(self) -> Vec<u8> {
        Object::default().all(self.members()).end()
    }
}

/// Why a message ends, in a chat's word.
fn finish_reason(of: &[u8]) -> &'static str {
    match string_member(of, "stop_reason").as_deref() {
        Some("max_tokens" | "model_context_window_exceeded") => "length",
        Some("tool_use") => "tool_calls",
        Some("refusal") => "content_filter",
        _ => "stop",
    }
}
