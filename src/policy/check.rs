//! Owns what the policy's parts mean together: names become ids, and everything that cannot be meant is an issue.
//! Refuses to know the text: paths name places, the checker finds them.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::check_classifier::classifier;
use super::check_decision::recipes;
use super::check_identity::{cache, family, identity, price};
use super::check_plugins::guards;
use super::check_pool::pool;
use super::check_signals::signals;
use super::checker::Checker;
use super::issue::Path;
use super::raw::{RawBlockStyle, RawModel, RawPolicy, RawRetry, RawRetryCause, RawRoute};
use super::raw_plugins::RawReasoning;
use super::raw_pool::RawPool;
use super::raw_signals::RawSignal;
use super::{BasisPoints, BlockStyle, ClassifierModel, Effort, Model, ModelId, Policy, PoolId, Retry, Route};

/// The kinds of personal data that the built-in model and the patterns tell apart.
pub(super) const PII_KINDS: [&str; 16] = [
    "AGE",
    "CREDIT_CARD",
    "DATE_TIME",
    "DOMAIN_NAME",
    "EMAIL_ADDRESS",
    "GPE",
    "IBAN_CODE",
    "IP_ADDRESS",
    "NRP",
    "ORGANIZATION",
    "PERSON",
    "PHONE_NUMBER",
    "STREET_ADDRESS",
    "US_DRIVER_LICENSE",
    "US_SSN",
    "ZIP_CODE",
];

/// What the parts of a policy are checked against.
#[allow(clippy::struct_excessive_bools, reason = "facts about the whole policy, each asked by its name")]
pub(super) struct Known<'a> {
    models: &'a IndexMap<String, RawModel>,
    names: &'a HashMap<String, ModelId>,
    domains: Option<&'a [&'a str]>,
    /// Whether the kinds of personal data are those of the built-in model.
    builtin_pii: bool,
    pub(super) min_confidence: BasisPoints,
    pub(super) effort: Effort,
    pub(super) has_identity: bool,
    /// Whether something finds what answers make up.
    pub(super) has_detector: bool,
    /// Whether a signal tells where facts are needed.
    pub(super) checks_facts: bool,
}

impl Known<'_> {
    /// Finds a model by a name that the operator wrote.
    pub(super) fn model(&self, name: &str, path: &Path, checker: &mut Checker<'_>) -> Option<ModelId> {
        let found = self.names.get(name).copied();
        if found.is_none() {
            checker.unknown(path, "model", name, self.names.keys().map(String::as_str));
        }
        found
    }

    /// Says whether clients may name a model so.
    pub(super) fn is_model(&self, name: &str) -> bool {
        self.names.contains_key(name)
            || self.models.values().any(|model| model.loras.iter().any(|lora| lora == name))
    }

    /// Says whether a model has an adapter.
    pub(super) fn has_lora(&self, model: ModelId, name: &str) -> bool {
        self.loras(model).any(|lora| lora == name)
    }

    /// Gives the adapters of a model.
    pub(super) fn loras(&self, ModelId(model): ModelId) -> impl Iterator<Item = &str> {
        self.models.get_index(model).into_iter().flat_map(|(_, model)| model.loras.iter().map(String::as_str))
    }

    /// Gives the currency of a model's price, if it has one.
    pub(super) fn currency(&self, ModelId(model): ModelId) -> Option<&str> {
        self.models.get_index(model)?.1.price.as_ref().map(|price| price.currency.as_str())
    }

    /// Checks names of domains, where they are known.
    pub(super) fn check_domains(&self, domains: &[String], path: &Path, checker: &mut Checker<'_>) {
        for (index, domain) in domains.iter().enumerate() {
            if let Some(known) = self.domains.filter(|known| !known.contains(&domain.as_str())) {
                checker.unknown(&path.index(index), "domain", domain, known.iter().copied());
            }
            if domains[..index].contains(domain) {
                checker.issue(&path.index(index), format!("`{domain}` stands twice"));
            }
        }
    }

    /// Checks kinds of personal data, where they are known.
    pub(super) fn check_pii(&self, kinds: &[String], path: &Path, checker: &mut Checker<'_>) {
        for (index, kind) in kinds.iter().enumerate() {
            if self.builtin_pii && !PII_KINDS.contains(&kind.as_str()) {
                checker.unknown(&path.index(index), "kind of personal data", kind, PII_KINDS);
            }
        }
    }
}

