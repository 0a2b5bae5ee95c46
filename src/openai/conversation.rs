//! Facts about the conversation that a request continues: how many of what.
//!
//! Refuses to read texts, and to judge. Counts saturate.

use super::message::{ContentPart, InputMessage, ItemKind, Role, parts};
use super::{ChatRequest, json};

/// How much of everything a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageCounts {
    /// All messages, those of unknown roles included.
    pub messages: u32,
    /// Messages of the system and of developers, `instructions` and Anthropic's `system`.
    pub system_messages: u32,
    /// Messages of users; a prompt, an input or a query counts as one.
    pub user_messages: u32,
    /// Messages of the model.
    pub assistant_messages: u32,
    /// Results of tools, as messages or items; Anthropic's user message that holds nothing else is one.
    pub tool_messages: u32,
    /// Calls of tools that the model has made.
    pub tool_calls: u32,
    /// Tools offered in `tools`.
    pub tools: u32,
    /// Images in messages and in results of tools.
    pub images: u32,
    /// Audio, video and files in messages and in results of tools.
    pub media: u32,
    /// Messages of users that start the conversation or follow the model.
    pub turns: u32,
}

impl ChatRequest {
    /// Returns how the conversation began, which stays as it goes on: the system prompt and the first message of a
    /// user, each at most 1 MiB.
    pub fn opening(&self) -> String {
        let messages = self.text_messages();
        let first = |role| messages.iter().find(|message| self.texts().messages[**message].role == role);
        let opening = [first(Role::System), first(Role::User)].into_iter().flatten();
        let texts: Vec<_> = opening.map(|message| self.message_text(*message)).collect();
        texts.join("\n")
    }

    /// Counts what the request holds.
    pub fn message_counts(&self) -> MessageCounts {
        let mut count = Count::default();
        for member in ["instructions", "system"].iter().filter_map(|name| self.member(name)) {
            if matches!(member.first(), Some(b'"' | b'[')) {
                count.message(Role::System);
            }
        }
        if let Some(value) = self.prompt_values().next() {
            count.value(value);
        }
        let tools = self.member("tools").into_iter().flat_map(json::array).count();
        count.facts.tools = u32::try_from(tools).unwrap_or(u32::MAX);
        count.facts
    }
}

#[derive(Default)]
struct Count {
    facts: MessageCounts,
    /// Who spoke last of user and model.
    last: Option<Role>,
}

impl Count {
    fn value(&mut self, value: &[u8]) {
        let mut elements = json::elements_with_members(value).peekable();
        let is_prompt =
            elements.peek().map_or(!value.starts_with(b"["), |first| !first.value.starts_with(b"{"));
        if is_prompt {
            return self.message(Role::User);
        }
        for element in elements {
            self.item(&InputMessage::of(element.members));
        }
    }

    fn item(&mut self, message: &InputMessage<'_>) {
        match message.item() {
            ItemKind::ToolCall => {
                add(&mut self.facts.tool_calls, 1);
                self.last = Some(Role::Assistant);
            }
            ItemKind::ToolResult => {
                self.message(Role::Tool);
                self.result(message.output.unwrap_or_default());
            }
            ItemKind::Image => add(&mut self.facts.images, 1),
            ItemKind::Message if message.role == Role::Other && message.content.is_none() => {}
            ItemKind::Message => self.content_message(message),
        }
    }

    fn content_message(&mut self, message: &InputMessage<'_>) {
        let content = message.content.unwrap_or_default();
        let (mut results, mut others) = (false, false);
        for part in parts(content) {
            match part {
                ContentPart::ToolCall => add(&mut self.facts.tool_calls, 1),
                ContentPart::ToolResult(result) => {
                    results = true;
                    self.result(result);
                    continue;
                }
                ContentPart::Image => add(&mut self.facts.images, 1),
                ContentPart::Media => add(&mut self.facts.media, 1),
                ContentPart::Text(_) | ContentPart::Other => {}
            }
            others = true;
        }
        let calls = message.tool_calls.map_or(0, |calls| json::array(calls).count());
        let legacy = message.function_call.is_some_and(|call| call.starts_with(b"{"));
        add(&mut self.facts.tool_calls, calls + usize::from(legacy));
        let only_results = message.role == Role::User && results && !others;
        self.message(if only_results { Role::Tool } else { message.role });
    }

