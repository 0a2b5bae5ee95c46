//! Owns what mirrors get of a request that passes unread: all of it, once it is whole, if it is short enough.
//!
//! Knows nothing of how a copy is sent.

use super::phases::{BackendTarget, prepare};
use crate::balance::PickRequest;
use crate::policy::PoolId;
use crate::proxy::Gateway;
use crate::proxy::exchange::Exchange;
use crate::proxy::shadow::RawCopy;
use crate::route::FollowedRule;
use crate::server_state::{ActiveRequest, BufferShare};
use crate::snapshot::Snapshot;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::RequestHeader;
use std::time::{Duration, Instant};

/// The longest body that is copied.
const MAX_BODY: usize = 1 << 20;

/// A copy that is still to be sent.
pub(super) struct PlainCopy {
    /// The mirrors.
    pools: Vec<PoolId>,
    body: BytesMut,
    share: Option<BufferShare>,
    /// Whether the body is too long, or there is no room for it.
    is_dropped: bool,
}

impl PlainCopy {
    /// Finds the mirrors that a request falls to.
    pub(super) fn plan(live: &Snapshot, via: &FollowedRule) -> Option<Self> {
        let routed = live.layers.routed()?;
        let falls_to = |numerator: u32, denominator: u32| rand::random_range(0..denominator.max(1)) < numerator;
        let mirrors = via.rule.filters.mirrors.iter();
        let chosen = mirrors.filter(|one| falls_to(one.numerator, one.denominator));
        let pools: Vec<PoolId> = chosen.filter_map(|mirror| routed.pool(mirror.backend)).collect();
        let copy = Self { pools, body: BytesMut::new(), share: None, is_dropped: false };
        (!copy.pools.is_empty()).then_some(copy)
    }

    /// Adds a piece of the body.
    pub(super) fn add(&mut self, piece: Option<&Bytes>, active: &ActiveRequest) {
        let Some(piece) = piece.filter(|_| !self.is_dropped) else { return };
        let length = self.body.len() + piece.len();
        let share = self.share.get_or_insert_with(|| active.new_share());
        if length > MAX_BODY || share.grow_to(length).is_err() {
            (self.is_dropped, self.body) = (true, BytesMut::new());
            return;
        }
        self.body.extend_from_slice(piece);
    }
}

/// Sends what was planned for the mirrors of a request that has come whole.
pub(super) fn send(gateway: &Gateway, exchange: &mut Exchange, header: &RequestHeader) {
    let Some(copy) = exchange.passthrough.as_mut().and_then(|pass| pass.copy.take()) else { return };
    let body = copy.body.freeze();
    for pool in copy.pools {
        let spec = exchange.live.pool_spec(pool);
        let leased = exchange.live.pool(pool).lease(&PickRequest::default(), &[], Instant::now());
        let mut header = header.clone();
        let made = leased.filter(|_| !copy.is_dropped).and_then(|lease| {
            let target = BackendTarget { spec, authority: lease.endpoint().host(), is_copy: true };
            prepare(&mut header, exchange, target).ok()?;
            header.remove_header(&TRANSFER_ENCODING);
            if !body.is_empty() {
                header.insert_header(CONTENT_LENGTH, body.len()).ok()?;
            }
            let peer = gateway.upstream_tls.peer(spec, lease.endpoint());
            let mut share = exchange.active.new_share();
            share.grow_to(body.len()).ok()?;
            let (name, total) = (spec.name.clone(), spec.timeouts.total);
            Some(RawCopy { name, peer, header, body: body.clone(), lease, total, share })
        });
        match made {
            Some(raw) => gateway.shadows.send_raw_in_background(raw, gateway.metrics.clone()),
            None => gateway.metrics.shadowed(&spec.name, "dropped", Duration::ZERO, None),
        }
    }
}
