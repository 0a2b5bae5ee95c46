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
///
/// Weights are added two at a time, as one number of 16 bits, which the vector instructions of any processor do. Of whole
/// pairs, what runs over is lost; the odd ones' own sum tells how much of the rest is theirs.
pub(super) struct Scores {
    both: [u16; PAIRS],
    odd: [u16; PAIRS],
    /// Rows in these two sums, at most [`PENDING`].
    pending: usize,
    total: [u32; LANES],
    rows: u32,
}

/// From this far behind the first, a language's share is less than a 32-bit sum shows; `exp` is the dearest thing here.
const NEGLIGIBLE: f32 = 20.0;

/// The most rows of which the sum fits into 16 bits.
const PENDING: usize = (u16::MAX / u8::MAX as u16) as usize;
const PAIRS: usize = LANES / 2;

impl Scores {
    pub(super) const fn new() -> Self {
        Self { both: [0; PAIRS], odd: [0; PAIRS], pending: 0, total: [0; LANES], rows: 0 }
    }

    /// Adds the rows of a word, fewer than [`PENDING`].
    pub(super) fn add(&mut self, rows: &[u16]) {
        if self.pending + rows.len() > PENDING {
            self.add_pending();
        }
        let weights: &[[[u8; 2]; PAIRS]] = WEIGHTS.as_chunks().0.as_chunks().0;
        let (mut both, mut odd) = (self.both, self.odd);
        for row in rows {
            let weights = &weights[usize::from(*row)];
            // Not zipped: compiled in pieces, those iterators stay calls.
            for at in 0..PAIRS {
                let pair = u16::from_le_bytes(weights[at]);
                both[at] = both[at].wrapping_add(pair);
                odd[at] += pair >> 8;
            }
        }
        (self.both, self.odd) = (both, odd);
        self.pending += rows.len();
    }

    fn add_pending(&mut self) {
        for (lanes, at) in self.total.as_chunks_mut::<2>().0.iter_mut().zip(0..PAIRS) {
            let odd = self.odd[at];
            lanes[0] += u32::from(self.both[at].wrapping_sub(odd << 8));
            lanes[1] += u32::from(odd);
        }
        self.rows += self.pending as u32;
        (self.both, self.odd, self.pending) = ([0; PAIRS], [0; PAIRS], 0);
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
        let behind = sums.iter().map(|sum| (most - sum) as f32 * scale);
        let all: f32 = behind.filter(|behind| *behind < NEGLIGIBLE).map(|behind| (-behind).exp()).sum();
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
            scores.add(&[row]);
            let weights = &WEIGHTS[usize::from(row) * LANES..][..LANES];
            total.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += u32::from(*weight));
        }
        scores.add_pending();
        assert_eq!((scores.total, scores.rows), (total, 702));
    }

    #[test]
    fn no_sum_of_pending_rows_runs_over() {
        let most = WEIGHTS.iter().copied().max().unwrap_or_default();
        assert!(u16::from(most).checked_mul(PENDING as u16).is_some());
    }
}
