//! `config.json` of Qwen3, as far as it bears on the numbers.
//!
//! Knows nothing of tensors.

use candle_transformers::models::qwen3::Config;
use serde::Deserialize;

use crate::encoder::{EncoderDimensions, MAX_WINDOW_POSITIONS};

#[derive(Deserialize)]
pub(super) struct Qwen3Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "sixth")]
    rms_norm_eps: f64,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(flatten)]
    attention: Qwen3Attention,
    #[serde(flatten)]
    rope: Qwen3Rope,
}

#[derive(Deserialize)]
struct Qwen3Attention {
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default)]
    layer_types: Vec<String>,
}

/// Rotary positions, as older and as newer versions of `transformers` write them.
#[derive(Deserialize)]
struct Qwen3Rope {
    #[serde(rename = "rope_theta")]
    theta: Option<f64>,
    #[serde(rename = "rope_scaling")]
    scaling: Option<RopeParameters>,
    #[serde(rename = "rope_parameters")]
    parameters: Option<RopeParameters>,
}

#[derive(Deserialize)]
struct RopeParameters {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
}

fn sixth() -> f64 {
    1e-6
}

fn silu() -> String {
    "silu".to_owned()
}

impl Qwen3Config {
    /// Says what can't be computed, if anything.
    pub(super) fn shape(self) -> Result<Config, String> {
        let Qwen3Attention { num_attention_heads, num_key_value_heads, head_dim, .. } = self.attention;
        let kv_heads = num_key_value_heads.unwrap_or(num_attention_heads);
        let head_dim = head_dim.unwrap_or(128);
        // What the heads are wide together is not what the states are.
        EncoderDimensions {
            layers: self.num_hidden_layers,
            width: self.hidden_size,
            heads: 1,
            intermediate: self.intermediate_size,
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
        }
        .check()?;
        let fits = (1..=1 << 12).contains(&num_attention_heads)
            && (1..=num_attention_heads).contains(&kv_heads)
            && num_attention_heads.is_multiple_of(kv_heads);
        if !fits {
            return Err(format!("{num_attention_heads} attention heads of {kv_heads} keys"));
        }
        if !(2..=1 << 12).contains(&head_dim) || !head_dim.is_multiple_of(2) {
            return Err(format!("a head_dim of {head_dim}"));
        }
        let slides = self.attention.layer_types.iter().any(|kind| kind != "full_attention");
        if self.attention.use_sliding_window || slides {
            return Err("attention in a sliding window is not computed".to_owned());
        }
        if self.hidden_act != "silu" {
            return Err(format!("activation `{}`; silu is known", self.hidden_act));
        }
        Ok(Config {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads,
            head_dim,
            attention_bias: self.attention.attention_bias,
            num_key_value_heads: kv_heads,
            // Angles are tabulated for as many.
            max_position_embeddings: self.max_position_embeddings.min(MAX_WINDOW_POSITIONS),
            sliding_window: None,
            max_window_layers: 0,
            tie_word_embeddings: false,
            rope_theta: self.rope.theta()?,
            rms_norm_eps: self.rms_norm_eps,
            use_sliding_window: false,
            hidden_act: candle_nn::Activation::Silu,
        })
    }
}

impl Qwen3Rope {
    fn theta(self) -> Result<f64, String> {
        let parts = [&self.parameters, &self.scaling];
        let kinds = parts.into_iter().flatten().filter_map(|part| part.rope_type.as_deref());
        if let Some(other) = kinds.into_iter().find(|kind| *kind != "default") {
            return Err(format!("rope_type `{other}`; default is known"));
        }
        let theta = self.parameters.and_then(|part| part.rope_theta).or(self.theta);
        let theta = theta.unwrap_or(10_000.0);
        if theta.is_finite() && theta >= 1.0 { Ok(theta) } else { Err(format!("a rope_theta of {theta}")) }
    }
}
