//! Owns the waking of an engine that sleeps, before the request that needs it goes there.
//!
//! One engine is woken once, whoever waits for it, and not given up with the client that came first. Knows nothing of which
//! engines sleep: their endpoints do.

use super::admit::ShortCircuit;
use super::attempt_failure::{AttemptFailure, NextStep};
use super::deadline::FirstByteWatch;
use super::exchange::Exchange;
use super::failure::RequestFailure;
use super::side_client::{SideClient, SideError, SideRequest};
use super::upstream::{new_request, upstream_path};
use super::{Gateway, replay};
use crate::openai::Rejection;
use crate::server_state::BufferShare;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::Session;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The paths of vLLM's sleep mode.
const WAKE_UP: &str = "/wake_up";
const IS_SLEEPING: &str = "/is_sleeping";

/// How often an engine is asked whether it sleeps yet.
const LOOK: Duration = Duration::from_millis(100);

/// The engines that are being woken, by their addresses; each leaves when that is over.
#[derive(Default)]
pub(super) struct Wakes {
    running: Mutex<HashMap<SocketAddr, Shared<BoxFuture<'static, bool>>>>,
}

#[derive(Deserialize)]
struct SleepState {
    is_sleeping: bool,
}

/// How one engine is woken.
struct EngineWake {
    client: Arc<SideClient>,
    peer: HttpPeer,
    wake_up: RequestHeader,
    is_sleeping: RequestHeader,
    share: BufferShare,
    timeout: Duration,
}

impl Gateway {
    /// Wakes the engine of the current attempt where it sleeps and its pool's policy says so; goes on to another endpoint
    /// where it does not wake.
    pub(super) async fn wake(&self, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
        while let Some(timeout) = exchange.sleeping_for() {
            let Some(waking) = self.waking(exchange, timeout) else { return Ok(()) };
            let began = Instant::now();
            let is_awake = {
                let mut left = pin!(session.as_downstream_mut().read_body_or_idle(true));
                tokio::select! {
                    biased;
                    is_awake = waking => is_awake,
                    why = left.as_mut() => match why {
                        Err(error) if *error.etype() == replay::LATE => false,
                        _ => return Err(ShortCircuit::ClientGone.into_error()),
                    },
                }
            };
            let Some(attempts) = &exchange.attempts else { return Ok(()) };
            if attempts.deadline.is_over(Instant::now()) {
                let late = "the engine took all of the time to wake";
                return Err(RequestFailure::explain(Rejection::UpstreamTimeout, late));
            }
            let pool = &attempts.spec(&exchange.live).name;
            self.metrics.woken(pool, if is_awake { "woken" } else { "failed" }, began.elapsed());
            if is_awake {
                attempts.note_awake();
                return Ok(());
            }
            let failure = AttemptFailure::Connect { timed_out: true };
            match exchange.next(failure, &session.req_header().headers, &self.metrics) {
                NextStep::Retry | NextStep::Reconnect => {}
                NextStep::GiveUp(rejection) => {
                    return Err(RequestFailure::explain(rejection, "the engine does not wake"));
                }
                NextStep::ForwardAnswer => {
                    return Err(RequestFailure::explain(
                        Rejection::UpstreamConnect,
                        "the engine does not wake",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The waking of the current attempt's engine, which may have begun already.
    fn waking(&self, exchange: &Exchange, timeout: Duration) -> Option<Shared<BoxFuture<'static, bool>>> {
        let attempts = exchange.attempts.as_ref()?;
        let (spec, endpoint) = (attempts.spec(&exchange.live), attempts.leased()?);
        let address = endpoint.addr();
        attempts.deadline.await_first_byte(Instant::now(), timeout + LOOK, FirstByteWatch::default());
        let mut running = self.wakes.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waking) = running.get(&address) {
            return Some(waking.clone());
        }
        let id = format!("{}-wake", exchange.record.own_id());
        let authority = attempts.authority().unwrap_or_default();
        let path = |path| upstream_path(path, &spec.api, "");
        let wake = EngineWake {
            client: Arc::clone(&self.side_client),
            peer: self.upstream_tls.peer(spec, endpoint),
            wake_up: new_request(spec, authority, &path(WAKE_UP), 0, &id).ok()?,
            is_sleeping: question(new_request(spec, authority, &path(IS_SLEEPING), 0, &id).ok()?),
            share: exchange.active.new_share(),
            timeout,
        };
        tracing::info!(pool = spec.name, endpoint = %address, "the engine is woken");
        let wakes = Arc::clone(&self.wakes);
        // A task of its own: others may wait for it when this client has left.
        let task = tokio::spawn(async move {
            let is_awake = wake.run().await;
            wakes.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
            is_awake
        });
        let waking = task.map(|ended| ended.unwrap_or(false)).boxed().shared();
        running.insert(address, waking.clone());
        Some(waking)
    }
}

impl EngineWake {
    /// Wakes the engine; says whether it is awake in time.
    async fn run(mut self) -> bool {
        let end = tokio::time::Instant::now() + self.timeout;
        let mut late = pin!(async move {
            tokio::time::sleep_until(end).await;
            Ok(None)
        });
        let wake_up = SideRequest::without_body(self.peer.clone(), self.wake_up.clone());
        if self.client.send(wake_up, &mut self.share, late.as_mut()).await.is_err() {
            return false;
        }
        loop {
            let question = SideRequest::without_body(self.peer.clone(), self.is_sleeping.clone());
            match self.client.send(question, &mut self.share, late.as_mut()).await {
                Ok(answer) => match serde_json::from_slice::<SleepState>(&answer.body) {
                    Ok(state) if state.is_sleeping => {}
                    _ => return true,
                },
                // It says no more than that it was told to wake.
                Err(SideError::Failed(AttemptFailure::Status { .. })) => return true,
                Err(SideError::Failed(_)) if tokio::time::Instant::now() < end => {}
                Err(_) => return false,
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Makes a request of one that has a body.
fn question(mut header: RequestHeader) -> RequestHeader {
    header.set_method(Method::GET);
    header.remove_header(&CONTENT_LENGTH);
    header.remove_header(&CONTENT_TYPE);
    header
}
