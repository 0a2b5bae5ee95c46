//! `DeBERTa`, versions 2 and 3, as `candle-transformers` computes them: what a token is and how far away it is are attended
//! to apart.
//!
//! In single precision on every device. Knows nothing of heads, labels or files.

use candle_core::{DType, Device, Result, Tensor};
use candle_transformers::models::debertav2::{Config, DebertaV2Model};

use super::padded_texts::{PaddingLimits, in_padded_texts};
use crate::layer_builder::LayerBuilder;
use crate::load_error::LoadError;
use crate::special_tokens::EncoderInput;

pub(crate) struct Deberta {
    pub(super) config: Config,
    model: DebertaV2Model,
    device: Device,
    /// Of the states that heads read.
    dtype: DType,
}

impl Deberta {
    pub(crate) fn load(builder: &LayerBuilder<'_>, config: Config) -> std::result::Result<Self, LoadError> {
        // Its attention makes numbers of that precision whatever the weights have.
        let tensors = builder.tensors("", DType::F32)?;
        let model = DebertaV2Model::load(tensors, &config).map_err(|error| builder.broken(&error))?;
        let device = builder.device.candle();
        Ok(Self { config, model, device, dtype: builder.device.dtype() })
    }

    /// Returns the last layer's states, (tokens, width).
    pub(super) fn forward(&self, input: &EncoderInput) -> Result<Tensor> {
        // Positions are added to one text at a time.
        let together = !self.device.is_cpu() && !self.config.position_biased_input;
        let limits = PaddingLimits { heads: self.config.num_attention_heads, together };
        let states = in_padded_texts(input, limits, &self.device, |texts| {
            self.model.forward(&texts.ids, texts.types.clone(), texts.mask.clone())
        });
        states?.to_dtype(self.dtype)
    }
}
