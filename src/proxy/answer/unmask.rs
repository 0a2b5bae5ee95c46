//! Puts words back that were masked before the upstream saw them.

use super::finding::TextFinding;
use crate::openai::{Channel, TextId};
use std::ops::Range;

/// Tokens that stand in an answer for masked words.
pub(in crate::proxy) struct UnmaskStage {
    /// Each token with the words that it stands for.
    tokens: Vec<(String, String)>,
}

impl UnmaskStage {
    /// Takes the tokens of a request; nothing if none of its words were masked.
    pub(in crate::proxy) fn new(tokens: &[(String, String)]) -> Option<Self> {
        (!tokens.is_empty()).then(|| Self { tokens: tokens.to_vec() })
    }

    /// Returns how many bytes the longest token has.
    pub(super) fn longest(&self) -> usize {
        self.tokens.iter().map(|(token, _)| token.len()).max().unwrap_or(0)
    }

    /// Finds all tokens in a text.
    pub(super) fn find(&self, text: &str) -> impl Iterator<Item = Range<usize>> {
        self.tokens.iter().flat_map(move |(token, _)| places(text, token))
    }

    /// Finds all tokens in a text, with the words to put back.
    pub(super) fn judge(&self, id: TextId, text: &str) -> impl Iterator<Item = TextFinding> {
        self.tokens.iter().flat_map(move |(token, words)| {
            // The arguments of a call are JSON, and stay so.
            let is_json = id.channel == Channel::Arguments;
            let words = if is_json { json_escaped(words) } else { words.clone() };
            let places = places(text, token).into_iter();
            places.map(move |span| TextFinding { span, with: Some(words.clone()), is_guards: false })
        })
    }
}

fn places(text: &str, token: &str) -> Vec<Range<usize>> {
    text.match_indices(token).map(|(at, _)| at..at + token.len()).collect()
}

/// A text as it stands between the quotes of a JSON string.
fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
