//! The trunk: a BERT encoder for one text at a time, which needs neither padding nor a mask.
//!
//! Knows nothing of text, labels, threads or files' places.

use candle_core::{Device, Result, Tensor, bail};
use serde::Deserialize;

use super::ops::{Linear, Norm, Then, attention, means};
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
    norm: Norm,
    layers: Vec<Layer>,
    shape: Shape,
}

struct Layer {
    qkv: Linear,
    mixed: Linear,
    mixed_norm: Norm,
    wide: Linear,
    narrow: Linear,
    narrow_norm: Norm,
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
            norm: norm(weights, "embeddings.LayerNorm", width)?,
            layers: (0..shape.layers).map(|at| Layer::load(weights, shape, at)).collect::<Result<_>>()?,
            shape: shape.clone(),
        })
    }

    /// Returns the mean over tokens of the states after the embedding and after each layer: layers + 1 rows.
    ///
    /// Fails on no token, on more than there are positions and on a token outside the vocabulary.
    pub(super) fn mean_states(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
        let starts = [0, ids.len()];
        let mean = |state: &Tensor| means(state, &starts)?.get(0)?.to_vec1();
        let mut state = self.embed(ids)?;
        let mut found = vec![mean(&state)?];
        for layer in &self.layers {
            state = layer.forward(&state, &starts, self.shape.heads)?;
            found.push(mean(&state)?);
        }
        Ok(found)
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
        }
        self.norm.forward(&Tensor::from_vec(flat, (ids.len(), width), &Device::Cpu)?)
    }
}

impl Layer {
    fn load(weights: &Weights<'_>, shape: &Shape, at: usize) -> Result<Self> {
        let (width, wide) = (shape.width, shape.intermediate);
        let name = |part: &str| format!("encoder.layer.{at}.{part}");
        let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        let (mixed, narrow) = (name("attention.output"), name("output"));
        Ok(Self {
            qkv: linear(weights, &qkv, (width, width))?,
            mixed: linear(weights, &[format!("{mixed}.dense")], (width, width))?,
            mixed_norm: norm(weights, &format!("{mixed}.LayerNorm"), width)?,
            wide: linear(weights, &[name("intermediate.dense")], (wide, width))?,
            narrow: linear(weights, &[format!("{narrow}.dense")], (width, wide))?,
            narrow_norm: norm(weights, &format!("{narrow}.LayerNorm"), width)?,
        })
    }

    /// Takes and returns (tokens, width).
    fn forward(&self, state: &Tensor, starts: &[usize], heads: usize) -> Result<Tensor> {
        let seen = attention(&self.qkv.forward(state)?, starts, heads, None, None)?;
        let mixed = self.mixed.forward_add_norm(&seen, state, &self.mixed_norm)?;
        let wide = self.wide.forward_then(&mixed, Then::Gelu)?;
        self.narrow.forward_add_norm(&wide, &mixed, &self.narrow_norm)
    }
}

/// Loads dense layers side by side, each (out, in).
pub(super) fn linear(weights: &Weights<'_>, names: &[String], shape: (usize, usize)) -> Result<Linear> {
    let mut bias = Vec::new();
    for name in names {
        bias.extend(weights.vector(&format!("{name}.bias"), shape.0)?);
    }
    let names: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
    Linear::new(&weights.matrix(&names, shape)?, Some(&bias), &Device::Cpu)
}

fn norm(weights: &Weights<'_>, name: &str, width: usize) -> Result<Norm> {
    let gain = weights.vector(&format!("{name}.weight"), width)?;
    let shift = weights.vector(&format!("{name}.bias"), width)?;
    Norm::new(gain, Some(shift), EPSILON, &Device::Cpu)
}
