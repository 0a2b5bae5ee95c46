//! Owns what is known of one engine's KV cache by its own account: its blocks, whether that account can be gone by, and the
//! prompts that are on their way there.
//! Refuses to know how the account comes here.

use super::kv_blocks::{KvBlocks, KvEvent};
use super::lock;
use super::prefix_table::{PromptBlocks, tokens_of};
use super::prompt_tokens::KnownTokens;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// For how long a prompt that was sent counts as cached although the engine has not said so: it says so once it has computed
/// the prompt, and until then others with the same beginning had better follow.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// After what time without a word an engine counts as silent that was given a prompt to compute.
const SILENCE: Duration = Duration::from_secs(30);

/// The most blocks of prompts on their way; all are forgotten beyond.
const MAX_ON_ITS_WAY: usize = 1 << 15;

/// The least of a prompt that fills a block of any engine, in tokens.
const WORTH_A_WORD: u32 = 256;

/// One engine's account of its cache.
#[derive(Debug, Default)]
pub(super) struct KvAccount {
    pub(super) blocks: KvBlocks,
    /// Blocks of prompts that were sent lately, and when.
    on_its_way: Mutex<HashMap<u64, Instant>>,
    /// Since when a word is awaited.
    awaited: Mutex<Option<Instant>>,
}

/// What is shown of an engine's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvAccountState {
    /// Whether it is gone by.
    pub is_live: bool,
    /// How many blocks are known.
    pub blocks: usize,
}

impl KvAccount {
    /// Takes in what the engine says.
    pub(super) fn apply(&self, events: &[KvEvent]) {
        *lock(&self.awaited) = None;
        for event in events {
            self.blocks.apply(event);
        }
    }

    /// Whether it can be gone by: it is complete, and the engine is not silent although it was given work.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        let is_silent = |since: Instant| now.saturating_duration_since(since) > SILENCE;
        self.blocks.is_complete() && !lock(&self.awaited).is_some_and(is_silent)
    }

    pub(super) fn state(&self, now: Instant) -> KvAccountState {
        KvAccountState { is_live: self.is_live(now), blocks: self.blocks.len() }
    }

    /// Counts the leading blocks of a prompt's text that are there, or on their way.
    pub(super) fn matched(&self, prompt: PromptBlocks<'_>, known: &KnownTokens, now: Instant) -> usize {
        known.text_blocks(self.blocks.matched(known.keys())).max(self.sent(prompt, now))
    }

    fn sent(&self, prompt: PromptBlocks<'_>, now: Instant) -> usize {
        let sent = lock(&self.on_its_way);
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) <= ON_ITS_WAY;
        (0..prompt.len()).take_while(|place| sent.get(&prompt.block(*place)).is_some_and(is_fresh)).count()
    }

    /// Notes that the engine gets a prompt, of whose blocks it has the first `matched`.
    pub(super) fn send(&self, prompt: PromptBlocks<'_>, matched: usize, now: Instant) {
        if tokens_of(prompt.len()).saturating_sub(tokens_of(matched)) < WORTH_A_WORD {
            return;
        }
        lock(&self.awaited).get_or_insert(now);
        let mut sent = lock(&self.on_its_way);
        if sent.len() + prompt.len() > MAX_ON_ITS_WAY {
            sent.clear();
        }
        sent.extend((0..prompt.len()).map(|place| (prompt.block(place), now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::kv_blocks::{KvTier, StoredBlocks, block_keys};
    use crate::balance::prompt_tokens::{LearntTokens, PromptTokens};

    const CHAIN: [u64; 8] = [11, 12, 13, 14, 15, 16, 17, 18];

    fn prompt() -> PromptBlocks<'static> {
        PromptBlocks { chain: &CHAIN, model: 0 }
    }

    /// Eight blocks of text, each of four blocks of tokens.
    fn known() -> KnownTokens {
        let tokens: Vec<u64> = (0..512).collect();
        let learnt = PromptTokens::default();
        learnt.learn(prompt(), 512, 16, LearntTokens { tokens: &tokens, adapter: None, salt: None });
        assert_eq!(block_keys(&tokens, 16, None, None).len(), 32);
        learnt.find(prompt()).unwrap()
    }

    fn stored(blocks: u64) -> KvEvent {
        let (names, tokens) = ((0..blocks).collect(), (0..blocks * 16).collect());
        KvEvent::Stored(StoredBlocks { names, tokens, block_tokens: 16, ..StoredBlocks::default() })
    }

    #[test]
    fn a_prompt_on_its_way_counts_until_the_engine_had_time_to_say_so() {
        let (account, now) = (KvAccount::default(), Instant::now());
        account.blocks.set_complete(true);
        account.send(prompt(), 0, now);
        assert_eq!(account.matched(prompt(), &known(), now), 8);
        let later = now + ON_ITS_WAY + Duration::from_secs(1);
        assert_eq!(account.matched(prompt(), &known(), later), 0);
        account.apply(&[stored(16)]);
        assert_eq!(account.matched(prompt(), &known(), later), 4);
        account.apply(&[KvEvent::Removed { names: (8..16).collect(), tier: KvTier::Device }]);
        assert_eq!(account.matched(prompt(), &known(), later), 2);
    }

    #[test]
    fn an_engine_that_is_given_work_and_says_nothing_is_not_gone_by_until_it_does() {
        let (account, now) = (KvAccount::default(), Instant::now());
        assert!(!account.is_live(now), "nothing is known yet");
        account.blocks.set_complete(true);
        account.send(prompt(), 0, now);
        assert!(account.is_live(now + SILENCE) && !account.is_live(now + SILENCE * 2));
        account.apply(&[]);
        assert!(account.is_live(now + SILENCE * 2));
        account.send(prompt(), 8, now);
        assert!(account.is_live(now + SILENCE * 2), "all of it is cached");
    }
}
