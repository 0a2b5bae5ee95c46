//! Owns whether a request that waits on an endpoint had better go elsewhere: its endpoint is out, and others are not.
//! Refuses to know what is waited for, and for how long.

use super::endpoint::Endpoint;
use super::pool::Pool;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::Arc;
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
}

impl LeaseWatch {
    /// Whether the endpoint has been taken out, by checks or as an outlier, while another could take the request.
    pub fn is_stranded(&self, now: Instant) -> bool {
        let could_take_it = |pool: &Arc<Pool>| {
            pool.members().iter().any(|member| {
                member.weight > 0
                    && member.endpoint.available(now)
                    && !self.tried.contains(&member.endpoint.addr())
            })
        };
        !self.endpoint.available(now) && self.pools.iter().any(could_take_it)
    }
}

#[cfg(test)]
mod tests {
    use super::super::PoolMember;
    use super::*;
    use crate::policy::{Balance, Health};
    use smallvec::smallvec;

    #[test]
    fn a_request_is_stranded_where_its_endpoint_is_out_and_another_can_take_it() {
        let now = Instant::now();
        let endpoints = [1_u8, 2].map(|last| Endpoint::new(([10, 0, 0, last], 80).into(), "a:80".into()));
        let members = endpoints.iter().map(|endpoint| PoolMember { endpoint: endpoint.clone(), weight: 1 });
        let pool = Arc::new(Pool::new(&Balance::LeastRequest, None, members.collect(), None));
        let watch =
            |tried| LeaseWatch { endpoint: endpoints[0].clone(), pools: smallvec![pool.clone()], tried };
        let turn = |endpoint: &Endpoint, is_up| {
            endpoint.checked(is_up, &Health { healthy_after: 1, unhealthy_after: 1, ..Health::default() });
        };
        assert!(!watch(Vec::new()).is_stranded(now));
        turn(&endpoints[0], false);
        assert!(watch(Vec::new()).is_stranded(now));
        assert!(!watch(vec![endpoints[1].addr()]).is_stranded(now), "the other had it before");
        turn(&endpoints[1], false);
        assert!(!watch(Vec::new()).is_stranded(now), "there is no other");
    }
}