/// Turns the raw policy into the final one; what is wrong goes to the checker, and then the result is of no use.
pub(super) fn policy(raw: &RawPolicy, domains: Option<&[&str]>, checker: &mut Checker<'_>) -> Policy {
    let root = Path::default();
    let names = names(&raw.models, checker);
    let loras = loras(&raw.models, &names, checker);
    let classifier = classifier(&raw.classifier, &root.key("classifier"), checker);
    let identity = identity(&raw.identity, &root.key("identity"), checker);
    let pii_model = classifier.models.pii.as_ref().unwrap_or(&classifier.model);
    let known = Known {
        models: &raw.models,
        names: &names,
        domains,
        builtin_pii: *pii_model == ClassifierModel::Builtin,
        min_confidence: classifier.min_confidence,
        effort: default_effort(raw, checker),
        has_identity: identity.is_used(),
        has_detector: classifier.models.hallucination.is_some(),
        checks_facts: checks_facts(&raw.signals),
    };
    let mut signals = signals(&raw.signals, &root.key("signals"), &known, checker);
    let recipes = recipes(raw, &known, &mut signals, checker);
    let models = models(raw, &known, checker);
    let guards = guards(&raw.guards, &root.key("guards"), &known, checker);
    let pools_path = root.key("pools");
    let pools = raw.pools.iter().map(|(name, raw)| pool(name, raw, &pools_path.key(name), checker)).collect();
    Policy {
        block_style: match raw.block_style {
            RawBlockStyle::Error => BlockStyle::Error,
            RawBlockStyle::Vsr => BlockStyle::Vsr,
        },
        identity,
        classifier,
        signals: signals.all,
        guards,
        recipes,
        cache: cache(&raw.cache, &root.key("cache"), checker),
        models,
        pools,
        retry: retry(&raw.retry, &root.key("retry"), checker),
        files: std::mem::take(&mut checker.files),
        names,
        loras,
    }
}

fn checks_facts(signals: &IndexMap<String, RawSignal>) -> bool {
    signals.values().any(|signal| signal.fact_check.as_ref().is_some_and(|facts| facts.needed))
}

fn default_effort(raw: &RawPolicy, checker: &mut Checker<'_>) -> Effort {
    match raw.default_effort {
        RawReasoning::Low => Effort::Low,
        RawReasoning::Medium => Effort::Medium,
        RawReasoning::High => Effort::High,
        RawReasoning::On | RawReasoning::Off => {
            checker.issue(&Path::default().key("default_effort"), "must be `low`, `medium` or `high`");
            Effort::Medium
        }
    }
}

/// Gives every adapter the first model that has it.
fn loras(
    models: &IndexMap<String, RawModel>,
    names: &HashMap<String, ModelId>,
    checker: &mut Checker<'_>,
) -> HashMap<String, ModelId> {
    let path = Path::default().key("models");
    let mut loras = HashMap::new();
    for (id, (name, model)) in models.iter().enumerate() {
        for (index, lora) in model.loras.iter().enumerate() {
            let path = path.key(name).key("loras").index(index);
            checker.name(&path, lora);
            if names.contains_key(lora) {
                checker.issue(&path, format!("`{lora}` names a model already"));
            }
            loras.entry(lora.clone()).or_insert(ModelId(id));
        }
    }
    loras
}

