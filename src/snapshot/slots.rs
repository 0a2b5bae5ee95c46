//! Owns what the sources of endpoints know, each in a slot of its own, and the merge of the slots.
//!
//! No source writes another's slot: a reload of the policy can't undo what DNS found, nor the other way round. Knows
//! nothing of how addresses are found.

use crate::policy::{EndpointSpec, KubeSelection, Policy};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where the addresses of endpoints come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointSource {
    /// IP addresses that the policy itself writes.
    Static,
    /// Names, resolved again and again.
    Dns,
}

/// An endpoint as the policy writes it, but for its weight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Gives every one that the policy writes, once.
    pub fn all(policy: &Policy) -> BTreeSet<Self> {
        policy.pools.iter().flat_map(|pool| &pool.endpoints).map(Self::from).collect()
    }
}

impl From<&EndpointSpec> for HostPort {
    fn from(endpoint: &EndpointSpec) -> Self {
        Self { host: endpoint.host.clone(), port: endpoint.port }
    }
}

/// What one source knows: the addresses of each host.
pub type EndpointSlot = BTreeMap<HostPort, BTreeSet<SocketAddr>>;

/// An endpoint that Kubernetes names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiscoveredEndpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether Kubernetes says that it speaks HTTP/2 with prior knowledge.
    pub h2c: bool,
}

/// What Kubernetes names, by what was looked up; nothing of what it has not answered yet.
pub type KubeSlot = BTreeMap<KubeSelection, Arc<BTreeSet<DiscoveredEndpoint>>>;

/// The slots of all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSlots {
    hosts: BTreeMap<EndpointSource, Arc<EndpointSlot>>,
    kube: Arc<KubeSlot>,
}

impl EndpointSlots {
    /// Takes in what a source found now; of hosts that it found nothing of, it keeps what it knew.
    pub fn refresh(&mut self, source: EndpointSource, found: EndpointSlot) {
        Arc::make_mut(self.hosts.entry(source).or_default()).extend(found);
    }

    /// Takes in what Kubernetes names now, which may be no endpoint; of what it has not answered, it keeps what it knew.
    pub fn refresh_kube(&mut self, found: KubeSlot) {
        Arc::make_mut(&mut self.kube).extend(found);
    }

    /// Takes in what was found of hosts that are new; what a source knows already is not touched, since it may have
    /// learnt it after `found` was looked up.
    pub fn add_new(&mut self, found: Self) {
        for (source, hosts) in found.hosts {
            let slot = Arc::make_mut(self.hosts.entry(source).or_default());
            for (host, addresses) in Arc::unwrap_or_clone(hosts) {
                slot.entry(host).or_insert(addresses);
            }
        }
        let slot = Arc::make_mut(&mut self.kube);
        for (selection, endpoints) in Arc::unwrap_or_clone(found.kube) {
            slot.entry(selection).or_insert(endpoints);
        }
    }

    /// Forgets what a policy does not name, so that what comes back is looked up anew.
    pub fn retain(&mut self, policy: &Policy) {
        let named = HostPort::all(policy);
        for slot in self.hosts.values_mut().filter(|slot| slot.keys().any(|host| !named.contains(host))) {
            Arc::make_mut(slot).retain(|host, _| named.contains(host));
        }
        let discovered = || policy.pools.iter().flat_map(|pool| &pool.probes.discovered);
        let is_named = |selection: &KubeSelection| discovered().any(|spec| spec.selection == *selection);
        if self.kube.keys().any(|selection| !is_named(selection)) {
            Arc::make_mut(&mut self.kube).retain(|selection, _| is_named(selection));
        }
    }

    /// Whether a source knows the host.
    pub fn contains(&self, host: &HostPort) -> bool {
        self.hosts.values().any(|slot| slot.contains_key(host))
    }

    /// Merges what all sources know of a host, each address once, in ascending order.
    pub fn addresses(&self, host: &HostPort) -> BTreeSet<SocketAddr> {
        self.hosts.values().filter_map(|slot| slot.get(host)).flatten().copied().collect()
    }

