//! The messages of a request, and the blocks of their contents, as messages of a chat.
//!
//! Strings go over as they are written, without being decoded. Refuses to know the other members of a request.

use crate::Rejection;
use crate::json::object::{Object, array, elements, non_null_member, string_member};
use crate::json::{self, quoted};
use crate::translate::UpstreamKind;
use crate::translate::refusal::untranslatable;

/// How the block begins that Claude Code puts before its system prompt, with a hash that differs in each request: as the
/// first tokens of a prompt it would leave nothing of it in any engine's cache.
const BILLING: &[u8] = b"x-anthropic-billing-header";

/// The messages of a chat, as they come about.
#[derive(Debug)]
pub(super) struct ChatMessages {
    upstream: UpstreamKind,
    written: Vec<Vec<u8>>,
    ends_with_assistant: bool,
}

/// What a message's content is in a chat, by kind.
#[derive(Default)]
struct Blocks {
    /// The parts of a message, each with whether it is a text.
    parts: Vec<(Vec<u8>, bool)>,
    reasoning: Vec<u8>,
    calls: Vec<Vec<u8>>,
    /// Messages that go before this one.
    results: Vec<Vec<u8>>,
    /// Images of tools' results, which only a user's message can hold.
    images: Vec<Vec<u8>>,
}

impl ChatMessages {
    pub(super) fn new(upstream: UpstreamKind) -> Self {
        Self { upstream, written: Vec::new(), ends_with_assistant: false }
    }

    /// Writes the system prompt: a text, or blocks of texts.
    pub(super) fn system(&mut self, system: &[u8]) -> Result<(), Rejection> {
        let text = joined_texts(system, "system", b"")?;
        if !text.is_empty() {
            self.written.push(message("system").raw("content", &string(&text)).end());
        }
        Ok(())
    }

