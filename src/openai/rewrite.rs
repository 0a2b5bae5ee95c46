//! An answer on its way to the client, held back as far as its text is not judged.
//!
//! Owns which bytes may go: an event goes when all its text is released, byte for byte as it came unless its text
//! was changed, and then with nothing but that text changed. Refuses to judge: whoever reads the pending text does.
//!
//! Watched are all texts that a model writes: contents, reasoning, refusals, arguments of calls. EventData that is not
//! JSON is a text as well, so that nothing slips by. Not watched are the input of a tool in a whole Anthropic message,
//! which is an object, citations, annotations, audio, and names. What tells of a changed text by other means (log
//! probabilities, token ids) is taken out with it.

mod frames;
mod held;
mod progress;
mod reading;
mod texts;

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::json::object::is_object;
use super::{Api, FinishReason, Format};
use frames::{EventData, Frames};
use held::HeldFrame;
use progress::AnswerProgress;
use reading::{AnswerContent, AnswerStep};
use texts::AnswerTexts;

/// How much of an answer is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteLimits {
    /// The most bytes held, decoded texts included. Beyond it [`AnswerRewriter::overflow`] is true, what comes after is
    /// lost, and [`AnswerRewriter::cut`] is the one way to end the answer.
    pub max_held: usize,
}

/// Which kind of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// What is said to the client.
    Content,
    /// What the model thinks aloud.
    Reasoning,
    /// A short form of that, in the Responses API.
    Summary,
    /// Why the model says nothing.
    Refusal,
    /// The arguments of a call: JSON inside a string, and a replacement has to leave it JSON.
    Arguments,
    /// Another text of a delta, under a name that is not known here.
    Other,
    /// EventData that is no JSON object, as it stands.
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

/// A text that waits to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingText<'a> {
    /// Which text.
    pub place: TextId,
    /// What of it is not released.
    pub text: &'a str,
    /// Nothing more of it will come.
    pub is_complete: bool,
}

/// Holds an answer back and lets go of what is released.
#[derive(Debug)]
pub struct AnswerRewriter {
    api: Api,
    limits: RewriteLimits,
    source: Source,
    held: VecDeque<HeldFrame>,
    texts: AnswerTexts,
    progress: AnswerProgress,
    /// Bytes in `held` and its texts.
    held_bytes: usize,
    overflow: bool,
    is_cut: bool,
}

#[derive(Debug)]
enum Source {
    Document(Vec<u8>),
    Stream(Frames),
    /// The answer has ended, or has been cut.
    Ended,
}

impl AnswerRewriter {
    /// Starts an answer; what is no stream of events is taken as one document, which is read at its end.
    pub fn new(format: Format, api: Api, limits: RewriteLimits) -> Self {
        let source = match format {
            Format::EventStream => Source::Stream(Frames::default()),
            Format::Json | Format::Opaque => Source::Document(Vec::new()),
        };
        let is_stream = format == Format::EventStream;
        Self {
            api,
            limits,
            source,
            held: VecDeque::new(),
            texts: AnswerTexts::new(api == Api::Responses && is_stream),
            progress: AnswerProgress::new(api, is_stream),
            held_bytes: 0,
            overflow: false,
            is_cut: false,
        }
    }

