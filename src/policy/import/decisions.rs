//! Owns the decisions of vLLM Semantic Router in every dialect that has some: one of theirs is one of ours. Refuses to
//! know how conditions and plugins are read.

use super::conditions::{Condition, Conditions};
use super::decision_defaults::DecisionDefaults;
use super::draft::{LostDecisions, PolicyDraft, ascii};
use super::plugins::{self, PluginDraft};
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// Reads a list of decisions: the configuration's own, or a recipe's.
pub(super) fn read(
    list: &DecisionList<'_, '_>,
    conditions: &Conditions,
    defaults: &DecisionDefaults,
    draft: &mut PolicyDraft,
) -> Vec<YamlValue> {
    let mut names: Vec<String> = Vec::new();
    let mut decisions = Vec::new();
    for item in list.items {
        let Some(name) = name(item, &mut names) else { continue };
        let item = item.clone().within(&name);
        decisions.extend(decision(&item, name, conditions, defaults, draft).map(YamlValue::Map));
    }
    if decisions.is_empty() && !names.is_empty() {
        let recipe = list.recipe.map(str::to_owned);
        draft.routing.lost.push(LostDecisions { recipe, decisions: names });
    }
    decisions
}

/// The decisions of a configuration, or of one of its recipes.
pub(super) struct DecisionList<'list, 'source> {
    pub(super) items: &'list [SourceNode<'source>],
    pub(super) recipe: Option<&'list str>,
}

fn name(item: &SourceNode<'_>, names: &mut Vec<String>) -> Option<String> {
    let Some(given) = item.get("name") else {
        item.broken("a decision without a name", "left out");
        return None;
    };
    let wanted = ascii(given.text().unwrap_or_default());
    let mut name = wanted.clone();
    for count in 2.. {
        if !names.contains(&name) {
            break;
        }
        name = format!("{wanted}-{count}");
    }
    if name == wanted {
        given.mapped(&format!("decisions.{name}"));
    } else {
        given.broken("two decisions have this name", &format!("the second is `{name}`"));
    }
    names.push(name.clone());
    Some(name)
}

fn decision(
    item: &SourceNode<'_>,
    name: String,
    conditions: &Conditions,
    defaults: &DecisionDefaults,
    draft: &mut PolicyDraft,
) -> Option<YamlMapping> {
    let condition = match item.get("rules").or_else(|| item.get("signals")) {
        Some(rules) => conditions.read(&rules),
        None if defaults.is_canonical => Condition::Always,
        None => Condition::Never("it has no rules".to_owned()),
    };
    match &condition {
        Condition::Unsupported(why) => {
            item.unsupported(&format!("left out: {why}"));
            return None;
        }
        Condition::Never(why) => {
            item.broken(&format!("this decision could never hold: {why}"), "left out");
            return None;
        }
        _ => {}
    }
    let mut decision = YamlMapping::default();
    decision.put("name", name);
    decision.maybe("description", item.take("description", "decisions[].description"));
    let priority = item.number("priority", "decisions[].priority").unwrap_or(0.0);
    decision.put("priority", priority.clamp(-1e6, 1e6).round() as i64);
    let tier = item.whole("tier", "decisions[].tier").filter(|tier| *tier > 0);
    decision.maybe("tier", tier.map(|tier| tier.min(1000)));
    condition.put(&mut decision);
    let plugins = plugins::read(&item.list("plugins"), defaults, draft);
    audience(&plugins, defaults, &mut decision);
    models(item, &plugins, defaults, draft, &mut decision);
    decision.filled("plugins", plugins.plugins);
    Some(decision)
}

/// Says which requests a decision is for that refuses or answers some.
fn audience(plugins: &PluginDraft, defaults: &DecisionDefaults, decision: &mut YamlMapping) {
    if plugins.verifies && !plugins.guards && !defaults.is_canonical {
        decision.put("applies_to", "auto");
    } else if defaults.is_canonical && (plugins.guards || plugins.responds || plugins.verifies) {
        decision.put("applies_to", "auto").remark(
            "vSR lets requests that name a model pass every decision by. `all` holds this against them too.",
        );
    } else if plugins.guards {
        decision.put("applies_to", "all");
    }
}

fn models(
    item: &SourceNode<'_>,
    plugins: &PluginDraft,
    defaults: &DecisionDefaults,
    draft: &mut PolicyDraft,
    decision: &mut YamlMapping,
) {
    let refs = item.list("modelRefs");
    if plugins.responds {
        if let Some(refs) = item.get("modelRefs") {
            refs.ignored("a fixed answer needs no model");
        }
        return;
    }
    let mut choose = YamlMapping::default();
    let is_weighted = if defaults.is_canonical { algorithm(item, &mut choose) } else { false };
    let count = if defaults.is_canonical { refs.len() } else { 1 };
    for rest in refs.iter().skip(count) {
        rest.ignored("only the first model of a decision is used in this dialect");
    }
    let mut found: Vec<YamlValue> = Vec::new();
    for model in refs.iter().take(count) {
        let out = model_ref(model, is_weighted, draft);
        found.extend(out);
    }
    match found.as_slice() {
        [] => {
            let default = draft.routing.default_model.clone().unwrap_or_else(|| "default".to_owned());
            draft.model(&default);
            decision.put("model", default).remark("The original names no model here: the default one.");
        }
        [YamlValue::Text(only)] => {
            decision.put("model", only.clone());
        }
        _ => {
            decision.put("models", found);
            decision.filled("choose", choose);
        }
    }
}

