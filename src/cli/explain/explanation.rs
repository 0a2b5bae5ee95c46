//! Owns one explanation and its JSON.

mod text;

use super::super::offline::OfflineSnapshot;
use super::prompts::ExplainPrompt;
use super::replicas::ReplicaStandings;
use crate::classify::{ClassifyCost, Entity, EntitySource, Findings, Label, PiiFindings, Risk, Unknown};
use crate::decide::trace;
use crate::policy::{self, Policy, PriorityInput};
use crate::route::{DirectResponse, GateInput, GuardNotice, Plan, PlanResult, RoutingTrace, find_gate};
use crate::signals::{Audience, SignalResult};
use crate::snapshot::Snapshot;
use crate::telemetry::millis;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where one prompt would go, and why.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    prompt: String,
    requested_model: String,
    signals: ExplainedFindings,
    policy_signals: Vec<ExplainedSignal>,
    decisions: Vec<ExplainedDecision>,
    plan: ExplainedPlan,
    /// What a running gateway says, where one is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<FindingOrReason<ReplicaStandings>>,
    time: ExplainedTime,
}

/// The classifier's findings; a signal that was not requested is missing.
#[derive(Debug, Serialize)]
struct ExplainedFindings {
    /// The models that judged the domain and the jailbreak.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    judges: Vec<String>,
    domain: Option<FindingOrReason<ExplainedDomain>>,
    jailbreak: Option<FindingOrReason<ExplainedJailbreak>>,
    pii: Option<FindingOrReason<Vec<ExplainedEntity>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<FindingOrReason<ExplainedEmbedding>>,
}

/// A finding, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum FindingOrReason<T> {
    Known(T),
    Unknown { unknown: &'static str },
}

#[derive(Debug, Serialize)]
struct ExplainedDomain {
    label: String,
    confidence: f32,
    coverage: f32,
    probabilities: BTreeMap<String, f32>,
}

#[derive(Debug, Serialize)]
struct ExplainedJailbreak {
    score: f32,
    threshold: f32,
    #[serde(rename = "is_jailbreak")]
    flagged: bool,
    /// Which bytes of the prompt have that score.
    at: [usize; 2],
}

#[derive(Debug, Serialize)]
struct ExplainedEntity {
    #[serde(rename = "type")]
    kind: String,
    /// Its first character and the one after its last.
    start: usize,
    end: usize,
    confidence: f32,
    by: &'static str,
}

#[derive(Debug, Serialize)]
struct ExplainedEmbedding {
    width: usize,
    norm: f32,
}

/// A signal of the policy that was needed.
#[derive(Debug, Serialize)]
struct ExplainedSignal {
    name: String,
    kind: &'static str,
    matches: bool,
    score: Option<f32>,
    why: String,
    /// Without the classifier's pass.
    took_us: f64,
}

