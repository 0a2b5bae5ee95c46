//! ModernBERT and mmBERT: rotary positions, gated products, normalisation before each sum, and layers of which only
//! every n-th sees the whole text.
//!
//! Knows nothing of heads, labels or files.

use candle_core::{Result, Tensor};

use super::rope::RopeConfig;
use crate::device::ComputeDevice;
use crate::layer_builder::LayerBuilder;
use crate::load_error::LoadError;
use crate::ops::{
    Activation, AttentionPattern, AttentionShape, BatchLayout, EmbeddingTable, GatedLinear, LayerNorm,
    Linear, RotaryEmbedding,
};
use crate::special_tokens::EncoderInput;

/// For how many positions angles are tabulated: a window has 32,768 tokens at most, and special ones around them.
pub(crate) const MAX_WINDOW_POSITIONS: usize = 32_768 + 64;

#[derive(Debug, Clone)]
pub(crate) struct ModernBertShape {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    /// For each layer, whether its attention is local.
    pub(crate) local: Vec<bool>,
    /// How many tokens away, on either side, a token in such a layer sees.
    pub(crate) reach: usize,
    pub(crate) global_rope: RopeConfig,
    pub(crate) local_rope: RopeConfig,
}

pub(crate) struct ModernBert {
    pub(crate) shape: ModernBertShape,
    device: ComputeDevice,
    word_embeddings: EmbeddingTable,
    norm: LayerNorm,
    layers: Vec<ModernBertLayer>,
    final_norm: LayerNorm,
    global: RotaryEmbedding,
    local: RotaryEmbedding,
}

struct ModernBertLayer {
    /// The first layer has none.
    attention_norm: Option<LayerNorm>,
    qkv: Linear,
    mixed: Linear,
    norm: LayerNorm,
    wide: GatedLinear,
    narrow: Linear,
}

impl ModernBert {
    pub(crate) fn load(
        builder: &LayerBuilder<'_>,
        shape: ModernBertShape,
    ) -> std::result::Result<Self, LoadError> {
        let word_embeddings =
            builder.table("embeddings.tok_embeddings.weight", shape.vocabulary, shape.width)?;
        let norm = builder.norm("embeddings.norm", shape.width, shape.epsilon)?;
        let layers = (0..shape.layers)
            .map(|at| ModernBertLayer::load(&builder.under(&format!("layers.{at}.")), &shape))
            .collect::<std::result::Result<_, _>>()?;
        let final_norm = builder.norm("final_norm", shape.width, shape.epsilon)?;
        let rope = |angles: &RopeConfig| {
            let inverse = angles.inverse_frequencies(shape.width / shape.heads);
            let positions = shape.positions.min(MAX_WINDOW_POSITIONS);
            RotaryEmbedding::new(&inverse, positions, angles.scale(), builder.device)
        };
        let global = rope(&shape.global_rope)?;
        let local =
            if shape.local_rope == shape.global_rope { global.clone() } else { rope(&shape.local_rope)? };
        Ok(Self {
            shape,
            device: builder.device.clone(),
            word_embeddings,
            norm,
            layers,
            final_norm,
            global,
            local,
        })
    }

    pub(super) fn forward(&self, input: &EncoderInput, each: &mut dyn FnMut(usize, &Tensor)) -> Result<()> {
        let mut state = self.norm.forward(&self.word_embeddings.gather(&input.ids)?)?;
        each(0, &state);
        let patterns = [
            AttentionPattern { rope: Some(&self.global), reach: None, bias: None },
            AttentionPattern { rope: Some(&self.local), reach: Some(self.shape.reach), bias: None },
        ];
        let shape =
            AttentionShape { heads: self.shape.heads, head_size: self.shape.width / self.shape.heads };
        let layout = BatchLayout::new(&input.starts, shape, &patterns, &self.device)?;
        for (at, layer) in self.layers.iter().enumerate() {
            let is_local = self.shape.local.get(at) == Some(&true);
            state = layer.forward(&state, &layout, usize::from(is_local), self.shape.activation)?;
            if at + 1 < self.layers.len() {
                each(at + 1, &state);
            }
        }
        each(self.layers.len(), &self.final_norm.forward(&state)?);
        Ok(())
    }
}

impl ModernBertLayer {
    fn load(builder: &LayerBuilder<'_>, shape: &ModernBertShape) -> std::result::Result<Self, LoadError> {
        let (width, wide) = (shape.width, shape.intermediate);
        let norm = |name: &str| builder.norm(name, width, shape.epsilon);
        let qkv = if builder.has("attn.Wqkv.weight") {
            builder.linear("attn.Wqkv", width, 3 * width)?
        } else {
            builder.fused(&["attn.q_proj", "attn.k_proj", "attn.v_proj"], width, width)?
        };
        Ok(Self {
            attention_norm: builder.has("attn_norm.weight").then(|| norm("attn_norm")).transpose()?,
            qkv,
            mixed: builder.linear("attn.Wo", width, width)?,
            norm: norm("mlp_norm")?,
            wide: builder.gated("mlp.Wi", width, wide)?,
            narrow: builder.linear("mlp.Wo", wide, width)?,
        })
    }

    /// Takes and returns (tokens, width).
    fn forward(
        &self,
        state: &Tensor,
        layout: &BatchLayout<'_>,
        pattern: usize,
        activation: Activation,
    ) -> Result<Tensor> {
        let seen = {
            let qkv = match &self.attention_norm {
                Some(norm) => self.qkv.forward(&norm.forward(state)?)?,
                None => self.qkv.forward(state)?,
            };
            layout.attention(&qkv, pattern)?
        };
        let mixed = self.mixed.forward_add(&seen, state)?;
        let wide = self.wide.forward(&self.norm.forward(&mixed)?, activation)?;
        self.narrow.forward_add(&wide, &mixed)
    }
}