/// Gives every name and alias its model.
fn names(models: &IndexMap<String, RawModel>, checker: &mut Checker<'_>) -> HashMap<String, ModelId> {
    let path = Path::default().key("models");
    let mut names: HashMap<String, ModelId> =
        models.keys().enumerate().map(|(id, name)| (name.clone(), ModelId(id))).collect();
    for (id, (name, model)) in models.iter().enumerate() {
        checker.name(&path.key(name), name);
        for (index, alias) in model.aliases.iter().enumerate() {
            let path = path.key(name).key("aliases").index(index);
            match names.get(alias).and_then(|ModelId(other)| models.get_index(*other)) {
                Some((other, _)) => {
                    checker.issue(&path, format!("`{alias}` already names the model `{other}`"));
                }
                None => {
                    names.insert(alias.clone(), ModelId(id));
                }
            }
        }
    }
    names
}

fn models(raw: &RawPolicy, known: &Known<'_>, checker: &mut Checker<'_>) -> Vec<Model> {
    let path = Path::default().key("models");
    let mut models = Vec::with_capacity(raw.models.len());
    for (name, model) in &raw.models {
        let path = path.key(name);
        let upstream = model.upstream_model.as_ref().unwrap_or(name);
        if upstream.is_empty() {
            checker.issue(&path.key("upstream_model"), "must not be empty");
        }
        models.push(Model {
            name: name.clone(),
            aliases: model.aliases.clone(),
            routes: routes(&model.pools, upstream, &path.key("pools"), &raw.pools, checker),
            owned_by: model.owned_by.clone(),
            loras: model.loras.clone(),
            reasoning: model.reasoning_family.as_ref().and_then(|family_name| {
                family(family_name, &raw.reasoning_families, &path.key("reasoning_family"), checker)
            }),
            price: model.price.as_ref().map(price),
            quality: BasisPoints::from_fraction(model.quality),
            guards: guards(&model.guards, &path.key("guards"), known, checker),
        });
    }
    models
}

fn routes(
    raw: &[RawRoute],
    upstream_model: &str,
    path: &Path,
    pools: &IndexMap<String, RawPool>,
    checker: &mut Checker<'_>,
) -> Vec<Route> {
    let mut routes = Vec::with_capacity(raw.len());
    for (index, route) in raw.iter().enumerate() {
        let path = path.index(index);
        let (name, name_path, upstream_model) = match route {
            RawRoute::Name(name) => (name, path.clone(), upstream_model),
            RawRoute::Full(full) => {
                let upstream_model = full.upstream_model.as_deref().unwrap_or(upstream_model);
                (&full.pool, path.key("pool"), upstream_model)
            }
        };
        let Some(id) = pools.get_index_of(name) else {
            checker.unknown(&name_path, "pool", name, pools.keys().map(String::as_str));
            continue;
        };
        let route = Route { pool: PoolId(id), upstream_model: upstream_model.to_owned() };
        if routes.contains(&route) {
            checker.issue(&path, format!("the pool `{name}` stands twice"));
        }
        routes.push(route);
    }
    routes
}

fn retry(raw: &RawRetry, path: &Path, checker: &mut Checker<'_>) -> Retry {
    let mut retry = Retry {
        attempts: raw.attempts,
        on_connect: false,
        on_reset: false,
        on_status: Vec::new(),
        budget_share: BasisPoints::from_fraction(raw.budget.share),
        budget_min_per_second: raw.budget.min_per_second,
    };
    for (index, cause) in raw.on.iter().enumerate() {
        if raw.on[..index].contains(cause) {
            checker.issue(&path.key("on").index(index), "stands twice");
        }
        match cause {
            RawRetryCause::Connect => retry.on_connect = true,
            RawRetryCause::Reset => retry.on_reset = true,
            RawRetryCause::Status429 => retry.on_status.push(429),
            RawRetryCause::Status500 => retry.on_status.push(500),
            RawRetryCause::Status502 => retry.on_status.push(502),
            RawRetryCause::Status503 => retry.on_status.push(503),
            RawRetryCause::Status504 => retry.on_status.push(504),
        }
    }
    retry
}
