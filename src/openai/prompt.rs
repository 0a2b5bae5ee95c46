//! What a request is about: the text to classify, found in whichever shape its API has.
//!
//! Refuses to judge: odd shapes are no error here, they have no text. Works on bytes that are known to be
//! JSON.

use std::borrow::Cow;

use super::json;
use super::unescape::{spells, text as decoded};

/// How much text is returned, in bytes. Classifiers read less, but of both ends: a question may stand after its matter.
pub(super) const MAX_TEXT: usize = 1024 * 1024;

/// Returns the text of `messages`, `prompt` or `input`: a string, strings, or the last user message that has
/// text, failing that the last message that has any.
pub(super) fn text(value: &[u8]) -> Cow<'_, str> {
    if let Some(inside) = string(value) {
        return decoded(inside, MAX_TEXT);
    }
    let (mut by_user, mut by_anyone) = (None, None);
    for element in elements(value) {
        if !element.starts_with(b"{") {
            continue;
        }
        let message = Message::read(element);
        if message.content.is_some_and(has_text) {
            by_anyone = message.content;
            if message.is_users {
                by_user = message.content;
            }
        }
    }
    by_user.or(by_anyone).map_or_else(|| Cow::Owned(strings(value)), content_text)
}

#[derive(Default)]
struct Message<'a> {
    content: Option<&'a [u8]>,
    is_users: bool,
}

impl<'a> Message<'a> {
    fn read(object: &'a [u8]) -> Self {
        let mut message = Self::default();
        for item in json::members(object, 0).map_while(Result::ok) {
            let (key, value) = (&object[item.key], &object[item.value]);
            if spells(key, "content") {
                message.content = Some(value);
            } else if spells(key, "role") {
                message.is_users = string(value).is_some_and(|role| spells(role, "user"));
            }
        }
        message
    }
}

fn string(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let items = value.starts_with(b"[").then(|| json::elements(value, 0));
    items.into_iter().flatten().map_while(Result::ok).map(|item| &value[item.value])
}

fn has_text(content: &[u8]) -> bool {
    string(content).is_some_and(|inside| !inside.is_empty())
        || elements(content).filter_map(part_text).any(|inside| !inside.is_empty())
}

/// Decodes a message's `content`: a string, or parts whose texts are joined by line ends.
fn content_text(content: &[u8]) -> Cow<'_, str> {
    match string(content) {
        Some(inside) => decoded(inside, MAX_TEXT),
        None => Cow::Owned(joined(elements(content).filter_map(part_text))),
    }
}

/// Finds the text of a part, which some servers also take as a bare string.
fn part_text(part: &[u8]) -> Option<&[u8]> {
    if !part.starts_with(b"{") {
        return string(part);
    }
    let kind = json::member(part, "type").and_then(string)?;
    let known = ["text", "input_text", "output_text"].iter().any(|known| spells(kind, known));
    if known { json::member(part, "text").and_then(string) } else { None }
}

/// Joins the strings of an array.
fn strings(value: &[u8]) -> String {
    joined(elements(value).filter_map(string))
}

fn joined<'a>(insides: impl Iterator<Item = &'a [u8]>) -> String {
    let mut text = String::new();
    for inside in insides {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&decoded(inside, MAX_TEXT.saturating_sub(text.len())));
        if text.len() >= MAX_TEXT {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::ChatRequest;
    use super::*;

    fn prompt_of(rest: &str) -> String {
        let body = Bytes::from(format!("{{\"model\":\"m\",{rest}}}"));
        ChatRequest::parse(body).unwrap().prompt_text().into_owned()
    }

    #[test]
    fn the_last_user_message_is_what_counts() {
        let messages = r#""messages":[{"role":"system","content":"be brief"},{"content":"first","role":"user"},
            {"role":"assistant","content":"ok"},{"role":"user","name":"x","content":"2+2 \u0069s"},
            {"role":"assistant","content":"4"}]"#;
        assert_eq!(prompt_of(messages), "2+2 is");
        assert_eq!(
            prompt_of(r#""messages":[{"role":"system","content":"a"},{"role":"tool","content":"b"}]"#),
            "b"
        );
    }

    #[test]
    fn parts_are_joined_and_those_without_text_left_out() {
        let parts = r#""messages":[{"role":"user","content":[{"type":"text","text":"look"},
            {"type":"image_url","image_url":{"url":"data:"},"text":"no"},{"type":"input_text","text":"here"},"bare"]}]"#;
        assert_eq!(prompt_of(parts), "look\nhere\nbare");
    }

    #[test]
    fn a_message_without_text_does_not_hide_the_one_before() {
        let messages = r#""messages":[{"role":"user","content":"prove it"},{"role":"assistant","content":null},
            {"role":"user","content":[{"type":"tool_result","content":"42"}]}]"#;
        assert_eq!(prompt_of(messages), "prove it");
    }

    #[test]
    fn completions_embeddings_responses_and_reranking_have_their_own_places() {
        assert_eq!(prompt_of(r#""prompt":"once""#), "once");
        assert_eq!(prompt_of(r#""prompt":["once","upon"]"#), "once\nupon");
        assert_eq!(prompt_of(r#""prompt":[1,2,3]"#), "");
        assert_eq!(prompt_of(r#""input":"a","instructions":"b""#), "a");
        let items = r#""input":[{"role":"user","content":[{"type":"input_text","text":"why"}]},
            {"type":"function_call_output","output":"x"}]"#;
        assert_eq!(prompt_of(items), "why");
        assert_eq!(prompt_of(r#""query":"q","documents":["d"]"#), "q");
    }

    #[test]
    fn odd_shapes_have_no_text() {
        for odd in [
            "{}",
            "null",
            "1",
            "[]",
            "[[]]",
            "[null]",
            r#"[{"role":1}]"#,
            r#"[{"content":{"text":"a"}}]"#,
            "\"\"",
        ] {
            assert_eq!(prompt_of(&format!("\"messages\":{odd}")), "", "{odd}");
        }
        assert_eq!(prompt_of("\"x\":1"), "");
    }

    #[test]
    fn text_is_bounded_at_a_character() {
        let long = "é".repeat(MAX_TEXT);
        let whole = prompt_of(&format!("\"prompt\":\"x{long}\""));
        assert_eq!(whole.len(), MAX_TEXT - 1);
        let parts = prompt_of(&format!("\"prompt\":[\"{long}\",\"{long}\"]"));
        assert_eq!(parts.len(), MAX_TEXT);
        assert!(prompt_of(&format!("\"prompt\":[\"x{long}\",\"b\",\"c\"]")).len() <= MAX_TEXT);
    }
}
