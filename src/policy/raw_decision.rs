//! Owns the shape of decisions and recipes in the policy file. Refuses to know what the values mean together:
//! `check_decision` does.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::RawDuration;
use super::raw_plugins::{RawPlugins, RawReasoning};

/// Which of several matching decisions wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Strategy")]
pub(super) enum RawStrategy {
    /// The one with the highest priority.
    #[default]
    Priority,
    /// The one with the highest score; of equal ones that with the highest priority.
    Confidence,
}

/// A list of decisions behind names of its own.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Recipe")]
pub(super) struct RawRecipe {
    /// The names that ask for it.
    #[schemars(inner(length(min = 1, max = 256)), length(min = 1, max = 64))]
    pub(super) virtual_models: Vec<String>,
    /// The model that is used when no decision matches; the policy's when absent.
    #[serde(default)]
    pub(super) default_model: Option<String>,
    /// Which of several matching decisions wins; as in the policy when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawStrategy")]
    pub(super) strategy: Option<RawStrategy>,
    /// The rules.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub(super) decisions: Vec<RawDecision>,
}

/// One rule: requests for which the condition holds go to one of these models, or are answered here.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Decision")]
pub(super) struct RawDecision {
    /// The name that responses, logs and metrics show.
    #[schemars(length(min = 1, max = 128))]
    pub(super) name: String,
    /// What the rule is for, in the operator's words.
    #[serde(default)]
    pub(super) description: Option<String>,
    /// The rank; the highest matching rule wins.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub(super) priority: i32,
    /// Lower tiers are tried first; a matching rule of a lower tier wins over every higher one.
    #[serde(default)]
    #[schemars(range(max = 1000))]
    pub(super) tier: u32,
    /// The condition; without one, and without `domains`, the rule holds for every request.
    #[serde(default)]
    #[schemars(with = "RawCondition")]
    pub(super) when: Option<RawCondition>,
    /// Short for a condition: the domains of which one must be the prompt's.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub(super) domains: Vec<String>,
    /// The least confidence for `domains`, from 0 to 1; the classifier's when absent.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_confidence: Option<f64>,
    /// What happens when the condition cannot be told because a signal has no answer.
    #[serde(default)]
    pub(super) on_unknown: RawOnUnknownSignal,
    /// Which requests the rule is for; all when it has `respond` or a guard, else those that name no model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawAppliesTo")]
    pub(super) applies_to: Option<RawAppliesTo>,
    /// The model, by name or alias.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// The models of which one is chosen.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub(super) models: Vec<RawModelRef>,
    /// How one of several models is chosen.
    #[serde(default)]
    pub(super) choose: RawChoose,
    /// What keeps a conversation on the model it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawSticky")]
    pub(super) sticky: Option<RawSticky>,
    /// Models that are tried, in order, when the chosen one has no endpoint or fails.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub(super) fallback: Vec<String>,
    /// How long everything may take, retries included; the pool's `total` when absent.
    #[serde(default)]
    #[schemars(with = "RawDuration")]
    pub(super) timeout: Option<RawDuration>,
    /// Another model that gets a copy of some requests; its answers are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawShadow")]
    pub(super) shadow: Option<RawShadow>,
    /// What is done to requests and answers.
    #[serde(default)]
    pub(super) plugins: RawPlugins,
}

/// A condition: a signal's name, or exactly one of `signal`, `domain`, `any`, `all` and `not`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Condition")]
pub(super) enum RawCondition {
    /// The signal of this name matches.
    Name(String),
    /// One of the forms of a condition.
    Node(Box<RawNode>),
}

/// A condition with parts or with a threshold of its own.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Node")]
pub(super) struct RawNode {
    /// The signal of this name matches, or reaches `min_score`.
    pub(super) signal: Option<String>,
    /// The prompt is about this domain, or about one of these.
    #[schemars(with = "RawOneOrMore")]
    pub(super) domain: Option<RawOneOrMore>,
    /// The least score, for `signal` and `domain`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: Option<f64>,
    /// One of these holds.
    #[schemars(length(max = 1000))]
    pub(super) any: Option<Vec<RawCondition>>,
    /// All of these hold; none of them, and it always does.
    #[schemars(length(max = 1000))]
    pub(super) all: Option<Vec<RawCondition>>,
    /// This does not hold.
    #[schemars(with = "RawCondition")]
    pub(super) not: Option<RawCondition>,
}

/// A name, or a list of names.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "OneOrMore")]
pub(super) enum RawOneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

