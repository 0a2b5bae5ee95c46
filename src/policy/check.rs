//! Owns what the policy's parts mean together: names become ids, and everything that cannot be meant is an issue.
//! Refuses to know the text: paths name places, the checker finds them.

use std::cmp::Reverse;
use std::collections::HashMap;

use indexmap::IndexMap;

use super::check_classifier::classifier;
use super::check_pool::pool;
use super::checker::Checker;
use super::issue::Path;
use super::raw::{RawDecision, RawModel, RawPolicy, RawRetry, RawRetryCause, RawRoute};
use super::raw_pool::RawPool;
use super::{BasisPoints, Decision, Model, ModelId, Policy, PoolId, Retry, Route};

/// Turns the raw policy into the final one; what is wrong goes to the checker, and then the result is of no use.
pub(super) fn policy(raw: &RawPolicy, domains: Option<&[&str]>, checker: &mut Checker<'_>) -> Policy {
    let root = Path::default();
    let names = names(&raw.models, checker);
    virtual_models(raw, &names, checker);
    let default_model = default_model(raw, &names, checker);
    let classifier = classifier(&raw.classifier, &root.key("classifier"), checker);
    let decisions = decisions(raw, domains, &names, checker);
    let models = models(raw, checker);
    let pools_path = root.key("pools");
    let pools = raw.pools.iter().map(|(name, raw)| pool(name, raw, &pools_path.key(name), checker)).collect();
    Policy {
        virtual_models: raw.virtual_models.clone(),
        default_model,
        classifier,
        decisions,
        models,
        pools,
        retry: retry(&raw.retry, &root.key("retry"), checker),
        files: std::mem::take(&mut checker.files),
        names,
    }
}

