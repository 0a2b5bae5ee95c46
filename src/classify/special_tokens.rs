//! The special tokens that an encoder was trained to see around one window, or around the two windows of a pair.
//!
//! Knows nothing of heads, nor of how the tokens are computed.

use std::ops::Range;

use candle_core::{Result, bail};

use super::backend::WindowPair;
use super::timed_pattern::TimedTokenizer;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    before: Vec<u32>,
    /// Empty for single windows.
    between: Vec<u32>,
    after: Vec<u32>,
    /// How many of those between have the first window's token type; none where the model has no token types.
    first_type_between: Option<usize>,
}

/// A padding-free batch: windows with their special tokens, one after the other.
#[derive(Debug, Default)]
pub(super) struct EncoderInput {
    pub(super) ids: Vec<u32>,
    /// Where each window or pair starts, and where the last one ends.
    pub(super) starts: Vec<usize>,
    /// The tokens of the second token type.
    pub(super) second_type: Vec<Range<usize>>,
    /// The tokens that token classifiers judge: those of the windows, or of each pair's second.
    pub(super) judged: Vec<Range<usize>>,
}

impl SpecialTokens {
    /// Finds the special tokens that a tokenizer puts around one text.
    pub(super) fn of_texts(tokenizer: &TimedTokenizer) -> tokenizers::Result<Self> {
        let encoding = tokenizer.encode("a", true)?;
        let special = |(id, mask): (&u32, &u32)| (*mask == 1).then_some(*id);
        let tokens = || encoding.get_ids().iter().zip(encoding.get_special_tokens_mask());
        let before: Vec<u32> = tokens().map_while(special).collect();
        let mut after: Vec<u32> = tokens().skip(before.len()).rev().map_while(special).collect();
        after.reverse();
        Ok(Self { before, between: Vec::new(), after, first_type_between: None })
    }

    /// Finds those that it puts around two texts; none if nothing stands between them.
    pub(super) fn of_pairs(tokenizer: &TimedTokenizer) -> tokenizers::Result<Option<Self>> {
        let encoding = tokenizer.encode(("a", "a"), true)?;
        let sequences = encoding.get_sequence_ids();
        let first_of = |which| sequences.iter().position(|sequence| *sequence == Some(which));
        let last_of = |which| sequences.iter().rposition(|sequence| *sequence == Some(which));
        let places = (first_of(0), last_of(0), first_of(1), last_of(1));
        let (Some(first), Some(end), Some(second), Some(last)) = places else { return Ok(None) };
        if end + 1 >= second {
            return Ok(None);
        }
        let (ids, types) = (encoding.get_ids(), encoding.get_type_ids());
        let is_second = |at: &usize| types[*at] != types[first];
        let first_type_between =
            is_second(&second).then(|| (end + 1..second).take_while(|at| !is_second(at)).count());
        Ok(Some(Self {
            before: ids[..first].to_vec(),
            between: ids[end + 1..second].to_vec(),
            after: ids[last + 1..].to_vec(),
            first_type_between,
        }))
    }

    /// Puts more tokens between those before a text and the text.
    pub(super) fn push_before(&mut self, ids: &[u32]) {
        self.before.extend(ids);
    }

    /// Takes a token off that ends texts.
    pub(super) fn drop_end(&mut self, id: u32) {
        while self.after.last() == Some(&id) {
            self.after.pop();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }

    /// Puts them around windows; fails if one has more than `max_tokens` tokens.
    pub(super) fn around_windows(&self, windows: &[&[u32]], max_tokens: usize) -> Result<EncoderInput> {
        let tokens = windows.iter().map(|window| window.len() + self.len()).sum();
        let mut input = EncoderInput::with_capacity(tokens);
        for window in windows {
            check_length(window.len(), max_tokens)?;
            input.ids.extend(&self.before);
            input.push_judged(window);
            input.ids.extend(&self.after);
            input.starts.push(input.ids.len());
        }
        Ok(input)
    }

    /// Puts them around pairs; fails if one has more than `max_tokens` tokens.
    pub(super) fn around_pairs(&self, pairs: &[WindowPair<'_>], max_tokens: usize) -> Result<EncoderInput> {
        let tokens = |pair: &WindowPair<'_>| pair.first.len() + pair.second.len();
        let mut input = EncoderInput::with_capacity(pairs.iter().map(|pair| tokens(pair) + self.len()).sum());
        for pair in pairs {
            check_length(tokens(pair), max_tokens)?;
            input.ids.extend(&self.before);
            input.ids.extend(pair.first);
            let first_ends = input.ids.len();
            input.ids.extend(&self.between);
            input.push_judged(pair.second);
            input.ids.extend(&self.after);
            let second_type = self.first_type_between.map(|count| first_ends + count..input.ids.len());
            input.second_type.extend(second_type);
            input.starts.push(input.ids.len());
        }
        Ok(input)
    }
}

impl EncoderInput {
    fn with_capacity(tokens: usize) -> Self {
        Self { ids: Vec::with_capacity(tokens), starts: vec![0], ..Self::default() }
    }

    fn push_judged(&mut self, ids: &[u32]) {
        self.judged.push(self.ids.len()..self.ids.len() + ids.len());
        self.ids.extend(ids);
    }
}

fn check_length(tokens: usize, max_tokens: usize) -> Result<()> {
    if tokens > max_tokens {
        bail!("a window of {tokens} tokens, the model reads {max_tokens}");
    }
    Ok(())
}
