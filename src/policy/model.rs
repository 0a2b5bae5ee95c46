//! Owns the models that clients may name: their names, the pools that serve them, and what they cost. Refuses to know how
//! one is chosen.

use std::collections::HashMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::context::PolicyContext;
use super::guards::{Guards, RawGuards};
use super::issue::YamlPath;
use super::plugins::{RawReasoningFamilies, ReasoningFamily, family};
use super::{BasisPoints, ModelId, PoolId};

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
    /// How it is instructed to reason.
    pub reasoning: Option<ReasoningFamily>,
    /// What it costs.
    pub price: Option<Price>,
    /// How good it is, in the operator's judgement.
    pub quality: BasisPoints,
    /// What every request for it is checked for.
    pub guards: Guards,
    /// The priority of its requests where a pool has too much to do.
    pub priority: Option<i32>,
}

/// A pool that serves a model, and the model's name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The pool.
    pub pool: PoolId,
    /// The name sent upstream.
    pub upstream_model: String,
}

/// What a model costs, in millionths of the currency for a million tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// The currency.
    pub currency: String,
    /// For tokens of the prompt.
    pub prompt_micros: u64,
    /// For tokens of the answer.
    pub completion_micros: u64,
    /// For tokens of the prompt that the upstream had cached.
    pub cached_micros: u64,
}

impl Price {
    /// Gives the cost of a request, in the currency; of `prompt` tokens `cached` were cached.
    pub fn cost(&self, prompt: u64, cached: u64, completion: u64) -> f64 {
        let cached = cached.min(prompt);
        let of = |tokens: u64, micros: u64| tokens as f64 * (micros as f64 / 1e12);
        of(prompt - cached, self.prompt_micros)
            + of(cached, self.cached_micros)
            + of(completion, self.completion_micros)
    }
}

/// One model that clients may name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Model")]
pub(super) struct RawModel {
    /// Further names for it.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    aliases: Vec<String>,
    /// The pools that serve it, in order: the later ones are fall-backs.
    #[schemars(length(min = 1, max = 16))]
    pools: Vec<RawRoute>,
    /// The name sent upstream; the model's own name when absent.
    #[serde(default)]
    upstream_model: Option<String>,
    /// The owner that `/v1/models` shows.
    #[serde(default)]
    owned_by: Option<String>,
    /// The adapters that its upstreams have loaded; clients may name them too.
    #[serde(default)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 256)))]
    loras: Vec<String>,
    /// How it is instructed to reason: a name of `reasoning_families`, or a known one.
    #[serde(default)]
    reasoning_family: Option<String>,
    /// What it costs for a million tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawPrice")]
    price: Option<RawPrice>,
    /// How good it is, from 0 to 1, in the operator's judgement.
    #[serde(default = "half")]
    quality: BasisPoints,
    /// What every request for it is checked for.
    #[serde(default)]
    guards: RawGuards,
    /// What its requests are for, one of `admission.objectives`, where neither a decision nor the client's identity says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    objective: Option<String>,
}

fn half() -> BasisPoints {
    BasisPoints(5000)
}

/// A pool that serves a model: its name, or a mapping.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Route")]
enum RawRoute {
    /// The pool's name.
    Name(String),
    /// The pool's name and what differs there.
    Full(RawFullRoute),
}

/// A pool that serves a model under another name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FullRoute")]
struct RawFullRoute {
    /// The pool's name.
    pool: String,
    /// The name sent to this pool; the model's `upstream_model` when absent.
    #[serde(default)]
    upstream_model: Option<String>,
}

/// What a model costs for a million tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Price")]
struct RawPrice {
    /// The currency, for metrics and the log.
    #[serde(default = "usd")]
    #[schemars(length(min = 1, max = 16))]
    currency: String,
    /// For tokens of the prompt.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    prompt: f64,
    /// For tokens of the answer.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    completion: f64,
    /// For tokens of the prompt that the upstream had cached; `prompt` when absent.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    cached: Option<f64>,
}

fn usd() -> String {
    "USD".to_owned()
}

