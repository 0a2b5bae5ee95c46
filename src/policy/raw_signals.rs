//! Owns the shape of the policy's `signals`, one type a kind and one field a key. Refuses to know what the values mean
//! together: `check_signals` does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One signal: something that is known about a request, of exactly one kind.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Signal")]
pub(super) struct RawSignal {
    /// What the prompt is about.
    #[schemars(with = "RawDomainSignal")]
    pub(super) domain: Option<RawDomainSignal>,
    /// Whether the text tries to turn a model against its instructions.
    #[schemars(with = "RawJailbreakSignal")]
    pub(super) jailbreak: Option<RawJailbreakSignal>,
    /// Which personal data the text holds.
    #[schemars(with = "RawPiiSignal")]
    pub(super) pii: Option<RawPiiSignal>,
    /// Words and phrases.
    #[schemars(with = "RawKeywordSignal")]
    pub(super) keyword: Option<RawKeywordSignal>,
    /// Likeness to example phrases.
    #[schemars(with = "RawSimilaritySignal")]
    pub(super) similarity: Option<RawSimilaritySignal>,
    /// Whether the prompt is more like hard examples or more like easy ones.
    #[schemars(with = "RawComplexitySignal")]
    pub(super) complexity: Option<RawComplexitySignal>,
    /// The language of the prompt.
    #[schemars(with = "RawLanguageSignal")]
    pub(super) language: Option<RawLanguageSignal>,
    /// How many tokens the request has.
    #[schemars(with = "RawContextSignal")]
    pub(super) context: Option<RawContextSignal>,
    /// How often, how densely or in which order patterns occur in the prompt.
    #[schemars(with = "RawStructureSignal")]
    pub(super) structure: Option<RawStructureSignal>,
    /// What the list of messages is made of.
    #[schemars(with = "RawConversationSignal")]
    pub(super) conversation: Option<RawConversationSignal>,
    /// Whether an answer should be checked against facts.
    #[schemars(with = "RawFactCheckSignal")]
    pub(super) fact_check: Option<RawFactCheckSignal>,
    /// What the user says of the answer before; without one it never matches.
    #[schemars(with = "RawFeedbackSignal")]
    pub(super) feedback: Option<RawFeedbackSignal>,
    /// Whether the user asks again what they asked before.
    #[schemars(with = "RawReaskSignal")]
    pub(super) reask: Option<RawReaskSignal>,
    /// What kind of answer is wanted.
    #[schemars(with = "RawModalitySignal")]
    pub(super) modality: Option<RawModalitySignal>,
    /// What the body's `metadata` says.
    #[schemars(with = "RawMetadataSignal")]
    pub(super) metadata: Option<RawMetadataSignal>,
    /// Who asks, as `identity` has verified it.
    #[schemars(with = "RawIdentitySignal")]
    pub(super) identity: Option<RawIdentitySignal>,
}

/// Which texts of a request are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Scope")]
pub(super) enum RawScope {
    /// The prompt: the last user message.
    #[default]
    Prompt,
    /// Every message, tool results included.
    Conversation,
}

/// What the prompt is about.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DomainSignal")]
pub(super) struct RawDomainSignal {
    /// The domains of which one must be the prompt's.
    #[schemars(length(min = 1, max = 1000))]
    pub(super) any: Vec<String>,
    /// The least confidence; the classifier's `min_confidence` when absent.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: Option<f64>,
}

/// An attack on the model.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "JailbreakSignal")]
pub(super) struct RawJailbreakSignal {
    /// The least probability; the classifier's threshold when absent.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: Option<f64>,
    /// Which texts are looked at.
    pub(super) scope: RawScope,
}

/// Personal data.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "PiiSignal")]
pub(super) struct RawPiiSignal {
    /// The kinds that count, such as `EMAIL_ADDRESS`; all when empty.
    #[schemars(length(max = 100))]
    pub(super) only: Vec<String>,
    /// The kinds that do not count.
    #[schemars(length(max = 100))]
    pub(super) except: Vec<String>,
    /// The least probability; the classifier's threshold when absent.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: Option<f64>,
    /// Which texts are looked at.
    pub(super) scope: RawScope,
}

