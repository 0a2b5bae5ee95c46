//! The items of a request's input as messages of a chat: what the model thought, said and called in one turn is one message.
//!
//! Strings go over as they are written, without being decoded. Refuses to know the other members of a request.

use crate::Rejection;
use crate::json::object::{Object, array, elements, non_null_member, string_member};
use crate::json::{self, quoted};
use crate::translate::UpstreamKind;
use crate::translate::refusal::untranslatable;

use super::names::flat_name;
use super::tools::INPUT;

/// The messages of a chat, as they come about.
#[derive(Debug)]
pub(super) struct ChatTurns {
    upstream: UpstreamKind,
    written: Vec<Vec<u8>>,
    turn: Turn,
}

/// What of the assistant's turn has come, each text as it is written between quotes.
#[derive(Debug, Default)]
struct Turn {
    reasoning: Vec<u8>,
    text: Option<Vec<u8>>,
    calls: Vec<Vec<u8>>,
}

impl ChatTurns {
    pub(super) fn new(upstream: UpstreamKind) -> Self {
        Self { upstream, written: Vec::new(), turn: Turn::default() }
    }

    /// Writes the instructions.
    pub(super) fn instructions(&mut self, text: &[u8]) -> Result<(), Rejection> {
        if !text.starts_with(b"\"") {
            return Err(untranslatable("instructions", "it is not a text"));
        }
        self.written.push(message("system").raw("content", text).end());
        Ok(())
    }

    /// Writes the input: a text, or items.
    pub(super) fn input(&mut self, input: &[u8]) -> Result<(), Rejection> {
        if input.starts_with(b"\"") {
            self.written.push(message("user").raw("content", input).end());
            return Ok(());
        }
        if !input.starts_with(b"[") {
            return Err(untranslatable("input", "it is neither a text nor a list of items"));
        }
        for (at, item) in elements(input).enumerate() {
            self.item(item, &format!("input.{at}"))?;
        }
        Ok(())
    }

