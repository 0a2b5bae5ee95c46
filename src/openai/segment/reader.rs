//! The walk over a request's members: which of them hold message texts, and every string of the others.

use std::ops::Range;
use std::sync::OnceLock;

use super::super::ChatRequest;
use super::super::json::string::{decode, decodes_to};
use super::super::json::{self, ArrayElement};
use super::embedded::{EmbeddedText, value_texts};
use super::rule::{self, ReadRule};
use super::{
    MAX_SEGMENTS, MessageEntry, NONE, RequestTexts, SegmentEntry, SegmentKind, TextForm, Unread, UnreadKind,
};
use crate::message::Role;

/// How much of a key or a type is read, in bytes; every known one is shorter.
pub(super) const MAX_WORD: usize = 64;

/// How deep parts in parts, tools in tools and calls in calls are read as such; deeper ones as strings.
const MAX_NESTING: u32 = 8;

/// The members that hold a system prompt outside of the messages.
const SYSTEM_MEMBERS: [&str; 2] = ["instructions", "system"];

/// The members whose texts are judged beside those of the prompt.
const DOCUMENT_MEMBERS: [&str; 2] = ["documents", "text_2"];

/// Reads a request into texts.
pub(super) struct SegmentReader<'a> {
    body: &'a [u8],
    has_escapes: bool,
    pub(super) texts: RequestTexts,
    /// The author of the strings that are being read, unless a message says otherwise when it ends.
    role: Role,
    /// How many strings outside of messages' own texts there are.
    others: usize,
    nesting: u32,
}

/// What is read of the members that can hold messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PromptTexts {
    by_user: Option<usize>,
    by_anyone: Option<usize>,
    strings: Option<usize>,
}

impl<'a> SegmentReader<'a> {
    pub(super) fn read(request: &'a ChatRequest) -> RequestTexts {
        let body: &[u8] = request.body();
        let texts = RequestTexts::default();
        let has_escapes = request.has_escapes;
        let mut reader = Self { body, has_escapes, texts, role: Role::System, others: 0, nesting: 0 };
        if u32::try_from(body.len()).is_err() {
            reader.unread(UnreadKind::TooMany, body);
            return reader.texts;
        }
        let mut done = Vec::with_capacity(4);
        for value in
            SYSTEM_MEMBERS.iter().filter_map(|name| request.member(name)).filter(|value| is_text(value))
        {
            done.push(json::span(body, value).start);
            reader.text_message(Role::System, SegmentKind::SystemPrompt, value);
        }
        for (index, value) in request.prompt_values().enumerate() {
            done.push(json::span(body, value).start);
            let prompt = reader.messages(SegmentKind::Message, value);
            if index == 0 {
                reader.texts.prompt = prompt.by_user.or(prompt.by_anyone).or(prompt.strings);
            }
        }
        for value in
            DOCUMENT_MEMBERS.iter().filter_map(|name| request.member(name)).filter(|value| is_text(value))
        {
            done.push(json::span(body, value).start);
            reader.messages(SegmentKind::Document, value);
        }
        for item in request.members().iter().filter(|item| !done.contains(&item.value.start)) {
            reader.request_member(request, &body[item.key.clone()], &body[item.value.clone()]);
        }
        reader.texts
    }

