//! Owns the models that a decision names. Refuses to know how one of them is chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Choose, ChooseBy, DecisionBuilder};
use crate::ModelId;
use crate::checker::Checker;
use crate::issue::YamlPath;
use crate::plugins::{RawReasoning, Reasoning};

/// A model and how a decision uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// The model.
    pub model: ModelId,
    /// Its share relative to the others.
    pub weight: u32,
    /// The adapter that is requested instead of the model itself.
    pub lora: Option<String>,
    /// Whether, and how hard, it reasons; as in the plugins where there is none.
    pub reasoning: Option<Reasoning>,
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
    model: String,
    /// Its share relative to the others with `choose: {by: weight}`; 0 takes it out.
    #[serde(default = "one_hundred")]
    #[schemars(range(max = 1_000_000))]
    weight: u32,
    /// The adapter that is requested instead of the model itself; one of the model's `loras`.
    #[serde(default)]
    lora: Option<String>,
    /// Whether, and how hard, the model reasons; as in `plugins` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawReasoning")]
    reasoning: Option<RawReasoning>,
}

fn one_hundred() -> u32 {
    100
}

impl RawModelRef {
    /// Whether it has a weight of its own.
    pub(super) fn is_weighted(&self) -> bool {
        matches!(self, Self::Full(full) if full.weight != one_hundred())
    }
}

impl DecisionBuilder<'_> {
    /// Gives the models that `model` and `models` name.
    pub(super) fn models(
        &self,
        model: Option<String>,
        models: Vec<RawModelRef>,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Vec<ModelRef> {
        if model.is_some() && !models.is_empty() {
            checker.issue(&path.key("models"), "either `model` or `models`; both cannot stand");
        }
        let context = self.rules.context;
        let plain = |model| ModelRef { model, weight: one_hundred(), lora: None, reasoning: None };
        let single = model.and_then(|name| context.model(&name, &path.key("model"), checker));
        let mut found: Vec<ModelRef> = single.map(plain).into_iter().collect();
        let path = path.key("models");
        for (index, raw) in models.into_iter().enumerate() {
            let path = path.index(index);
            found.extend(match raw {
                RawModelRef::Name(name) => context.model(&name, &path, checker).map(plain),
                RawModelRef::Full(full) => self.full(full, &path, checker),
            });
        }
        if !found.is_empty() && found.iter().all(|found| found.weight == 0) {
            checker.issue(&path, "each has the weight 0");
        }
        found
    }

    fn full(&self, raw: RawFullModelRef, path: &YamlPath, checker: &mut Checker<'_>) -> Option<ModelRef> {
        let context = self.rules.context;
        let model = context.model(&raw.model, &path.key("model"), checker)?;
        let loras = &self.models[model.0].loras;
        if let Some(lora) = raw.lora.as_ref().filter(|lora| !loras.contains(lora)) {
            checker.unknown(&path.key("lora"), "adapter", lora, loras.iter().map(String::as_str));
        }
        let reasoning = raw.reasoning.map(|raw| raw.or_default(context.default_effort));
        Some(ModelRef { model, weight: raw.weight, lora: raw.lora, reasoning })
    }

    /// Requires that prices which are compared are in one currency.
    pub(super) fn check_currencies(
        &self,
        choose: &Choose,
        models: &[ModelRef],
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) {
        let compares = match choose.by {
            ChooseBy::Cost => true,
            ChooseBy::Score => choose.weights.cost > 0,
            ChooseBy::First | ChooseBy::Weight | ChooseBy::Latency => false,
        };
        let prices = models.iter().filter_map(|one| self.models[one.model.0].price.as_ref());
        let mut currencies: Vec<&str> = prices.map(|price| price.currency.as_str()).collect();
        currencies.sort_unstable();
        currencies.dedup();
        if compares && currencies.len() > 1 {
            let message =
                format!("compares prices in {}; they must be in one currency", currencies.join(" and "));
            checker.issue(&path.key("by"), message);
        }
    }
}
