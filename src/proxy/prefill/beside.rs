//! Owns the prefill of a prompt at the same time as the request goes to the endpoint that answers it: of two engines of
//! `SGLang`'s neither can do without the other, so that the attempt fails with either.
//!
//! Knows nothing of what follows that.

use super::{Prefill, label, note_computed, parsed};
use crate::balance::Lease;
use crate::openai::{BootstrapRoom, Format, Rejection};
use crate::policy::PoolId;
use crate::proxy::attempt_failure::AttemptFailure;
use crate::proxy::concurrent_prefill::{ConcurrentPrefill, PrefillEnd, PrefillProgress};
use crate::proxy::exchange::Exchange;
use crate::proxy::failure::{RETRY_AFTER, RequestFailure};
use crate::proxy::side_client::{SideError, SideRequest};
use crate::proxy::{Gateway, replay};
use crate::server_state::BufferShare;
use crate::snapshot::Snapshot;
use pingora::{Error, Result};
use pingora_proxy::Session;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One engine's part of a request that two have at the same time.
struct PrefillLeg {
    live: Arc<Snapshot>,
    pool: PoolId,
    lease: Lease,
    request: SideRequest,
    format: Format,
    timeout: Duration,
    /// Holds room for the answer.
    share: BufferShare,
}

impl Gateway {
    /// Has the prompt of the current attempt computed by another endpoint beside it, and names to both where they meet.
    pub(super) fn prefill_beside(
        &self,
        bootstrap_port: u16,
        session: &Session,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let live = Arc::clone(&exchange.live);
        let Some(attempts) = &mut exchange.attempts else { return Ok(()) };
        let Some(spec) = &attempts.spec(&live).prefill else { return Ok(()) };
        attempts.restore_body(&live);
        let request = parsed(attempts, &live)?;
        if !request.api().generates_text() {
            return Ok(());
        }
        if !request.can_name_bootstrap_room() {
            return Err(RequestFailure::explain(Rejection::Indivisible, "no prompt can be handed over"));
        }
        let mut prefill =
            Prefill::new(&live, spec, session.req_header().clone(), exchange.active.new_share());
        let Some(lease) = prefill.lease(attempts, attempts.failed_prefills()) else {
            exchange.record.details().prefill = prefill.record("no_endpoint");
            let error = Error::explain(replay::PREFILL_FAILED, "no endpoint can compute the prompt");
            return Err(self.after_failure(AttemptFailure::Prefill, session, exchange, error));
        };
        let endpoint = lease.endpoint().addr();
        prefill.record.endpoint = Some(endpoint);
        prefill.record.predicted_cached_tokens = lease.work().map(|work| work.cached());
        let server = SocketAddr::new(endpoint.ip(), bootstrap_port);
        // Below 2⁶³: a signed number there.
        prefill.body = request.bootstrap_body(BootstrapRoom { server, room: rand::random::<u64>() >> 1 });
        let sent = self.prefill_request(&prefill, &lease, None, exchange)?;
        let held = exchange.active.buffered.bytes() + prefill.body.len();
        if exchange.active.buffered.grow_to(held).is_err() {
            let overloaded = Rejection::Overloaded { retry_after: RETRY_AFTER };
            return Err(RequestFailure::explain(overloaded, "there is no room for what engines meet by"));
        }
        exchange.record.details().prefill = prefill.record("remote");
        let format = if request.stream() { Format::EventStream } else { Format::Json };
        let (pool, timeout, body, share) = (spec.pool, spec.timeout, prefill.body, prefill.share);
        let leg = PrefillLeg { live: Arc::clone(&live), pool, lease, request: sent, format, timeout, share };
        let gateway = self.clone();
        let attempts = exchange.attempts.as_mut().expect("it is there for the whole prefill");
        attempts.prefill_elsewhere(true, Instant::now());
        attempts.set_body(body);
        attempts.set_concurrent_prefill(ConcurrentPrefill::start(endpoint, |progress| async move {
            gateway.run_beside(leg, &progress).await;
        }));
        Ok(())
    }

    /// Has one endpoint compute its part, for as long as that may take.
    async fn run_beside(&self, mut leg: PrefillLeg, progress: &PrefillProgress) {
        let began = Instant::now();
        let mut late = pin!(async {
            tokio::time::sleep(leg.timeout).await;
            Ok(None)
        });
        let answer = self.side_client.send(leg.request, &mut leg.share, late.as_mut()).await;
        let (failure, usage) = match answer {
            Ok(answer) => (None, note_computed(&leg.lease, &answer.body, leg.format)),
            Err(SideError::Failed(failure)) => {
                self.note_prefill_failure(leg.live.pool_spec(leg.pool), &leg.lease, failure);
                (Some(label(failure)), None)
            }
            Err(SideError::Interrupted(_)) => (Some("timeout"), None),
            Err(SideError::TooLong) => (Some("too_long"), None),
            Err(SideError::NoRoom) => (Some("no_room"), None),
        };
        // The endpoint is given back before anyone learns of it, and asks for another.
        drop(leg.lease);
        progress.end_with(PrefillEnd { failure, usage, took: began.elapsed() });
    }
}
