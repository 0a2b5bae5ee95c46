//! Owns a request's way from its header to its first endpoint: who asks, what, what becomes of it.
//!
//! Each step may end it with an answer of our own; whoever leaves meanwhile ends it too. Writes nothing to the client.

use super::cache_lookup::{CacheControl, CacheLookup, CacheQuery};
use super::exchange::{Exchange, RETRY_AFTER};
use super::{Gateway, body, identity, shadow};
use crate::openai::{Api, ChatRequest, Operation, Rejection};
use crate::policy::Person;
use crate::route::{self, Answer, Asking, Extras, Plan, Planned};
use bytes::Bytes;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Instant;

/// How a request ends that goes no further.
pub(super) enum Ended {
    /// With words of our own.
    Said(Api, Box<ChatRequest>, Answer),
    /// With an answer that was given before.
    Again(Api, Box<ChatRequest>, Bytes),
    ListModels,
    GetModel(String),
    Rejected(Rejection),
    /// The client has left.
    Gone,
}

impl From<Rejection> for Ended {
    fn from(rejection: Rejection) -> Self {
        Ended::Rejected(rejection)
    }
}

impl Gateway {
    /// Takes a request up to its first endpoint; gives its body.
    pub(super) async fn admit(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Bytes, Ended> {
        let header = session.req_header();
        let operation = Operation::of(&header.method, header.uri.path())?;
        let identity = &exchange.live.policy.identity;
        let peer = exchange.record.client.map(|client| client.ip());
        let person = identity::person(identity, &header.headers, peer);
        if identity.required && person.is_none() {
            return Err(Rejection::Unidentified.into());
        }
        exchange.debug = identity::may_debug(identity, &header.headers, peer, person.as_ref());
        exchange.note_person(person.as_ref());
        if self.vitals.in_flight() > self.limits.max_in_flight {
            return Err(Rejection::Overloaded { retry_after: RETRY_AFTER }.into());
        }
        let api = match operation {
            Operation::ListModels => return Err(Ended::ListModels),
            Operation::GetModel(name) => return Err(Ended::GetModel(name)),
            Operation::Infer(api) => api,
        };
        let limits = body::Limits { max_bytes: self.limits.max_body_bytes, time: self.limits.body_timeout };
        let bytes = body::read(session.as_downstream_mut(), limits, &mut exchange.in_flight).await;
        let bytes = bytes.ok_or(Ended::Gone)??;
        exchange.record.asked.request_bytes = bytes.len();
        let request = ChatRequest::of(api, bytes)?;
        exchange.note_request(&request);
        let now = Instant::now();
        let plan = match self.plan(session, exchange, (api, &request, person.as_ref()), now).await? {
            Ok(plan) => plan,
            Err(answer) => return Err(Ended::Said(api, Box::new(request), answer)),
        };
        if let Some(extras) = plan.extras.as_deref().filter(|extras| extras.cache.is_some()) {
            let asking = (api, &request, person.as_ref());
            if let Some(answer) = Box::pin(self.cached(session, exchange, asking, extras)).await? {
                return Err(Ended::Again(api, Box::new(request), answer));
            }
        }
        let body = request.body().clone();
        exchange.set_out(api, request, plan, (&session.req_header().headers, now))?;
        self.cast_shadow(exchange);
        Ok(body)
    }

    /// Sends a copy of some requests to another model, as their decision wants it.
    fn cast_shadow(&self, exchange: &mut Exchange) {
        let Some(course) = &exchange.course else { return };
        let Some(extras) = &course.plan.extras else { return };
        let Some(shadow) = extras.shadow.filter(|shadow| rand::random::<f32>() < shadow.share.fraction())
        else {
            return;
        };
        let copy = shadow::Copy {
            live: Arc::clone(&exchange.live),
            api: course.api,
            request: extras.request.as_ref().unwrap_or(&course.request).clone(),
            model: shadow.model,
            request_id: format!("{}-shadow", exchange.record.request_id),
        };
        let name = exchange.live.policy[shadow.model].name.clone();
        exchange.record.chosen.beside().shadow = Some(name);
        self.shadows.cast(copy, Arc::clone(&self.wardrobe), Arc::clone(&self.metrics));
    }

    /// Plans a request, unless its client leaves meanwhile.
    async fn plan(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        (api, request, person): (Api, &ChatRequest, Option<&Person>),
        began: Instant,
    ) -> Result<Result<Plan, Answer>, Ended> {
        let live = Arc::clone(&exchange.live);
        let sent = exchange.sent_headers(&session.req_header().headers);
        let deadline = began + live.policy.classifier.deadline;
        let asking = Asking { api, request, person, sent: &sent, deadline };
        let planned = tokio::select! {
            biased;
            planned = route::plan(&live, asking) => planned,
            _left = session.as_downstream_mut().read_body_or_idle(true) => return Err(Ended::Gone),
        };
        let Planned { story, known, outcome } = planned;
        if let Some(known) = known {
            let took = began.elapsed();
            known.findings().for_each(|findings| self.metrics.classified(findings, took));
            exchange.note_cost(known.cost, took);
            exchange.note_signals(&known.signals);
        }
        if let Some(story) = story {
            exchange.note_story(story);
        }
        Ok(outcome)
    }

    /// Looks for an answer that was given before, unless the client leaves meanwhile.
    async fn cached(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        (api, request, person): (Api, &ChatRequest, Option<&Person>),
        extras: &Extras,
    ) -> Result<Option<Bytes>, Ended> {
        let live = Arc::clone(&exchange.live);
        let (Some(cache), Some(wanted)) = (&live.cache, extras.cache) else { return Ok(None) };
        let control = CacheControl::of(&session.req_header().headers);
        let chosen = exchange.record.chosen.clone();
        let query = CacheQuery { cache, wanted, api, request, person, chosen: &chosen, extras, control };
        let lookup = tokio::select! {
            biased;
            lookup = query.look_up() => lookup,
            _left = session.as_downstream_mut().read_body_or_idle(true) => return Err(Ended::Gone),
        };
        let beside = exchange.record.chosen.beside();
        let (word, found) = match lookup {
            CacheLookup::Found(answer, word, score) => {
                beside.cache_similarity = Some(score);
                (word, Some(answer))
            }
            CacheLookup::Missed(pending_store) => {
                exchange.pending_store = Some(pending_store);
                ("miss", None)
            }
            CacheLookup::Bypassed => ("bypass", None),
        };
        beside.cache = Some(word);
        Ok(found)
    }
}
