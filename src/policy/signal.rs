//! Owns what the operator wants to be known about requests, checked and final. Refuses to know how it is found out.

use super::BasisPoints;

/// A place in [`Policy::signals`](super::Policy::signals).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalId(pub usize);

/// One signal: something that is known about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The name that traces, logs and metrics show.
    pub name: String,
    /// What it is.
    pub kind: SignalKind,
}

/// What a signal tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignalKind {
    /// The prompt is about one of these domains.
    Domain {
        /// The domains.
        any: Vec<String>,
        /// The least confidence.
        min_score: BasisPoints,
    },
    /// The text tries to turn a model against its instructions.
    Jailbreak {
        /// The least probability; the classifier's threshold where there is none.
        min_score: Option<BasisPoints>,
        /// Which texts are looked at.
        scope: Scope,
    },
    /// The text holds personal data.
    Pii {
        /// Which kinds count.
        kinds: PiiKinds,
        /// The least probability; the classifier's threshold where there is none.
        min_score: Option<BasisPoints>,
        /// Which texts are looked at.
        scope: Scope,
    },
    /// Words and phrases occur.
    Keyword(Keywords),
    /// The prompt is like examples.
    Similarity {
        /// The examples.
        to: Vec<String>,
        /// How several likenesses become one.
        aggregate: Aggregate,
        /// The least cosine.
        min_score: BasisPoints,
    },
    /// The prompt is hard, easy or neither.
    Complexity {
        /// Examples of hard prompts.
        hard: Vec<String>,
        /// Examples of easy ones.
        easy: Vec<String>,
        /// By how much one likeness must exceed the other.
        margin: BasisPoints,
        /// The level that matches.
        level: Level,
    },
    /// The prompt is in one of these languages, each by ISO 639-1, or 639-3 where that has none.
    Language {
        /// The languages.
        any: Vec<String>,
        /// The least confidence.
        min_score: BasisPoints,
    },
    /// The request has so many tokens.
    Context {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// Patterns occur in the prompt.
    Structure {
        /// What is measured.
        measure: Measure,
        /// At least, in thousandths.
        min_milli: u64,
        /// At most, in thousandths.
        max_milli: u64,
    },
    /// The list of messages has a feature.
    Conversation {
        /// What is counted.
        feature: Feature,
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// An answer should be checked against facts, or need not be.
    FactCheck {
        /// Which of the two.
        needed: bool,
        /// The least score.
        min_score: BasisPoints,
    },
    /// The user says something of the answer before.
    Feedback {
        /// The kinds of which it must be one.
        any: Vec<Feedback>,
        /// The least score.
        min_score: BasisPoints,
    },
    /// The user asks again.
    Reask {
        /// The least cosine.
        min_score: BasisPoints,
        /// How many earlier messages are looked at.
        lookback: u8,
    },
    /// A kind of answer is wanted.
    Modality {
        /// The kinds of which it must be one.
        any: Vec<Modality>,
        /// The least score.
        min_score: BasisPoints,
    },
    /// The body's `metadata` says something.
    Metadata {
        /// The key.
        key: String,
        /// What its value must be.
        test: MetadataTest,
    },
    /// Somebody known asks.
    Identity {
        /// The users; everyone when empty.
        users: Vec<String>,
        /// The groups; every one when empty.
        groups: Vec<String>,
        /// The tenants; every one when empty.
        tenants: Vec<String>,
    },
}

impl SignalKind {
    /// Returns the word for the kind, as policies spell it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Domain { .. } => "domain",
            Self::Jailbreak { .. } => "jailbreak",
            Self::Pii { .. } => "pii",
            Self::Keyword(_) => "keyword",
            Self::Similarity { .. } => "similarity",
            Self::Complexity { .. } => "complexity",
            Self::Language { .. } => "language",
            Self::Context { .. } => "context",
            Self::Structure { .. } => "structure",
            Self::Conversation { .. } => "conversation",
            Self::FactCheck { .. } => "fact_check",
            Self::Feedback { .. } => "feedback",
            Self::Reask { .. } => "reask",
            Self::Modality { .. } => "modality",
            Self::Metadata { .. } => "metadata",
            Self::Identity { .. } => "identity",
        }
    }
}

/// Which texts of a request are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The prompt.
    #[default]
    Prompt,
    /// Every message.
    Conversation,
}

/// Which kinds of personal data count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PiiKinds {
    /// These; all when empty.
    pub only: Vec<String>,
    /// But not these.
    pub except: Vec<String>,
}

impl PiiKinds {
    /// Says whether a kind counts.
    pub fn holds(&self, kind: &str) -> bool {
        let is = |other: &String| other == kind;
        (self.only.is_empty() || self.only.iter().any(is)) && !self.except.iter().any(is)
    }
}

/// Words and phrases and how they are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keywords {
    /// The words and phrases; never empty.
    pub words: Vec<String>,
    /// How many of them must occur.
    pub need: Need,
    /// Whether upper and lower case differ.
    pub case: Case,
    /// How many letters of a word may differ.
    pub max_edits: u8,
    /// Which texts are looked at.
    pub scope: Scope,
}

/// How many of several words must occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// One.
    Any,
    /// Each.
    All,
    /// None.
    None,
}

/// Whether upper and lower case differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They do.
    Sensitive,
    /// They do not.
    Ignored,
}

/// How several likenesses become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// The greatest counts.
    Max,
    /// Their mean counts.
    Mean,
    /// One that is enough is enough.
    Any,
}

/// How hard a prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// More like the hard examples.
    Hard,
    /// Neither.
    Medium,
    /// More like the easy ones.
    Easy,
}

/// What is measured of patterns in a text; each is a regular expression that compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// How often it matches.
    Count(String),
    /// How often it matches in 1,000 characters.
    Density(String),
    /// How often they match one after the other.
    Sequence(Vec<String>),
}

/// What is counted in a list of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
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

/// What a user says of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// It was good.
    Satisfied,
    /// It was not clear.
    NeedClarification,
    /// It was wrong.
    WrongAnswer,
    /// Something else is wanted.
    WantDifferent,
}

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modality {
    /// Words.
    Text,
    /// A picture.
    Image,
    /// Both.
    Both,
}

/// What a value of the body's `metadata` must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataTest {
    /// One of these.
    In(Vec<String>),
    /// Anything.
    Present,
    /// Not there.
    Absent,
}
