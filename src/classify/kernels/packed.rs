//! Matrix products with weights that are packed once: f32, or int8 that is widened to f32 while multiplying, or multiplied
//! as it is with rounded rows.
//!
//! Weights lie in panels of as many columns (outputs) as a tile is wide, each panel by rising input, so that a tile
//! reads them in order. The products of one panel with a block of rows stay within the L1 and L2 caches.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::aligned::AlignedBuffer;
use super::dispatch::{dispatch, is_tall};
#[cfg(target_arch = "x86_64")]
use super::int8::{Int8Job, Int8Panels, PANEL};
use super::threads;
use super::tile::{self, Activation, Tile, WIDE, load, store};

/// Inputs multiplied at a time, so that a panel of them stays in the L1 cache.
const DEEP: usize = 384;

/// Rows multiplied at a time, so that their part of the inputs stays in the L2 cache.
const TALL: usize = 96;

/// The fewest multiplications that are worth a job of their own.
const LEAST: usize = 1 << 19;

/// A weight matrix (outputs, inputs) as in a file.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// Row by row.
    F32 {
        /// The length of an output vector.
        rows: usize,
        /// The length of an input vector.
        cols: usize,
        /// `rows × cols` weights.
        data: Vec<f32>,
    },
    /// Row by row, quantised, each row with its scale.
    Int8 {
        /// The length of an output vector.
        rows: usize,
        /// The length of an input vector.
        cols: usize,
        /// `rows × cols` weights, to be multiplied by their row's scale.
        data: Vec<i8>,
        /// What each row is multiplied by.
        scale: Vec<f32>,
    },
}

/// A weight matrix laid out for products, with its bias.
#[derive(Debug)]
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    /// Columns of a panel.
    panel: usize,
    weights: PackedWeights,
    /// Of each output, filled up to whole panels; ones where the weights are f32.
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl Matrix {
    /// Returns the weights row by row, int8 multiplied out.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Self::F32 { data, .. } => data,
            Self::Int8 { cols, data, scale, .. } => {
                let rows = data.chunks_exact(cols.max(1)).zip(&scale);
                rows.flat_map(|(row, scale)| row.iter().map(move |x| f32::from(*x) * scale)).collect()
            }
        }
    }

    /// Returns rows (outputs) and columns (inputs).
    pub fn dims(&self) -> (usize, usize) {
        match self {
            Self::F32 { rows, cols, .. } | Self::Int8 { rows, cols, .. } => (*rows, *cols),
        }
    }
}

#[derive(Debug)]
enum PackedWeights {
    /// For rows as they come.
    Plain(Panels),
    /// For rows in eight bits.
    #[cfg(target_arch = "x86_64")]
    Int8(Int8Panels),
}

#[derive(Debug)]
enum Panels {
    F32(AlignedBuffer),
    /// To be widened.
    Int8(Vec<i8>),
}

/// Part of a product: all of `rows` times the panels that `out` has room for, from panel `first` on.
struct ProductJob<'a, 'b> {
    packed: &'a PackedMatrix,
    panels: &'a Panels,
    first: usize,
    rows: &'a [f32],
    out: &'a mut [&'b mut [f32]],
    activation: Activation,
}

struct PanelWidth;

impl WithSimd for PanelWidth {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        WIDE * S::F32_LANES
    }
}

impl PackedMatrix {
    /// Packs a matrix and, where there is one, the bias of its outputs.
    pub fn new(matrix: &Matrix, bias: Option<&[f32]>) -> Self {
        let panel = dispatch(PanelWidth);
        let (outputs, inputs) = matrix.dims();
        let filled = outputs.next_multiple_of(panel);
        let mut scale = vec![1.0; filled];
        let mut full_bias = vec![0.0; filled];
        if let Some(bias) = bias {
            full_bias[..outputs].copy_from_slice(bias);
        }
        let weights = match matrix {
            Matrix::F32 { data, .. } => {
                let mut all = AlignedBuffer::zeros(filled * inputs);
                pack(data, inputs, panel, all.get_mut());
                Panels::F32(all)
            }
            Matrix::Int8 { data, scale: each, .. } => {
                scale[..outputs].copy_from_slice(each);
                let mut all = vec![0; filled * inputs];
                pack(data, inputs, panel, &mut all);
                Panels::Int8(all)
            }
        };
        let weights = PackedWeights::Plain(weights);
        Self { outputs, inputs, panel, weights, scale, bias: full_bias }
    }

