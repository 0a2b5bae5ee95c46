//! The texts of an answer as far as they have come: what of each is not released, and what it was rewritten to.
//!
//! Refuses to know events and bytes.

use std::ops::Range;

use crate::answer::content::{AnswerStep, Channel, TextId};

use super::PendingText;

/// What a text costs beside its bytes.
const OVERHEAD: usize = 64;

/// All texts, in the order of their first sight.
#[derive(Debug)]
pub(super) struct AnswerTexts {
    known: Vec<TextState>,
    /// Later events repeat the texts, so that they are kept whole.
    has_repeats: bool,
    kept: usize,
    /// How many whole texts there have been.
    wholes: u32,
}

#[derive(Debug)]
struct TextState {
    id: TextId,
    pending: String,
    is_complete: bool,
    is_changed: bool,
    /// What was received, and what it was rewritten to; empty without repeats.
    received: String,
    rewritten: String,
}

/// A part of a text that becomes final, on its way through the events.
pub(super) struct TextRelease {
    text: String,
    replacements: Vec<(Range<usize>, String)>,
    /// How much of the text has been passed, and which replacement is next.
    at: usize,
    next: usize,
    /// Up to where the last replacement reaches.
    gone: usize,
    rewritten: String,
    is_changed: bool,
}

impl AnswerTexts {
    pub(super) fn new(has_repeats: bool) -> Self {
        Self { known: Vec::new(), has_repeats, kept: 0, wholes: 0 }
    }

    /// Returns how many bytes are kept for good.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = PendingText<'_>> {
        let waiting = self.known.iter().filter(|text| !text.pending.is_empty());
        waiting.map(|text| PendingText { id: text.id, text: &text.pending, is_complete: text.is_complete })
    }

    /// Gives a text that is whole by itself an identity of its own.
    pub(super) fn identify(&mut self, id: TextId) -> TextId {
        if id.channel != Channel::Whole {
            return id;
        }
        self.wholes = self.wholes.wrapping_add(1);
        TextId { part: self.wholes, ..id }
    }

    /// Takes more of a text.
    pub(super) fn append(&mut self, id: TextId, more: &str) {
        let known = self.known.iter().position(|text| text.id == id);
        let at = known.unwrap_or_else(|| {
            self.kept += OVERHEAD;
            let (pending, received, rewritten) = Default::default();
            self.known.push(TextState {
                id,
                pending,
                is_complete: id.channel == Channel::Whole,
                is_changed: false,
                received,
                rewritten,
            });
            self.known.len() - 1
        });
        self.known[at].pending.push_str(more);
    }

    /// Says whether all that has come of a text is this, so that it need not be judged again.
    pub(super) fn repeats(&self, id: TextId, text: &str) -> bool {
        self.find(id)
            .is_some_and(|known| text.strip_prefix(known.received.as_str()) == Some(known.pending.as_str()))
    }

    /// Says whether all of a text that has come is released.
    pub(super) fn is_released(&self, id: TextId) -> bool {
        self.find(id).is_none_or(|text| text.pending.is_empty())
    }

    /// Returns what has to stand where a text is repeated; nothing if it can stay as it is.
    pub(super) fn repeated_as(&self, id: TextId) -> Option<&str> {
        self.find(id).filter(|text| text.is_changed).map(|text| text.rewritten.as_str())
    }

    /// Returns all texts with what they were rewritten to, if that is kept.
    pub(super) fn all_released(&self) -> impl Iterator<Item = (TextId, &str)> {
        self.known.iter().map(|text| (text.id, text.rewritten.as_str()))
    }

    /// Notes which texts are complete.
    pub(super) fn note(&mut self, step: &AnswerStep) {
        let is_over = |id: TextId| match *step {
            AnswerStep::Choice { index, is_over } => is_over && id.choice == index,
            AnswerStep::BlockClosed(index) => id.part == index,
            AnswerStep::ItemClosed(output) => id.choice == output,
            AnswerStep::PartClosed(output, part) => id.choice == output && id.part == part,
            AnswerStep::Over => true,
            _ => false,
        };
        self.known.iter_mut().filter(|text| is_over(text.id)).for_each(|text| text.is_complete = true);
    }

    /// Takes the first bytes of a pending text as final; nothing if there are none and none are to be put there.
    pub(super) fn release(
        &mut self,
        id: TextId,
        upto: usize,
        replacements: &[(Range<usize>, String)],
    ) -> Option<TextRelease> {
        let text = self.known.iter_mut().find(|text| text.id == id)?;
        let upto = text.pending.floor_char_boundary(upto);
        let mut sound: Vec<(Range<usize>, String)> = Vec::with_capacity(replacements.len());
        for (range, with) in replacements {
            let after = sound.last().map_or(0, |(before, _)| before.end);
            let start = text.pending.floor_char_boundary(range.start).max(after);
            let end = text.pending.ceil_char_boundary(range.end).min(upto);
            let has_start = start < upto || (start == upto && range.is_empty());
            if has_start && (range.is_empty() || start < end) {
                sound.push((start..end.max(start), with.clone()));
            }
        }
        let released = text.pending.drain(..upto).collect();
        let (at, next, gone, rewritten) = Default::default();
        Some(TextRelease {
            text: released,
            replacements: sound,
            at,
            next,
            gone,
            rewritten,
            is_changed: false,
        })
    }

    /// Keeps what a text was rewritten to.
    pub(super) fn released(&mut self, id: TextId, release: &TextRelease) {
        if id.channel == Channel::Whole {
            // Nothing comes back to it.
            let before = self.known.len();
            self.known.retain(|text| text.id != id || !text.pending.is_empty());
            self.kept -= OVERHEAD * (before - self.known.len());
            return;
        }
        let has_repeats = self.has_repeats;
        let Some(text) = self.known.iter_mut().find(|text| text.id == id) else {
            return;
        };
        text.is_changed |= release.is_changed;
        if has_repeats {
            self.kept += release.text.len() + release.rewritten.len();
            text.received.push_str(&release.text);
            text.rewritten.push_str(&release.rewritten);
        }
    }

    /// Forgets what is pending: it will not go out.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    fn find(&self, id: TextId) -> Option<&TextState> {
        self.known.iter().find(|text| text.id == id)
    }
}

