//! Owns the policy's decisions: which requests each is for, and where those go. Refuses to know how a decision is reached.

mod choose;
mod conversations;
mod recipe;
mod rule;
mod sticky;
mod target;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::duration::DurationText;
use super::issue::YamlPath;
use super::plugins::{Plugins, RawPlugins};
use super::{BasisPoints, ModelId};
use choose::RawChoose;
pub use choose::{Choose, ChooseBy, ChooseWeights};
pub use conversations::KeptConversations;
pub use recipe::{DecisionStrategy, Recipe};
pub(super) use recipe::{RawRouting, RecipeContext, recipes};
use rule::RawCondition;
pub use rule::Rule;
pub use sticky::{Sticky, StickyOn};
pub use target::ModelRef;
use target::RawModelRef;

/// One rule: requests for which it holds go to one of these models, or are answered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The name that responses, logs and metrics show.
    pub name: String,
    /// What the rule is for; empty when the operator left it out.
    pub description: String,
    /// The rank; the highest matching rule wins.
    pub priority: i32,
    /// Lower tiers win over higher ones.
    pub tier: u32,
    /// Which requests it is for.
    pub when: DecisionCondition,
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

/// Which requests a decision is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionCondition {
    /// The condition.
    pub rule: Rule,
    /// What happens when the condition is unknown because a signal is.
    pub on_unknown: OnUnknownSignal,
    /// Whether requests that name a model are among them.
    pub applies_to: AppliesTo,
}

/// What happens when a condition is unknown because a signal is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknownSignal {
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
pub enum AppliesTo {
    /// Those that leave the model open.
    Auto,
    /// Those that name a model too: the plugins hold for them, guards included; the model stays.
    All,
}

/// A copy of some requests for another model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// The model.
    pub model: ModelId,
    /// The share of requests.
    pub share: BasisPoints,
}

/// One rule: requests for which the condition holds go to one of these models, or are answered here.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Decision", deny_unknown_fields)]
pub(super) struct RawDecision {
    /// The name that responses, logs and metrics show.
    #[schemars(length(min = 1, max = 128))]
    name: String,
    /// What the rule is for, in the operator's words.
    #[serde(default)]
    description: Option<String>,
    /// The rank; the highest matching rule wins.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    priority: i32,
    /// Lower tiers are tried first; a matching rule of a lower tier wins over every higher one.
    #[serde(default)]
    #[schemars(range(max = 1000))]
    tier: u32,
    #[serde(flatten)]
    when: RawDecisionCondition,
    #[serde(flatten)]
    targets: RawTargets,
    /// What is done to requests and answers.
    #[serde(default)]
    plugins: RawPlugins,
}

/// Which requests a decision is for.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct RawDecisionCondition {
    /// The condition; without one, and without `domains`, the rule holds for every request.
    #[serde(default)]
    #[schemars(with = "RawCondition")]
    when: Option<RawCondition>,
    /// Short for a condition: the domains of which one must be the prompt's.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    domains: Vec<String>,
    /// The least confidence for `domains`, from 0 to 1; the classifier's when absent.
    #[serde(default)]
    min_confidence: Option<BasisPoints>,
    /// What happens when the condition is unknown because a signal is.
    #[serde(default)]
    on_unknown: OnUnknownSignal,
    /// Which requests the rule is for; all when it has `respond` or a guard, else those that name no model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AppliesTo")]
    applies_to: Option<AppliesTo>,
}

/// Where the requests of a decision go.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct RawTargets {
    /// The model, by name or alias.
    #[serde(default)]
    model: Option<String>,
    /// The models of which one is chosen.
    #[serde(default)]
    #[schemars(length(max = 64))]
    models: Vec<RawModelRef>,
    /// How one of several models is chosen.
    #[serde(default)]
    choose: RawChoose,
    /// What keeps a conversation on the model it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Sticky")]
    sticky: Option<Sticky>,
    /// Models that are tried, in order, when the chosen one has no endpoint or fails.
    #[serde(default)]
    #[schemars(length(max = 16))]
    fallback: Vec<String>,
    /// How long everything may take, retries included; the pool's `total` when absent.
    #[serde(default)]
    #[schemars(with = "DurationText")]
    timeout: Option<DurationText>,
    /// Another model that gets a copy of some requests; its answers are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawShadow")]
    shadow: Option<RawShadow>,
}

