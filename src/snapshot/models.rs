//! Owns what is measured and remembered of the models: how quick each is, and which of them sessions have.

use crate::balance::{LatencyStats, StickySessions};
use crate::policy::{ModelId, Policy, StickyOn};
use std::sync::Arc;

/// The state behind the choice among models.
pub struct ModelState {
    /// How quick the models are, by [`ModelId`]; kept as long as a model keeps its name.
    latencies: Vec<Arc<LatencyStats>>,
    /// Whether a decision chooses by how quick models are, so that it has to be measured.
    pub measures_latency: bool,
    /// Which models sessions have; shared by all snapshots.
    pub sticky_sessions: Arc<StickySessions>,
    /// The headers that decisions keep sessions on their models by, in lower case.
    pub sticky_headers: Vec<String>,
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
            sticky_headers: sticky_headers(policy),
        }
    }

    /// How quick a model is.
    pub fn latency(&self, ModelId(id): ModelId) -> &Arc<LatencyStats> {
        &self.latencies[id]
    }
}

fn sticky_headers(policy: &Policy) -> Vec<String> {
    let mut names = Vec::new();
    for sticky in policy.decisions().filter_map(|decision| decision.sticky.as_ref()) {
        if let StickyOn::Header(name) = &sticky.on
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }
    names
}
