//! Owns which blocks of prompts one endpoint probably has in its KV cache, by what was sent there.
//! Refuses to know what a block's hash is made of, and how the endpoint is chosen.
//!
//! Bounded in bytes, without a lock and without an allocation after its first: entries of eight bytes in sets of one
//! cache line, the one used longest ago in a set goes first. An entry counts as evicted by the engine once more tokens
//! than the engine holds were written after its last use, which is what least recently used means.

use super::rendezvous::mixed;
use crate::openai::{LONG_BLOCK, SHORT_BLOCK, SHORT_BLOCKS};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Counts the leading places of so many for which something holds that holds for no place behind one for which it does
/// not; in about twice the logarithm of the count.
pub(super) fn leading(length: usize, holds: impl Fn(usize) -> bool) -> usize {
    if length == 0 || !holds(0) {
        return 0;
    }
    // The last for which it is known to hold, and the first for which it does not.
    let (mut last, mut step) = (0, 1);
    let mut end = loop {
        let next = last + step;
        if next >= length {
            break length;
        }
        if !holds(next) {
            break next;
        }
        (last, step) = (next, step * 2);
    };
    while last + 1 < end {
        let middle = last.midpoint(end);
        if holds(middle) { last = middle } else { end = middle }
    }
    last + 1
}

/// How much of a prompt other endpoints have, the last that was found first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MatchHints([usize; 3]);

impl MatchHints {
    fn note(&mut self, count: usize) {
        self.0.rotate_right(1);
        self.0[0] = count;
    }

    /// Finds the one that holds here too, and puts it first.
    fn find(&mut self, holds: impl Fn(usize) -> bool) -> Option<usize> {
        let at = self.0.iter().position(|count| holds(*count))?;
        self.0[..=at].rotate_right(1);
        Some(self.0[0])
    }
}

/// The tokens of so many leading blocks.
pub(super) fn tokens_of(blocks: usize) -> u32 {
    let (short, long) = (blocks.min(SHORT_BLOCKS), blocks.saturating_sub(SHORT_BLOCKS));
    u32::try_from(short).unwrap_or(u32::MAX) * SHORT_BLOCK
        + u32::try_from(long).unwrap_or(u32::MAX).saturating_mul(LONG_BLOCK)
}

/// How many leading blocks so many tokens fill.
pub(super) fn blocks_within(tokens: u32) -> usize {
    let short = SHORT_BLOCKS as u32 * SHORT_BLOCK;
    let long = tokens.saturating_sub(short) / LONG_BLOCK;
    (tokens.min(short) / SHORT_BLOCK + long) as usize
}

/// Sets of a table, a power of two.
const SETS: usize = 4096;

/// Entries of a set: those of one cache line.
const WAYS: usize = 8;

/// Bits of an entry that say when it was last used; the others tell blocks apart.
const STAMP_BITS: u32 = 24;

const STAMP: u64 = (1 << STAMP_BITS) - 1;

/// The most blocks of one prompt that are remembered: half of the entries, so that few sets overflow before.
const MAX_BLOCKS: usize = SETS * WAYS / 2;

/// The most that an engine is taken to hold, in tokens.
const MAX_TOKENS: u32 = 4 << 20;

/// What an engine is taken to hold before anything is known of it, in tokens.
const USUAL_TOKENS: u32 = 512 << 10;

/// The least that an engine is taken to hold, in tokens.
const MIN_TOKENS: u32 = 8 << 10;

/// The blocks of a prompt as one model with one adapter has them: another's cache is of no use to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PromptBlocks<'a> {
    /// Hashes, each of a block with all before it.
    pub(super) chain: &'a [u64],
    /// The hash of the model's and the adapter's name.
    pub(super) model: u64,
}

impl PromptBlocks<'_> {
    pub(super) fn len(&self) -> usize {
        self.chain.len()
    }

    pub(super) fn block(&self, place: usize) -> u64 {
        mixed(self.chain[place] ^ self.model)
    }
}

/// The blocks that an endpoint probably has cached.
pub(super) struct PrefixTable {
    /// Each entry is a tag of 40 bits above the stamp of its last use; 0 is none.
    sets: Box<[[AtomicU64; WAYS]]>,
    /// Tokens written so far that the endpoint did not have, in units of a short block; the clock that stamps are read from.
    written: AtomicU64,
    /// How many tokens the engine says it holds; 0 where it never said.
    told: AtomicU32,
    /// How many tokens the engine is taken to hold.
    capacity: AtomicU32,
    /// Whether the engine has ever reported cached tokens: one that does not report any says nothing about its cache.
    reports: AtomicBool,
}

impl Default for PrefixTable {
    fn default() -> Self {
        let set = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            sets: std::iter::repeat_with(set).take(SETS).collect(),
            written: AtomicU64::new(1),
            told: AtomicU32::new(0),
            capacity: AtomicU32::new(USUAL_TOKENS),
            reports: AtomicBool::new(false),
        }
    }
}

