//! Owns what a picker may know: of one request, and of the endpoints that may take it.
//! Refuses to know how an endpoint is chosen.

use crate::balance::endpoint::{Endpoint, PoolMember};
use crate::openai::{ChatRequest, Segment};
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::time::Instant;

/// One request, as a picker sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickRequest<'a> {
    /// What the policy keeps requests together by, such as a session's header, hashed; see [`crate::balance::hash_key`].
    pub key: Option<u64>,
    /// The name that the upstream knows the model by.
    pub model: &'a str,
    /// The `LoRA` adapter that is asked for instead of the model itself.
    pub adapter: Option<&'a str>,
    /// The request as it goes upstream, whose texts a picker reads only if it needs them.
    pub request: Option<&'a ChatRequest>,
}

impl<'a> PickRequest<'a> {
    /// The texts that the model is shown, with role and place; read only when a picker asks for them.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> {
        self.request.into_iter().flat_map(ChatRequest::segments)
    }
}

/// The endpoints of a pool that may take one request, by their place in the pool.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    members: &'a [PoolMember],
    tried: &'a [SocketAddr],
    now: Instant,
    /// The model whose refusals count, by its name's hash; `None` where the endpoints that refused it may be asked too.
    passing_over: Option<u64>,
}

impl<'a> Candidates<'a> {
    /// Looks at `members` for a request that has been to `tried` already.
    pub(in super::super) fn new(members: &'a [PoolMember], tried: &'a [SocketAddr], now: Instant) -> Self {
        Self { members, tried, now, passing_over: None }
    }

    /// Leaves out the endpoints that had better not be asked for a model.
    pub(in super::super) fn passing_over(self, model: u64) -> Self {
        Self { passing_over: Some(model), ..self }
    }

    /// Gives the endpoint at `place`; `None` where it is down, ejected, passed over, tried already or has no weight.
    ///
    /// Asked for one place at a time: of 256 endpoints the power of two choices looks at two.
    pub fn get(&self, place: usize) -> Option<EndpointView<'a>> {
        self.view(self.members.get(place)?)
    }

    /// Gives every place in turn, as [`Candidates::get`] does.
    pub fn iter(&self) -> impl Iterator<Item = Option<EndpointView<'a>>> {
        self.members.iter().map(|member| self.view(member))
    }

    fn view(&self, member: &'a PoolMember) -> Option<EndpointView<'a>> {
        let PoolMember { endpoint, weight } = member;
        let eligible = *weight > 0
            && endpoint.available(self.now)
            && !self.tried.contains(&endpoint.addr())
            && !self.passing_over.is_some_and(|model| endpoint.is_passed_over(model, self.now));
        eligible.then_some(EndpointView { endpoint, weight: *weight })
    }

    /// Whether the endpoint at `place` may take the request.
    pub fn contains(&self, place: usize) -> bool {
        self.get(place).is_some()
    }
}

/// The places of endpoints among the candidates, best first; empty where no endpoint may take the request.
///
/// The list need not name every candidate: two fit without an allocation.
pub type RankedEndpoints = SmallVec<[usize; 2]>;

/// Ranks one endpoint alone, if there is one.
pub(super) fn only(best: Option<usize>) -> RankedEndpoints {
    best.map_or_else(RankedEndpoints::new, |place| RankedEndpoints::from_buf_and_len([place, 0], 1))
}

/// One endpoint, as a picker sees it; each method reads what is so at that moment.
#[derive(Clone, Copy, Debug)]
pub struct EndpointView<'a> {
    endpoint: &'a Endpoint,
    weight: u32,
}

impl EndpointView<'_> {
    /// The resolved address.
    pub fn addr(&self) -> SocketAddr {
        self.endpoint.addr()
    }

    /// Its share relative to the pool's other endpoints, never 0.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Requests that it has been given and has not answered to their end.
    pub fn in_flight(&self) -> u32 {
        self.endpoint.in_flight()
    }
}
