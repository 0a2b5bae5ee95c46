//! The KV-cache block pool: reference counts, prefix hits over chained hashes, least-recently-used eviction.
//! It refuses to know requests, time and tokens: its callers deal in blocks and hashes.

use std::collections::HashMap;

const NIL: u32 = u32::MAX;

/// The blocks that one sequence requires.
#[derive(Debug, Clone, Default)]
pub(super) struct BlockDemand {
    /// The chained hashes of the prompt's full blocks, first block first.
    pub(super) hashes: Vec<u64>,
    /// How many leading blocks may be reused; one token of a prompt is always computed.
    pub(super) reusable: usize,
    /// Blocks that the prompt occupies from the start.
    pub(super) prompt_blocks: usize,
    /// Blocks that the generated tokens will grow into.
    pub(super) later_blocks: usize,
    /// The tokens of the prompt's full blocks, where changes are told.
    pub(super) ids: Vec<Vec<u64>>,
}

/// What has happened to a block that has a name.
#[derive(Debug, Clone)]
pub(super) enum BlockChange {
    /// It is full; 0 is the parent of a prompt's first.
    Stored { hash: u64, parent: u64, ids: Vec<u64> },
    /// Its content is gone.
    Removed { hash: u64 },
}

/// What a block holds.
#[derive(Debug)]
pub(super) struct BlockContent {
    pub(super) parent: u64,
    pub(super) ids: Vec<u64>,
}

impl BlockDemand {
    fn content(&self, index: usize) -> BlockContent {
        let parent = index.checked_sub(1).map_or(0, |before| self.hashes[before]);
        BlockContent { parent, ids: self.ids.get(index).cloned().unwrap_or_default() }
    }
}

/// The blocks of one running request; `BlockPool::release` takes them back.
#[derive(Debug, Default)]
pub(super) struct BlockAllocation {
    blocks: Vec<u32>,
    promised: usize,
    /// How many blocks were reused rather than computed, for each `BlockDemand`.
    pub(super) reused: Vec<usize>,
    /// The last block of each prompt, which the first generated tokens may complete.
    pub(super) lasts: Vec<Option<u32>>,
}

#[derive(Debug, Clone, Copy)]
struct KvBlock {
    hash: Option<u64>,
    refs: u32,
    before: u32,
    after: u32,
}

/// A fixed number of blocks, free ones in the order in which they will be evicted.
#[derive(Debug)]
pub(super) struct BlockPool {
    blocks: Vec<KvBlock>,
    by_hash: HashMap<u64, u32>,
    oldest: u32,
    newest: u32,
    free: usize,
    promised: usize,
    caching: bool,
    /// What has changed since it was last asked, where that is told.
    changes: Option<Vec<BlockChange>>,
}

impl BlockPool {
    /// Makes a pool of `total` free blocks; without `caching` nothing is ever reused.
    pub(super) fn new(total: usize, caching: bool) -> Self {
        let blocks = vec![KvBlock { hash: None, refs: 0, before: NIL, after: NIL }; total];
        let mut pool = Self {
            blocks,
            by_hash: HashMap::new(),
            oldest: NIL,
            newest: NIL,
            free: 0,
            promised: 0,
            caching,
            changes: None,
        };
        for id in 0..total as u32 {
            pool.park_newest(id);
        }
        pool
    }

    /// Notes changes from here on.
    pub(super) fn tell_changes(&mut self) {
        self.changes = Some(Vec::new());
    }

    /// What has changed since this was last asked.
    pub(super) fn take_changes(&mut self) -> Vec<BlockChange> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Counts the blocks that running sequences refer to; cached but idle ones are free.
    pub(super) fn used(&self) -> usize {
        self.blocks.len() - self.free
    }

