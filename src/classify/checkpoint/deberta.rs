//! `config.json` of `DeBERTa`, versions 2 and 3, as far as it bears on the numbers.
//!
//! Knows nothing of tensors.

use candle_transformers::models::debertav2::{Config, HiddenAct};
use serde::Deserialize;

use crate::encoder::EncoderDimensions;

#[derive(Deserialize)]
pub(super) struct DebertaConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "seventh")]
    layer_norm_eps: f64,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(flatten)]
    embeddings: DebertaEmbeddings,
    #[serde(flatten)]
    attention: DebertaAttention,
    conv_kernel_size: Option<usize>,
}

#[derive(Deserialize)]
struct DebertaEmbeddings {
    #[serde(default)]
    type_vocab_size: usize,
    embedding_size: Option<usize>,
    #[serde(default = "yes")]
    position_biased_input: bool,
}

/// How far away a token is, as attention has it.
#[derive(Deserialize)]
struct DebertaAttention {
    #[serde(default)]
    relative_attention: bool,
    max_relative_positions: Option<i64>,
    position_buckets: Option<i64>,
    pos_att_type: Option<PositionTerms>,
    share_att_key: Option<bool>,
    attention_head_size: Option<usize>,
    norm_rel_ebd: Option<String>,
}

/// As older and as newer versions of `transformers` write them.
#[derive(Deserialize)]
#[serde(untagged)]
enum PositionTerms {
    Joined(String),
    Listed(Vec<String>),
}

fn seventh() -> f64 {
    1e-7
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn yes() -> bool {
    true
}

impl DebertaConfig {
    /// Says what can't be computed, if anything.
    pub(super) fn shape(self) -> Result<Config, String> {
        EncoderDimensions {
            layers: self.num_hidden_layers,
            width: self.hidden_size,
            heads: self.num_attention_heads,
            intermediate: self.intermediate_size,
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
        }
        .check()?;
        if self.conv_kernel_size.is_some_and(|size| size > 0) {
            return Err("a convolution (`conv_kernel_size`) is not computed".to_owned());
        }
        let attention = self
            .attention
            .check(self.hidden_size / self.num_attention_heads, self.max_position_embeddings)?;
        let hidden_act = match self.hidden_act.as_str() {
            "gelu" | "gelu_python" => HiddenAct::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => HiddenAct::GeluApproximate,
            "relu" => HiddenAct::Relu,
            other => return Err(format!("activation `{other}`")),
        };
        Ok(Config {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.embeddings.type_vocab_size,
            layer_norm_eps: self.layer_norm_eps,
            position_biased_input: self.embeddings.position_biased_input,
            embedding_size: self.embeddings.embedding_size,
            ..attention
        })
    }
}

impl DebertaAttention {
    /// Checks what is computed with positions, and returns a configuration that has no more than that.
    fn check(self, head_size: usize, positions: usize) -> Result<Config, String> {
        if !self.relative_attention {
            return Err("`relative_attention` is off".to_owned());
        }
        if let Some(other) = self.attention_head_size.filter(|size| *size != head_size) {
            return Err(format!("an attention_head_size of {other}, {head_size} is computed"));
        }
        let norm_rel_ebd = self.norm_rel_ebd.filter(|norm| norm.trim() != "none");
        if let Some(other) = norm_rel_ebd.as_ref().filter(|norm| norm.trim() != "layer_norm") {
            return Err(format!("norm_rel_ebd `{other}`; layer_norm is known"));
        }
        let pos_att_type = match self.pos_att_type {
            None => Vec::new(),
            Some(PositionTerms::Joined(terms)) => {
                terms.split('|').map(|term| term.trim().to_lowercase()).collect()
            }
            Some(PositionTerms::Listed(terms)) => terms,
        };
        let is_known = |term: &String| matches!(term.as_str(), "c2p" | "p2c");
        if let Some(other) = pos_att_type.iter().find(|term| !is_known(term)) {
            return Err(format!("pos_att_type `{other}`; c2p and p2c are known"));
        }
        let own = self.max_relative_positions.filter(|far| *far > 0);
        let far = own.unwrap_or(i64::try_from(positions).unwrap_or(i64::MAX));
        let buckets = self.position_buckets.filter(|buckets| *buckets > 0);
        // Distances beyond half of the buckets are told apart by their logarithms.
        let fits = buckets.is_none_or(|buckets| buckets >= 4 && buckets / 2 + 1 < far);
        if far > 1 << 20 || !fits {
            return Err(format!("{far} relative positions in {buckets:?} buckets"));
        }
        Ok(Config {
            relative_attention: true,
            max_relative_positions: far as isize,
            position_buckets: buckets.map(|buckets| buckets as isize),
            pos_att_type,
            share_att_key: self.share_att_key,
            attention_head_size: None,
            norm_rel_ebd,
            ..empty()
        })
    }
}

/// What is read of no file: dropout and how weights began matter to training alone, and heads are read apart.
fn empty() -> Config {
    Config {
        vocab_size: 0,
        hidden_size: 0,
        num_hidden_layers: 0,
        num_attention_heads: 0,
        intermediate_size: 0,
        hidden_act: HiddenAct::Gelu,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        max_position_embeddings: 0,
        type_vocab_size: 0,
        initializer_range: 0.0,
        layer_norm_eps: 0.0,
        relative_attention: false,
        max_relative_positions: 0,
        pad_token_id: None,
        position_biased_input: false,
        pos_att_type: Vec::new(),
        position_buckets: None,
        share_att_key: None,
        attention_head_size: None,
        embedding_size: None,
        norm_rel_ebd: None,
        conv_kernel_size: None,
        conv_groups: None,
        conv_act: None,
        id2label: None,
        label2id: None,
        pooler_dropout: None,
        pooler_hidden_act: None,
        pooler_hidden_size: None,
        cls_dropout: None,
    }
}
