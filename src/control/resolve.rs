//! Owns the names of endpoints: resolving them without blocking anybody, again and again, each address an endpoint.
//!
//! A name that stops resolving keeps its last addresses. Knows nothing of health.

use crate::policy::Policy;
use crate::snapshot::{Addresses, Live, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one look-up may take.
const LOOKUP: Duration = Duration::from_secs(2);

/// Resolves all names of a policy at once; what fails keeps what is known of it.
pub async fn resolve_all(policy: &Policy, known: &Addresses) -> Addresses {
    let endpoints = policy.pools.iter().flat_map(|pool| &pool.endpoints);
    let keys: BTreeSet<(String, u16)> =
        endpoints.map(|endpoint| (endpoint.host.clone(), endpoint.port)).collect();
    let lookups = keys.into_iter().map(|key| async move {
        let addresses = resolve(&key.0, key.1).await.or_else(|| known.get(&key).cloned());
        Some((key, addresses?))
    });
    futures::future::join_all(lookups).await.into_iter().flatten().collect()
}

/// The addresses of a name, sorted; `None` when it does not resolve in time.
async fn resolve(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(address, port)]);
    }
    let lookup = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, port))).await;
    let mut addresses: Vec<SocketAddr> = match lookup {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            tracing::warn!(host, %error, "name does not resolve");
            return None;
        }
        Err(_elapsed) => {
            tracing::warn!(host, "name does not resolve in time");
            return None;
        }
    };
    addresses.sort_unstable();
    addresses.dedup();
    (!addresses.is_empty()).then_some(addresses)
}

/// Resolves the live policy's names again when their time comes.
pub struct Resolver {
    live: Arc<Live>,
}

impl Resolver {
    /// Makes a resolver for the live snapshot.
    pub fn new(live: Arc<Live>) -> Self {
        Self { live }
    }

    /// Resolves for ever; each pool in its own interval, rounded up to half a second.
    pub async fn run(self) {
        const TICK: Duration = Duration::from_millis(500);
        let mut due: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            tokio::time::sleep(TICK).await;
            let live = self.live.load();
            let now = Instant::now();
            let mut stale = false;
            for pool in &live.policy.pools {
                let named = pool.endpoints.iter().any(|endpoint| endpoint.host.parse::<IpAddr>().is_err());
                let next = due.entry(pool.name.clone()).or_insert(now + pool.resolve_interval);
                if named && *next <= now {
                    *next = now + pool.resolve_interval;
                    stale = true;
                }
            }
            due.retain(|name, _| live.policy.pools.iter().any(|pool| pool.name == *name));
            if stale {
                self.refresh(&live).await;
            }
        }
    }

    async fn refresh(&self, live: &Snapshot) {
        let addresses = Arc::new(resolve_all(&live.policy, &live.addresses).await);
        let published = self.live.update(|current| {
            // A policy that came meanwhile resolved its own names.
            if !Arc::ptr_eq(&current.policy, &live.policy) || *current.addresses == *addresses {
                return Ok(None);
            }
            Snapshot::build(Arc::clone(&current.policy), Arc::clone(&addresses), Some(current)).map(Some)
        });
        match published {
            Ok(true) => tracing::info!("endpoints changed with their names"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "endpoints could not be changed"),
        }
    }
}