/// Words and phrases; exactly one of `any`, `all` and `none`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "KeywordSignal")]
pub(super) struct RawKeywordSignal {
    /// One of these must occur.
    #[schemars(length(max = 10_000), inner(length(min = 1, max = 256)))]
    pub(super) any: Vec<String>,
    /// Each of these must occur.
    #[schemars(length(max = 10_000), inner(length(min = 1, max = 256)))]
    pub(super) all: Vec<String>,
    /// None of these may occur.
    #[schemars(length(max = 10_000), inner(length(min = 1, max = 256)))]
    pub(super) none: Vec<String>,
    /// Whether upper and lower case differ.
    pub(super) case_sensitive: bool,
    /// How many letters a word of the text may differ in, by insertion, removal or exchange.
    #[schemars(range(max = 3))]
    pub(super) max_edits: u8,
    /// Which texts are looked at.
    pub(super) scope: RawScope,
}

/// Likeness to example phrases.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SimilaritySignal")]
pub(super) struct RawSimilaritySignal {
    /// The examples; their embeddings are computed once.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 4096)))]
    pub(super) to: Vec<String>,
    /// How the likenesses to several examples become one.
    #[serde(default)]
    pub(super) aggregate: RawAggregate,
    /// The least cosine, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: f64,
}

/// How several likenesses become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Aggregate")]
pub(super) enum RawAggregate {
    /// The greatest counts.
    #[default]
    Max,
    /// Their mean counts.
    Mean,
    /// One that reaches `min_score` is enough.
    Any,
}

/// How hard a prompt is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ComplexitySignal")]
pub(super) struct RawComplexitySignal {
    /// Examples of hard prompts.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 4096)))]
    pub(super) hard: Vec<String>,
    /// Examples of easy prompts.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 4096)))]
    pub(super) easy: Vec<String>,
    /// By how much the likeness to one side must exceed the other's.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) margin: f64,
    /// The level that matches.
    #[serde(default)]
    pub(super) level: RawLevel,
}

fn tenth() -> f64 {
    0.1
}

/// How hard a prompt is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Level")]
pub(super) enum RawLevel {
    /// More like the hard examples, by the margin.
    #[default]
    Hard,
    /// Neither.
    Medium,
    /// More like the easy examples, by the margin.
    Easy,
}

/// The language of the prompt.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LanguageSignal")]
pub(super) struct RawLanguageSignal {
    /// The languages of which one must be the prompt's, by ISO 639-1 such as `en`, or 639-3 where that has none.
    #[schemars(length(min = 1, max = 100), inner(length(min = 2, max = 3)))]
    pub(super) any: Vec<String>,
    /// The least confidence.
    #[serde(default = "three_tenths")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: f64,
}

fn three_tenths() -> f64 {
    0.3
}

/// How many tokens the texts of the request have, by the classifier's tokenizer.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ContextSignal")]
pub(super) struct RawContextSignal {
    /// At least so many.
    pub(super) min_tokens: Option<u64>,
    /// At most so many.
    pub(super) max_tokens: Option<u64>,
}

/// Patterns in the prompt; exactly one of `count`, `density` and `sequence`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "StructureSignal")]
pub(super) struct RawStructureSignal {
    /// A regular expression whose matches are counted.
    #[schemars(length(min = 1, max = 4096))]
    pub(super) count: Option<String>,
    /// A regular expression whose matches in 1,000 characters are counted.
    #[schemars(length(min = 1, max = 4096))]
    pub(super) density: Option<String>,
    /// Regular expressions that must match one after the other.
    #[schemars(length(max = 32), inner(length(min = 1, max = 4096)))]
    pub(super) sequence: Vec<String>,
    /// At least so many; 1 when neither bound stands.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub(super) min: Option<f64>,
    /// At most so many.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub(super) max: Option<f64>,
}