/// What happens when a condition cannot be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "OnUnknownSignal")]
pub(super) enum RawOnUnknownSignal {
    /// The rule does not hold.
    #[default]
    Skip,
    /// The rule holds: for guards that should rather err than let something pass.
    Match,
    /// The request is refused with 503.
    Reject,
}

/// Which requests a decision is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AppliesTo")]
pub(super) enum RawAppliesTo {
    /// Those that leave the model open.
    Auto,
    /// Those that name a model too: `respond` and the guards hold for them, the model stays.
    All,
}

/// One of the models of a decision: its name, or a mapping.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ModelRef")]
pub(super) enum RawModelRef {
    /// The model's name or alias.
    Name(String),
    /// The model and how it is used.
    Full(RawFullModelRef),
}

/// A model and how a decision uses it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FullModelRef")]
pub(super) struct RawFullModelRef {
    /// The model's name or alias.
    pub(super) model: String,
    /// Its share relative to the others with `choose: {by: weight}`; 0 takes it out.
    #[serde(default = "one_hundred")]
    #[schemars(range(max = 1_000_000))]
    pub(super) weight: u32,
    /// The adapter that is asked for instead of the model itself; one of the model's `loras`.
    #[serde(default)]
    pub(super) lora: Option<String>,
    /// Whether, and how hard, the model reasons; as in `plugins` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawReasoning")]
    pub(super) reasoning: Option<RawReasoning>,
}

fn one_hundred() -> u32 {
    100
}

/// How one of several models is chosen.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Choose")]
pub(super) struct RawChoose {
    /// By what; `first`, or `weight` if a model of the list has one, when absent.
    #[schemars(with = "RawChooseBy")]
    pub(super) by: Option<RawChooseBy>,
    /// The least `quality` of a model, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_quality: f64,
    /// The longest time to the first token that is good enough, as measured.
    #[schemars(with = "RawDuration")]
    pub(super) max_ttft: Option<RawDuration>,
    /// The longest time for each further token that is good enough, as measured.
    #[schemars(with = "RawDuration")]
    pub(super) max_time_per_token: Option<RawDuration>,
    /// What counts how much with `by: score`.
    pub(super) weights: RawChooseWeights,
}

/// By what a model is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ChooseBy")]
pub(super) enum RawChooseBy {
    /// The first of the list that can be reached.
    First,
    /// At random, by weight.
    Weight,
    /// The cheapest, by its price and the length of the request.
    Cost,
    /// The quickest, as measured.
    Latency,
    /// The best by quality, cost, latency and load together.
    Score,
}

/// What counts how much.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ChooseWeights")]
pub(super) struct RawChooseWeights {
    /// The models' `quality`.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub(super) quality: f64,
    /// Their price.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub(super) cost: f64,
    /// Their measured speed.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub(super) latency: f64,
    /// How many requests they have in flight.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub(super) load: f64,
}

impl Default for RawChooseWeights {
    fn default() -> Self {
        Self { quality: 1.0, cost: 1.0, latency: 1.0, load: 1.0 }
    }
}

/// What keeps a conversation on the model it has.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sticky")]
pub(super) struct RawSticky {
    /// What the requests of a conversation have in common.
    pub(super) on: RawStickyOn,
    /// How long a conversation without requests is remembered.
    #[serde(default = "half_an_hour")]
    pub(super) ttl: RawDuration,
    /// By how much another model must be better, from 0 to 1, for `by: cost`, `latency` and `score`.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) margin: f64,
}

fn half_an_hour() -> RawDuration {
    RawDuration(Duration::from_secs(1800))
}

fn tenth() -> f64 {
    0.1
}

/// What the requests of a conversation have in common: `conversation`, `identity`, or a mapping.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "StickyOn")]
pub(super) enum RawStickyOn {
    /// Something that every request has.
    Word(RawStickyWord),
    /// Something that clients send.
    Sent(RawStickySent),
}

/// Something that every request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "StickyWord")]
pub(super) enum RawStickyWord {
    /// The system prompt and the first message of the user.
    Conversation,
    /// The user that `identity` has verified.
    Identity,
}

/// Something that clients send; exactly one of the two.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "StickySent")]
pub(super) struct RawStickySent {
    /// A request header.
    pub(super) header: Option<String>,
    /// A string at the top level of the body.
    pub(super) field: Option<String>,
}

/// A copy of some requests for another model.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Shadow")]
pub(super) struct RawShadow {
    /// The model, by name or alias.
    pub(super) model: String,
    /// The share of requests, from 0 to 1.
    #[serde(default = "whole")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) share: f64,
}

fn whole() -> f64 {
    1.0
}

/// The recipes of a policy, by name.
pub(super) type RawRecipes = IndexMap<String, RawRecipe>;
