//! Rotary position embedding: pairs of columns half a head apart are rotated by an angle that grows with the position.

/// The angles' cosines and sines, for as many positions as a model has.
#[derive(Debug, Clone)]
pub struct Rope {
    /// (positions, half a head).
    cosines: Vec<f32>,
    sines: Vec<f32>,
    half: usize,
}

impl Rope {
    /// Tabulates angles from each pair's frequency, in radians a position; what is rotated is also multiplied by `scale`.
    pub fn new(frequencies: &[f32], positions: usize, scale: f32) -> Self {
        let angles = || {
            (0..positions).flat_map(|position| frequencies.iter().map(move |speed| position as f32 * speed))
        };
        Self {
            cosines: angles().map(|angle| angle.cos() * scale).collect(),
            sines: angles().map(|angle| angle.sin() * scale).collect(),
            half: frequencies.len(),
        }
    }

    /// Returns how many positions there are angles for.
    pub fn positions(&self) -> usize {
        self.cosines.len() / self.half.max(1)
    }

    /// Returns how many columns a head has.
    pub fn size(&self) -> usize {
        2 * self.half
    }

    /// Returns the cosine and sine of one pair's angle.
    #[cfg(test)]
    pub(super) fn angle(&self, position: usize, pair: usize) -> (f32, f32) {
        (self.cosines[position * self.half + pair], self.sines[position * self.half + pair])
    }

    /// Rotates one head's columns in place.
    #[inline(always)]
    pub(super) fn turn(&self, position: usize, columns: &mut [f32]) {
        let cosines = &self.cosines[position * self.half..][..self.half];
        let sines = &self.sines[position * self.half..][..self.half];
        let (left, right) = columns.split_at_mut(self.half);
        for (((x, y), cos), sin) in left.iter_mut().zip(right).zip(cosines).zip(sines) {
            (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
        }
    }
}