    /// Reads a member of the top level that holds no message texts.
    fn request_member(&mut self, request: &ChatRequest, key: &'a [u8], value: &'a [u8]) {
        // The names of members are words with underscores; anything else could be a text.
        if !key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte)) {
            self.role = Role::Other;
            self.push(TextForm::String, SegmentKind::Other, key);
        }
        if !can_hold_text(value) {
            return;
        }
        let name = decode(key, MAX_WORD);
        let own = (request.dialect().member)(&name);
        let rule =
            own.or_else(|| rule::request_member(&name)).unwrap_or(ReadRule::Strings(SegmentKind::Other));
        self.role = match rule {
            ReadRule::Strings(SegmentKind::Other) => Role::Other,
            ReadRule::Parts(SegmentKind::Prediction) => Role::Assistant,
            ReadRule::Tools | ReadRule::Strings(SegmentKind::Schema | SegmentKind::Template) => Role::System,
            _ => Role::User,
        };
        if rule == ReadRule::Strings(SegmentKind::Other) && holds_numbers(value) {
            self.unread(UnreadKind::TokenIds, value);
        }
        self.apply(rule, SegmentKind::Message, value);
    }

    /// Reads a string, strings, messages or token ids, and says which message could be the prompt.
    fn messages(&mut self, kind: SegmentKind, value: &'a [u8]) -> PromptTexts {
        let mut prompt = PromptTexts::default();
        if json::string(value).is_some() {
            prompt.strings = self.text_message(Role::User, kind, value);
            return prompt;
        }
        let mut strings = Vec::new();
        let mut has_numbers = false;
        for ArrayElement { value: element, members } in json::elements_with_members(value) {
            match element.first() {
                Some(b'"') => strings.push(element),
                Some(b'{') => {
                    let (role, message) = self.message(kind, element, members);
                    prompt.by_anyone = message.or(prompt.by_anyone);
                    if role == Role::User {
                        prompt.by_user = message.or(prompt.by_user);
                    }
                }
                Some(b'[') if holds_numbers(element) => has_numbers = true,
                Some(b'[') => self.strings(SegmentKind::Other, element),
                Some(b'0'..=b'9') => has_numbers = true,
                _ => {}
            }
        }
        if has_numbers {
            self.unread(UnreadKind::TokenIds, value);
        }
        let start = self.start();
        for string in strings {
            self.own_text(kind, string);
        }
        prompt.strings = self.end_message(Role::User, start);
        prompt
    }

    /// Reads a content that is a message of its own; nothing if it has no text.
    pub(super) fn text_message(&mut self, role: Role, kind: SegmentKind, content: &'a [u8]) -> Option<usize> {
        let start = self.start();
        self.content(kind, content);
        self.end_message(role, start)
    }

    /// Reads a value by its rule; `kind` is that of the message around it.
    pub(super) fn apply(&mut self, rule: ReadRule, kind: SegmentKind, value: &'a [u8]) {
        if !can_hold_text(value) {
            return;
        }
        match rule {
            ReadRule::Skip => {}
            ReadRule::Words => self.all_but_words(value),
            ReadRule::Text if json::string(value).is_some() => self.own_text(kind, value),
            ReadRule::TextAs(kind) if json::string(value).is_some() => self.own_text(kind, value),
            ReadRule::Text => self.parts(kind, value),
            ReadRule::TextAs(kind) | ReadRule::Parts(kind) => self.parts(kind, value),
            ReadRule::Strings(kind) => self.strings(kind, value),
            ReadRule::ToolResult => {
                self.text_message(Role::Tool, SegmentKind::ToolResult, value);
            }
            ReadRule::ToolCalls => self.tool_calls(value),
            ReadRule::Tools => self.tools(value),
            ReadRule::Source => self.source(value),
            ReadRule::FileName => {
                let name = json::object(value).filter(|(key, _)| decodes_to(key, "filename"));
                name.for_each(|(_, value)| self.strings(SegmentKind::Name, value));
            }
            ReadRule::StoredPrompt => self.stored_prompt(value),
            ReadRule::Unread(kind) => self.unread(kind, value),
        }
    }

    /// Reads every string of a value, and the keys of its objects.
    pub(super) fn strings(&mut self, kind: SegmentKind, value: &'a [u8]) {
        for EmbeddedText { range, is_key, is_number } in value_texts(value) {
            if !is_number {
                self.string(kind, &value[range], is_key);
            } else if kind != SegmentKind::Schema {
                self.push(TextForm::Number, kind, &value[range]);
            }
        }
    }

    /// Reads the strings of a value that are no plain words.
    fn all_but_words(&mut self, value: &'a [u8]) {
        for text in value_texts(value).filter(|text| !text.is_number) {
            let inside = &value[text.range];
            if !rule::is_plain_word(inside) {
                self.push(TextForm::String, SegmentKind::Other, inside);
            }
        }
    }

    fn string(&mut self, kind: SegmentKind, inside: &'a [u8], is_key: bool) {
        let can_be_word = is_key || matches!(kind, SegmentKind::Schema | SegmentKind::Name);
        if !(can_be_word && rule::is_api_word(inside)) {
            self.push(TextForm::String, kind, inside);
        }
    }

    /// Reads a member that no table names: its key can be shown to the model like its value.
    pub(super) fn unknown_member(&mut self, kind: SegmentKind, key: &'a [u8], value: &'a [u8]) {
        self.string(kind, key, true);
        self.strings(kind, value);
    }

    fn tool_calls(&mut self, value: &'a [u8]) {
        self.nested(SegmentKind::ToolCall, value, |reader| {
            json::array(value).for_each(|call| reader.tool_calls(call));
            for (key, value) in json::object(value) {
                match rule::common_member(&decode(key, MAX_WORD), false) {
                    Some(rule) => reader.apply(rule, SegmentKind::ToolCall, value),
                    None => reader.unknown_member(SegmentKind::ToolCall, key, value),
                }
            }
        });
    }

    fn tools(&mut self, value: &'a [u8]) {
        self.nested(SegmentKind::ToolDescription, value, |reader| {
            json::array(value).for_each(|tool| reader.tools(tool));
            for (key, value) in json::object(value) {
                match rule::tool_member(&decode(key, MAX_WORD)) {
                    Some(rule) => reader.apply(rule, SegmentKind::Other, value),
                    None => reader.unknown_member(SegmentKind::Other, key, value),
                }
            }
            if json::string(value).is_some() {
                reader.strings(SegmentKind::ToolDescription, value);
            }
        });
    }

    /// Reads a value that can hold more of its like: beyond [`MAX_NESTING`] as strings, since each level is a pass.
    pub(super) fn nested(&mut self, kind: SegmentKind, value: &'a [u8], read: impl FnOnce(&mut Self)) {
        if self.nesting == MAX_NESTING {
            return self.strings(kind, value);
        }
        self.nesting += 1;
        read(self);
        self.nesting -= 1;
    }

    /// Reads the source of a document: its text or its parts; anything else is a file.
    fn source(&mut self, value: &'a [u8]) {
        let kind = json::member(value, "type").and_then(json::string).unwrap_or_default();
        let text = match &*decode(kind, MAX_WORD) {
            "text" => "data",
            "content" => "content",
            _ => return self.unread(UnreadKind::File, value),
        };
        for (key, value) in json::object(value) {
            match &*decode(key, MAX_WORD) {
                "type" | "media_type" => self.all_but_words(value),
                name if name == text => self.parts(SegmentKind::Document, value),
                _ => self.unknown_member(SegmentKind::Other, key, value),
            }
        }
    }

    fn stored_prompt(&mut self, value: &'a [u8]) {
        self.unread(UnreadKind::Reference, value);
        for (_, variables) in json::object(value).filter(|(key, _)| decodes_to(key, "variables")) {
            json::object(variables).for_each(|(_, value)| self.parts(SegmentKind::Template, value));
        }
    }

    /// Adds a string to the message that is being read.
    pub(super) fn own_text(&mut self, kind: SegmentKind, value: &'a [u8]) {
        if let Some(inside) = json::string(value) {
            self.push(TextForm::Own, kind, inside);
        }
    }

    fn push(&mut self, form: TextForm, kind: SegmentKind, inside: &'a [u8]) {
        if form != TextForm::Own {
            // An empty string sets off the one after it in a message's own text, but says nothing elsewhere.
            if inside.is_empty() {
                return;
            }
            if self.others == MAX_SEGMENTS {
                return self.unread(UnreadKind::TooMany, inside);
            }
            self.others += 1;
        }
        let span = json::span(self.body, inside);
        let decoded = if self.has_escapes && memchr::memchr(b'\\', inside).is_some() {
            self.texts.decoded.push(OnceLock::new());
            self.texts.decoded.len() as u32 - 1
        } else {
            NONE
        };
        self.texts.entries.push(SegmentEntry {
            start: span.start as u32,
            length: span.len() as u32,
            message: NONE,
            decoded,
            role: self.role,
            kind,
            form,
        });
    }

    pub(super) fn unread(&mut self, kind: UnreadKind, value: &'a [u8]) {
        let list = &mut self.texts.unread;
        let is_full = list.len() >= MAX_SEGMENTS;
        let kind = if is_full { UnreadKind::TooMany } else { kind };
        if kind != UnreadKind::TooMany || list.last().is_none_or(|last| last.kind != kind) {
            let before = self.texts.entries.len() as u32;
            list.push(Unread { kind, span: json::span(self.body, value), before });
        }
    }

    pub(super) fn start(&self) -> usize {
        self.texts.entries.len()
    }

    /// Ends the message whose strings begin at `start`; says which it is, if it has any text of its own.
    pub(super) fn end_message(&mut self, role: Role, start: usize) -> Option<usize> {
        let number = self.texts.messages.len();
        let mut has_text = false;
        for entry in self.texts.entries[start..].iter_mut().filter(|entry| entry.message == NONE) {
            entry.message = number as u32;
            entry.role = role;
            has_text |= entry.form == TextForm::Own && entry.length > 0;
        }
        let entries: Range<u32> = start as u32..self.texts.entries.len() as u32;
        self.texts.messages.push(MessageEntry { role, has_text, entries });
        has_text.then_some(number)
    }
}

fn is_text(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'"' | b'['))
}

fn can_hold_text(value: &[u8]) -> bool {
    !matches!(value.first(), None | Some(b't' | b'f' | b'n'))
}

/// Says whether a value is an array with a number, or with an array with one.
fn holds_numbers(value: &[u8]) -> bool {
    let is_number = |value: &[u8]| value.first().is_some_and(u8::is_ascii_digit);
    json::array(value).any(|one| is_number(one) || json::array(one).any(is_number))
}
