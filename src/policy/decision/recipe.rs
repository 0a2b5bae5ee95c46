//! Owns lists of decisions: the policy's own and those behind further names. Refuses to know single decisions.

use std::cmp::Reverse;
use std::collections::HashSet;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::RuleBuilder;
use super::{Decision, DecisionBuilder, KeptConversations, RawDecision};
use crate::ModelId;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;
use crate::model::{Model, ModelNames};
use crate::signal::SignalTable;

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
    pub strategy: DecisionStrategy,
    /// What becomes of a conversation's message that matches none of them.
    pub conversations: KeptConversations,
    /// The decisions, in the order in which they are tried: by tier, then by priority, then as in the file.
    pub decisions: Vec<Decision>,
}

impl Recipe {
    /// Whether it keeps conversations on their decision: there is one, and a request may match none.
    pub fn keeps_conversations(&self) -> bool {
        let mut decisions = self.decisions.iter();
        self.conversations.keep
            && !self.decisions.is_empty()
            && !decisions.any(|decision| decision.when.rule.holds_always())
    }
}

/// Which of several matching decisions wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionStrategy {
    /// The one with the highest priority.
    #[default]
    Priority,
    /// The one with the highest score; of equal ones that with the highest priority.
    Confidence,
}

/// How the model of a request is chosen where the request leaves it open.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RawRouting {
    /// Names that ask for a decision instead of naming a model, such as `auto`.
    #[serde(default)]
    #[schemars(inner(length(min = 1, max = 256)), length(max = 64))]
    virtual_models: Vec<String>,
    /// The model that is used when no decision matches; required with `virtual_models`.
    #[serde(default)]
    default_model: Option<String>,
    /// Which of several matching decisions wins.
    #[serde(default)]
    strategy: DecisionStrategy,
    /// What becomes of a conversation's message that matches no decision.
    #[serde(default)]
    conversations: KeptConversations,
    /// The rules that choose a model; the highest priority first, ties in the order of the file.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    decisions: Vec<RawDecision>,
    /// Further lists of rules, each behind names of its own.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    recipes: IndexMap<String, RawRecipe>,
}

/// A list of decisions behind names of its own.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Recipe")]
struct RawRecipe {
    /// The names that ask for it.
    #[schemars(inner(length(min = 1, max = 256)), length(min = 1, max = 64))]
    virtual_models: Vec<String>,
    /// The model that is used when no decision matches; the policy's when absent.
    #[serde(default)]
    default_model: Option<String>,
    /// Which of several matching decisions wins; as in the policy when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DecisionStrategy")]
    strategy: Option<DecisionStrategy>,
    /// What becomes of a conversation's message that matches no decision; as in the policy when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KeptConversations")]
    conversations: Option<KeptConversations>,
    /// The rules.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    decisions: Vec<RawDecision>,
}

/// What lists of decisions refer to.
pub(crate) struct RecipeContext<'a> {
    pub(crate) policy: &'a PolicyContext<'a>,
    pub(crate) models: &'a [Model],
    pub(crate) names: &'a ModelNames,
}

/// Puts the policy's own list of decisions and its recipes together.
pub(crate) fn recipes(
    raw: RawRouting,
    context: &RecipeContext<'_>,
    signals: &mut SignalTable,
    checker: &mut Checker<'_>,
) -> Vec<Recipe> {
    let root = YamlPath::default();
    check_virtual_models(&raw, context.names, checker);
    let default_path = root.key("default_model");
    let has_default = raw.default_model.is_some();
    let own_default = raw.default_model.and_then(|name| context.policy.model(&name, &default_path, checker));
    if !has_default && !raw.virtual_models.is_empty() {
        checker.issue(&default_path, "the key is missing; `virtual_models` need a model for unknown texts");
    }
    if raw.virtual_models.is_empty() && raw.decisions.iter().any(|decision| !decision.is_for_all()) {
        let message = "without `virtual_models` no request asks for a decision";
        checker.issue(&root.key("decisions"), message);
    }
    let conversations = raw.conversations.check(&root.key("conversations"), checker);
    let rules = RuleBuilder { context: context.policy, signals };
    let mut builder = DecisionBuilder { rules, models: context.models };
    let mut recipes = vec![Recipe {
        name: None,
        virtual_models: raw.virtual_models,
        default_model: own_default,
        strategy: raw.strategy,
        conversations,
        decisions: builder.decisions(raw.decisions, &root.key("decisions"), checker),
    }];
    for (name, recipe) in raw.recipes {
        let path = root.key("recipes").key(&name);
        checker.name(&path, &name);
        if recipe.default_model.is_none() && !has_default {
            checker.issue(&path, "the key `default_model` is missing, and the policy has none either");
        }
        let default_model = match recipe.default_model {
            Some(name) => context.policy.model(&name, &path.key("default_model"), checker),
            None => own_default,
        };
        recipes.push(Recipe {
            name: Some(name),
            virtual_models: recipe.virtual_models,
            default_model,
            strategy: recipe.strategy.unwrap_or(raw.strategy),
            conversations: match recipe.conversations {
                Some(own) => own.check(&path.key("conversations"), checker),
                None => recipes[0].conversations.clone(),
            },
            decisions: builder.decisions(recipe.decisions, &path.key("decisions"), checker),
        });
    }
    recipes
}

fn check_virtual_models(raw: &RawRouting, names: &ModelNames, checker: &mut Checker<'_>) {
    let root = YamlPath::default();
    let own = (root.key("virtual_models"), &raw.virtual_models);
    let others = raw
        .recipes
        .iter()
        .map(|(name, recipe)| (root.key("recipes").key(name).key("virtual_models"), &recipe.virtual_models));
    let mut seen: Vec<&str> = Vec::new();
    for (path, virtual_models) in std::iter::once(own).chain(others) {
        for (index, name) in virtual_models.iter().enumerate() {
            if names.models.contains_key(name) || names.loras.contains_key(name) {
                checker.issue(&path.index(index), format!("`{name}` names a model already"));
            }
            if seen.contains(&name.as_str()) {
                checker.issue(&path.index(index), format!("`{name}` stands twice"));
            }
            seen.push(name);
        }
    }
}

impl DecisionBuilder<'_> {
    /// Puts a list of decisions together, in the order in which they are tried.
    fn decisions(
        &mut self,
        raw: Vec<RawDecision>,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Vec<Decision> {
        let mut names: HashSet<String> = HashSet::new();
        let mut decisions = Vec::with_capacity(raw.len());
        for (index, raw) in raw.into_iter().enumerate() {
            let path = path.index(index);
            if !names.insert(raw.name.clone()) {
                checker.issue(&path.key("name"), format!("another decision is named `{}` already", raw.name));
            }
            checker.name(&path.key("name"), &raw.name);
            decisions.push(self.decision(raw, &path, checker));
        }
        // The sort is stable, so ties keep the order of the file.
        decisions.sort_by_key(|decision| (decision.tier, Reverse(decision.priority)));
        decisions
    }
}
