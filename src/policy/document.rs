//! Owns the policy file as a whole: its sections, and the order in which they are checked. Refuses to know what is in a
//! section.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::admission::RawAdmission;
use super::cache::RawCache;
use super::checker::Checker;
use super::classifier::RawClassifier;
use super::context::PolicyContext;
use super::decision::{RawRouting, RecipeContext, recipes};
use super::guards::RawGuards;
use super::identity::RawIdentity;
use super::issue::YamlPath;
use super::model::{ModelNames, RawModel};
use super::model_facts::ModelFacts;
use super::naming::{AnswerModel, ModelNaming, RawDefaultFor};
use super::plugins::RawReasoningFamilies;
use super::pool::{PoolNames, RawPool};
use super::secret::SecretSource;
use super::signal::{RawSignal, checks_facts, signals};
use super::{
    BlockStyle, ClassifierSpec, Effort, KeptResponses, Model, PlaceholderKey, Policy, PolicyIndex, PoolId,
    Retry,
};

/// What the operator wants: which models clients may name, how one is chosen, and where requests go.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "Signalbox policy", deny_unknown_fields)]
pub(super) struct RawPolicy {
    /// The version of this format; always 1.
    #[schemars(range(min = 1, max = 1))]
    #[expect(dead_code, reason = "the schema holds it to 1")]
    version: u32,
    #[serde(flatten)]
    routing: RawRouting,
    /// What finds out the domain of a request's text, and more.
    #[serde(default)]
    classifier: RawClassifier,
    #[serde(flatten)]
    guarding: RawGuardSettings,
    #[serde(flatten)]
    all_models: RawModelSettings,
    /// Who clients are.
    #[serde(default)]
    identity: RawIdentity,
    /// What is to be known about requests, by name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 1_000, "default" = {}))]
    signals: IndexMap<String, RawSignal>,
    /// What every request is checked for, those that name a model included.
    #[serde(default)]
    guards: RawGuards,
    #[serde(flatten)]
    stores: RawStores,
    /// What clients may name in `model`, by name.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 10_000))]
    models: IndexMap<String, RawModel>,
    /// Every upstream, by name.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1_000))]
    pools: IndexMap<String, RawPool>,
    #[serde(flatten)]
    overload: RawOverload,
}

/// What happens where an upstream fails, or has too much to do.
#[derive(Deserialize, JsonSchema)]
struct RawOverload {
    /// When a request is tried again on another endpoint.
    #[serde(default)]
    retry: Retry,
    /// Who goes first where a pool has too much to do, and how long the others wait; when absent, nobody waits.
    #[serde(default)]
    #[schemars(with = "RawAdmission")]
    admission: Option<RawAdmission>,
}

/// What is kept between requests.
#[derive(Deserialize, JsonSchema)]
struct RawStores {
    /// Where the response cache stores answers.
    #[serde(default)]
    cache: RawCache,
    /// The responses that are kept for requests which go on from them, where their upstreams speak another API.
    #[serde(default)]
    responses: KeptResponses,
}

/// What all guards have in common.
#[derive(Deserialize, JsonSchema)]
struct RawGuardSettings {
    /// How a request that a guard blocks is answered.
    #[serde(default)]
    block_style: BlockStyle,
    /// The key of the placeholders that stand for masked personal data; derived from this policy when absent. The same
    /// in all replicas, and unknown to the upstreams: with it, placeholders can be guessed.
    #[serde(default)]
    #[schemars(with = "SecretSource")]
    placeholder_key: Option<SecretSource>,
}

/// What holds for all models.
#[derive(Deserialize, JsonSchema)]
struct RawModelSettings {
    /// How hard a model reasons where a policy has only `reasoning: on`.
    #[serde(default = "medium")]
    default_effort: Effort,
    /// How families of models are instructed to reason, by name, beside the known `qwen3`, `deepseek`, `gpt-oss` and `gpt`.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    reasoning_families: RawReasoningFamilies,
    /// Which model virtual names stand for where requests are about nothing that a decision could go by.
    #[serde(default)]
    default_for: RawDefaultFor,
    /// Which name of its model an answer gives.
    #[serde(default)]
    answer_model: AnswerModel,
}

