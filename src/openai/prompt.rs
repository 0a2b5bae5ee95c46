//! What a request is about: the text to classify, found in whichever shape its API has.
//!
//! Refuses to judge: odd shapes are no error here, they have no text. Works on bytes that are known to be
//! JSON.

use std::borrow::Cow;

use super::json;
use super::json::string::decode;
use super::message::{ContentPart, InputMessage, Role, parts};

/// How much text is returned, in bytes. Classifiers read less, but of both ends: a question may stand after its matter.
pub(super) const MAX_TEXT: usize = 1024 * 1024;

/// Returns the text of `messages`, `prompt` or `input`: a string, strings, or the last user message that has
/// text, failing that the last message that has any.
pub(super) fn text(value: &[u8]) -> Cow<'_, str> {
    if let Some(inside) = json::string(value) {
        return decode(inside, MAX_TEXT);
    }
    let (mut by_user, mut by_anyone) = (None, None);
    for element in json::array(value).filter(|element| element.starts_with(b"{")) {
        let message = InputMessage::read(element);
        if message.content.is_some_and(has_text) {
            by_anyone = message.content;
            if message.role == Role::User {
                by_user = message.content;
            }
        }
    }
    let strings = || joined(json::array(value).filter_map(json::string));
    by_user.or(by_anyone).map_or_else(strings, content_text)
}

fn has_text(content: &[u8]) -> bool {
    json::string(content).is_some_and(|inside| !inside.is_empty())
        || parts(content).filter_map(ContentPart::text).any(|inside| !inside.is_empty())
}

/// Decodes a message's `content`: a string, or parts whose texts are joined by line ends.
fn content_text(content: &[u8]) -> Cow<'_, str> {
    match json::string(content) {
        Some(inside) => decode(inside, MAX_TEXT),
        None => joined(parts(content).filter_map(ContentPart::text)),
    }
}

/// Decodes strings and joins them by line ends, at most [`MAX_TEXT`] bytes of them; a string after nothing but
/// empty ones is not set off.
pub(super) fn joined<'a>(insides: impl Iterator<Item = &'a [u8]>) -> Cow<'a, str> {
    let mut text = Cow::Borrowed("");
    for inside in insides {
        if text.is_empty() {
            text = decode(inside, MAX_TEXT);
            continue;
        }
        let text = text.to_mut();
        if text.len() >= MAX_TEXT {
            break;
        }
        text.push('\n');
        text.push_str(&decode(inside, MAX_TEXT - text.len()));
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
