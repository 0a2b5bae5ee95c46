//! Owns what decisions and recipes mean together: conditions become trees of ids. Refuses to know plugins.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::check::Known;
use super::check_plugins::{plugins, reasoning};
use super::check_signals::Signals;
use super::checker::Checker;
use super::issue::Path;
use super::raw::RawPolicy;
use super::raw_decision::{
    RawAppliesTo, RawChoose, RawChooseBy, RawCondition, RawDecision, RawModelRef, RawNode,
    RawOnUnknownSignal, RawOneOrMore, RawSticky, RawStickyOn, RawStickyWord, RawStrategy,
};
use super::{
    AppliesTo, BasisPoints, Choose, ChooseBy, ChooseWeights, Decision, ModelId, ModelRef, OnUnknownSignal,
    Recipe, Rule, Shadow, Sticky, StickyOn, Strategy,
};

/// The most parts that one condition may have, and how deep they may nest.
const MAX_PARTS: usize = 1000;
const MAX_DEPTH: usize = 32;

/// Turns the policy's own list of decisions and its recipes into the final ones.
pub(super) fn recipes(
    raw: &RawPolicy,
    known: &Known<'_>,
    signals: &mut Signals,
    checker: &mut Checker<'_>,
) -> Vec<Recipe> {
    let root = Path::default();
    let own_default = default_model(raw, known, checker);
    if raw.virtual_models.is_empty() && raw.decisions.iter().any(|decision| !is_for_all(decision)) {
        let message = "without `virtual_models` no request asks for a decision";
        checker.issue(&root.key("decisions"), message);
    }
    let mut recipes = vec![Recipe {
        name: None,
        virtual_models: raw.virtual_models.clone(),
        default_model: own_default,
        strategy: strategy(raw.strategy),
        decisions: decisions(&raw.decisions, &root.key("decisions"), known, signals, checker),
    }];
    for (name, recipe) in &raw.recipes {
        let path = root.key("recipes").key(name);
        checker.name(&path, name);
        let default_model = match &recipe.default_model {
            Some(name) => known.model(name, &path.key("default_model"), checker),
            None => own_default,
        };
        if recipe.default_model.is_none() && raw.default_model.is_none() {
            checker.issue(&path, "the key `default_model` is missing, and the policy has none either");
        }
        recipes.push(Recipe {
            name: Some(name.clone()),
            virtual_models: recipe.virtual_models.clone(),
            default_model,
            strategy: strategy(recipe.strategy.unwrap_or(raw.strategy)),
            decisions: decisions(&recipe.decisions, &path.key("decisions"), known, signals, checker),
        });
    }
    check_virtual_models(raw, known, checker);
    recipes
}

fn is_for_all(raw: &RawDecision) -> bool {
    let plugins = &raw.plugins;
    let guards = plugins.respond.is_some()
        || plugins.prompt.is_some()
        || plugins.pii.is_some()
        || plugins.answer.is_some();
    raw.applies_to.map_or(guards, |applies_to| applies_to == RawAppliesTo::All)
}

fn strategy(raw: RawStrategy) -> Strategy {
    match raw {
        RawStrategy::Priority => Strategy::Priority,
        RawStrategy::Confidence => Strategy::Confidence,
    }
}

fn default_model(raw: &RawPolicy, known: &Known<'_>, checker: &mut Checker<'_>) -> Option<ModelId> {
    let path = Path::default().key("default_model");
    match &raw.default_model {
        Some(name) => known.model(name, &path, checker),
        None if raw.virtual_models.is_empty() => None,
        None => {
            checker.issue(&path, "the key is missing; `virtual_models` need a model for unknown texts");
            None
        }
    }
}