    /// Takes the blocks of every demand, or none: the growth of the answer is promised, so that no running
    /// sequence ever stalls for a block.
    pub(super) fn admit(&mut self, demands: &[BlockDemand]) -> Option<BlockAllocation> {
        let mut required = 0;
        for demand in demands {
            let hits = self.hits(demand);
            let busy = hits.iter().filter(|id| self.blocks[**id as usize].refs > 0).count();
            required += demand.prompt_blocks - busy + demand.later_blocks;
        }
        if required > self.free - self.promised {
            return None;
        }
        let mut allocation = BlockAllocation::default();
        for demand in demands {
            self.take(demand, &mut allocation);
        }
        Some(allocation)
    }

    /// Turns one promised block into an allocated one and returns its id.
    pub(super) fn grow(&mut self, allocation: &mut BlockAllocation) -> Option<u32> {
        if allocation.promised == 0 {
            return None;
        }
        allocation.promised -= 1;
        self.promised -= 1;
        let id = self.fresh();
        allocation.blocks.push(id);
        Some(id)
    }

    /// Names the content of a block that has become full, so that a later prompt can reuse it.
    pub(super) fn seal(&mut self, id: u32, hash: u64, content: impl FnOnce() -> BlockContent) {
        if self.caching && !self.by_hash.contains_key(&hash) {
            self.by_hash.insert(hash, id);
            self.blocks[id as usize].hash = Some(hash);
            if let Some(changes) = &mut self.changes {
                let BlockContent { parent, ids } = content();
                changes.push(BlockChange::Stored { hash, parent, ids });
            }
        }
    }