/// A decision that was evaluated.
#[derive(Debug, Serialize)]
struct ExplainedDecision {
    name: String,
    priority: i32,
    models: Vec<String>,
    matched: bool,
    chosen: bool,
    why: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ExplainedPlan {
    Plan {
        model: String,
        pools: Vec<ExplainedTarget>,
        decision: Option<String>,
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        chosen: Option<(&'static str, &'static str)>,
        #[serde(skip_serializing_if = "Option::is_none")]
        runner_up: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        admission: Option<ExplainedAdmission>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        noticed: Vec<String>,
    },
    Answer {
        decision: Option<String>,
        answered: String,
    },
    Rejection {
        rejected: &'static str,
        status: u16,
        message: String,
    },
}

#[derive(Debug, Serialize)]
struct ExplainedTarget {
    model: String,
    #[serde(rename = "pool")]
    name: String,
    upstream_model: String,
    /// How long its first byte is waited for alone, in milliseconds, where a second endpoint is asked then.
    #[serde(skip_serializing_if = "Option::is_none")]
    hedged_after_ms: Option<f64>,
}

/// What the gate of the first pool goes by, for a client that is not known; a running process says at `/api/v1/pick` what it
/// would do now.
#[derive(Debug, Serialize)]
struct ExplainedAdmission {
    pool: String,
    priority: i32,
    /// `waits` or `refused`.
    when_saturated: &'static str,
    max_wait_ms: f64,
    saturated_from: ExplainedSaturation,
}

/// From when on a pool is saturated, in the mean of its endpoints.
#[derive(Debug, Serialize)]
struct ExplainedSaturation {
    queue: u32,
    kv_usage: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u32>,
}

/// Where the time went.
#[derive(Debug, Serialize)]
struct ExplainedTime {
    tokenize_ms: f64,
    queue_ms: f64,
    compute_ms: f64,
    decide_ms: f64,
    tokens: usize,
    windows: usize,
    cached: usize,
    /// How long the policy lets a request wait for the classifier.
    policy_deadline_ms: f64,
}

/// What an explanation is made of.
pub(super) struct ExplanationParts {
    pub(super) findings: Findings,
    /// The plan, by the very code that plans requests.
    pub(super) planned: PlanResult,
    pub(super) decide_time: Duration,
}

impl Explanation {
    pub(super) fn new(
        offline: &OfflineSnapshot,
        prompt: &ExplainPrompt,
        text: &str,
        parts: ExplanationParts,
    ) -> Self {
        let ExplanationParts { findings, planned, decide_time } = parts;
        let (policy, model) = (&offline.snapshot.policy, prompt.request.model());
        let known = planned.known.as_ref().map(|known| known.signals.clone()).unwrap_or_default();
        let audience = if policy.recipe(model).is_some() { Audience::Open } else { Audience::Named };
        let recipe = policy.recipe(model).unwrap_or(&policy.recipes[0]);
        let chosen = planned.trace.as_ref().and_then(|trace| trace.decision.as_deref());
        let decisions = trace(policy, recipe, audience, &known).map(|step| ExplainedDecision {
            name: step.decision.name.clone(),
            priority: step.decision.priority,
            models: step.decision.models.iter().map(|one| policy[one.model].name.clone()).collect(),
            matched: step.matched(),
            chosen: chosen == Some(step.decision.name.as_str()),
            why: step.to_string(),
        });
        let decisions = decisions.collect();
        let policy_signals = known.iter().map(|(id, told)| ExplainedSignal::new(&policy[id], told)).collect();
        Self {
            line: prompt.line,
            prompt: text.to_owned(),
            requested_model: model.to_owned(),
            decisions,
            policy_signals,
            plan: outcome(&offline.snapshot, planned),
            replicas: None,
            time: ExplainedTime::of(findings.cost, decide_time, policy.classifier.deadline),
            signals: ExplainedFindings::of(findings, offline.snapshot.classifier.labels()),
        }
    }

