//! Owns what a decision does to its requests and answers. Refuses to know decisions, and how it is done.

mod cache_use;
mod headers;
mod reasoning;
mod tools;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::context::PolicyContext;
use super::guards::{Guards, RawGuards};
use super::issue::YamlPath;
use cache_use::RawCacheUse;
pub use cache_use::{CacheScope, CacheUse};
pub use headers::HeaderChanges;
use headers::RawHeaders;
pub(super) use headers::{RESERVED_HEADERS, header_name};
pub use reasoning::{Effort, Reasoning, ReasoningFamily, ReasoningKind};
pub(super) use reasoning::{RawReasoning, RawReasoningFamilies, family};
use tools::RawTools;
pub use tools::{ToolPick, ToolSpec, Tools};

/// What is done to the requests of a decision and to their answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plugins {
    /// A system prompt of the operator's.
    pub system_prompt: Option<SystemPrompt>,
    /// Whether, and how hard, the model reasons; the client decides where there is none.
    pub reasoning: Option<Reasoning>,
    /// Changes to the headers that go upstream.
    pub headers: HeaderChanges,
    /// Limits to the request's parameters.
    pub params: ParamLimits,
    /// Which tools the model is offered.
    pub tools: Option<Tools>,
    /// A fixed answer instead of a model's.
    pub respond: Option<String>,
    /// Which answers are cached.
    pub cache: Option<CacheUse>,
    /// What requests and answers are checked for.
    pub guards: Guards,
    /// The priority of requests where a pool has too much to do.
    pub priority: Option<i32>,
}

/// What is done to the requests of a decision and to their answers.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Plugins", deny_unknown_fields)]
pub(super) struct RawPlugins {
    /// A system prompt of the operator's.
    #[schemars(with = "SystemPrompt")]
    system_prompt: Option<SystemPrompt>,
    /// Whether, and how hard, the model reasons; the client decides when absent.
    #[schemars(with = "RawReasoning")]
    reasoning: Option<RawReasoning>,
    /// Changes to the headers that go upstream.
    headers: RawHeaders,
    /// Limits to the request's parameters.
    params: ParamLimits,
    /// Which tools the model is offered.
    #[schemars(with = "RawTools")]
    tools: Option<RawTools>,
    /// A fixed answer instead of a model's.
    #[schemars(with = "RawRespond")]
    respond: Option<RawRespond>,
    /// Which answers are cached.
    #[schemars(with = "RawCacheUse")]
    cache: Option<RawCacheUse>,
    #[serde(flatten)]
    guards: RawGuards,
    /// What requests are for, one of `admission.objectives`: who goes first where a pool has too much to do.
    #[schemars(with = "String")]
    objective: Option<String>,
}

impl RawPlugins {
    /// Whether requests are answered here.
    pub(super) fn responds(&self) -> bool {
        self.respond.is_some()
    }

    /// Whether requests or answers are checked.
    pub(super) fn has_guards(&self) -> bool {
        self.guards.is_some()
    }

    pub(super) fn check(
        self,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> Plugins {
        self.params.check(&path.key("params"), checker);
        Plugins {
            system_prompt: self.system_prompt,
            reasoning: self.reasoning.map(|raw| raw.or_default(context.default_effort)),
            headers: self.headers.check(&path.key("headers"), checker),
            params: self.params,
            tools: self.tools.and_then(|raw| raw.check(&path.key("tools"), checker)),
            respond: self.respond.map(|respond| respond.text),
            cache: self.cache.map(|raw| raw.check(&path.key("cache"), context, checker)),
            guards: self.guards.check(path, context, checker),
            priority: self
                .objective
                .and_then(|name| context.priority(&name, &path.key("objective"), checker)),
        }
    }
}

/// A system prompt of the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemPrompt {
    /// The text.
    #[schemars(length(min = 1, max = 65_536))]
    pub text: String,
    /// What becomes of the client's own.
    #[serde(default)]
    pub mode: SystemPromptMode,
}

/// What becomes of the client's own system prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemPromptMode {
    /// It is dropped.
    #[default]
    Replace,
    /// It follows, after an empty line.
    Insert,
}

/// Limits to the request's parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Params")]
pub struct ParamLimits {
    /// The most tokens of an answer; set where the client wants more, or sets none.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_tokens: Option<u64>,
    /// The most answers to one request.
    #[schemars(range(min = 1, max = 1000))]
    pub max_n: Option<u64>,
    /// Fields at the top level that are left out.
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub remove: Vec<String>,
}

impl ParamLimits {
    fn check(&self, path: &YamlPath, checker: &mut Checker<'_>) {
        for (index, name) in self.remove.iter().enumerate() {
            if ["model", "messages", "prompt", "input", "stream"].contains(&name.as_str()) {
                checker.issue(&path.key("remove").index(index), format!("`{name}` cannot be left out"));
            }
        }
    }
}

/// A fixed answer instead of a model's.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Respond")]
struct RawRespond {
    /// The text.
    #[schemars(length(min = 1, max = 65_536))]
    text: String,
}
