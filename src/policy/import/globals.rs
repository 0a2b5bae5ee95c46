//! Owns the settings that vLLM Semantic Router has once for all decisions, which are the same in its dialects under
//! different names: cache, tools, reasoning families, thresholds. Refuses to know where they stand.

use super::decision_defaults::CacheDefaults;
use super::draft::PolicyDraft;
use super::source_node::SourceNode;
use super::tool_files::ToolFiles;
use super::yaml_writer::{YamlMapping, YamlValue};

/// The ways of reasoning that every policy knows, with their parameter.
const FAMILIES: [(&str, &str, &str); 4] = [
    ("qwen3", "chat_template_kwargs", "enable_thinking"),
    ("deepseek", "chat_template_kwargs", "thinking"),
    ("gpt-oss", "reasoning_effort", "reasoning_effort"),
    ("gpt", "reasoning_effort", "reasoning_effort"),
];

/// Reads the cache, where it is on.
pub(super) fn cache(node: Option<&SourceNode<'_>>, draft: &mut PolicyDraft) -> Option<CacheDefaults> {
    let node = node?;
    let is_on = node.flag("enabled", "decisions[].plugins.cache").unwrap_or(false);
    if !is_on {
        node.ignored("disabled in the original: nothing is kept");
        return None;
    }
    let min_score = node.share("similarity_threshold", "decisions[].plugins.cache.min_score").unwrap_or(0.8);
    let ttl = node.whole("ttl_seconds", "decisions[].plugins.cache.ttl").filter(|ttl| *ttl > 0);
    draft.cache.put("store", "memory");
    if let Some(backend) = node.get("backend_type") {
        match backend.text() {
            Some("memory") => backend.mapped("cache.store: memory"),
            Some("redis" | "valkey") => redis(node, &backend, draft),
            _ => {
                backend.unsupported("answers are kept in memory or in Redis: in memory");
                draft
                    .cache
                    .remark("The original keeps answers in another store; memory and Redis are known here.");
            }
        }
    }
    let most = node.whole("max_entries", "cache.max_entries").filter(|most| *most > 0);
    draft.cache.maybe("max_entries", most.map(|most| most.min(10_000_000)));
    Some(CacheDefaults { min_score, ttl_secs: ttl.unwrap_or(3600) })
}

fn redis(node: &SourceNode<'_>, backend: &SourceNode<'_>, draft: &mut PolicyDraft) {
    let kind = backend.text().unwrap_or("redis");
    let connection = node.get(kind).map(|own| own.get("connection").unwrap_or(own));
    let to = "cache.redis.address";
    let host =
        connection.as_ref().and_then(|own| own.take("host", to)).unwrap_or_else(|| "localhost".to_owned());
    let port = connection.as_ref().and_then(|own| own.whole("port", to)).unwrap_or(6379);
    let database = connection.as_ref().and_then(|own| own.whole("database", to)).unwrap_or(0);
    backend.mapped("cache.store: redis");
    draft.cache = YamlMapping::default();
    draft.cache.put("store", "redis");
    let address = format!("redis://{host}:{port}/{database}");
    draft
        .cache
        .put("redis", YamlValue::of("address", YamlValue::Expanded(format!("${{REDIS_URL:-{address}}}"))));
}

/// Reads tool selection, where it is on: the `tools` plugin of every decision.
pub(super) fn tools(node: Option<&SourceNode<'_>>, files: &ToolFiles<'_>) -> Option<YamlMapping> {
    let node = node?;
    let to = "decisions[].plugins.tools";
    if node.flag("enabled", to) != Some(true) {
        node.ignored("disabled in the original: the client's tools go on as they are");
        return None;
    }
    let most = node.whole("top_k", to).unwrap_or(3);
    let least = node.share("similarity_threshold", to);
    if let Some(advanced) = node.get("advanced_filtering") {
        advanced.unsupported("tools are picked by likeness alone");
    }
    if let Some(fallback) = node.get("fallback_to_empty") {
        fallback.ignored("where no tool fits, the client's own stay");
    }
    let file = files.tools(&node.get("tools_db_path")?)?;
    let mut tools = YamlMapping::default();
    tools.put("mode", "select").put("file", file).put("top_k", most.clamp(1, 128)).maybe("min_score", least);
    Some(tools)
}