    /// Adds what a running gateway says of its replicas; `None` where it would send the request to none.
    pub(super) fn tell_of_replicas(&mut self, standings: Option<ReplicaStandings>) {
        let unknown = FindingOrReason::Unknown { unknown: "not_forwarded" };
        self.replicas = Some(standings.map_or(unknown, FindingOrReason::Known));
    }
}

impl ExplainedAdmission {
    fn of(snapshot: &Snapshot, plan: &Plan) -> Option<Self> {
        let input = GateInput { client: PriorityInput::default(), tenant: 0, bytes: 0 };
        let found = find_gate(snapshot, plan, input, Instant::now()).filter(|found| found.gate.is_some())?;
        let spec = snapshot.pool_spec(found.pool);
        let bounds = spec.limits.saturation?;
        Some(Self {
            pool: spec.name.clone(),
            priority: found.request.priority,
            when_saturated: if found.request.priority < 0 { "refused" } else { "waits" },
            max_wait_ms: snapshot.policy.admission.as_ref()?.queue.max_wait.as_secs_f64() * 1e3,
            saturated_from: ExplainedSaturation {
                queue: bounds.queue,
                kv_usage: bounds.kv_usage.fraction(),
                in_flight: spec.limits.max_in_flight,
            },
        })
    }
}

fn outcome(snapshot: &Snapshot, planned: PlanResult) -> ExplainedPlan {
    let policy: &Policy = &snapshot.policy;
    let (decision, reason, chosen, notices) = match planned.trace {
        Some(RoutingTrace { decision, reason, chosen, notices, .. }) => {
            (decision, reason.as_str(), chosen, notices)
        }
        None => (None, "none", None, Vec::new()),
    };
    match planned.outcome {
        Ok(plan) => {
            let first = plan.targets.first().map(|target| target.model);
            let pools = plan.targets.iter().map(|target| ExplainedTarget {
                model: policy[target.model].name.clone(),
                name: policy[target.pool(policy)].name.clone(),
                upstream_model: target.upstream_model(policy).to_owned(),
                hedged_after_ms: policy[target.pool(policy)].limits.hedge.map(|hedge| millis(hedge.after)),
            });
            ExplainedPlan::Plan {
                model: first.map(|model| policy[model].name.clone()).unwrap_or_default(),
                pools: pools.collect(),
                decision,
                reason,
                chosen: chosen.as_ref().map(|chosen| (chosen.by, chosen.reason)),
                runner_up: chosen.and_then(|chosen| Some(chosen.runner_up?.to_string())),
                admission: ExplainedAdmission::of(snapshot, &plan),
                noticed: notices.iter().map(noticed).collect(),
            }
        }
        Err(DirectResponse::Fixed(text)) => ExplainedPlan::Answer { decision, answered: text },
        Err(DirectResponse::Rejected(rejection) | DirectResponse::Blocked(rejection)) => {
            ExplainedPlan::Rejection {
                rejected: rejection.reason(),
                status: rejection.status().as_u16(),
                message: rejection.to_string(),
            }
        }
    }
}

fn noticed(notice: &GuardNotice) -> String {
    match notice {
        GuardNotice::Jailbreak { score, at: None } => format!("jailbreak {score:.4}"),
        GuardNotice::Jailbreak { score, at: Some(at) } => format!("jailbreak {score:.4}: {at}"),
        GuardNotice::Pii { kinds } => format!("pii {}", kinds.join(" ")),
        GuardNotice::Unjudged { guard, reason } => format!("{guard} unjudged: {}", reason.as_str()),
    }
}

impl ExplainedSignal {
    fn new(signal: &policy::Signal, told: &SignalResult) -> Self {
        let (name, kind) = (signal.name.clone(), signal.kind.as_str());
        let took_us = told.took.as_secs_f64() * 1e6;
        match &told.value {
            Ok(reading) => Self {
                name,
                kind,
                matches: reading.matches,
                score: Some(reading.score),
                why: reading.reason.to_string(),
                took_us,
            },
            Err(unknown) => {
                let why = format!("unknown: {}", unknown.as_str());
                Self { name, kind, matches: false, score: None, why, took_us }
            }
        }
    }
}

impl<T> FindingOrReason<T> {
    fn of<U>(answer: Option<Result<U, Unknown>>, known: impl FnOnce(U) -> T) -> Option<Self> {
        Some(match answer? {
            Ok(answer) => Self::Known(known(answer)),
            Err(unknown) => Self::Unknown { unknown: unknown.as_str() },
        })
    }
}

impl ExplainedFindings {
    fn of(findings: Findings, labels: &[Arc<str>]) -> Self {
        Self {
            judges: findings.judges.iter().map(ToString::to_string).collect(),
            domain: FindingOrReason::of(findings.domain, |label: Label| ExplainedDomain {
                probabilities: labels
                    .iter()
                    .map(ToString::to_string)
                    .zip(label.probabilities.iter().copied())
                    .collect(),
                label: label.name.to_string(),
                confidence: label.confidence,
                coverage: label.coverage,
            }),
            jailbreak: FindingOrReason::of(findings.jailbreak, |risk: Risk| ExplainedJailbreak {
                flagged: risk.is_jailbreak(),
                score: risk.score,
                threshold: risk.threshold,
                at: [risk.at.start, risk.at.end],
            }),
            pii: FindingOrReason::of(findings.pii.map(PiiFindings::complete), |found: Vec<Entity>| {
                found.iter().map(ExplainedEntity::of).collect()
            }),
            embedding: FindingOrReason::of(findings.embedding, |vector: Arc<[f32]>| ExplainedEmbedding {
                width: vector.len(),
                norm: vector.iter().map(|value| value * value).sum::<f32>().sqrt(),
            }),
        }
    }
}

impl ExplainedEntity {
    fn of(entity: &Entity) -> Self {
        Self {
            kind: entity.kind.to_string(),
            start: entity.chars.start,
            end: entity.chars.end,
            confidence: entity.confidence,
            by: match entity.by {
                EntitySource::Model => "model",
                EntitySource::Pattern => "pattern",
            },
        }
    }
}

impl ExplainedTime {
    fn of(cost: ClassifyCost, decide: Duration, deadline: Duration) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Self {
            tokenize_ms: ms(cost.tokenize),
            queue_ms: ms(cost.queued),
            compute_ms: ms(cost.compute),
            decide_ms: ms(decide),
            tokens: cost.tokens,
            windows: cost.windows,
            cached: cost.cached,
            policy_deadline_ms: ms(deadline),
        }
    }
}
