//! Owns what routes of a cluster add to a policy: pools of their own, and which pools a model's requests go to then.
//! Refuses to know where routes come from.

use std::path::Path;

use indexmap::IndexMap;
use serde_json::Value;

use super::checker::Checker;
use super::environment::Fixed;
use super::issue::{Issue, Issues, YamlPath};
use super::model::{Model, Route};
use super::pool::{PoolNames, PoolSpec, RawPool};
use super::{Policy, PoolId, yaml};

/// The pool that stands for a model which no route leads to: it has no endpoint.
const NOWHERE: &str = "unrouted";

/// Which pools the routes of a cluster have for a model.
pub type RoutedModels<'a> = dyn Fn(&Model) -> Vec<PoolId> + 'a;

/// Makes a pool of what a policy would say of it.
pub fn routed_pool(name: &str, written: Value) -> Result<PoolSpec, Issues> {
    let fault = |message: String| {
        Issues(vec![Issue {
            path: String::new(),
            line: 1,
            column: 1,
            message,
            suggestion: None,
            excerpt: None,
        }])
    };
    let raw: RawPool = serde_json::from_value(written).map_err(|error| fault(error.to_string()))?;
    let tree = yaml::parse("{}").map_err(|issue| Issues(vec![issue]))?;
    let environment = Fixed::default();
    let mut checker = Checker::new(&tree, Path::new("."), &environment, &[]);
    let pool = raw.check(name, &PoolNames::of(&IndexMap::new()), &YamlPath::default(), &mut checker);
    if checker.issues.is_empty() { Ok(pool) } else { Err(Issues::sorted(checker.issues, "")) }
}

impl Policy {
    /// Gives this policy with further pools behind its own, where the requests of every model go to the pools that routes
    /// have for it, and nowhere where there are none. Of its own pools those that routes lead to, by `kept`, are left with
    /// their endpoints: nothing is looked up, and nobody asked, for the others.
    ///
    /// The name that a pool's endpoints know a model by is that of the model's first own pool, unless the pool is one of
    /// the model's own.
    #[must_use]
    pub fn with_routes(&self, mut pools: Vec<PoolSpec>, kept: &[PoolId], routed: &RoutedModels<'_>) -> Self {
        for pool in &mut pools {
            pool.set_admission(self.admission.is_some());
        }
        let mut policy = self.clone();
        let prefilling: Vec<PoolId> =
            kept.iter().filter_map(|pool| Some(self[*pool].prefill.as_ref()?.pool)).collect();
        for (index, pool) in policy.pools.iter_mut().enumerate() {
            if !kept.contains(&PoolId(index)) && !prefilling.contains(&PoolId(index)) {
                pool.endpoints.clear();
                pool.probes.discovered.clear();
            }
        }
        policy.pools.extend(pools);
        let nowhere = PoolId(policy.pools.len());
        policy.pools.extend(nowhere_pool());
        for model in &mut policy.models {
            let mut found = routed(model);
            let own = std::mem::take(&mut model.routes);
            let usual = own.first().map_or(&model.name, |route| &route.upstream_model);
            if found.is_empty() {
                found.push(nowhere);
            }
            let known_as = |pool| {
                own.iter().find(|route| route.pool == pool).map_or(usual, |route| &route.upstream_model)
            };
            model.routes = found
                .into_iter()
                .map(|pool| Route { pool, upstream_model: known_as(pool).clone() })
                .collect();
        }
        policy
    }
}

fn nowhere_pool() -> Option<PoolSpec> {
    let mut pool =
        routed_pool(NOWHERE, serde_json::json!({"endpoints": ["127.0.0.1:1"], "health": {"enabled": false}}))
            .ok()?;
    pool.endpoints.clear();
    Some(pool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_model_goes_where_routes_lead_under_the_name_that_is_known_there() {
        let text = "version: 1\nmodels:\n  m: {pools: [own, {pool: other, upstream_model: theirs}], upstream_model: ours}\n  \
                    n: {pools: [own]}\npools:\n  own: {endpoints: ['a:1']}\n  other: {endpoints: ['b:1']}\n";
        let policy = crate::load(text, Path::new("."), &Fixed::default(), None).unwrap();
        let extra = routed_pool("extra", json!({"service": "s", "port": "http", "namespace": "x"})).unwrap();
        let routed = |model: &Model| if model.name == "m" { vec![PoolId(2), PoolId(1)] } else { Vec::new() };
        let routed = policy.with_routes(vec![extra], &[PoolId(1)], &routed);
        let names: Vec<_> = routed.models.iter().flat_map(|model| &model.routes).collect();
        let names: Vec<_> =
            names.iter().map(|route| (&*routed[route.pool].name, &*route.upstream_model)).collect();
        assert_eq!(names, [("extra", "ours"), ("other", "theirs"), (NOWHERE, "n")]);
        let counts: Vec<usize> = routed.pools.iter().map(|pool| pool.endpoints.len()).collect();
        assert_eq!(counts, [0, 1, 0, 0], "only what routes lead to has endpoints");
        assert_eq!(policy.pools.len(), 2, "the file's own stays as it is");
    }

    #[test]
    fn a_pool_that_a_policy_could_not_have_is_refused() {
        let fault = |value| routed_pool("p", value).unwrap_err().to_string();
        assert!(fault(json!({"endpoints": ["nowhere"]})).contains("nowhere"));
        assert!(fault(json!({"port": 80})).contains("service"));
        assert!(fault(json!({"endpoints": 5})).contains("sequence"));
    }
}
