//! One event, or one whole answer, that is held until its texts are released.
//!
//! Refuses to know what an answer looks like; where its texts stand, it is told.

use std::ops::Range;

use bytes::Bytes;

use crate::openai::json::quoted;
use crate::openai::json::string::decode;
use crate::openai::{Edit, splice};

use super::frames::EventData;
use super::reading::{AnswerContent, AnswerStep, DerivedMember, EndMember};
use super::texts::{AnswerTexts, TextRelease};
use super::{Channel, TextId};

/// What an event costs beside its bytes.
const OVERHEAD: usize = 64;

/// Bytes, and what is known of the texts in them.
#[derive(Debug)]
pub(super) struct HeldFrame {
    bytes: Vec<u8>,
    pieces: Vec<HeldText>,
    derived: Vec<DerivedMember>,
    pub(super) steps: Vec<AnswerStep>,
    pub(super) ends: Vec<(Range<usize>, EndMember)>,
}

/// One string in the bytes.
#[derive(Debug)]
struct HeldText {
    place: TextId,
    /// What stands between the quotes, in the bytes.
    span: Range<usize>,
    said: String,
    /// How much of it is final, and what was made of that.
    released: usize,
    made: String,
    is_changed: bool,
    is_repeat: bool,
}

impl HeldFrame {
    pub(super) fn new(
        bytes: Vec<u8>,
        data: Option<&EventData>,
        reading: AnswerContent,
        texts: &mut AnswerTexts,
    ) -> Self {
        let place = |span: &Range<usize>| data.map_or(0..0, |data| data.place(span));
        let mut pieces = Vec::with_capacity(reading.texts.len());
        for found in reading.texts {
            let is_raw = found.place.channel == Channel::Raw;
            let span = if is_raw { found.span } else { place(&found.span) };
            let said = if is_raw {
                String::from_utf8_lossy(&bytes[span.clone()]).into_owned()
            } else {
                decode(&bytes[span.clone()], usize::MAX).into_owned()
            };
            let is_repeat = found.is_repeat && texts.repeats(found.place, &said);
            if !is_repeat {
                texts.append(found.place, &said);
            }
            let (released, made) = Default::default();
            pieces.push(HeldText {
                place: found.place,
                span,
                said,
                released,
                made,
                is_changed: false,
                is_repeat,
            });
        }
        let derived = reading
            .derived
            .into_iter()
            .map(|member| DerivedMember { span: place(&member.span), ..member })
            .collect();
        let ends = reading.ends.into_iter().map(|(span, end)| (place(&span), end)).collect();
        Self { bytes, pieces, derived, steps: reading.steps, ends }
    }

    /// Returns how many bytes it takes to hold this.
    pub(super) fn cost(&self) -> usize {
        let texts: usize = self.pieces.iter().map(|piece| OVERHEAD + 2 * piece.said.len()).sum();
        OVERHEAD + self.bytes.len() + texts
    }

    /// Takes what is released of a text.
    pub(super) fn release(&mut self, place: TextId, release: &mut TextRelease) {
        for piece in self.direct(place) {
            let left = piece.said.len() - piece.released;
            let (passed, is_changed) = release.pass(left, &mut piece.made);
            piece.released += passed;
            piece.is_changed |= is_changed;
        }
    }

    /// Adds to what was made of a text; false if nothing of it is here.
    pub(super) fn append(&mut self, place: TextId, more: &str) -> bool {
        let last = self.direct(place).filter(|piece| piece.released > 0).last();
        if let Some(piece) = last {
            piece.made.push_str(more);
            piece.is_changed = true;
            return true;
        }
        false
    }

    /// Says whether all of it may go out.
    pub(super) fn is_free(&self, texts: &AnswerTexts) -> bool {
        self.pieces.iter().all(|piece| {
            if piece.is_repeat { texts.is_released(piece.place) } else { piece.released == piece.said.len() }
        })
    }

    /// Returns what is released of a text.
    pub(super) fn made(&self, place: TextId) -> impl Iterator<Item = &str> {
        let here = self.pieces.iter().filter(move |piece| !piece.is_repeat && piece.place == place);
        here.map(|piece| piece.made.as_str())
    }

    /// Writes it with its texts as they have become.
    pub(super) fn write(mut self, texts: &AnswerTexts) -> Vec<u8> {
        for piece in self.pieces.iter_mut().filter(|piece| piece.is_repeat) {
            if let Some(made) = texts.repeated_as(piece.place) {
                made.clone_into(&mut piece.made);
                piece.is_changed = true;
            }
        }
        self.spliced(Vec::new())
    }

    /// Writes it with its texts cut where they are released, a note behind each choice's content, and other ends.
    pub(super) fn write_cut(&self, note: Option<&str>, ends: impl Fn(EndMember) -> Vec<u8>) -> Vec<u8> {
        let mut edits: Vec<Edit> =
            self.ends.iter().map(|(span, end)| Edit { span: span.clone(), with: ends(*end) }).collect();
        for (at, piece) in self.pieces.iter().enumerate() {
            let is_content = |piece: &HeldText| piece.place.channel == Channel::Content;
            let follows = self.pieces[at + 1..]
                .iter()
                .any(|other| is_content(other) && other.place.choice == piece.place.choice);
            let note = note.filter(|_| is_content(piece) && !follows).unwrap_or_default();
            if piece.is_changed || piece.released < piece.said.len() || !note.is_empty() {
                edits.push(piece.edit(&format!("{}{note}", piece.made)));
            }
        }
        let is_touched = |choice: u32| {
            self.pieces.iter().any(|piece| {
                piece.place.choice == choice && (piece.is_changed || piece.released < piece.said.len())
            })
        };
        edits.extend(self.derived_edits(is_touched));
        edits.sort_by_key(|edit| edit.span.start);
        splice(&Bytes::copy_from_slice(&self.bytes), &edits).to_vec()
    }

    fn spliced(self, mut edits: Vec<Edit>) -> Vec<u8> {
        let changed = self.pieces.iter().filter(|piece| piece.is_changed);
        edits.extend(changed.map(|piece| piece.edit(&piece.made)));
        if edits.is_empty() {
            return self.bytes;
        }
        let is_changed =
            |choice| self.pieces.iter().any(|piece| piece.is_changed && piece.place.choice == choice);
        edits.extend(self.derived_edits(is_changed));
        edits.sort_by_key(|edit| edit.span.start);
        splice(&Bytes::from(self.bytes), &edits).to_vec()
    }

    fn derived_edits(&self, is_changed: impl Fn(u32) -> bool) -> Vec<Edit> {
        let broken = self.derived.iter().filter(|member| is_changed(member.choice));
        broken.map(|member| Edit { span: member.span.clone(), with: member.with.to_vec() }).collect()
    }

    fn direct(&mut self, place: TextId) -> impl Iterator<Item = &mut HeldText> {
        self.pieces.iter_mut().filter(move |piece| !piece.is_repeat && piece.place == place)
    }
}

impl HeldText {
    fn edit(&self, made: &str) -> Edit {
        let with = if self.place.channel == Channel::Raw {
            made.as_bytes().to_vec()
        } else {
            let quoted = quoted(made);
            quoted[1..quoted.len() - 1].to_vec()
        };
        Edit { span: self.span.clone(), with }
    }
}