    /// The messages as JSON.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.end_turn();
        array(&self.written)
    }

    fn item(&mut self, item: &[u8], place: &str) -> Result<(), Rejection> {
        match string_member(item, "type").as_deref() {
            Some("message") | None => self.message(item, place),
            Some("reasoning") => {
                if self.turn.text.is_some() || !self.turn.calls.is_empty() {
                    self.end_turn();
                }
                for part in list(item, "content").chain(list(item, "summary")) {
                    self.turn.reasoning.extend_from_slice(inside(part, "text"));
                }
                Ok(())
            }
            Some("function_call") => {
                let arguments = json::member(item, "arguments").unwrap_or(b"\"{}\"");
                self.call(item, arguments);
                Ok(())
            }
            Some("custom_tool_call") => {
                let input = json::member(item, INPUT).unwrap_or(b"\"\"");
                let arguments = Object::default().raw(INPUT, input).end();
                self.call(item, &quoted(&String::from_utf8_lossy(&arguments)));
                Ok(())
            }
            Some("function_call_output" | "custom_tool_call_output") => self.output(item, place),
            _ => Err(untranslatable(place, "items of this type have no equal in a chat")),
        }
    }

    fn message(&mut self, item: &[u8], place: &str) -> Result<(), Rejection> {
        let content = json::member(item, "content").unwrap_or(b"\"\"");
        let role = string_member(item, "role").unwrap_or_default();
        let role = match &*role {
            "assistant" => return self.said(content, place),
            // Chat templates know no other word for it.
            "developer" if self.upstream != UpstreamKind::OpenAi => "system",
            "user" | "system" | "developer" => &role,
            _ => return Err(untranslatable(format!("{place}.role"), "a chat has no such role")),
        };
        self.end_turn();
        let content = self.content(content, place)?;
        self.written.push(message(role).raw("content", &content).end());
        Ok(())
    }

    /// A text, or parts of which a lone text is a text again.
    fn content(&self, content: &[u8], place: &str) -> Result<Vec<u8>, Rejection> {
        if content.starts_with(b"\"") {
            return Ok(content.to_vec());
        }
        let mut parts = Vec::new();
        let mut texts = Vec::new();
        for (at, part) in array_of(content).enumerate() {
            let place = format!("{place}.content.{at}");
            match string_member(part, "type").as_deref() {
                Some("input_text" | "output_text" | "text") => {
                    let text = json::member(part, "text").unwrap_or(b"\"\"");
                    texts.push(text);
                    parts.push(Object::default().text("type", "text").raw("text", text).end());
                }
                Some("input_image") => parts.push(image(part, &place)?),
                Some("input_file") => parts.push(self.file(part, &place)?),
                _ => return Err(untranslatable(place, "parts of this type have no equal in a chat")),
            }
        }
        match (parts.as_slice(), texts.as_slice()) {
            ([_], [text]) => Ok(text.to_vec()),
            ([], _) => Ok(b"\"\"".to_vec()),
            (parts, _) => Ok(array(parts)),
        }
    }

    fn file(&self, part: &[u8], place: &str) -> Result<Vec<u8>, Rejection> {
        let data = non_null_member(part, "file_data").filter(|_| self.upstream == UpstreamKind::OpenAi);
        let data = data.ok_or_else(|| untranslatable(place, "the upstream takes no files"))?;
        let name = non_null_member(part, "filename").unwrap_or(b"\"file\"");
        let file = Object::default().raw("filename", name).raw("file_data", data).end();
        Ok(Object::default().text("type", "file").raw("file", &file).end())
    }

    /// What the assistant said.
    fn said(&mut self, content: &[u8], place: &str) -> Result<(), Rejection> {
        if self.turn.text.is_some() || !self.turn.calls.is_empty() {
            self.end_turn();
        }
        let mut text = json::string(content).unwrap_or_default().to_vec();
        for (at, part) in array_of(content).enumerate() {
            match string_member(part, "type").as_deref() {
                Some("output_text" | "input_text" | "text") => text.extend_from_slice(inside(part, "text")),
                Some("refusal") => text.extend_from_slice(inside(part, "refusal")),
                _ => {
                    let place = format!("{place}.content.{at}");
                    return Err(untranslatable(place, "a chat's assistant says nothing but text"));
                }
            }
        }
        self.turn.text = Some(text);
        Ok(())
    }

    fn call(&mut self, item: &[u8], arguments: &[u8]) {
        let namespace = string_member(item, "namespace");
        let name = string_member(item, "name").unwrap_or_default();
        let function = Object::default()
            .text("name", &flat_name(namespace.as_deref(), &name))
            .raw("arguments", arguments)
            .end();
        let id = json::member(item, "call_id").unwrap_or(b"\"\"");
        let call = Object::default().raw("id", id).text("type", "function").raw("function", &function);
        self.turn.calls.push(call.end());
    }

    fn output(&mut self, item: &[u8], place: &str) -> Result<(), Rejection> {
        self.end_turn();
        let output = json::member(item, "output").unwrap_or(b"\"\"");
        let mut text = json::string(output).unwrap_or_default().to_vec();
        let mut images = Vec::new();
        for (at, part) in array_of(output).enumerate() {
            let place = format!("{place}.output.{at}");
            match string_member(part, "type").as_deref() {
                Some("input_text" | "output_text" | "text") => {
                    if !text.is_empty() {
                        text.extend_from_slice(b"\\n");
                    }
                    text.extend_from_slice(inside(part, "text"));
                }
                Some("input_image") => images.push(image(part, &place)?),
                _ => return Err(untranslatable(place, "a chat's tools answer with text and images")),
            }
        }
        let id = json::member(item, "call_id").unwrap_or(b"\"\"");
        self.written.push(message("tool").raw("tool_call_id", id).raw("content", &string(&text)).end());
        if !images.is_empty() {
            self.written.push(message("user").raw("content", &array(&images)).end());
        }
        Ok(())
    }

    fn end_turn(&mut self) {
        let Turn { reasoning, text, calls } = std::mem::take(&mut self.turn);
        if text.is_none() && calls.is_empty() {
            // Thoughts without a turn are not the next one's.
            return;
        }
        let content = text.map_or_else(|| b"null".to_vec(), |text| string(&text));
        let mut written = message("assistant").raw("content", &content);
        // What is no engine does not know the member, and some refuse it.
        if !reasoning.is_empty() && self.upstream == UpstreamKind::Engine {
            written = written.raw("reasoning", &string(&reasoning));
        }
        if !calls.is_empty() {
            written = written.raw("tool_calls", &array(&calls));
        }
        self.written.push(written.end());
    }
}

fn image(part: &[u8], place: &str) -> Result<Vec<u8>, Rejection> {
    let url = non_null_member(part, "image_url").filter(|url| url.starts_with(b"\""));
    let url =
        url.ok_or_else(|| untranslatable(place, "the upstream takes images as data or by their address"))?;
    let mut image = Object::default().raw("url", url);
    if let Some(detail) = non_null_member(part, "detail") {
        image = image.raw("detail", detail);
    }
    Ok(Object::default().text("type", "image_url").raw("image_url", &image.end()).end())
}

/// The elements of a member that is a list.
fn list<'a>(object: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    array_of(json::member(object, name).unwrap_or(b"[]"))
}

/// The elements of a list; none of anything else.
fn array_of(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    elements(if value.starts_with(b"[") { value } else { b"[]" })
}

/// What stands between the quotes of a member, as it is written; nothing if it is no string.
fn inside<'a>(object: &'a [u8], name: &str) -> &'a [u8] {
    json::member(object, name).and_then(json::string).unwrap_or_default()
}

fn string(inside: &[u8]) -> Vec<u8> {
    [b"\"", inside, b"\""].concat()
}

fn message(role: &str) -> Object {
    Object::default().text("role", role)
}