impl RawModel {
    pub(super) fn check(
        self,
        name: String,
        families: &RawReasoningFamilies,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> Model {
        let path = models_path().key(&name);
        let upstream = self.upstream_model.unwrap_or_else(|| name.clone());
        if upstream.is_empty() {
            checker.issue(&path.key("upstream_model"), "must not be empty");
        }
        Model {
            aliases: self.aliases,
            routes: routes(self.pools, &upstream, &path.key("pools"), context, checker),
            owned_by: self.owned_by,
            loras: self.loras,
            reasoning: self
                .reasoning_family
                .and_then(|name| family(&name, families, &path.key("reasoning_family"), checker)),
            price: self.price.map(Price::from),
            quality: self.quality,
            guards: self.guards.check(&path.key("guards"), context, checker),
            priority: self
                .objective
                .and_then(|name| context.priority(&name, &path.key("objective"), checker)),
            name,
        }
    }
}

fn routes(
    raw: Vec<RawRoute>,
    upstream_model: &str,
    path: &YamlPath,
    context: &PolicyContext<'_>,
    checker: &mut Checker<'_>,
) -> Vec<Route> {
    let mut routes = Vec::with_capacity(raw.len());
    for (index, route) in raw.into_iter().enumerate() {
        let path = path.index(index);
        let (name, name_path, own) = match route {
            RawRoute::Name(name) => (name, path.clone(), None),
            RawRoute::Full(full) => (full.pool, path.key("pool"), full.upstream_model),
        };
        let Some(pool) = context.pool(&name, &name_path, checker) else { continue };
        let route = Route { pool, upstream_model: own.unwrap_or_else(|| upstream_model.to_owned()) };
        if routes.contains(&route) {
            checker.issue(&path, format!("the pool `{name}` stands twice"));
        }
        routes.push(route);
    }
    routes
}

impl From<RawPrice> for Price {
    fn from(raw: RawPrice) -> Self {
        let micros = |price: f64| (price * 1e6).round() as u64;
        Self {
            currency: raw.currency,
            prompt_micros: micros(raw.prompt),
            completion_micros: micros(raw.completion),
            cached_micros: micros(raw.cached.unwrap_or(raw.prompt)),
        }
    }
}

fn models_path() -> YamlPath {
    YamlPath::default().key("models")
}

/// The models and adapters that clients may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelNames {
    /// Every name and alias.
    pub(super) models: HashMap<String, ModelId>,
    /// Every adapter, with the first model that has it.
    pub(super) loras: HashMap<String, ModelId>,
}

impl ModelNames {
    pub(super) fn of(models: &IndexMap<String, RawModel>, checker: &mut Checker<'_>) -> Self {
        let names = names(models, checker);
        Self { loras: loras(models, &names, checker), models: names }
    }
}

/// Gives every name and alias its model.
fn names(models: &IndexMap<String, RawModel>, checker: &mut Checker<'_>) -> HashMap<String, ModelId> {
    let path = models_path();
    let mut names: HashMap<String, ModelId> =
        models.keys().enumerate().map(|(id, name)| (name.clone(), ModelId(id))).collect();
    for (id, (name, model)) in models.iter().enumerate() {
        checker.name(&path.key(name), name);
        for (index, alias) in model.aliases.iter().enumerate() {
            let path = path.key(name).key("aliases").index(index);
            match names.get(alias).and_then(|ModelId(other)| models.get_index(*other)) {
                Some((other, _)) => {
                    checker.issue(&path, format!("`{alias}` already names the model `{other}`"));
                }
                None => {
                    names.insert(alias.clone(), ModelId(id));
                }
            }
        }
    }
    names
}

/// Gives every adapter the first model that has it.
fn loras(
    models: &IndexMap<String, RawModel>,
    names: &HashMap<String, ModelId>,
    checker: &mut Checker<'_>,
) -> HashMap<String, ModelId> {
    let path = models_path();
    let mut loras = HashMap::new();
    for (id, (name, model)) in models.iter().enumerate() {
        for (index, lora) in model.loras.iter().enumerate() {
            let path = path.key(name).key("loras").index(index);
            checker.name(&path, lora);
            if names.contains_key(lora) {
                checker.issue(&path, format!("`{lora}` names a model already"));
            }
            loras.entry(lora.clone()).or_insert(ModelId(id));
        }
    }
    loras
}
