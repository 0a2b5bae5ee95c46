//! Owns what is known before a request is planned of where it may go, and whether that is worth a plan.
//!
//! Knows nothing of what waits: the gates of the pools do.

use super::decision::RequestedModel;
use super::plan::PlanTarget;
use crate::openai::ChatRequest;
use crate::policy::{AppliesTo, Decision, ModelId, PoolId, PriorityInput};
use crate::snapshot::Snapshot;
use std::time::Instant;

/// Finds a pool for want of whose room a request is refused whatever comes of its plan: all pools that it may go to are
/// saturated, and its priority is negative whatever decides.
///
/// Nothing is found where a decision may answer it without a pool.
pub fn find_saturated_pool(
    snapshot: &Snapshot,
    request: &ChatRequest,
    client: PriorityInput<'_>,
    now: Instant,
) -> Option<PoolId> {
    let policy = &snapshot.policy;
    let admission = policy.admission.as_ref()?;
    let requested = RequestedModel::find(policy, request.model()).ok()?;
    let (decisions, own): (Vec<&Decision>, Option<ModelId>) = match requested {
        RequestedModel::Named { model, .. } => {
            let all = policy.recipes[0].decisions.iter();
            (all.filter(|decision| decision.when.applies_to == AppliesTo::All).collect(), Some(model))
        }
        RequestedModel::Virtual(recipe) => (recipe.decisions.iter().collect(), recipe.default_model),
    };
    let is_named = matches!(requested, RequestedModel::Named { .. });
    let routed = decisions.iter().filter(|_| !is_named);
    let models = routed
        .flat_map(|decision| {
            decision.models.iter().map(|one| one.model).chain(decision.fallback.iter().copied())
        })
        .chain(own);
    let mut first = None;
    let mut priority = None;
    for model in models {
        for route in &policy[model].routes {
            snapshot.pool(route.pool).gate().filter(|gate| gate.sheds(now))?;
            first.get_or_insert(route.pool);
        }
        let given = decisions.iter().map(|decision| decision.plugins.priority).chain([None]);
        let own = given.map(|decision| {
            admission.priority(PriorityInput { decision, model: policy[model].priority, ..client })
        });
        priority = priority.max(own.max());
    }
    let needs_no_pool =
        |decision: &&Decision| decision.plugins.respond.is_some() || decision.plugins.cache.is_some();
    let is_certain = priority.is_some_and(|highest| highest < 0) && !decisions.iter().any(needs_no_pool);
    first.filter(|_| is_certain)
}

/// Finds the place of the target that a request goes to, or waits for: the first whose pool has room, else the first that
/// has any endpoint.
pub fn find_target_with_room(snapshot: &Snapshot, targets: &[PlanTarget], now: Instant) -> usize {
    let pool = |target: &PlanTarget| snapshot.pool(target.route(&snapshot.policy).pool);
    let is_there = |target: &&PlanTarget| pool(target).available(now) > 0;
    let has_room = |target: &PlanTarget| pool(target).gate().is_none_or(|gate| !gate.sheds(now));
    let place = targets.iter().position(|target| is_there(&target) && has_room(target));
    place.or_else(|| targets.iter().position(|target| is_there(&target))).unwrap_or(0)
}
