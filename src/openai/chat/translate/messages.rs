//! The messages of a chat as a system prompt and turns of two sides, as Anthropic's API has them.
//!
//! Strings go over as they are written, without being decoded. Refuses to know the other members of a request.

use crate::Rejection;
use crate::json;
use crate::json::object::{Object, array, elements, is_object, non_null_member, string_member};
use crate::translate::refusal::untranslatable;

/// A conversation as it comes about.
#[derive(Debug, Default)]
pub(super) struct MessageTurns {
    system: Vec<Vec<u8>>,
    /// The turns: messages of one side that follow one another are one.
    turns: Vec<(&'static str, Vec<Vec<u8>>)>,
}

impl MessageTurns {
    /// Reads the messages of a chat.
    pub(super) fn read(messages: &[u8]) -> Result<Self, Rejection> {
        if !messages.starts_with(b"[") {
            return Err(untranslatable("messages", "it is not a list"));
        }
        let mut conversation = Self::default();
        for (at, message) in elements(messages).enumerate() {
            conversation.message(message, &format!("messages.{at}"))?;
        }
        Ok(conversation)
    }

    /// The system prompt and the messages as JSON.
    pub(super) fn end(self) -> (Vec<u8>, Vec<u8>) {
        let turns = self
            .turns
            .iter()
            .map(|(role, blocks)| Object::default().text("role", role).raw("content", &array(blocks)).end());
        (array(&self.system), array(turns))
    }

    fn message(&mut self, message: &[u8], place: &str) -> Result<(), Rejection> {
        let content = json::member(message, "content").unwrap_or(b"null");
        match &*string_member(message, "role").unwrap_or_default() {
            "system" | "developer" => {
                let blocks = blocks(content, place)?;
                // Only what leads is the system prompt: to move the rest would change what the model sees before it.
                if self.turns.is_empty() {
                    self.system.extend(blocks);
                } else {
                    self.turn("user", blocks);
                }
            }
            "user" => self.turn("user", blocks(content, place)?),
            "tool" => {
                let id = json::member(message, "tool_call_id").unwrap_or(b"\"\"");
                let result = Object::default().text("type", "tool_result").raw("tool_use_id", id);
                self.turn("user", vec![result.raw("content", &array(blocks(content, place)?)).end()]);
            }
            "assistant" => self.assistant(message, content, place)?,
            _ => return Err(untranslatable(format!("{place}.role"), "Anthropic's has no such role")),
        }
        Ok(())
    }

    fn assistant(&mut self, message: &[u8], content: &[u8], place: &str) -> Result<(), Rejection> {
        let mut said = blocks(content, place)?;
        if let Some(refusal) = non_null_member(message, "refusal") {
            said.extend(text_block(refusal));
        }
        let calls = non_null_member(message, "tool_calls").filter(|calls| calls.starts_with(b"["));
        for (at, call) in calls.into_iter().flat_map(elements).enumerate() {
            let place = format!("{place}.tool_calls.{at}");
            let function = non_null_member(call, "function")
                .ok_or_else(|| untranslatable(place.clone(), "Anthropic's takes functions alone"))?;
            let arguments = string_member(function, "arguments").unwrap_or_default();
            let arguments = if arguments.trim().is_empty() { "{}" } else { arguments.trim() };
            if !is_object(arguments.as_bytes()) {
                return Err(untranslatable(place, "the arguments are not an object"));
            }
            let block = Object::default()
                .text("type", "tool_use")
                .raw("id", json::member(call, "id").unwrap_or(b"\"\""))
                .raw("name", json::member(function, "name").unwrap_or(b"\"\""))
                .raw("input", arguments.as_bytes());
            said.push(block.end());
        }
        self.turn("assistant", said);
        Ok(())
    }

    fn turn(&mut self, role: &'static str, blocks: Vec<Vec<u8>>) {
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some((last, known)) if *last == role => known.extend(blocks),
            _ => self.turns.push((role, blocks)),
        }
    }
}

/// The blocks of a content: a text, or parts.
fn blocks(content: &[u8], place: &str) -> Result<Vec<Vec<u8>>, Rejection> {
    if !content.starts_with(b"[") {
        return Ok(text_block(content).into_iter().collect());
    }
    let mut written = Vec::new();
    for (at, part) in elements(content).enumerate() {
        let place = || format!("{place}.content.{at}");
        match string_member(part, "type").as_deref() {
            Some("text") => written.extend(text_block(json::member(part, "text").unwrap_or(b"\"\""))),
            Some("refusal") => written.extend(text_block(json::member(part, "refusal").unwrap_or(b"\"\""))),
            Some("image_url") => written.push(image(part, &place())?),
            Some("file") => written.push(file(part, &place())?),
            _ => return Err(untranslatable(place(), "Anthropic's has nothing like it")),
        }
    }
    Ok(written)
}

/// A block of a text; none of an empty one, which Anthropic's API refuses.
fn text_block(text: &[u8]) -> Option<Vec<u8>> {
    let inside = json::string(text).filter(|inside| !inside.is_empty())?;
    let text = [b"\"", inside, b"\""].concat();
    Some(Object::default().text("type", "text").raw("text", &text).end())
}

fn image(part: &[u8], place: &str) -> Result<Vec<u8>, Rejection> {
    let image = non_null_member(part, "image_url").unwrap_or(b"{}");
    let url = string_member(image, "url").or_else(|| string_member(part, "image_url"));
    let url = url.ok_or_else(|| untranslatable(place, "it has no address"))?;
    let source = match data_of(&url) {
        Some((media_type, data)) => {
            Object::default().text("type", "base64").text("media_type", media_type).text("data", data)
        }
        None if url.starts_with("https://") || url.starts_with("http://") => {
            Object::default().text("type", "url").text("url", &url)
        }
        None => return Err(untranslatable(place, "its address is neither data nor of the web")),
    };
    Ok(Object::default().text("type", "image").raw("source", &source.end()).end())
}

fn file(part: &[u8], place: &str) -> Result<Vec<u8>, Rejection> {
    let file = non_null_member(part, "file").unwrap_or(b"{}");
    let data = string_member(file, "file_data");
    let data = data.as_deref().and_then(data_of);
    let (media_type, data) = data.ok_or_else(|| untranslatable(place, "the file itself is not in it"))?;
    let source = Object::default().text("type", "base64").text("media_type", media_type).text("data", data);
    let mut block = Object::default().text("type", "document").raw("source", &source.end());
    if let Some(name) = non_null_member(file, "filename") {
        block = block.raw("title", name);
    }
    Ok(block.end())
}

/// The type and the data of a `data:` address in base64.
fn data_of(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}
