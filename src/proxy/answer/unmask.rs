//! Puts words back that were masked before the upstream saw them.

use super::finding::TextFinding;
use crate::openai::{Channel, TextId};
use std::collections::HashMap;
use std::ops::Range;

/// Tokens that stand in an answer for masked words.
pub(in crate::proxy) struct UnmaskStage {
    /// The words that each token stands for.
    tokens: HashMap<String, String>,
    longest: usize,
}

impl UnmaskStage {
    /// Takes the tokens of a request, which begin and end with brackets; nothing if none of its words were masked.
    pub(in crate::proxy) fn new(tokens: &[(String, String)]) -> Option<Self> {
        let longest = tokens.iter().map(|(token, _)| token.len()).max()?;
        Some(Self { tokens: tokens.iter().cloned().collect(), longest })
    }

    /// Returns how many bytes the longest token has.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Finds all tokens in a text.
    pub(super) fn find(&self, text: &str) -> impl Iterator<Item = Range<usize>> {
        self.places(text).map(|(span, _)| span)
    }

    /// Finds all tokens in a text, with the words to put back.
    pub(super) fn judge(&self, id: TextId, text: &str) -> impl Iterator<Item = TextFinding> {
        // The arguments of a call are JSON, and stay so.
        let is_json = id.channel == Channel::Arguments;
        self.places(text).map(move |(span, words)| {
            let words = if is_json { json_escaped(words) } else { words.to_owned() };
            TextFinding { span, with: Some(words), is_guards: false }
        })
    }

    /// One pass over the text, however many tokens there are.
    fn places(&self, text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
        text.match_indices('[').filter_map(move |(open, _)| {
            let close = text[open..].bytes().take(self.longest).position(|byte| byte == b']')?;
            let span = open..open + close + 1;
            let words = self.tokens.get(&text[span.clone()])?;
            Some((span, words.as_str()))
        })
    }
}

/// A text as it stands between the quotes of a JSON string.
fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