impl PrefixTable {
    /// Counts the leading blocks of a prompt that are cached.
    ///
    /// Endpoints that share a beginning often have equally much of it: then two looks are enough. Otherwise it takes about
    /// twice the logarithm of the count: an engine that has a block has those before it.
    pub(super) fn matched(&self, prompt: PromptBlocks<'_>, hints: &mut MatchHints) -> usize {
        let now = self.written.load(Ordering::Relaxed);
        let capacity = u64::from(self.capacity.load(Ordering::Relaxed) / SHORT_BLOCK);
        let has = |place: usize| self.has(prompt.block(place), now, capacity);
        if prompt.len() == 0 || !has(0) {
            return 0;
        }
        let is_all = |count: usize| {
            (1..=prompt.len()).contains(&count) && has(count - 1) && (count == prompt.len() || !has(count))
        };
        if let Some(count) = hints.find(is_all) {
            return count;
        }
        let count = leading(prompt.len(), has);
        hints.note(count);
        count
    }

    fn has(&self, block: u64, now: u64, capacity: u64) -> bool {
        self.age_of(block, now).is_some_and(|age| age <= capacity)
    }

    /// How many short blocks were written since a block was used last; `None` for one that is not known.
    fn age_of(&self, block: u64, now: u64) -> Option<u64> {
        let tag = tag(block);
        let entries = self.set(block).iter().map(|entry| entry.load(Ordering::Relaxed));
        entries.filter(|entry| entry >> STAMP_BITS == tag).map(|entry| age(entry, now)).min()
    }

    /// How many tokens the endpoint was given to compute since it was last sent a prompt with so many leading blocks of this
    /// one; `None` where it never was, as far as is known.
    pub(super) fn tokens_since(&self, prompt: PromptBlocks<'_>, blocks: usize) -> Option<u64> {
        let age = self.age_of(prompt.block(blocks.checked_sub(1)?), self.written.load(Ordering::Relaxed))?;
        Some(age * u64::from(SHORT_BLOCK))
    }

    /// Notes that the endpoint gets a prompt, of whose blocks it has the first `matched`.
    pub(super) fn record(&self, prompt: PromptBlocks<'_>, matched: usize) {
        // A table cannot hold more of one prompt; its beginning is what others share.
        let length = prompt.len().min(MAX_BLOCKS);
        let new = u64::from(tokens_of(length).saturating_sub(tokens_of(matched)) / SHORT_BLOCK);
        let now = self.written.fetch_add(new, Ordering::Relaxed) + new;
        for place in 0..length {
            self.touch(prompt.block(place), now);
        }
    }

    /// Two threads that write one set at once may lose an entry, which costs a hit at most.
    fn touch(&self, block: u64, now: u64) {
        let (tag, set) = (tag(block), self.set(block));
        let (mut oldest, mut most) = (0, 0);
        for (way, entry) in set.iter().enumerate() {
            let entry = entry.load(Ordering::Relaxed);
            let is_same = entry >> STAMP_BITS == tag;
            let age = if entry == 0 || is_same { u64::MAX - u64::from(!is_same) } else { age(entry, now) };
            if age > most {
                (oldest, most) = (way, age);
            }
        }
        set[oldest].store(tag << STAMP_BITS | now & STAMP, Ordering::Relaxed);
    }

    /// Tokens written so far that the endpoint did not have.
    pub(super) fn written_tokens(&self) -> u64 {
        self.written.load(Ordering::Relaxed).saturating_mul(SHORT_BLOCK.into())
    }

    /// Takes in how many tokens the engine's cache holds.
    pub(super) fn set_capacity(&self, tokens: u64) {
        let tokens = u32::try_from(tokens).unwrap_or(MAX_TOKENS).clamp(MIN_TOKENS, MAX_TOKENS);
        // Said again with each scrape, it must not undo what reports have corrected.
        if self.told.swap(tokens, Ordering::Relaxed) != tokens {
            self.capacity.store(tokens, Ordering::Relaxed);
        }
    }

    /// Takes in what share of a prompt was taken for cached, and what share the engine reports, each 0 to 1: an engine
    /// that has less than was predicted holds less than it was taken to, or shares its cache with others.
    pub(super) fn correct(&self, predicted: f32, reported: f32) {
        if reported > 0.0 {
            self.reports.store(true, Ordering::Relaxed);
        } else if !self.reports.load(Ordering::Relaxed) {
            return;
        }
        let capacity = self.capacity.load(Ordering::Relaxed);
        let corrected = if predicted - reported > 0.25 {
            capacity - capacity / 16
        } else if reported - predicted > 0.25 {
            capacity + capacity / 16
        } else {
            return;
        };
        self.capacity.store(corrected.clamp(MIN_TOKENS, MAX_TOKENS), Ordering::Relaxed);
    }

