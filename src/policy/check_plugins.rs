//! Owns what plugins and guards mean together. Refuses to know decisions.

use serde_json::Value;

use super::check::Known;
use super::check_signals::scope;
use super::checker::Checker;
use super::issue::Path;
use super::raw_plugins::{
    RawAnswerAction, RawAnswerGuard, RawCacheMatch, RawCacheScope, RawCacheUse, RawGuardOnUnknown, RawGuards,
    RawHallucinationAction, RawHallucinationGuard, RawHeaders, RawPiiAction, RawPiiGuard, RawPlugins,
    RawPromptAction, RawPromptGuard, RawReasoning, RawSystemPrompt, RawSystemPromptMode, RawTools,
    RawToolsMode,
};
use super::{
    AnswerAction, AnswerGuard, BasisPoints, CacheScope, CacheUse, Effort, GuardOnUnknown, Guards,
    HallucinationAction, HallucinationGuard, HeaderChanges, PiiAction, PiiGuard, PiiKinds, Plugins,
    PromptAction, PromptGuard, Reasoning, SystemPrompt, SystemPromptMode, ToolPick, ToolSpec, Tools, Words,
};

/// How many tools a file may hold.
const MAX_TOOLS: usize = 10_000;

/// Headers that belong to the connection or to the gateway; a policy cannot change them.
pub(super) const RESERVED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
];

