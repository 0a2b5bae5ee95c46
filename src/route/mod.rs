//! Owns where a request meets the policy: the plan for it, and why.
//!
//! Knows nothing of sockets; calls the classifier only when a decision, a guard or a plugin needs what it tells.

mod changes;
mod guards;
mod models;

pub use changes::body_for;

use crate::classify::{Label, Unknown};
use crate::decide::{DecisionOutcome, decide};
use crate::openai::{Api, ChatRequest, Rejection};
use crate::policy::{
    AnswerGuard, CacheUse, Decision, HeaderChanges, Model, ModelId, OnUnknown, PiiAction, Policy, Principal,
    Reasoning, Recipe, Route, Shadow,
};
use crate::signals::{Audience, SignalEvaluation, SignalQuery, Signals};
use crate::snapshot::Snapshot;
use changes::Shelf;
use guards::{Guarding, Masked, Ruling};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is asked, and by whom.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The API it is asked of.
    pub api: Api,
    /// The request.
    pub request: &'a ChatRequest,
    /// Who asks, where that is verified.
    pub principal: Option<&'a Principal>,
    /// The headers that decisions keep conversations on their models by, as the client sent them.
    pub sent: &'a [(String, String)],
    /// By when the classifier must have answered.
    pub deadline: Instant,
}

/// What becomes of a request, and the story of how that came about.
#[derive(Debug)]
pub struct Planned {
    /// What the response, the log and the metrics say; none where the request was refused before anything was decided.
    pub story: Option<Story>,
    /// What was found out about the request, where anything was asked.
    pub known: Option<SignalEvaluation>,
    /// Where it goes, or what it is answered.
    pub outcome: Result<Plan, Answer>,
}

/// Why a request goes where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// Why this model.
    pub reason: Reason,
    /// The model that was chosen.
    pub model: Option<ModelId>,
    /// The name of the list of decisions, if it is not the policy's own.
    pub recipe: Option<String>,
    /// The name of the decision that matched.
    pub decision: Option<String>,
    /// Its score, from 0 to 1.
    pub score: Option<f32>,
    /// What the prompt is about, where that was asked.
    pub label: Option<Label>,
    /// By what one of several models was chosen, and why this one.
    pub chosen: Option<(&'static str, &'static str)>,
    /// Whether the model was told to reason.
    pub reasoning: Option<Reasoning>,
    /// Whether the operator's system prompt went in.
    pub system_prompt: bool,
    /// What guards noticed.
    pub notices: Vec<Notice>,
}

/// Something that a guard noticed.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// An attack on the model.
    Jailbreak {
        /// How probable, from 0 to 1.
        score: f32,
    },
    /// Personal data.
    Pii {
        /// The kinds.
        kinds: Vec<String>,
    },
    /// A guard had no answer.
    Unjudged {
        /// Which.
        guard: &'static str,
        /// Why.
        reason: Unknown,
    },
}

/// An answer of our own instead of an upstream's.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The request is not served.
    Rejected(Rejection),
    /// A guard blocks it; how that is said is the policy's choice.
    Blocked(Rejection),
    /// The operator's fixed words.
    Fixed(String),
}

/// What will be done with a request.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where it is tried, in order; never empty.
    pub targets: Vec<Target>,
    /// What is done beside.
    pub extras: Option<Box<Extras>>,
}

/// A model behind one of its pools.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The model.
    pub model: ModelId,
    /// Which of its routes.
    pub route: usize,
    /// The adapter that is asked for instead.
    pub lora: Option<String>,
    /// Whether, and how hard, it is to reason.
    pub reasoning: Option<Reasoning>,
}

impl Target {
    /// The pool, and the model's name there.
    pub fn route<'a>(&self, policy: &'a Policy) -> &'a Route {
        &policy[self.model].routes[self.route]
    }

    /// The name that its upstream knows it by.
    pub fn upstream_model<'a>(&'a self, policy: &'a Policy) -> &'a str {
        self.lora.as_deref().unwrap_or(&self.route(policy).upstream_model)
    }
}

