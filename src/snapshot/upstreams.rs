//! Owns the live upstreams: the pools, built from the policy and what the sources of endpoints know, and the budget of
//! their retries.
//!
//! An address that stays in its pool keeps its [`Endpoint`] with in-flight count and health.

use super::slots::{EndpointSlots, HostPort};
use crate::balance::{Endpoint, Hedging, Pool, PoolMember, RetryBudget, StickySessions};
use crate::cache::ResponseScope;
use crate::policy::{Hedge, Policy, PoolSpec, RetryBudgetSpec};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// The upstreams of one policy.
pub struct UpstreamPools {
    /// The pools, by [`crate::policy::PoolId`].
    pub pools: Vec<Arc<Pool>>,
    /// The retries that the requests of each pool may spend together, by [`crate::policy::PoolId`].
    pub retry_budgets: Vec<Arc<RetryBudget>>,
    /// What may be sent to two endpoints of each pool, by [`crate::policy::PoolId`]; `None` where nothing is.
    pub hedging: Vec<Option<Arc<Hedging>>>,
    /// The streams that may be given up for another endpoint; `None` where none are.
    pub reissue_budget: Option<Arc<RetryBudget>>,
    /// Which endpoint made each response of the Responses API, by its id's hash; shared by all snapshots.
    pub response_owners: Arc<StickySessions<ResponseOwner>>,
}

/// Which endpoint made a response, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseOwner {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// The name of its pool, which outlives a reload.
    pub pool: Arc<str>,
    /// The name of the model.
    pub model: Arc<str>,
    /// Those who may have it.
    pub scope: ResponseScope,
}

impl UpstreamPools {
    /// Builds the pools of `policy`; those of the same name in `previous`, with its policy, carry over their state.
    pub(super) fn build(policy: &Policy, slots: &EndpointSlots, previous: Option<(&Policy, &Self)>) -> Self {
        let old = |name: &str| {
            let (policy, upstreams) = previous?;
            let at = policy.pools.iter().position(|pool| pool.name == name)?;
            Some((upstreams, at))
        };
        let pools = policy.pools.iter().map(|spec| {
            let old = old(&spec.name).map(|(upstreams, at)| CarriedPool::of(upstreams, at));
            CarriedPool {
                pool: build_pool(spec, slots, old.as_ref().map(|old| &old.pool)),
                retries: budget(policy.retry.budget, old.as_ref().map(|old| &old.retries)),
                hedging: spec.limits.hedge.map(|hedge| hedging(hedge, old.and_then(|old| old.hedging))),
            }
        });
        let pools: Vec<CarriedPool> = pools.collect();
        Self {
            retry_budgets: pools.iter().map(|state| Arc::clone(&state.retries)).collect(),
            hedging: pools.iter().map(|state| state.hedging.clone()).collect(),
            pools: pools.into_iter().map(|state| state.pool).collect(),
            reissue_budget: policy.retry.reissue.map(|reissue| {
                let spec = RetryBudgetSpec { share: reissue.share, min_per_second: 0 };
                budget(spec, previous.and_then(|(_, upstreams)| upstreams.reissue_budget.as_ref()))
            }),
            response_owners: previous
                .map_or_else(Arc::default, |(_, upstreams)| Arc::clone(&upstreams.response_owners)),
        }
    }
}

/// What goes on of one pool from snapshot to snapshot.
struct CarriedPool {
    pool: Arc<Pool>,
    retries: Arc<RetryBudget>,
    hedging: Option<Arc<Hedging>>,
}

impl CarriedPool {
    fn of(upstreams: &UpstreamPools, at: usize) -> Self {
        Self {
            pool: Arc::clone(&upstreams.pools[at]),
            retries: Arc::clone(&upstreams.retry_budgets[at]),
            hedging: upstreams.hedging[at].clone(),
        }
    }
}

fn hedging(spec: Hedge, previous: Option<Arc<Hedging>>) -> Arc<Hedging> {
    previous.filter(|previous| previous.is_for(&spec)).unwrap_or_else(|| Arc::new(Hedging::new(spec)))
}

fn budget(spec: RetryBudgetSpec, previous: Option<&Arc<RetryBudget>>) -> Arc<RetryBudget> {
    let (share_bp, min_per_second) = (spec.share.0, spec.min_per_second);
    match previous {
        Some(previous) if previous.is_for(share_bp, min_per_second) => Arc::clone(previous),
        _ => Arc::new(RetryBudget::new(share_bp, min_per_second)),
    }
}

