//! The trunks: encoders that turn a padding-free batch of token ids into states.
//!
//! Knows nothing of text, labels or what the states are used for.

pub(super) mod bert;
pub(super) mod modernbert;
pub(super) mod rope;

use candle_core::{Result, Tensor, bail};

use super::frame::Framed;
use bert::Bert;
use modernbert::ModernBert;

/// A loaded trunk.
pub(super) enum Trunk {
    Bert(Box<Bert>),
    ModernBert(Box<ModernBert>),
}

/// The states that were asked for; 0 is the embedding, the last one what the trunk returns.
pub(super) struct States(Vec<Option<Tensor>>);

impl Trunk {
    /// Computes the states in `keep`, each (tokens, width), for texts that stand one after the other.
    ///
    /// Fails on an empty text, on one of more tokens than there are positions, and on an id outside the vocabulary.
    pub(super) fn forward(&self, texts: &Framed, keep: &[usize]) -> Result<States> {
        let (ids, starts) = (&texts.ids, &texts.starts);
        for pair in starts.windows(2) {
            let length = pair[1].saturating_sub(pair[0]);
            if length == 0 || length > self.positions() {
                bail!("{length} tokens, between 1 and {} are needed", self.positions());
            }
        }
        let mut states = States(vec![None; self.layers() + 1]);
        match self {
            Self::Bert(trunk) => {
                trunk.forward(texts, &mut |at, state| states.offer(at, state, keep))?;
            }
            Self::ModernBert(trunk) => {
                trunk.forward((ids, starts), &mut |at, state| states.offer(at, state, keep))?;
            }
        }
        Ok(states)
    }

    pub(super) fn layers(&self) -> usize {
        match self {
            Self::Bert(trunk) => trunk.shape.layers,
            Self::ModernBert(trunk) => trunk.shape.layers,
        }
    }

    pub(super) fn width(&self) -> usize {
        match self {
            Self::Bert(trunk) => trunk.shape.width,
            Self::ModernBert(trunk) => trunk.shape.width,
        }
    }

    /// Returns how many numbers a forward by tensor operations holds for each token where it holds the most, `kept` states
    /// among them; scores of attention are counted apart.
    pub(super) fn numbers_a_token(&self, kept: usize) -> usize {
        let (width, wide) = match self {
            Self::Bert(trunk) => (trunk.shape.width, trunk.shape.intermediate),
            Self::ModernBert(trunk) => (trunk.shape.width, trunk.shape.intermediate),
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
            Self::Bert(trunk) => trunk.shape.longest(),
            Self::ModernBert(trunk) => trunk.shape.positions,
        }
    }
}

impl States {
    fn offer(&mut self, at: usize, state: &Tensor, keep: &[usize]) {
        if keep.contains(&at) {
            self.0[at] = Some(state.clone());
        }
    }

    /// Returns a state that was asked for.
    pub(super) fn get(&self, at: usize) -> Result<&Tensor> {
        match self.0.get(at) {
            Some(Some(state)) => Ok(state),
            _ => bail!("state {at} was not computed"),
        }
    }
}
