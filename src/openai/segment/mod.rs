//! Every text of a request that its upstream shows the model, with role, kind and place; and what cannot be read.
//!
//! A request is read once, when first asked for, in one walk over all of its members: what a room knows to be no text
//! is left out, everything else is a segment or unread. Refuses to choose: callers filter by kind and role.

mod block;
mod embedded;
mod message;
mod reader;
pub(super) mod rule;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::ChatRequest;
use super::json::string::decode;
use super::message::Role;
pub use block::{SegmentPlace, TextBlock, TextPiece};
use reader::SegmentReader;

/// What a text of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// A message's own text, a prompt, an input or a query.
    Message,
    /// A message of the system or a developer, or the API's own member for it.
    SystemPrompt,
    /// The name or an argument of a call that the model made.
    ToolCall,
    /// What a tool returned.
    ToolResult,
    /// The name or description of an offered tool.
    ToolDescription,
    /// A document, or another text to search, rank or compare.
    Document,
    /// What the model thought.
    Reasoning,
    /// The name of an author, of a file, or of the tool to call.
    Name,
    /// A name, description or value in a schema, a grammar or a pattern of tools or answers.
    Schema,
    /// A chat template, or a value for one.
    Template,
    /// The answer that the client expects.
    Prediction,
    /// An identifier, which some chat templates show.
    Identifier,
    /// Whom the request is for, and what ends its answer: no model is shown it, but its provider gets it.
    Metadata,
    /// Anything else, also in members that no API is known to have.
    Other,
}

/// One text of a request: one string of its JSON, or a long number, which can be personal data.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    /// Its author; of a text outside of messages, the usual author of its kind.
    pub role: Role,
    /// What it is.
    pub kind: SegmentKind,
    /// The message that it belongs to, counted from 0 as [`ChatRequest::segments`] meets their ends; a tool's result
    /// is a message of its own in every API. Nothing outside of messages.
    pub message: Option<usize>,
    /// Whether [`ChatRequest::message_texts`] has it.
    pub in_message_text: bool,
    /// Whether it is a number, which has no quotes.
    pub is_number: bool,
    entry: &'a SegmentEntry,
    request: &'a ChatRequest,
}

/// Something of a request that the model gets and that cannot be read as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What it is.
    pub kind: UnreadKind,
    /// Its value in the body.
    pub span: Range<usize>,
    /// How many segments come before it.
    before: u32,
}

/// Why something of a request cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnreadKind {
    /// An image.
    Image,
    /// Audio.
    Audio,
    /// A video.
    Video,
    /// A file, or a document that is no text.
    File,
    /// Embeddings in place of text.
    Embedding,
    /// Token ids in place of text.
    TokenIds,
    /// Encrypted reasoning or results.
    Encrypted,
    /// A stored prompt, answer, conversation or item: the text is not in the request.
    Reference,
    /// A part or item of a type that no API is known to have; its strings are segments of kind [`SegmentKind::Other`].
    UnknownPart,
    /// The rest of a member with more than [`MAX_SEGMENTS`] strings outside of messages' texts.
    TooMany,
}

/// How many strings are read outside of messages' own texts, and how many unread places are kept.
pub const MAX_SEGMENTS: usize = 65_536;

/// What one walk over a request has found.
#[derive(Debug, Default)]
pub(super) struct RequestTexts {
    entries: Vec<SegmentEntry>,
    /// The texts of entries with escapes, decoded when first asked for.
    decoded: Vec<OnceLock<Box<str>>>,
    pub(super) messages: Vec<MessageEntry>,
    unread: Vec<Unread>,
    /// The message that is the prompt.
    pub(super) prompt: Option<usize>,
}

/// A segment as it is kept: small, since a body can have millions.
#[derive(Debug)]
struct SegmentEntry {
    start: u32,
    length: u32,
    /// The message, or [`NONE`].
    message: u32,
    /// The place in `decoded`, or [`NONE`] for a string without escapes.
    decoded: u32,
    role: Role,
    kind: SegmentKind,
    form: TextForm,
}

/// How a text stands in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextForm {
    /// A string that belongs to a message's own text.
    Own,
    /// Another string.
    String,
    /// A number.
    Number,
}