/// Reads one model of a decision.
fn model_ref(item: &SourceNode<'_>, is_weighted: bool, draft: &mut PolicyDraft) -> Option<YamlValue> {
    let name = item.take("model", "decisions[].models")?;
    let mut lora = item.take("lora_name", "decisions[].models[].lora");
    let mut model = name.clone();
    if !draft.models.contains_key(&name)
        && let Some(base) = draft.base_of(&name)
    {
        (model, lora) = (base, Some(name));
    }
    if let Some(own) = lora.as_ref().filter(|lora| draft.models.contains_key(*lora)) {
        model.clone_from(own);
        lora = None;
    }
    if let Some(own) = &lora
        && draft.base_of(own).as_deref() != Some(model.as_str())
    {
        draft.model(&model).loras.push(own.clone());
        if let Some(node) = item.get("lora_name") {
            node.broken("the model does not list this adapter", "added to its `loras`");
        }
    }
    draft.model(&model);
    let reasoning = reasoning(item, &model, draft);
    if let Some(node) = item.get("reasoning_description") {
        node.ignored("a description, for people");
    }
    let weight = item.number("weight", "decisions[].models[].weight").filter(|_| is_weighted);
    if lora.is_none() && reasoning.is_none() && weight.is_none() {
        return Some(YamlValue::Text(model));
    }
    let mut out = YamlMapping::default();
    out.put("model", model);
    out.maybe("weight", weight.map(|weight| (weight * 100.0).clamp(0.0, 1e6).round() as u64));
    out.maybe("lora", lora);
    out.maybe("reasoning", reasoning);
    Some(YamlValue::Map(out))
}

/// Reads whether a model reasons, which only means something with a family.
pub(super) fn reasoning(item: &SourceNode<'_>, model: &str, draft: &PolicyDraft) -> Option<String> {
    let to = "decisions[].models[].reasoning";
    let effort = item.take("reasoning_effort", to);
    let is_on = item.flag("use_reasoning", to)?;
    let node = item.get("use_reasoning")?;
    match (is_on, draft.has_family(model)) {
        (true, true) => {
            let effort = effort.filter(|effort| ["low", "medium", "high"].contains(&effort.as_str()));
            Some(effort.unwrap_or_else(|| "on".to_owned()))
        }
        (false, true) => {
            node.mapped("decisions[].models[].reasoning: off, in so many words");
            Some("off".to_owned())
        }
        (true, false) => {
            let wrong = format!("`{model}` has no reasoning_family, so nothing ever made it reason");
            node.broken(&wrong, "left out; give the model a `reasoning_family` to turn it on");
            None
        }
        (false, false) => {
            node.ignored("without a reasoning_family there is nothing to turn off");
            None
        }
    }
}

/// Reads how one of several models is chosen; says whether their weights count.
fn algorithm(item: &SourceNode<'_>, choose: &mut YamlMapping) -> bool {
    let Some(algorithm) = item.get("algorithm") else { return true };
    let to = "decisions[].choose";
    let kind = algorithm.take("type", to).unwrap_or_default();
    match kind.as_str() {
        "static" => return true,
        "latency_aware" => {
            choose.put("by", "latency");
            if let Some(node) = algorithm.get("latency_aware") {
                node.ignored("means are compared, not percentiles");
            }
        }
        "multi_factor" => {
            choose.put("by", "score");
            if let Some(factors) = algorithm.get("multi_factor") {
                multi_factor(&factors, choose);
            }
        }
        "confidence" | "ratings" | "remom" | "fusion" | "workflows" | "automix" => {
            algorithm.unsupported("several calls for one request: the first model of the list answers alone");
        }
        _ => algorithm.unsupported("nothing is learned here: the first model of the list answers"),
    }
    false
}

fn multi_factor(factors: &SourceNode<'_>, choose: &mut YamlMapping) {
    let mut weights = YamlMapping::default();
    if let Some(node) = factors.get("weights") {
        for key in ["quality", "cost", "latency", "load"] {
            let weight = node.number(key, "decisions[].choose.weights").map(|weight| weight.max(0.0));
            weights.maybe(key, weight);
        }
    }
    if let Some(slo) = factors.get("slo") {
        for (key, own) in [("max_ttft_ms", "max_ttft"), ("max_tpot_ms", "max_time_per_token")] {
            let most = slo.whole(key, &format!("decisions[].choose.{own}")).filter(|most| *most > 0);
            choose.maybe(own, most.map(|most| YamlValue::Plain(format!("{most}ms"))));
        }
    }
    choose.filled("weights", weights);
}
