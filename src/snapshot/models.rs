//! Owns what is measured and remembered of the models: how quick each is, and which of them sessions have.

use crate::balance::{LatencyStats, StickySessions};
use crate::policy::{ModelId, Policy, Sticky, StickyOn};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The state behind the choice among models.
pub struct ModelState {
    /// How quick the models are, by [`ModelId`]; kept as long as a model keeps its name.
    latencies: Vec<Arc<LatencyStats>>,
    /// Whether a decision chooses by how quick models are, so that it has to be measured.
    pub measures_latency: bool,
    /// Which models sessions have; shared by all snapshots.
    pub sticky_sessions: Arc<StickySessions>,
    /// Which decision and model conversations have; shared by all snapshots.
    pub conversations: Arc<StickySessions<HeldRoute>>,
    /// Which conversations responses belong to, by the hash of their ids; shared by all snapshots.
    pub response_conversations: Arc<StickySessions<u64>>,
    /// The headers that decisions keep sessions on their models by, in lower case.
    pub sticky_headers: Vec<String>,
}

/// The decision and the model that a conversation has, by their names: they outlive a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRoute {
    /// The decision.
    pub decision: Arc<str>,
    /// The model.
    pub model: Arc<str>,
}

impl ModelState {
    /// Builds the state for `policy`; models of the same name in `previous`, with its policy, keep theirs.
    pub(super) fn build(policy: &Policy, previous: Option<(&Policy, &Self)>) -> Self {
        let kept = |name: &str| {
            let (policy, state) = previous?;
            let at = policy.models.iter().position(|model| model.name == name)?;
            Some(Arc::clone(&state.latencies[at]))
        };
        Self {
            latencies: policy.models.iter().map(|model| kept(&model.name).unwrap_or_default()).collect(),
            measures_latency: policy.decisions().any(|decision| decision.models.len() > 1),
            sticky_sessions: previous
                .map_or_else(Arc::default, |(_, state)| Arc::clone(&state.sticky_sessions)),
            conversations: previous.map_or_else(Arc::default, |(_, state)| Arc::clone(&state.conversations)),
            response_conversations: previous
                .map_or_else(Arc::default, |(_, state)| Arc::clone(&state.response_conversations)),
            sticky_headers: sticky_headers(policy),
        }
    }

    /// How quick a model is.
    pub fn latency(&self, ModelId(id): ModelId) -> &Arc<LatencyStats> {
        &self.latencies[id]
    }
}

fn sticky_headers(policy: &Policy) -> Vec<String> {
    let on_header = |sticky: &Sticky| match &sticky.key {
        StickyOn::Header(name) => Some(name.clone()),
        _ => None,
    };
    let of_decisions = policy.decisions().filter_map(|decision| on_header(decision.sticky.as_ref()?));
    let kept = policy
        .recipes
        .iter()
        .filter(|recipe| recipe.keeps_conversations())
        .flat_map(|recipe| recipe.conversations.headers.clone());
    let names: BTreeSet<String> = of_decisions.chain(kept).collect();
    names.into_iter().collect()
}
