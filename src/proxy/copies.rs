//! Owns which requests are copied, and to where: to the shadow of their decision, and to the mirrors of their route.
//!
//! Knows nothing of how a copy is sent.

use super::Gateway;
use super::exchange::Exchange;
use super::shadow::{ShadowRequest, ShadowUpstream};
use crate::openai::ChatRequest;
use crate::route::{FollowedRule, LeaseInput, PlanTarget, lease_endpoint};
use http::HeaderMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A copy that is to be sent.
struct PlannedCopy {
    /// The name of the model, for the log and the metrics.
    model: String,
    /// Where it is tried, in order.
    targets: Vec<PlanTarget>,
    request: ChatRequest,
}

impl Gateway {
    /// Sends the copies of a request that has its first endpoint.
    pub(super) fn send_copies(&self, exchange: &mut Exchange, headers: &HeaderMap) {
        for copy in shadow(exchange).into_iter().chain(mirrors(exchange)) {
            self.send_copy(exchange, headers, copy);
        }
    }

    fn send_copy(&self, exchange: &mut Exchange, headers: &HeaderMap, copy: PlannedCopy) {
        let Some(attempts) = &exchange.attempts else { return };
        let PlannedCopy { model, targets, request } = copy;
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
            request_id: format!("{}-shadow", exchange.record.own_id()),
        };
        exchange.record.details().shadow = Some(model);
        let (upstream_tls, metrics) = (Arc::clone(&self.upstream_tls), Arc::clone(&self.metrics));
        self.shadows.send_in_background(copy, share, upstream_tls, metrics);
    }
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
    })
}

/// The copies for the backends that the request's route mirrors it to, where it falls to their shares.
fn mirrors(exchange: &Exchange) -> Vec<PlannedCopy> {
    let Some(attempts) = &exchange.attempts else { return Vec::new() };
    let (target, Some(routed)) = (attempts.target(), exchange.live.layers.routed()) else {
        return Vec::new();
    };
    let Some(via) = &target.via else { return Vec::new() };
    let falls_to = |numerator: u32, denominator: u32| rand::random_range(0..denominator.max(1)) < numerator;
    let chosen = via.rule.filters.mirrors.iter().filter(|one| falls_to(one.numerator, one.denominator));
    let copy = |pool| PlannedCopy {
        model: exchange.live.policy[target.model].name.clone(),
        targets: vec![PlanTarget {
            via: Some(Arc::new(FollowedRule {
                rule: Arc::clone(&via.rule),
                backend: via.backend,
                pool,
                prefix: None,
            })),
            endpoint: None,
            ..target.clone()
        }],
        request: attempts.request.upstream_request().clone(),
    };
    chosen.filter_map(|mirror| routed.pool(mirror.backend)).map(copy).collect()
}
