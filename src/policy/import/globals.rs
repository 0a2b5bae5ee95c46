//! Owns the settings that vLLM Semantic Router has once for all decisions, which are the same in its dialects under
//! different names: cache, tools, reasoning families, thresholds. Refuses to know where they stand.

use super::draft::Draft;
use super::files::Files;
use super::out::{Mapping, Out};
use super::view::View;

/// The ways of reasoning that every policy knows, with their parameter.
const FAMILIES: [(&str, &str, &str); 4] = [
    ("qwen3", "chat_template_kwargs", "enable_thinking"),
    ("deepseek", "chat_template_kwargs", "thinking"),
    ("gpt-oss", "reasoning_effort", "reasoning_effort"),
    ("gpt", "reasoning_effort", "reasoning_effort"),
];

/// Reads the cache as a whole; gives the least likeness and the seconds, where it is on.
pub(super) fn cache(view: Option<&View<'_>>, draft: &mut Draft) -> Option<(f64, u64)> {
    let view = view?;
    let is_on = view.flag("enabled", "decisions[].plugins.cache").unwrap_or(false);
    if !is_on {
        view.ignored("disabled in the original: nothing is kept");
        return None;
    }
    let least = view.share("similarity_threshold", "decisions[].plugins.cache.min_score").unwrap_or(0.8);
    let ttl = view.whole("ttl_seconds", "decisions[].plugins.cache.ttl").filter(|ttl| *ttl > 0);
    draft.cache.put("store", "memory");
    if let Some(backend) = view.get("backend_type") {
        match backend.text() {
            Some("memory") => backend.mapped("cache.store: memory"),
            Some("redis" | "valkey") => redis(view, &backend, draft),
            _ => {
                backend.unsupported("answers are kept in memory or in Redis: in memory");
                draft
                    .cache
                    .remark("The original keeps answers in another store; memory and Redis are known here.");
            }
        }
    }
    let most = view.whole("max_entries", "cache.max_entries").filter(|most| *most > 0);
    draft.cache.maybe("max_entries", most.map(|most| most.min(10_000_000)));
    Some((least, ttl.unwrap_or(3600)))
}

fn redis(view: &View<'_>, backend: &View<'_>, draft: &mut Draft) {
    let kind = backend.text().unwrap_or("redis");
    let connection = view.get(kind).map(|own| own.get("connection").unwrap_or(own));
    let to = "cache.redis.address";
    let host =
        connection.as_ref().and_then(|own| own.take("host", to)).unwrap_or_else(|| "localhost".to_owned());
    let port = connection.as_ref().and_then(|own| own.whole("port", to)).unwrap_or(6379);
    let database = connection.as_ref().and_then(|own| own.whole("database", to)).unwrap_or(0);
    backend.mapped("cache.store: redis");
    draft.cache = Mapping::default();
    draft.cache.put("store", "redis");
    let address = format!("redis://{host}:{port}/{database}");
    draft.cache.put("redis", Out::of("address", Out::Expanded(format!("${{REDIS_URL:-{address}}}"))));
}

/// Reads the picking of tools; gives what every decision then does.
pub(super) fn tools(view: Option<&View<'_>>, files: &Files<'_>) -> Option<Mapping> {
    let view = view?;
    let to = "decisions[].plugins.tools";
    if view.flag("enabled", to) != Some(true) {
        view.ignored("disabled in the original: the client's tools go on as they are");
        return None;
    }
    let most = view.whole("top_k", to).unwrap_or(3);
    let least = view.share("similarity_threshold", to);
    if let Some(advanced) = view.get("advanced_filtering") {
        advanced.unsupported("tools are picked by likeness alone");
    }
    if let Some(fallback) = view.get("fallback_to_empty") {
        fallback.ignored("where no tool fits, the client's own stay");
    }
    let file = files.tools(&view.get("tools_db_path")?)?;
    let mut tools = Mapping::default();
    tools.put("mode", "select").put("file", file).put("top_k", most.clamp(1, 128)).maybe("min_score", least);
    Some(tools)
}

/// Reads the families of models that are told to reason in the same way.
pub(super) fn families(view: Option<&View<'_>>, draft: &mut Draft) {
    for (name, family) in view.map(View::entries).unwrap_or_default() {
        let to = format!("reasoning_families.{name}");
        let kind = family.take("type", &to).unwrap_or_default();
        let mut parameter = family.take("parameter", &to);
        if parameter.as_ref().is_some_and(|parameter| parameter.contains('.'))
            && let Some(view) = family.get("parameter")
        {
            view.broken("chat completions have no such parameter", "`reasoning_effort`, which they have");
            parameter = None;
        }
        let own = match kind.as_str() {
            "chat_template_kwargs" => "chat_template_kwargs",
            "thinking" => "thinking",
            _ => "reasoning_effort",
        };
        let default = if own == "chat_template_kwargs" { "enable_thinking" } else { own };
        let said = parameter.as_deref().unwrap_or(default);
        if FAMILIES.contains(&(name, own, said)) {
            family.mapped("known to every policy");
            continue;
        }
        let mut out = Mapping::default();
        out.put("kind", own).maybe("parameter", parameter);
        draft.families.put(name, out);
    }
}

/// Gives a model its family, if there is one of that name.
pub(super) fn family(view: &View<'_>, name: &str, draft: &mut Draft) {
    let Some(family) = view.take("reasoning_family", &format!("models.{name}.reasoning_family")) else {
        return;
    };
    if FAMILIES.iter().any(|(known, _, _)| *known == family) || draft.families.has(&family) {
        draft.model(name).family = Some(family);
    } else if let Some(view) = view.get("reasoning_family") {
        view.broken("no family of this name is defined", "left out");
    }
}

/// Reads what a model costs.
pub(super) fn price(view: &View<'_>, name: &str, draft: &mut Draft) {
    let Some(pricing) = view.get("pricing") else { return };
    let to = format!("models.{name}.price");
    let mut price = Mapping::default();
    price.maybe("currency", pricing.take("currency", &to).filter(|text| (1..=16).contains(&text.len())));
    let amount = |key: &str| pricing.number(key, &to).map(|amount| amount.clamp(0.0, 1e6));
    price.put("prompt", amount("prompt_per_1m").unwrap_or(0.0));
    price.put("completion", amount("completion_per_1m").unwrap_or(0.0));
    price.maybe("cached", amount("cached_input_per_1m"));
    if let Some(view) = pricing.get("cache_write_per_1m") {
        view.unsupported("no upstream says how much it wrote to its cache");
    }
    draft.model(name).price = price;
}

/// Reads the adapters of a model.
pub(super) fn loras(view: &View<'_>, name: &str, draft: &mut Draft) {
    for item in view.list("loras") {
        if let Some(lora) = item.take("name", &format!("models.{name}.loras")) {
            let loras = &mut draft.model(name).loras;
            if !lora.is_empty() && !loras.contains(&lora) {
                loras.push(lora);
            }
        }
        super::signals::note_text(&item);
    }
}

/// Reads the effort where only "on" is said.
pub(super) fn effort(view: &View<'_>, draft: &mut Draft) {
    let effort = view.take("default_reasoning_effort", "default_effort");
    draft.effort = effort.filter(|effort| ["low", "medium", "high"].contains(&effort.as_str()));
}

/// Reads which of several decisions wins.
pub(super) fn strategy(view: &View<'_>) -> Option<String> {
    let strategy = view.take("strategy", "strategy")?;
    ["priority", "confidence"].contains(&strategy.as_str()).then_some(strategy)
}
