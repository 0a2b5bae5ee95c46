//! Every text of a request in order, who says it, and in which strings of the body it stands.
//!
//! Owns what counts as said: system prompts, messages, tools' results, prompts, inputs, queries and documents;
//! arguments of tool calls and files do not. Refuses to judge and to change any of it.

use std::borrow::Cow;

use super::message::{Item, Message, Part, Role, parts};
use super::{ChatRequest, json, prompt};

/// How many utterances are returned: the last ones, and the prompt in any case.
pub const MAX_UTTERANCES: usize = 1024;

/// One text of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utterance<'a> {
    /// Who says it.
    pub role: Role,
    /// What is said, at most 1 MiB; the texts of several parts are joined by line ends.
    pub text: Cow<'a, str>,
    /// Whether it is what [`ChatRequest::prompt_text`] returns.
    pub is_prompt: bool,
}

/// The strings of the body that make up one utterance; at least one of them is not empty.
pub(super) struct Spoken<'a> {
    pub(super) role: Role,
    /// What stands between the strings' quotes.
    pub(super) strings: Vec<&'a [u8]>,
    pub(super) is_prompt: bool,
}

impl<'a> Spoken<'a> {
    fn utterance(self) -> Utterance<'a> {
        let text = prompt::joined(self.strings.into_iter());
        Utterance { role: self.role, text, is_prompt: self.is_prompt }
    }
}

impl ChatRequest {
    /// Returns the texts of the request: system prompts that stand apart, then the rest in its order; of more than
    /// [`MAX_UTTERANCES`] the last ones and the prompt.
    pub fn utterances(&self) -> Vec<Utterance<'_>> {
        self.spoken().into_iter().map(Spoken::utterance).collect()
    }

    /// Returns where the utterances stand, in the same order.
    pub(super) fn spoken(&self) -> Vec<Spoken<'_>> {
        let mut spoken = Vec::new();
        for apart in ["instructions", "system"].iter().filter_map(|name| self.member(name)) {
            content(&mut spoken, Role::System, apart);
        }
        for (index, value) in self.texts().enumerate() {
            let prompt = said(&mut spoken, value).filter(|_| index == 0);
            if let Some(prompt) = prompt {
                spoken[prompt].is_prompt = true;
            }
        }
        for beside in ["documents", "text_2"].iter().filter_map(|name| self.member(name)) {
            said(&mut spoken, beside);
        }
        bounded(spoken)
    }
}

/// Keeps the last utterances, and the prompt in the place of the first of them if it stands before.
fn bounded(mut spoken: Vec<Spoken<'_>>) -> Vec<Spoken<'_>> {
    let first = spoken.len().saturating_sub(MAX_UTTERANCES);
    if let Some(prompt) = spoken[..first].iter().position(|spoken| spoken.is_prompt) {
        spoken.swap(prompt, first);
    }
    spoken.drain(..first);
    spoken
}

/// Takes down a string, strings or messages, and returns which of it is the prompt.
fn said<'a>(spoken: &mut Vec<Spoken<'a>>, value: &'a [u8]) -> Option<usize> {
    if json::string(value).is_some() {
        return content(spoken, Role::User, value);
    }
    let (mut by_user, mut by_anyone) = (None, None);
    for element in json::array(value).filter(|element| element.starts_with(b"{")) {
        let message = Message::read(element);
        if let Some(output) = message.output.filter(|_| message.item() == Item::ToolResult) {
            content(spoken, Role::Tool, output);
        }
        let place = message.content.and_then(|value| content(spoken, message.role, value));
        by_anyone = place.or(by_anyone);
        if message.role == Role::User {
            by_user = place.or(by_user);
        }
    }
    let strings = push(spoken, Role::User, json::array(value).filter_map(json::string).collect());
    by_user.or(by_anyone).or(strings)
}

/// Takes down a message's content, results of tools first, and returns where the words of the message itself are.
fn content<'a>(spoken: &mut Vec<Spoken<'a>>, role: Role, value: &'a [u8]) -> Option<usize> {
    if let Some(inside) = json::string(value) {
        return push(spoken, role, vec![inside]);
    }
    let mut strings = Vec::new();
    for part in parts(value) {
        match part {
            Part::Text(inside) => strings.push(inside),
            Part::ToolResult(result) => {
                content(spoken, Role::Tool, result);
            }
            Part::Image | Part::Media | Part::ToolCall | Part::Other => {}
        }
    }
    push(spoken, role, strings)
}

