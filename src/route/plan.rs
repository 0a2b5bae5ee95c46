//! Owns what a plan is: where a request goes and what is done to it and its answer, or the reply that it gets here.
//!
//! Decides nothing.

use crate::balance::ReplicaForecast;
use crate::http_route::{HeaderFilters, RouteRule};
use crate::openai::{ChatRequest, Rejection};
use crate::policy::{
    AnswerGuard, AnswerModel, BasisPoints, CacheUse, HeaderChanges, ModelId, Policy, PoolId, Reasoning, Route,
};
use std::sync::Arc;
use std::time::Duration;

/// What will be done with a request.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where it is tried, in order; never empty.
    pub targets: Vec<PlanTarget>,
    /// What else is done, where anything is: for the model that is being tried.
    pub effects: Option<Box<RequestEffects>>,
    /// The conversation that it is part of, where such are kept together.
    pub conversation: Option<ConversationKey>,
    /// What is done instead for models with guards of their own.
    pub(super) others: Vec<ModelEffects>,
    /// Which of those are in `effects`, whose place has what was there.
    pub(super) current: Option<usize>,
}

/// A conversation up to one request of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationKey {
    /// The recipe and the identity: conversations of others are other ones.
    pub(super) scope: u64,
    /// All that the user has written, up to this request.
    pub(super) history: u64,
}

/// What is done for a model with guards of its own.
#[derive(Debug, Clone)]
pub(super) struct ModelEffects {
    pub(super) model: ModelId,
    pub(super) effects: Option<Box<RequestEffects>>,
}

impl Plan {
    /// Makes a plan of which the effects are those for every target.
    pub(super) fn new(targets: Vec<PlanTarget>, effects: Option<Box<RequestEffects>>) -> Self {
        Self { targets, effects, conversation: None, others: Vec::new(), current: None }
    }

    /// Puts the effects of a model in place, before it is tried.
    pub fn use_effects_of(&mut self, model: ModelId) {
        if let Some(other) = self.current.take().and_then(|at| self.others.get_mut(at)) {
            std::mem::swap(&mut self.effects, &mut other.effects);
        }
        self.current = self.others.iter().position(|other| other.model == model);
        if let Some(other) = self.current.and_then(|at| self.others.get_mut(at)) {
            std::mem::swap(&mut self.effects, &mut other.effects);
        }
    }

    /// The effects for all targets.
    pub fn all_effects(&self) -> impl Iterator<Item = &RequestEffects> {
        self.effects
            .as_deref()
            .into_iter()
            .chain(self.others.iter().filter_map(|other| other.effects.as_deref()))
    }

    pub(super) fn all_effects_mut(&mut self) -> impl Iterator<Item = &mut RequestEffects> {
        let own = self.effects.as_deref_mut().into_iter();
        own.chain(self.others.iter_mut().filter_map(|other| other.effects.as_deref_mut()))
    }
}

/// A model behind one of its pools.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanTarget {
    /// The model.
    pub model: ModelId,
    /// Which of its routes.
    pub route: usize,
    /// The adapter that is asked for instead.
    pub lora: Option<String>,
    /// Whether, and how hard, it is to reason.
    pub reasoning: Option<Reasoning>,
    /// The replica that the model was chosen with, where both were chosen together.
    pub replica: Option<ReplicaForecast>,
    /// The rule of a cluster's routes that leads there, where those are followed.
    pub via: Option<Arc<FollowedRule>>,
}

/// A rule that a request follows, and to which of its backends.
#[derive(Debug, PartialEq)]
pub struct FollowedRule {
    /// The rule.
    pub rule: Arc<RouteRule>,
    /// The backend, by its place among the rule's.
    pub backend: usize,
    /// The backend's pool.
    pub pool: PoolId,
    /// The part of the path that was matched, where it was by its beginning.
    pub prefix: Option<String>,
}

impl FollowedRule {
    /// What is changed of headers for the backend alone.
    pub fn backend_headers(&self) -> &HeaderFilters {
        &self.rule.backends[self.backend].headers
    }

    /// What the path of a request becomes, where the rule changes it.
    pub fn rewritten_path(&self, path: &str) -> Option<String> {
        let rewrite = self.rule.filters.rewrite.as_ref()?.path.as_ref()?;
        Some(rewrite.apply(path, self.prefix.as_deref()))
    }
}

impl PlanTarget {
    /// The pool.
    #[inline]
    pub fn pool(&self, policy: &Policy) -> PoolId {
        self.via.as_ref().map_or_else(|| self.route(policy).pool, |via| via.pool)
    }

    /// The model's own way there, with its name at the upstream.
    #[inline]
    pub fn route<'a>(&self, policy: &'a Policy) -> &'a Route {
        &policy[self.model].routes[self.route]
    }

    /// The name that its upstream knows it by.
    pub fn upstream_model<'a>(&'a self, policy: &'a Policy) -> &'a str {
        self.lora.as_deref().unwrap_or(&self.route(policy).upstream_model)
    }

    /// The name that clients know it by.
    pub fn public_model<'a>(&'a self, policy: &'a Policy) -> &'a str {
        self.lora.as_deref().unwrap_or(&policy[self.model].name)
    }

    /// The name that its answers give, where its upstream gives another and the policy wants the clients'.
    pub fn answer_model<'a>(&'a self, policy: &'a Policy) -> Option<&'a str> {
        let public = self.public_model(policy);
        let differs = policy.answer_model() == AnswerModel::Public && public != self.upstream_model(policy);
        differs.then_some(public)
    }
}

/// What plugins and guards do to a request and its answer.
#[derive(Debug, Default, Clone)]
pub struct RequestEffects {
    /// The request as the plugins and guards have changed it.
    pub request: Option<ChatRequest>,
    /// Changes to the headers that go upstream.
    pub headers: HeaderChanges,
    /// How long everything may take.
    pub timeout: Option<Duration>,
    /// Another model that gets a copy of some requests.
    pub shadow: Option<ShadowPlan>,
    /// Its priority where a pool has too much to do, as its decision gives it.
    pub priority: Option<i32>,
    /// Whether the answer may be cached.
    pub cache: Option<CacheUse>,
    /// What the answer is checked for.
    pub answer: Option<AnswerGuard>,
    /// Whether a signal says that the answer needs facts.
    pub needs_facts: bool,
    /// What was masked and is put back into the answer.
    pub unmask: MaskedValues,
    /// The prompt's embedding, for the response cache.
    pub embedding: Option<Arc<[f32]>>,
}

/// A model that gets copies of requests, for comparison.
#[derive(Debug, Clone)]
pub struct ShadowPlan {
    /// The model.
    pub model: ModelId,
    /// The share of requests that are copied.
    pub share: BasisPoints,
    /// Where a copy is tried, in order.
    pub targets: Vec<PlanTarget>,
    /// The request as plugins and the model's own guards have changed it; nothing where its guards are those of the
    /// original.
    pub request: Option<ChatRequest>,
}

/// A reply of the proxy's own instead of an upstream's.
#[derive(Debug, Clone, PartialEq)]
pub enum DirectResponse {
    /// The request is not served.
    Rejected(Rejection),
    /// A guard blocks it; how that is said is the policy's choice.
    Blocked(Rejection),
    /// The operator's fixed text.
    Fixed(String),
}

/// Values that were masked: the token that stands in the request, and the original.
pub type MaskedValues = Vec<(String, String)>;
