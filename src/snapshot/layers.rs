//! Owns how the policy in force is put together: the operator's file, and over it what routes of a cluster say of where
//! requests go.
//!
//! The file and the routes change by themselves; neither writer undoes what the other wrote.

use crate::http_route::{ApiRoutes, BackendId, BackendPool, ModelHeaders, RoutedTraffic};
use crate::policy::{Balance, KubeObject, Model, Policy, PoolId, PoolSpec};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A policy and what it is put together from.
#[derive(Clone)]
pub struct PolicyLayers {
    file: Arc<Policy>,
    policy: Arc<Policy>,
    routed: Option<Arc<RoutedPools>>,
}

/// What routes say, and which pools of the policy in force their backends are.
#[derive(Debug)]
pub struct RoutedPools {
    /// What routes say.
    pub traffic: Arc<RoutedTraffic>,
    pools: Vec<Option<PoolId>>,
    /// How many pools are the policy's own; those of routes come after them.
    of_policy: usize,
    /// Those that answer models' requests.
    of_models: BTreeSet<PoolId>,
}

impl RoutedPools {
    /// The pool of a backend; nothing where the policy has none of the name that is meant.
    pub fn pool(&self, BackendId(backend): BackendId) -> Option<PoolId> {
        *self.pools.get(backend)?
    }

    /// Whether a pool is one of the policy's own.
    pub fn is_of_policy(&self, PoolId(pool): PoolId) -> bool {
        pool < self.of_policy
    }

    /// Whether models' requests may go to a pool, so that whatever goes there may have to be checked as those are.
    pub fn answers_models(&self, pool: PoolId) -> bool {
        self.of_models.contains(&pool)
    }
}

impl From<Arc<Policy>> for PolicyLayers {
    /// A policy without routes: requests go where it says itself.
    fn from(file: Arc<Policy>) -> Self {
        Self { policy: Arc::clone(&file), file, routed: None }
    }
}

impl PolicyLayers {
    /// The policy in force.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The operator's own.
    pub fn file(&self) -> &Arc<Policy> {
        &self.file
    }

    /// What routes say, where they are followed.
    pub fn routed(&self) -> Option<&RoutedPools> {
        self.routed.as_deref()
    }

    /// The same with another file.
    #[must_use]
    pub fn with_file(&self, file: Arc<Policy>) -> Self {
        match &self.routed {
            Some(routed) => compose(file, Arc::clone(&routed.traffic)),
            None => Self::from(file),
        }
    }

    /// The same with other routes.
    #[must_use]
    pub fn with_traffic(&self, traffic: Arc<RoutedTraffic>) -> Self {
        compose(Arc::clone(&self.file), traffic)
    }
}

fn compose(file: Arc<Policy>, traffic: Arc<RoutedTraffic>) -> PolicyLayers {
    let mut own: Vec<PoolSpec> = Vec::new();
    let mut pool = |backend: &BackendPool| match backend {
        BackendPool::Own(spec) => {
            own.push(PoolSpec::clone(spec));
            Some(PoolId(file.pools.len() + own.len() - 1))
        }
        BackendPool::OfPolicy(name) => file.pools.iter().position(|pool| pool.name == *name).map(PoolId),
    };
    let pools: Vec<Option<PoolId>> = traffic.backends.iter().map(&mut pool).collect();
    let kept: Vec<PoolId> =
        pools.iter().flatten().filter(|PoolId(id)| *id < file.pools.len()).copied().collect();
    let mut routed = RoutedPools { traffic, pools, of_policy: file.pools.len(), of_models: BTreeSet::new() };
    let names_engines = |pool: &PoolSpec| {
        pool.probes
            .discovered
            .iter()
            .any(|source| matches!(source.selection.object, KubeObject::InferencePool { .. }))
    };
    let engines = own.iter().enumerate().filter(|(_, pool)| names_engines(pool));
    let engines = engines.map(|(index, _)| PoolId(file.pools.len() + index));
    let traffic = Arc::clone(&routed.traffic);
    let reachable = ApiRoutes::of(&traffic.table);
    let of_models = file.models.iter().flat_map(|model| pools_for(model, &routed, &reachable));
    // Pools of the file are there for models alone.
    routed.of_models = engines.chain(of_models).chain((0..file.pools.len()).map(PoolId)).collect();
    for (index, pool) in own.iter_mut().enumerate() {
        if !routed.of_models.contains(&PoolId(file.pools.len() + index)) {
            // No engine: there are no figures to read, and no prompts to go by.
            (pool.balance, pool.probes.metrics) = (Balance::LeastRequest, None);
        }
    }
    let policy = Arc::new(file.with_routes(own, &kept, &|model| pools_for(model, &routed, &reachable)));
    PolicyLayers { file, policy, routed: Some(Arc::new(routed)) }
}

/// The pools that a model's requests may go to, whatever else they have, those of the first rule first.
fn pools_for(model: &Model, routed: &RoutedPools, reachable: &ApiRoutes<'_>) -> Vec<PoolId> {
    let asked = std::iter::once(&model.name).chain(&model.loras);
    let mut found = Vec::new();
    for asked in asked {
        let rules = reachable.rules_for(ModelHeaders { selected: &model.name, asked });
        let backends = rules.into_iter().flat_map(|rule| &rule.backends).filter(|backend| backend.weight > 0);
        for pool in backends.filter_map(|backend| routed.pool(backend.backend?)) {
            if !found.contains(&pool) {
                found.push(pool);
            }
        }
    }
    found
}
