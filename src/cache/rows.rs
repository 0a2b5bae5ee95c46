//! Owns the entries of one scope as rows that a similar request is looked for in.
//! Refuses to know when entries come and go, and whether a near one may answer.
//!
//! Rows lie in blocks that a search holds by reference, so that a search needs no lock: who changes a block that is
//! being searched changes a copy of it. Sketches choose a few candidates; those are compared number by number.

use std::sync::Arc;

use signalbox_kernels::dot;

use super::entry::{CacheEntry, CacheKey};
use super::sketch::{DisagreementLimits, HEAD, Sketch, disagreements, many_disagreements};

/// The rows of a block.
const BLOCK: usize = 512;

/// The most rows that are compared number by number.
const CANDIDATES: usize = 32;

/// A sketch in halves.
type Row = ([u64; HEAD], [u64; HEAD]);

/// A run of rows.
#[derive(Debug, Clone, Default)]
pub(super) struct RowBlock {
    /// The first words of all sketches, then the second ones, and so on.
    heads: [Vec<u64>; HEAD],
    tails: Vec<[u64; HEAD]>,
    entries: Vec<Arc<CacheEntry>>,
}

impl RowBlock {
    fn push(&mut self, sketch: &Sketch, entry: Arc<CacheEntry>) {
        let (head, tail) = sketch.halves();
        for (words, word) in self.heads.iter_mut().zip(head) {
            words.push(word);
        }
        self.tails.push(tail);
        self.entries.push(entry);
    }

    /// Takes the last row out.
    fn pop(&mut self) -> Option<(Row, Arc<CacheEntry>)> {
        let mut head = [0; HEAD];
        for (words, word) in self.heads.iter_mut().zip(&mut head) {
            *word = words.pop()?;
        }
        Some(((head, self.tails.pop()?), self.entries.pop()?))
    }

    fn set(&mut self, row: usize, (head, tail): Row, entry: Arc<CacheEntry>) -> Option<()> {
        for (words, word) in self.heads.iter_mut().zip(head) {
            *words.get_mut(row)? = word;
        }
        *self.tails.get_mut(row)? = tail;
        *self.entries.get_mut(row)? = entry;
        Some(())
    }
}

#[cfg(test)]
impl RowBlock {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The entries of one scope that can be found by similarity.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// All full but the last.
    blocks: Vec<Arc<RowBlock>>,
}

impl Rows {
    /// Returns the blocks as they are now.
    pub(super) fn blocks(&self) -> Vec<Arc<RowBlock>> {
        self.blocks.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Puts an entry at the end and returns its row.
    pub(super) fn push(&mut self, sketch: &Sketch, entry: Arc<CacheEntry>) -> usize {
        if self.blocks.last().is_none_or(|last| last.entries.len() == BLOCK) {
            self.blocks.push(Arc::default());
        }
        let full = self.blocks.len() - 1;
        let Some(last) = self.blocks.last_mut().map(Arc::make_mut) else { return 0 };
        last.push(sketch, entry);
        full * BLOCK + last.entries.len() - 1
    }

    /// Takes a row out; the last one moves into its place, and its key is returned unless it is the one taken.
    pub(super) fn remove(&mut self, row: usize) -> Option<CacheKey> {
        let last = Arc::make_mut(self.blocks.last_mut()?);
        let (sketch, entry) = last.pop()?;
        let end = last.entries.len();
        if end == 0 {
            self.blocks.pop();
        }
        if row == self.blocks.len().saturating_sub(usize::from(end > 0)) * BLOCK + end {
            return None;
        }
        let block = Arc::make_mut(self.blocks.get_mut(row / BLOCK)?);
        let key = entry.key;
        block.set(row % BLOCK, sketch, entry)?;
        Some(key)
    }
}

/// Finds the rows nearest to an embedding, nearest first, none below the least score.
pub(super) fn nearest(
    blocks: &[Arc<RowBlock>],
    embedding: &[f32],
    min_score: f32,
) -> Vec<(f32, Arc<CacheEntry>)> {
    let Some(sketch) = Sketch::of(embedding) else { return Vec::new() };
    let mut found: Vec<(f32, Arc<CacheEntry>)> =
        candidates(blocks, &sketch, DisagreementLimits::of(min_score))
            .into_iter()
            .filter_map(|(_, block, row)| {
                let entry = blocks.get(block)?.entries.get(row)?;
                let theirs = entry.embedding.as_deref().filter(|theirs| theirs.len() == embedding.len())?;
                let score = dot(embedding, theirs).min(1.0);
                (score >= min_score).then(|| (score, Arc::clone(entry)))
            })
            .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found
}

/// Finds the rows whose sketches disagree least, each with its disagreements, its block and its place in it.
fn candidates(
    blocks: &[Arc<RowBlock>],
    sketch: &Sketch,
    mut most: DisagreementLimits,
) -> Vec<(u32, usize, usize)> {
    let (head, tail) = sketch.halves();
    let mut best: Vec<(u32, usize, usize)> = Vec::with_capacity(CANDIDATES + 1);
    let mut firsts = [0_u32; BLOCK];
    for (number, block) in blocks.iter().enumerate() {
        many_disagreements(&head, &block.heads, &mut firsts);
        for (row, (first, theirs)) in firsts.iter().zip(&block.tails).enumerate() {
            if *first > most.head {
                continue;
            }
            let all = first + disagreements(&tail, theirs);
            if all > most.all {
                continue;
            }
            let at = best.partition_point(|(other, ..)| *other <= all);
            best.insert(at, (all, number, row));
            best.truncate(CANDIDATES);
            if best.len() == CANDIDATES {
                // One more that is only as near as the last would not be kept.
                most.all = best[CANDIDATES - 1].0.saturating_sub(1);
            }
        }
    }
    best
}
