//! Owns what the operator wanted: configuration text to pure, comparable data, with everything wrong in it named at
//! once. Refuses to know what is live: no sockets, no weights, no clock.
//!
//! A text becomes a positioned tree (`yaml`), its variables are expanded (`expand`), and the tree is validated against
//! the JSON Schema of `document` (`validate`): what is of the wrong kind or out of bounds is known by then. Each section
//! then checks what its values mean together, a folder or a file a section: its types, their short forms and their
//! checks. A type reads itself; only where YAML has short forms, or names must be resolved, is there a `Raw` twin. After
//! that nothing is checked again: a [`Policy`] holds ids instead of names and values within their bounds.

#![forbid(unsafe_code)]

mod admission;
mod cache;
mod checker;
mod classifier;
mod context;
mod cors;
mod decision;
mod document;
mod duration;
mod environment;
mod excerpt;
mod expand;
mod fraction;
mod gateway_api;
mod guards;
mod identity;
pub mod import;
mod issue;
mod load;
mod manifest;
mod model;
mod model_facts;
mod naming;
mod pii_kinds;
mod placeholder_key;
mod plugins;
mod pool;
mod responses;
mod retry;
mod routed;
mod schema;
mod secret;
mod server;
mod signal;
mod size;
#[cfg(test)]
mod tests;
mod validate;
mod warning;
mod yaml;

use std::ops::Index;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use admission::{AdmissionPolicy, PriorityInput, QueueLimits};
pub use cache::{CacheSpec, CacheStore};
pub use classifier::{
    AttackThreshold, BUILTIN_EMBEDDER, ClassifierModels, ClassifierPolicy, ClassifierSpec, DeviceChoice,
    HubSpec, ModelSource, OnUnknown, OperatingPoint, Precision, Thresholds, WindowSpec,
};
pub use cors::Cors;
pub use decision::{
    AppliesTo, Choose, ChooseBy, ChooseWeights, Decision, DecisionCondition, DecisionStrategy,
    KeptConversations, ModelRef, OnUnknownSignal, Recipe, Rule, Shadow, Sticky, StickyOn,
};
pub use environment::{Environment, Fixed, Process};
pub use fraction::BasisPoints;
pub use gateway_api::{GatewayApiSpec, ObjectName};
pub use guards::{
    AnswerAction, AnswerGuard, GuardOnUnknown, Guards, HallucinationAction, HallucinationGuard, PiiAction,
    PiiGuard, PromptAction, PromptGuard, TextSource, TextSources, Words,
};
pub use identity::{Identity, IdentityHeaders, Principal};
pub use issue::{Issue, Issues};
pub use load::{decode, load, load_server, load_with, schema, server_schema};
pub use manifest::manifests;
use model::ModelNames;
pub use model::{Model, Price, Route};
pub use model_facts::{ModelFacts, ModelFault};
use naming::ModelNaming;
pub use naming::{AnswerModel, FixedUse};
pub use pii_kinds::{MODEL_PII_KINDS, PATTERN_PII_KINDS};
pub use placeholder_key::PlaceholderKey;
pub use plugins::{
    CacheScope, CacheUse, Effort, HeaderChanges, ParamLimits, Plugins, Reasoning, ReasoningFamily,
    ReasoningKind, SystemPrompt, SystemPromptMode, ToolPick, ToolSpec, Tools,
};
pub use pool::{
    Alpn, Balance, ClientCert, Credential, DiscoverySpec, Ejection, EndpointSpec, EngineKind, ExternalPicker,
    FailureMode, HashKey, Health, Hedge, HostRule, KubeObject, KubeSelection, KvConnector, KvEventPorts,
    KvEventsSpec, MetricsScrape, PickerTls, PickerTrust, PoolApi, PoolLimits, PoolProbes, PoolSpec, PortRef,
    PrefillSpec, Provider, Saturation, Scorer, Scorers, ScrapeCondition, ServedResource, SpokenApi,
    StreamUsageMode, Timeouts, Transport,
};
pub use responses::KeptResponses;
pub use retry::{Reissue, Retry, RetryBudgetSpec, RetryCause};
pub use routed::{RoutedModels, routed_pool};
pub use secret::Secret;
pub use server::{
    ClientLimits, Drain, Listener, ListenerTls, LogLevel, LogSpec, ServerSpec, Upgrade, parse_listen_address,
};
pub use signal::*;
pub use warning::warnings;

