//! Owns the `EndpointPickerConfig` of the Gateway API inference extension and of llm-d, as it is written there, and what
//! of it is scores with weights. Refuses to know what a score is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::prefill::PoolRole;
use super::scorers::{Scorer, Scorers};
use crate::checker::Checker;
use crate::issue::YamlPath;

/// The groups that the kind is known in: llm-d's, and the extension's before its scheduler moved there.
const GROUPS: [&str; 2] = ["llm-d.ai/", "inference.networking.x-k8s.io/"];

/// The scorers that are known, by their type.
const SCORERS: [(&str, Scorer); 9] = [
    ("queue-scorer", Scorer::Queue),
    ("running-requests-size-scorer", Scorer::Running),
    ("kv-cache-utilization-scorer", Scorer::KvCache),
    ("prefix-cache-scorer", Scorer::Prefix),
    ("lora-affinity-scorer", Scorer::Lora),
    ("load-aware-scorer", Scorer::LoadAware),
    ("active-request-scorer", Scorer::ActiveRequest),
    ("token-load-scorer", Scorer::TokenLoad),
    ("no-hit-lru-scorer", Scorer::NoHitLru),
];

/// Plugins that say what is so here anyway: one profile, the highest score, engines' metrics, prefixes by what was sent.
const GIVEN: [&str; 12] = [
    "max-score-picker",
    "single-profile-handler",
    "decode-filter",
    "metrics-data-source",
    "core-metrics-extractor",
    "approx-prefix-cache-producer",
    "inflight-load-producer",
    "utilization-detector",
    "openai-parser",
    "anthropic-parser",
    "vllmhttp-parser",
    "passthrough-parser",
];

/// Plugins whose parameters only size or name what is found out in another way here.
const SIZED: [&str; 5] = [
    "prefix-cache-scorer",
    "approx-prefix-cache-producer",
    "max-score-picker",
    "metrics-data-source",
    "core-metrics-extractor",
];

/// Plugins that choose a pair of endpoints, one for the prompt and one for the answer: their pools stand for them here.
const PAIRED: [&str; 4] =
    ["disagg-profile-handler", "prefill-filter", ALWAYS_DISAGGREGATES, DISAGGREGATES_BY_PREFIX];

/// Has every prompt computed elsewhere.
const ALWAYS_DISAGGREGATES: &str = "always-disagg-pd-decider";

/// Has those computed elsewhere of which much is not cached.
const DISAGGREGATES_BY_PREFIX: &str = "prefix-based-pd-decider";

/// A scheduler's configuration of the Gateway API inference extension or llm-d; only its scores and their weights count.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EndpointPickerConfig {
    /// `llm-d.ai/v1alpha1` or `inference.networking.x-k8s.io/v1alpha1`.
    api_version: String,
    /// `EndpointPickerConfig`.
    kind: String,
    /// The plugins that profiles refer to.
    #[serde(default)]
    plugins: Vec<PickerPlugin>,
    /// One profile, or in a pair of pools `prefill` and `decode`, of which each takes its own; when absent, all plugins are
    /// its own.
    #[serde(default)]
    scheduling_profiles: Vec<SchedulingProfile>,
    /// None has a counterpart here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    feature_gates: Vec<String>,
    /// Has no effect here: what is asked of engines is the pool's `metrics`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    data_layer: BTreeMap<String, AnyValue>,
    /// Has no effect here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    request_handler: BTreeMap<String, AnyValue>,
}

/// Whatever stands there.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct AnyValue(Value);

impl JsonSchema for AnyValue {
    fn schema_name() -> Cow<'static, str> {
        "AnyValue".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let any = generator.subschema_for::<Self>();
        json_schema!({
            "description": "Whatever stands there.",
            "type": ["object", "array", "string", "number", "boolean", "null"],
            "additionalProperties": any,
            "items": any,
        })
    }
}

/// A plugin of a scheduler.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PickerPlugin {
    /// What profiles call it; its type when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    name: Option<String>,
    /// What it is, such as `queue-scorer`.
    r#type: String,
    /// Its settings: those of prefix scores, pickers and sources of metrics have no effect here, others no counterpart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<String, AnyValue>,
}

impl PickerPlugin {
    fn name(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.r#type)
    }

    /// Checks a plugin that is about pairs of endpoints.
    fn check_paired(&self, role: PoolRole, path: &YamlPath, checker: &mut Checker<'_>) {
        let kind = self.r#type.as_str();
        if role == PoolRole::Whole {
            checker.issue(
                &path.key("type"),
                format!("`{kind}` is for pools with `prefill`, and those that it names"),
            );
        }
        for (name, value) in &self.parameters {
            let is_known = match (kind, name.as_str()) {
                ("disagg-profile-handler", "deciders") => value
                    .0
                    .as_object()
                    .is_some_and(|deciders| deciders.keys().all(|stage| stage == "prefill")),
                (DISAGGREGATES_BY_PREFIX, "nonCachedTokens") => {
                    value.0.as_u64().is_some_and(|tokens| u32::try_from(tokens).is_ok())
                }
                _ => false,
            };
            if !is_known {
                let path = path.key("parameters").key(name);
                checker.issue(&path, format!("this of `{kind}` has no counterpart here"));
            }
        }
    }
}

