//! Owns vLLM Semantic Router's two older dialects: models for each category, and decisions at the top level. Refuses to
//! know plugins and signals.

use super::canonical;
use super::conditions::Conditions;
use super::decision_defaults::DecisionDefaults;
use super::decisions::{self, DecisionList, reasoning};
use super::detector;
use super::draft::{EndpointDraft, PolicyDraft, PoolDraft, ascii, pool_name};
use super::globals;
use super::intelligent::RoutingObjects;
use super::keywords;
use super::plugins::block_pii;
use super::signals::{self, SignalBuilder, SignalThresholds, kinds};
use super::source_node::SourceNode;
use super::tool_files::ToolFiles;
use super::yaml_writer::{YamlMapping, YamlValue};

/// Reads a configuration of either dialect, with the objects that it leaves models and decisions to.
pub(super) fn read(
    root: &SourceNode<'_>,
    objects: &RoutingObjects<'_>,
    files: &ToolFiles<'_>,
    draft: &mut PolicyDraft,
) {
    let routing = objects.routing();
    let is_categories = !root.has("decisions") && routing.is_none();
    globals::families(root.get("reasoning_families").as_ref(), draft);
    globals::effort(root, draft);
    draft.routing.strategy = globals::strategy(root).filter(|strategy| strategy != "priority");
    models(root, draft);
    objects.models(draft);
    endpoints(root, draft);
    names(root, objects.default_model(), draft);
    let cache = globals::cache(root.get("semantic_cache").as_ref(), draft);
    let tools = globals::tools(root.get("tools").as_ref(), files);
    let (prompt_min, pii_min) = guards(root, is_categories, draft);
    let detector = detector::legacy(root);
    let defaults = DecisionDefaults {
        is_canonical: false,
        cache,
        caches_all: true,
        tools,
        prompt_min,
        pii_min,
        has_detector: detector.is_some(),
        files,
    };
    if is_categories {
        categories(&root.list("categories"), &defaults, draft);
        return;
    }
    let mut conditions = Conditions::default();
    let fact_check = root
        .at(&["hallucination_mitigation", "fact_check_model"])
        .and_then(|model| model.share("threshold", "signals.*.fact_check.min_score"));
    let thresholds = SignalThresholds { fact_check, feedback: None };
    let mut builder = SignalBuilder { draft, conditions: &mut conditions, thresholds };
    signals::domains(&root.list("categories"), &mut builder);
    keywords::keywords(&root.list("keyword_rules"), &mut builder);
    signals::similar("embedding", &root.list("embedding_rules"), &mut builder);
    signals::fact_checks(&root.list("fact_check_rules"), &mut builder);
    if let Some(routing) = &routing {
        conditions = canonical::conditions(routing, &conditions, thresholds, draft);
    }
    let items = routing.as_ref().unwrap_or(root).list("decisions");
    let list = DecisionList { items: &items, recipe: None };
    draft.routing.decisions = decisions::read(&list, &conditions, &defaults, draft);
    detector::put(detector, draft);
}

/// Reads the default model and the names that ask for a decision.
fn names(root: &SourceNode<'_>, default: Option<String>, draft: &mut PolicyDraft) {
    let auto = root.take("auto_model_name", "virtual_models").filter(|name| !name.is_empty());
    draft.routing.virtual_models = vec!["auto".to_owned()];
    let auto = auto.map_or_else(|| "MoM".to_owned(), |name| ascii(&name));
    if auto != "auto" {
        draft.routing.virtual_models.push(auto);
    }
    let Some(default) = default.or_else(|| root.take("default_model", "default_model")) else {
        let first = draft.models.keys().next().cloned().unwrap_or_else(|| "default".to_owned());
        draft.model(&first);
        draft.head.push(format!("The original names no default model; the first one, `{first}`, is taken."));
        draft.routing.default_model = Some(first);
        return;
    };
    if draft.promote(&default)
        && let Some(node) = root.get("default_model")
    {
        node.broken(
            "the default is an adapter, which vSR knows of no endpoint for",
            &format!("`{default}` is a model of its own here"),
        );
    }
    draft.model(&default);
    draft.routing.default_model = Some(default);
}

