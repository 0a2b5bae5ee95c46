//! Owns where the policy in force sends a request, by the same plan as the proxy's and `explain`'s.
//!
//! Knows nothing of how the API spells its answers.

use super::deadline;
use super::envelope::ApiError;
use crate::openai::{Api, ChatRequest, Rejection};
use crate::policy::{Policy, SignalKind};
use crate::route::{DirectResponse, PlanInput, PlanResult, RoutingTrace, plan};
use crate::signals::Signals;
use crate::snapshot::Snapshot;
use axum::http::StatusCode;

/// Where a request would go.
pub(super) struct Routing {
    /// The model; `None` where the request gets none.
    pub(super) model: Option<String>,
    /// The decision that matched.
    pub(super) decision: Option<MatchedDecision>,
    /// The decision's name, or the word for its absence.
    pub(super) word: String,
    /// The signals that the plan read, where it needed any.
    pub(super) signals: Option<Signals>,
}

/// A decision that matched, and by what.
pub(super) struct MatchedDecision {
    pub(super) name: String,
    /// The decision's score, from 0 to 1.
    pub(super) score: f32,
    /// Its signals that matched, as `kind:name`; a domain by the label, as `domain:math`.
    pub(super) rules: Vec<String>,
}

impl Routing {
    /// A routing that no decision made.
    pub(super) fn undecided(model: Option<String>, word: &str) -> Self {
        Self { model, decision: None, word: word.to_owned(), signals: None }
    }

    /// Plans the request, of which nothing comes.
    pub(super) async fn of(live: &Snapshot, request: &ChatRequest) -> Result<Self, ApiError> {
        let input = PlanInput {
            api: Api::Chat,
            request,
            principal: None,
            sent: &[],
            deadline: deadline(live, 1),
            dry_run: true,
        };
        let PlanResult { trace, known, outcome } = plan(live, input).await;
        let signals = known.map(|known| known.signals.clone());
        let Some(trace) = trace else {
            return match outcome {
                Err(DirectResponse::Rejected(unknown @ Rejection::UnknownModel { .. })) => {
                    let message = unknown.to_string();
                    Err(ApiError::new(StatusCode::BAD_REQUEST, "INVALID_ROUTING_MODEL", message))
                }
                _ => Ok(Self { signals, ..Self::undecided(None, "rejected") }),
            };
        };
        let policy = &live.policy;
        Ok(Self {
            model: trace.model(policy).map(|model| model.name.clone()),
            decision: MatchedDecision::of(policy, &trace, signals.as_ref()),
            word: trace.decision.unwrap_or_else(|| trace.reason.as_str().to_owned()),
            signals,
        })
    }
}

impl MatchedDecision {
    fn of(policy: &Policy, trace: &RoutingTrace, signals: Option<&Signals>) -> Option<Self> {
        let name = trace.decision.clone()?;
        let decision = policy.decisions().find(|decision| decision.name == name)?;
        let mut rules = Vec::new();
        decision.when.rule.signals(&mut |id| {
            let told = signals.and_then(|signals| signals.get(id));
            if !told.is_some_and(|told| told.value.as_ref().is_ok_and(|reading| reading.matches)) {
                return;
            }
            let signal = &policy[id];
            let rule = match (&signal.kind, &trace.label) {
                (SignalKind::Domain(_), Some(label)) => format!("domain:{}", label.name),
                (kind, _) => format!("{}:{}", kind.as_str(), signal.name),
            };
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        });
        Some(Self { name, score: trace.score.unwrap_or_default(), rules })
    }
}
