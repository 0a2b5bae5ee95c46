//! BERT and its kin (DistilBERT, RoBERTa, XLM-R, ELECTRA, MPNet): learned positions, normalisation after each sum.
//!
//! Knows nothing of heads, labels or files.

use candle_core::{Result, Tensor};

use crate::device::ComputeDevice;
use crate::layer_builder::LayerBuilder;
use crate::load_error::LoadError;
use crate::ops::{
    Activation, AttentionPattern, AttentionShape, BatchLayout, DistanceBias, EmbeddingTable, LayerNorm,
    Linear, Matrix,
};
use crate::special_tokens::EncoderInput;

#[derive(Debug, Clone)]
pub(crate) struct BertShape {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) vocabulary: usize,
    /// Rows of the position table.
    pub(crate) positions: usize,
    pub(crate) position_scheme: PositionScheme,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    pub(crate) naming: TensorNaming,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PositionScheme {
    FromZero,
    /// From the row after the padding token's; padding tokens have their own row wherever they are.
    AfterPadding(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorNaming {
    Bert,
    DistilBert,
    Mpnet,
}

pub(crate) struct Bert {
    pub(crate) shape: BertShape,
    device: ComputeDevice,
    word_embeddings: EmbeddingTable,
    /// With the token type added, as many times as there are token types.
    positions: EmbeddingTable,
    token_types: usize,
    norm: LayerNorm,
    /// From the embeddings to the layers' width, where that differs.
    project: Option<Linear>,
    /// MPNet's, which all layers share.
    distance_bias: Option<DistanceBias>,
    layers: Vec<BertLayer>,
}

struct BertLayer {
    qkv: Linear,
    mixed: Linear,
    mixed_norm: LayerNorm,
    wide: Linear,
    narrow: Linear,
    narrow_norm: LayerNorm,
}

/// A layer's tensors: the three projections or the fused one, then what follows.
struct BertTensorNames {
    layers: &'static str,
    separate: [&'static str; 3],
    fused: &'static str,
    mixed: &'static str,
    mixed_norm: &'static str,
    wide: &'static str,
    narrow: &'static str,
    narrow_norm: &'static str,
}

const BERT: BertTensorNames = BertTensorNames {
    layers: "encoder.layer",
    separate: ["attention.self.query", "attention.self.key", "attention.self.value"],
    fused: "attention.self.Wqkv",
    mixed: "attention.output.dense",
    mixed_norm: "attention.output.LayerNorm",
    wide: "intermediate.dense",
    narrow: "output.dense",
    narrow_norm: "output.LayerNorm",
};

const DISTILBERT: BertTensorNames = BertTensorNames {
    layers: "transformer.layer",
    separate: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    fused: "attention.Wqkv",
    mixed: "attention.out_lin",
    mixed_norm: "sa_layer_norm",
    wide: "ffn.lin1",
    narrow: "ffn.lin2",
    narrow_norm: "output_layer_norm",
};

const MPNET: BertTensorNames = BertTensorNames {
    separate: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    fused: "attention.attn.qkv",
    mixed: "attention.attn.o",
    mixed_norm: "attention.LayerNorm",
    ..BERT
};

/// MPNet's, by buckets of distances.
const DISTANCES: &str = "encoder.relative_attention_bias.weight";

/// ELECTRA's, from the embeddings to the layers.
const PROJECT: &str = "embeddings_project";

impl BertShape {
    /// Returns how many tokens a text may have.
    pub(crate) fn longest(&self) -> usize {
        match self.position_scheme {
            PositionScheme::FromZero => self.positions,
            PositionScheme::AfterPadding(padding) => self.positions.saturating_sub(padding as usize + 1),
        }
    }

    /// Adds the position of each token of a text.
    fn push_positions(&self, ids: &[u32], into: &mut Vec<u32>) {
        match self.position_scheme {
            PositionScheme::FromZero => into.extend(0..ids.len() as u32),
            PositionScheme::AfterPadding(padding) => {
                let mut last = padding;
                into.extend(ids.iter().map(|id| {
                    if *id == padding {
                        return padding;
                    }
                    last += 1;
                    last
                }));
            }
        }
    }
}

impl Bert {
    pub(crate) fn load(builder: &LayerBuilder<'_>, shape: BertShape) -> std::result::Result<Self, LoadError> {
        let names = match shape.naming {
            TensorNaming::Bert => &BERT,
            TensorNaming::DistilBert => &DISTILBERT,
            TensorNaming::Mpnet => &MPNET,
        };
        let embeddings = builder.under("embeddings.");
        let narrow = builder.columns(&format!("{PROJECT}.weight"));
        let width = narrow.unwrap_or(shape.width);
        let word_embeddings = embeddings.table("word_embeddings.weight", shape.vocabulary, width)?;
        let (positions, token_types) = positions(&embeddings, &shape, width)?;
        let norm = embeddings.norm("LayerNorm", width, shape.epsilon)?;
        let project = narrow.map(|_| builder.linear(PROJECT, width, shape.width)).transpose()?;
        let distance_bias = match shape.naming {
            TensorNaming::Mpnet => Some(distance_bias(builder, &shape)?),
            TensorNaming::Bert | TensorNaming::DistilBert => None,
        };
        let layers = (0..shape.layers)
            .map(|at| BertLayer::load(&builder.under(&format!("{}.{at}.", names.layers)), names, &shape))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            shape,
            device: builder.device.clone(),
            word_embeddings,
            positions,
            token_types,
            norm,
            project,
            distance_bias,
            layers,
        })
    }

    pub(super) fn forward(&self, input: &EncoderInput, each: &mut dyn FnMut(usize, &Tensor)) -> Result<()> {
        let (ids, starts) = (&input.ids, &input.starts);
        let mut positions = Vec::with_capacity(ids.len());
        for pair in starts.windows(2) {
            self.shape.push_positions(&ids[pair[0]..pair[1]], &mut positions);
        }
        if self.token_types > 1 {
            for token in input.second_type.iter().flat_map(Clone::clone) {
                positions[token] += self.shape.positions as u32;
            }
        }
        let embedded = (self.word_embeddings.gather(ids)? + self.positions.gather(&positions)?)?;
        let mut state = self.norm.forward(&embedded)?;
        if let Some(project) = &self.project {
            state = project.forward(&state)?;
        }
        let shape =
            AttentionShape { heads: self.shape.heads, head_size: self.shape.width / self.shape.heads };
        let global = [AttentionPattern { rope: None, reach: None, bias: self.distance_bias.as_ref() }];
        let layout = BatchLayout::new(starts, shape, &global, &self.device)?;
        each(0, &state);
        for (at, layer) in self.layers.iter().enumerate() {
            state = layer.forward(&state, &layout, self.shape.activation)?;
            each(at + 1, &state);
        }
        Ok(())
    }
}

impl BertLayer {
    fn load(
        builder: &LayerBuilder<'_>,
        names: &BertTensorNames,
        shape: &BertShape,
    ) -> std::result::Result<Self, LoadError> {
        let (width, wide) = (shape.width, shape.intermediate);
        let qkv = if builder.has(&format!("{}.weight", names.fused)) {
            builder.encoder_linear(&[names.fused], width, 3 * width)?
        } else {
            builder.encoder_linear(&names.separate, width, width)?
        };
        Ok(Self {
            qkv,
            mixed: builder.encoder_linear(&[names.mixed], width, width)?,
            mixed_norm: builder.norm(names.mixed_norm, width, shape.epsilon)?,
            wide: builder.encoder_linear(&[names.wide], width, wide)?,
            narrow: builder.encoder_linear(&[names.narrow], wide, width)?,
            narrow_norm: builder.norm(names.narrow_norm, width, shape.epsilon)?,
        })
    }

    /// Takes and returns (tokens, width).
    fn forward(&self, state: &Tensor, layout: &BatchLayout<'_>, activation: Activation) -> Result<Tensor> {
        let seen = layout.attention(&self.qkv.forward(state)?, 0)?;
        let mixed = self.mixed.forward_add_norm(&seen, state, &self.mixed_norm)?;
        let wide = self.wide.forward_activated(&mixed, activation)?;
        self.narrow.forward_add_norm(&wide, &mixed, &self.narrow_norm)
    }
}

fn distance_bias(
    builder: &LayerBuilder<'_>,
    shape: &BertShape,
) -> std::result::Result<DistanceBias, LoadError> {
    let table = builder.weights.matrix(&builder.name(DISTANCES), DistanceBias::BUCKETS, shape.heads)?;
    Ok(DistanceBias::new(table, builder.device)?)
}

/// Reads the positions and adds the token type to each: that of a single text or the first of a pair, then, where the
/// family has two, that of the second.
fn positions(
    embeddings: &LayerBuilder<'_>,
    shape: &BertShape,
    width: usize,
) -> std::result::Result<(EmbeddingTable, usize), LoadError> {
    let name = "position_embeddings.weight";
    let types = "token_type_embeddings.weight";
    let Some(token_types) = embeddings.rows(types) else {
        return Ok((embeddings.table(name, shape.positions, width)?, 1));
    };
    let weights = embeddings.weights;
    let rows = weights.matrix(&embeddings.name(name), shape.positions, width)?.into_f32();
    let types = weights.matrix(&embeddings.name(types), token_types, width)?.into_f32();
    // RoBERTa has the table and never uses more than its first row.
    let token_types = if shape.position_scheme == PositionScheme::FromZero { token_types.min(2) } else { 1 };
    let mut data = Vec::with_capacity(token_types * rows.len());
    for token_type in types.chunks_exact(width).take(token_types) {
        let added = |row: &[f32]| row.iter().zip(token_type).map(|(x, y)| x + y).collect::<Vec<_>>();
        data.extend(rows.chunks_exact(width).flat_map(added));
    }
    let matrix = Matrix::F32 { rows: token_types * shape.positions, cols: width, data };
    Ok((EmbeddingTable::new(matrix, embeddings.device)?, token_types))
}
