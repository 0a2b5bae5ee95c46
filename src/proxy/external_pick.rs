//! Owns the wait for an external endpoint picker: it ends with the picker's answer, or when the client leaves.
//!
//! Knows nothing of the protocol.

use super::admit::ShortCircuit;
use super::attempt::{PickContext, PickerContext};
use super::exchange::Exchange;
use super::failure::RETRY_AFTER;
use super::{Gateway, replay, upstream};
use crate::openai::Rejection;
use bytes::Bytes;
use pingora_proxy::Session;
use std::future::pending;
use std::time::Instant;

impl Gateway {
    /// Has the picker of the current attempt's pool choose its endpoint, unless the client leaves meanwhile.
    pub(super) async fn pick_externally(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<(), ShortCircuit> {
        let Exchange { live, attempts: Some(attempts), record, active, .. } = exchange else { return Ok(()) };
        let client = session.req_header().clone();
        let path = client.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let pick = PickContext { live, headers: &client.headers, now: Instant::now() };
        let context = PickerContext { pickers: &self.pickers, path, metrics: &self.metrics };
        let headers =
            |attempts: &_| upstream::picker_headers(&client.headers, attempts, live, record.own_id());
        let client_leaves = async {
            match session.as_downstream_mut().read_body_or_idle(true).await {
                Err(error) if *error.etype() != replay::TAKEN_OUT => error.etype().clone(),
                _ => pending().await,
            }
        };
        tokio::select! {
            biased;
            picked = attempts.pick_externally(pick, context, headers) => picked?,
            etype = client_leaves => return Err(match etype {
                replay::LATE => Rejection::UpstreamTimeout.into(),
                _ => ShortCircuit::ClientGone,
            }),
        }
        // A body of the picker's own is one more copy.
        let own = attempts.picker_answer().and_then(|answer| answer.body.as_ref());
        let held = active.buffered.bytes() + own.map_or(0, Bytes::len);
        let full = |_full| Rejection::Overloaded { retry_after: RETRY_AFTER }.into();
        active.buffered.grow_to(held).map_err(full)
    }
}
