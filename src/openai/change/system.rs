//! The system prompt, wherever an API has it.
//!
//! Owns what counts as the client's own one.

use super::super::dialect::SystemPromptPlace;
use super::super::message::{ContentPart, InputMessage, Role, parts};
use super::super::{Api, ChatRequest, Edit, json};
use super::SystemMode;
use super::list::List;
use super::member::set;

/// What separates the operator's prompt from the client's.
const BETWEEN: &str = "\n\n";

/// Puts the operator's prompt first; the client's are dropped or follow.
pub(super) fn edits(request: &ChatRequest, api: Api, text: &str, mode: SystemMode) -> Vec<Edit> {
    let Some(SystemPromptPlace { member, messages }) = api.dialect().request.system_prompt else {
        return Vec::new();
    };
    let list = List::array(request, messages);
    match (member, mode) {
        (None, SystemMode::Replace) => list.map_or_else(Vec::new, |list| replace_message(&list, text)),
        (None, SystemMode::Insert) => {
            list.and_then(|list| insert_message(request, &list, text)).into_iter().collect()
        }
        (Some(name), SystemMode::Replace) => {
            let mut edits = set(request, &[name], &json::quoted(text));
            edits.extend(list.map_or_else(Vec::new, |list| remove_messages(&list)));
            edits
        }
        (Some(name), SystemMode::Insert) => insert_member(request, name, text),
    }
}

/// Removes the system's messages and puts ours before all others, with the role that the client's first one has.
fn replace_message(list: &List<'_>, text: &str) -> Vec<Edit> {
    let gone = systems(list);
    let mut edits = Vec::new();
    if !text.is_empty() {
        let role = gone.first().map_or(&b"\"system\""[..], |first| role(list.value(*first)));
        edits.push(list.prepend(message(role, text), gone.len() < list.items.len()));
    }
    edits.extend(list.remove(&gone));
    edits
}

/// Removes the system's messages where the prompt has its own place, unless nothing else would stay.
fn remove_messages(list: &List<'_>) -> Vec<Edit> {
    let gone = systems(list);
    if gone.len() == list.items.len() { Vec::new() } else { list.remove(&gone) }
}

/// Puts our prompt before those of the system's first message, or in a message of their own.
fn insert_message(request: &ChatRequest, list: &List<'_>, text: &str) -> Option<Edit> {
    if text.is_empty() {
        return None;
    }
    let first = systems(list).first().map(|first| InputMessage::read(list.value(*first)));
    let content = first.and_then(|message| message.content);
    let before = content.and_then(|content| put_before(request, content, text));
    Some(before.unwrap_or_else(|| list.prepend(message(b"\"system\"", text), !list.items.is_empty())))
}

fn insert_member(request: &ChatRequest, name: &str, text: &str) -> Vec<Edit> {
    if text.is_empty() {
        return Vec::new();
    }
    let before = request.member(name).and_then(|content| put_before(request, content, text));
    before.map_or_else(|| set(request, &[name], &json::quoted(text)), |edit| vec![edit])
}

/// Puts our prompt before a content: a string, or parts; nothing if it is neither.
fn put_before(request: &ChatRequest, content: &[u8], text: &str) -> Option<Edit> {
    let body = request.body();
    if content == b"null" {
        return Some(Edit { span: json::span(body, content), with: json::quoted(text) });
    }
    if let Some(inside) = json::string(content).or_else(|| parts(content).find_map(ContentPart::text)) {
        let at = json::span(body, inside).start;
        let mut with = json::escaped(text);
        if !inside.is_empty() {
            with.extend_from_slice(&json::escaped(BETWEEN));
        }
        return Some(Edit { span: at..at, with });
    }
    let list = List::at(body, &json::span(body, content)).filter(|_| content.starts_with(b"["))?;
    let part = [&b"{\"type\":\"text\",\"text\":"[..], &json::quoted(text), b"}"].concat();
    Some(list.prepend(part, !list.items.is_empty()))
}

/// Returns the indices of the system's messages, in order.
fn systems(list: &List<'_>) -> Vec<usize> {
    (0..list.items.len())
        .filter(|index| InputMessage::read(list.value(*index)).role == Role::System)
        .collect()
}

/// Returns a message's role as it is written.
fn role(message: &[u8]) -> &[u8] {
    json::member(message, "role").unwrap_or(b"\"system\"")
}

fn message(role: &[u8], text: &str) -> Vec<u8> {
    [b"{\"role\":", role, b",\"content\":", &json::quoted(text), b"}"].concat()
}
