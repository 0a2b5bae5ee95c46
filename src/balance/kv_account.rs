//! Owns what is known of one engine's KV cache by its own account: its blocks, whether that account can be gone by, and the
//! prompts that are on their way there.
//! Refuses to know how the account comes here.

use super::kv_blocks::{KeyMap, KvBlocks, KvEvent};
use super::lock;
use super::prefix_table::{PromptBlocks, leading, tokens_of};
use super::prompt_tokens::KnownTokens;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
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

/// The most data-parallel ranks of one engine.
pub(super) const MAX_RANKS: usize = 64;

/// From how many times its fair share of an endpoint's requests on, and so many more, a rank is sent no more by name.
const FULL_RANK: (u32, u32) = (2, 2);

/// One engine's account of its cache.
#[derive(Debug)]
pub(super) struct KvAccount {
    /// What each of its data-parallel ranks has; one alone has all, as a rule.
    ranks: Box<[KvRank]>,
    /// How many ranks there are.
    count: AtomicUsize,
    /// Blocks of prompts that were sent lately, and when.
    on_its_way: Mutex<KeyMap<Instant>>,
    /// Since when a word is awaited.
    awaited: Mutex<Option<Instant>>,
}

/// One data-parallel rank.
#[derive(Debug, Default)]
struct KvRank {
    blocks: OnceLock<KvBlocks>,
    /// Requests that were sent to it by name, and are not over.
    in_flight: AtomicU32,
}

/// What is shown of an engine's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvAccountState {
    /// Whether it is gone by.
    pub is_live: bool,
    /// How many blocks are known.
    pub blocks: usize,
}

impl Default for KvAccount {
    fn default() -> Self {
        Self {
            ranks: std::iter::repeat_with(KvRank::default).take(MAX_RANKS).collect(),
            count: AtomicUsize::new(1),
            on_its_way: Mutex::default(),
            awaited: Mutex::default(),
        }
    }
}

impl KvAccount {
    /// Says how many data-parallel ranks the engine has.
    pub(super) fn set_ranks(&self, count: usize) {
        self.count.store(count.clamp(1, MAX_RANKS), Ordering::Release);
    }

    fn ranks(&self) -> &[KvRank] {
        &self.ranks[..self.count.load(Ordering::Acquire)]
    }

    /// What is known of each rank that was listened to.
    fn blocks(&self) -> impl Iterator<Item = &KvBlocks> {
        self.ranks().iter().filter_map(|rank| rank.blocks.get())
    }

    /// The blocks of one rank, empty at first.
    pub(super) fn blocks_of(&self, rank: usize) -> Option<&KvBlocks> {
        Some(self.ranks.get(rank)?.blocks.get_or_init(KvBlocks::default))
    }

    /// Takes in what a rank of the engine says.
    pub(super) fn apply(&self, rank: usize, events: &[KvEvent]) {
        *lock(&self.awaited) = None;
        if let Some(blocks) = self.blocks_of(rank) {
            for event in events {
                blocks.apply(event);
            }
        }
    }

    /// Tokens in a block; 0 while no block was stored.
    pub(super) fn block_tokens(&self) -> u32 {
        self.blocks().map(KvBlocks::block_tokens).find(|tokens| *tokens > 0).unwrap_or(0)
    }