fn push<'a>(spoken: &mut Vec<Spoken<'a>>, role: Role, strings: Vec<&'a [u8]>) -> Option<usize> {
    if strings.iter().all(|inside| inside.is_empty()) {
        return None;
    }
    spoken.push(Spoken { role, strings, is_prompt: false });
    Some(spoken.len() - 1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn request(rest: &str) -> ChatRequest {
        ChatRequest::parse(Bytes::from(format!("{{\"model\":\"m\",{rest}}}"))).unwrap()
    }

    /// Each utterance's role and text, the prompt's with a star.
    fn heard(rest: &str) -> Vec<(Role, String)> {
        let star = |is_prompt: bool| if is_prompt { "*" } else { "" };
        let request = request(rest);
        let utterances = request.utterances().into_iter();
        utterances.map(|said| (said.role, format!("{}{}", star(said.is_prompt), said.text))).collect()
    }

    fn expected(list: &[(Role, &str)]) -> Vec<(Role, String)> {
        list.iter().map(|(role, text)| (*role, (*text).to_owned())).collect()
    }

    #[test]
    fn a_chat_is_heard_in_order() {
        let chat = r#""messages":[{"role":"system","content":"be br\u0069ef"},{"content":"one","role":"user"},
            {"role":"assistant","content":null,"tool_calls":[{"function":{"arguments":"{}"}}]},
            {"role":"tool","content":[{"type":"text","text":"4"},{"type":"text","text":"2"}]},
            {"role":"user","content":[{"type":"text","text":"two"},{"type":"image_url"},{"type":"text","text":"three"}]},
            {"role":"assistant","content":""},{"content":"who?"}]"#;
        assert_eq!(
            heard(chat),
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
    fn responses_and_anthropics_messages_are_heard_too() {
        let responses = r#""input":[{"role":"developer","content":"a"},{"role":"user","content":[{"type":"input_text","text":"b"}]},
            {"type":"function_call","arguments":"{}"},{"type":"function_call_output","output":"c"}],"instructions":"d""#;
        assert_eq!(
            heard(responses),
            expected(&[(Role::System, "d"), (Role::System, "a"), (Role::User, "*b"), (Role::Tool, "c")])
        );
        let messages = r#""system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":"b"},
            {"role":"assistant","content":[{"type":"tool_use","input":{}}]},
            {"role":"user","content":[{"type":"text","text":"d"},{"type":"tool_result","content":[{"type":"text","text":"c"}]}]}]"#;
        assert_eq!(
            heard(messages),
            expected(&[(Role::System, "a"), (Role::User, "b"), (Role::Tool, "c"), (Role::User, "*d")])
        );
    }

    #[test]
    fn what_stands_beside_the_telling_member_is_heard_but_is_no_prompt() {
        assert_eq!(heard(r#""prompt":["a","b"]"#), expected(&[(Role::User, "*a\nb")]));
        assert_eq!(
            heard(r#""documents":["b","c"],"query":"a""#),
            expected(&[(Role::User, "*a"), (Role::User, "b\nc")])
        );
        assert_eq!(
            heard(r#""messages":[{"role":"user","content":"a"}],"prompt":"b""#),
            expected(&[(Role::User, "*a"), (Role::User, "b")])
        );
        assert_eq!(heard(r#""prompt":{"id":"x"},"input":"a""#), expected(&[(Role::User, "*a")]));
        assert_eq!(heard(r#""prompt":[1,2]"#), expected(&[]));
    }

    #[test]
    fn of_many_utterances_the_last_and_the_prompt_are_kept() {
        let later = |count: usize| {
            let later =
                (0..count).map(|index| format!(",{{\"role\":\"assistant\",\"content\":\"{index}\"}}"));
            format!("\"messages\":[{{\"role\":\"user\",\"content\":\"q\"}}{}]", later.collect::<String>())
        };
        for count in [MAX_UTTERANCES - 1, MAX_UTTERANCES, MAX_UTTERANCES + 5] {
            let request = request(&later(count));
            let utterances = request.utterances();
            assert_eq!(utterances.len(), MAX_UTTERANCES);
            assert!(utterances[0].is_prompt && utterances[0].text == "q");
            assert_eq!(utterances[1].text, (count - (MAX_UTTERANCES - 1)).to_string());
            assert_eq!(utterances[MAX_UTTERANCES - 1].text, (count - 1).to_string());
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
            let utterances = request.utterances();
            let prompts: Vec<_> = utterances.iter().filter(|said| said.is_prompt).collect();
            prop_assert!(prompts.len() <= 1);
            prop_assert_eq!(request.prompt_text(), prompts.first().map_or("", |said| &*said.text));
            prop_assert!(utterances.iter().all(|said| !said.text.is_empty()));
        }
    }
}