    /// Packs an int8 matrix for products with rows in eight bits, each on a scale of its own, where the processor computes
    /// those by itself (AVX-512 VNNI); any other as [`PackedMatrix::new`] does.
    pub fn with_rounded_rows(matrix: &Matrix, bias: Option<&[f32]>) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Matrix::Int8 { rows, cols, data, scale } = matrix
            && *cols > 0
            && let Some(panels) = Int8Panels::new(data, *rows, *cols)
        {
            let (outputs, inputs) = (*rows, *cols);
            let filled = |from: &[f32]| {
                let mut all = vec![0.0; outputs.next_multiple_of(PANEL)];
                all[..outputs].copy_from_slice(from);
                all
            };
            let bias = bias.map_or_else(|| filled(&vec![0.0; outputs]), filled);
            let (scale, weights) = (filled(scale), PackedWeights::Int8(panels));
            return Self { outputs, inputs, panel: PANEL, weights, scale, bias };
        }
        Self::new(matrix, bias)
    }

    /// Returns how many outputs a row has.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns how many inputs a row has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Writes `then(rows · weightsᵀ + bias)` to `out`: (rows, in) and (rows, out), row by row.
    pub fn multiply(&self, rows: &[f32], out: &mut [f32], activation: Activation) {
        if self.outputs == 0 {
            return;
        }
        let mut out: Vec<&mut [f32]> = out.chunks_exact_mut(self.outputs).collect();
        #[cfg(target_arch = "x86_64")]
        let rounded = match &self.weights {
            PackedWeights::Int8(panels) => Some(panels.round(rows, self.inputs)),
            PackedWeights::Plain(_) => None,
        };
        let run = |first: usize, top: usize, out: &mut [&mut [f32]]| match &self.weights {
            PackedWeights::Plain(panels) => {
                let rows = &rows[top * self.inputs..];
                dispatch(ProductJob { packed: self, panels, first, rows, out, activation });
            }
            #[cfg(target_arch = "x86_64")]
            PackedWeights::Int8(panels) => {
                let (scale, bias) = (&self.scale, &self.bias);
                let rows = rounded.as_ref().expect("rows are rounded for such weights");
                panels.multiply(Int8Job { rows, top, first, scale, bias, activation, out });
            }
        };
        let columns = self.columns_of_a_job(out.len());
        if columns >= self.outputs && out.len() <= TALL || threads() == 1 {
            return run(0, 0, &mut out);
        }
        let mut jobs = Vec::new();
        for (block, out) in out.chunks_mut(TALL).enumerate() {
            let mut parts: Vec<Vec<&mut [f32]>> = Vec::new();
            parts.resize_with(self.outputs.div_ceil(columns), || Vec::with_capacity(out.len()));
            for row in out {
                for (part, piece) in parts.iter_mut().zip(std::mem::take(row).chunks_mut(columns)) {
                    part.push(piece);
                }
            }
            jobs.extend(
                parts.into_iter().enumerate().map(|(at, out)| (at * columns / self.panel, block * TALL, out)),
            );
        }
        jobs.into_par_iter().for_each(|(first, top, mut out)| run(first, top, &mut out));
    }

    /// Returns how many columns one of several threads takes at a time: whole panels, and work for some ten microseconds.
    fn columns_of_a_job(&self, rows: usize) -> usize {
        let jobs = (4 * threads()).div_ceil(rows.div_ceil(TALL).max(1));
        let least = LEAST.div_ceil(self.inputs.max(1) * rows.clamp(1, TALL));
        (self.outputs / jobs).max(least).max(1).next_multiple_of(self.panel)
    }
}

/// Lays the rows of a matrix out as columns of panels; what `into` has beyond the last row stays as it is.
fn pack<T: Copy>(data: &[T], inputs: usize, panel: usize, into: &mut [T]) {
    if inputs == 0 {
        return;
    }
    for (output, row) in data.chunks_exact(inputs).enumerate() {
        let at = output / panel * panel * inputs + output % panel;
        for (to, value) in into[at..].iter_mut().step_by(panel).zip(row) {
            *to = *value;
        }
    }
}

