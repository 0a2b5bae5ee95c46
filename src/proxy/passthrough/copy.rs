//! Owns what mirrors get of a request that passes unread: all of it, once it is whole, if it is short enough.
//!
//! Knows nothing of how a copy is sent.

use crate::policy::PoolId;
use crate::route::FollowedRule;
use crate::server_state::{ActiveRequest, BufferShare};
use crate::snapshot::Snapshot;
use bytes::{Bytes, BytesMut};

/// The longest body that is copied.
const MAX_BODY: usize = 1 << 20;

/// A copy that is still to be sent.
pub(in crate::proxy) struct PlainCopy {
    /// The mirrors.
    pub(in crate::proxy) pools: Vec<PoolId>,
    pub(in crate::proxy) body: BytesMut,
    share: Option<BufferShare>,
    /// Whether the body is too long, or there is no room for it.
    pub(in crate::proxy) is_dropped: bool,
}

impl PlainCopy {
    /// Finds the mirrors that a request falls to.
    pub(in crate::proxy) fn plan(live: &Snapshot, via: &FollowedRule) -> Option<Self> {
        let routed = live.layers.routed()?;
        let falls_to =
            |numerator: u32, denominator: u32| rand::random_range(0..denominator.max(1)) < numerator;
        let mirrors = via.rule.filters.mirrors.iter();
        let chosen = mirrors.filter(|one| falls_to(one.numerator, one.denominator));
        let pools: Vec<PoolId> = chosen.filter_map(|mirror| routed.pool(mirror.backend)).collect();
        let copy = Self { pools, body: BytesMut::new(), share: None, is_dropped: false };
        (!copy.pools.is_empty()).then_some(copy)
    }

    /// Adds a piece of the body.
    pub(in crate::proxy) fn add(&mut self, piece: Option<&Bytes>, active: &ActiveRequest) {
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
