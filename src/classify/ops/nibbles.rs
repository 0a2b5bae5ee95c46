//! Rows of numbers in four bits each, as llama.cpp's `Q4_0` has them: a table that is looked up is read where it lies.
//!
//! A block is a scale in f16 and 16 bytes: the low halves are its first 16 numbers, the high ones the others, each less 8.
//! Knows nothing of what the rows mean.

use std::borrow::Cow;

use super::Matrix;

/// Numbers that share a scale.
const BLOCK: usize = 32;
/// Bytes of a block.
const BLOCK_BYTES: usize = 2 + BLOCK / 2;

/// A table of rows, each of some blocks.
pub(crate) struct NibbleRows {
    rows: usize,
    cols: usize,
    bytes: Cow<'static, [u8]>,
}

impl NibbleRows {
    /// Takes `rows` rows of `cols` numbers; none if there are not as many bytes as they need.
    pub(crate) fn new(rows: usize, cols: usize, bytes: Cow<'static, [u8]>) -> Option<Self> {
        let is_whole = Self::row_bytes(cols)?.checked_mul(rows)? == bytes.len();
        is_whole.then_some(Self { rows, cols, bytes })
    }

    /// Returns how many bytes a row has; none if its numbers are not whole blocks.
    pub(crate) fn row_bytes(cols: usize) -> Option<usize> {
        cols.is_multiple_of(BLOCK).then_some(cols / BLOCK * BLOCK_BYTES)
    }

    pub(crate) fn dims(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Adds a row to numbers; says whether there is such a row, of as many numbers.
    pub(crate) fn add_row(&self, index: usize, into: &mut [f32]) -> bool {
        if index >= self.rows || into.len() != self.cols {
            return false;
        }
        let size = self.cols / BLOCK * BLOCK_BYTES;
        let blocks = self.bytes[index * size..(index + 1) * size].chunks_exact(BLOCK_BYTES);
        for (numbers, block) in into.chunks_exact_mut(BLOCK).zip(blocks) {
            let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
            let (first, second) = numbers.split_at_mut(BLOCK / 2);
            for ((low, high), byte) in first.iter_mut().zip(second).zip(&block[2..]) {
                *low += (f32::from(byte & 15) - 8.0) * scale;
                *high += (f32::from(byte >> 4) - 8.0) * scale;
            }
        }
        true
    }

    /// Multiplies all rows out.
    pub(crate) fn matrix(&self) -> Matrix {
        let mut data = vec![0.0; self.rows * self.cols];
        for (index, row) in data.chunks_exact_mut(self.cols).enumerate() {
            self.add_row(index, row);
        }
        Matrix::F32 { rows: self.rows, cols: self.cols, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_a_scale_and_two_numbers_a_byte() {
        let scale = half::f16::from_f32(0.5).to_le_bytes();
        let mut bytes = vec![0; 2 * BLOCK_BYTES];
        for (at, block) in bytes.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            block[..2].copy_from_slice(&scale);
            block[2..].fill(0x88);
            // The second number, and the eighteenth.
            block[3] = 0x1f + at as u8 * 0x10;
        }
        let rows = NibbleRows::new(2, 32, bytes.into()).unwrap();
        let mut row = vec![1.0; 32];
        assert!(rows.add_row(1, &mut row));
        let mut expected = vec![1.0; 32];
        (expected[1], expected[17]) = (1.0 + 3.5, 1.0 - 3.0);
        assert_eq!(row, expected);
        assert!(!rows.add_row(2, &mut row) && !rows.add_row(0, &mut row[1..]));
        let Matrix::F32 { data, .. } = rows.matrix() else { panic!("multiplied out") };
        assert_eq!((data[1], data[17], data[32 + 17]), (3.5, -3.5, -3.0));
    }

    #[test]
    fn too_few_bytes_or_broken_blocks_are_no_table() {
        assert!(NibbleRows::new(2, 32, vec![0; 2 * BLOCK_BYTES - 1].into()).is_none());
        assert!(NibbleRows::new(1, 33, vec![0; BLOCK_BYTES].into()).is_none());
        assert!(NibbleRows::new(usize::MAX, 64, Cow::Borrowed(&[])).is_none());
    }
}
