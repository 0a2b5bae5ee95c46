//! Owns the policy file's shape, one type a mapping and one field a key; its docs become the JSON Schema's
//! descriptions. Refuses to know what the values mean together: `check` does.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw_classifier::RawClassifier;
use super::raw_pool::RawPool;

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
    /// The rules that choose a model; the highest priority first, ties in the order of the file.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub(super) decisions: Vec<RawDecision>,
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

/// One rule: texts of these domains go to this model.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Decision")]
pub(super) struct RawDecision {
    /// The name that responses, logs and metrics show.
    #[schemars(length(min = 1, max = 128))]
    pub(super) name: String,
    /// What the rule is for, in the operator's words.
    #[serde(default)]
    pub(super) description: Option<String>,
    /// The rank; the highest matching rule wins.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub(super) priority: i32,
    /// The domains of which one must be the text's.
    #[schemars(length(min = 1, max = 1000))]
    pub(super) domains: Vec<String>,
    /// The least confidence for this rule, from 0 to 1; the classifier's when absent.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_confidence: Option<f64>,
    /// The model, by name or alias.
    pub(super) model: String,
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