/// Reads the families of models whose reasoning is turned on in the same way.
pub(super) fn families(node: Option<&SourceNode<'_>>, draft: &mut PolicyDraft) {
    for (name, family) in node.map(SourceNode::entries).unwrap_or_default() {
        let to = format!("reasoning_families.{name}");
        let kind = family.take("type", &to).unwrap_or_default();
        let mut parameter = family.take("parameter", &to);
        if parameter.as_ref().is_some_and(|parameter| parameter.contains('.'))
            && let Some(node) = family.get("parameter")
        {
            node.broken("chat completions have no such parameter", "`reasoning_effort`, which they have");
            parameter = None;
        }
        let own = match kind.as_str() {
            "chat_template_kwargs" => "chat_template_kwargs",
            "thinking" => "thinking",
            _ => "reasoning_effort",
        };
        let default = if own == "chat_template_kwargs" { "enable_thinking" } else { own };
        let effective = parameter.as_deref().unwrap_or(default);
        if FAMILIES.contains(&(name, own, effective)) {
            family.mapped("known to every policy");
            continue;
        }
        let mut out = YamlMapping::default();
        out.put("kind", own).maybe("parameter", parameter);
        draft.families.put(name, out);
    }
}

/// Gives a model its family, if there is one of that name.
pub(super) fn family(node: &SourceNode<'_>, name: &str, draft: &mut PolicyDraft) {
    let Some(family) = node.take("reasoning_family", &format!("models.{name}.reasoning_family")) else {
        return;
    };
    if FAMILIES.iter().any(|(known, _, _)| *known == family) || draft.families.has(&family) {
        draft.model(name).family = Some(family);
    } else if let Some(node) = node.get("reasoning_family") {
        node.broken("no family of this name is defined", "left out");
    }
}

/// Reads what a model costs.
pub(super) fn price(node: &SourceNode<'_>, name: &str, draft: &mut PolicyDraft) {
    let Some(pricing) = node.get("pricing") else { return };
    let to = format!("models.{name}.price");
    let mut price = YamlMapping::default();
    price.maybe("currency", pricing.take("currency", &to).filter(|text| (1..=16).contains(&text.len())));
    let amount = |key: &str| pricing.number(key, &to).map(|amount| amount.clamp(0.0, 1e6));
    price.put("prompt", amount("prompt_per_1m").unwrap_or(0.0));
    price.put("completion", amount("completion_per_1m").unwrap_or(0.0));
    price.maybe("cached", amount("cached_input_per_1m"));
    if let Some(node) = pricing.get("cache_write_per_1m") {
        node.unsupported("no upstream says how much it wrote to its cache");
    }
    draft.model(name).price = price;
}

/// Reads the adapters of a model.
pub(super) fn loras(node: &SourceNode<'_>, name: &str, draft: &mut PolicyDraft) {
    for item in node.list("loras") {
        if let Some(lora) = item.take("name", &format!("models.{name}.loras")) {
            let loras = &mut draft.model(name).loras;
            if !lora.is_empty() && !loras.contains(&lora) {
                loras.push(lora);
            }
        }
        super::signals::note_text(&item);
    }
}

/// Reads the effort of models whose reasoning is only turned on.
pub(super) fn effort(node: &SourceNode<'_>, draft: &mut PolicyDraft) {
    let effort = node.take("default_reasoning_effort", "default_effort");
    draft.routing.effort = effort.filter(|effort| ["low", "medium", "high"].contains(&effort.as_str()));
}

/// Reads which of several decisions wins.
pub(super) fn strategy(node: &SourceNode<'_>) -> Option<String> {
    let strategy = node.take("strategy", "strategy")?;
    ["priority", "confidence"].contains(&strategy.as_str()).then_some(strategy)
}
