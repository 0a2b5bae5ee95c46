//! Owns the policy file's shape, one type a mapping and one field a key; its docs become the JSON Schema's
//! descriptions. Refuses to know what the values mean together: `check` does.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw_classifier::RawClassifier;
use super::raw_decision::{RawDecision, RawRecipes, RawStrategy};
use super::raw_identity::{RawCache, RawIdentity, RawPrice, RawReasoningFamilies};
use super::raw_plugins::{RawGuards, RawReasoning};
use super::raw_pool::RawPool;
use super::raw_signals::RawSignal;

/// What the operator wants: who may be asked for, how a model is chosen, and where requests go.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Signalbox policy")]
pub(super) struct RawPolicy {
    /// The version of this format; always 1.
    #[schemars(range(min = 1, max = 1))]
    pub(super) version: u32,
    /// Names that ask for a decision instead of naming a model, such as `auto`.
    #[serde(default)]
    #[schemars(inner(length(min = 1, max = 256)), length(max = 64))]
    pub(super) virtual_models: Vec<String>,
    /// The model that is used when no decision matches; required with `virtual_models`.
    #[serde(default)]
    pub(super) default_model: Option<String>,
    /// What tells the domain of a request's text.
    #[serde(default)]
    pub(super) classifier: RawClassifier,
    /// Which of several matching decisions wins.
    #[serde(default)]
    pub(super) strategy: RawStrategy,
    /// How a request that a guard blocks is answered.
    #[serde(default)]
    pub(super) block_style: RawBlockStyle,
    /// How hard a model reasons where it is only said that it does: `low`, `medium` or `high`.
    #[serde(default = "medium")]
    pub(super) default_effort: RawReasoning,
    /// Who clients are.
    #[serde(default)]
    pub(super) identity: RawIdentity,
    /// What is to be known about requests, by name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 1_000))]
    pub(super) signals: IndexMap<String, RawSignal>,
    /// What is held against every request, those that name a model included.
    #[serde(default)]
    pub(super) guards: RawGuards,
    /// The rules that choose a model; the highest priority first, ties in the order of the file.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub(super) decisions: Vec<RawDecision>,
    /// Further lists of rules, each behind names of its own.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub(super) recipes: RawRecipes,
    /// Where answers are kept that are given again.
    #[serde(default)]
    pub(super) cache: RawCache,
    /// How families of models are told to reason, by name, beside the known `qwen3`, `deepseek`, `gpt-oss` and `gpt`.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub(super) reasoning_families: RawReasoningFamilies,
    /// What clients may name in `model`, by name.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 10_000))]
    pub(super) models: IndexMap<String, RawModel>,
    /// Every upstream, by name.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1_000))]
    pub(super) pools: IndexMap<String, RawPool>,
    /// When a request is tried again on another endpoint.
    #[serde(default)]
    pub(super) retry: RawRetry,
}

fn medium() -> RawReasoning {
    RawReasoning::Medium
}

/// How a request that a guard blocks is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BlockStyle")]
pub(super) enum RawBlockStyle {
    /// With status 400 and the code `content_filter`.
    #[default]
    Error,
    /// With status 200 and an answer that says so, as vLLM Semantic Router does.
    Vsr,
}

/// One model that clients may name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Model")]
pub(super) struct RawModel {
    /// Further names for it.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub(super) aliases: Vec<String>,
    /// The pools that serve it, in order: the later ones are fall-backs.
    #[schemars(length(min = 1, max = 16))]
    pub(super) pools: Vec<RawRoute>,
    /// The name sent upstream; the model's own name when absent.
    #[serde(default)]
    pub(super) upstream_model: Option<String>,
    /// The owner that `/v1/models` shows.
    #[serde(default)]
    pub(super) owned_by: Option<String>,
    /// The adapters that its upstreams have loaded; clients may name them too.
    #[serde(default)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 256)))]
    pub(super) loras: Vec<String>,
    /// How it is told to reason: a name of `reasoning_families`, or a known one.
    #[serde(default)]
    pub(super) reasoning_family: Option<String>,
    /// What it costs for a million tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawPrice")]
    pub(super) price: Option<RawPrice>,
    /// How good it is, from 0 to 1, in the operator's judgement.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) quality: f64,
    /// What is held against every request for it.
    #[serde(default)]
    pub(super) guards: RawGuards,
}

fn half() -> f64 {
    0.5
}

/// A pool that serves a model: its name, or a mapping.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Route")]
pub(super) enum RawRoute {
    /// The pool's name.
    Name(String),
    /// The pool's name and what differs there.
    Full(RawFullRoute),
}

/// A pool that serves a model under another name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FullRoute")]
pub(super) struct RawFullRoute {
    /// The pool's name.
    pub(super) pool: String,
    /// The name sent to this pool; the model's `upstream_model` when absent.
    #[serde(default)]
    pub(super) upstream_model: Option<String>,
}

/// When a request is tried again on another endpoint; never after a byte of the answer was sent.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub(super) struct RawRetry {
    /// How often a request is tried in all; 1 means no retry.
    #[schemars(range(min = 1, max = 10))]
    pub(super) attempts: u32,
    /// What is worth another try.
    #[schemars(length(max = 16))]
    pub(super) on: Vec<RawRetryCause>,
    /// How many retries there may be beside the requests.
    pub(super) budget: RawBudget,
}

impl Default for RawRetry {
    fn default() -> Self {
        use RawRetryCause::{Connect, Reset, Status429, Status502, Status503, Status504};
        Self {
            attempts: 3,
            on: vec![Connect, Reset, Status429, Status502, Status503, Status504],
            budget: RawBudget::default(),
        }
    }
}

/// What is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RetryCause")]
pub(super) enum RawRetryCause {
    /// No connection came about.
    Connect,
    /// The connection broke before the first byte of the answer.
    Reset,
    /// Too many requests.
    #[serde(rename = "429")]
    Status429,
    /// An internal error.
    #[serde(rename = "500")]
    Status500,
    /// A bad gateway.
    #[serde(rename = "502")]
    Status502,
    /// Unavailable.
    #[serde(rename = "503")]
    Status503,
    /// A gateway's timeout.
    #[serde(rename = "504")]
    Status504,
}

/// How many retries there may be.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RetryBudget")]
pub(super) struct RawBudget {
    /// The share of requests that may be retries, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) share: f64,
    /// Retries per second that are always allowed.
    #[schemars(range(max = 1_000_000))]
    pub(super) min_per_second: u32,
}

impl Default for RawBudget {
    fn default() -> Self {
        Self { share: 0.2, min_per_second: 10 }
    }
}
