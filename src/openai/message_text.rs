//! The texts of a request that guards and signals read: those of its messages, each joined from its segments.
//!
//! Owns which those are: system prompts, messages, tools' results, prompts, inputs, queries and documents as strings;
//! of the other segments none. Owns which of them is the prompt.

use std::borrow::Cow;

use super::ChatRequest;
use super::message::Role;

/// How many texts are returned: the last ones, and the prompt in any case.
pub const MAX_MESSAGE_TEXTS: usize = 1024;

/// How much of a text is returned, in bytes. Classifiers read less, but of both ends: a question may stand after its
/// matter.
pub(super) const MAX_TEXT: usize = 1024 * 1024;

/// One text of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageText<'a> {
    /// Its author.
    pub role: Role,
    /// The text, at most 1 MiB; the texts of several parts are joined by line ends.
    pub text: Cow<'a, str>,
    /// Whether it is what [`ChatRequest::prompt_text`] returns.
    pub is_prompt: bool,
}

impl ChatRequest {
    /// Returns what is to be classified, at most 1 MiB: the last user message that has text, or the prompt,
    /// the input or the query; empty if there is none.
    pub fn prompt_text(&self) -> Cow<'_, str> {
        self.texts().prompt.map_or(Cow::Borrowed(""), |message| self.message_text(message))
    }

    /// Returns the texts of the request: system prompts outside of the messages, then the rest in its order; of more
    /// than [`MAX_MESSAGE_TEXTS`] the last ones and the prompt.
    pub fn message_texts(&self) -> Vec<MessageText<'_>> {
        let prompt = self.texts().prompt;
        let text = |message: usize| MessageText {
            role: self.texts().messages[message].role,
            text: self.message_text(message),
            is_prompt: prompt == Some(message),
        };
        self.text_messages().into_iter().map(text).collect()
    }

    /// Returns the messages of [`Self::message_texts`], in the same order.
    pub(super) fn text_messages(&self) -> Vec<usize> {
        let texts = self.texts();
        let mut list: Vec<usize> =
            (0..texts.messages.len()).filter(|message| texts.messages[*message].has_text).collect();
        let first = list.len().saturating_sub(MAX_MESSAGE_TEXTS);
        if let Some(prompt) = list[..first].iter().position(|message| texts.prompt == Some(*message)) {
            list.swap(prompt, first);
        }
        list.drain(..first);
        list
    }

    /// Joins the strings of a message's own text.
    pub(super) fn message_text(&self, message: usize) -> Cow<'_, str> {
        joined(self.message_segments(message).map(|segment| Cow::Borrowed(segment.text())))
    }
}

