//! One event, or one whole answer, that is held until its texts are released.
//!
//! Refuses to know what an answer looks like; where its texts stand, its reader says.

use std::ops::Range;

use bytes::Bytes;

use crate::answer::content::{AnswerContent, AnswerStep, Channel, DerivedMember, TextId, TextSpan, WriteEnd};
use crate::json::quoted;
use crate::json::string::decode;
use crate::sse::EventData;
use crate::{Edit, FinishReason, splice};

use super::texts::{AnswerTexts, TextRelease};

/// What an event costs beside its bytes.
const OVERHEAD: usize = 64;

/// Bytes, and what is known of the texts in them.
#[derive(Debug)]
pub(super) struct HeldFrame {
    bytes: Vec<u8>,
    texts: Vec<HeldText>,
    derived: Vec<DerivedMember>,
    pub(super) steps: Vec<AnswerStep>,
    ends: Vec<(Range<usize>, WriteEnd)>,
}

/// One string in the bytes.
#[derive(Debug)]
struct HeldText {
    id: TextId,
    /// What stands between the quotes, in the bytes.
    span: Range<usize>,
    text: String,
    /// How much of it is final, and what stands in place of that.
    released: usize,
    rewritten: String,
    is_changed: bool,
    is_repeat: bool,
}

impl HeldFrame {
    pub(super) fn new(
        bytes: Vec<u8>,
        data: Option<&EventData>,
        content: AnswerContent,
        known: &mut AnswerTexts,
    ) -> Self {
        let locate = |span: &Range<usize>| data.map_or(0..0, |data| data.locate(span));
        let mut texts = Vec::with_capacity(content.texts.len());
        for TextSpan { id, span, is_repeat } in content.texts {
            let id = known.identify(id);
            let is_raw = id.channel == Channel::Raw;
            let span = if is_raw { span } else { locate(&span) };
            let text = if is_raw {
                String::from_utf8_lossy(&bytes[span.clone()]).into_owned()
            } else {
                decode(&bytes[span.clone()], usize::MAX).into_owned()
            };
            let is_repeat = is_repeat && known.repeats(id, &text);
            if !is_repeat {
                known.append(id, &text);
            }
            let rewritten = String::new();
            texts.push(HeldText { id, span, text, released: 0, rewritten, is_changed: false, is_repeat });
        }
        let derived = content.derived.into_iter();
        let derived = derived.map(|member| DerivedMember { span: locate(&member.span), ..member }).collect();
        let ends = content.ends.into_iter().map(|(span, write)| (locate(&span), write)).collect();
        Self { bytes, texts, derived, steps: content.steps, ends }
    }

    /// Returns how many bytes it takes to hold this.
    pub(super) fn cost(&self) -> usize {
        let texts: usize = self.texts.iter().map(|text| OVERHEAD + 2 * text.text.len()).sum();
        OVERHEAD + self.bytes.len() + texts
    }

    /// Takes what is released of a text.
    pub(super) fn release(&mut self, id: TextId, release: &mut TextRelease) {
        for text in self.direct(id) {
            let left = text.text.len() - text.released;
            let (passed, is_changed) = release.pass(left, &mut text.rewritten);
            text.released += passed;
            text.is_changed |= is_changed;
        }
    }

    /// Adds to what stands in place of a text; false if nothing of it is here.
    pub(super) fn append(&mut self, id: TextId, more: &str) -> bool {
        let last = self.direct(id).filter(|text| text.released > 0).last();
        if let Some(text) = last {
            text.rewritten.push_str(more);
            text.is_changed = true;
            return true;
        }
        false
    }

    /// Says whether all of it may go out.
    pub(super) fn is_free(&self, known: &AnswerTexts) -> bool {
        self.texts.iter().all(|text| {
            if text.is_repeat { known.is_released(text.id) } else { text.released == text.text.len() }
        })
    }

    /// Returns what is released of each text.
    pub(super) fn released_texts(&self) -> impl Iterator<Item = (TextId, &str)> {
        let here = self.texts.iter().filter(|text| !text.is_repeat);
        here.map(|text| (text.id, text.rewritten.as_str()))
    }

    /// Writes it with its texts as they have become.
    pub(super) fn write(mut self, known: &AnswerTexts) -> Vec<u8> {
        for text in self.texts.iter_mut().filter(|text| text.is_repeat) {
            if let Some(rewritten) = known.repeated_as(text.id) {
                rewritten.clone_into(&mut text.rewritten);
                text.is_changed = true;
            }
        }
        self.spliced(Vec::new())
    }

    /// Writes it with its texts cut where they are released, a note behind each choice's content, and other ends.
    pub(super) fn write_cut(&self, note: Option<&str>, finish: FinishReason) -> Vec<u8> {
        let mut edits: Vec<Edit> =
            self.ends.iter().map(|(span, write)| Edit { span: span.clone(), with: write(finish) }).collect();
        for (at, text) in self.texts.iter().enumerate() {
            let is_content = |text: &HeldText| text.id.channel == Channel::Content;
            let follows = self.texts[at + 1..]
                .iter()
                .any(|other| is_content(other) && other.id.choice == text.id.choice);
            let note = note.filter(|_| is_content(text) && !follows).unwrap_or_default();
            if text.is_changed || text.released < text.text.len() || !note.is_empty() {
                edits.push(text.edit(&format!("{}{note}", text.rewritten)));
            }
        }
        let is_touched = |choice: u32| {
            self.texts
                .iter()
                .any(|text| text.id.choice == choice && (text.is_changed || text.released < text.text.len()))
        };
        edits.extend(self.derived_edits(is_touched));
        edits.sort_by_key(|edit| edit.span.start);
        splice(&Bytes::copy_from_slice(&self.bytes), &edits).to_vec()
    }

    fn spliced(self, mut edits: Vec<Edit>) -> Vec<u8> {
        let changed = self.texts.iter().filter(|text| text.is_changed);
        edits.extend(changed.map(|text| text.edit(&text.rewritten)));
        if edits.is_empty() {
            return self.bytes;
        }
        let is_changed = |choice| self.texts.iter().any(|text| text.is_changed && text.id.choice == choice);
        edits.extend(self.derived_edits(is_changed));
        edits.sort_by_key(|edit| edit.span.start);
        splice(&Bytes::from(self.bytes), &edits).to_vec()
    }

    fn derived_edits(&self, is_changed: impl Fn(u32) -> bool) -> Vec<Edit> {
        let broken = self.derived.iter().filter(|member| is_changed(member.choice));
        broken.map(|member| Edit { span: member.span.clone(), with: member.with.to_vec() }).collect()
    }

    fn direct(&mut self, id: TextId) -> impl Iterator<Item = &mut HeldText> {
        self.texts.iter_mut().filter(move |text| !text.is_repeat && text.id == id)
    }
}

impl HeldText {
    fn edit(&self, rewritten: &str) -> Edit {
        let with = if self.id.channel == Channel::Raw {
            rewritten.as_bytes().to_vec()
        } else {
            let quoted = quoted(rewritten);
            quoted[1..quoted.len() - 1].to_vec()
        };
        Edit { span: self.span.clone(), with }
    }
}
