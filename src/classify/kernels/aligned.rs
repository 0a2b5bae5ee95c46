//! Floats that begin where a cache line does, so that no vector straddles two lines.

/// Floats in a cache line.
const LINE: usize = 16;

/// A slice of floats that begins where a cache line does.
#[derive(Debug, Default)]
pub(super) struct AlignedBuffer {
    all: Vec<f32>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    pub(super) fn zeros(len: usize) -> Self {
        let all = vec![0.0; len + LINE];
        let at = all.as_ptr().addr();
        let start = (at.next_multiple_of(LINE * size_of::<f32>()) - at) / size_of::<f32>();
        Self { all, start, len }
    }

    /// Makes room for `len` floats; what they are is left open.
    pub(super) fn resize(&mut self, len: usize) {
        if self.start + len > self.all.len() {
            *self = Self::zeros(len);
        }
        self.len = len;
    }

    pub(super) fn get(&self) -> &[f32] {
        &self.all[self.start..][..self.len]
    }

    pub(super) fn get_mut(&mut self) -> &mut [f32] {
        &mut self.all[self.start..][..self.len]
    }
}