impl TextRelease {
    pub(super) fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    /// Passes at most `most` bytes, adds to `rewritten` what stands in their id, and returns how many they were and
    /// whether that is something else.
    pub(super) fn pass(&mut self, most: usize, rewritten: &mut String) -> (usize, bool) {
        let start = self.at;
        let end = self.text.len().min(start.saturating_add(most));
        let before = rewritten.len();
        let mut is_changed = false;
        while self.at < end {
            if self.at < self.gone {
                self.at = self.gone.min(end);
                is_changed = true;
                continue;
            }
            let next = self.replacements.get(self.next).filter(|(range, _)| range.start < end);
            rewritten.push_str(&self.text[self.at..next.map_or(end, |(range, _)| range.start)]);
            let Some((range, with)) = next else {
                self.at = end;
                continue;
            };
            rewritten.push_str(with);
            is_changed = true;
            (self.at, self.gone) = (range.start, range.end);
            self.next += 1;
        }
        self.rewritten.push_str(&rewritten[before..]);
        self.is_changed |= is_changed;
        (end - start, is_changed)
    }

    /// Takes the replacements that stand behind the released text.
    pub(super) fn take_left(&mut self) -> Option<String> {
        let left: String = self.replacements[self.next..].iter().map(|(_, with)| with.as_str()).collect();
        self.next = self.replacements.len();
        (!left.is_empty()).then_some(left)
    }

    /// Notes that something was put behind the released text.
    pub(super) fn inserted(&mut self, left: &str) {
        self.rewritten.push_str(left);
        self.is_changed = true;
    }
}
