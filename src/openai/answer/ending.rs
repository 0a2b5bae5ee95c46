//! How a stream is ended before its time: what a dialect follows of it, and what it needs to know for its last events.
//!
//! Refuses to know any dialect's events.

use std::fmt::Debug;

use crate::FinishReason;
use crate::json::object::Object;

use super::content::{AnswerStep, TextId};

/// The most choices, blocks and items whose progress is followed; an answer with more is ended without them.
pub(crate) const MOST_FOLLOWED: usize = 1024;

/// What the client has seen of a stream, and how such a stream ends early.
pub(crate) trait StreamEnding: Debug + Send + Sync {
    /// Notes what has gone out.
    fn sent(&mut self, step: &AnswerStep);

    /// Whether enough has gone out for a stream to be ended; a stream of our own takes its place where not.
    fn has_begun(&self) -> bool {
        true
    }

    /// Writes the events that end the stream here.
    fn write(&self, cut: &CutAnswer<'_>, out: &mut Vec<u8>);
}

/// A stream that ends here.
#[derive(Debug)]
pub(crate) struct CutAnswer<'a> {
    pub(crate) finish: FinishReason,
    /// A last text for the client.
    pub(crate) note: Option<&'a str>,
    /// What the first event said of the whole answer.
    pub(crate) head: &'a [(&'static str, Vec<u8>)],
    /// What was released of the texts behind something that was not, and so has not gone out.
    pub(crate) unsent: Vec<(TextId, &'a str)>,
    /// The steps of the events that have not gone out.
    pub(crate) unsent_steps: Vec<&'a AnswerStep>,
    /// All that was released of each text, for dialects that repeat texts.
    pub(crate) released: Vec<(TextId, &'a str)>,
}

impl CutAnswer<'_> {
    /// Starts an object with what the first event said of the whole answer.
    pub(crate) fn head(&self) -> Object {
        Object::default().all(self.head.iter().map(|(key, value)| (*key, value)))
    }

    /// Returns what was released of a text and has not gone out.
    pub(crate) fn unsent(&self, id: TextId) -> String {
        self.unsent.iter().filter(|(of, _)| *of == id).map(|(_, text)| *text).collect()
    }
}

/// Updates what is known under an index.
pub(crate) fn follow(known: &mut Vec<(u32, bool)>, index: u32, update: impl Fn(bool) -> bool) {
    if let Some((_, state)) = known.iter_mut().find(|(of, _)| *of == index) {
        *state = update(*state);
    } else if known.len() < MOST_FOLLOWED {
        known.push((index, update(false)));
    }
}
