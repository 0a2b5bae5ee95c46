//! Owns the table of weights and what it makes of a text's rows: how likely each language is. Refuses to know letters.
//!
//! A softmax over hashed n-grams, made by `training/language/`; `models/language/MODEL_CARD.md` says how good it is.

use std::sync::LazyLock;

use serde::Deserialize;

use super::script::{IN_TABLE, Script};

/// Rows of the table; a power of two.
pub(super) const ROWS: usize = 1 << 14;
/// Languages, by their place in a row; the last of the Latin ones stands for what is no language.
const LANES: usize = 64;

/// Weights, each 128 more than it is: what is added to every language alike changes no probability.
static WEIGHTS: &[u8; ROWS * LANES] = include_bytes!("../../models/language/weights.u8");

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../models/language/languages.json"))
        .expect("the built-in table is whole")
});

/// What the weights mean.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
struct Table {
    /// A language for each lane; an empty one is none.
    lanes: Vec<&'static str>,
    /// The first lane of each script of [`Script`], in its order, and the end.
    starts: [usize; IN_TABLE + 1],
    /// What one step of a weight is worth.
    step: f32,
    /// For texts of at most so many rows, what their scores are divided by, so that a confidence is a share of right ones.
    temperatures: Vec<Temperature>,
}

#[derive(Deserialize)]
struct Temperature {
    max_rows: u32,
    divisor: f32,
}

/// The languages that the table knows, by ISO 639-1.
pub(super) fn languages() -> impl Iterator<Item = &'static str> {
    TABLE.lanes.iter().copied().filter(|code| !code.is_empty())
}

/// The rows of a text in one script, and their sum.
pub(super) struct Scores {
    /// Rows that are not added yet; full, their sum is just below what 16 bits hold.
    pending: [u16; PENDING],
    pending_rows: usize,
    total: [u32; LANES],
    rows: u32,
}

/// The most rows of which the sum fits into 16 bits.
const PENDING: usize = (u16::MAX / u8::MAX as u16) as usize;
/// Weights are added eight at a time, in two words of four sums each: any processor's vector instructions do that, and four
/// times as quickly as widening the weights one by one.
const WORDS: usize = LANES / 8;
/// The bytes at even places of a word, each with room for a sum of 16 bits.
const EVEN: u64 = 0x00ff_00ff_00ff_00ff;

impl Scores {
    pub(super) const fn new() -> Self {
        Self { pending: [0; PENDING], pending_rows: 0, total: [0; LANES], rows: 0 }
    }

    pub(super) fn add(&mut self, row: u16) {
        self.pending[self.pending_rows] = row;
        self.pending_rows += 1;
        if self.pending_rows == PENDING {
            self.add_pending();
        }
    }

    fn add_pending(&mut self) {
        let rows: &[[[u8; 8]; WORDS]] = WEIGHTS.as_chunks().0.as_chunks().0;
        let pending = &self.pending[..self.pending_rows];
        let (mut even, mut odd) = ([0_u64; WORDS], [0_u64; WORDS]);
        for row in pending {
            let sums = even.iter_mut().zip(&mut odd);
            for ((even, odd), weights) in sums.zip(&rows[usize::from(*row)]) {
                let weights = u64::from_le_bytes(*weights);
                *even += weights & EVEN;
                *odd += (weights >> 8) & EVEN;
            }
        }
        let sums = even.iter().zip(&odd);
        for (totals, (even, odd)) in self.total.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            for (at, total) in totals.iter_mut().enumerate() {
                let sums = if at % 2 == 0 { even } else { odd };
                *total += (sums >> (at / 2 * 16)) as u32 & u32::from(u16::MAX);
            }
        }
        self.rows += pending.len() as u32;
        self.pending_rows = 0;
    }

    /// The most likely language of those of the script, and how likely it is; the empty one is no language.
    pub(super) fn best(&mut self, script: Script) -> Option<(&'static str, f32)> {
        self.add_pending();
        if self.rows == 0 {
            return None;
        }
        let table = &*TABLE;
        let (start, end) = (table.starts[script as usize], table.starts[script as usize + 1]);
        let sums = &self.total[start..end];
        let (place, most) = sums.iter().enumerate().max_by_key(|(_, sum)| **sum)?;
        let divisor = table.temperatures.iter().find(|one| self.rows <= one.max_rows)?.divisor;
        let scale = table.step / (self.rows as f32).sqrt() / divisor;
        let all: f32 = sums.iter().map(|sum| (-((most - sum) as f32) * scale).exp()).sum();
        Some((table.lanes[start + place], all.recip()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_weights_one_by_one() {
        let mut scores = Scores::new();
        let rows = (0..700_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 18) as u16);
        let mut total = [0_u32; LANES];
        for row in rows.chain([0, ROWS as u16 - 1]) {
            scores.add(row);
            let weights = &WEIGHTS[usize::from(row) * LANES..][..LANES];
            total.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += u32::from(*weight));
        }
        scores.add_pending();
        assert_eq!((scores.total, scores.rows), (total, 702));
    }

    #[test]
    fn no_sum_of_pending_rows_runs_over() {
        let most = WEIGHTS.iter().copied().max().unwrap_or_default();
        assert!(u32::from(most) * PENDING as u32 <= u32::from(u16::MAX));
    }
}