fn models(root: &SourceNode<'_>, draft: &mut PolicyDraft) {
    for (name, model) in root.get("model_config").map(|node| node.entries()).unwrap_or_default() {
        draft.model(name);
        if !model.is_map() {
            model.mapped(&format!("models.{name}"));
            continue;
        }
        globals::family(&model, name, draft);
        globals::price(&model, name, draft);
        globals::loras(&model, name, draft);
        if let Some(policy) = model.get("pii_policy") {
            pii_policy(&policy, name, draft);
        }
        for key in ["allow_by_default", "pii_types_allowed"] {
            if let Some(node) = model.get(key) {
                node.broken(
                    "nothing reads this key here: it once stood in `pii_policy`",
                    "left out; personal data is a guard of a decision or a model",
                );
            }
        }
        if let Some(key) = model.get("access_key") {
            key.broken("a key in plain text", "not taken over; name its variable in the pool's `credential`");
        }
    }
}

fn pii_policy(policy: &SourceNode<'_>, name: &str, draft: &mut PolicyDraft) {
    let to = format!("models.{name}.guards.pii");
    let allowed = policy.get("pii_types_allowed").map(|node| kinds(&node, &to)).unwrap_or_default();
    let mut guards = YamlMapping::default();
    if policy.flag("allow_by_default", &to).unwrap_or(true) {
        guards.put("pii", YamlValue::of("action", "off"));
    } else {
        guards.put("pii", block_pii(allowed, None));
        draft.flags.blocks = true;
    }
    draft.model(name).guards = guards;
}

/// Reads addresses, and which models they serve.
fn endpoints(root: &SourceNode<'_>, draft: &mut PolicyDraft) {
    let mut known: Vec<(String, EndpointDraft)> = Vec::new();
    for item in root.list("vllm_endpoints") {
        let Some(endpoint) = endpoint(&item) else { continue };
        let name = item.take("name", "pools").unwrap_or_else(|| endpoint.address.clone());
        for model in item.take_list("models", "models") {
            draft.model(&model);
            serve(&model, std::slice::from_ref(&name), std::slice::from_ref(&endpoint), draft);
        }
        known.push((name, endpoint));
    }
    for (name, model) in root.get("model_config").map(|node| node.entries()).unwrap_or_default() {
        let wanted = model.take_list("preferred_endpoints", &format!("models.{name}.pools"));
        let is_wanted = |endpoint: &str| {
            wanted.iter().any(|wanted| wanted == endpoint)
                || (wanted.is_empty() && draft.models.get(name).is_none_or(|model| model.pools.is_empty()))
        };
        let (names, found): (Vec<_>, Vec<_>) =
            known.iter().filter(|(name, _)| is_wanted(name)).cloned().unzip();
        if !found.is_empty() {
            serve(name, &names, &found, draft);
        }
    }
}

fn endpoint(item: &SourceNode<'_>) -> Option<EndpointDraft> {
    let node = item.get("address")?;
    let host = node.text()?.trim().to_owned();
    let port = item.whole("port", "pools.*.endpoints").filter(|port| (1..=65_535).contains(port));
    let bare = host.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let address = match (bare.parse::<std::net::IpAddr>(), port) {
        (Ok(std::net::IpAddr::V6(ip)), port) => format!("[{ip}]:{}", port.unwrap_or(8000)),
        (Ok(ip), port) => format!("{ip}:{}", port.unwrap_or(8000)),
        (Err(_), _) if bare.contains(':') => bare.to_owned(),
        (Err(_), port) => format!("{bare}:{}", port.unwrap_or(8000)),
    };
    if super::super::pool::parse_address(&address).is_err() {
        node.broken("not an address", "left out");
        return None;
    }
    if bare.parse::<std::net::IpAddr>().is_ok() {
        node.broken(
            "vSR takes no DNS names here, and an address changes with its Service or pod",
            "taken as it is; a DNS name works here and follows every address it resolves to",
        );
    } else {
        node.broken("vSR takes literal IP addresses only and refuses this", "taken as it is: it works here");
    }
    Some(EndpointDraft { address, weight: item.whole("weight", "pools.*.endpoints[].weight") })
}

