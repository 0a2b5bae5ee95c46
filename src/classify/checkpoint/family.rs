//! The families of encoders: their `config.json`, and where their tensors are.
//!
//! Knows nothing of heads or labels.

use std::collections::HashMap;

use candle_transformers::models::{debertav2, qwen3};
use serde::Deserialize;
use serde_json::Value;

use super::deberta::DebertaConfig;
use super::qwen3::Qwen3Config;
use crate::encoder::bert::{self, Bert, PositionScheme, TensorNaming};
use crate::encoder::deberta::Deberta;
use crate::encoder::modernbert::{self, ModernBert};
use crate::encoder::qwen3::Qwen3;
use crate::encoder::rope::RopeConfig;
use crate::encoder::{Encoder, EncoderDimensions};
use crate::layer_builder::LayerBuilder;
use crate::load_error::LoadError;
use crate::ops::Activation;
use crate::weights::Weights;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncoderFamily {
    Bert,
    DistilBert,
    Roberta,
    ModernBert,
    Electra,
    Mpnet,
    Deberta,
    Qwen3,
}

#[derive(Debug)]
pub(super) enum EncoderShape {
    Bert(bert::BertShape),
    ModernBert(Box<modernbert::ModernBertShape>),
    Deberta(Box<debertav2::Config>),
    Qwen3(Box<qwen3::Config>),
}

#[derive(Deserialize)]
struct BertConfig {
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "twelfth")]
    layer_norm_eps: f32,
    #[serde(default = "gelu", alias = "activation")]
    hidden_act: String,
    pad_token_id: Option<u32>,
    position_embedding_type: Option<String>,
}

#[derive(Deserialize)]
struct ModernBertConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "fifth")]
    norm_eps: f32,
    #[serde(default = "gelu")]
    hidden_activation: String,
    #[serde(default = "half_reach")]
    local_attention: usize,
    global_attn_every_n_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    #[serde(flatten)]
    rope: ModernBertRope,
}

/// Rotary positions, as older and as newer versions of `transformers` write them.
#[derive(Deserialize)]
struct ModernBertRope {
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    rope_scaling: Option<RopeConfig>,
    rope_parameters: Option<HashMap<String, Option<RopeConfig>>>,
}

fn twelfth() -> f32 {
    1e-12
}