    /// What a tool's result shows beside text.
    fn result(&mut self, content: &[u8]) {
        for part in parts(content) {
            match part {
                ContentPart::Image => add(&mut self.facts.images, 1),
                ContentPart::Media => add(&mut self.facts.media, 1),
                _ => {}
            }
        }
    }

    fn message(&mut self, role: Role) {
        add(&mut self.facts.messages, 1);
        match role {
            Role::System => add(&mut self.facts.system_messages, 1),
            Role::Tool => add(&mut self.facts.tool_messages, 1),
            Role::Assistant => {
                add(&mut self.facts.assistant_messages, 1);
                self.last = Some(role);
            }
            Role::User => {
                add(&mut self.facts.user_messages, 1);
                if self.last != Some(role) {
                    add(&mut self.facts.turns, 1);
                }
                self.last = Some(role);
            }
            Role::Other => {}
        }
    }
}

fn add(count: &mut u32, more: usize) {
    *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn facts(rest: &str) -> MessageCounts {
        ChatRequest::parse(Bytes::from(format!("{{\"model\":\"m\",{rest}}}"))).unwrap().message_counts()
    }

    #[test]
    fn a_chat_is_counted() {
        let chat = r#""tools":[{},{}],"messages":[{"role":"developer","content":"a"},{"role":"user","content":"b"},
            {"role":"user","content":[{"type":"image_url"},{"type":"image_url"}]},
            {"role":"assistant","tool_calls":[{},{},{}]},{"role":"tool","content":"c"},{"role":"tool","content":"d"},
            {"role":"assistant","content":"e","function_call":{}},{"role":"user","content":"f"},{"role":"critic"}, {"role":"odd","content":"g"}]"#;
        assert_eq!(
            facts(chat),
            MessageCounts {
                messages: 9,
                system_messages: 1,
                user_messages: 3,
                assistant_messages: 2,
                tool_messages: 2,
                tool_calls: 4,
                tools: 2,
                images: 2,
                media: 0,
                turns: 2,
            }
        );
    }

    #[test]
    fn a_responses_input_is_counted() {
        let input = r#""instructions":"a","input":[{"role":"user","content":[{"type":"input_text","text":"b"},{"type":"input_image"}]},
            {"type":"reasoning","summary":[]},{"type":"function_call"},{"type":"function_call_output","output":"c"},
            {"type":"web_search_call"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"d"}]},
            {"role":"user","content":"e"}]"#;
        assert_eq!(
            facts(input),
            MessageCounts {
                messages: 5,
                system_messages: 1,
                user_messages: 2,
                assistant_messages: 1,
                tool_messages: 1,
                tool_calls: 2,
                tools: 0,
                images: 1,
                media: 0,
                turns: 2,
            }
        );
    }

    #[test]
    fn anthropics_messages_are_counted() {
        let messages = r#""system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":"b"},
            {"role":"assistant","content":[{"type":"text","text":"c"},{"type":"tool_use"},{"type":"tool_use"}]},
            {"role":"user","content":[{"type":"tool_result","content":[{"type":"image"}]},{"type":"tool_result"}]},
            {"role":"assistant","content":"d"},
            {"role":"user","content":[{"type":"tool_result","content":"e"},{"type":"text","text":"f"}]}]"#;
        assert_eq!(
            facts(messages),
            MessageCounts {
                messages: 6,
                system_messages: 1,
                user_messages: 2,
                assistant_messages: 2,
                tool_messages: 1,
                tool_calls: 2,
                tools: 0,
                images: 1,
                media: 0,
                turns: 2,
            }
        );
    }

    #[test]
    fn a_prompt_is_one_users_message() {
        let one = MessageCounts { messages: 1, user_messages: 1, turns: 1, ..MessageCounts::default() };
        for rest in [r#""prompt":"a""#, r#""prompt":[1,2]"#, r#""input":["a","b"]"#, r#""query":"a""#] {
            assert_eq!(facts(rest), one, "{rest}");
        }
        for rest in ["\"system\":null", "\"messages\":[]", "\"messages\":{}"] {
            assert_eq!(facts(rest), MessageCounts::default(), "{rest}");
        }
    }
}