/// What is done with a request and its answer beside sending it on.
#[derive(Debug, Default, Clone)]
pub struct Extras {
    /// The request as the plugins and guards have changed it.
    pub request: Option<ChatRequest>,
    /// Changes to the headers that go upstream.
    pub headers: HeaderChanges,
    /// How long everything may take.
    pub timeout: Option<Duration>,
    /// Another model that gets a copy.
    pub shadow: Option<Shadow>,
    /// Whether the answer may be kept and given again.
    pub cache: Option<CacheUse>,
    /// What is held against the answer.
    pub answer: Option<AnswerGuard>,
    /// Whether a signal says that the answer needs facts.
    pub needs_facts: bool,
    /// What was masked and is put back into the answer: the words there, and what they stand for.
    pub unmask: Masked,
    /// What the prompt means, for the cache.
    pub embedding: Option<Arc<[f32]>>,
}

/// Why a plan names the model it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client named the model.
    Named,
    /// A decision matched.
    Decided,
    /// A guard sends attacks there.
    Guarded,
    /// No decision matched.
    NoDecision,
    /// The classifier gave no answer, and the policy says to fall back.
    Unclassified(Unknown),
}

impl Reason {
    /// The reason as logs and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Named => "named",
            Reason::Decided => "decided",
            Reason::Guarded => "guarded",
            Reason::NoDecision => "default",
            Reason::Unclassified(Unknown::Busy) => "default_classifier_busy",
            Reason::Unclassified(Unknown::Late) => "default_classifier_late",
            Reason::Unclassified(Unknown::Failed) => "default_classifier_failed",
            Reason::Unclassified(Unknown::Empty) => "default_no_text",
            Reason::Unclassified(Unknown::Unsupported) => "default_classifier_unsupported",
            Reason::Unclassified(Unknown::TooLong) => "default_classifier_too_long",
        }
    }
}

impl Story {
    fn new(reason: Reason) -> Self {
        Self {
            reason,
            model: None,
            recipe: None,
            decision: None,
            score: None,
            label: None,
            chosen: None,
            reasoning: None,
            system_prompt: false,
            notices: Vec::new(),
        }
    }

    /// The chosen model, as the policy knows it.
    pub fn model<'a>(&self, policy: &'a Policy) -> Option<&'a Model> {
        Some(&policy[self.model?])
    }
}

/// What the name of a model leaves open.
#[derive(Clone, Copy)]
enum Aim<'a> {
    Named { model: ModelId, lora: Option<&'a str> },
    Open(&'a Recipe),
}

fn aim<'a>(policy: &'a Policy, name: &'a str) -> Result<Aim<'a>, Rejection> {
    if let Some(model) = policy.model(name) {
        return Ok(Aim::Named { model, lora: None });
    }
    if let Some(model) = policy.model_of_lora(name) {
        return Ok(Aim::Named { model, lora: Some(name) });
    }
    policy.recipe(name).map(Aim::Open).ok_or_else(|| Rejection::UnknownModel { name: name.to_owned() })
}

/// Plans a request: by the model it names, or by what is known about it.
pub async fn plan(snapshot: &Snapshot, asking: Asking<'_>) -> Planned {
    let policy = &snapshot.policy;
    let aim = match aim(policy, asking.request.model()) {
        Ok(aim) => aim,
        Err(rejection) => {
            let outcome = Err(Answer::Rejected(rejection));
            return Planned { story: None, known: None, outcome };
        }
    };
    let requirements = match &aim {
        Aim::Named { model, .. } => snapshot.requirements_for_model(*model),
        Aim::Open(recipe) => snapshot.requirements_for(recipe),
    };
    let deadline = asking.deadline;
    let known = if requirements.is_empty() {
        None
    } else {
        let query =
            SignalQuery { request: asking.request, principal: asking.principal, requirements, deadline };
        Some(snapshot.detectors.evaluate(query, &snapshot.classifier).await)
    };
    let nothing = SignalEvaluation::default();
    let told = known.as_ref().unwrap_or(&nothing);
    let settled = settled(policy, aim, &told.signals, told.label());
    let (story, outcome) = match settled {
        Ok(mut settled) => {
            let mut outcome = course(snapshot, asking, told, &mut settled);
            if let (Ok(plan), Some(decision)) = (&mut outcome, settled.routing) {
                let equipped = Box::pin(equip(plan, snapshot, asking, told, decision)).await;
                settled.story.system_prompt = equipped.is_ok() && decision.plugins.system_prompt.is_some();
                settled.story.reasoning = plan.targets.first().and_then(|target| target.reasoning);
                outcome = equipped.map_err(Answer::Rejected).and(outcome);
            }
            (Some(settled.story), outcome)
        }
        Err(rejection) => (None, Err(Answer::Rejected(rejection))),
    };
    Planned { story, known, outcome }
}

/// What the decisions make of a request, before its guards are asked.
#[derive(Debug)]
pub struct Settled<'a> {
    /// The story so far.
    pub story: Story,
    /// The decision that matched.
    pub decision: Option<&'a Decision>,
    /// The same, where it is not the client that named the model.
    routing: Option<&'a Decision>,
    default: ModelId,
    lora: Option<&'a str>,
}

