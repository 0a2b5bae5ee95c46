//! Owns which blocks one engine has in its KV cache, by its own account, and on which of its tiers.
//! Refuses to know how that account comes here, and which tokens a prompt has.
//!
//! An engine's own hashes are only names, by which blocks are removed and followed by others; blocks are found by keys that
//! are made here of their tokens. Bounded: beyond [`MAX_BLOCKS`] the block that was named longest ago is forgotten.

use super::lock;
use super::rendezvous::{hash_key, mixed};
use lru::LruCache;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The most blocks known of one engine: two million tokens in blocks of 16, in some twelve megabytes.
const MAX_BLOCKS: usize = 1 << 17;

/// What of an engine's memory holds a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvTier {
    /// The accelerator's own memory.
    #[default]
    Device,
    /// The host's.
    Host,
    /// A disk, or another machine.
    Disk,
}

impl KvTier {
    /// What a block there saves, as a part of one on the device; the credits of NVIDIA Dynamo's router.
    fn credit(self) -> f32 {
        match self {
            Self::Device => 1.0,
            Self::Host => 0.75,
            Self::Disk => 0.25,
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn best(bits: u8) -> Self {
        [Self::Device, Self::Host].into_iter().find(|tier| bits & tier.bit() != 0).unwrap_or(Self::Disk)
    }
}

/// Blocks that an engine says it has stored, each following the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredBlocks {
    /// The engine's names of the blocks.
    pub names: Vec<u64>,
    /// The engine's name of the block before the first; none at a prompt's beginning.
    pub parent: Option<u64>,
    /// The tokens of all blocks.
    pub tokens: Vec<u64>,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// The adapter.
    pub adapter: Option<String>,
    /// What else tells each block apart, hashed; 0 for nothing. The first block's may be a salt: see [`salt_key`].
    pub extra: Vec<u64>,
    /// Where they are.
    pub tier: KvTier,
}

/// What an engine says of its cache.
#[derive(Clone, Debug, PartialEq)]
pub enum KvEvent {
    /// It has stored blocks.
    Stored(StoredBlocks),
    /// It has removed blocks from a tier.
    Removed {
        /// Its names of them.
        names: Vec<u64>,
        /// The tier.
        tier: KvTier,
    },
    /// It has removed all.
    Cleared,
}

/// The key of a `cache_salt`.
pub fn salt_key(salt: &str) -> u64 {
    xxh3_64(salt.as_bytes()).max(1)
}

/// The keys of a prompt's full blocks, as an engine has them for an adapter and a salt.
pub(super) fn block_keys(
    tokens: &[u64],
    block_tokens: u32,
    adapter: Option<&str>,
    salt: Option<&str>,
) -> Vec<u64> {
    let mut key = root(adapter);
    let mut extra = salt.map_or(0, salt_key);
    let blocks = tokens.chunks_exact(block_tokens.max(1) as usize);
    blocks
        .map(|block| {
            key = next_key(key, block, std::mem::take(&mut extra));
            key
        })
        .collect()
}

fn root(adapter: Option<&str>) -> u64 {
    adapter.map_or(0, |adapter| hash_key(adapter.as_bytes()))
}

fn next_key(parent: u64, block: &[u64], extra: u64) -> u64 {
    // Engines' blocks have 16 to 64 tokens.
    let bytes: SmallVec<[u8; 512]> = block.iter().flat_map(|token| token.to_le_bytes()).collect();
    mixed(xxh3_64_with_seed(&bytes, parent) ^ mixed(extra).rotate_left(17))
}

/// What one engine has cached.
pub(super) struct KvBlocks {
    known: Mutex<KnownBlocks>,
    /// Whether what is known is all there is.
    is_complete: AtomicBool,
    block_tokens: AtomicU32,
}

struct KnownBlocks {
    /// By the engine's name.
    named: LruCache<u64, NamedBlock>,
    /// The tiers that hold the block of a key.
    tiers: KeyMap<u8>,
}

/// A map by keys that are hashes already.
pub(super) type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<BlockKeyHasher>>;

/// Takes a key as its own hash.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockKeyHasher(u64);

impl Hasher for BlockKeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[derive(Clone, Copy)]
struct NamedBlock {
    key: u64,
    tiers: u8,
}

impl Default for KvBlocks {
    fn default() -> Self {
        // The bound is held where blocks are added: one that goes has to leave both maps.
        Self {
            known: Mutex::new(KnownBlocks { named: LruCache::unbounded(), tiers: KeyMap::default() }),
            is_complete: AtomicBool::new(false),
            block_tokens: AtomicU32::new(0),
        }
    }
}

impl KvBlocks {
    /// Takes in an event; a block whose predecessor is unknown cannot be found, and is not kept.
    pub(super) fn apply(&self, event: &KvEvent) {
        let mut known = lock(&self.known);
        match event {
            KvEvent::Stored(stored) => {
                self.block_tokens.store(stored.block_tokens, Ordering::Relaxed);
                known.store(stored);
            }
            KvEvent::Removed { names, tier } => {
                for name in names {
                    known.remove(*name, *tier);
                }
            }
            KvEvent::Cleared => known.clear(),
        }
    }