fn check_virtual_models(raw: &RawPolicy, known: &Known<'_>, checker: &mut Checker<'_>) {
    let root = Path::default();
    let own = (root.key("virtual_models"), &raw.virtual_models);
    let others = raw
        .recipes
        .iter()
        .map(|(name, recipe)| (root.key("recipes").key(name).key("virtual_models"), &recipe.virtual_models));
    let mut seen: Vec<&str> = Vec::new();
    for (path, names) in std::iter::once(own).chain(others) {
        for (index, name) in names.iter().enumerate() {
            if known.is_model(name) {
                checker.issue(&path.index(index), format!("`{name}` names a model already"));
            }
            if seen.contains(&name.as_str()) {
                checker.issue(&path.index(index), format!("`{name}` stands twice"));
            }
            seen.push(name);
        }
    }
}

fn decisions(
    raw: &[RawDecision],
    path: &Path,
    known: &Known<'_>,
    signals: &mut Signals,
    checker: &mut Checker<'_>,
) -> Vec<Decision> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut decisions = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let path = path.index(index);
        if first.insert(&raw.name, index).is_some() {
            checker.issue(&path.key("name"), format!("another decision is named `{}` already", raw.name));
        }
        checker.name(&path.key("name"), &raw.name);
        decisions.push(decision(raw, &path, known, signals, checker));
    }
    // The sort is stable, so ties keep the order of the file.
    decisions.sort_by_key(|decision| (decision.tier, Reverse(decision.priority)));
    decisions
}

fn decision(
    raw: &RawDecision,
    path: &Path,
    known: &Known<'_>,
    signals: &mut Signals,
    checker: &mut Checker<'_>,
) -> Decision {
    let fallback_path = path.key("fallback");
    let fallback = raw.fallback.iter().enumerate();
    let models = models(raw, path, known, checker);
    let choose = choose(raw, &raw.choose, &path.key("choose"), checker);
    check_currencies(&choose, &models, &path.key("choose"), known, checker);
    Decision {
        name: raw.name.clone(),
        description: raw.description.clone().unwrap_or_default(),
        priority: raw.priority,
        tier: raw.tier,
        rule: rule(raw, path, known, signals, checker),
        on_unknown: match raw.on_unknown {
            RawOnUnknownSignal::Skip => OnUnknownSignal::Skip,
            RawOnUnknownSignal::Match => OnUnknownSignal::Match,
            RawOnUnknownSignal::Reject => OnUnknownSignal::Reject,
        },
        applies_to: if is_for_all(raw) { AppliesTo::All } else { AppliesTo::Auto },
        models,
        choose,
        sticky: raw.sticky.as_ref().map(|raw| sticky(raw, &path.key("sticky"), known, checker)),
        fallback: fallback
            .filter_map(|(index, name)| known.model(name, &fallback_path.index(index), checker))
            .collect(),
        timeout: raw.timeout.map(|timeout| checker.positive(&path.key("timeout"), timeout)),
        shadow: raw.shadow.as_ref().and_then(|raw| {
            let model = known.model(&raw.model, &path.key("shadow").key("model"), checker)?;
            Some(Shadow { model, share: BasisPoints::from_fraction(raw.share) })
        }),
        plugins: plugins(&raw.plugins, &path.key("plugins"), known, checker),
    }
}

fn rule(
    raw: &RawDecision,
    path: &Path,
    known: &Known<'_>,
    signals: &mut Signals,
    checker: &mut Checker<'_>,
) -> Rule {
    if raw.min_confidence.is_some() && raw.domains.is_empty() {
        checker.issue(&path.key("min_confidence"), "only with `domains`; in `when` it is `min_score`");
    }
    match &raw.when {
        Some(_) if !raw.domains.is_empty() => {
            checker.issue(&path.key("domains"), "either `when` or `domains`; both cannot stand");
            Rule::All(Vec::new())
        }
        Some(when) => {
            let mut parts = 0;
            condition(when, &path.key("when"), (0, &mut parts), (known, signals), checker)
        }
        None if raw.domains.is_empty() => Rule::All(Vec::new()),
        None => {
            known.check_domains(&raw.domains, &path.key("domains"), checker);
            let least = raw.min_confidence.map_or(known.min_confidence, BasisPoints::from_fraction);
            Rule::Signal { id: signals.domain(&raw.domains, least), min_score: None }
        }
    }
}

