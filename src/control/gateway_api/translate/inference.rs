//! Owns what the inference extension's objects say of requests: how urgent an objective is, and which names of models stand
//! for others in a pool.

use super::super::cluster::Cluster;
use super::super::conditions::{ObjectCondition, ObjectStatus, ToldCondition, WantedStatus, values};
use super::super::kinds::ObjectKind;
use super::super::objects::{ApiObject, ObjectRef, RewriteRule};
use super::backends::Backends;
use crate::http_route::{InferenceRules, ModelRewrite};
use crate::policy::ObjectName;
use serde_json::json;

/// Reads the objectives and the rewrites of the pools that routes lead to.
pub(super) fn translate(
    cluster: &Cluster<'_>,
    backends: &Backends<'_>,
) -> (InferenceRules, Vec<ObjectStatus>) {
    let mut rules = InferenceRules::default();
    let mut statuses = Vec::new();
    for (kind, objective) in &cluster.inference.objectives {
        let accepted = accepted(cluster, &objective.spec.pool_ref, &objective.name);
        if accepted.is_true {
            // Two namespaces may have one of a name: clients name no namespace, and the older holds.
            let name = objective.name.name.clone();
            rules.objectives.entry(name).or_insert(objective.spec.priority.unwrap_or(0));
        }
        statuses.push(status(*kind, objective, accepted));
    }
    for (kind, rewrite) in &cluster.inference.rewrites {
        let accepted = accepted(cluster, &rewrite.spec.pool_ref, &rewrite.name);
        if let Some(backend) = backends
            .of_pool(&rewrite.spec.pool_ref.object(&rewrite.name.namespace))
            .filter(|_| accepted.is_true)
        {
            let of_rule =
                |rule: &RewriteRule| ModelRewrite { backend, models: models(rule), targets: targets(rule) };
            rules
                .rewrites
                .extend(rewrite.spec.rules.iter().map(of_rule).filter(|rule| !rule.targets.is_empty()));
        }
        statuses.push(status(*kind, rewrite, accepted));
    }
    // One that names a model comes before those that name none; else the older object's first rule.
    rules.rewrites.sort_by_key(|rule| rule.models.is_empty());
    (rules, statuses)
}

fn accepted(cluster: &Cluster<'_>, pool: &ObjectRef, from: &ObjectName) -> ObjectCondition {
    let name = pool.object(&from.namespace);
    if cluster.pools.contains_key(&name) {
        return ObjectCondition::holds("Accepted", "Accepted");
    }
    ObjectCondition::fails("Accepted", "TargetNotFound", format!("there is no InferencePool {name}"))
}

/// The names that a rule holds for; none stands for all.
fn models(rule: &RewriteRule) -> Vec<String> {
    let values = rule.matches.iter().map(|one| one.model.as_ref().map(|model| model.value.clone()));
    // A match without a model matches all.
    values.collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn targets(rule: &RewriteRule) -> Vec<(String, u32)> {
    let target = |target: &super::super::objects::RewriteTarget| {
        (target.model_rewrite.clone(), target.weight.unwrap_or(1))
    };
    rule.targets.iter().map(target).filter(|(name, weight)| !name.is_empty() && *weight > 0).collect()
}

fn status<S>(kind: ObjectKind, object: &ApiObject<S>, accepted: ObjectCondition) -> ObjectStatus {
    ObjectStatus {
        kind,
        name: object.name.clone(),
        wanted: WantedStatus::Keys(json!({
            "conditions": values(std::slice::from_ref(&accepted), object.meta.generation),
        })),
        told: vec![ToldCondition { about: String::new(), condition: accepted }],
    }
}