    /// Says whether all that the engine has is known from here on.
    pub(super) fn set_complete(&self, is_complete: bool) {
        self.is_complete.store(is_complete, Ordering::Release);
    }

    /// Whether what is known can be gone by.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Tokens in a block; 0 while no block was stored.
    pub(super) fn block_tokens(&self) -> u32 {
        self.block_tokens.load(Ordering::Relaxed)
    }

    /// How many blocks are known.
    pub(super) fn len(&self) -> usize {
        lock(&self.known).named.len()
    }

    /// Counts the leading blocks that are there, those on slower tiers as a part of one.
    pub(super) fn matched(&self, keys: &[u64]) -> f32 {
        let known = lock(&self.known);
        let tiers = |key: &u64| known.tiers.get(key).copied().unwrap_or(0);
        // An engine removes the ends of prompts first: what has a block has those before it.
        let device = keys.partition_point(|key| tiers(key) & KvTier::Device.bit() != 0);
        let any = device + keys[device..].partition_point(|key| tiers(key) != 0);
        let slower = if any > device { KvTier::best(tiers(&keys[any - 1])).credit() } else { 0.0 };
        device as f32 + slower * (any - device) as f32
    }
}

impl KnownBlocks {
    fn store(&mut self, stored: &StoredBlocks) {
        let mut key = match stored.parent {
            None => root(stored.adapter.as_deref()),
            Some(parent) => match self.named.get(&parent) {
                Some(block) => block.key,
                None => return,
            },
        };
        let blocks = stored.tokens.chunks_exact(stored.block_tokens.max(1) as usize);
        for (at, (name, block)) in stored.names.iter().zip(blocks).enumerate() {
            key = next_key(key, block, stored.extra.get(at).copied().unwrap_or(0));
            let bit = stored.tier.bit();
            let before = self.named.get(name).copied().filter(|known| {
                let is_same = known.key == key;
                if !is_same {
                    // The engine has used a name anew.
                    self.tiers.remove(&known.key);
                }
                is_same
            });
            let tiers = before.map_or(0, |known| known.tiers) | bit;
            self.named.put(*name, NamedBlock { key, tiers });
            *self.tiers.entry(key).or_default() |= bit;
        }
        while self.named.len() > MAX_BLOCKS {
            if let Some((_, block)) = self.named.pop_lru() {
                self.tiers.remove(&block.key);
            }
        }
    }

    fn remove(&mut self, name: u64, tier: KvTier) {
        let Some(block) = self.named.peek_mut(&name) else { return };
        block.tiers &= !tier.bit();
        let NamedBlock { key, tiers } = *block;
        if tiers == 0 {
            self.named.pop(&name);
            self.tiers.remove(&key);
        } else {
            self.tiers.insert(key, tiers);
        }
    }