/// No message, or no decoded text.
const NONE: u32 = u32::MAX;

/// One message: its author, and the entries among which its own are.
#[derive(Debug)]
pub(super) struct MessageEntry {
    pub(super) role: Role,
    /// Whether any of its own strings is not empty.
    pub(super) has_text: bool,
    entries: Range<u32>,
}

impl SegmentEntry {
    fn span(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

impl Unread {
    /// Whether it stands before the segment at a place among [`ChatRequest::segments`].
    pub fn is_before(&self, segment: usize) -> bool {
        self.before as usize <= segment
    }
}

impl<'a> Segment<'a> {
    /// Returns the bytes between the string's quotes, or the number, as a range of the body.
    pub fn span(&self) -> Range<usize> {
        self.entry.span()
    }

    /// Returns the text; a string with escapes is decoded once, one without is not copied.
    pub fn text(&self) -> &'a str {
        let is_utf8 = "a body is UTF-8, and its quotes are characters";
        self.decoded().unwrap_or_else(|| std::str::from_utf8(self.inside()).expect(is_utf8))
    }

    /// Returns the bytes of the text, for those who need not know that they are characters.
    pub fn bytes(&self) -> &'a [u8] {
        self.decoded().map_or_else(|| self.inside(), str::as_bytes)
    }

    fn inside(&self) -> &'a [u8] {
        &self.request.body()[self.entry.span()]
    }

    /// The text of a string with escapes.
    fn decoded(&self) -> Option<&'a str> {
        let decoded = self.request.texts().decoded.get(self.entry.decoded as usize)?;
        Some(decoded.get_or_init(|| decode(self.inside(), usize::MAX).into()))
    }
}

impl ChatRequest {
    /// Returns every text of the request: system prompts outside of the messages, then the prompt with its messages,
    /// then the rest in the order of the body.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let texts = self.texts();
        texts.entries.iter().map(|entry| self.segment(entry))
    }

    /// Returns what the model gets and cannot be read here.
    pub fn unread(&self) -> &[Unread] {
        &self.texts().unread
    }

    /// Says whether it names a stored answer, conversation, prompt or file, which one replica may have and others not.
    pub fn refers_to_stored(&self) -> bool {
        self.unread().iter().any(|unread| matches!(unread.kind, UnreadKind::Reference | UnreadKind::File))
    }

    /// Returns the same without what stands before the prompt.
    pub fn latest_unread(&self) -> impl Iterator<Item = &Unread> {
        let first = self.first_of_prompt() as u32;
        self.unread().iter().filter(move |unread| unread.before >= first)
    }

    /// Returns which segment is the first of the message that is the prompt; what follows it is as new as that, or
    /// stands beside the messages.
    pub(super) fn first_of_prompt(&self) -> usize {
        let texts = self.texts();
        texts.prompt.map_or(0, |prompt| texts.messages[prompt].entries.start as usize)
    }

    /// Returns the strings of a message's own text, in order, empty ones too.
    pub(super) fn message_segments(&self, message: usize) -> impl Iterator<Item = Segment<'_>> {
        let texts = self.texts();
        let MessageEntry { entries, .. } = &texts.messages[message];
        let among = &texts.entries[entries.start as usize..entries.end as usize];
        let own = among
            .iter()
            .filter(move |entry| entry.form == TextForm::Own && entry.message as usize == message);
        own.map(|entry| self.segment(entry))
    }

    /// Reads the request, once.
    pub(super) fn texts(&self) -> &RequestTexts {
        self.texts.get_or_init(|| Arc::new(SegmentReader::read(self)))
    }

    /// Returns the segment at a place among [`Self::segments`].
    pub fn nth_segment(&self, at: usize) -> Segment<'_> {
        self.segment(&self.texts().entries[at])
    }

    fn segment<'a>(&'a self, entry: &'a SegmentEntry) -> Segment<'a> {
        Segment {
            role: entry.role,
            kind: entry.kind,
            message: (entry.message != NONE).then_some(entry.message as usize),
            in_message_text: entry.form == TextForm::Own,
            is_number: entry.form == TextForm::Number,
            entry,
            request: self,
        }
    }
}
