//! Where the texts of choices stand, in an event and in a whole answer alike.

use std::ops::Range;

use crate::answer::content::{AnswerContent, AnswerStep, Channel, ContentScanner, NO_TEXTS, TextId};
use crate::json::object::non_null_member;
use crate::json::quoted;

/// The members of a text's part that are text.
const PART_TEXTS: [&str; 4] = ["text", "thinking", "summary", "content"];

/// How deep a text's parts are looked for.
const DEEPEST: u32 = 4;

/// Reads every choice, and what stands beside them.
pub(crate) fn scan(data: &[u8]) -> AnswerContent {
    let mut scanner = ContentScanner::new(data);
    let choices = scanner.named(0, "choices").map(|choices| scanner.elements(choices.start));
    for (order, choice) in choices.into_iter().flatten().enumerate() {
        read_choice(&mut scanner, order as u32, &choice);
    }
    scanner.rest(0, 0, &["choices"]);
    scanner.content
}

fn read_choice(scanner: &mut ContentScanner<'_>, order: u32, choice: &Range<usize>) {
    let index = scanner.number(choice, "index").unwrap_or(order);
    for item in scanner.members(choice.start) {
        let is_null = scanner.value(&item.value) == b"null";
        match &*scanner.key(&item) {
            "delta" | "message" => read_message(scanner, index, item.value.start),
            "text" => {
                let id = TextId { choice: index, channel: Channel::Content, part: 0 };
                scanner.text(id, item.value, false);
            }
            "logprobs" | "token_ids" if !is_null => scanner.derived(index, item.value, b"null"),
            "finish_reason" => scanner.content.ends.push((item.value, |finish| quoted(finish.name()))),
            key => scanner.unknown(index, key, item.value),
        }
    }
    let is_over = non_null_member(scanner.value(choice), "finish_reason").is_some();
    scanner.step(AnswerStep::Choice { index, is_over });
}

/// Reads a chat message or a piece of one.
fn read_message(scanner: &mut ContentScanner<'_>, choice: u32, at: usize) {
    let id = |channel, part| TextId { choice, channel, part };
    for item in scanner.members(at) {
        let span = item.value.clone();
        match &*scanner.key(&item) {
            "content" => read_parts(scanner, id(Channel::Content, 0), span, 0),
            "reasoning_content" => scanner.text(id(Channel::Reasoning, 0), span, false),
            // Some servers say the same under both names, and two texts must not become one.
            "reasoning" => scanner.text(id(Channel::Reasoning, 1), span, false),
            "refusal" => scanner.text(id(Channel::Refusal, 0), span, false),
            "role" => {}
            "tool_calls" => {
                for (order, call) in scanner.elements(span.start).into_iter().enumerate() {
                    let index = scanner.number(&call, "index").unwrap_or(order as u32);
                    read_call(scanner, id(Channel::Arguments, index), &call);
                }
            }
            "function_call" => scanner.texts(span.start, "arguments", id(Channel::Arguments, 0), false),
            // Sound, with what is said in it.
            "audio" => {
                scanner.texts(span.start, "transcript", id(Channel::Other, 1), false);
                scanner.rest(choice, span.start, &["transcript", "data"]);
            }
            "annotations" => scanner.strings(choice, span, &NO_TEXTS),
            _ => read_parts(scanner, id(Channel::Other, 0), span, 0),
        }
    }
}

/// Reads a call of a function, whose arguments are JSON, or of a custom tool, whose input is any text.
fn read_call(scanner: &mut ContentScanner<'_>, arguments: TextId, call: &Range<usize>) {
    let input = TextId { channel: Channel::Input, ..arguments };
    for (key, member, id) in [("function", "arguments", arguments), ("custom", "input", input)] {
        if let Some(called) = scanner.named(call.start, key) {
            scanner.texts(called.start, member, id, false);
            scanner.rest(arguments.choice, called.start, &[member]);
        }
    }
    scanner.rest(arguments.choice, call.start, &["function", "custom"]);
}

/// Reads a text, or the texts in the parts of one.
fn read_parts(scanner: &mut ContentScanner<'_>, id: TextId, span: Range<usize>, depth: u32) {
    match scanner.value(&span).first() {
        Some(b'"') => scanner.text(id, span, false),
        Some(b'[' | b'{') if depth >= DEEPEST => scanner.strings(id.choice, span, &NO_TEXTS),
        Some(b'[') => {
            for part in scanner.elements(span.start) {
                read_parts(scanner, id, part, depth + 1);
            }
        }
        Some(b'{') => {
            for item in scanner.members(span.start) {
                let is_string = scanner.value(&item.value).starts_with(b"\"");
                if !is_string || PART_TEXTS.iter().any(|name| scanner.is_named(&item, name)) {
                    read_parts(scanner, id, item.value, depth + 1);
                } else {
                    let key = scanner.key(&item);
                    scanner.unknown(id.choice, &key, item.value);
                }
            }
        }
        _ => {}
    }
}
