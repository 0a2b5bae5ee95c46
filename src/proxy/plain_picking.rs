//! Owns the asking of a backend's external endpoint picker for a request of no inference API: it is told all of the request,
//! which is then sent as often as it takes.
//!
//! Knows nothing of the protocol.

use super::admit::ShortCircuit;
use super::body::BodyLimits;
use super::deadline::Deadline;
use super::exchange::Exchange;
use super::ext_proc::{PickerFailure, PickerQuestion};
use super::failure::RETRY_AFTER;
use super::headers::{is_credential, names_of};
use super::plain_request::prepare_plainly;
use super::replay::{ExpectedAnswer, ReplayHandle};
use super::{Gateway, body};
use crate::openai::Rejection;
use crate::policy::{Balance, FailureMode};
use bytes::Bytes;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Instant;

impl Gateway {
    /// Reads a body whole, for a picker to see.
    pub(super) async fn read_for_picker(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<Bytes, ShortCircuit> {
        let limits = BodyLimits { max_bytes: self.limits.max_body_bytes, time: self.limits.body_timeout };
        let read = body::read(session.as_downstream_mut(), limits, &mut exchange.active).await;
        let body = read.ok_or(ShortCircuit::ClientGone)??;
        exchange.record.request.request_bytes = body.len();
        Ok(body)
    }

    /// Has the picker of the backend choose the endpoint, unless the client leaves meanwhile; then the session sends this
    /// body for every attempt.
    pub(super) async fn pick_plainly(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        body: Bytes,
    ) -> Result<(), ShortCircuit> {
        if let Some(pass) = &mut exchange.passthrough {
            pass.length = Some(body.len());
        }
        let mut header = session.req_header().clone();
        prepare_plainly(&mut header, exchange)?;
        let mut headers = header.headers.clone();
        for name in names_of(&headers, is_credential) {
            headers.remove(&name);
        }
        let path = header.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let Exchange { live, passthrough: Some(pass), active, .. } = &mut *exchange else { return Ok(()) };
        let mut sent = body;
        if let Balance::External(picker) = &pass.spec(live).balance {
            let (began, pool) = (Instant::now(), live.pool(pass.via().pool));
            let open = pool.available_addresses(&[], began);
            let question = PickerQuestion {
                path,
                headers,
                body: &sent,
                subset: (open.len() < pool.members().len()).then_some(&open),
                timeout: picker.timeout.min(pass.rest(began)),
            };
            let answered = tokio::select! {
                biased;
                answered = self.pickers.ask(picker, question) => answered,
                _left = session.as_downstream_mut().read_body_or_idle(true) => return Err(ShortCircuit::ClientGone),
            };
            let named = answered.and_then(|answer| {
                let body = answer.body.clone();
                let is_known = pass.take_pick(live, answer, Instant::now());
                is_known.then_some(body).ok_or(PickerFailure::Unavailable("unknown_endpoint"))
            });
            let label = named.as_ref().map_or_else(PickerFailure::label, |_| "picked");
            self.metrics.picked_externally(&pass.spec(live).name, label, began.elapsed());
            match named {
                Ok(Some(own)) => {
                    let full = |_full| Rejection::Overloaded { retry_after: RETRY_AFTER };
                    active.buffered.grow_to(active.buffered.bytes() + own.len()).map_err(full)?;
                    (pass.length, sent) = (Some(own.len()), own);
                }
                Ok(None) => {}
                // What the picker would have named nobody knows: the pool's own choice stays.
                Err(PickerFailure::Unavailable(_)) if picker.failure_mode == FailureMode::FailOpen => {
                    pass.picked = None;
                }
                Err(failure) => return Err(failure.rejection().into()),
            }
        }
        let deadline = Arc::new(Deadline::new(exchange.opened));
        let answer = ExpectedAnswer { may_have_stages: false, keep_alive: exchange.answer.api.keep_alive() };
        exchange.replay = Some(ReplayHandle::install(session, sent, deadline, answer));
        Ok(())
    }
}
