//! Owns what goes into a request's record before it is forwarded: its header, its sender, the routing decision and
//! what reading the prompt cost.
//!
//! Decides nothing.

use super::exchange::Exchange;
use super::headers::{X_REQUEST_ID, sane_id};
use crate::openai::ChatRequest;
use crate::policy::{Principal, Reasoning};
use crate::route::{GuardNotice, RoutingTrace};
use crate::signals::{SignalEvaluation, Signals};
use crate::telemetry::{GuardRecord, MatchedSignal, bounded, millis};
use pingora_proxy::Session;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::time::Duration;

impl Exchange {
    /// Records what the header says, before anything can fail.
    pub(super) fn record_header(&mut self, session: &Session) {
        let header = session.req_header();
        let own = new_request_id();
        match header.headers.get(X_REQUEST_ID).and_then(sane_id) {
            Some(id) => (self.record.request_id, self.record.gateway_request_id) = (id.to_owned(), Some(own)),
            None => self.record.request_id = own,
        }
        self.record.client = session.client_addr().and_then(|client| client.as_inet()).copied();
        self.record.request.method = header.method.clone();
        self.record.request.path = bounded(header.uri.path());
    }

    pub(super) fn record_request(&mut self, request: &ChatRequest) {
        self.record.request.requested_model = Some(bounded(request.model()));
        self.record.request.stream = request.stream();
    }

    pub(super) fn record_principal(&mut self, principal: Option<&Principal>) {
        if let Some(principal) = principal {
            let identity = &mut self.record.details().identity;
            identity.user = Some(principal.user.clone());
            identity.tenant.clone_from(&principal.tenant);
        }
    }

    pub(super) fn record_trace(&mut self, trace: RoutingTrace) {
        let routing = &mut self.record.routing;
        routing.model = trace.model(&self.live.policy).map(|model| model.name.clone());
        routing.reason = Some(trace.reason.as_str());
        if let Some(label) = &trace.label {
            routing.category = Some(label.name.to_string());
            routing.confidence = Some(label.confidence);
            routing.coverage = Some(label.coverage);
        }
        if trace.decision.is_some() || !trace.notices.is_empty() {
            let details = self.record.details();
            let decision = &mut details.decision;
            decision.recipe = trace.recipe;
            decision.score = trace.score;
            if let Some(chosen) = trace.chosen {
                decision.algorithm = Some(chosen.by);
                decision.algorithm_reason = Some(chosen.reason);
                decision.runner_up = chosen.runner_up.map(|other| other.to_string());
            }
            decision.reasoning = trace.reasoning.map(|reasoning| match reasoning {
                Reasoning::Off => "off",
                Reasoning::On(effort) => effort.as_str(),
            });
            decision.system_prompt = trace.system_prompt.then_some(true);
            trace.notices.into_iter().for_each(|notice| record_notice(&mut details.guards, notice));
        }
        self.record.routing.decision = trace.decision;
    }

    pub(super) fn record_signals(&mut self, signals: &Signals) {
        let policy = &self.live.policy;
        let matching = signals.iter().filter_map(|(id, told)| {
            let reading = told.value.as_ref().ok().filter(|reading| reading.matches)?;
            let signal = &policy[id];
            Some(MatchedSignal {
                name: signal.name.clone(),
                kind: signal.kind.as_str(),
                score: reading.score,
            })
        });
        let matching: Vec<MatchedSignal> = matching.collect();
        if !matching.is_empty() {
            self.record.details().decision.signals = matching;
        }
    }

    pub(super) fn record_classifier(&mut self, known: &SignalEvaluation, took: Duration) {
        let (classifier, cost) = (&mut self.record.classifier, known.cost);
        let judges = known.prompt.iter().chain(known.findings()).map(|findings| &findings.judges);
        let judges = judges.into_iter().find(|judges| !judges.is_empty());
        classifier.judged_by = judges.map(|judges| judges.join(" "));
        classifier.classify_ms = Some(millis(took));
        classifier.classify_queued_ms = Some(millis(cost.queued));
        classifier.classify_tokens = Some(cost.tokens);
        classifier.classify_windows = Some(cost.windows);
        classifier.classify_cached = Some(cost.cached);
    }
}

fn record_notice(guards: &mut GuardRecord, notice: GuardNotice) {
    match notice {
        GuardNotice::Jailbreak { score, at } => {
            guards.jailbreak = Some(score);
            guards.jailbreak_at = at.map(|at| at.to_string());
        }
        GuardNotice::Pii { kinds } => guards.pii = kinds,
        GuardNotice::Unjudged { guard, reason } => guards.unjudged.push((guard, reason.as_str())),
    }
}

/// Each byte in hexadecimal.
static HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut hex = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        hex[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    hex
};

thread_local! {
    /// For ids, which need only differ.
    static IDS: RefCell<SmallRng> = RefCell::new(SmallRng::from_rng(&mut rand::rng()));
}

/// An id that no other request has, whatever clients send.
fn new_request_id() -> String {
    let number: u128 = IDS.with_borrow_mut(Rng::random);
    let mut id = *b"req-................................";
    for (pair, byte) in id[4..].as_chunks_mut::<2>().0.iter_mut().zip(number.to_le_bytes()) {
        *pair = HEX[usize::from(byte)];
    }
    std::str::from_utf8(&id).unwrap_or_default().to_owned()
}
