//! Owns how a decision chooses one of several models. Refuses to know how models are measured.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BasisPoints;
use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;

/// How one of several models is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choose {
    /// The measure that the models are ranked by.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChooseBy {
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

impl ChooseBy {
    /// Returns the name, as policies, logs and metrics spell it.
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
    /// The models' stated quality.
    pub quality: u32,
    /// What the request would cost.
    pub cost: u32,
    /// Times to the first and to each further token, as measured.
    pub latency: u32,
    /// Requests in flight on the model.
    pub load: u32,
}

/// How one of several models is chosen.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Choose")]
pub(super) struct RawChoose {
    /// By what; `first`, or `weight` if a model of the list has one, when absent.
    #[schemars(with = "ChooseBy")]
    by: Option<ChooseBy>,
    /// The least `quality` of a model, from 0 to 1.
    min_quality: BasisPoints,
    /// The longest time to the first token that is good enough, as measured.
    #[schemars(with = "DurationText")]
    max_ttft: Option<DurationText>,
    /// The longest time for each further token that is good enough, as measured.
    #[schemars(with = "DurationText")]
    max_time_per_token: Option<DurationText>,
    /// What counts how much with `by: score`.
    weights: RawChooseWeights,
}

/// What counts how much.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ChooseWeights")]
struct RawChooseWeights {
    /// The models' `quality`.
    #[schemars(range(min = 0.0, max = 100.0))]
    quality: f64,
    /// Their price.
    #[schemars(range(min = 0.0, max = 100.0))]
    cost: f64,
    /// Their measured speed.
    #[schemars(range(min = 0.0, max = 100.0))]
    latency: f64,
    /// How many requests they have in flight.
    #[schemars(range(min = 0.0, max = 100.0))]
    load: f64,
}

impl Default for RawChooseWeights {
    fn default() -> Self {
        Self { quality: 1.0, cost: 1.0, latency: 1.0, load: 1.0 }
    }
}

impl RawChoose {
    /// Completes the choice; `is_weighted` says whether a model of the list has a weight of its own.
    pub(super) fn check(self, is_weighted: bool, path: &YamlPath, checker: &mut Checker<'_>) -> Choose {
        let by = self.by.unwrap_or(if is_weighted { ChooseBy::Weight } else { ChooseBy::First });
        let milli = |weight: f64| (weight * 1000.0).round() as u32;
        let weights = ChooseWeights {
            quality: milli(self.weights.quality),
            cost: milli(self.weights.cost),
            latency: milli(self.weights.latency),
            load: milli(self.weights.load),
        };
        if weights.quality + weights.cost + weights.latency + weights.load == 0 {
            checker.issue(&path.key("weights"), "at least one must be above 0");
        }
        Choose {
            by,
            min_quality: self.min_quality,
            max_ttft: self.max_ttft.map(|time| time.0),
            max_time_per_token: self.max_time_per_token.map(|time| time.0),
            weights,
        }
    }
}