    /// Writes the messages.
    pub(super) fn messages(&mut self, messages: &[u8]) -> Result<(), Rejection> {
        if !messages.starts_with(b"[") {
            return Err(untranslatable("messages", "it is not a list"));
        }
        for (at, message) in elements(messages).enumerate() {
            let place = format!("messages.{at}");
            let content = json::member(message, "content").unwrap_or(b"null");
            let role = string_member(message, "role").unwrap_or_default();
            self.ends_with_assistant = role == "assistant";
            match &*role {
                "user" => self.user(content, &place)?,
                "assistant" => self.assistant(content, &place)?,
                "system" => self.system(content)?,
                _ => {
                    return Err(untranslatable(
                        format!("{place}.role"),
                        "it is none of user, assistant and system",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether the model is to go on with a message that the client has begun.
    pub(super) fn ends_with_assistant(&self) -> bool {
        self.ends_with_assistant
    }

    /// The messages as JSON.
    pub(super) fn end(self) -> Vec<u8> {
        array(&self.written)
    }

    fn user(&mut self, content: &[u8], place: &str) -> Result<(), Rejection> {
        if content.starts_with(b"\"") {
            self.written.push(message("user").raw("content", content).end());
            return Ok(());
        }
        let blocks = self.blocks(content, place)?;
        self.written.extend(blocks.results);
        if !blocks.images.is_empty() {
            self.written.push(message("user").raw("content", &array(&blocks.images)).end());
        }
        match blocks.parts.as_slice() {
            [] => {}
            [(part, true)] => {
                let text = json::member(part, "text").unwrap_or(b"\"\"");
                self.written.push(message("user").raw("content", text).end());
            }
            parts => {
                let parts = array(parts.iter().map(|(part, _)| part));
                self.written.push(message("user").raw("content", &parts).end());
            }
        }
        Ok(())
    }

    fn assistant(&mut self, content: &[u8], place: &str) -> Result<(), Rejection> {
        if content.starts_with(b"\"") {
            self.written.push(message("assistant").raw("content", content).end());
            return Ok(());
        }
        let blocks = self.blocks(content, place)?;
        let mut text = Vec::new();
        for (part, is_text) in &blocks.parts {
            if !is_text {
                return Err(untranslatable(place, "a chat's assistant says nothing but text"));
            }
            text.extend_from_slice(inside(part, "text"));
        }
        let content = if text.is_empty() { b"null".to_vec() } else { string(&text) };
        let mut written = message("assistant").raw("content", &content);
        // What is no engine does not know the member, and some refuse it.
        if !blocks.reasoning.is_empty() && self.upstream == UpstreamKind::Engine {
            written = written.raw("reasoning", &string(&blocks.reasoning));
        }
        if !blocks.calls.is_empty() {
            written = written.raw("tool_calls", &array(&blocks.calls));
        }
        self.written.push(written.end());
        Ok(())
    }

    fn blocks(&self, content: &[u8], place: &str) -> Result<Blocks, Rejection> {
        let mut blocks = Blocks::default();
        for (at, block) in list(content).enumerate() {
            let place = || format!("{place}.content.{at}");
            let kind = string_member(block, "type").unwrap_or_default();
            match &*kind {
                "text" => blocks.parts.push((text_part(inside(block, "text")), true)),
                "image" => blocks.parts.push((image(block, &place())?, false)),
                "document" => blocks.parts.extend(self.document(block, &place())?),
                "search_result" => {
                    let text = search_result(block, &place())?;
                    blocks.parts.push((text_part(&text), true));
                }
                "thinking" => blocks.reasoning.extend_from_slice(inside(block, "thinking")),
                "redacted_thinking" => {}
                "tool_use" => blocks.calls.push(tool_call(block)),
                "tool_result" => tool_result(block, &place(), &mut blocks)?,
                _ => return Err(untranslatable(place(), "blocks of this type have no equal in a chat")),
            }
        }
        Ok(blocks)
    }

    /// A document as parts: its text, or the file itself where the upstream takes files.
    fn document(&self, block: &[u8], place: &str) -> Result<Vec<(Vec<u8>, bool)>, Rejection> {
        let source = non_null_member(block, "source").unwrap_or(b"{}");
        let mut text = Vec::new();
        for name in ["title", "context"] {
            let heading = inside(block, name);
            if !heading.is_empty() {
                text.extend_from_slice(heading);
                text.extend_from_slice(b"\\n");
            }
        }
        match string_member(source, "type").as_deref() {
            Some("text") => text.extend_from_slice(inside(source, "data")),
            Some("content") => {
                let content = json::member(source, "content").unwrap_or(b"[]");
                text.extend_from_slice(&joined_texts(content, place, b"\\n")?);
            }
            Some("base64") if self.upstream == UpstreamKind::OpenAi => {
                let kind = inside(source, "media_type");
                let data = [b"data:", kind, b";base64,", inside(source, "data")].concat();
                let name = json::member(block, "title").filter(|title| title.starts_with(b"\""));
                let file = Object::default().raw("filename", name.unwrap_or(b"\"document.pdf\""));
                let file = file.raw("file_data", &string(&data)).end();
                return Ok(vec![(Object::default().text("type", "file").raw("file", &file).end(), false)]);
            }
            _ => return Err(untranslatable(place, "the upstream takes documents as text alone")),
        }
        Ok(vec![(text_part(&text), true)])
    }
}

/// The text of a system prompt, or of a tool's result: a string's inside, or those of its blocks, joined.
fn joined_texts(content: &[u8], place: &str, between: &[u8]) -> Result<Vec<u8>, Rejection> {
    if let Some(inside) = json::string(content) {
        return Ok(inside.to_vec());
    }
    let mut text = Vec::new();
    let mut is_first = true;
    for (at, block) in list(content).enumerate() {
        let kind = string_member(block, "type");
        if kind.as_deref().is_some_and(is_tool_change) {
            // They are in the list of tools.
            continue;
        }
        if kind.as_deref() != Some("text") {
            return Err(untranslatable(format!("{place}.{at}"), "there can be nothing but text here"));
        }
        let piece = inside(block, "text");
        if piece.starts_with(BILLING) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            text.extend_from_slice(between);
        }
        text.extend_from_slice(piece);
    }
    Ok(text)
}

fn tool_call(block: &[u8]) -> Vec<u8> {
    let input = json::member(block, "input").unwrap_or(b"{}");
    let arguments = quoted(&String::from_utf8_lossy(input));
    let name = json::member(block, "name").unwrap_or(b"\"\"");
    let function = Object::default().raw("name", name).raw("arguments", &arguments).end();
    let id = json::member(block, "id").unwrap_or(b"\"\"");
    Object::default().raw("id", id).text("type", "function").raw("function", &function).end()
}

/// A tool's result is a message of its own, and its images are a user's.
fn tool_result(block: &[u8], place: &str, blocks: &mut Blocks) -> Result<(), Rejection> {
    let content = non_null_member(block, "content").unwrap_or(b"[]");
    let mut text: Vec<u8> = Vec::new();
    if let Some(inside) = json::string(content) {
        text.extend_from_slice(inside);
    }
    for (at, part) in list(content).enumerate() {
        let place = || format!("{place}.content.{at}");
        let said = match string_member(part, "type").as_deref() {
            Some("text") => inside(part, "text").to_vec(),
            Some("search_result") => search_result(part, &place())?,
            Some("image") => {
                blocks.images.push(image(part, &place())?);
                continue;
            }
            _ => return Err(untranslatable(place(), "a chat's tools answer with text and images")),
        };
        if !text.is_empty() {
            text.extend_from_slice(b"\\n");
        }
        text.extend_from_slice(&said);
    }
    let id = json::member(block, "tool_use_id").unwrap_or(b"\"\"");
    blocks.results.push(message("tool").raw("tool_call_id", id).raw("content", &string(&text)).end());
    Ok(())
}

fn search_result(block: &[u8], place: &str) -> Result<Vec<u8>, Rejection> {
    let mut text = Vec::new();
    for name in ["title", "source"] {
        text.extend_from_slice(inside(block, name));
        text.extend_from_slice(b"\\n");
    }
    let content = json::member(block, "content").unwrap_or(b"[]");
    text.extend_from_slice(&joined_texts(content, place, b"\\n")?);
    Ok(text)
}

fn image(block: &[u8], place: &str) -> Result<Vec<u8>, Rejection> {
    let source = non_null_member(block, "source").unwrap_or(b"{}");
    let url = match string_member(source, "type").as_deref() {
        Some("base64") => {
            [b"data:", inside(source, "media_type"), b";base64,", inside(source, "data")].concat()
        }
        Some("url") => inside(source, "url").to_vec(),
        _ => return Err(untranslatable(place, "the upstream takes images as data or by their address")),
    };
    let url = Object::default().raw("url", &string(&url)).end();
    Ok(Object::default().text("type", "image_url").raw("image_url", &url).end())
}

/// Whether blocks of this type change which tools there are.
pub(super) fn is_tool_change(kind: &str) -> bool {
    matches!(kind, "tool_addition" | "tool_removal")
}

/// The elements of a list; none of anything else.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    elements(if value.starts_with(b"[") { value } else { b"[]" })
}

/// What stands between the quotes of a member, as it is written; nothing if it is no string.
fn inside<'a>(object: &'a [u8], name: &str) -> &'a [u8] {
    json::member(object, name).and_then(json::string).unwrap_or_default()
}

fn string(inside: &[u8]) -> Vec<u8> {
    [b"\"", inside, b"\""].concat()
}

fn text_part(inside: &[u8]) -> Vec<u8> {
    Object::default().text("type", "text").raw("text", &string(inside)).end()
}

fn message(role: &str) -> Object {
    Object::default().text("role", role)
}
