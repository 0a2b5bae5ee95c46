//! Where the texts of a message stand: in its blocks, whole or as they grow.

use std::ops::Range;

use crate::answer::content::{AnswerContent, AnswerStep, Channel, ContentScanner, TextId};
use crate::json::object::{non_null_member, string_member};

/// Reads one event.
pub(super) fn event(data: &[u8]) -> AnswerContent {
    let mut scanner = ContentScanner::new(data);
    let index = scanner.number(&(0..data.len()), "index").unwrap_or(0);
    let kind = string_member(data, "type");
    match kind.as_deref() {
        Some("message_start") => {
            let message = non_null_member(data, "message").unwrap_or(b"{}");
            scanner.step(AnswerStep::Begun(message.to_vec()));
            if let Some(message) = scanner.named(0, "message") {
                blocks(&mut scanner, message.start);
            }
        }
        Some("content_block_start") => {
            scanner.step(AnswerStep::BlockOpen(index));
            let begun = scanner.named(0, "content_block");
            block(&mut scanner, index, begun);
        }
        Some("content_block_delta") => {
            let delta = scanner.named(0, "delta");
            block(&mut scanner, index, delta);
        }
        Some("content_block_stop") => scanner.step(AnswerStep::BlockClosed(index)),
        Some("message_stop") => scanner.step(AnswerStep::Over),
        _ => {}
    }
    let known: &[&str] = match kind.as_deref() {
        Some("message_start") => &["message"],
        Some("content_block_start") => &["content_block"],
        Some("content_block_delta" | "message_delta") => &["delta"],
        _ => &[],
    };
    scanner.rest(0, 0, known);
    scanner.content
}

/// Reads the blocks of a message that starts at `at`.
pub(super) fn blocks(scanner: &mut ContentScanner<'_>, at: usize) {
    let content = scanner.named(at, "content").map(|content| scanner.elements(content.start));
    for (index, span) in content.into_iter().flatten().enumerate() {
        block(scanner, index as u32, Some(span));
    }
}

/// Reads a block, or a piece of one.
fn block(scanner: &mut ContentScanner<'_>, part: u32, span: Option<Range<usize>>) {
    let Some(span) = span else { return };
    for item in scanner.members(span.start) {
        let channel = match &*scanner.key(&item) {
            "text" => Channel::Content,
            "thinking" => Channel::Reasoning,
            "partial_json" => Channel::Arguments,
            // The model names the members of a tool's input itself.
            "input" => {
                scanner.strings(0, item.value, &[]);
                continue;
            }
            // What was thought, encrypted.
            "data" => continue,
            key => {
                scanner.unknown(0, key, item.value);
                continue;
            }
        };
        scanner.text(TextId { choice: 0, channel, part }, item.value, false);
    }
}
