//! Owns the plugins of vLLM Semantic Router's decisions: what each becomes here. Refuses to know which decision wins.

use super::super::check_plugins::RESERVED;
use super::decisions::Setting;
use super::detector;
use super::draft::Draft;
use super::out::{Mapping, Out};
use super::signals::kinds;
use super::view::View;

/// What the plugins of one decision become.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    pub(super) out: Mapping,
    /// Whether a fixed answer comes instead of a model's.
    pub(super) responds: bool,
    /// Whether the decision holds something against requests.
    pub(super) guards: bool,
    /// Whether the decision holds answers against what their model was told.
    pub(super) verifies: bool,
    /// What is held against answers.
    answer: Mapping,
    /// The parts that the decision has settled, be it by turning them off.
    settled: Vec<&'static str>,
}

/// Reads the plugins of a decision, and adds what holds for every decision.
pub(super) fn read(list: &[View<'_>], setting: &Setting, draft: &mut Draft) -> Plugins {
    let mut plugins = Plugins::default();
    for item in list {
        let kind = item.take("type", "decisions[].plugins").unwrap_or_default();
        let Some(configuration) = item.get("configuration") else { continue };
        let is_on = configuration.flag("enabled", "decisions[].plugins");
        plugins.one(&kind, (item, &configuration, is_on), setting, draft);
    }
    if let Some((least, ttl)) =
        setting.cache.filter(|_| setting.caches_all && !plugins.settled.contains(&"cache"))
    {
        plugins.out.put("cache", semantic(least, ttl, "tenant"));
    }
    if let Some(tools) = setting.tools.as_ref().filter(|_| !plugins.settled.contains(&"tools")) {
        plugins.out.put("tools", tools.clone());
    }
    let answer = std::mem::take(&mut plugins.answer);
    plugins.out.filled("answer", answer);
    plugins
}

fn semantic(least: f64, ttl: u64, scope: &str) -> Mapping {
    let mut cache = Mapping::default();
    cache.put("match", "semantic").put("min_score", least);
    cache.put("ttl", Out::Plain(format!("{}s", ttl.max(1)))).put("scope", scope);
    cache
}

impl Plugins {
    fn one(
        &mut self,
        kind: &str,
        (item, configuration, is_on): (&View<'_>, &View<'_>, Option<bool>),
        setting: &Setting,
        draft: &mut Draft,
    ) {
        match kind {
            "semantic-cache" | "semantic_cache" | "response-cache" | "response_cache" => {
                self.cache((item, configuration, is_on), setting, draft);
            }
            "jailbreak" => self.jailbreak(configuration, is_on, setting, draft),
            "pii" => self.pii((item, configuration, is_on), setting, draft),
            // This one is on unless it says otherwise, the others are off.
            "system_prompt" if is_on != Some(false) => self.system_prompt(configuration),
            "fast_response" => self.fast_response(configuration),
            "header_mutation" => self.headers(configuration),
            "request_params" => self.params(configuration),
            "tools" if is_on == Some(true) => self.tools(configuration),
            "tool_selection" if is_on == Some(true) => self.tool_selection(configuration, setting),
            "response_jailbreak" if is_on == Some(true) => self.response_jailbreak(configuration),
            "system_prompt" | "tools" | "tool_selection" | "response_jailbreak" => {
                item.ignored("disabled in the original: left out");
            }
            "hallucination" if is_on == Some(true) && setting.has_detector => {
                self.verifies = true;
                self.answer.put("hallucination", detector::plugin(configuration, draft));
            }
            _ if is_on == Some(false) => item.ignored("disabled in the original: left out"),
            _ => item.unsupported(&without(kind)),
        }
    }

    fn cache(
        &mut self,
        (item, configuration, is_on): (&View<'_>, &View<'_>, Option<bool>),
        setting: &Setting,
        draft: &mut Draft,
    ) {
        self.settled.push("cache");
        let Some((least, ttl)) = setting.cache else {
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
        let least = own.or_else(|| configuration.share("similarity_threshold", to)).unwrap_or(least);
        let ttl = configuration.whole("ttl_seconds", to).unwrap_or(ttl);
        let scope = match configuration.take("scope", to).as_deref() {
            Some("user") => {
                super::identity::need(draft);
                "user"
            }
            Some("global") => "all",
            _ => "tenant",
        };
        let mut cache = semantic(least, ttl, scope);
        if configuration.take("mode", to).as_deref() == Some("exact") {
            cache = Mapping::default();
            cache
                .put("match", "exact")
                .put("ttl", Out::Plain(format!("{}s", ttl.max(1))))
                .put("scope", scope);
        }
        for key in
            ["request_controls", "personalized", "revision", "allow_request_controls", "control_header"]
        {
            if let Some(view) = configuration.get(key) {
                view.ignored(
                    "clients steer with Cache-Control; another prompt, tool or model is never the same",
                );
            }
        }
        self.out.put("cache", cache);
    }

    fn jailbreak(
        &mut self,
        configuration: &View<'_>,
        is_on: Option<bool>,
        setting: &Setting,
        draft: &mut Draft,
    ) {
        let to = "decisions[].plugins.prompt";
        let least = configuration.share("threshold", to).or(setting.prompt_min);
        let mut guard = Mapping::default();
        if is_on == Some(true) {
            guard.put("action", "block").maybe("min_score", least).put("scope", "conversation");
            draft.blocks = true;
            self.guards = true;
        } else {
            guard.put("action", "off");
        }
        self.out.put("prompt", guard);
    }

    fn pii(
        &mut self,
        (item, configuration, is_on): (&View<'_>, &View<'_>, Option<bool>),
        setting: &Setting,
        draft: &mut Draft,
    ) {
        if is_on != Some(true) {
            item.ignored("disabled in the original: left out");
            return;
        }
        let to = "decisions[].plugins.pii";
        let allowed = configuration.get("pii_types_allowed").map(|view| kinds(&view, &format!("{to}.allow")));
        let least = configuration.share("threshold", to).or(setting.pii_min);
        self.out.put("pii", block_pii(allowed.unwrap_or_default(), least));
        draft.blocks = true;
        self.guards = true;
    }

    fn system_prompt(&mut self, configuration: &View<'_>) {
        let to = "decisions[].plugins.system_prompt";
        let Some(text) = configuration.take("system_prompt", to).filter(|text| !text.is_empty()) else {
            return;
        };
        let mode = configuration.take("mode", to);
        let mode = if mode.as_deref() == Some("insert") { "insert" } else { "replace" };
        let mut prompt = Mapping::default();
        prompt.put("mode", mode).put("text", text);
        self.out.put("system_prompt", prompt);
    }

    fn fast_response(&mut self, configuration: &View<'_>) {
        let message = configuration.take("message", "decisions[].plugins.respond.text");
        if let Some(message) = message.filter(|message| !message.is_empty()) {
            self.out.put("respond", Out::of("text", message));
            self.responds = true;
        }
    }

    fn headers(&mut self, configuration: &View<'_>) {
        let mut headers = Mapping::default();
        for (key, own) in [("update", "set"), ("add", "add")] {
            let mut pairs = Mapping::default();
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
        self.out.filled("headers", headers);
    }

    fn params(&mut self, configuration: &View<'_>) {
        let to = "decisions[].plugins.params";
        let mut params = Mapping::default();
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
        self.out.filled("params", params);
    }

    fn tools(&mut self, configuration: &View<'_>) {
        let to = "decisions[].plugins.tools";
        self.settled.push("tools");
        let (allow, block) =
            (configuration.take_list("allow_tools", to), configuration.take_list("block_tools", to));
        let mut tools = Mapping::default();
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
            if let Some(view) = configuration.get(key) {
                view.unsupported("the list of tools is filtered by name; what was called before stays");
            }
        }
        self.out.put("tools", tools);
    }

    fn tool_selection(&mut self, configuration: &View<'_>, setting: &Setting) {
        let to = "decisions[].plugins.tools";
        self.settled.push("tools");
        let mut tools = Mapping::default();
        if configuration.take("mode", to).as_deref() == Some("filter") {
            tools.put("mode", "rank");
            let most = configuration.whole("preserve_count", to).unwrap_or(3);
            tools.put("top_k", most.clamp(1, 128));
            tools.maybe("min_score", configuration.share("relevance_threshold", to));
        } else {
            let path = configuration.get("tools_db_path");
            let file = path.as_ref().and_then(|path| setting.files.tools(path));
            let Some(file) = file else { return };
            tools.put("mode", "add").put("file", file);
            tools.put("top_k", configuration.whole("top_k", to).unwrap_or(3).clamp(1, 128));
            tools.maybe("min_score", configuration.share("similarity_threshold", to));
        }
        for key in ["advanced_filtering", "strategy", "fallback_to_empty"] {
            if let Some(view) = configuration.get(key) {
                view.unsupported("tools are picked by likeness alone");
            }
        }
        self.out.put("tools", tools);
    }

    fn response_jailbreak(&mut self, configuration: &View<'_>) {
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
pub(super) fn block_pii(allowed: Vec<String>, least: Option<f64>) -> Mapping {
    let mut guard = Mapping::default();
    guard.put("action", "block");
    if !allowed.is_empty() {
        guard.put("allow", allowed);
    }
    guard.maybe("min_score", least).put("scope", "conversation");
    guard
}

fn is_header(name: &str) -> bool {
    http::HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !RESERVED.contains(&name.as_str()))
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
