//! The trunk: a BERT encoder for one text at a time, as few and as large candle products as it allows.
//!
//! One text needs neither padding nor a mask. Knows nothing of text, labels, threads or files' places.

use candle_core::{Device, Result, Tensor, bail};
use serde::Deserialize;

use super::kernels::{AddBias, AddNorm, BiasGelu, Softmax, normalize};
use super::weights::{Table, Weights};

const EPSILON: f32 = 1e-12;

/// The trunk's dimensions, as `config.json` has them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
}

/// The loaded trunk.
pub(super) struct Trunk {
    words: Table,
    positions: Table,
    gain: Vec<f32>,
    shift: Vec<f32>,
    layers: Vec<Layer>,
    shape: Shape,
}

/// A dense layer: weights (in, out) and bias (out).
pub(super) struct Dense {
    weight: Tensor,
    bias: Tensor,
}

/// A dense layer without its bias, which the normalisation after it adds: (bias, gain, shift) in one tensor.
struct DenseNorm {
    weight: Tensor,
    affine: Tensor,
}

struct Layer {
    qkv: Dense,
    mixed: DenseNorm,
    wide: Dense,
    narrow: DenseNorm,
}

impl Trunk {
    pub(super) fn load(weights: &Weights<'_>, shape: &Shape) -> Result<Self> {
        if shape.heads == 0 || !shape.width.is_multiple_of(shape.heads) {
            bail!("width {} does not divide into {} heads", shape.width, shape.heads);
        }
        let width = shape.width;
        Ok(Self {
            words: Table::load(weights, "embeddings.word_embeddings.weight", (shape.vocabulary, width))?,
            positions: Table::load(
                weights,
                "embeddings.position_embeddings.weight",
                (shape.positions, width),
            )?,
            gain: weights.vector("embeddings.LayerNorm.weight", width)?,
            shift: weights.vector("embeddings.LayerNorm.bias", width)?,
            layers: (0..shape.layers).map(|at| Layer::load(weights, shape, at)).collect::<Result<_>>()?,
            shape: shape.clone(),
        })
    }

    /// Returns the mean over tokens of the states after the embedding and after each layer: layers + 1 rows.
    ///
    /// Fails on no token, on more than there are positions and on a token outside the vocabulary.
    pub(super) fn mean_states(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
        let mut state = self.embed(ids)?;
        let mut means = vec![mean(&state)?];
        for layer in &self.layers {
            state = layer.forward(&state, self.shape.heads)?;
            means.push(mean(&state)?);
        }
        Ok(means)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let width = self.shape.width;
        if ids.is_empty() || ids.len() > self.shape.positions {
            bail!("{} tokens, between 1 and {} are needed", ids.len(), self.shape.positions);
        }
        let mut flat = vec![0f32; ids.len() * width];
        for (at, (row, id)) in flat.chunks_exact_mut(width).zip(ids).enumerate() {
            self.words.add_row(*id as usize, row)?;
            self.positions.add_row(at, row)?;
            normalize(row, &self.gain, &self.shift, EPSILON);
        }
        Tensor::from_vec(flat, (ids.len(), width), &Device::Cpu)
    }
}

impl Layer {
    fn load(weights: &Weights<'_>, shape: &Shape, at: usize) -> Result<Self> {
        let (width, wide) = (shape.width, shape.intermediate);
        let name = |part: &str| format!("encoder.layer.{at}.{part}");
        let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Self {
            qkv: Dense::load(weights, &qkv, (width, width))?,
            mixed: DenseNorm::load(weights, &name("attention.output"), (width, width))?,
            wide: Dense::load(weights, &[name("intermediate.dense")], (wide, width))?,
            narrow: DenseNorm::load(weights, &name("output"), (width, wide))?,
        })
    }

    /// Takes and returns (tokens, width).
    fn forward(&self, state: &Tensor, heads: usize) -> Result<Tensor> {
        let mixed = self.mixed.forward(&self.attend(state, heads)?, state)?;
        let wide = self.wide.forward_gelu(&mixed)?;
        self.narrow.forward(&wide, &mixed)
    }

    /// Self-attention over all heads at once; the heads are strided views, never copies.
    fn attend(&self, state: &Tensor, heads: usize) -> Result<Tensor> {
        let (tokens, width) = state.dims2()?;
        let size = width / heads;
        let qkv = self.qkv.forward(state)?;
        let split = qkv.reshape((tokens, 3, heads, size))?.permute((1, 2, 0, 3))?;
        let (query, key, value) = (split.get(0)?, split.get(1)?, split.get(2)?);
        let scores = query.matmul(&key.t()?)?;
        scores.inplace_op1(&Softmax { width: tokens, scale: (size as f32).powf(-0.5) })?;
        scores.matmul(&value)?.transpose(0, 1)?.reshape((tokens, width))
    }
}

impl Dense {
    /// Loads the dense layers `names` side by side, each (out, in).
    pub(super) fn load(weights: &Weights<'_>, names: &[String], shape: (usize, usize)) -> Result<Self> {
        let matrices: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let mut bias = Vec::new();
        for name in names {
            bias.extend(weights.vector(&format!("{name}.bias"), shape.0)?);
        }
        let outputs = bias.len();
        Ok(Self {
            weight: weights.transposed(&matrices, shape)?,
            bias: Tensor::from_vec(bias, outputs, &Device::Cpu)?,
        })
    }

    /// Takes (rows, in), returns (rows, out).
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let out = rows.matmul(&self.weight)?;
        out.inplace_op2(&self.bias, &AddBias)?;
        Ok(out)
    }

    /// Takes (rows, in), returns GELU of (rows, out).
    pub(super) fn forward_gelu(&self, rows: &Tensor) -> Result<Tensor> {
        let out = rows.matmul(&self.weight)?;
        out.inplace_op2(&self.bias, &BiasGelu)?;
        Ok(out)
    }
}

impl DenseNorm {
    fn load(weights: &Weights<'_>, name: &str, shape: (usize, usize)) -> Result<Self> {
        let mut affine = weights.vector(&format!("{name}.dense.bias"), shape.0)?;
        affine.extend(weights.vector(&format!("{name}.LayerNorm.weight"), shape.0)?);
        affine.extend(weights.vector(&format!("{name}.LayerNorm.bias"), shape.0)?);
        Ok(Self {
            weight: weights.transposed(&[format!("{name}.dense.weight")], shape)?,
            affine: Tensor::from_vec(affine, 3 * shape.0, &Device::Cpu)?,
        })
    }

    fn forward(&self, rows: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let out = rows.matmul(&self.weight)?;
        out.inplace_op3(residual, &self.affine, &AddNorm { epsilon: EPSILON })?;
        Ok(out)
    }
}

fn mean(state: &Tensor) -> Result<Vec<f32>> {
    state.mean(0)?.to_vec1()
}