impl<'a> Settled<'a> {
    fn new(reason: Reason, default: ModelId) -> Self {
        Self { story: Story::new(reason), decision: None, routing: None, default, lora: None }
    }

    fn with(mut self, (decision, score): (&'a Decision, f32)) -> Self {
        self.story.decision = Some(decision.name.clone());
        self.story.score = Some(score);
        self.decision = Some(decision);
        self.routing = Some(decision).filter(|_| self.story.reason != Reason::Named);
        self
    }
}

/// Decides about a request for `model` of which this is known: [`plan`] without classifier, guards and plugins.
pub fn settle<'a>(
    policy: &'a Policy,
    model: &'a str,
    signals: &Signals,
    label: Option<&Result<Label, Unknown>>,
) -> Result<Settled<'a>, Rejection> {
    settled(policy, aim(policy, model)?, signals, label)
}

fn settled<'a>(
    policy: &'a Policy,
    aim: Aim<'a>,
    signals: &Signals,
    label: Option<&Result<Label, Unknown>>,
) -> Result<Settled<'a>, Rejection> {
    let mut settled = match aim {
        Aim::Named { model, lora } => {
            let named = Settled { lora, ..Settled::new(Reason::Named, model) };
            match decide(&policy.recipes[0], Audience::Named, signals) {
                DecisionOutcome::Decision(decision, score) => named.with((decision, score)),
                DecisionOutcome::Nothing(_) => named,
                DecisionOutcome::Refused(_, unknown) => {
                    return Err(Rejection::Unjudged { reason: unknown.as_str() });
                }
            }
        }
        Aim::Open(recipe) => open(policy, recipe, signals, label)?,
    };
    settled.story.label = label.and_then(|label| label.as_ref().ok()).cloned();
    settled.story.model.get_or_insert(settled.default);
    Ok(settled)
}

