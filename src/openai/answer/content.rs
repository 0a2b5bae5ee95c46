//! What an event or a whole answer says: which texts, where they stand, and how far the answer has come.
//!
//! Owns the common result of every dialect's reader and the scanning that they share. Refuses to know any dialect's
//! members, and what is done with the texts.

use std::ops::Range;

use crate::FinishReason;
use crate::json::object::number_member;
use crate::json::string::{decode, decodes_to};
use crate::json::{self, ItemSpan};

/// Which kind of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// What the client is shown.
    Content,
    /// The model's reasoning.
    Reasoning,
    /// A short form of that, in the Responses API.
    Summary,
    /// Why the model does not answer.
    Refusal,
    /// The arguments of a call: JSON inside a string, and a replacement has to leave it JSON.
    Arguments,
    /// The input of a call of a custom tool: free text.
    Input,
    /// Another text of a delta, under a name that is not known here.
    Other,
    /// A string under a name that is not known here, which is all there is of it; its part is a number of its own.
    Whole,
    /// Data that is no JSON object, as it stands.
    Raw,
}

/// Which text of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextId {
    /// The choice, or the output item of a response; 0 in a message.
    pub choice: u32,
    /// The kind of text.
    pub channel: Channel,
    /// The call of a tool by its index, or the part of an item, or the block of a message; else 0. Reasoning under
    /// the name `reasoning` is 1.
    pub part: u32,
}

/// What an event or a whole answer says about its texts and the answer's progress.
#[derive(Debug, Default)]
pub(crate) struct AnswerContent {
    pub(crate) texts: Vec<TextSpan>,
    pub(crate) derived: Vec<DerivedMember>,
    pub(crate) steps: Vec<AnswerStep>,
    /// The members of a whole answer that say how it ended, and how they are written for another end.
    pub(crate) ends: Vec<(Range<usize>, WriteEnd)>,
    /// There are more texts in it than are read.
    pub(crate) is_unread: bool,
}

/// The most strings under names that are not known here that are read, each as a text of its own.
const MOST_OTHERS: usize = 2048;

/// Members that hold nothing that a model says: names, kinds and places, and bytes in other forms.
pub(crate) const NO_TEXTS: [&str; 44] = [
    "approval_request_id",
    "b64_json",
    "call_id",
    "code_interpreter_call_id",
    "container_id",
    "content_filter_result",
    "content_filter_results",
    "created",
    "created_at",
    "embedding",
    "embeddings",
    "encrypted_content",
    "encrypted_index",
    "event_id",
    "file_id",
    "finish_reason",
    "format",
    "id",
    "index",
    "item_id",
    "kv_transfer_params",
    "mime_type",
    "model",
    "name",
    "object",
    "obfuscation",
    "partial_image_b64",
    "previous_response_id",
    "prompt_filter_results",
    "prompt_logprobs",
    "prompt_token_ids",
    "provider",
    "response_id",
    "role",
    "service_tier",
    "signature",
    "status",
    "stop_reason",
    "stop_sequence",
    "system_fingerprint",
    "token_strs",
    "tool_call_id",
    "type",
    "usage",
];

/// Writes the value of a member that says how an answer ended.
pub(crate) type WriteEnd = fn(FinishReason) -> Vec<u8>;

/// One string that carries text.
#[derive(Debug)]
pub(crate) struct TextSpan {
    pub(crate) id: TextId,
    /// Between the quotes.
    pub(crate) span: Range<usize>,
    /// It repeats what earlier events have said.
    pub(crate) is_repeat: bool,
}

/// A member that shows a text in another form (log probabilities, token ids), and what stands there if the text was
/// changed.
#[derive(Debug)]
pub(crate) struct DerivedMember {
    pub(crate) choice: u32,
    pub(crate) span: Range<usize>,
    pub(crate) with: &'static [u8],
}

/// A step in the progress of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnswerStep {
    /// An event has a piece of a choice, perhaps the last.
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

impl AnswerContent {
    /// Says whether it says nothing: there is no text, and no call of a tool.
    pub(crate) fn is_empty(&self) -> bool {
        let is_call = |text: &TextSpan| matches!(text.id.channel, Channel::Arguments | Channel::Input);
        !self.is_unread && self.texts.iter().all(|text| text.span.is_empty() && !is_call(text))
    }

    /// Takes this as a whole answer's: nothing follows.
    pub(crate) fn whole(mut self) -> Self {
        self.steps.push(AnswerStep::Over);
        self
    }

    /// Takes every string of an object as a text, but for those under names that hold none.
    pub(super) fn others(data: &[u8]) -> Self {
        let mut scanner = ContentScanner::new(data);
        scanner.rest(0, 0, &["audio"]);
        scanner.content
    }

    /// Takes every string of a JSON value of whatever kind as a text.
    pub(super) fn of_any(data: &[u8]) -> Self {
        let mut scanner = ContentScanner::new(data);
        let start = data.len() - data.trim_ascii_start().len();
        scanner.strings(0, start..data.trim_ascii_end().len(), &[]);
        scanner.content
    }