/// Gives every name and alias its model.
fn names(models: &IndexMap<String, RawModel>, checker: &mut Checker<'_>) -> HashMap<String, ModelId> {
    let path = Path::default().key("models");
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

fn virtual_models(raw: &RawPolicy, names: &HashMap<String, ModelId>, checker: &mut Checker<'_>) {
    let path = Path::default().key("virtual_models");
    for (index, name) in raw.virtual_models.iter().enumerate() {
        if names.contains_key(name) {
            checker.issue(&path.index(index), format!("`{name}` names a model already"));
        }
        if raw.virtual_models[..index].contains(name) {
            checker.issue(&path.index(index), format!("`{name}` stands twice"));
        }
    }
}

fn default_model(
    raw: &RawPolicy,
    names: &HashMap<String, ModelId>,
    checker: &mut Checker<'_>,
) -> Option<ModelId> {
    let path = Path::default().key("default_model");
    match &raw.default_model {
        Some(name) => model(name, &path, names, checker),
        None if raw.virtual_models.is_empty() => None,
        None => {
            checker.issue(&path, "the key is missing; `virtual_models` need a model for unknown texts");
            None
        }
    }
}

/// Finds a model by a name that the operator wrote.
fn model(
    name: &str,
    path: &Path,
    names: &HashMap<String, ModelId>,
    checker: &mut Checker<'_>,
) -> Option<ModelId> {
    let found = names.get(name).copied();
    if found.is_none() {
        checker.unknown(path, "model", name, names.keys().map(String::as_str));
    }
    found
}

fn decisions(
    raw: &RawPolicy,
    domains: Option<&[&str]>,
    names: &HashMap<String, ModelId>,
    checker: &mut Checker<'_>,
) -> Vec<Decision> {
    let path = Path::default().key("decisions");
    if raw.virtual_models.is_empty() && !raw.decisions.is_empty() {
        checker.issue(&path, "without `virtual_models` no request asks for a decision");
    }
    let mut decisions = Vec::new();
    for (index, decision) in raw.decisions.iter().enumerate() {
        let path = path.index(index);
        if raw.decisions[..index].iter().any(|other| other.name == decision.name) {
            checker
                .issue(&path.key("name"), format!("another decision is named `{}` already", decision.name));
        }
        checker.name(&path.key("name"), &decision.name);
        check_domains(decision, &path.key("domains"), domains, checker);
        let Some(model) = model(&decision.model, &path.key("model"), names, checker) else { continue };
        decisions.push(Decision {
            name: decision.name.clone(),
            description: decision.description.clone().unwrap_or_default(),
            priority: decision.priority,
            domains: decision.domains.clone(),
            min_confidence: BasisPoints::from_fraction(
                decision.min_confidence.unwrap_or(raw.classifier.min_confidence),
            ),
            model,
        });
    }
    // The sort is stable, so ties keep the order of the file.
    decisions.sort_by_key(|decision| Reverse(decision.priority));
    decisions
}

fn check_domains(decision: &RawDecision, path: &Path, known: Option<&[&str]>, checker: &mut Checker<'_>) {
    for (index, domain) in decision.domains.iter().enumerate() {
        if let Some(known) = known.filter(|known| !known.contains(&domain.as_str())) {
            checker.unknown(&path.index(index), "domain", domain, known.iter().copied());
        }
        if decision.domains[..index].contains(domain) {
            checker.issue(&path.index(index), format!("`{domain}` stands twice"));
        }
    }
}

fn models(raw: &RawPolicy, checker: &mut Checker<'_>) -> Vec<Model> {
    let path = Path::default().key("models");
    let mut models = Vec::with_capacity(raw.models.len());
    for (name, model) in &raw.models {
        let path = path.key(name);
        let upstream = model.upstream_model.as_ref().unwrap_or(name);
        if upstream.is_empty() {
            checker.issue(&path.key("upstream_model"), "must not be empty");
        }
        models.push(Model {
            name: name.clone(),
            aliases: model.aliases.clone(),
            routes: routes(&model.pools, upstream, &path.key("pools"), &raw.pools, checker),
            owned_by: model.owned_by.clone(),
        });
    }
    models
}

fn routes(
    raw: &[RawRoute],
    upstream_model: &str,
    path: &Path,
    pools: &IndexMap<String, RawPool>,
    checker: &mut Checker<'_>,
) -> Vec<Route> {
    let mut routes = Vec::with_capacity(raw.len());
    for (index, route) in raw.iter().enumerate() {
        let path = path.index(index);
        let (name, name_path, upstream_model) = match route {
            RawRoute::Name(name) => (name, path.clone(), upstream_model),
            RawRoute::Full(full) => {
                let upstream_model = full.upstream_model.as_deref().unwrap_or(upstream_model);
                (&full.pool, path.key("pool"), upstream_model)
            }
        };
        let Some(id) = pools.get_index_of(name) else {
            checker.unknown(&name_path, "pool", name, pools.keys().map(String::as_str));
            continue;
        };
        let route = Route { pool: PoolId(id), upstream_model: upstream_model.to_owned() };
        if routes.contains(&route) {
            checker.issue(&path, format!("the pool `{name}` stands twice"));
        }
        routes.push(route);
    }
    routes
}

fn retry(raw: &RawRetry, path: &Path, checker: &mut Checker<'_>) -> Retry {
    let mut retry = Retry {
        attempts: raw.attempts,
        on_connect: false,
        on_reset: false,
        on_status: Vec::new(),
        budget_share: BasisPoints::from_fraction(raw.budget.share),
        budget_min_per_second: raw.budget.min_per_second,
    };
    for (index, cause) in raw.on.iter().enumerate() {
        if raw.on[..index].contains(cause) {
            checker.issue(&path.key("on").index(index), "stands twice");
        }
        match cause {
            RawRetryCause::Connect => retry.on_connect = true,
            RawRetryCause::Reset => retry.on_reset = true,
            RawRetryCause::Status429 => retry.on_status.push(429),
            RawRetryCause::Status500 => retry.on_status.push(500),
            RawRetryCause::Status502 => retry.on_status.push(502),
            RawRetryCause::Status503 => retry.on_status.push(503),
            RawRetryCause::Status504 => retry.on_status.push(504),
        }
    }
    retry
}
