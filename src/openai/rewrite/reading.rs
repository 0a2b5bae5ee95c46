//! Where in an event or a whole answer the model's texts stand, in each API's shape.
//!
//! Owns the names of the members that carry text. Refuses to know what is done with the texts.

use std::ops::Range;

use crate::openai::Api;
use crate::openai::json::object::{non_null_member, number_member, string_member, string_value};
use crate::openai::json::string::{decode, decodes_to};
use crate::openai::json::{self, ItemSpan};

use super::{Channel, TextId};

/// What an event or a whole answer says about its texts and the answer's progress.
#[derive(Debug, Default)]
pub(super) struct AnswerContent {
    pub(super) texts: Vec<TextSpan>,
    pub(super) derived: Vec<DerivedMember>,
    pub(super) steps: Vec<AnswerStep>,
    /// Where a whole answer says how it ended.
    pub(super) ends: Vec<(Range<usize>, EndMember)>,
}

/// One string that carries text.
#[derive(Debug)]
pub(super) struct TextSpan {
    pub(super) place: TextId,
    /// What stands between the quotes.
    pub(super) span: Range<usize>,
    /// It repeats what other events have said.
    pub(super) is_repeat: bool,
}

/// A member that tells of a text by other means, and what stands there if the text was changed.
#[derive(Debug)]
pub(super) struct DerivedMember {
    pub(super) choice: u32,
    pub(super) span: Range<usize>,
    pub(super) with: &'static [u8],
}

/// A step in the progress of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AnswerStep {
    /// A choice speaks, perhaps for the last time.
    Choice { index: u32, is_over: bool },
    /// The message or response has begun, as it describes itself.
    Begun(Vec<u8>),
    /// A block of a message opens.
    BlockOpen(u32),
    /// A block of a message closes.
    BlockClosed(u32),
    /// An item of a response opens, as it describes itself.
    ItemOpen(u32, Vec<u8>),
    /// An item of a response closes.
    ItemClosed(u32),
    /// A text part of a response's item opens.
    PartOpen(u32, u32),
    /// A text part of a response's item closes.
    PartClosed(u32, u32),
    /// An event of a response has this number.
    Number(u64),
    /// Nothing follows that matters.
    Over,
}

/// How an answer's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndMember {
    /// `finish_reason`
    FinishReason,
    /// `stop_reason`
    StopReason,
    /// `status`
    Status,
    /// `incomplete_details`
    Details,
}

/// Reads one event's data, which is JSON.
pub(super) fn event(api: Api, data: &[u8]) -> AnswerContent {
    let mut reader = ContentScanner { data, reading: AnswerContent::default() };
    match api {
        Api::Messages => reader.message_event(),
        Api::Responses => reader.response_event(),
        _ => reader.choices(),
    }
    reader.reading
}

/// Reads a whole answer, which is JSON.
pub(super) fn whole(api: Api, data: &[u8]) -> AnswerContent {
    let mut reader = ContentScanner { data, reading: AnswerContent::default() };
    match api {
        Api::Messages => {
            reader.blocks(0);
            reader.end(0, "stop_reason", EndMember::StopReason);
        }
        Api::Responses => {
            reader.output(0, false);
            reader.end(0, "status", EndMember::Status);
            reader.end(0, "incomplete_details", EndMember::Details);
        }
        _ => reader.choices(),
    }
    reader.reading.steps.push(AnswerStep::Over);
    reader.reading
}

/// The members of a text's part that are text.
const TEXTS: [&str; 4] = ["text", "thinking", "summary", "content"];

/// How deep a text's parts are looked for.
const DEEPEST: u32 = 4;

struct ContentScanner<'a> {
    data: &'a [u8],
    reading: AnswerContent,
}