fn build_pool(spec: &PoolSpec, slots: &EndpointSlots, old: Option<&Arc<Pool>>) -> Arc<Pool> {
    // By address, since there may be thousands; a member that comes twice is one endpoint.
    let old_members = old.into_iter().flat_map(|pool| pool.members());
    let mut known: HashMap<SocketAddr, Arc<Endpoint>> =
        old_members.map(|member| (member.endpoint.addr(), Arc::clone(&member.endpoint))).collect();
    let mut taken = HashSet::new();
    let mut members: Vec<PoolMember> = Vec::new();
    let mut add = |address: SocketAddr, h2c: bool, weight: u32, host: &dyn Fn() -> Arc<str>| {
        let is_first = taken.insert(address);
        let kept = known.get(&address).filter(|endpoint| !is_first || endpoint.speaks_h2c() == h2c);
        let endpoint = kept.map_or_else(|| Endpoint::with_protocol(address, host(), h2c), Arc::clone);
        known.insert(address, Arc::clone(&endpoint));
        members.push(PoolMember { endpoint, weight });
    };
    for written in &spec.endpoints {
        for address in slots.addresses(&HostPort::from(written)) {
            add(address, false, written.weight, &|| Arc::from(written.authority()));
        }
    }
    for discovery in &spec.probes.discovered {
        for found in slots.discovered(&discovery.selection) {
            add(found.address, found.h2c, discovery.weight, &|| Arc::from(found.address.to_string()));
        }
    }
    Arc::new(Pool::new(&spec.balance, spec.limits, members, old.map(AsRef::as_ref)))
}

#[cfg(test)]
mod tests {
    use super::super::slots::{EndpointSlot, EndpointSource};
    use super::*;
    use crate::balance::PickRequest;
    use crate::policy::{Fixed, load};
    use std::path::Path;
    use std::time::Instant;

    fn policy(endpoints: &str) -> Policy {
        let text = format!(
            "version: 1\nmodels: {{m: {{pools: [p]}}}}\npools: {{p: {{endpoints: [{endpoints}], balance: {{strategy: round_robin}}}}}}\n"
        );
        load(&text, Path::new("."), &Fixed::default(), None).unwrap()
    }

    fn slots(source: EndpointSource, of: &[(&str, &[u8])]) -> EndpointSlots {
        let address = |last: &u8| SocketAddr::from(([10, 0, 0, *last], 80));
        let found: EndpointSlot = of
            .iter()
            .map(|(host, last)| {
                let host = HostPort { host: (*host).to_owned(), port: 80 };
                (host, last.iter().map(address).collect())
            })
            .collect();
        let mut slots = EndpointSlots::default();
        slots.refresh(source, found);
        slots
    }

    fn weights(upstreams: &UpstreamPools) -> Vec<(u8, u32)> {
        let octet = |member: &PoolMember| match member.endpoint.addr().ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => unreachable!("tests use IPv4"),
        };
        upstreams.pools[0].members().iter().map(|member| (octet(member), member.weight)).collect()
    }

    #[test]
    fn the_slots_of_all_sources_make_one_pool_whose_weights_add_up() {
        let policy = policy("{address: 'b:80', weight: 2}, {address: '10.0.0.1:80', weight: 3}, 'a:80'");
        let mut slots = slots(EndpointSource::Dns, &[("a", &[1, 2]), ("b", &[2, 4])]);
        slots.add_new(self::slots(EndpointSource::Static, &[("10.0.0.1", &[1])]));
        let upstreams = UpstreamPools::build(&policy, &slots, None);
        assert_eq!(weights(&upstreams), [(2, 3), (4, 2), (1, 4)]);
    }

    #[test]
    fn an_address_that_stays_keeps_its_endpoint_whichever_source_changed() {
        let (before, now) = (policy("'a:80'"), Instant::now());
        let found = slots(EndpointSource::Dns, &[("a", &[1])]);
        let old = UpstreamPools::build(&before, &found, None);
        let lease = old.pools[0].lease(&PickRequest::default(), &[], now).expect("available");
        let reloaded = policy("{address: 'a:80', weight: 7}");
        let new = UpstreamPools::build(&reloaded, &found, Some((&before, &old)));
        let more = UpstreamPools::build(
            &reloaded,
            &slots(EndpointSource::Dns, &[("a", &[1, 2])]),
            Some((&reloaded, &new)),
        );
        assert_eq!((weights(&new), weights(&more)), (vec![(1, 7)], vec![(1, 7), (2, 7)]));
        assert_eq!(more.pools[0].members()[0].endpoint.in_flight(), 1);
        assert!(Arc::ptr_eq(&more.pools[0].members()[0].endpoint, lease.endpoint()));
    }
}