    /// All that Kubernetes names.
    pub fn kube(&self) -> &KubeSlot {
        &self.kube
    }

    /// The endpoints that Kubernetes names, in ascending order.
    pub fn discovered(&self, selection: &KubeSelection) -> impl Iterator<Item = DiscoveredEndpoint> {
        self.kube.get(selection).into_iter().flat_map(|endpoints| endpoints.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::KubeObject;

    fn host(name: &str) -> HostPort {
        HostPort { host: name.to_owned(), port: 80 }
    }

    fn slot(of: &[(&str, &[u8])]) -> EndpointSlot {
        let addresses = |last: &[u8]| last.iter().map(|last| ([10, 0, 0, *last], 80).into()).collect();
        of.iter().map(|(name, last)| (host(name), addresses(last))).collect()
    }

    fn slots(source: EndpointSource, of: &[(&str, &[u8])]) -> EndpointSlots {
        let mut slots = EndpointSlots::default();
        slots.refresh(source, slot(of));
        slots
    }

    fn last(slots: &EndpointSlots, name: &str) -> Vec<u8> {
        let octet = |address: SocketAddr| match address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => unreachable!("tests use IPv4"),
        };
        slots.addresses(&host(name)).into_iter().map(octet).collect()
    }

    #[test]
    fn a_reload_keeps_what_dns_found_meanwhile() {
        let mut live = slots(EndpointSource::Dns, &[("a", &[1])]);
        let mut looked_up = slots(EndpointSource::Dns, &[("a", &[1]), ("b", &[2])]);
        looked_up.refresh(EndpointSource::Static, slot(&[("10.0.0.9", &[9])]));
        live.refresh(EndpointSource::Dns, slot(&[("a", &[7])]));
        live.add_new(looked_up);
        assert_eq!((last(&live, "a"), last(&live, "b")), (vec![7], vec![2]));
        assert_eq!(last(&live, "10.0.0.9"), [9]);
    }

    #[test]
    fn a_source_that_finds_less_changes_its_own_slot_alone_and_forgets_nothing() {
        let mut live = slots(EndpointSource::Static, &[("both", &[1])]);
        live.refresh(EndpointSource::Dns, slot(&[("both", &[3, 2]), ("gone", &[4])]));
        live.refresh(EndpointSource::Dns, slot(&[("both", &[2])]));
        assert_eq!(last(&live, "both"), [1, 2]);
        assert_eq!(last(&live, "gone"), [4], "a name that stops resolving keeps its last addresses");
    }

    #[test]
    fn what_kubernetes_names_no_more_is_gone_and_what_it_has_not_answered_stays() {
        let selection = |name: &str| KubeSelection {
            namespace: None,
            object: KubeObject::InferencePool { name: name.to_owned() },
        };
        let endpoint = DiscoveredEndpoint { address: ([10, 0, 0, 1], 80).into(), h2c: true };
        let one = Arc::new(BTreeSet::from([endpoint]));
        let mut live = EndpointSlots::default();
        live.refresh_kube(KubeSlot::from([(selection("a"), Arc::clone(&one)), (selection("b"), one)]));
        live.refresh_kube(KubeSlot::from([(selection("a"), Arc::default())]));
        let count = |name| live.discovered(&selection(name)).count();
        assert_eq!((count("a"), count("b"), count("c")), (0, 1, 0));
        let mut older = EndpointSlots::default();
        older.refresh_kube(KubeSlot::from([(selection("b"), Arc::default())]));
        live.add_new(older);
        assert_eq!(live.discovered(&selection("b")).collect::<Vec<_>>(), [endpoint]);
    }

    #[test]
    fn an_address_that_two_sources_know_is_one() {
        let mut live = slots(EndpointSource::Dns, &[("a", &[1, 2])]);
        live.refresh(EndpointSource::Static, slot(&[("a", &[2, 3])]));
        assert_eq!(last(&live, "a"), [1, 2, 3]);
    }
}