impl WithSimd for ProductJob<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut widened = AlignedBuffer::default();
        let inputs = self.packed.inputs;
        let steps = inputs.div_ceil(DEEP).max(1);
        let deep = inputs.div_ceil(steps);
        let mut top = 0;
        while top < self.out.len() {
            let bottom = (top + TALL).min(self.out.len());
            for step in 0..steps {
                let depth = step * deep..((step + 1) * deep).min(inputs);
                let last = step + 1 == steps;
                let width = self.out[top].len();
                let mut column = 0;
                while column < width {
                    let panel = self.first + column / self.packed.panel;
                    let columns = self.packed.columns::<S>(self.panels, panel, depth.clone(), &mut widened);
                    let mut row = top;
                    while row < bottom {
                        let block = TileBlock { depth: depth.clone(), column, panel, last };
                        row += self.tiles(simd, row, bottom, &block, columns);
                    }
                    column += self.packed.panel;
                }
            }
            top = bottom;
        }
    }
}

/// The part of the inputs and outputs that one tile multiplies.
struct TileBlock {
    depth: std::ops::Range<usize>,
    column: usize,
    panel: usize,
    last: bool,
}

impl ProductJob<'_, '_> {
    /// Computes the tile of as many rows as registers and `bottom` allow; returns how many.
    #[inline(always)]
    fn tiles<S: Simd>(
        &mut self,
        simd: S,
        row: usize,
        bottom: usize,
        block: &TileBlock,
        columns: &[[S::f32s; WIDE]],
    ) -> usize {
        let left = bottom - row;
        if is_tall::<S>() {
            if left >= 12 {
                self.tile::<S, 12>(simd, row, block, columns);
                return 12;
            }
            if left >= 8 {
                self.tile::<S, 8>(simd, row, block, columns);
                return 8;
            }
        }
        match left {
            1 => self.tile::<S, 1>(simd, row, block, columns),
            2 => self.tile::<S, 2>(simd, row, block, columns),
            3 => self.tile::<S, 3>(simd, row, block, columns),
            4 => self.tile::<S, 4>(simd, row, block, columns),
            5 => self.tile::<S, 5>(simd, row, block, columns),
            _ => self.tile::<S, 6>(simd, row, block, columns),
        }
        left.min(6)
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        row: usize,
        block: &TileBlock,
        columns: &[[S::f32s; WIDE]],
    ) {
        let TileBlock { depth, column, panel, last } = block;
        let inputs = self.packed.inputs;
        let mut sums: Tile<S, R, WIDE> = [[simd.splat_f32s(0.0); WIDE]; R];
        if depth.start > 0 {
            for r in 0..R {
                let sofar = &self.out[row + r][*column..];
                for v in 0..WIDE {
                    sums[r][v] = load(simd, sofar, v);
                }
            }
        }
        let mut rows = [[].as_slice(); R];
        for r in 0..R {
            rows[r] = &self.rows[(row + r) * inputs..][depth.clone()];
        }
        sums = tile::multiply(simd, sums, rows, columns);
        if *last {
            let from = panel * self.packed.panel;
            for v in 0..WIDE {
                let scale = load(simd, &self.packed.scale[from..], v);
                let bias = load(simd, &self.packed.bias[from..], v);
                for r in 0..R {
                    sums[r][v] = simd.mul_add_e_f32s(sums[r][v], scale, bias);
                }
            }
            tile::apply(simd, &mut sums, self.activation);
        }
        for r in 0..R {
            let out = &mut self.out[row + r][*column..];
            for v in 0..WIDE {
                store(simd, out, v, sums[r][v]);
            }
        }
    }
}

impl PackedMatrix {
    /// Returns the panel's columns for some of the inputs, in `widened` where they have to be.
    #[inline(always)]
    fn columns<'a, S: Simd>(
        &self,
        panels: &'a Panels,
        panel: usize,
        depth: std::ops::Range<usize>,
        widened: &'a mut AlignedBuffer,
    ) -> &'a [[S::f32s; WIDE]] {
        let from = (panel * self.inputs + depth.start) * self.panel;
        let len = depth.len() * self.panel;
        let floats = match panels {
            Panels::F32(data) => &data.get()[from..][..len],
            Panels::Int8(data) => {
                widened.resize(len);
                let widened = widened.get_mut();
                for (wide, narrow) in widened.iter_mut().zip(&data[from..][..len]) {
                    *wide = f32::from(*narrow);
                }
                widened
            }
        };
        S::as_simd_f32s(floats).0.as_chunks::<WIDE>().0
    }
}
