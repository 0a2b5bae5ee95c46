//! Owns how the policy in force is put together: the operator's file, and over it what routes of a cluster say of where
//! requests go.
//!
//! The file and the routes change by themselves; neither writer undoes what the other wrote.

use crate::http_route::{BackendId, BackendPool, ModelHeaders, RoutedTraffic};
use crate::policy::{Model, Policy, PoolId, PoolSpec};
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
}

impl RoutedPools {
    /// The pool of a backend; nothing where the policy has none of the name that is meant.
    pub fn pool(&self, BackendId(backend): BackendId) -> Option<PoolId> {
        *self.pools.get(backend)?
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
    let routed = RoutedPools { traffic, pools };
    let policy = Arc::new(file.with_routes(own, &kept, &|model| pools_for(model, &routed)));
    PolicyLayers { file, policy, routed: Some(Arc::new(routed)) }
}

/// The pools that a model's requests may go to, whatever else they have, those of the first rule first.
fn pools_for(model: &Model, routed: &RoutedPools) -> Vec<PoolId> {
    let asked = std::iter::once(&model.name).chain(&model.loras);
    let mut found = Vec::new();
    for asked in asked {
        let rules = routed.traffic.table.rules_for(ModelHeaders { selected: &model.name, asked });
        let backends = rules.into_iter().flat_map(|rule| &rule.backends).filter(|backend| backend.weight > 0);
        for pool in backends.filter_map(|backend| routed.pool(backend.backend?)) {
            if !found.contains(&pool) {
                found.push(pool);
            }
        }
    }
    found
}
