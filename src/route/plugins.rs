//! Owns what a decision's plugins change in a request: the same for every model, and reasoning in the parameters of
//! each model's family.
//!
//! Refuses to know why a decision was made.

use super::plan::PlanTarget;
use crate::classify::{Classifier, ClassifyHeads};
use crate::openai::{Api, Change, ChatRequest, Rejection, SystemMode};
use crate::policy::{
    BasisPoints, Effort, Plugins, Policy, Reasoning, ReasoningKind, SystemPromptMode, ToolPick, ToolSpec,
    Tools,
};
use crate::signals::{Detectors, SignalEvaluation};
use bytes::Bytes;
use signalbox_kernels::dot;
use std::borrow::Cow;
use std::time::Instant;

/// How many of a client's tools are ranked at most; the rest are removed.
const MAX_RANKED: usize = 512;

/// What is asked about tools.
const EMBEDDING: ClassifyHeads = ClassifyHeads { embedding: true, ..ClassifyHeads::NONE };

/// What tools are chosen by.
pub(super) struct ToolContext<'a> {
    pub(super) detectors: &'a Detectors,
    pub(super) classifier: &'a Classifier,
    pub(super) known: &'a SignalEvaluation,
    pub(super) deadline: Instant,
}

/// Changes a request as the plugins say, whichever model gets it.
pub(super) async fn apply(
    plugins: &Plugins,
    api: Api,
    request: &ChatRequest,
    context: &ToolContext<'_>,
) -> Result<ChatRequest, Rejection> {
    let mut changes = Vec::new();
    if let Some(prompt) = &plugins.system_prompt {
        let mode = match prompt.mode {
            SystemPromptMode::Replace => SystemMode::Replace,
            SystemPromptMode::Insert => SystemMode::Insert,
        };
        changes.push(Change::SystemPrompt { text: prompt.text.clone(), mode });
    }
    changes.extend(plugins.params.max_tokens.map(|most| Change::CapTokens { most }));
    for name in ["n", "best_of"] {
        changes.extend(plugins.params.max_n.map(|most| Change::Cap { name: name.to_owned(), most }));
    }
    changes.extend(plugins.params.remove.iter().map(|name| Change::Remove { name: name.clone() }));
    if let Some(tools) = plugins.tools.as_ref().filter(|_| api.is_conversation()) {
        changes.extend(tool_changes(tools, request, context).await);
    }
    changes.iter().try_fold(request.clone(), |request, change| request.changed(api, change))
}

async fn tool_changes(tools: &Tools, request: &ChatRequest, context: &ToolContext<'_>) -> Vec<Change> {
    match tools {
        Tools::None => vec![Change::KeepTools(Vec::new())],
        Tools::Filter { allow, block } => {
            let is = |list: &[String], name: &str| list.iter().any(|known| known == name);
            let forced = request.chosen_tools();
            let stays = |name: &str| (allow.is_empty() || is(allow, name)) && !is(block, name);
            let stays = |name: &Cow<'_, str>| forced.contains(name) || stays(name);
            let kept = request.tools().enumerate().filter(|(_, tool)| stays(&tool.name));
            vec![Change::KeepTools(kept.map(|(at, _)| at).collect())]
        }
        Tools::Rank(pick) => rank(*pick, request, context).await.into_iter().collect(),
        Tools::Select(pick, specs) if request.has_free_tool_choice() => {
            let picked = picked(*pick, specs, context);
            if picked.is_empty() {
                return Vec::new();
            }
            vec![Change::KeepTools(Vec::new()), Change::AddTools(picked)]
        }
        Tools::Add(pick, specs) if request.has_free_tool_choice() => {
            let picked = picked(*pick, specs, context);
            (!picked.is_empty()).then_some(Change::AddTools(picked)).into_iter().collect()
        }
        Tools::Select(..) | Tools::Add(..) => Vec::new(),
    }
}

/// The tools of a file most similar to the prompt, as JSON, best first; none where the prompt has no embedding.
fn picked(pick: ToolPick, specs: &[ToolSpec], context: &ToolContext<'_>) -> Vec<Vec<u8>> {
    let Some(prompt) = context.known.embedding() else { return Vec::new() };
    let scored = specs.iter().filter_map(|spec| {
        let score = dot(prompt, context.detectors.tool_embedding(spec)?);
        Some((score, spec))
    });
    let best = best(pick, scored.collect());
    best.into_iter().map(|spec| spec.json.clone().into_bytes()).collect()
}