/// Has a model served by endpoints, in a pool that models with the same endpoints share.
fn serve(model: &str, names: &[String], endpoints: &[EndpointDraft], draft: &mut PolicyDraft) {
    let mut endpoints = endpoints.to_vec();
    if endpoints.len() == 1 || endpoints.iter().all(|endpoint| endpoint.weight == endpoints[0].weight) {
        for endpoint in &mut endpoints {
            endpoint.weight = None;
        }
    }
    let equal =
        draft.pools.iter().find(|(_, pool)| pool.endpoints == endpoints).map(|(name, _)| name.clone());
    let name = equal.unwrap_or_else(|| match names {
        [only] if !draft.pools.contains_key(only) => ascii(only),
        _ => pool_name(model),
    });
    draft.pools.entry(name.clone()).or_insert_with(|| PoolDraft { endpoints, ..PoolDraft::default() });
    let pools = &mut draft.model(model).pools;
    if !pools.contains(&name) {
        pools.push(name);
    }
}

/// Reads the guards of every request; gives the least scores of prompts and of personal data.
fn guards(root: &SourceNode<'_>, is_categories: bool, draft: &mut PolicyDraft) -> (Option<f64>, Option<f64>) {
    let domain = root.at(&["classifier", "category_model"]);
    let least = domain.as_ref().and_then(|model| model.share("threshold", "classifier.min_confidence"));
    if is_categories {
        draft.classifier.maybe("min_confidence", least);
    } else {
        let remark = least.map(|least| format!(" It says {least}, which nothing reads.")).unwrap_or_default();
        draft.classifier.put("min_confidence", 0.0).remark(format!(
            "As in the original, the likeliest domain counts however unsure it is.{remark} A higher value sends unsure \
             prompts to the default model."
        ));
        if let Some(view) = domain.as_ref().and_then(|model| model.get("threshold")) {
            view.broken(
                "decisions take the likeliest domain, whatever this says",
                "`min_confidence: 0` does so",
            );
        }
    }
    let pii_min = root
        .at(&["classifier", "pii_model"])
        .and_then(|model| model.share("threshold", "decisions[].plugins.pii.min_score"));
    let Some(prompt) = root.get("prompt_guard") else { return (None, pii_min) };
    let least = prompt.share("threshold", "guards.prompt.min_score");
    if prompt.flag("enabled", "guards.prompt") == Some(true) {
        let mut guard = YamlMapping::default();
        guard.put("action", "block").maybe("min_score", least).put("scope", "conversation");
        draft.guards.put("prompt", guard);
        draft.flags.blocks = true;
    }
    if prompt.flag("use_vllm", "guards.prompt") == Some(true)
        && let Some(view) = prompt.get("use_vllm")
    {
        view.unsupported("attacks are told by the classifier in this process, not by another model");
    }
    (least, pii_min)
}

