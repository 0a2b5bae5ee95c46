//! BERT and its kin (DistilBERT, RoBERTa, XLM-R): learned positions, normalisation after each sum.
//!
//! Knows nothing of heads, labels or files.

use candle_core::{Result, Tensor};

use crate::classify::device::Place;
use crate::classify::frame::Framed;
use crate::classify::load_error::LoadError;
use crate::classify::ops::{Layout, Linear, Matrix, Norm, Sight, Table, Then, floats};
use crate::classify::reader::Reader;

/// The dimensions and manners of a trunk.
#[derive(Debug, Clone)]
pub(in crate::classify) struct Shape {
    pub(in crate::classify) layers: usize,
    pub(in crate::classify) width: usize,
    pub(in crate::classify) heads: usize,
    pub(in crate::classify) intermediate: usize,
    pub(in crate::classify) vocabulary: usize,
    /// Rows of the position table.
    pub(in crate::classify) positions: usize,
    pub(in crate::classify) counting: Counting,
    pub(in crate::classify) epsilon: f32,
    pub(in crate::classify) activation: Then,
    pub(in crate::classify) naming: Naming,
}

/// How positions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::classify) enum Counting {
    FromZero,
    /// From the row after that of the padding token, which itself stands at its own row wherever it is.
    AfterPadding(u32),
}

/// What the tensors are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::classify) enum Naming {
    Bert,
    DistilBert,
}

/// The loaded trunk.
pub(in crate::classify) struct Bert {
    pub(in crate::classify) shape: Shape,
    place: Place,
    words: Table,
    /// With the kind of the token added, as many times as there are kinds.
    positions: Table,
    kinds: usize,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    qkv: Linear,
    mixed: Linear,
    mixed_norm: Norm,
    wide: Linear,
    narrow: Linear,
    narrow_norm: Norm,
}

/// A layer's tensors: the three projections or the fused one, then what follows.
struct Names {
    layers: &'static str,
    separate: [&'static str; 3],
    fused: &'static str,
    mixed: &'static str,
    mixed_norm: &'static str,
    wide: &'static str,
    narrow: &'static str,
    narrow_norm: &'static str,
}

const BERT: Names = Names {
    layers: "encoder.layer",
    separate: ["attention.self.query", "attention.self.key", "attention.self.value"],
    fused: "attention.self.Wqkv",
    mixed: "attention.output.dense",
    mixed_norm: "attention.output.LayerNorm",
    wide: "intermediate.dense",
    narrow: "output.dense",
    narrow_norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layers: "transformer.layer",
    separate: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    fused: "attention.Wqkv",
    mixed: "attention.out_lin",
    mixed_norm: "sa_layer_norm",
    wide: "ffn.lin1",
    narrow: "ffn.lin2",
    narrow_norm: "output_layer_norm",
};

impl Shape {
    /// Returns how many tokens a text may have.
    pub(in crate::classify) fn longest(&self) -> usize {
        match self.counting {
            Counting::FromZero => self.positions,
            Counting::AfterPadding(padding) => self.positions.saturating_sub(padding as usize + 1),
        }
    }