/// Keeps the client's tools most similar to the prompt, and those that it has chosen itself; all where it or one of them has
/// no embedding.
async fn rank(pick: ToolPick, request: &ChatRequest, context: &ToolContext<'_>) -> Option<Change> {
    let prompt = context.known.embedding()?;
    let descriptions: Vec<String> = request
        .tools()
        .take(MAX_RANKED)
        .map(|tool| format!("{} {}", tool.name.replace(['_', '-'], " "), tool.description))
        .collect();
    let found = context.classifier.classify_all(&descriptions, EMBEDDING, context.deadline).await;
    let mut scored = Vec::with_capacity(found.len());
    for (at, findings) in found.iter().enumerate() {
        let Some(Ok(meaning)) = &findings.embedding else { return None };
        scored.push((dot(prompt, meaning), at));
    }
    let mut kept = best(pick, scored.clone());
    let forced = request.chosen_tools();
    let tools = request.tools().enumerate();
    kept.extend(tools.filter(|(_, tool)| forced.contains(&tool.name)).map(|(at, _)| at));
    if kept.is_empty() && request.requires_tool() {
        kept = best(ToolPick { top_k: 1, min_score: BasisPoints(0) }, scored);
    }
    kept.sort_unstable();
    kept.dedup();
    Some(Change::KeepTools(kept))
}

fn best<T>(pick: ToolPick, mut scored: Vec<(f32, T)>) -> Vec<T> {
    scored.retain(|(score, _)| *score >= pick.min_score.fraction());
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.truncate(pick.top_k as usize);
    scored.into_iter().map(|(_, item)| item).collect()
}

/// The bytes that go to one target: with the name its upstream knows, told to reason as its family wants it.
pub(super) fn body_for(
    policy: &Policy,
    target: &PlanTarget,
    api: Api,
    request: &ChatRequest,
) -> Result<Bytes, Rejection> {
    let name = target.upstream_model(policy);
    let change = target.reasoning.and_then(|reasoning| reasoning_change(policy, target, api, reasoning));
    match change.map(|change| request.changed(api, &change)) {
        // A request that was parsed once can be parsed again; should it not, it goes on as the client wrote it.
        Some(Ok(changed)) => changed.upstream_bytes(name),
        Some(Err(_)) | None => request.upstream_bytes(name),
    }
}

fn reasoning_change(policy: &Policy, target: &PlanTarget, api: Api, reasoning: Reasoning) -> Option<Change> {
    let family = policy[target.model].reasoning.as_ref()?;
    // Only who answers in a conversation reasons.
    if !api.is_conversation() || !api.generates_text() {
        return None;
    }
    let effort = match reasoning {
        Reasoning::On(effort) => effort,
        Reasoning::Off => Effort::Low,
    };
    let effort = || format!("\"{}\"", effort.as_str());
    let path = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let (path, json) = match (family.kind, api) {
        (ReasoningKind::ChatTemplateKwargs, _) => {
            let on = if reasoning == Reasoning::Off { "false" } else { "true" };
            (path(&["chat_template_kwargs", &family.parameter]), on.to_owned())
        }
        // These have their efforts one level down.
        (ReasoningKind::ReasoningEffort, Api::Responses) => (path(&["reasoning", "effort"]), effort()),
        (ReasoningKind::ReasoningEffort, Api::Messages) => (path(&["output_config", "effort"]), effort()),
        (ReasoningKind::ReasoningEffort, _) => (path(&[&family.parameter]), effort()),
        (ReasoningKind::Thinking, _) => {
            let word = match reasoning {
                Reasoning::Off => "disabled",
                // Anthropic's `enabled` wants a budget.
                Reasoning::On(_) if api == Api::Messages => "adaptive",
                Reasoning::On(_) => "enabled",
            };
            (path(&[&family.parameter]), format!("{{\"type\":\"{word}\"}}"))
        }
    };
    Some(Change::Set { path, json: json.into_bytes() })
}