    fn set(&self, block: u64) -> &[AtomicU64; WAYS] {
        &self.sets[block as usize % SETS]
    }
}

/// The upper bits, which do not choose the set; never 0.
fn tag(block: u64) -> u64 {
    (block >> STAMP_BITS).max(1)
}

/// How many short blocks were written since the entry was used last.
fn age(entry: u64, now: u64) -> u64 {
    now.wrapping_sub(entry) & STAMP
}

impl fmt::Debug for PrefixTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixTable")
            .field("written", &self.written)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hashes as random as a hash function's.
    fn blocks(of: u64, count: usize) -> Vec<u64> {
        (0..count as u64)
            .map(|at| xxhash_rust::xxh3::xxh3_64(&[of.to_le_bytes(), at.to_le_bytes()].concat()))
            .collect()
    }

    fn matched(table: &PrefixTable, chain: &[u64]) -> usize {
        table.matched(PromptBlocks { chain, model: 0 }, &mut MatchHints::default())
    }

    fn send(table: &PrefixTable, chain: &[u64]) -> usize {
        let matched = matched(table, chain);
        table.record(PromptBlocks { chain, model: 0 }, matched);
        matched
    }

    #[test]
    fn what_was_sent_is_cached_as_far_as_it_is_the_same() {
        let table = PrefixTable::default();
        let first = blocks(1, 100);
        assert_eq!((send(&table, &first), send(&table, &first)), (0, 100));
        let other = [&first[..37], &blocks(2, 50)].concat();
        assert_eq!((matched(&table, &other), matched(&table, &first[..9]), matched(&table, &[])), (37, 9, 0));
        assert_eq!(matched(&table, &blocks(3, 5)), 0);
        let of_another = PromptBlocks { chain: &first, model: 7 };
        assert_eq!(table.matched(of_another, &mut MatchHints::default()), 0, "another model's cache");
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten_when_the_engine_is_full() {
        let table = PrefixTable::default();
        table.set_capacity(20_000);
        for prompt in 0..10 {
            send(&table, &blocks(prompt, 32));
            send(&table, &blocks(0, 32));
        }
        assert_eq!(matched(&table, &blocks(0, 32)), 32, "it is used all the time");
        send(&table, &blocks(10, 32));
        assert_eq!(matched(&table, &blocks(10, 32)), 32);
        send(&table, &blocks(11, 132));
        assert_eq!(matched(&table, &blocks(1, 32)), 0, "more was written since than the engine holds");
    }

    #[test]
    fn a_report_of_less_than_predicted_shrinks_the_cache_and_one_of_more_grows_it() {
        let table = PrefixTable::default();
        let capacity = || table.capacity.load(Ordering::Relaxed);
        table.correct(1.0, 0.0);
        assert_eq!(capacity(), USUAL_TOKENS, "an engine that reports nothing says nothing");
        table.correct(0.0, 0.9);
        assert!(capacity() > USUAL_TOKENS);
        (0..200).for_each(|_| table.correct(0.9, 0.0));
        assert_eq!(capacity(), MIN_TOKENS);
    }

    #[test]
    fn what_was_new_since_a_beginning_came_last_is_known_as_long_as_the_beginning_is() {
        let table = PrefixTable::default();
        let since = |chain: &[u64], count| table.tokens_since(PromptBlocks { chain, model: 0 }, count);
        let first = blocks(1, 20);
        assert_eq!((since(&first, 20), since(&first, 0)), (None, None));
        send(&table, &first);
        assert_eq!(since(&first, 20), Some(0));
        send(&table, &[&first[..8], &blocks(2, 10)].concat());
        assert_eq!((since(&first, 8), since(&first, 20)), (Some(0), Some(10 * u64::from(SHORT_BLOCK))));
    }

    #[test]
    fn a_prompt_longer_than_the_table_breaks_nothing() {
        let table = PrefixTable::default();
        let long = blocks(1, 3 * MAX_BLOCKS);
        table.set_capacity(u64::MAX);
        assert_eq!(send(&table, &long), 0);
        let matched = matched(&table, &long);
        assert!(matched > MAX_BLOCKS / 2 && matched <= MAX_BLOCKS, "{matched}");
    }

    proptest! {
        #[test]
        fn no_more_matches_than_two_prompts_share(shared in 0_usize..300, more in 0_usize..300, rest in 0_usize..300) {
            let table = PrefixTable::default();
            let prompt = blocks(1, shared + more);
            send(&table, &prompt);
            let other = [&prompt[..shared], &blocks(2, rest)].concat();
            prop_assert_eq!(matched(&table, &other), shared);
            let mut hints = MatchHints::default();
            for hint in [shared + 1, rest, shared, 0] {
                hints.note(hint);
                prop_assert_eq!(table.matched(PromptBlocks { chain: &other, model: 0 }, &mut hints), shared);
            }
        }
    }
}
