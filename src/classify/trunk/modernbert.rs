//! ModernBERT and mmBERT: rotary positions, gated products, normalisation before each sum, and layers of which only
//! every n-th sees the whole text.
//!
//! Knows nothing of heads, labels or files.

use candle_core::{Result, Tensor};

use super::rope::Angles;
use crate::classify::device::Place;
use crate::classify::load_error::LoadError;
use crate::classify::ops::{Gated, Layout, Linear, Norm, Rope, Sight, Table, Then};
use crate::classify::reader::Reader;

/// The dimensions and manners of a trunk.
#[derive(Debug, Clone)]
pub(in crate::classify) struct Shape {
    pub(in crate::classify) layers: usize,
    pub(in crate::classify) width: usize,
    pub(in crate::classify) heads: usize,
    pub(in crate::classify) intermediate: usize,
    pub(in crate::classify) vocabulary: usize,
    pub(in crate::classify) positions: usize,
    pub(in crate::classify) epsilon: f32,
    pub(in crate::classify) activation: Then,
    /// For each layer, whether it sees only its neighbourhood.
    pub(in crate::classify) local: Vec<bool>,
    /// How many places away a token in such a layer sees.
    pub(in crate::classify) reach: usize,
    pub(in crate::classify) global_angles: Angles,
    pub(in crate::classify) local_angles: Angles,
}

/// The loaded trunk.
pub(in crate::classify) struct ModernBert {
    pub(in crate::classify) shape: Shape,
    place: Place,
    words: Table,
    norm: Norm,
    layers: Vec<Layer>,
    final_norm: Norm,
    global: Rope,
    local: Rope,
}

struct Layer {
    /// The first layer has none.
    attention_norm: Option<Norm>,
    qkv: Linear,
    mixed: Linear,
    norm: Norm,
    wide: Gated,
    narrow: Linear,
}

impl ModernBert {
    pub(in crate::classify) fn load(
        reader: &Reader<'_>,
        shape: Shape,
    ) -> std::result::Result<Self, LoadError> {
        let words = reader.table("embeddings.tok_embeddings.weight", (shape.vocabulary, shape.width))?;
        let norm = reader.norm("embeddings.norm", shape.width, shape.epsilon)?;
        let layers = (0..shape.layers)
            .map(|at| Layer::load(&reader.under(&format!("layers.{at}.")), &shape))
            .collect::<std::result::Result<_, _>>()?;
        let final_norm = reader.norm("final_norm", shape.width, shape.epsilon)?;
        let rope = |angles: &Angles| {
            let inverse = angles.inverse(shape.width / shape.heads);
            Rope::new(&inverse, shape.positions, angles.scale(), reader.place)
        };
        let global = rope(&shape.global_angles)?;
        let local = if shape.local_angles == shape.global_angles {
            global.clone()
        } else {
            rope(&shape.local_angles)?
        };
        Ok(Self { shape, place: reader.place.clone(), words, norm, layers, final_norm, global, local })
    }

    pub(super) fn forward(
        &self,
        (ids, starts): (&[u32], &[usize]),
        each: &mut dyn FnMut(usize, &Tensor),
    ) -> Result<()> {
        let mut state = self.norm.forward(&self.words.gather(ids)?)?;
        each(0, &state);
        let sights = [
            Sight { rope: Some(&self.global), reach: None },
            Sight { rope: Some(&self.local), reach: Some(self.shape.reach) },
        ];
        let size = self.shape.width / self.shape.heads;
        let layout = Layout::new(starts, (self.shape.heads, size), &sights, &self.place)?;
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

impl Layer {
    fn load(reader: &Reader<'_>, shape: &Shape) -> std::result::Result<Self, LoadError> {
        let (width, wide) = (shape.width, shape.intermediate);
        let norm = |name: &str| reader.norm(name, width, shape.epsilon);
        let qkv = if reader.has("attn.Wqkv.weight") {
            reader.linear("attn.Wqkv", (3 * width, width))?
        } else {
            reader.fused(&["attn.q_proj", "attn.k_proj", "attn.v_proj"], (width, width))?
        };
        Ok(Self {
            attention_norm: reader.has("attn_norm.weight").then(|| norm("attn_norm")).transpose()?,
            qkv,
            mixed: reader.linear("attn.Wo", (width, width))?,
            norm: norm("mlp_norm")?,
            wide: reader.gated("mlp.Wi", (2 * wide, width))?,
            narrow: reader.linear("mlp.Wo", (width, wide))?,
        })
    }

    /// Takes and returns (tokens, width).
    fn forward(&self, state: &Tensor, layout: &Layout<'_>, way: usize, activation: Then) -> Result<Tensor> {
        let seen = {
            let qkv = match &self.attention_norm {
                Some(norm) => self.qkv.forward(&norm.forward(state)?)?,
                None => self.qkv.forward(state)?,
            };
            layout.attention(&qkv, way)?
        };
        let mixed = self.mixed.forward_add(&seen, state)?;
        let wide = self.wide.forward(&self.norm.forward(&mixed)?, activation)?;
        self.narrow.forward_add(&wide, &mixed)
    }
}