    fn clear(&mut self) {
        self.named.clear();
        self.tiers.clear();
    }
}

impl std::fmt::Debug for KvBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvBlocks").field("is_complete", &self.is_complete).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of quarters are exact")]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert, proptest};

    fn stored(names: &[u64], parent: Option<u64>, tokens: &[u64]) -> StoredBlocks {
        let (names, tokens) = (names.to_vec(), tokens.to_vec());
        StoredBlocks { names, parent, tokens, block_tokens: 2, ..StoredBlocks::default() }
    }

    fn keys(tokens: &[u64]) -> Vec<u64> {
        block_keys(tokens, 2, None, None)
    }

    fn with(events: &[KvEvent]) -> KvBlocks {
        let blocks = KvBlocks::default();
        for event in events {
            blocks.apply(event);
        }
        blocks
    }

    #[test]
    fn what_an_engine_stores_is_found_by_its_tokens_until_it_is_removed() {
        let tokens = [1, 2, 3, 4, 5, 6, 7];
        let blocks = with(&[
            KvEvent::Stored(stored(&[10, 11], None, &tokens[..4])),
            KvEvent::Stored(stored(&[12], Some(11), &tokens[4..6])),
        ]);
        assert_eq!((blocks.matched(&keys(&tokens)), blocks.len()), (3.0, 3));
        assert_eq!(blocks.matched(&keys(&[1, 2, 9, 9, 5, 6])), 1.0, "as far as it is the same");
        blocks.apply(&KvEvent::Removed { names: vec![12], tier: KvTier::Device });
        assert_eq!(blocks.matched(&keys(&tokens)), 2.0);
        blocks.apply(&KvEvent::Cleared);
        assert_eq!((blocks.matched(&keys(&tokens)), blocks.len()), (0.0, 0));
    }

    #[test]
    fn a_block_that_follows_an_unknown_one_is_not_kept() {
        let blocks = with(&[KvEvent::Stored(stored(&[12], Some(11), &[5, 6]))]);
        assert_eq!(blocks.len(), 0);
    }

    #[test]
    fn slower_tiers_count_as_a_part_and_a_block_may_be_on_two() {
        let tokens = [1, 2, 3, 4];
        let host = StoredBlocks { tier: KvTier::Host, ..stored(&[10, 11], None, &tokens) };
        let blocks = with(&[KvEvent::Stored(stored(&[10, 11], None, &tokens)), KvEvent::Stored(host)]);
        assert_eq!(blocks.matched(&keys(&tokens)), 2.0);
        blocks.apply(&KvEvent::Removed { names: vec![11], tier: KvTier::Device });
        assert_eq!(blocks.matched(&keys(&tokens)), 1.75);
        blocks.apply(&KvEvent::Removed { names: vec![11], tier: KvTier::Host });
        assert_eq!(blocks.matched(&keys(&tokens)), 1.0);
    }

    #[test]
    fn adapters_and_salts_tell_blocks_apart() {
        let tokens = [1, 2, 3, 4];
        let own = StoredBlocks {
            adapter: Some("a".to_owned()),
            extra: vec![salt_key("s"), 0],
            ..stored(&[10, 11], None, &tokens)
        };
        let blocks = with(&[KvEvent::Stored(own)]);
        let matched = |adapter, salt| blocks.matched(&block_keys(&tokens, 2, adapter, salt));
        assert_eq!(matched(Some("a"), Some("s")), 2.0);
        for (adapter, salt) in
            [(None, Some("s")), (Some("a"), None), (Some("b"), Some("s")), (Some("a"), Some("t"))]
        {
            assert_eq!(matched(adapter, salt), 0.0);
        }
    }

    #[test]
    fn no_more_blocks_are_known_than_the_bound() {
        let tokens: Vec<u64> = (0..2 * (MAX_BLOCKS as u64 + 10)).collect();
        let names: Vec<u64> = (0..=MAX_BLOCKS as u64 + 9).collect();
        let blocks = with(&[KvEvent::Stored(stored(&names, None, &tokens))]);
        assert_eq!((blocks.len(), lock(&blocks.known).tiers.len()), (MAX_BLOCKS, MAX_BLOCKS));
    }

    proptest! {
        #[test]
        fn both_maps_agree_whatever_is_said(
            events in prop::collection::vec((0_u64..12, 0_u64..12, prop::bool::ANY, prop::bool::ANY), 0..60),
        ) {
            let blocks = KvBlocks::default();
            for (name, parent, is_stored, is_host) in events {
                let tier = if is_host { KvTier::Host } else { KvTier::Device };
                blocks.apply(&if is_stored {
                    let parent = (parent < 8).then_some(parent);
                    let tokens = [name, 0];
                    KvEvent::Stored(StoredBlocks { tier, ..stored(&[name], parent, &tokens) })
                } else {
                    KvEvent::Removed { names: vec![name], tier }
                });
                let known = lock(&blocks.known);
                prop_assert!(known.tiers.len() <= known.named.len());
                prop_assert!(known.named.iter().all(|(_, block)| block.tiers != 0));
            }
        }
    }
}