/// What one profile is made of.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SchedulingProfile {
    /// What it is called.
    name: String,
    /// The plugins, by their names.
    plugins: Vec<PluginUse>,
}

/// A plugin in a profile.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PluginUse {
    /// Its name.
    plugin_ref: String,
    /// How much a score counts; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    weight: Option<f64>,
}

impl EndpointPickerConfig {
    /// From how many uncached tokens on a prompt is computed elsewhere, where the decider in use says so.
    pub(super) fn min_uncached_tokens(&self) -> Option<u32> {
        let handler = self.plugins.iter().find(|plugin| plugin.r#type == "disagg-profile-handler")?;
        let name = handler.parameters.get("deciders")?.0.get("prefill")?.as_str()?;
        let decider = self.plugins.iter().find(|plugin| plugin.name() == name)?;
        match decider.r#type.as_str() {
            ALWAYS_DISAGGREGATES => Some(0),
            DISAGGREGATES_BY_PREFIX => {
                u32::try_from(decider.parameters.get("nonCachedTokens")?.0.as_u64()?).ok()
            }
            _ => None,
        }
    }

    pub(super) fn check(&self, role: PoolRole, path: &YamlPath, checker: &mut Checker<'_>) -> Scorers {
        if !GROUPS.iter().any(|group| self.api_version.starts_with(group)) {
            checker
                .issue(&path.key("apiVersion"), "must be of `llm-d.ai` or `inference.networking.x-k8s.io`");
        }
        if self.kind != "EndpointPickerConfig" {
            checker.issue(&path.key("kind"), "must be `EndpointPickerConfig`");
        }
        for (at, plugin) in self.plugins.iter().enumerate() {
            let kind = plugin.r#type.as_str();
            let path = path.key("plugins").index(at);
            if PAIRED.contains(&kind) {
                plugin.check_paired(role, &path, checker);
            } else if !GIVEN.contains(&kind) && scorer(kind).is_none() {
                checker.issue(&path.key("type"), format!("`{kind}` has no counterpart here"));
            } else if !plugin.parameters.is_empty() && !SIZED.contains(&kind) {
                let message = format!("those of `{kind}` have no counterpart here");
                checker.issue(&path.key("parameters"), message);
            }
        }
        if !self.feature_gates.is_empty() {
            checker.issue(&path.key("featureGates"), "none has a counterpart here");
        }
        let weights = match self.profile(role, &path.key("schedulingProfiles"), checker) {
            Some(at) => {
                let profiles = path.key("schedulingProfiles");
                self.weights_of(&self.scheduling_profiles[at], &profiles.index(at), checker)
            }
            None => self.plugins.iter().filter_map(|plugin| Some((scorer(&plugin.r#type)?, 1.0))).collect(),
        };
        Scorers::checked(&weights, path, checker)
    }

    /// The place of the profile that a pool of this role goes by.
    fn profile(&self, role: PoolRole, path: &YamlPath, checker: &mut Checker<'_>) -> Option<usize> {
        let profiles = &self.scheduling_profiles;
        let own = match role {
            _ if profiles.len() < 2 => return (profiles.len() == 1).then_some(0),
            PoolRole::Whole => {
                checker
                    .issue(path, "only one profile has a counterpart here, or two in a pool with `prefill`");
                return Some(0);
            }
            PoolRole::Prefill => "prefill",
            PoolRole::Decode => "decode",
        };
        for (at, profile) in profiles.iter().enumerate() {
            if !matches!(profile.name.as_str(), "prefill" | "decode") {
                let message =
                    format!("`{}` has no counterpart here beside `prefill` and `decode`", profile.name);
                checker.issue(&path.index(at).key("name"), message);
            }
        }
        let found = profiles.iter().position(|profile| profile.name == own);
        if found.is_none() {
            checker.issue(path, format!("has no profile `{own}`"));
        }
        found.or(Some(0))
    }

    fn weights_of(
        &self,
        profile: &SchedulingProfile,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Vec<(Scorer, f64)> {
        let mut weights = Vec::new();
        for (at, used) in profile.plugins.iter().enumerate() {
            let Some(plugin) = self.plugins.iter().find(|plugin| plugin.name() == used.plugin_ref) else {
                let path = path.key("plugins").index(at).key("pluginRef");
                checker.issue(&path, format!("`{}` is none of the plugins", used.plugin_ref));
                continue;
            };
            weights.extend(scorer(&plugin.r#type).map(|scorer| (scorer, used.weight.unwrap_or(1.0))));
        }
        weights
    }
}

fn scorer(kind: &str) -> Option<Scorer> {
    SCORERS.iter().find(|(name, _)| *name == kind).map(|(_, scorer)| *scorer)
}