fn medium() -> Effort {
    Effort::Medium
}

impl RawPolicy {
    /// Puts the policy together; what is wrong goes to the checker, and then the result is of no use.
    pub(super) fn check(
        self,
        inspect: &dyn Fn(&ClassifierSpec) -> ModelFacts,
        checker: &mut Checker<'_>,
    ) -> Policy {
        let root = YamlPath::default();
        let names = ModelNames::of(&self.models, checker);
        let RawOverload { retry, admission } = self.overload;
        let mut pools: Vec<_> = {
            let (path, names) = (root.key("pools"), PoolNames::of(&self.pools));
            let check = |(name, raw): (String, RawPool)| raw.check(&name, &names, &path.key(&name), checker);
            self.pools.into_iter().map(check).collect()
        };
        for pool in &mut pools {
            pool.set_admission(admission.is_some());
        }
        let classifier = self.classifier.check(&root.key("classifier"), checker);
        let domains = domains(&classifier.spec, inspect, checker);
        let identity = self.identity.check(&root.key("identity"), checker);
        let has_identity = identity.is_used();
        let assigned = &classifier.spec.models;
        let own_key = self.guarding.placeholder_key.as_ref();
        let context = PolicyContext {
            objectives: admission.as_ref().map(RawAdmission::objectives),
            placeholder_key: PlaceholderKey::check(own_key, &root.key("placeholder_key"), checker),
            models: &names.models,
            pools: pools.iter().map(|pool| pool.name.as_str()).collect(),
            domains: domains.as_deref(),
            min_confidence: classifier.min_confidence,
            default_effort: self.all_models.default_effort,
            has_builtin_pii: classifier.spec.has_builtin_pii(),
            has_identity,
            has_detector: assigned.hallucination.is_some(),
            checks_facts: checks_facts(&self.signals),
        };
        let families = &self.all_models.reasoning_families;
        let models = self.models.into_iter().map(|(name, raw)| raw.check(name, families, &context, checker));
        let models: Vec<_> = models.collect();
        for (id, pool) in pools.iter().enumerate().filter(|(_, pool)| !pool.api.serves.is_empty()) {
            let is_used = |model: &Model| model.routes.iter().any(|route| route.pool == PoolId(id));
            if !models.iter().any(is_used) {
                let path = root.key("pools").key(&pool.name).key("serves");
                checker.issue(&path, "has no effect for a pool that no model names");
            }
        }
        let mut signals = signals(self.signals, &root.key("signals"), &context, checker);
        let about = RecipeContext { policy: &context, models: &models, names: &names };
        let recipes = recipes(self.routing, &about, &mut signals, checker);
        retry.check(&root.key("retry"), checker);
        let responses = self.stores.responses.check(&root.key("responses"), checker);
        let naming = ModelNaming {
            answer_model: self.all_models.answer_model,
            fixed: self.all_models.default_for.check(&root.key("default_for"), &context, checker),
        };
        let guards = self.guards.check(&root.key("guards"), &context, checker);
        Policy {
            block_style: self.guarding.block_style,
            identity,
            classifier,
            signals: signals.into_signals(),
            guards,
            recipes,
            cache: self.stores.cache.check(&root.key("cache"), checker),
            models,
            retry,
            admission: admission.map(|raw| raw.check(&root.key("admission"), has_identity, checker)),
            pools,
            index: PolicyIndex { files: std::mem::take(&mut checker.files), names, naming, responses },
        }
    }
}

/// Gives the domains that decisions may name, where they are known.
fn domains(
    spec: &ClassifierSpec,
    inspect: &dyn Fn(&ClassifierSpec) -> ModelFacts,
    checker: &mut Checker<'_>,
) -> Option<Vec<String>> {
    // What is left of a faulty section names other models than its operator.
    if checker.has_fault_in("classifier") {
        return None;
    }
    let ModelFacts { domains, faults } = inspect(spec);
    for fault in faults {
        let path = fault.keys.iter().fold(YamlPath::default(), |path, key| path.key(key));
        checker.issue(&path, fault.message);
    }
    domains
}
