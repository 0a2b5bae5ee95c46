//! Owns which requests are copied, and to where: to the shadow of their decision, and to the mirrors of their route.
//!
//! Knows nothing of how a copy is sent.

use super::Gateway;
use super::exchange::Exchange;
use super::header_changes::apply_changes;
use super::headers::{X_REQUEST_ID, is_forwarded, names_of};
use super::shadow::{ShadowRequest, ShadowUpstream};
use crate::http_route::RouteRule;
use crate::openai::ChatRequest;
use crate::policy::{Identity, PoolSpec};
use crate::route::{FollowedRule, LeaseInput, PlanTarget, lease_endpoint};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A copy that is to be sent.
struct PlannedCopy {
    /// The name of the model, for the log and the metrics.
    model: String,
    /// Where it is tried, in order.
    targets: Vec<PlanTarget>,
    request: ChatRequest,
    /// What a mirror gets of the client's headers; a shadow gets none.
    headers: HeaderMap,
}

impl Gateway {
    /// Sends the copies of a request that has its first endpoint.
    pub(super) fn send_copies(&self, exchange: &mut Exchange, headers: &HeaderMap) {
        if !may_be_copied(exchange) {
            return;
        }
        for copy in shadow(exchange).into_iter().chain(mirrors(exchange, headers)) {
            self.send_copy(exchange, headers, copy);
        }
    }

    fn send_copy(&self, exchange: &mut Exchange, headers: &HeaderMap, copy: PlannedCopy) {
        let Some(attempts) = &exchange.attempts else { return };
        let PlannedCopy { model, targets, request, headers: copied } = copy;
        if request.is_form() {
            // A copy is JSON.
            return;
        }
        let pool = |target: &PlanTarget| exchange.live.pool(target.pool(&exchange.live.policy));
        let sheds = |target: &PlanTarget| pool(target).gate().is_some_and(|gate| gate.sheds(Instant::now()));
        // The request, which the copy may outlive, and its body with another model's name.
        let mut share = exchange.active.new_share();
        // Where a pool sheds, clients wait for what a copy would take.
        if targets.first().is_some_and(sheds)
            || share.grow_to(request.footprint() + request.body().len()).is_err()
        {
            self.metrics.shadowed(&model, "dropped", Duration::ZERO, None);
            return;
        }
        let input = LeaseInput {
            headers,
            request: &attempts.request.request,
            upstream_request: &request,
            tried: &[],
            last_resort: false,
            now: Instant::now(),
        };
        let leased = lease_endpoint(&exchange.live, &targets, input);
        let copy = ShadowRequest {
            live: Arc::clone(&exchange.live),
            api: attempts.request.api,
            model: model.clone(),
            upstream: leased
                .map(|leased| ShadowUpstream { target: targets[leased.place].clone(), lease: leased.lease }),
            request,
            headers: copied,
            request_id: format!("{}-shadow", exchange.record.own_id()),
        };
        exchange.record.details().shadow = Some(model);
        let (upstream_tls, metrics) = (Arc::clone(&self.upstream_tls), Arc::clone(&self.metrics));
        self.shadows.send_in_background(copy, share, upstream_tls, metrics);
    }
}

/// Whether there is anything that copies could go to: nothing for most requests, which then move no copies about.
fn may_be_copied(exchange: &Exchange) -> bool {
    exchange.attempts.as_ref().is_some_and(|attempts| {
        let has_shadow =
            attempts.request.plan.effects.as_ref().is_some_and(|effects| effects.shadow.is_some());
        has_shadow || attempts.target().via.is_some()
    })
}

/// The copy for another model, where the decision has a shadow and the request falls to its share.
fn shadow(exchange: &Exchange) -> Option<PlannedCopy> {
    let request = &exchange.attempts.as_ref()?.request;
    let shadow = request.plan.effects.as_ref()?.shadow.as_ref()?;
    if rand::random::<f32>() >= shadow.share.fraction() {
        return None;
    }
    Some(PlannedCopy {
        model: exchange.live.policy[shadow.model].name.clone(),
        targets: shadow.targets.clone(),
        request: shadow.request.as_ref().unwrap_or_else(|| request.upstream_request()).clone(),
        headers: HeaderMap::new(),
    })
}

/// The copies for the backends that the request's route mirrors it to, where it falls to their shares.
fn mirrors(exchange: &Exchange, headers: &HeaderMap) -> Vec<PlannedCopy> {
    let Some(attempts) = &exchange.attempts else { return Vec::new() };
    let (target, Some(routed)) = (attempts.target(), exchange.live.layers.routed()) else {
        return Vec::new();
    };
    let Some(via) = &target.via else { return Vec::new() };
    let falls_to = |numerator: u32, denominator: u32| rand::random_range(0..denominator.max(1)) < numerator;
    let chosen = via.rule.filters.mirrors.iter().filter(|one| falls_to(one.numerator, one.denominator));
    let identity = &exchange.live.policy.identity;
    let copy = |pool| PlannedCopy {
        headers: copied_headers(headers, exchange.live.pool_spec(pool), identity, &via.rule),
        model: exchange.live.policy[target.model].name.clone(),
        targets: vec![PlanTarget {
            via: Some(Arc::new(FollowedRule {
                rule: Arc::clone(&via.rule),
                backend: via.backend,
                pool,
                prefix: via.prefix.clone(),
            })),
            replica: None,
            ..target.clone()
        }],
        request: attempts.request.upstream_request().clone(),
    };
    chosen.filter_map(|mirror| routed.pool(mirror.backend)).map(copy).collect()
}

/// The headers that a copy has of its own.
const OWN: [HeaderName; 6] =
    [HOST, CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, ACCEPT_ENCODING, X_REQUEST_ID];

/// A client's headers as a pool gets them, changed as a rule says; those of the body and the connection are the copy's own.
fn copied_headers(client: &HeaderMap, spec: &PoolSpec, identity: &Identity, rule: &RouteRule) -> HeaderMap {
    let mut headers = client.clone();
    for name in names_of(&headers, |name| OWN.contains(name) || !is_forwarded(name, spec, identity)) {
        headers.remove(&name);
    }
    // A change that can't be made is one that the original could not be sent with.
    let _ = apply_changes(&mut headers, &rule.filters.headers.request);
    headers
}