    /// Takes bytes that are no JSON object as one text.
    pub(super) fn raw(length: usize) -> Self {
        let id = TextId { choice: 0, channel: Channel::Raw, part: 0 };
        Self { texts: vec![TextSpan { id, span: 0..length, is_repeat: false }], ..Self::default() }
    }
}

/// Walks through a JSON object and notes what it finds.
pub(crate) struct ContentScanner<'a> {
    data: &'a [u8],
    pub(crate) content: AnswerContent,
}

impl<'a> ContentScanner<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, content: AnswerContent::default() }
    }

    pub(crate) fn members(&self, at: usize) -> Vec<ItemSpan> {
        json::members(self.data, at).map_while(Result::ok).collect()
    }

    pub(crate) fn elements(&self, at: usize) -> Vec<Range<usize>> {
        json::elements(self.data, at).map_while(Result::ok).map(|item| item.value).collect()
    }

    /// Finds the last member of this name, however it is escaped.
    pub(crate) fn named(&self, at: usize, name: &str) -> Option<Range<usize>> {
        let items = self.members(at).into_iter();
        items.rev().find(|item| decodes_to(&self.data[item.key.clone()], name)).map(|item| item.value)
    }

    pub(crate) fn key(&self, item: &ItemSpan) -> String {
        decode(&self.data[item.key.clone()], usize::MAX).into_owned()
    }

    pub(crate) fn is_named(&self, item: &ItemSpan, name: &str) -> bool {
        decodes_to(&self.data[item.key.clone()], name)
    }

    pub(crate) fn value(&self, span: &Range<usize>) -> &'a [u8] {
        &self.data[span.clone()]
    }

    pub(crate) fn number(&self, at: &Range<usize>, name: &str) -> Option<u32> {
        number_member(self.value(at), name).and_then(|number| number.try_into().ok())
    }

    pub(crate) fn step(&mut self, step: AnswerStep) {
        self.content.steps.push(step);
    }

    /// Notes a text if the value is a string.
    pub(crate) fn text(&mut self, id: TextId, span: Range<usize>, is_repeat: bool) {
        if self.value(&span).starts_with(b"\"") {
            let span = span.start + 1..span.end - 1;
            self.content.texts.push(TextSpan { id, span, is_repeat });
        }
    }

    /// Notes every member of this name, of which a reader would take one.
    pub(crate) fn texts(&mut self, at: usize, name: &str, id: TextId, is_repeat: bool) {
        for item in self.members(at) {
            if self.is_named(&item, name) {
                self.text(id, item.value, is_repeat);
            }
        }
    }

    /// Notes every string in the members of an object, but for those that are known and those that hold no texts.
    pub(crate) fn rest(&mut self, choice: u32, at: usize, known: &[&str]) {
        for item in self.members(at) {
            let key = self.key(&item);
            if !known.contains(&&*key) {
                self.unknown(choice, &key, item.value);
            }
        }
    }

    /// Notes every string of a member under a name that is not known, unless it is one that holds no texts.
    pub(crate) fn unknown(&mut self, choice: u32, key: &str, span: Range<usize>) {
        if !NO_TEXTS.contains(&key) {
            self.strings(choice, span, &NO_TEXTS);
        }
    }

    /// Notes every string of a value, each as a text that is complete; members under the skipped names are passed over.
    ///
    /// Not by recursion: a value may be nested deeper than the stack.
    pub(crate) fn strings(&mut self, choice: u32, span: Range<usize>, skipped: &[&str]) {
        let mut open = vec![span];
        while let Some(span) = open.pop() {
            match self.value(&span).first() {
                Some(b'"') => self.whole_text(choice, span),
                Some(b'[') => {
                    let elements = self.elements(span.start);
                    open.extend(elements.into_iter().rev().filter(|item| self.may_hold_text(item)));
                }
                Some(b'{') => {
                    let items = self.members(span.start);
                    let wanted = items.into_iter().rev().filter(|item| {
                        self.may_hold_text(&item.value) && !skipped.contains(&&*self.key(item))
                    });
                    open.extend(wanted.map(|item| item.value));
                }
                _ => {}
            }
        }
    }

    fn may_hold_text(&self, span: &Range<usize>) -> bool {
        matches!(self.value(span).first(), Some(b'"' | b'[' | b'{'))
    }

    fn whole_text(&mut self, choice: u32, span: Range<usize>) {
        if self.content.texts.len() >= MOST_OTHERS {
            self.content.is_unread = true;
        } else {
            self.text(TextId { choice, channel: Channel::Whole, part: 0 }, span, false);
        }
    }

    /// Notes a member that says how the answer ended.
    pub(crate) fn end(&mut self, name: &str, write: WriteEnd) {
        if let Some(span) = self.named(0, name) {
            self.content.ends.push((span, write));
        }
    }

    /// Notes a member that shows a choice's text in another form.
    pub(crate) fn derived(&mut self, choice: u32, span: Range<usize>, with: &'static [u8]) {
        self.content.derived.push(DerivedMember { choice, span, with });
    }
}
