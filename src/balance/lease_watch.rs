//! Owns whether a request that waits on an endpoint had better go elsewhere: its endpoint is out, and others are not.
//! Refuses to know what is waited for, and for how long.

use super::budget::RetryBudget;
use super::endpoint::Endpoint;
use super::lock;
use super::pool::Pool;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// One request that waits on an endpoint, and where else it could go.
#[derive(Debug)]
pub struct LeaseWatch {
    /// The endpoint that it waits on.
    pub endpoint: Arc<Endpoint>,
    /// The pools that serve it: its own, and those to fall back to.
    pub pools: SmallVec<[Arc<Pool>; 2]>,
    /// Endpoints that had it before.
    pub tried: Vec<SocketAddr>,
    /// When it had better be asked for elsewhere though the endpoint is well; `None` where never.
    pub reissue: Option<ReissueWatch>,
    /// Who may have the request too.
    pub rival: Option<Arc<RivalEndpoint>>,
}

/// The endpoint that has a request beside the one that had it first, while there is one.
#[derive(Debug, Default)]
pub struct RivalEndpoint(Mutex<Option<Arc<Endpoint>>>);

impl RivalEndpoint {
    /// Notes who has the request too, or that nobody has any longer.
    pub fn set(&self, endpoint: Option<Arc<Endpoint>>) {
        *lock(&self.0) = endpoint;
    }

    fn is_available(&self, now: Instant) -> bool {
        lock(&self.0).as_ref().is_some_and(|endpoint| endpoint.available(now))
    }
}

/// When a request that waits is given up for another endpoint.
#[derive(Debug)]
pub struct ReissueWatch {
    /// From when on.
    pub at: Instant,
    /// How many may be.
    pub budget: Arc<RetryBudget>,
}

impl LeaseWatch {
    /// Whether all that have the request have been taken out, by checks or as outliers, while another could take it.
    pub fn is_stranded(&self, now: Instant) -> bool {
        !self.endpoint.available(now) && !self.has_rival(now) && self.has_other(now)
    }

    /// Whether the request is to be given up for another endpoint at `now`; takes what that costs from the budget. Not while
    /// another has it too.
    pub fn is_reissued(&self, now: Instant) -> bool {
        let Some(reissue) = &self.reissue else { return false };
        now >= reissue.at && !self.has_rival(now) && self.has_other(now) && reissue.budget.withdraw(now)
    }

    fn has_rival(&self, now: Instant) -> bool {
        self.rival.as_ref().is_some_and(|rival| rival.is_available(now))
    }

    /// Whether another endpoint could take the request.
    fn has_other(&self, now: Instant) -> bool {
        let could_take_it = |endpoint: &Arc<Endpoint>| {
            endpoint.available(now)
                && !Arc::ptr_eq(endpoint, &self.endpoint)
                && !self.tried.contains(&endpoint.addr())
        };
        let members = self.pools.iter().flat_map(|pool| pool.members());
        members.filter(|member| member.weight > 0).any(|member| could_take_it(&member.endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::super::PoolMember;
    use super::*;
    use crate::policy::{Balance, Health};
    use smallvec::smallvec;
    use std::time::Duration;

    #[test]
    fn a_request_is_stranded_where_its_endpoint_is_out_and_another_can_take_it() {
        let now = Instant::now();
        let endpoints = [1_u8, 2].map(|last| Endpoint::new(([10, 0, 0, last], 80).into(), "a:80".into()));
        let members = endpoints.iter().map(|endpoint| PoolMember { endpoint: endpoint.clone(), weight: 1 });
        let pool = Arc::new(Pool::new(&Balance::LeastRequest, None, members.collect(), None));
        let watch = |tried| LeaseWatch {
            endpoint: endpoints[0].clone(),
            pools: smallvec![pool.clone()],
            tried,
            reissue: None,
            rival: None,
        };
        let turn = |endpoint: &Endpoint, is_up| {
            endpoint.checked(is_up, &Health { healthy_after: 1, unhealthy_after: 1, ..Health::default() });
        };
        assert!(!watch(Vec::new()).is_stranded(now));
        turn(&endpoints[0], false);
        assert!(watch(Vec::new()).is_stranded(now));
        assert!(!watch(vec![endpoints[1].addr()]).is_stranded(now), "the other had it before");
        let rival = Arc::new(RivalEndpoint::default());
        let raced = LeaseWatch { rival: Some(rival.clone()), ..watch(Vec::new()) };
        assert!(raced.is_stranded(now), "there is no second yet");
        rival.set(Some(endpoints[1].clone()));
        assert!(!raced.is_stranded(now), "the second may answer");
        rival.set(None);
        assert!(raced.is_stranded(now), "it has failed");
        turn(&endpoints[1], false);
        assert!(!watch(Vec::new()).is_stranded(now), "there is no other");
    }

    #[test]
    fn a_request_is_given_up_after_its_time_where_another_can_take_it_and_the_budget_has_room() {
        let now = Instant::now();
        let endpoints = [1_u8, 2].map(|last| Endpoint::new(([10, 0, 0, last], 80).into(), "a:80".into()));
        let members = endpoints.iter().map(|endpoint| PoolMember { endpoint: endpoint.clone(), weight: 1 });
        let pool = Arc::new(Pool::new(&Balance::LeastRequest, None, members.collect(), None));
        let budget = Arc::new(RetryBudget::new(5_000, 0));
        let watch = |tried| LeaseWatch {
            endpoint: endpoints[0].clone(),
            pools: smallvec![pool.clone()],
            tried,
            reissue: Some(ReissueWatch { at: now + Duration::from_secs(2), budget: budget.clone() }),
            rival: None,
        };
        let later = now + Duration::from_secs(2);
        assert!(!watch(Vec::new()).is_reissued(later), "nothing is in the budget");
        (0..2).for_each(|_| budget.request(now));
        assert!(!watch(Vec::new()).is_reissued(now), "there is time");
        assert!(!watch(vec![endpoints[1].addr()]).is_reissued(later), "the other had it before");
        let rival = Arc::new(RivalEndpoint::default());
        rival.set(Some(endpoints[1].clone()));
        assert!(!LeaseWatch { rival: Some(rival), ..watch(Vec::new()) }.is_reissued(later), "two have it");
        assert!(watch(Vec::new()).is_reissued(later));
        assert!(!watch(Vec::new()).is_reissued(later), "the budget is spent");
    }
}
