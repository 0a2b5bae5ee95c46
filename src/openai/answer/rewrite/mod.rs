//! An answer on its way to the client, held back as far as its text is not judged.
//!
//! Owns which bytes may go: an event goes when all its text is released, byte for byte as it came unless its text
//! was changed, and then with nothing but that text changed. Refuses to judge: the reader of the pending text does.
//!
//! Held are all texts that a model writes: contents, reasoning, refusals, arguments of calls; and every other string
//! but those under names that hold none (`content::NO_TEXTS`). Data that is not JSON is a text as well, so that nothing
//! slips by. What shows a changed text in another form (log probabilities, token ids) is taken out with it.

mod held;
mod progress;
mod texts;

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::json;
use crate::json::object::is_object;
use crate::sse::{EventData, SseFrame};
use crate::{Api, FinishReason, Format};

use super::AnswerPiece;
use super::content::{AnswerContent, AnswerStep, TextId};
use super::dialect::AnswerDialect;
use held::HeldFrame;
use progress::AnswerProgress;
use texts::AnswerTexts;

/// How much of an answer is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteLimits {
    /// The most bytes held, decoded texts included. Beyond it [`AnswerRewriter::overflow`] is true, what comes after is
    /// lost, and [`AnswerRewriter::cut`] is the one way to end the answer.
    pub max_held: usize,
}

/// A text that waits to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingText<'a> {
    /// Which text.
    pub id: TextId,
    /// What of it is not released.
    pub text: &'a str,
    /// Nothing more of it will come.
    pub is_complete: bool,
}

/// Holds an answer back and lets go of what is released.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct AnswerRewriter {
    dialect: &'static dyn AnswerDialect,
    limits: RewriteLimits,
    is_stream: bool,
    /// A document as far as it has arrived; it is read at its end.
    document: Vec<u8>,
    held: VecDeque<HeldFrame>,
    texts: AnswerTexts,
    progress: AnswerProgress,
    /// Bytes in `held` and its texts.
    held_bytes: usize,
    /// Something has gone out.
    has_begun: bool,
    /// The upstream's last byte has arrived, or the answer was cut.
    has_ended: bool,
    obstacle: Option<Obstacle>,
    is_cut: bool,
}

/// Why an answer cannot be held back and released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// More was to be held than allowed.
    Overflow,
    /// Something is no text that could be read.
    Unread,
}

impl AnswerRewriter {
    /// Starts an answer; what is no stream of events is taken as one document, which is read at its end.
    pub fn new(format: Format, api: Api, limits: RewriteLimits) -> Self {
        let (dialect, is_stream) = (api.answers(), format == Format::EventStream);
        Self {
            dialect,
            limits,
            is_stream,
            document: Vec::new(),
            held: VecDeque::new(),
            texts: AnswerTexts::new(dialect.repeats_texts() && is_stream),
            progress: AnswerProgress::new(dialect, is_stream),
            held_bytes: 0,
            has_begun: false,
            has_ended: false,
            obstacle: None,
            is_cut: false,
        }
    }

    /// Takes the next piece of the upstream's answer.
    pub fn hold(&mut self, piece: AnswerPiece<'_>) {
        if self.overflow() || self.has_ended {
            return;
        }
        match piece {
            AnswerPiece::Event(frame) => self.hold_event(frame.raw().to_vec()),
            AnswerPiece::Bytes(bytes) => self.document.extend_from_slice(bytes),
            AnswerPiece::Oversized => self.obstacle = Some(Obstacle::Overflow),
        }
    }

    /// Compares what is held with its limit; `unfinished` bytes more are held by the answer's splitter.
    pub fn bound(&mut self, unfinished: usize) {
        if self.held() + unfinished > self.limits.max_held {
            self.obstacle = Some(Obstacle::Overflow);
        }
    }

    /// Notes the upstream's last byte: every text is complete.
    pub fn end(&mut self) {
        let has_ended = std::mem::replace(&mut self.has_ended, true);
        let document = std::mem::take(&mut self.document);
        // What is beyond the limit was not taken whole.
        if !self.is_stream && !has_ended && !self.overflow() {
            self.hold_document(document);
        }
        self.texts.note(&AnswerStep::Over);
    }

