//! The families of encoders: what their `config.json` calls things and where their trunk's tensors are.
//!
//! Knows nothing of heads or labels.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::classify::load_error::LoadError;
use crate::classify::ops::Then;
use crate::classify::reader::Reader;
use crate::classify::trunk::Trunk;
use crate::classify::trunk::bert::{self, Bert, Counting, Naming};
use crate::classify::trunk::modernbert::{self, ModernBert};
use crate::classify::trunk::rope::Angles;
use crate::classify::weights::Weights;

/// A family of encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::classify) enum Family {
    Bert,
    DistilBert,
    Roberta,
    ModernBert,
}

/// A trunk's dimensions.
#[derive(Debug)]
pub(super) enum Plan {
    Bert(bert::Shape),
    ModernBert(Box<modernbert::Shape>),
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
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    rope_scaling: Option<Angles>,
    rope_parameters: Option<HashMap<String, Option<Angles>>>,
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

impl Family {
    pub(super) fn of(model_type: &str) -> Option<Self> {
        match model_type {
            "bert" => Some(Self::Bert),
            "distilbert" => Some(Self::DistilBert),
            "roberta" | "xlm-roberta" | "camembert" => Some(Self::Roberta),
            "modernbert" => Some(Self::ModernBert),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::DistilBert => "distilbert",
            Self::Roberta => "roberta",
            Self::ModernBert => "modernbert",
        }
    }

    /// Returns the name of the vocabulary's table, by which the trunk is found.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::ModernBert => "embeddings.tok_embeddings.weight",
            _ => "embeddings.word_embeddings.weight",
        }
    }

    /// Finds what stands before the names of the trunk's tensors; checkpoints with heads have more than bare ones.
    pub(super) fn prefix(self, weights: &Weights) -> Option<String> {
        weights.prefixes(self.words()).min_by_key(|prefix| prefix.len()).map(str::to_owned)
    }

    /// Reads the trunk's dimensions; the inner error says what is not supported.
    pub(super) fn plan(self, config: Value) -> Result<Result<Plan, String>, serde_json::Error> {
        Ok(match self {
            Self::ModernBert => {
                modern(serde_json::from_value(config)?).map(|shape| Plan::ModernBert(Box::new(shape)))
            }
            _ => self.bert(serde_json::from_value(config)?).map(Plan::Bert),
        })
    }

    fn bert(self, config: BertConfig) -> Result<bert::Shape, String> {
        if let Some(other) = config.position_embedding_type.filter(|kind| kind != "absolute") {
            return Err(format!("position_embedding_type `{other}`; absolute is known"));
        }
        heads_divide(config.hidden_size, config.num_attention_heads)?;
        let counting = match self {
            Self::Roberta => Counting::AfterPadding(config.pad_token_id.unwrap_or(1)),
            _ => Counting::FromZero,
        };
        Ok(bert::Shape {
            layers: config.num_hidden_layers,
            width: config.hidden_size,
            heads: config.num_attention_heads,
            intermediate: config.intermediate_size,
            vocabulary: config.vocab_size,
            positions: config.max_position_embeddings,
            counting,
            epsilon: config.layer_norm_eps,
            activation: activation(&config.hidden_act)?,
            naming: if self == Self::DistilBert { Naming::DistilBert } else { Naming::Bert },
        })
    }
}

impl Plan {
    pub(super) fn load(self, reader: &Reader<'_>) -> Result<Trunk, LoadError> {
        Ok(match self {
            Self::Bert(shape) => Trunk::Bert(Box::new(Bert::load(reader, shape)?)),
            Self::ModernBert(shape) => Trunk::ModernBert(Box::new(ModernBert::load(reader, *shape)?)),
        })
    }
}

fn modern(config: ModernBertConfig) -> Result<modernbert::Shape, String> {
    heads_divide(config.hidden_size, config.num_attention_heads)?;
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
    let mut given = config.rope_parameters.unwrap_or_default();
    let mut angles = |kind: &str, theta: Option<f64>, default: f64| {
        let own = given.remove(kind).flatten();
        // What an older `rope_scaling` says holds for both kinds of layers.
        let scaling = config.rope_scaling.clone();
        let angles = match (own, scaling) {
            (Some(own), Some(scaling)) => scaling.or(own),
            (own, scaling) => own.or(scaling).unwrap_or_default(),
        };
        angles.complete(theta.unwrap_or(default), config.max_position_embeddings)
    };
    let global_angles = angles("full_attention", config.global_rope_theta, 160_000.0)?;
    let local_angles = angles("sliding_attention", config.local_rope_theta, 10_000.0)?;
    Ok(modernbert::Shape {
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
        global_angles,
        local_angles,
    })
}

fn heads_divide(width: usize, heads: usize) -> Result<(), String> {
    let divides = heads > 0 && width.is_multiple_of(heads) && (width / heads).is_multiple_of(2);
    if divides { Ok(()) } else { Err(format!("a width of {width} does not divide into {heads} heads")) }
}

/// Finds an activation by its name in `transformers`.
pub(super) fn activation(name: &str) -> Result<Then, String> {
    match name {
        "gelu" | "gelu_python" => Ok(Then::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => Ok(Then::GeluTanh),
        "relu" => Ok(Then::Relu),
        "silu" | "swish" => Ok(Then::Silu),
        "tanh" => Ok(Then::Tanh),
        other => Err(format!("activation `{other}`")),
    }
}