    /// Takes the next bytes of the upstream's answer.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.overflow {
            return;
        }
        let mut complete = Vec::new();
        match &mut self.source {
            Source::Document(body) => body.extend_from_slice(chunk),
            Source::Stream(frames) => frames.feed(chunk, |frame| complete.push(frame)),
            Source::Ended => return,
        }
        for frame in complete {
            self.hold_event(frame);
        }
        self.overflow |= self.held() > self.limits.max_held;
    }

    /// Notes the upstream's last byte: every text is complete.
    pub fn end(&mut self) {
        match std::mem::replace(&mut self.source, Source::Ended) {
            // What is beyond the limit was not taken whole.
            _ if self.overflow => {}
            Source::Document(body) => self.hold_document(body),
            Source::Stream(mut frames) => {
                let rest = frames.rest();
                if !rest.is_empty() {
                    self.hold_event(rest);
                }
            }
            Source::Ended => {}
        }
        self.texts.note(&AnswerStep::Over);
    }

    /// Returns the texts of which something is not released.
    pub fn pending(&self) -> impl Iterator<Item = PendingText<'_>> {
        self.texts.pending()
    }

    /// Says whether more was to be held than allowed.
    pub fn overflow(&self) -> bool {
        self.overflow
    }

    /// Returns how many bytes are held.
    pub fn held(&self) -> usize {
        let unread = match &self.source {
            Source::Document(body) => body.len(),
            Source::Stream(frames) => frames.held(),
            Source::Ended => 0,
        };
        unread + self.held_bytes + self.texts.kept()
    }

    /// Says whether the answer has ended and nothing of it is held any more.
    pub fn is_over(&self) -> bool {
        let has_ended = matches!(self.source, Source::Ended) && self.held.is_empty();
        self.is_cut || (has_ended && !self.overflow)
    }

    /// Makes the first `upto` bytes of a pending text final, each range of them replaced. Ranges are of the pending
    /// text, sorted; one that splits a character takes the whole of it, one that overlaps the one before what is
    /// left, and `upto` goes back to the start of its character. A replacement stands where its range starts.
    pub fn release(&mut self, place: TextId, upto: usize, replacements: &[(Range<usize>, String)]) {
        let Some(mut release) = self.texts.release(place, upto, replacements) else {
            return;
        };
        for held in &mut self.held {
            if release.is_done() {
                break;
            }
            held.release(place, &mut release);
        }
        for held in self.held.iter_mut().rev() {
            if release.insert_left(held, place) {
                break;
            }
        }
        self.texts.released(place, &release);
    }

    /// Returns what may go out now, in the order in which it came.
    pub fn take(&mut self) -> Bytes {
        let mut out = Vec::new();
        while self.held.front().is_some_and(|held| held.is_free(&self.texts)) {
            let Some(held) = self.held.pop_front() else {
                break;
            };
            self.held_bytes -= held.cost();
            held.steps.iter().for_each(|step| self.progress.sent(step));
            if out.is_empty() {
                out = held.write(&self.texts);
            } else {
                out.extend_from_slice(&held.write(&self.texts));
            }
        }
        Bytes::from(out)
    }

    /// Ends the answer here: what may go out, then what is released of the texts behind it, with `note` after each
    /// choice's content, then a well-formed end. Everything that comes later is swallowed.
    pub fn cut(&mut self, finish: FinishReason, note: Option<&str>) -> Bytes {
        if self.is_over() {
            return Bytes::new();
        }
        let mut out = self.take().to_vec();
        self.source = Source::Ended;
        self.is_cut = true;
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        if self.progress.is_stream() {
            self.progress.end(&mut out, &held, &self.texts, (finish, note));
        } else {
            out.extend_from_slice(&self.progress.document(held.front(), finish, note));
        }
        self.texts.forget();
        Bytes::from(out)
    }

    fn hold_event(&mut self, frame: Vec<u8>) {
        let data = EventData::of(&frame);
        let reading = match &data {
            None => AnswerContent::default(),
            Some(data) if data.bytes.is_empty() => AnswerContent::default(),
            Some(data) if data.bytes == b"[DONE]" => {
                AnswerContent { steps: vec![AnswerStep::Over], ..AnswerContent::default() }
            }
            Some(data) if is_object(&data.bytes) => {
                self.progress.seen(&data.bytes);
                reading::event(self.api, &data.bytes)
            }
            Some(_) => reading::raw(frame.len()),
        };
        self.hold(frame, data.as_ref(), reading);
    }

    fn hold_document(&mut self, body: Vec<u8>) {
        let data = EventData::whole(&body);
        let reading = if is_object(&body) {
            self.progress.seen(&body);
            reading::whole(self.api, &body)
        } else {
            reading::raw(body.len())
        };
        self.hold(body, Some(&data), reading);
    }

    fn hold(&mut self, bytes: Vec<u8>, data: Option<&EventData>, reading: AnswerContent) {
        let held = HeldFrame::new(bytes, data, reading, &mut self.texts);
        held.steps.iter().for_each(|step| self.texts.note(step));
        self.held_bytes += held.cost();
        self.held.push_back(held);
    }
}

#[cfg(test)]
mod tests;
