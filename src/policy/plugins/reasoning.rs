//! Owns whether, and how hard, models reason, and how families of models are instructed to. Refuses to know requests.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;

/// Whether, and how hard, a model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reasoning {
    /// It does not.
    Off,
    /// It does, so hard.
    On(Effort),
}

/// How hard a model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// A little.
    Low,
    /// Somewhat.
    Medium,
    /// A lot.
    High,
}

impl Effort {
    /// Returns the name, as OpenAI's API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How a family of models is instructed to reason or not to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasoningFamily {
    /// The name that metrics show.
    pub name: String,
    /// Where the instruction goes.
    pub kind: ReasoningKind,
    /// The name of the parameter.
    pub parameter: String,
}

/// Where a model is instructed to reason or not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningKind {
    /// `true` or `false` in `chat_template_kwargs`.
    ChatTemplateKwargs,
    /// `low`, `medium` or `high` at the top level; what is off is `low`, as not every such model can do without.
    ReasoningEffort,
    /// `{"type": "enabled"}` or `{"type": "disabled"}` at the top level.
    Thinking,
}

impl ReasoningKind {
    /// The name of the parameter that most such models take.
    fn parameter(self) -> &'static str {
        match self {
            Self::ChatTemplateKwargs => "enable_thinking",
            Self::ReasoningEffort => "reasoning_effort",
            Self::Thinking => "thinking",
        }
    }
}

/// Whether, and how hard, a model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Reasoning")]
pub(crate) enum RawReasoning {
    /// It does, with the policy's `default_effort` where the model knows efforts.
    On,
    /// It does not, and is instructed not to.
    Off,
    /// A little.
    Low,
    /// Somewhat.
    Medium,
    /// A lot.
    High,
}

impl RawReasoning {
    /// Completes what `on` alone leaves open.
    pub(crate) fn or_default(self, effort: Effort) -> Reasoning {
        match self {
            Self::Off => Reasoning::Off,
            Self::On => Reasoning::On(effort),
            Self::Low => Reasoning::On(Effort::Low),
            Self::Medium => Reasoning::On(Effort::Medium),
            Self::High => Reasoning::On(Effort::High),
        }
    }
}

/// How a family of models is instructed to reason or not to.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReasoningFamily")]
pub(crate) struct RawReasoningFamily {
    /// Where the instruction goes.
    kind: ReasoningKind,
    /// The name of the parameter; that of the kind when absent.
    #[serde(default)]
    parameter: Option<String>,
}

/// The families, by name.
pub(crate) type RawReasoningFamilies = IndexMap<String, RawReasoningFamily>;

/// The families that every policy knows.
const FAMILIES: [(&str, ReasoningKind, &str); 4] = [
    ("qwen3", ReasoningKind::ChatTemplateKwargs, "enable_thinking"),
    ("deepseek", ReasoningKind::ChatTemplateKwargs, "thinking"),
    ("gpt-oss", ReasoningKind::ReasoningEffort, "reasoning_effort"),
    ("gpt", ReasoningKind::ReasoningEffort, "reasoning_effort"),
];

/// Finds a family of models by its name: the operator's own, or one that every policy knows.
pub(crate) fn family(
    name: &str,
    own: &RawReasoningFamilies,
    path: &YamlPath,
    checker: &mut Checker<'_>,
) -> Option<ReasoningFamily> {
    if let Some(raw) = own.get(name) {
        let parameter = raw.parameter.clone().unwrap_or_else(|| raw.kind.parameter().to_owned());
        return Some(ReasoningFamily { name: name.to_owned(), kind: raw.kind, parameter });
    }
    let known = FAMILIES.iter().find(|(known, _, _)| *known == name);
    if known.is_none() {
        let names = own.keys().map(String::as_str).chain(FAMILIES.iter().map(|(name, _, _)| *name));
        checker.unknown(path, "reasoning family", name, names);
    }
    let (_, kind, parameter) = known?;
    Some(ReasoningFamily { name: name.to_owned(), kind: *kind, parameter: (*parameter).to_owned() })
}
