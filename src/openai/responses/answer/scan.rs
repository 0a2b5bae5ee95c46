//! Where the texts of a response stand: in its items and their parts, in events that grow them and in those that
//! repeat them.

use std::ops::Range;

use crate::answer::content::{AnswerContent, AnswerStep, Channel, ContentScanner, TextId};
use crate::json::object::{non_null_member, number_member, string_member, string_value};

/// How the names of events end that repeat what others have said.
const REPEATS: [&str; 4] = [".done", ".completed", ".incomplete", ".failed"];

/// Reads one event.
pub(super) fn event(data: &[u8]) -> AnswerContent {
    let mut scanner = ContentScanner::new(data);
    let kind = string_member(data, "type").unwrap_or_default();
    let whole = 0..data.len();
    let output = scanner.number(&whole, "output_index").unwrap_or(0);
    let part = ["content_index", "summary_index"].iter().find_map(|name| scanner.number(&whole, name));
    let part = part.unwrap_or(0);
    if let Some(number) = number_member(data, "sequence_number") {
        scanner.step(AnswerStep::Number(number));
    }
    if let Some(step) = step(data, &kind, output, part) {
        scanner.step(step);
    }
    let is_repeat = REPEATS.iter().any(|end| kind.ends_with(end));
    let id = TextId { choice: output, channel: channel_of(&kind), part };
    for item in scanner.members(0) {
        let span = item.value.clone();
        match &*scanner.key(&item) {
            "delta" | "text" | "refusal" | "arguments" | "input" | "code" if is_string(&scanner, &span) => {
                scanner.text(id, span, is_repeat);
            }
            "part" => read_part(&mut scanner, id, span.start, is_repeat),
            "item" => read_item(&mut scanner, output, span.start, is_repeat),
            "response" => read_output(&mut scanner, span.start, is_repeat),
            "logprobs" => derived_list(&mut scanner, output, span),
            key => scanner.unknown(output, key, span),
        }
    }
    scanner.content
}

/// Returns how far an event brings the response.
fn step(data: &[u8], kind: &str, output: u32, part: u32) -> Option<AnswerStep> {
    let raw = |name| non_null_member(data, name).unwrap_or(b"{}").to_vec();
    Some(match kind {
        "response.created" => AnswerStep::Begun(raw("response")),
        "response.output_item.added" => AnswerStep::ItemOpen(output, raw("item")),
        "response.output_item.done" => AnswerStep::ItemClosed(output),
        "response.content_part.added" => AnswerStep::PartOpen(output, part),
        "response.content_part.done" => AnswerStep::PartClosed(output, part),
        "response.completed" | "response.incomplete" | "response.failed" => AnswerStep::Over,
        _ => return None,
    })
}

fn is_string(scanner: &ContentScanner<'_>, span: &Range<usize>) -> bool {
    scanner.value(span).starts_with(b"\"")
}

/// Reads the items of a response that starts at `at`, and why it failed; the rest repeats the request.
pub(super) fn read_output(scanner: &mut ContentScanner<'_>, at: usize, is_repeat: bool) {
    if let Some(error) = scanner.named(at, "error") {
        scanner.unknown(0, "error", error);
    }
    let output = scanner.named(at, "output").map(|output| scanner.elements(output.start));
    for (index, item) in output.into_iter().flatten().enumerate() {
        read_item(scanner, index as u32, item.start, is_repeat);
    }
}

fn read_item(scanner: &mut ContentScanner<'_>, output: u32, at: usize, is_repeat: bool) {
    let id = |channel, part| TextId { choice: output, channel, part };
    for item in scanner.members(at) {
        let span = item.value.clone();
        let key = scanner.key(&item);
        match &*key {
            "arguments" if is_string(scanner, &span) => {
                scanner.text(id(Channel::Arguments, 0), span, is_repeat);
            }
            "input" if is_string(scanner, &span) => scanner.text(id(Channel::Input, 0), span, is_repeat),
            "code" if is_string(scanner, &span) => scanner.text(id(Channel::Other, 0), span, is_repeat),
            "content" | "summary" if scanner.value(&span).starts_with(b"[") => {
                for (index, part) in scanner.elements(span.start).into_iter().enumerate() {
                    read_part(scanner, id(Channel::Content, index as u32), part.start, is_repeat);
                }
            }
            // An image, in base64.
            "result" if is_string(scanner, &span) => {}
            _ => scanner.unknown(output, &key, span),
        }
    }
}

/// Reads a part of an item, whose own type says which channel its text is of.
fn read_part(scanner: &mut ContentScanner<'_>, id: TextId, at: usize, is_repeat: bool) {
    let kind = scanner.named(at, "type").and_then(|span| string_value(scanner.value(&span)));
    let channel = kind.map_or(Channel::Content, |kind| channel_of(&kind));
    scanner.texts(at, "text", TextId { channel, ..id }, is_repeat);
    scanner.texts(at, "refusal", TextId { channel: Channel::Refusal, ..id }, is_repeat);
    if let Some(span) = scanner.named(at, "logprobs") {
        derived_list(scanner, id.choice, span);
    }
    scanner.rest(id.choice, at, &["text", "refusal", "logprobs"]);
}

fn derived_list(scanner: &mut ContentScanner<'_>, choice: u32, span: Range<usize>) {
    if scanner.value(&span).starts_with(b"[") {
        scanner.derived(choice, span, b"[]");
    }
}

/// Finds the kind of text in an event's or a part's name.
fn channel_of(kind: &str) -> Channel {
    let kinds = [
        ("output_text", Channel::Content),
        ("refusal", Channel::Refusal),
        ("summary", Channel::Summary),
        ("reasoning", Channel::Reasoning),
        ("arguments", Channel::Arguments),
        ("custom_tool_call_input", Channel::Input),
    ];
    kinds.iter().find(|(name, _)| kind.contains(name)).map_or(Channel::Other, |(_, channel)| *channel)
}