/// Joins strings by line ends, at most [`MAX_TEXT`] bytes of them; a string after nothing but empty ones is not set
/// off.
pub(super) fn joined<'a>(strings: impl Iterator<Item = Cow<'a, str>>) -> Cow<'a, str> {
    let mut text = Cow::Borrowed("");
    for string in strings {
        if text.is_empty() {
            text = string;
            let end = text.floor_char_boundary(MAX_TEXT);
            match &mut text {
                Cow::Borrowed(text) => *text = &text[..end],
                Cow::Owned(text) => text.truncate(end),
            }
            continue;
        }
        let text = text.to_mut();
        if text.len() >= MAX_TEXT {
            break;
        }
        text.push('\n');
        text.push_str(&string[..string.floor_char_boundary(MAX_TEXT - text.len())]);
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn request(rest: &str) -> ChatRequest {
        ChatRequest::parse(Bytes::from(format!("{{\"model\":\"m\",{rest}}}"))).unwrap()
    }

    /// Each one's role and text, the prompt's with a star.
    fn texts(rest: &str) -> Vec<(Role, String)> {
        let star = |is_prompt: bool| if is_prompt { "*" } else { "" };
        let request = request(rest);
        let message_texts = request.message_texts().into_iter();
        message_texts.map(|one| (one.role, format!("{}{}", star(one.is_prompt), one.text))).collect()
    }

    fn expected(list: &[(Role, &str)]) -> Vec<(Role, String)> {
        list.iter().map(|(role, text)| (*role, (*text).to_owned())).collect()
    }

    #[test]
    fn a_chat_has_its_texts_in_order() {
        let chat = r#""messages":[{"role":"system","content":"be br\u0069ef"},{"content":"one","role":"user"},
            {"role":"assistant","content":null,"tool_calls":[{"function":{"arguments":"{}"}}]},
            {"role":"tool","content":[{"type":"text","text":"4"},{"type":"text","text":"2"}]},
            {"role":"user","content":[{"type":"text","text":"two"},{"type":"image_url"},{"type":"text","text":"three"}]},
            {"role":"assistant","content":""},{"content":"who?"}]"#;
        assert_eq!(
            texts(chat),
            expected(&[
                (Role::System, "be brief"),
                (Role::User, "one"),
                (Role::Tool, "4\n2"),
                (Role::User, "*two\nthree"),
                (Role::Other, "who?"),
            ])
        );
    }

    #[test]
    fn responses_and_anthropics_messages_are_read_too() {
        let responses = r#""input":[{"role":"developer","content":"a"},{"role":"user","content":[{"type":"input_text","text":"b"}]},
            {"type":"function_call","arguments":"{}"},{"type":"function_call_output","output":"c"}],"instructions":"d""#;
        assert_eq!(
            texts(responses),
            expected(&[(Role::System, "d"), (Role::System, "a"), (Role::User, "*b"), (Role::Tool, "c")])
        );
        let messages = r#""system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":"b"},
            {"role":"assistant","content":[{"type":"tool_use","input":{}}]},
            {"role":"user","content":[{"type":"text","text":"d"},{"type":"tool_result","content":[{"type":"text","text":"c"}]}]}]"#;
        assert_eq!(
            texts(messages),
            expected(&[(Role::System, "a"), (Role::User, "b"), (Role::Tool, "c"), (Role::User, "*d")])
        );
    }

    #[test]
    fn texts_beside_the_prompt_member_are_read_but_are_no_prompt() {
        assert_eq!(texts(r#""prompt":["a","b"]"#), expected(&[(Role::User, "*a\nb")]));
        assert_eq!(
            texts(r#""documents":["b","c"],"query":"a""#),
            expected(&[(Role::User, "*a"), (Role::User, "b\nc")])
        );
        assert_eq!(
            texts(r#""messages":[{"role":"user","content":"a"}],"prompt":"b""#),
            expected(&[(Role::User, "*a"), (Role::User, "b")])
        );
        assert_eq!(texts(r#""prompt":{"id":"x"},"input":"a""#), expected(&[(Role::User, "*a")]));
        assert_eq!(texts(r#""prompt":[1,2]"#), expected(&[]));
    }

    #[test]
    fn of_many_texts_the_last_and_the_prompt_are_kept() {
        let later = |count: usize| {
            let later =
                (0..count).map(|index| format!(",{{\"role\":\"assistant\",\"content\":\"{index}\"}}"));
            format!("\"messages\":[{{\"role\":\"user\",\"content\":\"q\"}}{}]", later.collect::<String>())
        };
        for count in [MAX_MESSAGE_TEXTS - 1, MAX_MESSAGE_TEXTS, MAX_MESSAGE_TEXTS + 5] {
            let request = request(&later(count));
            let message_texts = request.message_texts();
            assert_eq!(message_texts.len(), MAX_MESSAGE_TEXTS);
            assert!(message_texts[0].is_prompt && message_texts[0].text == "q");
            assert_eq!(message_texts[1].text, (count - (MAX_MESSAGE_TEXTS - 1)).to_string());
            assert_eq!(message_texts[MAX_MESSAGE_TEXTS - 1].text, (count - 1).to_string());
        }
    }

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

    fn any_content() -> impl Strategy<Value = String> {
        let string = ".{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap());
        let part = prop_oneof![
            string.clone(),
            (prop::sample::select(vec!["text", "input_text", "image_url", "tool_result"]), string.clone())
                .prop_map(|(kind, text)| format!(
                    "{{\"type\":\"{kind}\",\"text\":{text},\"content\":{text}}}"
                )),
            Just("null".to_owned()),
        ];
        let parts = prop::collection::vec(part, 0..4).prop_map(|parts| format!("[{}]", parts.join(",")));
        prop_oneof![string, parts, Just("null".to_owned())]
    }

    fn any_value() -> impl Strategy<Value = String> {
        let role = prop::sample::select(vec!["system", "user", "assistant", "tool", "x"]);
        let message = (role, any_content())
            .prop_map(|(role, content)| format!("{{\"role\":\"{role}\",\"content\":{content}}}"));
        let elements = prop::collection::vec(prop_oneof![4 => message, 1 => any_content()], 0..6);
        prop_oneof![any_content(), elements.prop_map(|elements| format!("[{}]", elements.join(",")))]
    }

    proptest! {
        #[test]
        fn the_prompt_is_the_text_that_is_classified(
            name in prop::sample::select(vec!["messages", "prompt", "input", "query", "text_1"]),
            value in any_value(), other in any_value(),
        ) {
            let request = request(&format!("\"{name}\":{value},\"text_2\":{other},\"system\":{other}"));
            let message_texts = request.message_texts();
            let prompts: Vec<_> = message_texts.iter().filter(|one| one.is_prompt).collect();
            prop_assert!(prompts.len() <= 1);
            prop_assert_eq!(request.prompt_text(), prompts.first().map_or("", |one| &*one.text));
            prop_assert!(message_texts.iter().all(|one| !one.text.is_empty()));
        }
    }
}