/// A feature of the list of messages and its bounds.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ConversationSignal")]
pub(super) struct RawConversationSignal {
    /// What is counted.
    pub(super) feature: RawFeature,
    /// At least so many; 1 when neither bound stands.
    #[serde(default)]
    pub(super) min: Option<u64>,
    /// At most so many.
    #[serde(default)]
    pub(super) max: Option<u64>,
}

/// What is counted in a list of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Feature")]
pub(super) enum RawFeature {
    /// Messages of any role.
    Messages,
    /// The user's messages.
    UserMessages,
    /// The model's messages.
    AssistantMessages,
    /// System and developer messages.
    SystemMessages,
    /// Results of tools.
    ToolMessages,
    /// Calls of tools.
    ToolCalls,
    /// Tools that the client offers.
    Tools,
    /// Images.
    Images,
    /// Times that the user had the word.
    Turns,
}

/// Whether an answer should be checked against facts.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "FactCheckSignal")]
pub(super) struct RawFactCheckSignal {
    /// Whether the signal is that it should, or that it need not.
    pub(super) needed: bool,
    /// The least score.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: f64,
}

impl Default for RawFactCheckSignal {
    fn default() -> Self {
        Self { needed: true, min_score: 0.5 }
    }
}

/// What the user says of the answer before.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FeedbackSignal")]
pub(super) struct RawFeedbackSignal {
    /// The kinds of which one must be the prompt's.
    #[schemars(length(min = 1, max = 4))]
    pub(super) any: Vec<RawFeedback>,
    /// The least score.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: f64,
}

fn half() -> f64 {
    0.5
}

/// What a user says of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Feedback")]
pub(super) enum RawFeedback {
    /// It was good.
    Satisfied,
    /// It was not clear.
    NeedClarification,
    /// It was wrong.
    WrongAnswer,
    /// Something else is wanted.
    WantDifferent,
}

/// The user asks again.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ReaskSignal")]
pub(super) struct RawReaskSignal {
    /// The least cosine between the prompt and an earlier message of the user.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: f64,
    /// How many earlier messages of the user are looked at.
    #[schemars(range(min = 1, max = 16))]
    pub(super) lookback: u8,
}

impl Default for RawReaskSignal {
    fn default() -> Self {
        Self { min_score: 0.8, lookback: 3 }
    }
}

/// What kind of answer is wanted.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ModalitySignal")]
pub(super) struct RawModalitySignal {
    /// The kinds of which one must be wanted.
    #[schemars(length(min = 1, max = 3))]
    pub(super) any: Vec<RawModality>,
    /// The least score.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_score: f64,
}

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Modality")]
pub(super) enum RawModality {
    /// Words.
    Text,
    /// A picture.
    Image,
    /// Both.
    Both,
}

/// What the body's `metadata` says; exactly one of `in` and `exists`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MetadataSignal")]
pub(super) struct RawMetadataSignal {
    /// The key.
    #[schemars(length(min = 1, max = 128))]
    pub(super) key: String,
    /// The values of which one must be there.
    #[serde(default, rename = "in")]
    #[schemars(length(max = 1000))]
    pub(super) one_of: Vec<String>,
    /// Whether there must be a value, or must be none.
    #[serde(default)]
    pub(super) exists: Option<bool>,
}

/// Who asks; of each list that is not empty one entry must fit.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "IdentitySignal")]
pub(super) struct RawIdentitySignal {
    /// The users.
    #[schemars(length(max = 10_000))]
    pub(super) users: Vec<String>,
    /// The groups.
    #[schemars(length(max = 10_000))]
    pub(super) groups: Vec<String>,
    /// The tenants.
    #[schemars(length(max = 10_000))]
    pub(super) tenants: Vec<String>,
}
