//! Owns what the operator wants to be decided, checked and final. Refuses to know how a decision is reached.

use std::time::Duration;

use super::plugins::{Plugins, Reasoning};
use super::signal::SignalId;
use super::{BasisPoints, ModelId};

/// A list of decisions behind names of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its name; none for the policy's own list.
    pub name: Option<String>,
    /// The names that ask for it.
    pub virtual_models: Vec<String>,
    /// The model without a matching decision; present whenever there are virtual models.
    pub default_model: Option<ModelId>,
    /// Which of several matching decisions wins.
    pub strategy: Strategy,
    /// The decisions, in the order in which they are tried: by tier, then by priority, then as in the file.
    pub decisions: Vec<Decision>,
}

/// Which of several matching decisions wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The first in the order in which they are tried.
    Priority,
    /// Within a tier the one with the highest score; of equal ones the first.
    Confidence,
}

/// One rule: requests for which it holds go to one of these models, or are answered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The name that responses, logs and metrics show.
    pub name: String,
    /// What the rule is for; empty when the operator said nothing.
    pub description: String,
    /// The rank; the highest matching rule wins.
    pub priority: i32,
    /// Lower tiers win over higher ones.
    pub tier: u32,
    /// The condition.
    pub rule: Rule,
    /// What happens when the condition cannot be told.
    pub on_unknown: OnUnknownSignal,
    /// Which requests it is for.
    pub applies_to: AppliesTo,
    /// The models of which one is chosen; empty only with `plugins.respond`.
    pub models: Vec<ModelRef>,
    /// How one of several models is chosen.
    pub choose: Choose,
    /// What keeps a conversation on the model it has.
    pub sticky: Option<Sticky>,
    /// Models that are tried when the chosen one has no endpoint or fails.
    pub fallback: Vec<ModelId>,
    /// How long everything may take; the pool's `total` where there is none.
    pub timeout: Option<Duration>,
    /// Another model that gets a copy of some requests.
    pub shadow: Option<Shadow>,
    /// What is done to requests and answers.
    pub plugins: Plugins,
}

/// A condition over signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// All of these hold; without any it always does.
    All(Vec<Rule>),
    /// One of these holds.
    Any(Vec<Rule>),
    /// This does not hold.
    Not(Box<Rule>),
    /// A signal matches, or reaches this score.
    Signal {
        /// The signal.
        id: SignalId,
        /// The least score; the signal's own where there is none.
        min_score: Option<BasisPoints>,
    },
}

impl Rule {
    /// Calls `each` with every signal that the rule names.
    pub fn signals(&self, each: &mut impl FnMut(SignalId)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.signals(each)),
            Self::Not(part) => part.signals(each),
            Self::Signal { id, .. } => each(*id),
        }
    }
}

/// What happens when a condition cannot be told because a signal has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknownSignal {
    /// The rule does not hold.
    Skip,
    /// The rule holds.
    Match,
    /// The request is refused.
    Reject,
}

/// Which requests a decision is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppliesTo {
    /// Those that leave the model open.
    Auto,
    /// Those that name a model too.
    All,
}

/// A model and how a decision uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// The model.
    pub model: ModelId,
    /// Its share relative to the others.
    pub weight: u32,
    /// The adapter that is asked for instead of the model itself.
    pub lora: Option<String>,
    /// Whether, and how hard, it reasons; as in the plugins where there is none.
    pub reasoning: Option<Reasoning>,
}

/// How one of several models is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choose {
    /// By what.
    pub by: ChooseBy,
    /// The least quality of a model.
    pub min_quality: BasisPoints,
    /// The longest time to the first token that is good enough.
    pub max_ttft: Option<Duration>,
    /// The longest time for each further token that is good enough.
    pub max_time_per_token: Option<Duration>,
    /// What counts how much with [`ChooseBy::Score`], in thousandths.
    pub weights: ChooseWeights,
}

/// By what a model is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChooseBy {
    /// The first of the list that can be reached.
    First,
    /// At random, by weight.
    Weight,
    /// The cheapest.
    Cost,
    /// The quickest.
    Latency,
    /// The best by several measures together.
    Score,
}

impl ChooseBy {
    /// Returns the word for it, as policies, logs and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Weight => "weight",
            Self::Cost => "cost",
            Self::Latency => "latency",
            Self::Score => "score",
        }
    }
}

/// What counts how much, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChooseWeights {
    /// Quality.
    pub quality: u32,
    /// Price.
    pub cost: u32,
    /// Measured speed.
    pub latency: u32,
    /// Requests in flight.
    pub load: u32,
}

/// What keeps a conversation on the model it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// What its requests have in common.
    pub on: StickyOn,
    /// How long one without requests is remembered.
    pub ttl: Duration,
    /// By how much another model must be better.
    pub margin: BasisPoints,
}

/// What the requests of a conversation have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StickyOn {
    /// The system prompt and the first message of the user.
    Conversation,
    /// The user, as verified.
    Identity,
    /// A request header, in lower case.
    Header(String),
    /// A string at the top level of the body.
    Field(String),
}

/// A copy of some requests for another model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// The model.
    pub model: ModelId,
    /// The share of requests.
    pub share: BasisPoints,
}
