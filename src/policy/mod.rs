//! Owns what the operator wanted: configuration text to pure, comparable data, with everything wrong in it named at
//! once. Refuses to know what is live: no sockets, no weights, no clock.
//!
//! A text becomes a positioned tree (`yaml`), its variables are expanded (`expand`), the tree meets the JSON Schema
//! of the raw types (`validate`), and what the values mean together is checked (`check`). After that nothing is
//! checked again: a [`Policy`] holds ids instead of names and values within their bounds.

mod check;
mod check_classifier;
mod check_decision;
mod check_identity;
mod check_plugins;
mod check_pool;
mod check_secret;
mod check_signals;
mod checker;
mod classifier;
mod decision;
mod duration;
mod environment;
mod expand;
mod identity;
pub mod import;
mod issue;
mod load;
mod plugins;
mod pool;
mod raw;
mod raw_classifier;
mod raw_decision;
mod raw_identity;
mod raw_plugins;
mod raw_pool;
mod raw_signals;
mod secret;
mod server;
mod signal;
mod validate;
mod yaml;

use std::collections::HashMap;
use std::ops::Index;
use std::path::PathBuf;

pub use check_signals::MAX_PATTERN_BYTES;
pub use classifier::{
    ClassifierDevice, ClassifierModel, ClassifierModels, ClassifierPrecision, ClassifierSpec, HubSpec,
    OnUnknown, Thresholds,
};
pub use decision::{
    AppliesTo, Choose, ChooseBy, ChooseWeights, Decision, ModelRef, OnUnknownSignal, Recipe, Rule, Shadow,
    Sticky, StickyOn, Strategy,
};
pub use environment::{Environment, Fixed, Process};
pub use identity::{CacheSpec, CacheStore, Identity, Price, Principal};
pub use issue::{Issue, Issues};
pub use load::{fault_at, load, load_server, schema, server_schema};
pub use plugins::{
    AnswerAction, AnswerGuard, CacheScope, CacheUse, Effort, GuardOnUnknown, Guards, HallucinationAction,
    HallucinationGuard, HeaderChanges, PiiAction, PiiGuard, Plugins, PromptAction, PromptGuard, Reasoning,
    ReasoningFamily, ReasoningKind, SystemPrompt, SystemPromptMode, ToolPick, ToolSpec, Tools, Words,
};
pub use pool::{
    Alpn, Balance, ClientCert, Credential, Ejection, EndpointSpec, HashKey, Health, HostRule, PoolSpec,
    Timeouts, Transport,
};
pub use secret::Secret;
pub use server::{Limits, Listener, ListenerTls, LogSpec, ServerSpec};
pub use signal::{
    Aggregate, Case, Feature, Feedback, Keywords, Level, Measure, MetadataTest, Modality, Need, PiiKinds,
    Scope, Signal, SignalId, SignalKind,
};

/// What the operator wanted; two equal ones mean the same, contents of referenced files included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How a request that a guard blocks is answered.
    pub block_style: BlockStyle,
    /// Who clients are.
    pub identity: Identity,
    /// The classifier and its bounds.
    pub classifier: ClassifierSpec,
    /// What is to be known about requests; a [`SignalId`] is a place in here. Those that decisions say in place stand
    /// after those with a name.
    pub signals: Vec<Signal>,
    /// What is held against every request.
    pub guards: Guards,
    /// The lists of decisions; the first is the policy's own.
    pub recipes: Vec<Recipe>,
    /// Where answers are kept that are given again.
    pub cache: CacheSpec,
    /// The models, in the order of the file; a [`ModelId`] is a place in here.
    pub models: Vec<Model>,
    /// The pools, in the order of the file; a [`PoolId`] is a place in here.
    pub pools: Vec<PoolSpec>,
    /// When a request is tried again.
    pub retry: Retry,
    /// The files that were read or would have been, for whoever watches them.
    pub files: Vec<PathBuf>,
    names: HashMap<String, ModelId>,
    loras: HashMap<String, ModelId>,
}

impl Policy {
    /// Finds a model by its name or one of its aliases.
    pub fn model(&self, name: &str) -> Option<ModelId> {
        self.names.get(name).copied()
    }

    /// Finds the model that has an adapter of this name.
    pub fn model_of_lora(&self, name: &str) -> Option<ModelId> {
        self.loras.get(name).copied()
    }

    /// Finds the list of decisions that a name asks for.
    pub fn recipe(&self, name: &str) -> Option<&Recipe> {
        self.recipes.iter().find(|recipe| recipe.virtual_models.iter().any(|known| known == name))
    }

    /// Gives the names that ask for a decision, the policy's own first.
    pub fn virtual_models(&self) -> impl Iterator<Item = &str> {
        self.recipes.iter().flat_map(|recipe| recipe.virtual_models.iter().map(String::as_str))
    }

    /// Gives the decisions of every list.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.recipes.iter().flat_map(|recipe| &recipe.decisions)
    }
}

impl Index<SignalId> for Policy {
    type Output = Signal;

    fn index(&self, SignalId(id): SignalId) -> &Signal {
        &self.signals[id]
    }
}

impl Index<ModelId> for Policy {
    type Output = Model;

    fn index(&self, ModelId(id): ModelId) -> &Model {
        &self.models[id]
    }
}

impl Index<PoolId> for Policy {
    type Output = PoolSpec;

    fn index(&self, PoolId(id): PoolId) -> &PoolSpec {
        &self.pools[id]
    }
}

/// A place in [`Policy::models`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub usize);

/// A place in [`Policy::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub usize);

/// A fraction in units of 1/10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BasisPoints(pub u16);

impl BasisPoints {
    /// Rounds a fraction from 0 to 1.
    pub(crate) fn from_fraction(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * 10_000.0).round() as u16)
    }

    /// Gives the fraction.
    pub fn fraction(self) -> f32 {
        f32::from(self.0) / 10_000.0
    }
}

/// How a request that a guard blocks is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockStyle {
    /// With status 400 and the code `content_filter`.
    Error,
    /// With status 200 and an answer that says so, as vLLM Semantic Router does.
    Vsr,
}

/// One model that clients may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Further names for it.
    pub aliases: Vec<String>,
    /// The pools that serve it, in order; never empty.
    pub routes: Vec<Route>,
    /// The owner that `/v1/models` shows.
    pub owned_by: Option<String>,
    /// The adapters that its upstreams have loaded.
    pub loras: Vec<String>,
    /// How it is told to reason.
    pub reasoning: Option<ReasoningFamily>,
    /// What it costs.
    pub price: Option<Price>,
    /// How good it is, in the operator's judgement.
    pub quality: BasisPoints,
    /// What is held against every request for it.
    pub guards: Guards,
}

/// A pool that serves a model, and the model's name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The pool.
    pub pool: PoolId,
    /// The name sent upstream.
    pub upstream_model: String,
}

/// When a request is tried again on another endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often a request is tried in all, from 1.
    pub attempts: u32,
    /// Whether a failure to connect is worth another try.
    pub on_connect: bool,
    /// Whether a connection that breaks before the first byte is worth another try.
    pub on_reset: bool,
    /// The statuses that are worth another try.
    pub on_status: Vec<u16>,
    /// The share of requests that may be retries.
    pub budget_share: BasisPoints,
    /// Retries per second that are always allowed.
    pub budget_min_per_second: u32,
}