    /// Returns the position of each token of a text.
    fn places(&self, ids: &[u32], into: &mut Vec<u32>) {
        match self.counting {
            Counting::FromZero => into.extend(0..ids.len() as u32),
            Counting::AfterPadding(padding) => {
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
    pub(in crate::classify) fn load(
        reader: &Reader<'_>,
        shape: Shape,
    ) -> std::result::Result<Self, LoadError> {
        let names = match shape.naming {
            Naming::Bert => &BERT,
            Naming::DistilBert => &DISTILBERT,
        };
        let embeddings = reader.under("embeddings.");
        let words = embeddings.table("word_embeddings.weight", (shape.vocabulary, shape.width))?;
        let (positions, kinds) = positions(&embeddings, &shape)?;
        let norm = embeddings.norm("LayerNorm", shape.width, shape.epsilon)?;
        let layers = (0..shape.layers)
            .map(|at| Layer::load(&reader.under(&format!("{}.{at}.", names.layers)), names, &shape))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { shape, place: reader.place.clone(), words, positions, kinds, norm, layers })
    }

    pub(super) fn forward(&self, texts: &Framed, each: &mut dyn FnMut(usize, &Tensor)) -> Result<()> {
        let (ids, starts) = (&texts.ids, &texts.starts);
        let mut places = Vec::with_capacity(ids.len());
        for pair in starts.windows(2) {
            self.shape.places(&ids[pair[0]..pair[1]], &mut places);
        }
        if self.kinds > 1 {
            for place in texts.seconds.iter().flat_map(Clone::clone) {
                places[place] += self.shape.positions as u32;
            }
        }
        let embedded = (self.words.gather(ids)? + self.positions.gather(&places)?)?;
        let mut state = self.norm.forward(&embedded)?;
        let size = self.shape.width / self.shape.heads;
        let whole = [Sight { rope: None, reach: None }];
        let layout = Layout::new(starts, (self.shape.heads, size), &whole, &self.place)?;
        each(0, &state);
        for (at, layer) in self.layers.iter().enumerate() {
            state = layer.forward(&state, &layout, self.shape.activation)?;
            each(at + 1, &state);
        }
        Ok(())
    }
}

impl Layer {
    fn load(reader: &Reader<'_>, names: &Names, shape: &Shape) -> std::result::Result<Self, LoadError> {
        let (width, wide) = (shape.width, shape.intermediate);
        let qkv = if reader.has(&format!("{}.weight", names.fused)) {
            reader.linear(names.fused, (3 * width, width))?
        } else {
            reader.fused(&names.separate, (width, width))?
        };
        Ok(Self {
            qkv,
            mixed: reader.linear(names.mixed, (width, width))?,
            mixed_norm: reader.norm(names.mixed_norm, width, shape.epsilon)?,
            wide: reader.linear(names.wide, (wide, width))?,
            narrow: reader.linear(names.narrow, (width, wide))?,
            narrow_norm: reader.norm(names.narrow_norm, width, shape.epsilon)?,
        })
    }

    /// Takes and returns (tokens, width).
    fn forward(&self, state: &Tensor, layout: &Layout<'_>, activation: Then) -> Result<Tensor> {
        let seen = layout.attention(&self.qkv.forward(state)?, 0)?;
        let mixed = self.mixed.forward_add_norm(&seen, state, &self.mixed_norm)?;
        let wide = self.wide.forward_then(&mixed, activation)?;
        self.narrow.forward_add_norm(&wide, &mixed, &self.narrow_norm)
    }
}

/// Reads the positions and adds to each the kind of its token: of a single text or the first of a pair, then, where
/// the family tells them apart, of the second.
fn positions(embeddings: &Reader<'_>, shape: &Shape) -> std::result::Result<(Table, usize), LoadError> {
    let name = "position_embeddings.weight";
    let types = "token_type_embeddings.weight";
    let Some(kinds) = embeddings.rows(types) else {
        return Ok((embeddings.table(name, (shape.positions, shape.width))?, 1));
    };
    let weights = embeddings.weights;
    let rows = floats(weights.matrix(&embeddings.name(name), (shape.positions, shape.width))?);
    let types = floats(weights.matrix(&embeddings.name(types), (kinds, shape.width))?);
    // RoBERTa has the table and never uses more than its first row.
    let kinds = if shape.counting == Counting::FromZero { kinds.min(2) } else { 1 };
    let mut data = Vec::with_capacity(kinds * rows.len());
    for kind in types.chunks_exact(shape.width).take(kinds) {
        let added = |row: &[f32]| row.iter().zip(kind).map(|(x, kind)| x + kind).collect::<Vec<_>>();
        data.extend(rows.chunks_exact(shape.width).flat_map(added));
    }
    let matrix = Matrix::F32 { rows: kinds * shape.positions, cols: shape.width, data };
    Ok((Table::new(matrix, embeddings.place)?, kinds))
}
