//! The messages of a chat as the items of a response's input.
//!
//! Strings go over as they are written, without being decoded. Refuses to know the other members of a request.

use crate::Rejection;
use crate::json;
use crate::json::object::{Object, array, elements, non_null_member, string_member};
use crate::translate::UpstreamKind;
use crate::translate::refusal::untranslatable;

/// Writes the messages of a chat as items.
pub(super) fn items(messages: &[u8], upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
    if !messages.starts_with(b"[") {
        return Err(untranslatable("messages", "it is not a list"));
    }
    let mut items = Vec::new();
    for (at, message) in elements(messages).enumerate() {
        let place = format!("messages.{at}");
        let content = json::member(message, "content").unwrap_or(b"null");
        match &*string_member(message, "role").unwrap_or_default() {
            role @ ("system" | "developer" | "user") => {
                let content = content_of(content, &place)?;
                items.push(message_item(role).raw("content", &content).end());
            }
            "tool" => {
                let id = json::member(message, "tool_call_id").unwrap_or(b"\"\"");
                let output = Object::default().text("type", "function_call_output").raw("call_id", id);
                items.push(output.raw("output", &content_of(content, &place)?).end());
            }
            "assistant" => assistant(message, content, upstream, &place, &mut items)?,
            _ => return Err(untranslatable(format!("{place}.role"), "Responses have no such role")),
        }
    }
    Ok(array(&items))
}

fn message_item(role: &str) -> Object {
    Object::default().text("type", "message").text("role", role)
}

/// What the assistant thought, said and called, each an item.
fn assistant(
    message: &[u8],
    content: &[u8],
    upstream: UpstreamKind,
    place: &str,
    items: &mut Vec<Vec<u8>>,
) -> Result<(), Rejection> {
    let thought = ["reasoning", "reasoning_content"].iter().find_map(|name| non_null_member(message, name));
    // Others take no thoughts but their own, which are sealed.
    if let Some(text) = thought.filter(|text| upstream == UpstreamKind::Engine && text.starts_with(b"\"")) {
        let part = Object::default().text("type", "reasoning_text").raw("text", text).end();
        let item = Object::default().text("type", "reasoning").raw("summary", b"[]");
        items.push(item.raw("content", &array([part])).end());
    }
    let mut parts = Vec::new();
    match content.first() {
        Some(b'"') if content != b"\"\"" => parts.push(said("output_text", "text", content)),
        Some(b'[') => {
            for (at, part) in elements(content).enumerate() {
                let text = |name| json::member(part, name).unwrap_or(b"\"\"");
                match string_member(part, "type").as_deref() {
                    Some("text") => parts.push(said("output_text", "text", text("text"))),
                    Some("refusal") => parts.push(said("refusal", "refusal", text("refusal"))),
                    _ => {
                        let place = format!("{place}.content.{at}");
                        return Err(untranslatable(place, "an assistant says nothing but text"));
                    }
                }
            }
        }
        _ => {}
    }
    if let Some(refusal) = non_null_member(message, "refusal") {
        parts.push(said("refusal", "refusal", refusal));
    }
    if !parts.is_empty() {
        items.push(message_item("assistant").raw("content", &array(&parts)).end());
    }
    let calls = non_null_member(message, "tool_calls").filter(|calls| calls.starts_with(b"["));
    for (at, call) in calls.into_iter().flat_map(elements).enumerate() {
        let id = json::member(call, "id").unwrap_or(b"\"\"");
        let part = |of: &[u8], name| json::member(of, name).unwrap_or(b"\"\"").to_vec();
        if let Some(function) = non_null_member(call, "function") {
            let item = Object::default().text("type", "function_call").raw("call_id", id);
            let item = item.raw("name", &part(function, "name"));
            items.push(item.raw("arguments", &part(function, "arguments")).end());
        } else if let Some(custom) = non_null_member(call, "custom") {
            let item = Object::default().text("type", "custom_tool_call").raw("call_id", id);
            items.push(item.raw("name", &part(custom, "name")).raw("input", &part(custom, "input")).end());
        } else {
            let place = format!("{place}.tool_calls.{at}");
            return Err(untranslatable(place, "it calls neither a function nor a custom tool"));
        }
    }
    Ok(())
}

fn said(kind: &str, key: &str, text: &[u8]) -> Vec<u8> {
    let part = Object::default().text("type", kind).raw(key, text);
    if kind == "output_text" { part.raw("annotations", b"[]").end() } else { part.end() }
}

/// A text, or parts.
fn content_of(content: &[u8], place: &str) -> Result<Vec<u8>, Rejection> {
    if !content.starts_with(b"[") {
        return Ok(if content.starts_with(b"\"") { content.to_vec() } else { b"\"\"".to_vec() });
    }
    let mut parts = Vec::new();
    for (at, part) in elements(content).enumerate() {
        let place = || format!("{place}.content.{at}");
        let written = match string_member(part, "type").as_deref() {
            Some("text") => {
                let text = json::member(part, "text").unwrap_or(b"\"\"");
                Object::default().text("type", "input_text").raw("text", text)
            }
            Some("image_url") => image(part, &place())?,
            Some("file") => {
                let file = non_null_member(part, "file").unwrap_or(b"{}");
                let known = ["filename", "file_data", "file_id"];
                let members = known.iter().filter_map(|name| Some((*name, non_null_member(file, name)?)));
                Object::default().text("type", "input_file").all(members)
            }
            _ => return Err(untranslatable(place(), "Responses have nothing like it")),
        };
        parts.push(written.end());
    }
    Ok(array(&parts))
}

fn image(part: &[u8], place: &str) -> Result<Object, Rejection> {
    let image = non_null_member(part, "image_url").unwrap_or(b"{}");
    let url = if image.starts_with(b"\"") { Some(image) } else { non_null_member(image, "url") };
    let url = url.ok_or_else(|| untranslatable(place, "it has no address"))?;
    let detail = Some(image)
        .filter(|image| image.starts_with(b"{"))
        .and_then(|image| non_null_member(image, "detail"));
    let written = Object::default().text("type", "input_image").raw("image_url", url);
    Ok(written.all(detail.map(|detail| ("detail", detail))))
}
