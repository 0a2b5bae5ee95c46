//! Owns the shape of what decisions do to requests and answers: plugins and guards. Refuses to know what the values
//! mean together: `check_plugins` does.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::RawDuration;
use super::raw_signals::RawScope;

/// What is done to the requests of a decision and to their answers.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Plugins")]
pub(super) struct RawPlugins {
    /// A system prompt of the operator's.
    #[schemars(with = "RawSystemPrompt")]
    pub(super) system_prompt: Option<RawSystemPrompt>,
    /// Whether, and how hard, the model reasons; as the client says when absent.
    #[schemars(with = "RawReasoning")]
    pub(super) reasoning: Option<RawReasoning>,
    /// Changes to the headers that go upstream.
    pub(super) headers: RawHeaders,
    /// Limits to the request's parameters.
    pub(super) params: RawParams,
    /// Which tools the model is offered.
    #[schemars(with = "RawTools")]
    pub(super) tools: Option<RawTools>,
    /// A fixed answer instead of a model's.
    #[schemars(with = "RawRespond")]
    pub(super) respond: Option<RawRespond>,
    /// Answers that are given again.
    #[schemars(with = "RawCacheUse")]
    pub(super) cache: Option<RawCacheUse>,
    /// What happens to prompts that attack the model.
    #[schemars(with = "RawPromptGuard")]
    pub(super) prompt: Option<RawPromptGuard>,
    /// What happens to personal data in requests.
    #[schemars(with = "RawPiiGuard")]
    pub(super) pii: Option<RawPiiGuard>,
    /// What happens to answers, as they come.
    #[schemars(with = "RawAnswerGuard")]
    pub(super) answer: Option<RawAnswerGuard>,
}

/// What is held against every request, or every request for a model.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Guards")]
pub(super) struct RawGuards {
    /// What happens to prompts that attack the model.
    #[schemars(with = "RawPromptGuard")]
    pub(super) prompt: Option<RawPromptGuard>,
    /// What happens to personal data in requests.
    #[schemars(with = "RawPiiGuard")]
    pub(super) pii: Option<RawPiiGuard>,
    /// What happens to answers, as they come.
    #[schemars(with = "RawAnswerGuard")]
    pub(super) answer: Option<RawAnswerGuard>,
}

/// A system prompt of the operator's.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SystemPrompt")]
pub(super) struct RawSystemPrompt {
    /// The text.
    #[schemars(length(min = 1, max = 65_536))]
    pub(super) text: String,
    /// What becomes of the client's own.
    #[serde(default)]
    pub(super) mode: RawSystemPromptMode,
}

/// What becomes of the client's own system prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "SystemPromptMode")]
pub(super) enum RawSystemPromptMode {
    /// It is dropped.
    #[default]
    Replace,
    /// It follows, after an empty line.
    Insert,
}

/// Whether, and how hard, a model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Reasoning")]
pub(super) enum RawReasoning {
    /// It does, with the policy's `default_effort` where the model knows efforts.
    On,
    /// It does not; said in so many words.
    Off,
    /// A little.
    Low,
    /// Somewhat.
    Medium,
    /// A lot.
    High,
}

/// Changes to the headers that go upstream.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Headers")]
pub(super) struct RawHeaders {
    /// Headers that get this value, whatever they had.
    #[schemars(extend("maxProperties" = 64))]
    pub(super) set: IndexMap<String, String>,
    /// Headers that get this value beside what they have.
    #[schemars(extend("maxProperties" = 64))]
    pub(super) add: IndexMap<String, String>,
    /// Headers that are left out.
    #[schemars(length(max = 64))]
    pub(super) remove: Vec<String>,
}

/// Limits to the request's parameters.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Params")]
pub(super) struct RawParams {
    /// The most tokens of an answer; asked for where the client asks for more, or names no number.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub(super) max_tokens: Option<u64>,
    /// The most answers to one request.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) max_n: Option<u64>,
    /// Fields at the top level that are left out.
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub(super) remove: Vec<String>,
}

/// Which tools the model is offered.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tools")]
pub(super) struct RawTools {
    /// What becomes of the client's tools.
    pub(super) mode: RawToolsMode,
    /// For `filter`: the names that stay; all but `block` when empty.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub(super) allow: Vec<String>,
    /// For `filter`: the names that go.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub(super) block: Vec<String>,
    /// For `select` and `add`: a JSON file with a list of tools.
    #[serde(default)]
    pub(super) file: Option<String>,
    /// The most tools that are picked by likeness to the prompt.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 128))]
    pub(super) top_k: u32,
    /// The least likeness of a tool's description to the prompt, from 0 to 1.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: f64,
}

fn three() -> u32 {
    3
}

fn fifth() -> f64 {
    0.2
}

/// What becomes of the client's tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ToolsMode")]
pub(super) enum RawToolsMode {
    /// They stay.
    Keep,
    /// They go.
    None,
    /// Those that `allow` and `block` leave stay.
    Filter,
    /// Those of `file` that fit the prompt take their place, where the client lets the model choose.
    Select,
    /// Those of `file` that fit the prompt join them.
    Add,
    /// Of the client's own, those that fit the prompt stay.
    Rank,
}

/// A fixed answer instead of a model's.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Respond")]
pub(super) struct RawRespond {
    /// The text.
    #[schemars(length(min = 1, max = 65_536))]
    pub(super) text: String,
}

