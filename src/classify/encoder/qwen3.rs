//! Qwen3 as an encoder, as `candle-transformers` computes it: the states of a decoder that looks back only, of which the
//! last token's stands for a text.
//!
//! Knows nothing of heads, labels or files.

use candle_core::{Device, Result, Tensor};
use candle_transformers::models::qwen3::{Config, Model};

use super::padded_texts::{PaddingLimits, in_padded_texts};
use crate::layer_builder::LayerBuilder;
use crate::load_error::LoadError;
use crate::special_tokens::EncoderInput;

pub(crate) struct Qwen3 {
    pub(super) config: Config,
    /// Without the keys and values of any text.
    model: Model,
    device: Device,
}

impl Qwen3 {
    pub(crate) fn load(builder: &LayerBuilder<'_>, config: Config) -> std::result::Result<Self, LoadError> {
        let tensors = builder.tensors("model.", builder.device.dtype())?;
        let model = Model::new(&config, tensors).map_err(|error| builder.broken(&error))?;
        Ok(Self { config, model, device: builder.device.candle() })
    }

    /// Returns the last layer's states, (tokens, width).
    pub(super) fn forward(&self, input: &EncoderInput) -> Result<Tensor> {
        let together = !self.device.is_cpu();
        let limits = PaddingLimits { heads: self.config.num_attention_heads, together };
        in_padded_texts(input, limits, &self.device, |texts| {
            // A copy shares the weights and keeps keys and values of its own. No token sees the padding behind it.
            self.model.clone().forward(&texts.ids, 0)
        })
    }
}