/// Reads the categories of the oldest dialect: each is a decision for its domain.
fn categories(list: &[SourceNode<'_>], defaults: &DecisionDefaults, draft: &mut PolicyDraft) {
    for item in list {
        let item = &item.clone().within(&ascii(item.peek("name").unwrap_or_default()));
        let mut conditions = Conditions::default();
        let mut builder =
            SignalBuilder { draft, conditions: &mut conditions, thresholds: SignalThresholds::default() };
        signals::domains(std::slice::from_ref(item), &mut builder);
        let Some(view) = item.get("name") else { continue };
        let name = view.text().unwrap_or_default();
        let Some(condition) = conditions.get("domain", name) else { continue };
        if let super::conditions::Condition::Never(why) = &condition {
            item.broken(why, "left out");
            continue;
        }
        let mut decision = YamlMapping::default();
        decision.put("name", ascii(name));
        condition.put(&mut decision);
        best(item, draft, &mut decision);
        decision.filled("plugins", category_plugins(item, defaults, draft));
        draft.routing.decisions.push(YamlValue::Map(decision));
    }
}

/// Takes the model with the highest score, as vSR does.
fn best(item: &SourceNode<'_>, draft: &mut PolicyDraft, decision: &mut YamlMapping) {
    let scores = item.list("model_scores");
    let score =
        |view: &SourceNode<'_>| view.peek("score").and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let mut chosen: Option<&SourceNode<'_>> = None;
    for view in &scores {
        if chosen.is_none_or(|best| score(view) > score(best)) {
            chosen = Some(view);
        }
    }
    for view in &scores {
        view.number("score", "the highest score of a category is its model");
        if chosen.is_some_and(|best| !std::ptr::eq(best, view)) {
            view.ignored("the model with the highest score is used, as in the original");
        }
    }
    let model = chosen.and_then(|view| view.take("model", "decisions[].model"));
    let Some((view, model)) = chosen.zip(model) else {
        decision.maybe("model", draft.routing.default_model.clone());
        return;
    };
    draft.model(&model);
    match reasoning(view, &model, draft) {
        None => decision.put("model", model),
        Some(reasoning) => {
            let mut out = YamlMapping::default();
            out.put("model", model).put("reasoning", reasoning);
            decision.put("models", vec![YamlValue::Map(out)])
        }
    };
}

fn category_plugins(
    item: &SourceNode<'_>,
    defaults: &DecisionDefaults,
    draft: &mut PolicyDraft,
) -> YamlMapping {
    let to = "decisions[].plugins";
    let mut plugins = YamlMapping::default();
    let text = item.take("system_prompt", to).filter(|text| !text.is_empty());
    let is_on = item.flag("system_prompt_enabled", to).unwrap_or(true);
    let mode = item.take("system_prompt_mode", to);
    if let Some(text) = text.filter(|_| is_on) {
        let mut prompt = YamlMapping::default();
        let mode = if mode.as_deref() == Some("insert") { "insert" } else { "replace" };
        prompt.put("mode", mode).put("text", text);
        plugins.put("system_prompt", prompt);
    }
    let least = item.share("semantic_cache_similarity_threshold", to);
    let is_on = item.flag("semantic_cache_enabled", to).unwrap_or(true);
    if let Some(default) = defaults.cache.filter(|_| is_on) {
        let mut cache = YamlMapping::default();
        cache.put("match", "semantic").put("min_score", least.unwrap_or(default.min_score));
        cache.put("ttl", YamlValue::Plain(format!("{}s", default.ttl_secs))).put("scope", "tenant");
        plugins.put("cache", cache);
    }
    plugins.maybe("tools", defaults.tools.clone());
    let least = item.share("jailbreak_threshold", to).or(defaults.prompt_min);
    match item.flag("jailbreak_enabled", to) {
        Some(true) => {
            let mut guard = YamlMapping::default();
            guard.put("action", "block").maybe("min_score", least).put("scope", "conversation");
            plugins.put("prompt", guard);
            draft.flags.blocks = true;
        }
        Some(false) => {
            plugins.put("prompt", YamlValue::of("action", "off"));
        }
        None => {}
    }
    let least = item.share("pii_threshold", to).or(defaults.pii_min);
    match item.flag("pii_enabled", to) {
        Some(true) => {
            plugins.put("pii", block_pii(Vec::new(), least));
            draft.flags.blocks = true;
        }
        Some(false) => {
            plugins.put("pii", YamlValue::of("action", "off"));
        }
        None => {}
    }
    plugins
}