/// A copy of some requests for another model.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Shadow")]
struct RawShadow {
    /// The model, by name or alias.
    model: String,
    /// The share of requests, from 0 to 1.
    #[serde(default = "whole")]
    share: BasisPoints,
}

fn whole() -> BasisPoints {
    BasisPoints(10_000)
}

impl RawDecision {
    /// Whether it is for requests that name a model too.
    fn is_for_all(&self) -> bool {
        let has_guards = self.plugins.responds() || self.plugins.has_guards();
        self.when.applies_to.map_or(has_guards, |applies_to| applies_to == AppliesTo::All)
    }
}

/// Puts decisions together from what they refer to.
struct DecisionBuilder<'a> {
    rules: rule::RuleBuilder<'a>,
    models: &'a [super::model::Model],
}

impl DecisionBuilder<'_> {
    fn decision(&mut self, raw: RawDecision, path: &YamlPath, checker: &mut Checker<'_>) -> Decision {
        let applies_to = if raw.is_for_all() { AppliesTo::All } else { AppliesTo::Auto };
        let context = self.rules.context;
        let targets = raw.targets;
        if targets.model.is_none() && targets.models.is_empty() && !raw.plugins.responds() {
            checker.issue(path, "the key `model` is missing; only `plugins.respond` does without");
        }
        let is_weighted = targets.models.iter().any(RawModelRef::is_weighted);
        let models = self.models(targets.model, targets.models, path, checker);
        let choose = targets.choose.check(is_weighted, &path.key("choose"), checker);
        self.check_currencies(&choose, &models, &path.key("choose"), checker);
        let mut sticky = targets.sticky;
        if let Some(sticky) = &mut sticky {
            sticky.check(&path.key("sticky"), context, checker);
        }
        let fallback_path = path.key("fallback");
        let fallback = targets.fallback.iter().enumerate();
        Decision {
            name: raw.name,
            description: raw.description.unwrap_or_default(),
            priority: raw.priority,
            tier: raw.tier,
            when: DecisionCondition {
                on_unknown: raw.when.on_unknown,
                applies_to,
                rule: self.rule(raw.when, path, checker),
            },
            models,
            choose,
            sticky,
            fallback: fallback
                .filter_map(|(index, name)| context.model(name, &fallback_path.index(index), checker))
                .collect(),
            timeout: targets.timeout.map(|timeout| timeout.0),
            shadow: targets.shadow.and_then(|raw| {
                let model = context.model(&raw.model, &path.key("shadow").key("model"), checker)?;
                Some(Shadow { model, share: raw.share })
            }),
            plugins: raw.plugins.check(&path.key("plugins"), context, checker),
        }
    }

    fn rule(&mut self, raw: RawDecisionCondition, path: &YamlPath, checker: &mut Checker<'_>) -> Rule {
        if raw.min_confidence.is_some() && raw.domains.is_empty() {
            checker.issue(&path.key("min_confidence"), "only with `domains`; in `when` it is `min_score`");
        }
        match raw.when {
            Some(_) if !raw.domains.is_empty() => {
                checker.issue(&path.key("domains"), "either `when` or `domains`; both cannot stand");
                Rule::All(Vec::new())
            }
            Some(when) => self.rules.rule(when, &path.key("when"), checker),
            None if raw.domains.is_empty() => Rule::All(Vec::new()),
            None => self.rules.domains(raw.domains, raw.min_confidence, &path.key("domains"), checker),
        }
    }
}