/// What the operator wanted; two equal ones mean the same, contents of referenced files included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How a request that a guard blocks is answered.
    pub block_style: BlockStyle,
    /// Who clients are.
    pub identity: Identity,
    /// The classifier and what its answers are worth.
    pub classifier: ClassifierPolicy,
    /// What is measured about requests; a [`SignalId`] is a place in here. Those that decisions define in
    /// place follow those with a name.
    pub signals: Vec<Signal>,
    /// What every request is checked for.
    pub guards: Guards,
    /// The lists of decisions; the first is the policy's own.
    pub recipes: Vec<Recipe>,
    /// The response cache.
    pub cache: CacheSpec,
    /// The models, in the order of the file; a [`ModelId`] is a place in here.
    pub models: Vec<Model>,
    /// The pools, in the order of the file; a [`PoolId`] is a place in here.
    pub pools: Vec<PoolSpec>,
    /// When a request is tried again.
    pub retry: Retry,
    /// Who goes first where a pool has too much to do; without it nothing waits here.
    pub admission: Option<AdmissionPolicy>,
    index: PolicyIndex,
}

/// What of a policy is asked for by a method.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PolicyIndex {
    /// The files that were read or would have been.
    files: Vec<PathBuf>,
    names: ModelNames,
    naming: ModelNaming,
    responses: KeptResponses,
}

impl Policy {
    /// The files that were read or would have been, for the watch that reloads the policy.
    pub fn files(&self) -> &[PathBuf] {
        &self.index.files
    }

    /// Finds a model by its name or one of its aliases.
    #[inline]
    pub fn model(&self, name: &str) -> Option<ModelId> {
        self.index.names.models.get(name).copied()
    }

    /// Finds the model that has an adapter of this name.
    pub fn model_of_lora(&self, name: &str) -> Option<ModelId> {
        self.index.names.loras.get(name).copied()
    }

    /// Whether any request, or any answer, is checked for something, or answered here.
    pub fn has_guards(&self) -> bool {
        let of_decision =
            |decision: &Decision| decision.plugins.respond.is_some() || !decision.plugins.guards.is_empty();
        !self.guards.is_empty()
            || self.models.iter().any(|model| !model.guards.is_empty())
            || self.recipes.iter().flat_map(|recipe| &recipe.decisions).any(of_decision)
    }

    /// The responses that are kept where their upstreams keep none.
    pub fn responses(&self) -> &KeptResponses {
        &self.index.responses
    }

    /// Which name of its model an answer gives.
    pub fn answer_model(&self) -> AnswerModel {
        self.index.naming.answer_model
    }

    /// Finds the model that virtual names stand for in such requests, where it is not the default model.
    pub fn default_for(&self, purpose: FixedUse) -> Option<ModelId> {
        self.index.naming.fixed.iter().find(|(known, _)| *known == purpose).map(|(_, model)| *model)
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

    #[inline]
    fn index(&self, SignalId(id): SignalId) -> &Signal {
        &self.signals[id]
    }
}

impl Index<ModelId> for Policy {
    type Output = Model;

    #[inline]
    fn index(&self, ModelId(id): ModelId) -> &Model {
        &self.models[id]
    }
}

impl Index<PoolId> for Policy {
    type Output = PoolSpec;

    #[inline]
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

/// How a request that a guard blocks is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockStyle {
    /// With status 400 and the code `content_filter`.
    #[default]
    Error,
    /// With status 200 and an answer that reports it, as vLLM Semantic Router does.
    Vsr,
}
