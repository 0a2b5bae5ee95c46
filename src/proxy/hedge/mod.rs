//! Owns hedged requests: one that may be sent to a second endpoint while the first still owes its first byte, what the second
//! is picked by, and how that ended.
//!
//! To Pingora both are one connection. Knows nothing of what follows a failure.

mod opening;
mod race;
mod request_head;
mod socket;

pub(super) use race::{RaceFailure, Racer};

use crate::balance::{HedgePermit, Hedging, Lease, RivalEndpoint};
use crate::openai::ChatRequest;
use crate::route::{LeaseInput, PlanTarget, lease_endpoint};
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use race::{connect, race};
use request_head::{EndpointHeaders, RequestHead};
use socket::HedgedSocket;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A request that may be sent to a second endpoint.
pub(super) struct HedgePlan {
    pub(super) hedging: Arc<Hedging>,
    pub(super) second: SecondPick,
    /// The endpoint that is asked first.
    pub(super) first: FirstEndpoint,
    /// The request's body, as it goes to either.
    pub(super) body: Bytes,
    /// When it is sent to the first.
    pub(super) sent: Instant,
    /// How long after that the second is asked; never where too little is known yet, so that it is only measured.
    pub(super) delay: Option<Duration>,
    /// How long a connection to the second may take.
    pub(super) connect: Duration,
    pub(super) metrics: Arc<Metrics>,
    /// The second endpoint, while both may answer.
    pub(super) rival: Arc<RivalEndpoint>,
    pub(super) outcome: Mutex<Option<RaceOutcome>>,
}

/// What a second endpoint is picked by: copies that share what is large, since the exchange is Pingora's meanwhile.
pub(super) struct SecondPick {
    pub(super) live: Arc<Snapshot>,
    pub(super) target: PlanTarget,
    pub(super) headers: HeaderMap,
    pub(super) request: ChatRequest,
    /// As it goes upstream, where that is another.
    pub(super) upstream_request: Option<ChatRequest>,
    /// The endpoints that have had it, the first of the race included.
    pub(super) tried: Vec<SocketAddr>,
}

/// What a request says of the endpoint that is asked first.
pub(super) struct FirstEndpoint {
    /// Its host and port, as the policy writes them.
    pub(super) host: Arc<str>,
    pub(super) rank: Option<u16>,
}

/// How a race ended.
pub(super) struct RaceOutcome {
    pub(super) winner: Racer,
    /// The second endpoint: while it answers, or as one that failed.
    pub(super) second: Option<Lease>,
    pub(super) failure_of_first: Option<RaceFailure>,
    pub(super) failure_of_second: Option<RaceFailure>,
}

/// What a second endpoint is asked with.
struct SecondLeg {
    lease: Lease,
    permit: HedgePermit,
    head: Vec<u8>,
}

impl HedgePlan {
    /// Has Pingora's connection to a peer be one that may turn to a second endpoint. It is not kept for another request.
    pub(super) fn install(self: &Arc<Self>, peer: &mut HttpPeer) {
        peer.options.custom_l4 = Some(Arc::new(HedgedConnect { plan: Arc::clone(self) }));
    }

    /// How a race ended, where there was one; told once.
    pub(super) fn take_outcome(&self) -> Option<RaceOutcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes how long the first endpoint took, or was waited for, unless it failed.
    fn note_first_byte(&self, failure: Option<RaceFailure>) {
        if failure.is_none() {
            let now = Instant::now();
            self.hedging.note_first_byte(now.saturating_duration_since(self.sent), now);
        }
    }

    /// Leases a second endpoint that is awake, where there is one and the budget has room.
    fn lease_second(&self, head: &RequestHead) -> Option<SecondLeg> {
        let now = Instant::now();
        let SecondPick { live, target, headers, request, upstream_request, tried } = &self.second;
        let pool = &live.pool_spec(target.pool(&live.policy)).name;
        let Some(permit) = self.hedging.begin(now) else {
            self.metrics.hedged(pool, "over_budget");
            return None;
        };
        let upstream_request = upstream_request.as_ref().unwrap_or(request);
        let input = LeaseInput { headers, request, upstream_request, tried, last_resort: false, now };
        let leased = lease_endpoint(live, std::slice::from_ref(target), input).map(|leased| leased.lease);
        // One that would have to be woken, or spoken to in another way, answers no sooner.
        let usable = leased.filter(|lease| !lease.endpoint().is_asleep() && !lease.endpoint().speaks_h2c());
        let own = EndpointHeaders { host: &self.first.host, rank: self.first.rank };
        let second = usable.and_then(|lease| {
            let other = EndpointHeaders { host: lease.endpoint().host(), rank: lease.rank() };
            let head = head.for_other(own, other)?;
            self.rival.set(Some(Arc::clone(lease.endpoint())));
            Some(SecondLeg { lease, permit, head })
        });
        self.metrics.hedged(pool, if second.is_some() { "started" } else { "no_endpoint" });
        second
    }

    /// Keeps how the race ended for the exchange; the endpoint that lost without a failure is given back.
    fn end_race(&self, winner: Racer, second: Lease, failures: [Option<RaceFailure>; 2]) {
        let [failure_of_first, failure_of_second] = failures;
        let second = (winner == Racer::Second || failure_of_second.is_some()).then_some(second);
        if winner == Racer::Second && failure_of_second.is_none() {
            let target = &self.second.target;
            let live = &self.second.live;
            self.metrics.hedged(&live.pool_spec(target.pool(&live.policy)).name, "won");
        }
        let outcome = RaceOutcome { winner, second, failure_of_first, failure_of_second };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

/// Connects to the first endpoint of a race for Pingora.
struct HedgedConnect {
    plan: Arc<HedgePlan>,
}

impl fmt::Debug for HedgedConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgedConnect").field("delay", &self.plan.delay).finish_non_exhaustive()
    }
}

#[async_trait]
impl Connect for HedgedConnect {
    /// Within Pingora's own timeout.
    async fn connect(&self, addr: &PeerAddr) -> Result<Stream> {
        let Some(addr) = addr.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "no address of the internet's");
        };
        let first = connect(*addr).await.map_err(|error| {
            Error::because(ErrorType::ConnectError, format!("cannot connect to {addr}"), error)
        })?;
        let plan = Arc::clone(&self.plan);
        Ok(HedgedSocket::open(|proxy| async move { race(proxy, first, &plan).await }))
    }
}
