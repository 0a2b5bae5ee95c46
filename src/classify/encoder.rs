//! The encoders: from a padding-free batch of token ids to hidden states.
//!
//! Knows nothing of text, labels or what the states are used for.

pub(super) mod bert;
pub(super) mod deberta;
pub(super) mod modernbert;
mod padded_texts;
pub(super) mod qwen3;
pub(super) mod rope;

use candle_core::{Result, Tensor, bail};

use super::special_tokens::EncoderInput;
use bert::Bert;
use deberta::Deberta;
pub(super) use modernbert::MAX_WINDOW_POSITIONS;
use modernbert::ModernBert;
use qwen3::Qwen3;

/// More positions than any model has: tables of them are made, and no file has as many.
const MAX_POSITIONS: usize = 1 << 20;

/// The dimensions that every encoder's configuration gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncoderDimensions {
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
}

impl EncoderDimensions {
    /// Says what can't be, if anything; the file's tensors tell the rest.
    pub(super) fn check(self) -> std::result::Result<(), String> {
        let Self { layers, width, heads, intermediate, vocabulary, positions } = self;
        let sizes = [
            ("layers", layers, 1 << 12),
            ("width", width, 1 << 20),
            ("heads", heads, 1 << 12),
            ("intermediate size", intermediate, 1 << 24),
            ("vocabulary", vocabulary, u32::MAX as usize),
            ("positions", positions, MAX_POSITIONS),
        ];
        if let Some((name, size, most)) = sizes.into_iter().find(|(_, size, most)| *size == 0 || size > most)
        {
            return Err(format!("{size} as the number of {name}; between 1 and {most} can be computed"));
        }
        if !width.is_multiple_of(heads) || !(width / heads).is_multiple_of(2) {
            return Err(format!("a width of {width} does not divide into {heads} heads"));
        }
        Ok(())
    }
}

pub(super) enum Encoder {
    Bert(Box<Bert>),
    ModernBert(Box<ModernBert>),
    Deberta(Box<Deberta>),
    Qwen3(Box<Qwen3>),
}

/// The layers' states that were to be kept, by layer; 0 is the embedding, the last one the encoder's output.
pub(super) struct HiddenStates(Vec<Option<Tensor>>);

impl Encoder {
    /// Computes the states of the layers in `keep`, each (tokens, width).
    ///
    /// Fails on an empty text, on one of more tokens than there are positions, and on an id outside the vocabulary.
    pub(super) fn forward(&self, input: &EncoderInput, keep: &[usize]) -> Result<HiddenStates> {
        for pair in input.starts.windows(2) {
            let length = pair[1].saturating_sub(pair[0]);
            if length == 0 || length > self.positions() {
                bail!("{length} tokens, between 1 and {} are needed", self.positions());
            }
        }
        let mut states = HiddenStates(vec![None; self.layers() + 1]);
        match self {
            Self::Bert(encoder) => {
                encoder.forward(input, &mut |at, state| states.keep(at, state, keep))?;
            }
            Self::ModernBert(encoder) => {
                encoder.forward(input, &mut |at, state| states.keep(at, state, keep))?;
            }
            // Of these the last layer's states alone can be had.
            Self::Deberta(encoder) => states.keep(self.layers(), &encoder.forward(input)?, keep),
            Self::Qwen3(encoder) => states.keep(self.layers(), &encoder.forward(input)?, keep),
        }
        Ok(states)
    }

    pub(super) fn layers(&self) -> usize {
        match self {
            Self::Bert(encoder) => encoder.shape.layers,
            Self::ModernBert(encoder) => encoder.shape.layers,
            Self::Deberta(encoder) => encoder.config.num_hidden_layers,
            Self::Qwen3(encoder) => encoder.config.num_hidden_layers,
        }
    }

    pub(super) fn width(&self) -> usize {
        match self {
            Self::Bert(encoder) => encoder.shape.width,
            Self::ModernBert(encoder) => encoder.shape.width,
            Self::Deberta(encoder) => encoder.config.hidden_size,
            Self::Qwen3(encoder) => encoder.config.hidden_size,
        }
    }

    /// Returns the most numbers that a forward by tensor operations holds for each token at any time, `kept` states among
    /// them; attention's scores are not counted.
    pub(super) fn numbers_a_token(&self, kept: usize) -> usize {
        let (width, wide) = match self {
            Self::Bert(encoder) => (encoder.shape.width, encoder.shape.intermediate),
            Self::ModernBert(encoder) => (encoder.shape.width, encoder.shape.intermediate),
            Self::Deberta(encoder) => (encoder.config.hidden_size, encoder.config.intermediate_size),
            Self::Qwen3(encoder) => {
                let config = &encoder.config;
                let heads = config.head_dim * config.num_attention_heads;
                (config.hidden_size.max(heads), config.intermediate_size)
            }
        };
        // Attention has a state, three parts of it, these padded by a third and turned, the mix padded and not.
        let attention = 16 * width;
        // What follows has states, their sum and norm, two wide rows, one of them activated, and the product.
        let product = 4 * (width + wide);
        // Heads put the states that they read side by side, with neighbours or in single precision.
        let heads = 8 * kept * width;
        kept * width + attention.max(product).max(heads)
    }

    /// Returns how many tokens a text may have, special ones included.
    pub(super) fn positions(&self) -> usize {
        match self {
            Self::Bert(encoder) => encoder.shape.longest(),
            Self::ModernBert(encoder) => encoder.shape.positions.min(MAX_WINDOW_POSITIONS),
            Self::Deberta(encoder) => encoder.config.max_position_embeddings,
            Self::Qwen3(encoder) => encoder.config.max_position_embeddings,
        }
    }
}

impl HiddenStates {
    fn keep(&mut self, at: usize, state: &Tensor, keep: &[usize]) {
        if keep.contains(&at) {
            self.0[at] = Some(state.clone());
        }
    }

    /// Returns the state of a layer that was kept.
    pub(super) fn get(&self, at: usize) -> Result<&Tensor> {
        match self.0.get(at) {
            Some(Some(state)) => Ok(state),
            _ => bail!("state {at} was not computed"),
        }
    }
}
