//! Owns which blocks of tokens the beginnings of prompts have, as far as an engine has said so of a prompt with the same
//! beginning: what makes an engine's account of its cache usable for a prompt that nobody has cut into tokens yet.
//! Refuses to know which engine has what.
//!
//! Bounded: the prompt's beginning that was asked for longest ago is forgotten first.

use super::kv_blocks::block_keys;
use super::lock;
use super::prefix_table::{PromptBlocks, blocks_within, tokens_of};
use lru::LruCache;
use std::sync::{Arc, Mutex};

/// The most beginnings known, each up to one block of text: with their tokens some eleven megabytes a pool.
const MAX_BEGINNINGS: usize = 1 << 16;

/// The blocks of tokens that a prompt's beginning has.
#[derive(Clone, Debug)]
pub struct KnownTokens {
    /// The keys of the whole prompt that it was learnt from.
    keys: Arc<[u64]>,
    /// How many of them come on a token as it is estimated from the text.
    blocks_per_token: f32,
    /// How many blocks of text the beginning has.
    beginning: usize,
}

/// What the tokens of a prompt are learnt from.
#[derive(Clone, Copy, Debug)]
pub struct LearntTokens<'a> {
    /// All tokens of the prompt, as its engine has them.
    pub tokens: &'a [u64],
    /// The adapter that it is for.
    pub adapter: Option<&'a str>,
    /// Its `cache_salt`.
    pub salt: Option<&'a str>,
}

/// The beginnings of prompts that are known.
pub(super) struct PromptTokens {
    known: Mutex<LruCache<u64, KnownTokens>>,
}

impl Default for PromptTokens {
    fn default() -> Self {
        // Bounded where it grows: a pool without events takes no memory for it.
        Self { known: Mutex::new(LruCache::unbounded()) }
    }
}

impl PromptTokens {
    /// Learns a prompt's tokens; `estimate` is how many it was taken to have.
    pub(super) fn learn(
        &self,
        prompt: PromptBlocks<'_>,
        estimate: u32,
        block_tokens: u32,
        learnt: LearntTokens<'_>,
    ) {
        let Some(whole) = KnownTokens::of(prompt.len(), estimate, block_tokens, learnt) else { return };
        let mut known = lock(&self.known);
        for place in 0..prompt.len() {
            known.put(prompt.block(place), KnownTokens { beginning: place + 1, ..whole.clone() });
        }
        while known.len() > MAX_BEGINNINGS {
            known.pop_lru();
        }
    }

    /// Finds the longest known beginning of a prompt.
    pub(super) fn find(&self, prompt: PromptBlocks<'_>) -> Option<KnownTokens> {
        let mut known = lock(&self.known);
        // What is known of a prompt is known of its beginnings too, unless that was forgotten meanwhile.
        let (mut length, mut missing) = (0, prompt.len() + 1);
        while length + 1 < missing {
            let middle = length.midpoint(missing);
            if known.contains(&prompt.block(middle - 1)) { length = middle } else { missing = middle }
        }
        known.get(&prompt.block(length.checked_sub(1)?)).cloned()
    }
}

impl KnownTokens {
    /// Takes the tokens of a whole prompt of so many blocks of text, which is taken to have `estimate` tokens; `None` for
    /// an empty one.
    pub(super) fn of(
        beginning: usize,
        estimate: u32,
        block_tokens: u32,
        learnt: LearntTokens<'_>,
    ) -> Option<Self> {
        let LearntTokens { tokens, adapter, salt } = learnt;
        if block_tokens == 0 || estimate == 0 {
            return None;
        }
        let keys: Arc<[u64]> = block_keys(tokens, block_tokens, adapter, salt).into();
        Some(Self { blocks_per_token: keys.len() as f32 / estimate as f32, keys, beginning })
    }

    /// The keys that the beginning has.
    pub(super) fn keys(&self) -> &[u64] {
        let covered = (tokens_of(self.beginning) as f32 * self.blocks_per_token).floor() as usize;
        &self.keys[..covered.min(self.keys.len())]
    }

    /// How many blocks of text so many blocks of tokens stand for.
    pub(super) fn text_blocks(&self, blocks: f32) -> usize {
        if blocks < 1.0 || self.blocks_per_token <= 0.0 {
            return 0;
        }
        // One more: the last one ends within the block of text.
        let tokens = (blocks + 1.0) / self.blocks_per_token;
        blocks_within(tokens as u32).min(self.beginning)
    }

    /// How many blocks of text the beginning has.
    pub(super) fn beginning(&self) -> usize {
        self.beginning
    }
}

impl std::fmt::Debug for PromptTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PromptTokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_the_tokens_of_the_one_that_it_begins_like() {
        let known = PromptTokens::default();
        let chain: Vec<u64> = (1..=10).map(|block| block * 77).collect();
        let prompt = |chain| PromptBlocks { chain, model: 5 };
        // Ten blocks of text of 64 estimated tokens each; the engine has 800 tokens, in blocks of 16.
        let tokens: Vec<u64> = (0..800).collect();
        let learnt = LearntTokens { tokens: &tokens, adapter: None, salt: None };
        known.learn(prompt(&chain), 640, 16, learnt);
        let whole = known.find(prompt(&chain)).unwrap();
        assert_eq!((whole.beginning(), whole.keys().len(), whole.text_blocks(50.0)), (10, 50, 10));
        assert_eq!((whole.text_blocks(24.0), whole.text_blocks(25.0), whole.text_blocks(0.0)), (5, 5, 0));
        let other: Vec<u64> = chain[..4].iter().copied().chain([1, 2, 3]).collect();
        let beginning = known.find(prompt(&other)).unwrap();
        assert_eq!(
            (beginning.beginning(), beginning.keys()),
            (4, &block_keys(&tokens, 16, None, None)[..20])
        );
        assert_eq!(beginning.text_blocks(50.0), 4, "no more than is the same");
        assert!(known.find(PromptBlocks { chain: &chain, model: 6 }).is_none(), "another model");
        assert!(known.find(prompt(&[])).is_none());
    }
}
