//! Ranges of rows reduced to one row each.

use std::ops::Range;

/// How rows become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// The sum of each column.
    Sum,
    /// The largest value of each column.
    Max,
}

/// Reduces each range of rows of `width` columns to one row; an empty range to zeros.
///
/// # Panics
///
/// If a range lies outside of the rows.
pub fn reduce(rows: &[f32], ranges: &[Range<usize>], width: usize, reduction: Reduction, out: &mut [f32]) {
    for (range, reduced) in ranges.iter().zip(out.chunks_exact_mut(width)) {
        let mut rows = rows[range.start * width..range.end * width].chunks_exact(width);
        let Some(first) = rows.next() else {
            reduced.fill(0.0);
            continue;
        };
        reduced.copy_from_slice(first);
        for row in rows {
            for (all, x) in reduced.iter_mut().zip(row) {
                match reduction {
                    Reduction::Sum => *all += x,
                    Reduction::Max => *all = if *x > *all { *x } else { *all },
                }
            }
        }
    }
}
