//! The stream of `/v1/messages`: a message, its blocks, its end.
//!
//! Refuses to know other dialects.

use crate::json::object::{Object, elements, entries, non_null_member, string_member};
use crate::sse::named_event;

use crate::answer::replay_stream::pieces;

/// Writes a message as a stream.
pub(super) fn write(message: &[u8]) -> Option<Vec<u8>> {
    let content = non_null_member(message, "content").filter(|content| content.starts_with(b"["))?;
    let mut out = Vec::new();
    let mut begun = Object::default();
    for (key, value) in entries(message) {
        begun = match &*key {
            "content" => begun.raw("content", b"[]"),
            "stop_reason" | "stop_sequence" => begun.raw(&key, b"null"),
            key => begun.raw(key, value),
        };
    }
    send(&mut out, "message_start", |event| event.raw("message", &begun.end()));
    for (index, block) in elements(content).enumerate() {
        write_block(&mut out, index as u64, block);
    }
    let mut delta = Object::default();
    for key in ["stop_reason", "stop_sequence"] {
        delta = delta.raw(key, non_null_member(message, key).unwrap_or(b"null"));
    }
    let delta = delta.end();
    let usage = non_null_member(message, "usage").unwrap_or(b"{\"output_tokens\":0}");
    send(&mut out, "message_delta", |event| event.raw("delta", &delta).raw("usage", usage));
    send(&mut out, "message_stop", |event| event);
    Some(out)
}

fn write_block(out: &mut Vec<u8>, index: u64, block: &[u8]) {
    let kind = string_member(block, "type").unwrap_or_default();
    let grows: &[&str] = match &*kind {
        "text" => &["text", "citations"],
        "thinking" => &["thinking", "signature"],
        "tool_use" | "server_tool_use" => &["input"],
        _ => &[],
    };
    let mut begun = Object::default();
    for (key, value) in entries(block) {
        begun = match (&*key, value.first()) {
            (key, Some(b'"')) if grows.contains(&key) => begun.text(key, ""),
            (key, Some(b'[')) if grows.contains(&key) => begun.raw(key, b"[]"),
            ("input", Some(b'{')) if grows.contains(&"input") => begun.raw("input", b"{}"),
            (key, _) => begun.raw(key, value),
        };
    }
    send(out, "content_block_start", |event| event.number("index", index).raw("content_block", &begun.end()));
    let mut grow = |delta: Object| {
        let delta = delta.end();
        send(out, "content_block_delta", |event| event.number("index", index).raw("delta", &delta));
    };
    for key in grows {
        let Some(value) = non_null_member(block, key) else {
            continue;
        };
        let kind = if *key == "input" { "input_json_delta".to_owned() } else { format!("{key}_delta") };
        let delta = || Object::default().text("type", &kind);
        match (*key, value.first()) {
            ("citations", _) => {
                elements(value).for_each(|citation| grow(delta().raw("citation", citation)));
            }
            ("input", Some(b'{')) if value != b"{}" => {
                let written = String::from_utf8_lossy(value);
                pieces(&written).for_each(|piece| grow(delta().text("partial_json", piece)));
            }
            (key, Some(b'"')) => {
                let said = string_member(block, key).unwrap_or_default();
                pieces(&said).for_each(|piece| grow(delta().text(key, piece)));
            }
            _ => {}
        }
    }
    send(out, "content_block_stop", |event| event.number("index", index));
}

fn send(out: &mut Vec<u8>, name: &str, members: impl FnOnce(Object) -> Object) {
    named_event(out, name, &members(Object::default().text("type", name)).end());
}