fn open<'a>(
    policy: &'a Policy,
    recipe: &'a Recipe,
    signals: &Signals,
    label: Option<&Result<Label, Unknown>>,
) -> Result<Settled<'a>, Rejection> {
    let unknown_model = || Rejection::UnknownModel { name: recipe.virtual_models.join(", ") };
    let default = recipe.default_model.ok_or_else(unknown_model)?;
    let rejects = policy.classifier.on_unknown == OnUnknown::Reject;
    let mut settled = match decide(recipe, Audience::Open, signals) {
        DecisionOutcome::Decision(decision, score) => {
            let mut decided = Settled::new(Reason::Decided, default).with((decision, score));
            decided.story.model = decision.models.first().map(|first| first.model);
            decided
        }
        DecisionOutcome::Refused(_, unknown) => {
            return Err(Rejection::Unclassified { reason: unknown.as_str() });
        }
        DecisionOutcome::Nothing(Some(unknown)) if rejects => {
            return Err(Rejection::Unclassified { reason: unknown.as_str() });
        }
        DecisionOutcome::Nothing(unknown) => {
            let least = policy.classifier.min_confidence.fraction();
            let is_unsure =
                label.is_some_and(|label| label.as_ref().is_ok_and(|label| label.confidence < least));
            if rejects && is_unsure {
                return Err(Rejection::Unclassified { reason: "unsure" });
            }
            Settled::new(unknown.map_or(Reason::NoDecision, Reason::Unclassified), default)
        }
    };
    settled.story.recipe.clone_from(&recipe.name);
    Ok(settled)
}

/// Holds the guards against a request whose decision is known, and prepares what goes upstream.
fn course(
    snapshot: &Snapshot,
    asking: Asking<'_>,
    known: &SignalEvaluation,
    settled: &mut Settled<'_>,
) -> Result<Plan, Answer> {
    let policy = &snapshot.policy;
    if let Some(text) = settled.decision.and_then(|decision| decision.plugins.respond.clone()) {
        settled.story.model = None;
        return Err(Answer::Fixed(text));
    }
    let mut targets = match settled.routing {
        Some(decision) => models::targets(snapshot, decision, asking, known, &mut settled.story),
        None => models::all_routes(policy, settled.default, settled.lora, None),
    };
    settled.story.model = targets.first().map(|target| target.model);
    let mut guarding = Guarding::of(policy, settled.decision, settled.story.model);
    if let Some(guard) = guarding.prompt {
        match guards::judge_prompt(guard, known, asking.request, &mut settled.story.notices) {
            Ruling::Pass => {}
            Ruling::Refuse(answer) => return Err(answer),
            Ruling::Route(model) => {
                settled.story.reason = Reason::Guarded;
                settled.story.model = Some(model);
                targets = models::all_routes(policy, model, None, None);
                guarding = Guarding::of(policy, settled.decision, Some(model));
            }
        }
    }
    let masked = match guarding.pii {
        Some(guard) => guards::judge_pii(guard, known, asking.request, &mut settled.story.notices)?,
        None => None,
    };
    let unmasks = matches!(guarding.pii.map(|guard| guard.action), Some(PiiAction::Mask { unmask: true }));
    if settled.routing.is_none() && masked.is_none() && guarding.answer.is_none() {
        return Ok(Plan { targets, extras: None });
    }
    let (request, masked) = masked.map_or((None, Masked::new()), |(request, masked)| (Some(request), masked));
    let extras = Extras {
        request,
        answer: guarding.answer.cloned(),
        needs_facts: guarding.answer.is_some_and(|guard| guard.hallucination.unverified)
            && guards::needs_facts(policy, known),
        unmask: if unmasks { masked } else { Masked::new() },
        embedding: known.embedding().cloned(),
        ..Extras::default()
    };
    Ok(Plan { targets, extras: Some(Box::new(extras)) })
}

/// Does to a request what the decision that chose its model wants done.
async fn equip(
    plan: &mut Plan,
    snapshot: &Snapshot,
    asking: Asking<'_>,
    known: &SignalEvaluation,
    decision: &Decision,
) -> Result<(), Rejection> {
    let extras = plan.extras.get_or_insert_default();
    let shelf = Shelf {
        detectors: &snapshot.detectors,
        classifier: &snapshot.classifier,
        known,
        deadline: asking.deadline,
    };
    let request = extras.request.as_ref().unwrap_or(asking.request);
    extras.request = Some(changes::changed(&decision.plugins, asking.api, request, &shelf).await?);
    extras.headers.clone_from(&decision.plugins.headers);
    extras.timeout = decision.timeout;
    extras.shadow = decision.shadow;
    extras.cache = decision.plugins.cache;
    Ok(())
}