    /// Whether it can be gone by: it is complete, and the engine is not silent although it was given work.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        let is_complete = |rank: &KvRank| rank.blocks.get().is_some_and(KvBlocks::is_complete);
        let is_silent = |since: Instant| now.saturating_duration_since(since) > SILENCE;
        self.ranks().iter().all(is_complete) && !lock(&self.awaited).is_some_and(is_silent)
    }

    pub(super) fn state(&self, now: Instant) -> KvAccountState {
        KvAccountState { is_live: self.is_live(now), blocks: self.blocks().map(KvBlocks::len).sum() }
    }

    /// Counts the leading blocks of a prompt's text that are there, or on their way; of several ranks the most that one
    /// has, since a request can be sent to a rank by name.
    pub(super) fn matched(&self, prompt: PromptBlocks<'_>, known: &KnownTokens, now: Instant) -> usize {
        let most = self.blocks().map(|blocks| blocks.matched(known.keys())).fold(0.0, f32::max);
        known.text_blocks(most).max(self.sent(prompt, now))
    }

    fn sent(&self, prompt: PromptBlocks<'_>, now: Instant) -> usize {
        let sent = lock(&self.on_its_way);
        if sent.is_empty() {
            return 0;
        }
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) <= ON_ITS_WAY;
        // A prompt's blocks are noted together: one that was sent has those before it.
        leading(prompt.len(), |place| sent.get(&prompt.block(place)).is_some_and(is_fresh))
    }

    /// The rank that a request had better go to, of `in_flight` on its endpoint: the one that has most of its prompt, unless
    /// that has too much to do. `None` where the engine's own choice is as good; else it counts there until it
    /// [leaves](Self::leave).
    pub(super) fn enter(&self, known: &KnownTokens, in_flight: u32) -> Option<u16> {
        let ranks = self.ranks();
        if ranks.len() < 2 {
            return None;
        }
        let matched = |rank: &KvRank| rank.blocks.get().map_or(0.0, |blocks| blocks.matched(known.keys()));
        let (place, most) =
            ranks.iter().map(matched).enumerate().max_by(|one, other| one.1.total_cmp(&other.1))?;
        let (times, more) = FULL_RANK;
        let full = times * in_flight / ranks.len() as u32 + more;
        if most < 1.0 || ranks[place].in_flight.load(Ordering::Relaxed) >= full {
            return None;
        }
        ranks[place].in_flight.fetch_add(1, Ordering::Relaxed);
        u16::try_from(place).ok()
    }

    /// Notes that a request of a rank is over.
    pub(super) fn leave(&self, rank: u16) {
        if let Some(rank) = self.ranks.get(usize::from(rank)) {
            rank.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
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
        account.blocks_of(0).unwrap().set_complete(true);
        account.send(prompt(), 0, now);
        assert_eq!(account.matched(prompt(), &known(), now), 8);
        let later = now + ON_ITS_WAY + Duration::from_secs(1);
        assert_eq!(account.matched(prompt(), &known(), later), 0);
        account.apply(0, &[stored(16)]);
        assert_eq!(account.matched(prompt(), &known(), later), 4);
        account.apply(0, &[KvEvent::Removed { names: (8..16).collect(), tier: KvTier::Device }]);
        assert_eq!(account.matched(prompt(), &known(), later), 2);
    }

    #[test]
    fn an_engine_that_is_given_work_and_says_nothing_is_not_gone_by_until_it_does() {
        let (account, now) = (KvAccount::default(), Instant::now());
        assert!(!account.is_live(now), "nothing is known yet");
        account.blocks_of(0).unwrap().set_complete(true);
        account.send(prompt(), 0, now);
        assert!(account.is_live(now + SILENCE) && !account.is_live(now + SILENCE * 2));
        account.apply(0, &[]);
        assert!(account.is_live(now + SILENCE * 2));
        account.send(prompt(), 8, now);
        assert!(account.is_live(now + SILENCE * 2), "all of it is cached");
    }

    #[test]
    fn of_several_ranks_the_one_that_has_the_prompt_is_named_until_it_has_too_much() {
        let account = KvAccount::default();
        account.set_ranks(2);
        account.apply(1, &[stored(16)]);
        assert!(!account.is_live(Instant::now()));
        (0..2).for_each(|rank| account.blocks_of(rank).unwrap().set_complete(true));
        assert!(account.is_live(Instant::now()));
        assert_eq!(account.matched(prompt(), &known(), Instant::now()), 4);
        assert_eq!([0, 0, 0].map(|in_flight| account.enter(&known(), in_flight)), [Some(1), Some(1), None]);
        assert_eq!(account.enter(&known(), 4), Some(1), "a fair share is more then");
        account.leave(1);
        account.leave(1);
        assert_eq!(account.enter(&known(), 0), Some(1));
        account.apply(1, &[KvEvent::Cleared]);
        assert_eq!(account.enter(&known(), 9), None, "none has any of it");
        account.set_ranks(1);
        account.apply(0, &[stored(16)]);
        assert_eq!(account.enter(&known(), 0), None, "there is no choice");
    }
}