    /// Returns the texts of which something is not released.
    pub fn pending(&self) -> impl Iterator<Item = PendingText<'_>> {
        self.texts.pending()
    }

    /// Says whether more was to be held than allowed.
    pub fn overflow(&self) -> bool {
        self.obstacle == Some(Obstacle::Overflow)
    }

    /// Says whether something that has come is no text that could be read.
    pub fn is_unread(&self) -> bool {
        self.obstacle == Some(Obstacle::Unread)
    }

    /// Gives up a document of which nothing has gone out, and returns what has come of it.
    pub fn give_up(&mut self) -> Bytes {
        (self.has_ended, self.is_cut) = (true, true);
        Bytes::from(std::mem::take(&mut self.document))
    }

    /// Returns how many bytes are held.
    pub fn held(&self) -> usize {
        self.document.len() + self.held_bytes + self.texts.kept()
    }

    /// Says whether the answer has ended and nothing of it is held any more.
    pub fn is_over(&self) -> bool {
        let has_ended = self.has_ended && self.held.is_empty();
        self.is_cut || (has_ended && !self.overflow())
    }

    /// Makes the first `upto` bytes of a pending text final, each range of them replaced. Ranges are of the pending
    /// text, sorted; one that splits a character takes the whole of it, one that overlaps the one before what is
    /// left, and `upto` goes back to the start of its character. A replacement stands where its range starts.
    pub fn release(&mut self, id: TextId, upto: usize, replacements: &[(Range<usize>, String)]) {
        let Some(mut release) = self.texts.release(id, upto, replacements) else {
            return;
        };
        for held in &mut self.held {
            if release.is_done() {
                break;
            }
            held.release(id, &mut release);
        }
        if let Some(left) = release.take_left()
            && self.held.iter_mut().rev().any(|held| held.append(id, &left))
        {
            release.inserted(&left);
        }
        self.texts.released(id, &release);
    }

    /// Returns what may go out now, in the order in which it came.
    pub fn take(&mut self) -> Bytes {
        self.take_each(|_piece| {})
    }

    /// Returns what may go out now, and hands over its pieces.
    pub fn take_each(&mut self, mut each: impl FnMut(AnswerPiece<'_>)) -> Bytes {
        let mut out = Vec::new();
        while self.held.front().is_some_and(|held| held.is_free(&self.texts)) {
            let Some(held) = self.held.pop_front() else {
                break;
            };
            self.held_bytes -= held.cost();
            held.steps.iter().for_each(|step| self.progress.sent(step));
            let written = held.write(&self.texts);
            let is_first = !std::mem::replace(&mut self.has_begun, true);
            each(if self.is_stream {
                AnswerPiece::event(SseFrame::new(&written, is_first))
            } else {
                AnswerPiece::Bytes(&written)
            });
            if out.is_empty() {
                out = written;
            } else {
                out.extend_from_slice(&written);
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
        self.document = Vec::new();
        (self.has_ended, self.is_cut, self.held_bytes) = (true, true, 0);
        let held = std::mem::take(&mut self.held);
        out.extend_from_slice(&self.progress.end(&held, &self.texts, finish, note));
        self.texts.forget();
        Bytes::from(out)
    }

    fn hold_event(&mut self, frame: Vec<u8>) {
        let data = EventData::of(&frame);
        let content = match &data {
            None => AnswerContent::default(),
            Some(data) if data.bytes.is_empty() => AnswerContent::default(),
            Some(data) if data.bytes == b"[DONE]" => AnswerContent::default().whole(),
            Some(data) if is_object(&data.bytes) => {
                self.progress.seen(&data.bytes);
                self.dialect.scan_event(&data.bytes)
            }
            Some(_) => AnswerContent::raw(frame.len()),
        };
        self.hold_frame(frame, data.as_ref(), content);
    }

    fn hold_document(&mut self, body: Vec<u8>) {
        let content = if is_object(&body) {
            self.progress.seen(&body);
            self.dialect.scan_whole(&body)
        } else if json::document(&body).is_ok() {
            AnswerContent::of_any(&body)
        } else {
            AnswerContent::raw(body.len())
        };
        if content.is_unread || std::str::from_utf8(&body).is_err() {
            self.obstacle = Some(Obstacle::Unread);
            self.document = body;
            return;
        }
        let data = EventData::whole(&body);
        self.hold_frame(body, Some(&data), content);
    }

    fn hold_frame(&mut self, bytes: Vec<u8>, data: Option<&EventData>, content: AnswerContent) {
        if content.is_unread {
            self.obstacle.get_or_insert(Obstacle::Unread);
        }
        let held = HeldFrame::new(bytes, data, content, &mut self.texts);
        held.steps.iter().for_each(|step| self.texts.note(step));
        self.held_bytes += held.cost();
        self.held.push_back(held);
    }
}

#[cfg(test)]
mod tests;