/// Answers that are given again.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CacheUse")]
pub(super) struct RawCacheUse {
    /// Which requests count as the same.
    #[serde(rename = "match")]
    pub(super) by: RawCacheMatch,
    /// The least cosine of two prompts that count as the same.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: f64,
    /// How long an answer is kept.
    pub(super) ttl: RawDuration,
    /// Who may be given whose answer.
    pub(super) scope: RawCacheScope,
}

impl Default for RawCacheUse {
    fn default() -> Self {
        Self {
            by: RawCacheMatch::Exact,
            min_score: 0.92,
            ttl: RawDuration(Duration::from_secs(3600)),
            scope: RawCacheScope::Tenant,
        }
    }
}

/// Which requests count as the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CacheMatch")]
pub(super) enum RawCacheMatch {
    /// Those that say the same, word for word.
    Exact,
    /// Those whose last message means the same, all else being equal.
    Semantic,
}

/// Who may be given whose answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CacheScope")]
pub(super) enum RawCacheScope {
    /// Only the same user; a request without an identity has nothing kept.
    User,
    /// Everyone of the same tenant; those without one are together.
    Tenant,
    /// Everyone.
    All,
}

/// What happens to prompts that attack the model.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PromptGuard")]
pub(super) struct RawPromptGuard {
    /// What is done.
    pub(super) action: RawPromptAction,
    /// For `route`: the model that gets them.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// The least probability; the classifier's threshold when absent.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: Option<f64>,
    /// Which texts are looked at.
    #[serde(default)]
    pub(super) scope: RawScope,
    /// What happens when there is no answer.
    #[serde(default)]
    pub(super) on_unknown: RawGuardOnUnknown,
}

/// What is done with a prompt that attacks the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PromptAction")]
pub(super) enum RawPromptAction {
    /// It is refused.
    Block,
    /// It goes to another model.
    Route,
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

/// What happens when a guard has no answer: its texts could not be judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "GuardOnUnknown")]
pub(super) enum RawGuardOnUnknown {
    /// The request goes on, which is counted and logged.
    #[default]
    Allow,
    /// The request is refused with 503.
    Reject,
}

/// What happens to personal data in requests.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PiiGuard")]
pub(super) struct RawPiiGuard {
    /// What is done.
    pub(super) action: RawPiiAction,
    /// The kinds that may stay, such as `PERSON`.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub(super) allow: Vec<String>,
    /// The least probability; the classifier's threshold when absent.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: Option<f64>,
    /// Which texts are looked at.
    #[serde(default)]
    pub(super) scope: RawScope,
    /// For `mask`: whether the answer gets the masked texts back.
    #[serde(default)]
    pub(super) unmask: bool,
    /// What happens when there is no answer.
    #[serde(default)]
    pub(super) on_unknown: RawGuardOnUnknown,
}

/// What is done with personal data in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PiiAction")]
pub(super) enum RawPiiAction {
    /// The request is refused.
    Block,
    /// Each piece is replaced by its kind, such as `[PERSON_1]`, in what goes upstream.
    Mask,
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

/// What happens to answers, as they come.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "AnswerGuard")]
pub(super) struct RawAnswerGuard {
    /// What is done with personal data.
    pub(super) pii: RawAnswerAction,
    /// The kinds of personal data that may stay.
    #[schemars(length(max = 100))]
    pub(super) allow: Vec<String>,
    /// What is done with text that reads like an attack; only `cut` and `off`.
    pub(super) jailbreak: RawAnswerAction,
    /// Words and phrases that must not be said.
    #[schemars(length(max = 10_000), inner(length(min = 1, max = 256)))]
    pub(super) words: Vec<String>,
    /// What is done where one of `words` is said.
    #[schemars(with = "RawAnswerAction")]
    pub(super) on_words: Option<RawAnswerAction>,
    /// What happens to text that could not be judged: it passes, or the answer ends before it.
    pub(super) on_unknown: RawGuardOnUnknown,
    /// What is told of what nothing bears out that the model was told.
    pub(super) hallucination: RawHallucinationGuard,
}

/// What is told of an answer that is not borne out by what its model was told: results of tools, documents.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "HallucinationGuard")]
pub(super) struct RawHallucinationGuard {
    /// What is done; needs a detector, `classifier.models.hallucination`.
    pub(super) action: RawHallucinationAction,
    /// For `header`: whether it also tells which parts of the answer.
    pub(super) spans: bool,
    /// Whether headers tell where a `fact_check` signal wants facts and there is nothing to check the answer against.
    pub(super) unverified: bool,
    /// How long a whole answer may be judged.
    pub(super) deadline: RawDuration,
}

impl Default for RawHallucinationGuard {
    fn default() -> Self {
        Self {
            action: RawHallucinationAction::Off,
            spans: false,
            unverified: false,
            deadline: RawDuration(Duration::from_secs(5)),
        }
    }
}

/// What is done with an answer that nothing bears out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "HallucinationAction")]
pub(super) enum RawHallucinationAction {
    /// No answer is looked at.
    Off,
    /// It is counted and logged, once it has gone out.
    Log,
    /// The client is told in headers too, for which whole answers are held back until they are judged; streams are not
    /// held back, and only counted and logged.
    Header,
}

/// What is done with a part of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AnswerAction")]
pub(super) enum RawAnswerAction {
    /// Nothing.
    #[default]
    Off,
    /// It is masked.
    Mask,
    /// The answer ends before it, with the reason `content_filter`.
    Cut,
}
