//! Owns the plugins of vLLM Semantic Router's decisions: what each becomes here. Refuses to know which decision wins.

use super::super::plugins::RESERVED_HEADERS;
use super::decision_defaults::{CacheDefaults, DecisionDefaults};
use super::detector;
use super::draft::PolicyDraft;
use super::signals::kinds;
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// The plugins of one decision under construction.
#[derive(Debug, Default)]
pub(super) struct PluginDraft {
    pub(super) plugins: YamlMapping,
    /// Whether a fixed response is sent instead of a model's.
    pub(super) responds: bool,
    /// Whether a guard judges requests.
    pub(super) guards: bool,
    /// Whether responses are checked for hallucinations.
    pub(super) verifies: bool,
    /// The guards of responses.
    answer: YamlMapping,
    /// The plugins that the decision configures itself, be it by turning them off.
    configured: Vec<&'static str>,
}

/// One plugin of the source.
struct PluginSource<'a> {
    item: &'a SourceNode<'a>,
    configuration: &'a SourceNode<'a>,
    is_on: Option<bool>,
}

/// Reads the plugins of a decision, and adds what holds for every decision.
pub(super) fn read(
    list: &[SourceNode<'_>],
    defaults: &DecisionDefaults,
    draft: &mut PolicyDraft,
) -> PluginDraft {
    let mut plugins = PluginDraft::default();
    for item in list {
        let kind = item.take("type", "decisions[].plugins").unwrap_or_default();
        let Some(configuration) = item.get("configuration") else { continue };
        let is_on = configuration.flag("enabled", "decisions[].plugins");
        let source = PluginSource { item, configuration: &configuration, is_on };
        plugins.add(&kind, &source, defaults, draft);
    }
    if let Some(cache) =
        defaults.cache.filter(|_| defaults.caches_all && !plugins.configured.contains(&"cache"))
    {
        plugins.plugins.put("cache", semantic(cache, "tenant"));
    }
    if let Some(tools) = defaults.tools.as_ref().filter(|_| !plugins.configured.contains(&"tools")) {
        plugins.plugins.put("tools", tools.clone());
    }
    let answer = std::mem::take(&mut plugins.answer);
    plugins.plugins.filled("answer", answer);
    plugins
}

fn semantic(defaults: CacheDefaults, scope: &str) -> YamlMapping {
    let mut cache = YamlMapping::default();
    cache.put("match", "semantic").put("min_score", defaults.min_score);
    cache.put("ttl", YamlValue::Plain(format!("{}s", defaults.ttl_secs.max(1)))).put("scope", scope);
    cache
}

impl PluginDraft {
    fn add(
        &mut self,
        kind: &str,
        source: &PluginSource<'_>,
        defaults: &DecisionDefaults,
        draft: &mut PolicyDraft,
    ) {
        let PluginSource { item, configuration, is_on } = *source;
        match kind {
            "semantic-cache" | "semantic_cache" | "response-cache" | "response_cache" => {
                self.cache(source, defaults, draft);
            }
            "jailbreak" => self.jailbreak(configuration, is_on, defaults, draft),
            "pii" => self.pii(source, defaults, draft),
            // This one is on unless it says otherwise, the others are off.
            "system_prompt" if is_on != Some(false) => self.system_prompt(configuration),
            "fast_response" => self.fast_response(configuration),
            "header_mutation" => self.headers(configuration),
            "request_params" => self.params(configuration),
            "tools" if is_on == Some(true) => self.tools(configuration),
            "tool_selection" if is_on == Some(true) => self.tool_selection(configuration, defaults),
            "response_jailbreak" if is_on == Some(true) => self.response_jailbreak(configuration),
            "system_prompt" | "tools" | "tool_selection" | "response_jailbreak" => {
                item.ignored("disabled in the original: left out");
            }
            "hallucination" if is_on == Some(true) && defaults.has_detector => {
                self.verifies = true;
                self.answer.put("hallucination", detector::plugin(configuration, draft));
            }
            _ if is_on == Some(false) => item.ignored("disabled in the original: left out"),
            _ => item.unsupported(&without(kind)),
        }
    }

    fn cache(&mut self, source: &PluginSource<'_>, defaults: &DecisionDefaults, draft: &mut PolicyDraft) {
        let PluginSource { item, configuration, is_on } = *source;
        self.configured.push("cache");
        let Some(default) = defaults.cache else {
            item.ignored("off, since the cache as a whole is off");
            return;
        };
        if is_on != Some(true) {
            item.ignored("disabled in the original: left out");
            return;
        }
        let to = "decisions[].plugins.cache";
        let own =
            configuration.get("semantic").and_then(|semantic| semantic.share("similarity_threshold", to));
        let min_score =
            own.or_else(|| configuration.share("similarity_threshold", to)).unwrap_or(default.min_score);
        let ttl_secs = configuration.whole("ttl_seconds", to).unwrap_or(default.ttl_secs);
        let scope = match configuration.take("scope", to).as_deref() {
            Some("user") => {
                super::identity::need(draft);
                "user"
            }
            Some("global") => "all",
            _ => "tenant",
        };
        let mut cache = semantic(CacheDefaults { min_score, ttl_secs }, scope);
        if configuration.take("mode", to).as_deref() == Some("exact") {
            cache = YamlMapping::default();
            cache
                .put("match", "exact")
                .put("ttl", YamlValue::Plain(format!("{}s", ttl_secs.max(1))))
                .put("scope", scope);
        }
        for key in
            ["request_controls", "personalized", "revision", "allow_request_controls", "control_header"]
        {
            if let Some(node) = configuration.get(key) {
                node.ignored(
                    "clients steer with Cache-Control; another prompt, tool or model is never the same",
                );
            }
        }
        self.plugins.put("cache", cache);
    }

    fn jailbreak(
        &mut self,
        configuration: &SourceNode<'_>,
        is_on: Option<bool>,
        defaults: &DecisionDefaults,
        draft: &mut PolicyDraft,
    ) {
        let to = "decisions[].plugins.prompt";
        let least = configuration.share("threshold", to).or(defaults.prompt_min);
        let mut guard = YamlMapping::default();
        if is_on == Some(true) {
            guard.put("action", "block").maybe("min_score", least).put("scope", "conversation");
            draft.flags.blocks = true;
            self.guards = true;
        } else {
            guard.put("action", "off");
        }
        self.plugins.put("prompt", guard);
    }

    fn pii(&mut self, source: &PluginSource<'_>, defaults: &DecisionDefaults, draft: &mut PolicyDraft) {
        let PluginSource { item, configuration, is_on } = *source;
        if is_on != Some(true) {
            item.ignored("disabled in the original: left out");
            return;
        }
        let to = "decisions[].plugins.pii";
        let allowed = configuration.get("pii_types_allowed").map(|node| kinds(&node, &format!("{to}.allow")));
        let least = configuration.share("threshold", to).or(defaults.pii_min);
        self.plugins.put("pii", block_pii(allowed.unwrap_or_default(), least));
        draft.flags.blocks = true;
        self.guards = true;
    }

    fn system_prompt(&mut self, configuration: &SourceNode<'_>) {
        let to = "decisions[].plugins.system_prompt";
        let Some(text) = configuration.take("system_prompt", to).filter(|text| !text.is_empty()) else {
            return;
        };
        let mode = configuration.take("mode", to);
        let mode = if mode.as_deref() == Some("insert") { "insert" } else { "replace" };
        let mut prompt = YamlMapping::default();
        prompt.put("mode", mode).put("text", text);
        self.plugins.put("system_prompt", prompt);
    }

    fn fast_response(&mut self, configuration: &SourceNode<'_>) {
        let message = configuration.take("message", "decisions[].plugins.respond.text");
        if let Some(message) = message.filter(|message| !message.is_empty()) {
            self.plugins.put("respond", YamlValue::of("text", message));
            self.responds = true;
        }
    }

    fn headers(&mut self, configuration: &SourceNode<'_>) {
        let mut headers = YamlMapping::default();
        for (key, own) in [("update", "set"), ("add", "add")] {
            let mut pairs = YamlMapping::default();
            for pair in configuration.list(key) {
                let to = format!("decisions[].plugins.headers.{own}");
                let (name, value) = (pair.take("name", &to), pair.take("value", &to));
                let Some((name, value)) = name.zip(value) else { continue };
                if is_header(&name) && http::HeaderValue::from_str(&value).is_ok() && !pairs.has(&name) {
                    pairs.put(&name, value);
                } else {
                    pair.unsupported("this header belongs to the connection, or is none");
                }
            }
            headers.filled(own, pairs);
        }
        let remove = configuration.take_list("delete", "decisions[].plugins.headers.remove");
        let remove: Vec<String> = remove.into_iter().filter(|name| is_header(name)).collect();
        if !remove.is_empty() {
            headers.put("remove", remove);
        }
        self.plugins.filled("headers", headers);
    }

    fn params(&mut self, configuration: &SourceNode<'_>) {
        let to = "decisions[].plugins.params";
        let mut params = YamlMapping::default();
        let most = configuration.whole("max_tokens_limit", to).filter(|most| *most > 0);
        params.maybe("max_tokens", most.map(|most| most.min(100_000_000)));
        let most = configuration.whole("max_n", to).filter(|most| *most > 0);
        params.maybe("max_n", most.map(|most| most.min(1000)));
        let needed = ["model", "messages", "prompt", "input", "stream"];
        let remove = configuration.take_list("blocked_params", to);
        let remove: Vec<String> =
            remove.into_iter().filter(|name| !name.is_empty() && !needed.contains(&name.as_str())).collect();
        if !remove.is_empty() {
            params.put("remove", remove);
        }
        if let Some(strip) = configuration.get("strip_unknown") {
            if strip.text() == Some("true") {
                strip.unsupported("unknown parameters go on: upstreams know more than any list");
            } else {
                strip.mapped(to);
            }
        }
        self.plugins.filled("params", params);
    }

    fn tools(&mut self, configuration: &SourceNode<'_>) {
        let to = "decisions[].plugins.tools";
        self.configured.push("tools");
        let (allow, block) =
            (configuration.take_list("allow_tools", to), configuration.take_list("block_tools", to));
        let mut tools = YamlMapping::default();
        match configuration.take("mode", to).as_deref() {
            Some("none") => {
                tools.put("mode", "none");
            }
            Some("filtered") => {
                tools.put("mode", "filter");
                tools.maybe("allow", Some(allow).filter(|list| !list.is_empty()));
                tools.maybe("block", Some(block).filter(|list| !list.is_empty()));
            }
            _ => return,
        }
        for key in ["semantic_selection", "strip_tool_history", "strategy", "dynamic_retrieval"] {
            if let Some(node) = configuration.get(key) {
                node.unsupported("the list of tools is filtered by name; what was called before stays");
            }
        }
        self.plugins.put("tools", tools);
    }

    fn tool_selection(&mut self, configuration: &SourceNode<'_>, defaults: &DecisionDefaults) {
        let to = "decisions[].plugins.tools";
        self.configured.push("tools");
        let mut tools = YamlMapping::default();
        if configuration.take("mode", to).as_deref() == Some("filter") {
            tools.put("mode", "rank");
            let most = configuration.whole("preserve_count", to).unwrap_or(3);
            tools.put("top_k", most.clamp(1, 128));
            tools.maybe("min_score", configuration.share("relevance_threshold", to));
        } else {
            let path = configuration.get("tools_db_path");
            let file = path.as_ref().and_then(|path| defaults.files.tools(path));
            let Some(file) = file else { return };
            tools.put("mode", "add").put("file", file);
            tools.put("top_k", configuration.whole("top_k", to).unwrap_or(3).clamp(1, 128));
            tools.maybe("min_score", configuration.share("similarity_threshold", to));
        }
        for key in ["advanced_filtering", "strategy", "fallback_to_empty"] {
            if let Some(node) = configuration.get(key) {
                node.unsupported("tools are picked by likeness alone");
            }
        }
        self.plugins.put("tools", tools);
    }

    fn response_jailbreak(&mut self, configuration: &SourceNode<'_>) {
        let to = "decisions[].plugins.answer.jailbreak";
        let Some(action) = configuration.get("action") else { return };
        if action.text() == Some("block") {
            action.mapped(to);
            self.answer.put("jailbreak", "cut");
            self.guards = true;
        } else {
            action.unsupported("an answer is cut where it turns unsafe, or left alone; no header says so");
        }
        if let Some(threshold) = configuration.get("threshold") {
            threshold.unsupported("the classifier's own threshold holds for answers");
        }
    }
}

/// Makes the guard that refuses requests with personal data.
pub(super) fn block_pii(allowed: Vec<String>, least: Option<f64>) -> YamlMapping {
    let mut guard = YamlMapping::default();
    guard.put("action", "block");
    if !allowed.is_empty() {
        guard.put("allow", allowed);
    }
    guard.maybe("min_score", least).put("scope", "conversation");
    guard
}

fn is_header(name: &str) -> bool {
    http::HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !RESERVED_HEADERS.contains(&name.as_str()))
}

/// Says what is missing for a plugin.
fn without(kind: &str) -> String {
    let why = match kind {
        "hallucination" => "no detector is configured; `classifier.models.hallucination` names one",
        "rag" => "nothing is retrieved here: a service in front does that better",
        "memory" => "no memories are kept of users",
        "context_compression" => "conversations go on as they are",
        "router_replay" => "the log and the traces tell what was decided; bodies are not kept",
        "image_gen" => "only chat models are served; images are asked of their own API",
        _ => "there is no such plugin",
    };
    why.to_owned()
}
