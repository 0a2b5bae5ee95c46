//! Owns what endpoints are scored by, and how much each score counts. Refuses to know an endpoint's figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;

/// What endpoints are scored by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scorer {
    /// Waiting requests, the fewest among the endpoints best.
    Queue,
    /// Running requests, the fewest best.
    Running,
    /// The share of the KV cache that is free.
    KvCache,
    /// The share of the prompt that is cached.
    Prefix,
    /// Whether the adapter is loaded, or has room.
    Lora,
    /// Waiting requests, fewer than 128 better.
    LoadAware,
    /// Requests in flight from here, the fewest best.
    ActiveRequest,
    /// Tokens of prompts that are still computed for requests from here.
    TokenLoad,
    /// Prompts that no endpoint has anything of go in turn.
    NoHitLru,
}

/// Scores with their weights, none of which is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scorers(Vec<(Scorer, u32)>);

impl Scorers {
    /// Takes whole weights.
    pub(super) fn of<const N: usize>(weights: [(Scorer, u32); N]) -> Self {
        Self(weights.map(|(scorer, weight)| (scorer, weight * THOUSANDTHS)).into())
    }

    /// Takes weights as they are written; a scorer that stands twice counts with both.
    pub(super) fn checked(weights: &[(Scorer, f64)], path: &YamlPath, checker: &mut Checker<'_>) -> Self {
        let mut scorers: Vec<(Scorer, u32)> = Vec::new();
        for (scorer, weight) in weights {
            if !is_weight(*weight) {
                checker.issue(path, format!("a weight {BAD_WEIGHT}"));
                continue;
            }
            let weight = (weight * f64::from(THOUSANDTHS)).round() as u32;
            match scorers.iter_mut().find(|(known, _)| known == scorer) {
                Some((_, known)) => *known += weight,
                None if weight > 0 => scorers.push((*scorer, weight)),
                None => {}
            }
        }
        if scorers.is_empty() {
            checker.issue(path, "must give at least one score a weight");
        }
        Self(scorers)
    }

    /// Each with its weight.
    pub fn iter(&self) -> impl Iterator<Item = (Scorer, f64)> {
        self.0.iter().map(|(scorer, weight)| (*scorer, f64::from(*weight) / f64::from(THOUSANDTHS)))
    }

    /// One's weight, 0 where it does not count.
    pub fn weight(&self, scorer: Scorer) -> f64 {
        self.iter().find(|(one, _)| *one == scorer).map_or(0.0, |(_, weight)| weight)
    }
}

/// Weights are compared exactly, in thousandths.
const THOUSANDTHS: u32 = 1_000;

/// The greatest weight.
const MAX_WEIGHT: f64 = 1_000.0;

/// The weight of each score, from 0 to 1000; 0 leaves it out. Each score is 0 to 1, as the plugins of the Gateway API
/// inference extension define them.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ScorerWeights {
    /// `queue-scorer`: waiting requests, the fewest among the endpoints best.
    queue: f64,
    /// `running-requests-size-scorer`: running requests, the fewest best.
    running: f64,
    /// `kv-cache-utilization-scorer`: the share of the KV cache that is free.
    kv_cache: f64,
    /// `prefix-cache-scorer`: the share of the prompt that is cached.
    prefix: f64,
    /// `lora-affinity-scorer`: whether the adapter is loaded, or has room.
    lora: f64,
    /// `load-aware-scorer`: half of the share of 128 places in the queue that are free.
    load_aware: f64,
    /// `active-request-scorer`: requests in flight from this process, the fewest best.
    active_request: f64,
    /// `token-load-scorer`: tokens of prompts still to be computed for this process, of 4,194,304.
    token_load: f64,
    /// `no-hit-lru-scorer`: prompts that no endpoint has anything of go in turn.
    no_hit_lru: f64,
}

impl ScorerWeights {
    pub(super) fn check(&self, path: &YamlPath, checker: &mut Checker<'_>) -> Scorers {
        let all = [
            ("queue", Scorer::Queue, self.queue),
            ("running", Scorer::Running, self.running),
            ("kv_cache", Scorer::KvCache, self.kv_cache),
            ("prefix", Scorer::Prefix, self.prefix),
            ("lora", Scorer::Lora, self.lora),
            ("load_aware", Scorer::LoadAware, self.load_aware),
            ("active_request", Scorer::ActiveRequest, self.active_request),
            ("token_load", Scorer::TokenLoad, self.token_load),
            ("no_hit_lru", Scorer::NoHitLru, self.no_hit_lru),
        ];
        for (name, _, weight) in all {
            if !is_weight(weight) {
                checker.issue(&path.key(name), BAD_WEIGHT);
            }
        }
        let weights: Vec<(Scorer, f64)> = all
            .into_iter()
            .filter(|(_, _, weight)| is_weight(*weight))
            .map(|(_, scorer, weight)| (scorer, weight))
            .collect();
        Scorers::checked(&weights, path, checker)
    }
}

const BAD_WEIGHT: &str = "must be from 0 to 1000";

fn is_weight(weight: f64) -> bool {
    (0.0..=MAX_WEIGHT).contains(&weight)
}
