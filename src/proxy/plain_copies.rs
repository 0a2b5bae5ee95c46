//! Owns the copies that mirrors get of a request which passes unread: made once all of it has come.
//!
//! Knows nothing of how a copy is sent.

use super::Gateway;
use super::exchange::Exchange;
use super::plain_request::{BackendTarget, prepare};
use super::shadow::RawCopy;
use crate::balance::PickRequest;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::RequestHeader;
use std::time::{Duration, Instant};

/// Sends what was planned for the mirrors of a request that has come whole.
pub(super) fn send_copies(gateway: &Gateway, exchange: &mut Exchange, header: &RequestHeader) {
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