    /// Gives back the blocks of a request; the tail of a sequence is evicted before its head.
    pub(super) fn release(&mut self, allocation: BlockAllocation) {
        self.promised -= allocation.promised;
        for id in allocation.blocks.into_iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.refs -= 1;
            if block.refs > 0 {
                continue;
            }
            if block.hash.is_some() {
                self.park_newest(id);
            } else {
                self.park_oldest(id);
            }
        }
    }

    fn hits(&self, demand: &BlockDemand) -> Vec<u32> {
        if !self.caching {
            return Vec::new();
        }
        demand.hashes.iter().take(demand.reusable).map_while(|hash| self.by_hash.get(hash).copied()).collect()
    }

    fn take(&mut self, demand: &BlockDemand, allocation: &mut BlockAllocation) {
        let hits = self.hits(demand);
        for id in &hits {
            if self.blocks[*id as usize].refs == 0 {
                self.unpark(*id);
            }
            self.blocks[*id as usize].refs += 1;
        }
        allocation.reused.push(hits.len());
        allocation.blocks.extend_from_slice(&hits);
        for index in hits.len()..demand.prompt_blocks {
            let id = self.fresh();
            allocation.blocks.push(id);
            if let Some(hash) = demand.hashes.get(index) {
                self.seal(id, *hash, || demand.content(index));
            }
        }
        allocation
            .lasts
            .push((demand.prompt_blocks > 0).then(|| allocation.blocks.last().copied()).flatten());
        allocation.promised += demand.later_blocks;
        self.promised += demand.later_blocks;
    }

    fn fresh(&mut self) -> u32 {
        let id = self.oldest;
        assert!(id != NIL, "admission leaves a free block for every promise");
        self.unpark(id);
        if let Some(hash) = self.blocks[id as usize].hash.take() {
            self.by_hash.remove(&hash);
            if let Some(changes) = &mut self.changes {
                changes.push(BlockChange::Removed { hash });
            }
        }
        self.blocks[id as usize].refs = 1;
        id
    }

    fn park_newest(&mut self, id: u32) {
        let before = self.newest;
        self.link(before, id);
        self.link(id, NIL);
        self.free += 1;
    }

    fn park_oldest(&mut self, id: u32) {
        let after = self.oldest;
        self.link(id, after);
        self.link(NIL, id);
        self.free += 1;
    }

    fn unpark(&mut self, id: u32) {
        let KvBlock { before, after, .. } = self.blocks[id as usize];
        self.link(before, after);
        self.free -= 1;
    }

    fn link(&mut self, before: u32, after: u32) {
        match before {
            NIL => self.oldest = after,
            id => self.blocks[id as usize].after = after,
        }
        match after {
            NIL => self.newest = before,
            id => self.blocks[id as usize].before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(hashes: &[u64], prompt_blocks: usize, later_blocks: usize) -> BlockDemand {
        let (hashes, reusable) = (hashes.to_vec(), hashes.len());
        BlockDemand { hashes, reusable, prompt_blocks, later_blocks, ids: Vec::new() }
    }

    #[test]
    fn a_shared_prefix_is_held_once() {
        let mut pool = BlockPool::new(8, true);
        let first = pool.admit(&[demand(&[1, 2], 3, 0)]).expect("room");
        let second = pool.admit(&[demand(&[1, 2], 3, 0)]).expect("room");
        assert_eq!(second.reused, [2]);
        assert_eq!(pool.used(), 4);
        pool.release(first);
        assert_eq!(pool.used(), 3);
        pool.release(second);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn idle_blocks_are_free_and_still_hit() {
        let mut pool = BlockPool::new(4, true);
        let first = pool.admit(&[demand(&[1, 2, 3], 3, 0)]).expect("room");
        pool.release(first);
        assert_eq!(pool.used(), 0);
        assert_eq!(pool.admit(&[demand(&[1, 2, 3], 4, 0)]).expect("room").reused, [3]);
    }

    #[test]
    fn the_tail_of_the_oldest_sequence_is_evicted_first() {
        let mut pool = BlockPool::new(4, true);
        let a = pool.admit(&[demand(&[1, 2], 2, 0)]).expect("room");
        pool.release(a);
        let b = pool.admit(&[demand(&[8, 9], 2, 0)]).expect("room");
        pool.release(b);
        let c = pool.admit(&[demand(&[20], 1, 0)]).expect("room");
        pool.release(c);
        assert_eq!(pool.admit(&[demand(&[1, 2], 2, 0)]).expect("room").reused, [1], "block 2 was evicted");
    }

    #[test]
    fn nothing_is_admitted_into_promised_blocks() {
        let mut pool = BlockPool::new(4, true);
        let mut first = pool.admit(&[demand(&[], 1, 2)]).expect("room");
        assert_eq!(pool.used(), 1, "promised blocks are not used yet");
        assert!(pool.admit(&[demand(&[], 2, 0)]).is_none());
        assert!(pool.admit(&[demand(&[], 1, 0)]).is_some());
        assert!(pool.grow(&mut first).is_some());
        assert!(pool.grow(&mut first).is_some());
        assert!(pool.grow(&mut first).is_none());
        assert_eq!(pool.used(), 4);
    }

    #[test]
    fn without_caching_nothing_is_reused() {
        let mut pool = BlockPool::new(8, false);
        let first = pool.admit(&[demand(&[1, 2], 2, 0)]).expect("room");
        pool.release(first);
        assert_eq!(pool.admit(&[demand(&[1, 2], 2, 0)]).expect("room").reused, [0]);
    }

    proptest::proptest! {
        #[test]
        fn counts_stay_right_over_any_sequence_of_requests(
            steps in proptest::collection::vec((0_u64..6, 1_usize..5, 0_usize..3, proptest::bool::ANY), 1..80),
        ) {
            let mut pool = BlockPool::new(12, true);
            let mut held: Vec<BlockAllocation> = Vec::new();
            for (family, blocks, later, leave) in steps {
                if leave && !held.is_empty() {
                    pool.release(held.remove(0));
                } else {
                    let hashes: Vec<u64> = (0..blocks as u64).map(|i| family * 100 + i).collect();
                    held.extend(pool.admit(&[demand(&hashes, blocks, later)]));
                }
                let mut distinct: Vec<u32> = held.iter().flat_map(|h| h.blocks.clone()).collect();
                distinct.sort_unstable();
                distinct.dedup();
                proptest::prop_assert_eq!(pool.used(), distinct.len());
                proptest::prop_assert!(pool.promised <= pool.free);
            }
            for allocation in held {
                pool.release(allocation);
            }
            proptest::prop_assert_eq!((pool.used(), pool.promised), (0, 0));
        }
    }
}
