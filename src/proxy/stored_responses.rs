//! Owns what is asked about responses that were made before: by requests that go on from one, and by their ids. What is kept
//! here is answered here; what an endpoint keeps is asked there.
//!
//! Refuses to know how responses are kept, and how they are written.

use super::attempt::Attempts;
use super::cache_lookup::KeyHasher;
use super::exchange::Exchange;
use super::failure::RETRY_AFTER;
use super::planned_request::PlannedRequest;
use crate::balance::hash_key;
use crate::cache::ResponseScope;
use crate::openai::{Api, ChatRequest, Rejection, ResponseAction, StoredResponse, query_value, stream_of};
use crate::policy::{CacheScope, Principal, SpokenApi};
use crate::route::plan_for_owner;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Instant;

/// What is asked about a response, and by whom.
#[derive(Clone, Copy)]
pub(super) struct StoredQuery<'a> {
    pub(super) id: &'a str,
    pub(super) action: ResponseAction,
    /// The query of the path.
    pub(super) query: &'a str,
    pub(super) scope: ResponseScope,
}

/// What is answered here about a response.
pub(super) enum StoredReply {
    Document(Vec<u8>),
    Stream(Bytes),
}

/// Those who share responses with a client: its tenant, or itself.
pub(super) fn response_scope(principal: Option<&Principal>) -> ResponseScope {
    let mut hash = KeyHasher::new();
    hash.owner(CacheScope::Tenant, principal);
    hash.finish()
}

/// Puts the items of the response that a request goes on from into it, where that is kept here.
pub(super) async fn resume(
    exchange: &mut Exchange,
    request: ChatRequest,
    scope: ResponseScope,
) -> Result<ChatRequest, Rejection> {
    let live = Arc::clone(&exchange.live);
    let Some(id) = request.previous_response() else { return Ok(request) };
    let Some(kept) = live.responses.get(scope, &id).await.and_then(StoredResponse::read) else {
        return Ok(request);
    };
    let resumed = request.resumed(&kept)?;
    let held = &mut exchange.active.buffered;
    let grown = held.grow_to(held.bytes() + resumed.body().len());
    grown.map_err(|_full| Rejection::Overloaded { retry_after: RETRY_AFTER })?;
    Ok(resumed)
}

/// Answers what is asked about a response, or finds the endpoint that has it: nothing is answered here then.
pub(super) async fn stored_response(
    exchange: &mut Exchange,
    asked: StoredQuery<'_>,
    headers: &HeaderMap,
) -> Result<Option<StoredReply>, Rejection> {
    let live = Arc::clone(&exchange.live);
    if let Some(kept) = live.responses.get(asked.scope, asked.id).await.and_then(StoredResponse::read) {
        return answer(exchange, &kept, asked).await.map(Some);
    }
    let now = Instant::now();
    let owner = live.upstreams.response_owners.get(hash_key(asked.id.as_bytes()), now);
    let owner = owner.filter(|owner| owner.scope == asked.scope);
    let found = owner.and_then(|owner| Some((plan_for_owner(&live.policy, &owner)?, owner)));
    let Some((plan, owner)) = found else { return Err(unknown(exchange, asked.id)) };
    let model = serde_json::json!({"model": &*owner.model, "previous_response_id": asked.id});
    let request = ChatRequest::of(Api::StoredResponse, model.to_string().into())?;
    exchange.answer.api = Api::StoredResponse;
    exchange.record_request(&request);
    exchange.record.routing.model = Some(owner.model.to_string());
    let planned = PlannedRequest { api: Api::StoredResponse, request, plan, scope: asked.scope };
    exchange.start(planned, 0, headers, now)?;
    if exchange.attempts.as_ref().and_then(Attempts::endpoint) == Some(owner.endpoint) {
        return Ok(None);
    }
    // No other has it.
    exchange.attempts = None;
    Err(Rejection::ResponseOwnerUnknown { id: asked.id.to_owned() })
}

/// Why there is nothing about a response: where all are kept here it is gone, else it may be anywhere.
fn unknown(exchange: &Exchange, id: &str) -> Rejection {
    let mut spoken = exchange.live.policy.pools.iter().flat_map(|pool| &pool.api.speaks);
    let is_kept_elsewhere = spoken.any(|api| *api == SpokenApi::Responses);
    let id = id.to_owned();
    if is_kept_elsewhere { Rejection::ResponseOwnerUnknown { id } } else { Rejection::ResponseNotKept { id } }
}

async fn answer(
    exchange: &Exchange,
    kept: &StoredResponse,
    asked: StoredQuery<'_>,
) -> Result<StoredReply, Rejection> {
    let StoredQuery { id, action, query, scope } = asked;
    match action {
        ResponseAction::Get if query_value(query, "stream").as_deref() == Some("true") => {
            let events = stream_of(kept.response(), Api::Responses, true, 0).ok_or(Rejection::Internal)?;
            let after = query_value(query, "starting_after").and_then(|number| number.parse().ok());
            Ok(StoredReply::Stream(after.map_or(events.clone(), |after| events_after(&events, after))))
        }
        ResponseAction::Get => Ok(StoredReply::Document(kept.response().to_vec())),
        ResponseAction::InputItems => Ok(StoredReply::Document(kept.input_page(query))),
        ResponseAction::Cancel => Err(Rejection::NotInBackground { id: id.to_owned() }),
        ResponseAction::Delete => {
            exchange.live.responses.remove(scope, id).await.map_err(|_away| Rejection::Internal)?;
            let deleted = serde_json::json!({"id": id, "object": "response", "deleted": true});
            Ok(StoredReply::Document(deleted.to_string().into_bytes()))
        }
    }
}

/// The events of a stream of our own behind the one with that number; each has one, from 0.
fn events_after(events: &Bytes, number: usize) -> Bytes {
    let ends = memchr::memmem::find_iter(events, b"\n\n");
    let start = ends.map(|at| at + 2).nth(number).unwrap_or(events.len());
    events.slice(start..)
}
