//! Owns what the operator wanted: configuration text to pure, comparable data, with everything wrong in it named at
//! once. Refuses to know what is live: no sockets, no weights, no clock.
//!
//! A text becomes a positioned tree (`yaml`), its variables are expanded (`expand`), the tree meets the JSON Schema
//! of the raw types (`validate`), and what the values mean together is checked (`check`). After that nothing is
//! checked again: a [`Policy`] holds ids instead of names and values within their bounds.

mod check;
mod check_classifier;
mod check_pool;
mod check_secret;
mod checker;
mod classifier;
mod duration;
mod environment;
mod expand;
mod issue;
mod load;
mod pool;
mod raw;
mod raw_classifier;
mod raw_pool;
mod secret;
mod server;
mod validate;
mod yaml;

use std::collections::HashMap;
use std::ops::Index;
use std::path::PathBuf;

pub use classifier::{
    ClassifierDevice, ClassifierModel, ClassifierModels, ClassifierSpec, HubSpec, OnUnknown, Thresholds,
};
pub use environment::{Environment, Fixed, Process};
pub use issue::{Issue, Issues};
pub use load::{load, load_server, schema, server_schema};
pub use pool::{
    Alpn, Balance, ClientCert, Credential, Ejection, EndpointSpec, HashKey, Health, HostRule, PoolSpec,
    Timeouts, Transport,
};
pub use secret::Secret;
pub use server::{Limits, Listener, ListenerTls, LogSpec, ServerSpec};

/// What the operator wanted; two equal ones mean the same, contents of referenced files included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The names that ask for a decision.
    pub virtual_models: Vec<String>,
    /// The model without a matching decision; present whenever there are virtual models.
    pub default_model: Option<ModelId>,
    /// The classifier and its bounds.
    pub classifier: ClassifierSpec,
    /// The rules, in the order in which they are tried.
    pub decisions: Vec<Decision>,
    /// The models, in the order of the file; a [`ModelId`] is a place in here.
    pub models: Vec<Model>,
    /// The pools, in the order of the file; a [`PoolId`] is a place in here.
    pub pools: Vec<PoolSpec>,
    /// When a request is tried again.
    pub retry: Retry,
    /// The files that were read or would have been, for whoever watches them.
    pub files: Vec<PathBuf>,
    names: HashMap<String, ModelId>,
}

impl Policy {
    /// Finds a model by its name or one of its aliases.
    pub fn model(&self, name: &str) -> Option<ModelId> {
        self.names.get(name).copied()
    }

    /// Says whether a name asks for a decision.
    pub fn is_virtual(&self, name: &str) -> bool {
        self.virtual_models.iter().any(|known| known == name)
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

/// One rule: texts of these domains go to this model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The name that responses, logs and metrics show.
    pub name: String,
    /// What the rule is for; empty when the operator said nothing.
    pub description: String,
    /// The rank; the highest matching rule wins.
    pub priority: i32,
    /// The domains of which one must be the text's.
    pub domains: Vec<String>,
    /// The least confidence for this rule.
    pub min_confidence: BasisPoints,
    /// The model.
    pub model: ModelId,
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
