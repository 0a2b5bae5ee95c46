//! The stream of `/v1/responses`: a response in progress, its items and their texts, the response once more.
//!
//! Refuses to know other dialects.

use crate::json::object::{Object, elements, entries, non_null_member, string_member};
use crate::sse::named_event;

use crate::answer::replay_stream::pieces;

/// A stream under construction; every event has a number.
#[derive(Debug, Default)]
pub(super) struct EventSequence {
    pub(super) out: Vec<u8>,
    /// The number of the next event.
    pub(super) next: u64,
}

/// What an event is about: an item, and perhaps a part of it.
#[derive(Debug)]
pub(super) struct EventSubject<'a> {
    pub(super) id: &'a str,
    /// The item's index.
    pub(super) output: u64,
    /// What the part's index is called, and the index.
    pub(super) part: Option<(&'static str, u64)>,
}

/// Writes a response as a stream.
pub(super) fn write(response: &[u8]) -> Option<Vec<u8>> {
    let output = non_null_member(response, "output").filter(|output| output.starts_with(b"["))?;
    let mut sequence = EventSequence::default();
    let mut begun = Object::default();
    for (key, value) in entries(response) {
        begun = match &*key {
            "status" => begun.text("status", "in_progress"),
            "output" => begun.raw("output", b"[]"),
            "usage" | "incomplete_details" | "error" => begun.raw(&key, b"null"),
            key => begun.raw(key, value),
        };
    }
    let begun = begun.end();
    for name in ["response.created", "response.in_progress"] {
        sequence.send(name, |event| event.raw("response", &begun));
    }
    for (index, item) in elements(output).enumerate() {
        sequence.item(index as u64, item);
    }
    let last = match string_member(response, "status").as_deref() {
        Some("incomplete") => "response.incomplete",
        Some("failed") => "response.failed",
        _ => "response.completed",
    };
    sequence.send(last, |event| event.raw("response", response));
    Some(sequence.out)
}

impl EventSequence {
    /// Writes one event.
    pub(super) fn send(&mut self, name: &str, members: impl FnOnce(Object) -> Object) {
        let event = Object::default().text("type", name).number("sequence_number", self.next);
        self.next += 1;
        named_event(&mut self.out, name, &members(event).end());
    }

    /// Writes every event of a finished item.
    pub(super) fn item(&mut self, index: u64, item: &[u8]) {
        let mut begun = Object::default();
        for (key, value) in entries(item) {
            begun = match (&*key, value.first()) {
                ("status", _) => begun.text("status", "in_progress"),
                ("content" | "summary", Some(b'[')) => begun.raw(&key, b"[]"),
                ("arguments" | "input", Some(b'"')) => begun.text(&key, ""),
                (key, _) => begun.raw(key, value),
            };
        }
        let begun = begun.end();
        self.send("response.output_item.added", |event| {
            event.number("output_index", index).raw("item", &begun)
        });
        let id = string_member(item, "id").unwrap_or_default();
        let mut about = EventSubject { id: &id, output: index, part: None };
        match string_member(item, "type").as_deref() {
            Some("function_call") => self.text(&about, "response.function_call_arguments", item, "arguments"),
            Some("custom_tool_call") => self.text(&about, "response.custom_tool_call_input", item, "input"),
            _ => {}
        }
        for (key, name) in [("summary", "summary_index"), ("content", "content_index")] {
            let parts = non_null_member(item, key).into_iter().flat_map(elements);
            for (place, part) in parts.enumerate() {
                about.part = Some((name, place as u64));
                self.part(&about, part);
            }
        }
        self.send("response.output_item.done", |event| event.number("output_index", index).raw("item", item));
    }

    fn part(&mut self, about: &EventSubject<'_>, part: &[u8]) {
        let (prefix, text, key) = match string_member(part, "type").as_deref() {
            Some("output_text") => ("response.content_part", "response.output_text", "text"),
            Some("refusal") => ("response.content_part", "response.refusal", "refusal"),
            Some("reasoning_text") => ("response.content_part", "response.reasoning_text", "text"),
            Some("summary_text") => {
                ("response.reasoning_summary_part", "response.reasoning_summary_text", "text")
            }
            _ => return,
        };
        let mut begun = Object::default();
        for (name, value) in entries(part) {
            begun = match value.first() {
                _ if name == key => begun.text(&name, ""),
                Some(b'[') => begun.raw(&name, b"[]"),
                _ => begun.raw(&name, value),
            };
        }
        let begun = begun.end();
        self.send(&format!("{prefix}.added"), |event| about.write(event).raw("part", &begun));
        self.text(about, text, part, key);
        self.send(&format!("{prefix}.done"), |event| about.write(event).raw("part", part));
    }

    fn text(&mut self, about: &EventSubject<'_>, name: &str, of: &[u8], key: &str) {
        let said = string_member(of, key).unwrap_or_default();
        let has_logprobs = name == "response.output_text";
        let end = |event: Object| if has_logprobs { event.raw("logprobs", b"[]") } else { event };
        for piece in pieces(&said) {
            self.send(&format!("{name}.delta"), |event| end(about.write(event).text("delta", piece)));
        }
        self.send(&format!("{name}.done"), |event| end(about.write(event).text(key, &said)));
    }
}

impl EventSubject<'_> {
    /// Adds to an event what it is about.
    pub(super) fn write(&self, event: Object) -> Object {
        let event = event.text("item_id", self.id).number("output_index", self.output);
        match self.part {
            Some((name, place)) => event.number(name, place),
            None => event,
        }
    }
}
