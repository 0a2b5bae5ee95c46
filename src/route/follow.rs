//! Owns where the routes of a cluster send a request whose model is decided: the pools of its plan become those of the
//! rules that it matches.
//!
//! Knows no sockets, and nothing of where routes come from.

use super::plan::{FollowedRule, Plan, PlanTarget};
use crate::http_route::{FoundRoute, ModelHeaders, ModelRewrite, RouteBackend, RouteQuery, RouteRule};
use crate::policy::Policy;
use crate::snapshot::RoutedPools;
use std::sync::Arc;

/// How routes end a request here.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteEnd {
    /// None matches.
    NoRoute,
    /// The backend that it falls to is not known.
    InvalidBackend,
    /// The rule leads to where models answer, and the request is none that can be checked as theirs are.
    Unchecked,
    /// The rule sends the client elsewhere.
    Redirected {
        /// The rule.
        rule: Arc<RouteRule>,
        /// The part of the path that was matched, where it was by its beginning.
        prefix: Option<String>,
    },
}

/// Turns a plan's targets to the backends of the rules that its models match; `random` is from 0 to 1.
///
/// The first model decides: where its requests match nothing, this one does not. A fall-back without a rule is left out.
pub fn follow_routes(
    policy: &Policy,
    routed: &RoutedPools,
    plan: &mut Plan,
    query: RouteQuery<'_>,
    random: f64,
) -> Result<(), RouteEnd> {
    let mut targets = Vec::new();
    for (index, target) in plan.targets.iter().enumerate() {
        let is_known = |other: &PlanTarget| other.model == target.model && other.lora == target.lora;
        if plan.targets[..index].iter().any(is_known) {
            continue;
        }
        let name = &policy[target.model].name;
        let model = ModelHeaders { selected: name, asked: target.lora.as_deref().unwrap_or(name) };
        let found = routed.traffic.table.find(&RouteQuery { model: Some(model), ..query });
        let followed = follow(routed, found, random);
        match followed {
            Ok(rules) => {
                let turn = |via: Arc<FollowedRule>| {
                    let name = rewritten(routed, &via, model.asked, random);
                    let target = turned(policy, &plan.targets, target, via);
                    PlanTarget { lora: name.or(target.lora.clone()), ..target }
                };
                targets.extend(rules.into_iter().map(turn));
            }
            Err(end) if index == 0 => return Err(end),
            Err(_) => {}
        }
    }
    plan.targets = targets;
    Ok(())
}

/// The backends of a rule, in the order in which they are tried; never none.
pub(super) fn follow(
    routed: &RoutedPools,
    found: Option<FoundRoute<'_>>,
    random: f64,
) -> Result<Vec<Arc<FollowedRule>>, RouteEnd> {
    let FoundRoute { rule, prefix } = found.ok_or(RouteEnd::NoRoute)?;
    let prefix = prefix.map(str::to_owned);
    if rule.filters.redirect.is_some() {
        return Err(RouteEnd::Redirected { rule: Arc::clone(rule), prefix });
    }
    let chosen = rule.choose(random).ok_or(RouteEnd::InvalidBackend)?;
    let to = |one: &RouteBackend| {
        let pool = routed.pool(one.backend?)?;
        let backend = rule.backends.iter().position(|other| std::ptr::eq(other, one))?;
        Some(Arc::new(FollowedRule { rule: Arc::clone(rule), backend, pool, prefix: prefix.clone() }))
    };
    let mut followed = chosen.into_iter().map(to);
    // Its share is not the others'.
    let first = followed.next().flatten().ok_or(RouteEnd::InvalidBackend)?;
    Ok(std::iter::once(first).chain(followed.flatten()).collect())
}

/// What a model is called at a backend, where an object of the cluster says so: the first that names it, else that names all.
fn rewritten(routed: &RoutedPools, via: &FollowedRule, asked: &str, random: f64) -> Option<String> {
    let backend = via.rule.backends[via.backend].backend?;
    let is_meant = |rule: &&ModelRewrite| {
        rule.backend == backend && (rule.models.is_empty() || rule.models.iter().any(|model| model == asked))
    };
    let rule = routed.traffic.inference.rewrites.iter().find(is_meant)?;
    let total: u64 = rule.targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut left = (random.clamp(0.0, 1.0) * total as f64) as u64;
    let falls_on = |(_, weight): &&(String, u32)| {
        let is_it = left < u64::from(*weight);
        left = left.saturating_sub(u64::from(*weight));
        is_it
    };
    let chosen = rule.targets.iter().find(falls_on).or_else(|| rule.targets.last());
    chosen.map(|(name, _)| name.clone())
}

/// A target of a plan behind the backend of a rule. The replica that its model was chosen with is kept where it is of that
/// backend.
fn turned(
    policy: &Policy,
    targets: &[PlanTarget],
    target: &PlanTarget,
    via: Arc<FollowedRule>,
) -> PlanTarget {
    let model = &policy[target.model];
    let route = model.routes.iter().position(|route| route.pool == via.pool).unwrap_or(target.route);
    let of_model = targets.iter().filter(|other| other.model == target.model && other.lora == target.lora);
    let replica = of_model.filter(|other| other.route == route).find_map(|other| other.replica);
    PlanTarget { route, replica, via: Some(via), ..target.clone() }
}
