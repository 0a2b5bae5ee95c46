//! Owns the sources of endpoints: each keeps its own slot of the live snapshot in step.
//!
//! A source of names and addresses is a [`ServiceDiscovery`] of Pingora's. Its `LoadBalancer` is not used: that would be a second place for
//! membership and health beside the snapshot, with neither leases nor outlier detection. Knows nothing of health.
//!
//! A further one is a file here, a variant of [`EndpointSource`] and its arm in [`discovery_of`]. Kubernetes pushes what it
//! knows, so it is followed by watches instead.

mod dns;
mod kube;

pub(super) use self::kube::{ClusterApi, KubeKind, ObjectWatch, Observation, WatchScope, WriteFault};
pub use self::kube::{KubeSources, SourceState};

use crate::policy::Policy;
use crate::snapshot::{EndpointSlot, EndpointSlots, EndpointSource, HostPort, KubeSlot, Live, Snapshot};
use dns::DnsName;
use pingora_load_balancing::discovery::{ServiceDiscovery, Static};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Discovery = Box<dyn ServiceDiscovery + Send + Sync>;

/// Finds the endpoints of a policy that `known` does not have yet, all at once.
pub async fn discover_new(policy: &Policy, known: &EndpointSlots, kube: &KubeSources) -> EndpointSlots {
    let mut hosts: BTreeMap<EndpointSource, BTreeSet<HostPort>> = BTreeMap::new();
    for host in HostPort::all(policy).into_iter().filter(|host| !known.contains(host)) {
        hosts.entry(source_of(&host)).or_default().insert(host);
    }
    let mut slots = EndpointSlots::default();
    for (source, hosts) in hosts {
        slots.refresh(source, discover(source, hosts).await);
    }
    slots.refresh_kube(kube.find(policy).await);
    slots
}

/// Asks a source for all of these hosts at once; those of which it finds nothing are left out.
async fn discover(source: EndpointSource, hosts: BTreeSet<HostPort>) -> EndpointSlot {
    let lookups = hosts.into_iter().map(|host| async move {
        let addresses = addresses(&*discovery_of(source, &host)?).await?;
        Some((host, addresses))
    });
    futures::future::join_all(lookups).await.into_iter().flatten().collect()
}

fn source_of(host: &HostPort) -> EndpointSource {
    match host.host.parse::<IpAddr>() {
        Ok(_) => EndpointSource::Static,
        Err(_) => EndpointSource::Dns,
    }
}

fn discovery_of(source: EndpointSource, host: &HostPort) -> Option<Discovery> {
    match source {
        EndpointSource::Static => {
            let address = SocketAddr::new(host.host.parse().ok()?, host.port);
            Some(Static::try_from_iter([address]).ok()?)
        }
        EndpointSource::Dns => Some(Box::new(DnsName(host.clone()))),
    }
}

/// The addresses that a source has and does not hold back; `None` where there are none.
async fn addresses(discovery: &(dyn ServiceDiscovery + Send + Sync)) -> Option<BTreeSet<SocketAddr>> {
    let (backends, enabled) = discovery.discover().await.ok()?;
    let serving = backends.iter().filter(|backend| {
        let mut hasher = DefaultHasher::new();
        backend.hash(&mut hasher);
        enabled.get(&hasher.finish()).copied().unwrap_or(true)
    });
    let addresses: BTreeSet<_> = serving.filter_map(|backend| backend.addr.as_inet().copied()).collect();
    (!addresses.is_empty()).then_some(addresses)
}

/// Resolves the live policy's names again when their time comes.
pub struct DnsRefresh {
    live: Arc<Live>,
}

impl DnsRefresh {
    /// Refreshes the live snapshot's slot.
    pub fn new(live: Arc<Live>) -> Self {
        Self { live }
    }

    /// Refreshes for ever; each pool at its own interval, rounded up to half a second, and all after a reload.
    pub async fn run(self) {
        const TICK: Duration = Duration::from_millis(500);
        let mut policy = Arc::clone(&self.live.load().policy);
        let mut due: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            tokio::time::sleep(TICK).await;
            let (live, now) = (self.live.load(), Instant::now());
            let is_reloaded = !Arc::ptr_eq(&live.policy, &policy);
            policy = Arc::clone(&live.policy);
            let mut names = BTreeSet::new();
            for pool in &policy.pools {
                let next = due.entry(pool.name.clone()).or_insert(now + pool.probes.resolve_interval);
                if is_reloaded || *next <= now {
                    *next = now + pool.probes.resolve_interval;
                    let hosts = pool.endpoints.iter().map(HostPort::from);
                    names.extend(hosts.filter(|host| source_of(host) == EndpointSource::Dns));
                }
            }
            due.retain(|name, _| policy.pools.iter().any(|pool| pool.name == *name));
            if !names.is_empty() {
                publish(&self.live, EndpointSource::Dns, discover(EndpointSource::Dns, names).await);
            }
        }
    }
}

/// Puts what a source found into its slot of the live snapshot, whatever policy is live by then.
fn publish(live: &Live, source: EndpointSource, found: EndpointSlot) {
    update_slots(live, |slots| slots.refresh(source, found));
}

/// The same for what Kubernetes names.
fn publish_kube(live: &Live, found: KubeSlot) {
    update_slots(live, |slots| slots.refresh_kube(found));
}

fn update_slots(live: &Live, refresh: impl FnOnce(&mut EndpointSlots)) {
    let published = live.update(|current| {
        let mut slots = EndpointSlots::clone(&current.slots);
        refresh(&mut slots);
        slots.retain(&current.policy);
        if slots == *current.slots {
            return Ok(None);
        }
        Snapshot::build(current.layers.clone(), slots, Some(current)).map(Some)
    });
    match published {
        Ok(true) => tracing::info!("endpoints changed with their sources"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "endpoints could not be changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use pingora_load_balancing::Backend;
    use std::collections::HashMap;

    /// A source that holds one of its two backends back.
    struct HalfReady;

    #[async_trait]
    impl ServiceDiscovery for HalfReady {
        async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
            let backends = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| Backend::new(address).unwrap());
            let mut hasher = DefaultHasher::new();
            backends[1].hash(&mut hasher);
            Ok((BTreeSet::from(backends), HashMap::from([(hasher.finish(), false)])))
        }
    }

    #[tokio::test]
    async fn a_backend_that_is_not_enabled_is_no_endpoint() {
        let found = addresses(&HalfReady).await.unwrap();
        assert_eq!(found, BTreeSet::from(["10.0.0.1:80".parse().unwrap()]));
    }

    #[tokio::test]
    async fn an_ip_address_is_found_by_itself_and_a_name_by_dns() {
        let host = |name: &str| HostPort { host: name.to_owned(), port: 8000 };
        for (name, source, address) in [
            ("::1", EndpointSource::Static, "[::1]:8000"),
            ("localhost", EndpointSource::Dns, "127.0.0.1:8000"),
        ] {
            assert_eq!(source_of(&host(name)), source);
            let found = discover(source, BTreeSet::from([host(name)])).await;
            assert!(found[&host(name)].contains(&address.parse().unwrap()), "{found:?}");
        }
        assert!(discover(EndpointSource::Dns, BTreeSet::from([host("no.such.invalid")])).await.is_empty());
    }
}