impl ContentScanner<'_> {
    fn members(&self, at: usize) -> Vec<ItemSpan> {
        json::members(self.data, at).map_while(Result::ok).collect()
    }

    fn elements(&self, at: usize) -> Vec<Range<usize>> {
        json::elements(self.data, at).map_while(Result::ok).map(|item| item.value).collect()
    }

    fn named(&self, at: usize, name: &str) -> Option<Range<usize>> {
        let items = self.members(at).into_iter();
        items.rev().find(|item| decodes_to(&self.data[item.key.clone()], name)).map(|item| item.value)
    }

    fn key(&self, item: &ItemSpan) -> String {
        decode(&self.data[item.key.clone()], usize::MAX).into_owned()
    }

    fn value(&self, span: &Range<usize>) -> &[u8] {
        &self.data[span.clone()]
    }

    fn number(&self, at: &Range<usize>, name: &str) -> Option<u32> {
        number_member(self.value(at), name).and_then(|number| number.try_into().ok())
    }

    /// Notes a text if the value is a string.
    fn text(&mut self, place: TextId, span: Range<usize>, is_repeat: bool) {
        if self.value(&span).starts_with(b"\"") {
            let span = span.start + 1..span.end - 1;
            self.reading.texts.push(TextSpan { place, span, is_repeat });
        }
    }

    /// Notes every member of this name, of which a reader would take one.
    fn texts(&mut self, at: usize, name: &str, place: TextId, is_repeat: bool) {
        for item in self.members(at) {
            if decodes_to(&self.data[item.key.clone()], name) {
                self.text(place, item.value, is_repeat);
            }
        }
    }

    fn end(&mut self, at: usize, name: &str, end: EndMember) {
        if let Some(span) = self.named(at, name) {
            self.reading.ends.push((span, end));
        }
    }

    fn choices(&mut self) {
        let Some(choices) = self.named(0, "choices") else {
            return;
        };
        for (place, choice) in self.elements(choices.start).into_iter().enumerate() {
            let index = self.number(&choice, "index").unwrap_or(place as u32);
            for item in self.members(choice.start) {
                let is_null = self.value(&item.value) == b"null";
                match &*self.key(&item) {
                    "delta" | "message" => self.message(index, item.value.start),
                    "text" => self.text(
                        TextId { choice: index, channel: Channel::Content, part: 0 },
                        item.value,
                        false,
                    ),
                    "logprobs" | "token_ids" if !is_null => {
                        self.reading.derived.push(DerivedMember {
                            choice: index,
                            span: item.value,
                            with: b"null",
                        });
                    }
                    "finish_reason" => self.reading.ends.push((item.value, EndMember::FinishReason)),
                    _ => {}
                }
            }
            let is_over = non_null_member(self.value(&choice), "finish_reason").is_some();
            self.reading.steps.push(AnswerStep::Choice { index, is_over });
        }
    }

    /// Reads a chat message or a piece of one.
    fn message(&mut self, choice: u32, at: usize) {
        let place = |channel, part| TextId { choice, channel, part };
        for item in self.members(at) {
            let span = item.value.clone();
            match &*self.key(&item) {
                "content" => self.deep(place(Channel::Content, 0), span, 0),
                "reasoning_content" => self.text(place(Channel::Reasoning, 0), span, false),
                // Some servers say the same under both names, and two texts must not become one.
                "reasoning" => self.text(place(Channel::Reasoning, 1), span, false),
                "refusal" => self.text(place(Channel::Refusal, 0), span, false),
                "role" => {}
                "tool_calls" => {
                    for (order, call) in self.elements(span.start).into_iter().enumerate() {
                        let index = self.number(&call, "index").unwrap_or(order as u32);
                        if let Some(function) = self.named(call.start, "function") {
                            self.texts(function.start, "arguments", place(Channel::Arguments, index), false);
                        }
                    }
                }
                "function_call" => self.texts(span.start, "arguments", place(Channel::Arguments, 0), false),
                _ => self.deep(place(Channel::Other, 0), span, 0),
            }
        }
    }

    /// Notes a text, or the texts in the parts of one.
    fn deep(&mut self, place: TextId, span: Range<usize>, depth: u32) {
        let inner: Vec<Range<usize>> = match self.value(&span).first() {
            Some(b'"') => return self.text(place, span, false),
            Some(b'[') => self.elements(span.start),
            Some(b'{') => {
                let items = self.members(span.start).into_iter();
                let is_text = |item: &ItemSpan| {
                    let is_string = self.value(&item.value).starts_with(b"\"");
                    !is_string || TEXTS.iter().any(|name| decodes_to(&self.data[item.key.clone()], name))
                };
                items.filter(is_text).map(|item| item.value).collect()
            }
            _ => return,
        };
        if depth < DEEPEST {
            for span in inner {
                self.deep(place, span, depth + 1);
            }
        }
    }

    fn message_event(&mut self) {
        let index = self.number(&(0..self.data.len()), "index").unwrap_or(0);
        match string_member(self.data, "type").as_deref() {
            Some("message_start") => {
                self.reading
                    .steps
                    .push(AnswerStep::Begun(non_null_member(self.data, "message").unwrap_or(b"{}").to_vec()));
                if let Some(message) = self.named(0, "message") {
                    self.blocks(message.start);
                }
            }
            Some("content_block_start") => {
                self.reading.steps.push(AnswerStep::BlockOpen(index));
                if let Some(block) = self.named(0, "content_block") {
                    self.block(index, block.start);
                }
            }
            Some("content_block_delta") => {
                if let Some(delta) = self.named(0, "delta") {
                    self.block(index, delta.start);
                }
            }
            Some("content_block_stop") => self.reading.steps.push(AnswerStep::BlockClosed(index)),
            Some("message_stop") => self.reading.steps.push(AnswerStep::Over),
            _ => {}
        }
    }

    fn blocks(&mut self, at: usize) {
        let content = self.named(at, "content").map(|content| self.elements(content.start));
        for (index, block) in content.into_iter().flatten().enumerate() {
            self.block(index as u32, block.start);
        }
    }

    fn block(&mut self, part: u32, at: usize) {
        for (name, channel) in [
            ("text", Channel::Content),
            ("thinking", Channel::Reasoning),
            ("partial_json", Channel::Arguments),
        ] {
            self.texts(at, name, TextId { choice: 0, channel, part }, false);
        }
    }

    fn response_event(&mut self) {
        let kind = string_member(self.data, "type").unwrap_or_default().into_owned();
        let event = 0..self.data.len();
        let output = self.number(&event, "output_index").unwrap_or(0);
        let part = ["content_index", "summary_index"].iter().find_map(|name| self.number(&event, name));
        let part = part.unwrap_or(0);
        if let Some(number) = number_member(self.data, "sequence_number") {
            self.reading.steps.push(AnswerStep::Number(number));
        }
        self.progress(&kind, output, part);
        let is_repeat =
            [".done", ".completed", ".incomplete", ".failed"].iter().any(|end| kind.ends_with(end));
        let place = TextId { choice: output, channel: channel_of(&kind), part };
        for item in self.members(0) {
            let span = item.value.clone();
            match &*self.key(&item) {
                "delta" | "text" | "refusal" | "arguments" | "input" | "code" => {
                    self.text(place, span, is_repeat);
                }
                "part" => self.part(output, part, span.start, is_repeat),
                "item" => self.item(output, span.start, is_repeat),
                "response" => self.output(span.start, is_repeat),
                "logprobs" => self.derived_list(output, span),
                _ => {}
            }
        }
    }

    /// Notes how far the response has come.
    fn progress(&mut self, kind: &str, output: u32, part: u32) {
        let raw = |name| non_null_member(self.data, name).unwrap_or(b"{}").to_vec();
        let step = match kind {
            "response.created" => AnswerStep::Begun(raw("response")),
            "response.output_item.added" => AnswerStep::ItemOpen(output, raw("item")),
            "response.output_item.done" => AnswerStep::ItemClosed(output),
            "response.content_part.added" => AnswerStep::PartOpen(output, part),
            "response.content_part.done" => AnswerStep::PartClosed(output, part),
            "response.completed" | "response.incomplete" | "response.failed" => AnswerStep::Over,
            _ => return,
        };
        self.reading.steps.push(step);
    }

    fn output(&mut self, at: usize, is_repeat: bool) {
        let output = self.named(at, "output").map(|output| self.elements(output.start));
        for (index, item) in output.into_iter().flatten().enumerate() {
            self.item(index as u32, item.start, is_repeat);
        }
    }

    fn item(&mut self, output: u32, at: usize, is_repeat: bool) {
        for (name, channel) in
            [("arguments", Channel::Arguments), ("input", Channel::Arguments), ("code", Channel::Other)]
        {
            let place = TextId { choice: output, channel, part: 0 };
            self.texts(at, name, place, is_repeat);
        }
        for name in ["content", "summary"] {
            let parts = self.named(at, name).map(|parts| self.elements(parts.start));
            for (index, part) in parts.into_iter().flatten().enumerate() {
                self.part(output, index as u32, part.start, is_repeat);
            }
        }
    }

    fn part(&mut self, output: u32, part: u32, at: usize, is_repeat: bool) {
        let kind = self
            .named(at, "type")
            .and_then(|span| string_value(self.value(&span)).map(|kind| channel_of(&kind)));
        let place = |channel| TextId { choice: output, channel, part };
        self.texts(at, "text", place(kind.unwrap_or(Channel::Content)), is_repeat);
        self.texts(at, "refusal", place(Channel::Refusal), is_repeat);
        if let Some(span) = self.named(at, "logprobs") {
            self.derived_list(output, span);
        }
    }

    fn derived_list(&mut self, choice: u32, span: Range<usize>) {
        if self.value(&span).starts_with(b"[") {
            self.reading.derived.push(DerivedMember { choice, span, with: b"[]" });
        }
    }
}

/// Finds the kind of text in a Responses event's or part's name.
fn channel_of(kind: &str) -> Channel {
    let kinds = [
        ("output_text", Channel::Content),
        ("refusal", Channel::Refusal),
        ("summary", Channel::Summary),
        ("reasoning", Channel::Reasoning),
        ("arguments", Channel::Arguments),
        ("input", Channel::Arguments),
    ];
    kinds.iter().find(|(name, _)| kind.contains(name)).map_or(Channel::Other, |(_, channel)| *channel)
}

/// Takes bytes that are not JSON as one text.
pub(super) fn raw(length: usize) -> AnswerContent {
    let place = TextId { choice: 0, channel: Channel::Raw, part: 0 };
    AnswerContent {
        texts: vec![TextSpan { place, span: 0..length, is_repeat: false }],
        ..AnswerContent::default()
    }
}