fn fifth() -> f32 {
    1e-5
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn half_reach() -> usize {
    128
}

impl EncoderFamily {
    /// How errors name all of them.
    pub(super) const KNOWN: &'static str =
        "bert, distilbert, roberta, xlm-roberta, camembert, electra, mpnet, modernbert, deberta-v2 and qwen3";

    pub(super) fn of(model_type: &str) -> Option<Self> {
        match model_type {
            "bert" => Some(Self::Bert),
            "distilbert" => Some(Self::DistilBert),
            "roberta" | "xlm-roberta" | "camembert" => Some(Self::Roberta),
            "modernbert" => Some(Self::ModernBert),
            "electra" => Some(Self::Electra),
            "mpnet" => Some(Self::Mpnet),
            // Version 3 too.
            "deberta-v2" => Some(Self::Deberta),
            "qwen3" => Some(Self::Qwen3),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::DistilBert => "distilbert",
            Self::Roberta => "roberta",
            Self::ModernBert => "modernbert",
            Self::Electra => "electra",
            Self::Mpnet => "mpnet",
            Self::Deberta => "deberta-v2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// Returns the name of the vocabulary's table, by which the encoder is found.
    pub(super) fn word_embeddings(self) -> &'static str {
        match self {
            Self::ModernBert => "embeddings.tok_embeddings.weight",
            Self::Qwen3 => "embed_tokens.weight",
            _ => "embeddings.word_embeddings.weight",
        }
    }

    /// Finds the prefix of the encoder's tensors, which checkpoints with heads have and bare encoders do not.
    pub(super) fn prefix(self, weights: &Weights) -> Option<String> {
        weights.prefixes(self.word_embeddings()).min_by_key(|prefix| prefix.len()).map(str::to_owned)
    }

    /// Reads the hyperparameters; the inner error says what is not supported.
    pub(super) fn shape(self, config: Value) -> Result<Result<EncoderShape, String>, serde_json::Error> {
        Ok(match self {
            Self::ModernBert => {
                modern(serde_json::from_value(config)?).map(|shape| EncoderShape::ModernBert(Box::new(shape)))
            }
            Self::Deberta => {
                let config: DebertaConfig = serde_json::from_value(config)?;
                config.shape().map(|shape| EncoderShape::Deberta(Box::new(shape)))
            }
            Self::Qwen3 => {
                let config: Qwen3Config = serde_json::from_value(config)?;
                config.shape().map(|shape| EncoderShape::Qwen3(Box::new(shape)))
            }
            _ => self.bert(serde_json::from_value(config)?).map(EncoderShape::Bert),
        })
    }

    fn bert(self, config: BertConfig) -> Result<bert::BertShape, String> {
        if let Some(other) = config.position_embedding_type.filter(|kind| kind != "absolute") {
            return Err(format!("position_embedding_type `{other}`; absolute is known"));
        }
        EncoderDimensions {
            layers: config.num_hidden_layers,
            width: config.hidden_size,
            heads: config.num_attention_heads,
            intermediate: config.intermediate_size,
            vocabulary: config.vocab_size,
            positions: config.max_position_embeddings,
        }
        .check()?;
        let position_scheme = match self {
            Self::Roberta | Self::Mpnet => PositionScheme::AfterPadding(config.pad_token_id.unwrap_or(1)),
            _ => PositionScheme::FromZero,
        };
        Ok(bert::BertShape {
            layers: config.num_hidden_layers,
            width: config.hidden_size,
            heads: config.num_attention_heads,
            intermediate: config.intermediate_size,
            vocabulary: config.vocab_size,
            positions: config.max_position_embeddings,
            position_scheme,
            epsilon: config.layer_norm_eps,
            activation: activation(&config.hidden_act)?,
            naming: match self {
                Self::DistilBert => TensorNaming::DistilBert,
                Self::Mpnet => TensorNaming::Mpnet,
                _ => TensorNaming::Bert,
            },
        })
    }
}

impl EncoderShape {
    pub(super) fn load(self, builder: &LayerBuilder<'_>) -> Result<Encoder, LoadError> {
        Ok(match self {
            Self::Bert(shape) => Encoder::Bert(Box::new(Bert::load(builder, shape)?)),
            Self::ModernBert(shape) => Encoder::ModernBert(Box::new(ModernBert::load(builder, *shape)?)),
            Self::Deberta(shape) => Encoder::Deberta(Box::new(Deberta::load(builder, *shape)?)),
            Self::Qwen3(shape) => Encoder::Qwen3(Box::new(Qwen3::load(builder, *shape)?)),
        })
    }
}

fn modern(config: ModernBertConfig) -> Result<modernbert::ModernBertShape, String> {
    EncoderDimensions {
        layers: config.num_hidden_layers,
        width: config.hidden_size,
        heads: config.num_attention_heads,
        intermediate: config.intermediate_size,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
    }
    .check()?;
    let local = match config.layer_types {
        Some(types) if types.len() == config.num_hidden_layers => types
            .iter()
            .map(|kind| match kind.as_str() {
                "sliding_attention" => Ok(true),
                "full_attention" => Ok(false),
                other => Err(format!("layer type `{other}`; full_attention and sliding_attention are known")),
            })
            .collect::<Result<_, _>>()?,
        Some(types) => {
            return Err(format!("{} layer types for {} layers", types.len(), config.num_hidden_layers));
        }
        None => {
            let every = config.global_attn_every_n_layers.unwrap_or(3).max(1);
            (0..config.num_hidden_layers).map(|at| at % every != 0).collect()
        }
    };
    let rope = &config.rope;
    let positions = config.max_position_embeddings;
    let global_rope =
        rope.config("full_attention", rope.global_rope_theta.unwrap_or(160_000.0), positions)?;
    let local_rope =
        rope.config("sliding_attention", rope.local_rope_theta.unwrap_or(10_000.0), positions)?;
    Ok(modernbert::ModernBertShape {
        layers: config.num_hidden_layers,
        width: config.hidden_size,
        heads: config.num_attention_heads,
        intermediate: config.intermediate_size,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        epsilon: config.norm_eps,
        activation: activation(&config.hidden_activation)?,
        local,
        reach: config.local_attention / 2,
        global_rope,
        local_rope,
    })
}

impl ModernBertRope {
    /// Returns the settings of one type of layers; `rope_scaling`, where there is one, holds for both types.
    fn config(&self, layer_type: &str, theta: f64, positions: usize) -> Result<RopeConfig, String> {
        let own = self.rope_parameters.as_ref().and_then(|parameters| parameters.get(layer_type).cloned());
        let rope = match (own.flatten(), self.rope_scaling.clone()) {
            (Some(own), Some(scaling)) => scaling.or(own),
            (own, scaling) => own.or(scaling).unwrap_or_default(),
        };
        rope.complete(theta, positions)
    }
}

/// Finds an activation by its name in `transformers`.
pub(super) fn activation(name: &str) -> Result<Activation, String> {
    match name {
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        "tanh" => Ok(Activation::Tanh),
        other => Err(format!("activation `{other}`")),
    }
}