/// Turns the raw plugins of a decision into the final ones.
pub(super) fn plugins(
    raw: &RawPlugins,
    path: &Path,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Plugins {
    let params = &raw.params;
    for (index, name) in params.remove.iter().enumerate() {
        if ["model", "messages", "prompt", "input", "stream"].contains(&name.as_str()) {
            let path = path.key("params").key("remove").index(index);
            checker.issue(&path, format!("`{name}` cannot be left out"));
        }
    }
    Plugins {
        system_prompt: raw.system_prompt.as_ref().map(system_prompt),
        reasoning: raw.reasoning.map(|raw| reasoning(raw, known)),
        headers: headers(&raw.headers, &path.key("headers"), checker),
        max_tokens: params.max_tokens,
        max_n: params.max_n,
        remove_params: params.remove.clone(),
        tools: raw.tools.as_ref().and_then(|raw| tools(raw, &path.key("tools"), checker)),
        respond: raw.respond.as_ref().map(|respond| respond.text.clone()),
        cache: raw.cache.as_ref().map(|raw| cache(raw, &path.key("cache"), known, checker)),
        guards: Guards {
            prompt: raw.prompt.as_ref().map(|raw| prompt(raw, &path.key("prompt"), known, checker)),
            pii: raw.pii.as_ref().map(|raw| pii(raw, &path.key("pii"), known, checker)),
            answer: raw.answer.as_ref().map(|raw| answer(raw, &path.key("answer"), known, checker)),
        },
    }
}

/// Turns raw guards into the final ones.
pub(super) fn guards(raw: &RawGuards, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> Guards {
    Guards {
        prompt: raw.prompt.as_ref().map(|raw| prompt(raw, &path.key("prompt"), known, checker)),
        pii: raw.pii.as_ref().map(|raw| pii(raw, &path.key("pii"), known, checker)),
        answer: raw.answer.as_ref().map(|raw| answer(raw, &path.key("answer"), known, checker)),
    }
}

fn system_prompt(raw: &RawSystemPrompt) -> SystemPrompt {
    let mode = match raw.mode {
        RawSystemPromptMode::Replace => SystemPromptMode::Replace,
        RawSystemPromptMode::Insert => SystemPromptMode::Insert,
    };
    SystemPrompt { text: raw.text.clone(), mode }
}

/// Turns the raw reasoning into the final one; `on` alone is the policy's effort.
pub(super) fn reasoning(raw: RawReasoning, known: &Known<'_>) -> Reasoning {
    match raw {
        RawReasoning::Off => Reasoning::Off,
        RawReasoning::On => Reasoning::On(known.effort),
        RawReasoning::Low => Reasoning::On(Effort::Low),
        RawReasoning::Medium => Reasoning::On(Effort::Medium),
        RawReasoning::High => Reasoning::On(Effort::High),
    }
}

fn headers(raw: &RawHeaders, path: &Path, checker: &mut Checker<'_>) -> HeaderChanges {
    let mut pairs = |key: &str, raw: &indexmap::IndexMap<String, String>| {
        let path = path.key(key);
        let mut pairs = Vec::with_capacity(raw.len());
        for (name, value) in raw {
            let path = path.key(name);
            let name = header_name(name, &path, checker);
            if http::HeaderValue::from_str(value).is_err() {
                checker.issue(&path, "not a header's value: only printable ASCII can stand in one");
            }
            pairs.push((name, value.clone()));
        }
        pairs
    };
    let (set, add) = (pairs("set", &raw.set), pairs("add", &raw.add));
    let remove = raw.remove.iter().enumerate();
    let remove =
        remove.map(|(index, name)| header_name(name, &path.key("remove").index(index), checker)).collect();
    HeaderChanges { set, add, remove }
}

/// Gives a header's name in lower case.
pub(super) fn header_name(name: &str, path: &Path, checker: &mut Checker<'_>) -> String {
    match http::HeaderName::from_bytes(name.as_bytes()) {
        Err(_) => checker.issue(path, format!("`{name}` is no header's name")),
        Ok(name) if RESERVED.contains(&name.as_str()) => {
            checker.issue(
                path,
                format!("`{name}` belongs to the connection; it cannot be changed or relied on"),
            );
        }
        Ok(_) => {}
    }
    name.to_ascii_lowercase()
}

fn tools(raw: &RawTools, path: &Path, checker: &mut Checker<'_>) -> Option<Tools> {
    let lists = !raw.allow.is_empty() || !raw.block.is_empty();
    if lists && raw.mode != RawToolsMode::Filter {
        checker.issue(path, "`allow` and `block` are for `mode: filter`");
    }
    let takes_file = matches!(raw.mode, RawToolsMode::Select | RawToolsMode::Add);
    if takes_file != raw.file.is_some() {
        let message =
            if takes_file { "the key `file` is missing" } else { "`file` is for `select` and `add`" };
        checker.issue(path, message);
    }
    let pick = ToolPick { top_k: raw.top_k, min_score: BasisPoints::from_fraction(raw.min_score) };
    let mut file =
        || raw.file.as_ref().map(|file| tools_file(file, &path.key("file"), checker)).unwrap_or_default();
    match raw.mode {
        RawToolsMode::Keep => None,
        RawToolsMode::None => Some(Tools::None),
        RawToolsMode::Filter => Some(Tools::Filter { allow: raw.allow.clone(), block: raw.block.clone() }),
        RawToolsMode::Rank => Some(Tools::Rank(pick)),
        RawToolsMode::Select => Some(Tools::Select(pick, file())),
        RawToolsMode::Add => Some(Tools::Add(pick, file())),
    }
}

/// Reads a list of tools: each is what OpenAI's API takes, or holds that in `tool` beside a description for the choice.
fn tools_file(file: &str, path: &Path, checker: &mut Checker<'_>) -> Vec<ToolSpec> {
    let text = match checker.read(file) {
        Ok(text) => text,
        Err(error) => {
            checker.issue(path, format!("cannot read `{file}`: {error}"));
            return Vec::new();
        }
    };
    let items = match serde_json::from_slice::<Vec<Value>>(&text) {
        Ok(items) if items.len() <= MAX_TOOLS => items,
        Ok(items) => {
            checker.issue(
                path,
                format!("`{file}` holds {} tools; at most {MAX_TOOLS} are allowed", items.len()),
            );
            return Vec::new();
        }
        Err(error) => {
            checker.issue(path, format!("`{file}` is no JSON list of tools: {error}"));
            return Vec::new();
        }
    };
    let mut tools = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match tool(item) {
            Some(tool) => tools.push(tool),
            None => checker.issue(path, format!("`{file}`: item {index} has no `function` with a `name`")),
        }
    }
    tools
}

fn tool(item: &Value) -> Option<ToolSpec> {
    let definition = item.get("tool").unwrap_or(item);
    let function = definition.get("function")?;
    let name = function.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let said = item
        .get("description")
        .filter(|_| item.get("tool").is_some())
        .or_else(|| function.get("description"));
    let description = said.and_then(Value::as_str).unwrap_or_default();
    let words = item.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let words: Vec<&str> =
        std::iter::once(description).chain(words).filter(|words| !words.is_empty()).collect();
    let description = if words.is_empty() { name.replace(['_', '-'], " ") } else { words.join(" ") };
    Some(ToolSpec { name: name.to_owned(), description, json: definition.to_string() })
}

fn cache(raw: &RawCacheUse, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> CacheUse {
    let scope = match raw.scope {
        RawCacheScope::User => CacheScope::User,
        RawCacheScope::Tenant => CacheScope::Tenant,
        RawCacheScope::All => CacheScope::All,
    };
    if scope == CacheScope::User && !known.has_identity {
        checker.issue(&path.key("scope"), "without `identity` there are no users");
    }
    let is_semantic = raw.by == RawCacheMatch::Semantic;
    CacheUse {
        min_score: is_semantic.then(|| BasisPoints::from_fraction(raw.min_score)),
        ttl: checker.positive(&path.key("ttl"), raw.ttl),
        scope,
    }
}

fn prompt(raw: &RawPromptGuard, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> PromptGuard {
    if raw.model.is_some() && raw.action != RawPromptAction::Route {
        checker.issue(&path.key("model"), "only with `action: route`");
    }
    let action = match raw.action {
        RawPromptAction::Block => PromptAction::Block,
        RawPromptAction::Report => PromptAction::Report,
        RawPromptAction::Off => PromptAction::Off,
        RawPromptAction::Route => {
            if raw.model.is_none() {
                checker.issue(path, "the key `model` is missing: `route` needs one");
            }
            let model = raw.model.as_ref().and_then(|name| known.model(name, &path.key("model"), checker));
            model.map_or(PromptAction::Block, PromptAction::Route)
        }
    };
    PromptGuard {
        action,
        min_score: raw.min_score.map(BasisPoints::from_fraction),
        scope: scope(raw.scope),
        on_unknown: on_unknown(raw.on_unknown),
    }
}

fn on_unknown(raw: RawGuardOnUnknown) -> GuardOnUnknown {
    match raw {
        RawGuardOnUnknown::Allow => GuardOnUnknown::Allow,
        RawGuardOnUnknown::Reject => GuardOnUnknown::Reject,
    }
}

fn pii(raw: &RawPiiGuard, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> PiiGuard {
    known.check_pii(&raw.allow, &path.key("allow"), checker);
    if raw.unmask && raw.action != RawPiiAction::Mask {
        checker.issue(&path.key("unmask"), "only with `action: mask`");
    }
    PiiGuard {
        action: match raw.action {
            RawPiiAction::Block => PiiAction::Block,
            RawPiiAction::Mask => PiiAction::Mask { unmask: raw.unmask },
            RawPiiAction::Report => PiiAction::Report,
            RawPiiAction::Off => PiiAction::Off,
        },
        kinds: PiiKinds { only: Vec::new(), except: raw.allow.clone() },
        min_score: raw.min_score.map(BasisPoints::from_fraction),
        scope: scope(raw.scope),
        on_unknown: on_unknown(raw.on_unknown),
    }
}

fn answer(raw: &RawAnswerGuard, path: &Path, known: &Known<'_>, checker: &mut Checker<'_>) -> AnswerGuard {
    known.check_pii(&raw.allow, &path.key("allow"), checker);
    if raw.jailbreak == RawAnswerAction::Mask {
        checker.issue(&path.key("jailbreak"), "`cut` or `off`: an attack is no piece that could be masked");
    }
    if raw.on_words.is_some() && raw.words.is_empty() {
        checker.issue(&path.key("on_words"), "only with `words`");
    }
    if let Some(blank) = raw.words.iter().position(|word| word.trim().is_empty()) {
        checker.issue(&path.key("words").index(blank), "must not be blank");
    }
    let action = |raw: RawAnswerAction| match raw {
        RawAnswerAction::Off => AnswerAction::Off,
        RawAnswerAction::Mask => AnswerAction::Mask,
        RawAnswerAction::Cut => AnswerAction::Cut,
    };
    AnswerGuard {
        pii: action(raw.pii),
        kinds: PiiKinds { only: Vec::new(), except: raw.allow.clone() },
        cuts_jailbreak: raw.jailbreak == RawAnswerAction::Cut,
        words: Words::new(&raw.words).unwrap_or_else(|_too_large| {
            checker.issue(&path.key("words"), "are too many, or too long, to be looked for together");
            Words::default()
        }),
        on_words: raw.on_words.map_or(AnswerAction::Cut, action),
        on_unknown: on_unknown(raw.on_unknown),
        hallucination: hallucination(&raw.hallucination, &path.key("hallucination"), known, checker),
    }
}

fn hallucination(
    raw: &RawHallucinationGuard,
    path: &Path,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> HallucinationGuard {
    let action = match raw.action {
        RawHallucinationAction::Off => HallucinationAction::Off,
        RawHallucinationAction::Log => HallucinationAction::Log,
        RawHallucinationAction::Header => HallucinationAction::Header,
    };
    if action != HallucinationAction::Off && !known.has_detector {
        let message = "no detector is configured; `classifier.models.hallucination` names one";
        checker.issue(&path.key("action"), message);
    }
    if raw.spans && action != HallucinationAction::Header {
        checker.issue(&path.key("spans"), "only with `action: header`");
    }
    if raw.unverified && !known.checks_facts {
        let message = "no signal tells where facts are needed; `fact_check: {needed: true}` does";
        checker.issue(&path.key("unverified"), message);
    }
    let deadline = checker.positive(&path.key("deadline"), raw.deadline);
    HallucinationGuard { action, spans: raw.spans, unverified: raw.unverified, deadline }
}
