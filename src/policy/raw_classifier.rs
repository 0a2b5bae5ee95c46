//! Owns the shape of the policy's `classifier`, one type a mapping and one field a key. Refuses to know what the values
//! mean together: `check_classifier` does.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::RawDuration;
use super::raw_pool::RawSecret;

/// The classifier and its bounds.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Classifier")]
pub(super) struct RawClassifier {
    /// `builtin`, a folder with a model's weights, tokenizer and labels, or `hf://owner/name[@revision]` from the hub.
    #[schemars(length(min = 1))]
    pub(super) model: String,
    /// Models that answer one question each instead of `model`.
    pub(super) models: RawClassifierModels,
    /// Where the models run.
    pub(super) device: RawDevice,
    /// In which precision they compute on a GPU; on the processor it is `f32`.
    pub(super) precision: RawPrecision,
    /// The least confidence at which a domain counts as known, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_confidence: f64,
    /// From which probability on something counts as found.
    pub(super) thresholds: RawThresholds,
    /// How long a request waits for its domain before it goes on without.
    pub(super) deadline: RawDuration,
    /// Threads for classification; 0 means half of the cores, at least one.
    #[schemars(range(max = 1024))]
    pub(super) threads: usize,
    /// How many texts may wait; beyond that a request goes on without its domain.
    #[schemars(range(min = 1, max = 65_536))]
    pub(super) queue: usize,
    /// How many tokens of a text are read, in all.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub(super) max_tokens: usize,
    /// From how many of them the domain is judged, half from the start and half from the end of the text.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub(super) domain_tokens: usize,
    /// How many tokens are read at once; at most what the model can.
    #[schemars(range(min = 8, max = 32_768))]
    pub(super) window: usize,
    /// How many tokens a window shares with the one before; at most half of `window`.
    #[schemars(range(max = 16_384))]
    pub(super) overlap: usize,
    /// How many tokens of all waiting texts are computed together at most.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub(super) batch_tokens: usize,
    /// For how many windows the answers are kept; 0 keeps none.
    #[schemars(range(max = 1_048_576))]
    pub(super) cache: usize,
    /// What happens to a request whose domain is unknown.
    pub(super) on_unknown: RawOnUnknown,
    /// Where models with a name come from.
    pub(super) hub: RawHub,
}

impl Default for RawClassifier {
    fn default() -> Self {
        Self {
            model: "builtin".to_owned(),
            models: RawClassifierModels::default(),
            device: RawDevice::Cpu,
            precision: RawPrecision::Auto,
            min_confidence: 0.5,
            thresholds: RawThresholds::default(),
            deadline: RawDuration(Duration::from_millis(500)),
            threads: 0,
            queue: 256,
            max_tokens: 8192,
            domain_tokens: 1024,
            window: 256,
            overlap: 32,
            batch_tokens: 4096,
            cache: 4096,
            on_unknown: RawOnUnknown::Default,
            hub: RawHub::default(),
        }
    }
}

/// Models that answer one question each, in the forms of `model`.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ClassifierModels")]
pub(super) struct RawClassifierModels {
    /// The one that tells what a text is about.
    #[schemars(length(min = 1))]
    pub(super) domain: Option<String>,
    /// The one that tells whether a text tries to turn a model against its instructions.
    #[schemars(length(min = 1))]
    pub(super) jailbreak: Option<String>,
    /// The one that finds personal data.
    #[schemars(length(min = 1))]
    pub(super) pii: Option<String>,
    /// The one that gives a text's meaning as a vector.
    #[schemars(length(min = 1))]
    pub(super) embedding: Option<String>,
    /// The one that finds what an answer makes up: a token classifier over pairs of context and answer. None when
    /// absent, whatever `model` is.
    #[schemars(length(min = 1))]
    pub(super) hallucination: Option<String>,
}

/// Where the models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Device")]
pub(super) enum RawDevice {
    /// The processor.
    Cpu,
    /// The first CUDA device; the processor, with a warning, where there is none.
    Cuda,
    /// The first CUDA device where there is one.
    Auto,
}

/// In which precision models compute on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Precision")]
pub(super) enum RawPrecision {
    /// `bf16` where the device has it, else `f16`, else `f32`.
    Auto,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Half the bits with the range of `f32`; `auto`'s choice, with a warning, on devices before Ampere.
    Bf16,
}

/// From which probability on something counts as found, from 0 to 1; the model's own thresholds when absent.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Thresholds")]
pub(super) struct RawThresholds {
    /// For an attempt to turn a model against its instructions.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) jailbreak: Option<f64>,
    /// For a piece of personal data that the model finds; those that validated patterns find always count.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) pii: Option<f64>,
    /// For a token of an answer that nothing bears out which its model was told.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) hallucination: Option<f64>,
}

/// What happens to a request whose domain is unknown, for whatever reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "OnUnknown")]
pub(super) enum RawOnUnknown {
    /// It goes to `default_model`.
    Default,
    /// It is rejected.
    Reject,
}

/// Where models with a name come from, and where they are kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Hub")]
pub(super) struct RawHub {
    /// The hub's address; the variable `HF_ENDPOINT` or `https://huggingface.co` when absent.
    pub(super) endpoint: Option<String>,
    /// The folder of fetched files, relative to the policy's; that of the hub's own clients when absent.
    pub(super) cache: Option<String>,
    /// What opens repositories that are not public; the variable `HF_TOKEN` when absent.
    pub(super) token: Option<RawToken>,
}

/// A token: `${NAME}`, or where it is.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Token")]
pub(super) enum RawToken {
    /// What a variable expanded to.
    Text(String),
    /// Where it is.
    Place(RawSecret),
}
