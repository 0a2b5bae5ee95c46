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
