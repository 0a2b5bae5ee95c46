//! The texts of a request that guards and signals read, with roles and the strings that hold them.
//!
//! Owns which those are: system prompts, messages, tools' results, prompts, inputs, queries and documents;
//! arguments of tool calls and files do not. Refuses to judge and to change any of it.

use std::borrow::Cow;

use super::message::{ContentPart, InputMessage, ItemKind, Role, parts};
use super::{ChatRequest, json, prompt};

/// How many texts are returned: the last ones, and the prompt in any case.
pub const MAX_MESSAGE_TEXTS: usize = 1024;

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

/// The strings of the body that make up one text; at least one of them is not empty.
pub(super) struct MessageStrings<'a> {
    pub(super) role: Role,
    /// The bytes between the strings' quotes.
    pub(super) strings: Vec<&'a [u8]>,
    pub(super) is_prompt: bool,
}

impl<'a> MessageStrings<'a> {
    fn message_text(self) -> MessageText<'a> {
        let text = prompt::joined(self.strings.into_iter());
        MessageText { role: self.role, text, is_prompt: self.is_prompt }
    }
}

impl ChatRequest {
    /// Returns the texts of the request: system prompts outside of the messages, then the rest in its order; of more than
    /// [`MAX_MESSAGE_TEXTS`] the last ones and the prompt.
    pub fn message_texts(&self) -> Vec<MessageText<'_>> {
        self.message_strings().into_iter().map(MessageStrings::message_text).collect()
    }

    /// Returns the strings of the message texts, in the same order.
    pub(super) fn message_strings(&self) -> Vec<MessageStrings<'_>> {
        let mut list = Vec::new();
        for member in ["instructions", "system"].iter().filter_map(|name| self.member(name)) {
            content(&mut list, Role::System, member);
        }
        for (index, value) in self.prompt_values().enumerate() {
            let prompt = array_or_string(&mut list, value).filter(|_| index == 0);
            if let Some(prompt) = prompt {
                list[prompt].is_prompt = true;
            }
        }
        for beside in ["documents", "text_2"].iter().filter_map(|name| self.member(name)) {
            array_or_string(&mut list, beside);
        }
        bounded(list)
    }
}

/// Keeps the last texts, and the prompt in the place of the first of them if it comes before.
fn bounded(mut list: Vec<MessageStrings<'_>>) -> Vec<MessageStrings<'_>> {
    let first = list.len().saturating_sub(MAX_MESSAGE_TEXTS);
    if let Some(prompt) = list[..first].iter().position(|list| list.is_prompt) {
        list.swap(prompt, first);
    }
    list.drain(..first);
    list
}

/// Takes down a string, strings or messages, and returns which of it is the prompt.
fn array_or_string<'a>(list: &mut Vec<MessageStrings<'a>>, value: &'a [u8]) -> Option<usize> {
    if json::string(value).is_some() {
        return content(list, Role::User, value);
    }
    let (mut by_user, mut by_anyone) = (None, None);
    for element in json::array(value).filter(|element| element.starts_with(b"{")) {
        let message = InputMessage::read(element);
        if let Some(output) = message.output.filter(|_| message.item() == ItemKind::ToolResult) {
            content(list, Role::Tool, output);
        }
        let place = message.content.and_then(|value| content(list, message.role, value));
        by_anyone = place.or(by_anyone);
        if message.role == Role::User {
            by_user = place.or(by_user);
        }
    }
    let strings = push(list, Role::User, json::array(value).filter_map(json::string).collect());
    by_user.or(by_anyone).or(strings)
}

/// Takes down a message's content, results of tools first, and returns where the words of the message itself are.
fn content<'a>(list: &mut Vec<MessageStrings<'a>>, role: Role, value: &'a [u8]) -> Option<usize> {
    if let Some(inside) = json::string(value) {
        return push(list, role, vec![inside]);
    }
    let mut strings = Vec::new();
    for part in parts(value) {
        match part {
            ContentPart::Text(inside) => strings.push(inside),
            ContentPart::ToolResult(result) => {
                content(list, Role::Tool, result);
            }
            ContentPart::Image | ContentPart::Media | ContentPart::ToolCall | ContentPart::Other => {}
        }
    }
    push(list, role, strings)
}

fn push<'a>(list: &mut Vec<MessageStrings<'a>>, role: Role, strings: Vec<&'a [u8]>) -> Option<usize> {
    if strings.iter().all(|inside| inside.is_empty()) {
        return None;
    }
    list.push(MessageStrings { role, strings, is_prompt: false });
    Some(list.len() - 1)
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