fn condition(
    raw: &RawCondition,
    path: &Path,
    (depth, parts): (usize, &mut usize),
    (known, signals): (&Known<'_>, &mut Signals),
    checker: &mut Checker<'_>,
) -> Rule {
    *parts += 1;
    if *parts == MAX_PARTS + 1 {
        checker.issue(path, format!("a condition has at most {MAX_PARTS} parts"));
    }
    if depth == MAX_DEPTH {
        checker.issue(path, format!("a condition nests at most {MAX_DEPTH} deep"));
    }
    if *parts > MAX_PARTS || depth >= MAX_DEPTH {
        return Rule::All(Vec::new());
    }
    let node = match raw {
        RawCondition::Name(name) => return signal(name, None, path, signals, checker),
        RawCondition::Node(node) => node,
    };
    check_node(node, path, checker);
    let least = node.min_score.map(BasisPoints::from_fraction);
    if let Some(name) = &node.signal {
        return signal(name, least, &path.key("signal"), signals, checker);
    }
    if let Some(domains) = &node.domain {
        let domains = match domains {
            RawOneOrMore::One(domain) => std::slice::from_ref(domain),
            RawOneOrMore::More(domains) => domains,
        };
        if domains.is_empty() {
            checker.issue(&path.key("domain"), "must not be empty");
        }
        known.check_domains(domains, &path.key("domain"), checker);
        let id = signals.domain(domains, least.unwrap_or(known.min_confidence));
        return Rule::Signal { id, min_score: None };
    }
    if let Some(not) = &node.not {
        let inner = condition(not, &path.key("not"), (depth + 1, parts), (known, signals), checker);
        return Rule::Not(Box::new(inner));
    }
    let (key, children) = match (&node.any, &node.all) {
        (Some(any), _) => ("any", any),
        (None, Some(all)) => ("all", all),
        (None, None) => return Rule::All(Vec::new()),
    };
    let mut rules = Vec::with_capacity(children.len());
    for (index, child) in children.iter().enumerate() {
        let path = path.key(key).index(index);
        rules.push(condition(child, &path, (depth + 1, &mut *parts), (known, &mut *signals), checker));
    }
    if key == "any" { Rule::Any(rules) } else { Rule::All(rules) }
}

fn check_node(node: &RawNode, path: &Path, checker: &mut Checker<'_>) {
    let given = [
        node.signal.is_some(),
        node.domain.is_some(),
        node.any.is_some(),
        node.all.is_some(),
        node.not.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        checker.issue(path, "needs exactly one of `signal`, `domain`, `any`, `all` and `not`");
    }
    if node.min_score.is_some() && node.signal.is_none() && node.domain.is_none() {
        checker.issue(&path.key("min_score"), "only with `signal` or `domain`");
    }
    if node.any.as_ref().is_some_and(Vec::is_empty) {
        checker.issue(&path.key("any"), "must not be empty: it would never hold");
    }
}

fn signal(
    name: &str,
    min_score: Option<BasisPoints>,
    path: &Path,
    signals: &Signals,
    checker: &mut Checker<'_>,
) -> Rule {
    let Some(id) = signals.named(name) else {
        checker.unknown(path, "signal", name, signals.names());
        return Rule::All(Vec::new());
    };
    Rule::Signal { id, min_score }
}

fn models(raw: &RawDecision, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> Vec<ModelRef> {
    let plain = |model| ModelRef { model, weight: 100, lora: None, reasoning: None };
    if raw.model.is_some() && !raw.models.is_empty() {
        checker.issue(&path.key("models"), "either `model` or `models`; both cannot stand");
    }
    if raw.model.is_none() && raw.models.is_empty() && raw.plugins.respond.is_none() {
        checker.issue(path, "the key `model` is missing; only `plugins.respond` does without");
    }
    let mut found = Vec::with_capacity(raw.models.len().max(1));
    if let Some(name) = &raw.model {
        found.extend(known.model(name, &path.key("model"), checker).map(plain));
    }
    for (index, raw) in raw.models.iter().enumerate() {
        let path = path.key("models").index(index);
        let full = match raw {
            RawModelRef::Name(name) => {
                found.extend(known.model(name, &path, checker).map(plain));
                continue;
            }
            RawModelRef::Full(full) => full,
        };
        let Some(model) = known.model(&full.model, &path.key("model"), checker) else { continue };
        if let Some(lora) = full.lora.as_ref().filter(|lora| !known.has_lora(model, lora)) {
            checker.unknown(&path.key("lora"), "adapter", lora, known.loras(model));
        }
        let reasoning = full.reasoning.map(|raw| reasoning(raw, known));
        found.push(ModelRef { model, weight: full.weight, lora: full.lora.clone(), reasoning });
    }
    if !found.is_empty() && found.iter().all(|found| found.weight == 0) {
        checker.issue(&path.key("models"), "each has the weight 0");
    }
    found
}

fn choose(decision: &RawDecision, raw: &RawChoose, path: &Path, checker: &mut Checker<'_>) -> Choose {
    let is_weighted = |item: &RawModelRef| matches!(item, RawModelRef::Full(full) if full.weight != 100);
    let by = match raw.by {
        Some(RawChooseBy::Weight) => ChooseBy::Weight,
        Some(RawChooseBy::Cost) => ChooseBy::Cost,
        Some(RawChooseBy::Latency) => ChooseBy::Latency,
        Some(RawChooseBy::Score) => ChooseBy::Score,
        None if decision.models.iter().any(is_weighted) => ChooseBy::Weight,
        Some(RawChooseBy::First) | None => ChooseBy::First,
    };
    let milli = |weight: f64| (weight * 1000.0).round() as u32;
    let weights = ChooseWeights {
        quality: milli(raw.weights.quality),
        cost: milli(raw.weights.cost),
        latency: milli(raw.weights.latency),
        load: milli(raw.weights.load),
    };
    if weights.quality + weights.cost + weights.latency + weights.load == 0 {
        checker.issue(&path.key("weights"), "at least one must be above 0");
    }
    let mut positive = |key, raw: Option<_>| raw.map(|raw| checker.positive(&path.key(key), raw));
    Choose {
        by,
        min_quality: BasisPoints::from_fraction(raw.min_quality),
        max_ttft: positive("max_ttft", raw.max_ttft),
        max_time_per_token: positive("max_time_per_token", raw.max_time_per_token),
        weights,
    }
}

/// Requires that prices which are compared are in one currency.
fn check_currencies(
    choose: &Choose,
    models: &[ModelRef],
    path: &Path,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) {
    let compares = match choose.by {
        ChooseBy::Cost => true,
        ChooseBy::Score => choose.weights.cost > 0,
        ChooseBy::First | ChooseBy::Weight | ChooseBy::Latency => false,
    };
    let mut currencies: Vec<&str> = models.iter().filter_map(|one| known.currency(one.model)).collect();
    currencies.sort_unstable();
    currencies.dedup();
    if compares && currencies.len() > 1 {
        let message =
            format!("compares prices in {}; they must be in one currency", currencies.join(" and "));
        checker.issue(&path.key("by"), message);
    }
}

fn sticky(raw: &RawSticky, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> Sticky {
    let on = match &raw.on {
        RawStickyOn::Word(RawStickyWord::Conversation) => StickyOn::Conversation,
        RawStickyOn::Word(RawStickyWord::Identity) => {
            if !known.has_identity {
                checker.issue(&path.key("on"), "without `identity` nobody is known");
            }
            StickyOn::Identity
        }
        RawStickyOn::Sent(sent) => match (&sent.header, &sent.field) {
            (Some(header), None) => {
                let path = path.key("on").key("header");
                StickyOn::Header(super::check_plugins::header_name(header, &path, checker))
            }
            (None, Some(field)) => StickyOn::Field(field.clone()),
            _ => {
                checker.issue(&path.key("on"), "needs exactly one of `header` and `field`");
                StickyOn::Conversation
            }
        },
    };
    let ttl = checker.positive(&path.key("ttl"), raw.ttl);
    Sticky { on, ttl, margin: BasisPoints::from_fraction(raw.margin) }
}
