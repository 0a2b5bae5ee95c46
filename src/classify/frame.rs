//! The special tokens around what a model reads: around one window, or around two that it reads as a pair.
//!
//! Knows nothing of what is asked, nor of how the tokens are computed.

use std::ops::Range;

use candle_core::{Result, bail};
use tokenizers::Tokenizer;

use super::answer::Pair;

/// The special tokens before, between and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    before: Vec<u32>,
    /// Empty around single windows.
    between: Vec<u32>,
    after: Vec<u32>,
    /// How many of those between belong to the first window, where the two are told apart by their kind.
    turn: Option<usize>,
}

/// Windows with their special tokens, one after the other.
#[derive(Debug, Default)]
pub(super) struct Framed {
    pub(super) ids: Vec<u32>,
    /// Where each window or pair starts, and where the last one ends.
    pub(super) starts: Vec<usize>,
    /// The tokens of the second kind.
    pub(super) seconds: Vec<Range<usize>>,
    /// Where what is judged stands: the windows, or the second ones.
    pub(super) judged: Vec<Range<usize>>,
}

impl Frame {
    /// Finds the special tokens that a tokenizer puts around one text.
    pub(super) fn of_texts(tokenizer: &Tokenizer) -> tokenizers::Result<Self> {
        let encoding = tokenizer.encode("a", true)?;
        let special = |(id, mask): (&u32, &u32)| (*mask == 1).then_some(*id);
        let pairs = || encoding.get_ids().iter().zip(encoding.get_special_tokens_mask());
        let before: Vec<u32> = pairs().map_while(special).collect();
        let mut after: Vec<u32> = pairs().skip(before.len()).rev().map_while(special).collect();
        after.reverse();
        Ok(Self { before, between: Vec::new(), after, turn: None })
    }

    /// Finds those that it puts around two texts; none if nothing stands between them.
    pub(super) fn of_pairs(tokenizer: &Tokenizer) -> tokenizers::Result<Option<Self>> {
        let encoding = tokenizer.encode(("a", "a"), true)?;
        let whose = encoding.get_sequence_ids();
        let place = |which| whose.iter().position(|whose| *whose == Some(which));
        let last = |which| whose.iter().rposition(|whose| *whose == Some(which));
        let places = (place(0), last(0), place(1), last(1));
        let (Some(first), Some(end), Some(second), Some(last)) = places else { return Ok(None) };
        if end + 1 >= second {
            return Ok(None);
        }
        let (ids, kinds) = (encoding.get_ids(), encoding.get_type_ids());
        let is_second = |at: &usize| kinds[*at] != kinds[first];
        let turn = is_second(&second).then(|| (end + 1..second).take_while(|at| !is_second(at)).count());
        Ok(Some(Self {
            before: ids[..first].to_vec(),
            between: ids[end + 1..second].to_vec(),
            after: ids[last + 1..].to_vec(),
            turn,
        }))
    }

    /// Counts the special tokens.
    pub(super) fn len(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }

    /// Puts them around windows of at most `room` tokens.
    pub(super) fn windows(&self, windows: &[&[u32]], room: usize) -> Result<Framed> {
        let mut framed = Framed::with_room(windows.iter().map(|window| window.len() + self.len()).sum());
        for window in windows {
            fits(window.len(), room)?;
            framed.ids.extend(&self.before);
            framed.judge(window);
            framed.ids.extend(&self.after);
            framed.starts.push(framed.ids.len());
        }
        Ok(framed)
    }

    /// Puts them around pairs of at most `room` tokens.
    pub(super) fn pairs(&self, pairs: &[Pair<'_>], room: usize) -> Result<Framed> {
        let tokens = |pair: &Pair<'_>| pair.first.len() + pair.second.len();
        let mut framed = Framed::with_room(pairs.iter().map(|pair| tokens(pair) + self.len()).sum());
        for pair in pairs {
            fits(tokens(pair), room)?;
            framed.ids.extend(&self.before);
            framed.ids.extend(pair.first);
            let first_ends = framed.ids.len();
            framed.ids.extend(&self.between);
            framed.judge(pair.second);
            framed.ids.extend(&self.after);
            framed.seconds.extend(self.turn.map(|turn| first_ends + turn..framed.ids.len()));
            framed.starts.push(framed.ids.len());
        }
        Ok(framed)
    }
}

impl Framed {
    fn with_room(tokens: usize) -> Self {
        Self { ids: Vec::with_capacity(tokens), starts: vec![0], ..Self::default() }
    }

    fn judge(&mut self, ids: &[u32]) {
        self.judged.push(self.ids.len()..self.ids.len() + ids.len());
        self.ids.extend(ids);
    }
}

fn fits(tokens: usize, room: usize) -> Result<()> {
    if tokens > room {
        bail!("a window of {tokens} tokens, the model reads {room}");
    }
    Ok(())
}
