//! The kinds of heads, what they find in a text, and the reasons for no answer.
//!
//! Values alone; knows nothing of how they are computed.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::paraphrase::QuestionTokens;

/// A kind of head: one thing that can be computed for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClassifyHead {
    /// What the text is about.
    Domain,
    /// Whether it tries to turn a model against its instructions.
    Jailbreak,
    /// Which personal data it holds.
    Pii,
    /// Its meaning as a vector.
    Embedding,
    /// Which parts of an answer its context does not support.
    Hallucination,
    /// What a question is compared with others by.
    Paraphrase,
}

impl ClassifyHead {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::Domain, Self::Jailbreak, Self::Pii, Self::Embedding, Self::Hallucination, Self::Paraphrase];

    /// Returns the kind as one lowercase word, for policies, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Jailbreak => "jailbreak",
            Self::Pii => "pii",
            Self::Embedding => "embedding",
            Self::Hallucination => "hallucination",
            Self::Paraphrase => "paraphrase",
        }
    }
}

/// A set of heads; one forward computes all of them where one model has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a set, whose members are named where it is made")]
pub struct ClassifyHeads {
    /// What the text is about.
    pub domain: bool,
    /// Whether it tries to turn a model against its instructions.
    pub jailbreak: bool,
    /// Which personal data it holds.
    pub pii: bool,
    /// Its meaning as a vector.
    pub embedding: bool,
    /// Which parts of an answer its context does not support; for pairs alone.
    pub hallucination: bool,
    /// What a question is compared with others by.
    pub paraphrase: bool,
    /// No head: what validated patterns find of personal data and secrets, which `pii` has too. No model is asked.
    pub patterns: bool,
}

impl ClassifyHeads {
    /// Nothing.
    pub const NONE: Self = Self {
        domain: false,
        jailbreak: false,
        pii: false,
        embedding: false,
        hallucination: false,
        paraphrase: false,
        patterns: false,
    };
    /// The domain alone.
    pub const DOMAIN: Self = Self { domain: true, ..Self::NONE };
    /// Everything that can be computed for one text.
    pub const ALL: Self = Self { domain: true, jailbreak: true, pii: true, embedding: true, ..Self::NONE };
    /// What patterns find, without any model.
    pub const PATTERNS: Self = Self { patterns: true, ..Self::NONE };
    /// What a question is compared with others by.
    pub const PARAPHRASE: Self = Self { paraphrase: true, ..Self::NONE };
    /// What is computed for an answer and its context.
    pub const HALLUCINATION: Self = Self { hallucination: true, ..Self::NONE };

    /// Says whether a head is among these.
    pub fn has(self, head: ClassifyHead) -> bool {
        match head {
            ClassifyHead::Domain => self.domain,
            ClassifyHead::Jailbreak => self.jailbreak,
            ClassifyHead::Pii => self.pii,
            ClassifyHead::Embedding => self.embedding,
            ClassifyHead::Hallucination => self.hallucination,
            ClassifyHead::Paraphrase => self.paraphrase,
        }
    }

    /// Returns those that are in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.each(other, |a, b| a || b)
    }

    /// Returns those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.each(other, |a, b| a && b)
    }

    /// Returns those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        self.each(other, |a, b| a && !b)
    }

    /// Says whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Returns the heads, one by one.
    pub fn iter(self) -> impl Iterator<Item = ClassifyHead> {
        ClassifyHead::ALL.into_iter().filter(move |head| self.has(*head))
    }

    fn each(self, other: Self, join: impl Fn(bool, bool) -> bool) -> Self {
        Self {
            domain: join(self.domain, other.domain),
            jailbreak: join(self.jailbreak, other.jailbreak),
            pii: join(self.pii, other.pii),
            embedding: join(self.embedding, other.embedding),
            hallucination: join(self.hallucination, other.hallucination),
            paraphrase: join(self.paraphrase, other.paraphrase),
            patterns: join(self.patterns, other.patterns),
        }
    }
}

impl FromIterator<ClassifyHead> for ClassifyHeads {
    fn from_iter<I: IntoIterator<Item = ClassifyHead>>(heads: I) -> Self {
        heads.into_iter().fold(Self::NONE, |all, head| match head {
            ClassifyHead::Domain => Self { domain: true, ..all },
            ClassifyHead::Jailbreak => Self { jailbreak: true, ..all },
            ClassifyHead::Pii => Self { pii: true, ..all },
            ClassifyHead::Embedding => Self { embedding: true, ..all },
            ClassifyHead::Hallucination => Self { hallucination: true, ..all },
            ClassifyHead::Paraphrase => Self { paraphrase: true, ..all },
        })
    }
}

/// What was found in a text; `None` for heads that were not wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// What the text is about.
    pub domain: Option<Result<Label, Unknown>>,
    /// Whether it tries to turn a model against its instructions.
    pub jailbreak: Option<Result<Risk, Unknown>>,
    /// The personal data in it.
    pub pii: Option<PiiFindings>,
    /// Its meaning: a vector of unit length.
    pub embedding: Option<Result<Arc<[f32]>, Unknown>>,
    /// The parts of an answer that its context does not support, by their place.
    pub hallucination: Option<Result<Vec<UnsupportedSpan>, Unknown>>,
    /// What it is compared with other questions by.
    pub question: Option<Result<Arc<QuestionTokens>, Unknown>>,
    /// The models that judged its domain and attacks, as policies write them: one, or two where the language is unsure.
    pub judges: Arc<[Arc<str>]>,
    /// What it cost.
    pub cost: ClassifyCost,
}

impl Findings {
    /// Answers for every head alike: nothing is known.
    pub(super) fn unknown(heads: ClassifyHeads, reason: Unknown, cost: ClassifyCost) -> Self {
        Self {
            domain: heads.domain.then_some(Err(reason)),
            jailbreak: heads.jailbreak.then_some(Err(reason)),
            pii: (heads.pii || heads.patterns).then(|| PiiFindings::unknown(reason)),
            embedding: heads.embedding.then_some(Err(reason)),
            hallucination: heads.hallucination.then_some(Err(reason)),
            question: heads.paraphrase.then_some(Err(reason)),
            judges: Arc::default(),
            cost,
        }
    }

    /// Returns in one word whether every wanted head has an answer, and if not, the first reason.
    pub fn outcome(&self) -> &'static str {
        self.unknowns().next().map_or("ok", |(_, reason)| reason.as_str())
    }

    /// Returns the heads that have no answer, each with the reason.
    pub fn unknowns(&self) -> impl Iterator<Item = (ClassifyHead, Unknown)> {
        let found = [
            self.domain.as_ref().and_then(|found| found.as_ref().err()),
            self.jailbreak.as_ref().and_then(|found| found.as_ref().err()),
            self.pii.as_ref().and_then(|found| found.unknown.as_ref()),
            self.embedding.as_ref().and_then(|found| found.as_ref().err()),
            self.hallucination.as_ref().and_then(|found| found.as_ref().err()),
            self.question.as_ref().and_then(|found| found.as_ref().err()),
        ];
        let reasons = found.map(Option::<&Unknown>::copied);
        ClassifyHead::ALL.into_iter().zip(reasons).filter_map(|(head, reason)| Some((head, reason?)))
    }
}

/// What a text is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The most probable of the model's labels.
    pub name: Arc<str>,
    /// Its calibrated probability, from 0 to 1.
    pub confidence: f32,
    /// The probability of each label, in the order of [`Classifier::labels`](super::Classifier::labels).
    pub probabilities: Arc<[f32]>,
    /// The share of the text's tokens that this was judged from, from 0 to 1.
    pub coverage: f32,
    /// The time from the call to this answer.
    pub latency: Duration,
}

/// How likely a text tries to turn a model against its instructions.
#[derive(Debug, Clone, PartialEq)]
pub struct Risk {
    /// The calibrated probability for the worst part of the text, from 0 to 1.
    pub score: f32,
    /// From which score on a text counts as an attempt.
    pub threshold: f32,
    /// Which bytes of the text its worst part spans.
    pub at: Range<usize>,
}

impl Risk {
    /// Says whether the text counts as an attempt.
    pub fn is_jailbreak(&self) -> bool {
        self.score >= self.threshold
    }
}

/// The personal data in a text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PiiFindings {
    /// What was found, by its place; what validated patterns find is there whether or not the model answers.
    pub entities: Vec<Entity>,
    /// Why the model has no answer, where it has none.
    pub unknown: Option<Unknown>,
    /// The kinds that only the model finds, where it has no answer or was not asked; none where nothing was looked for at all.
    pub unsearched: Arc<[Arc<str>]>,
}

impl PiiFindings {
    /// Answers that nothing is known.
    pub fn unknown(reason: Unknown) -> Self {
        Self { unknown: Some(reason), ..Self::default() }
    }

    /// Answers with all that is there.
    pub fn known(entities: Vec<Entity>) -> Self {
        Self { entities, ..Self::default() }
    }

    /// Returns why the text may hold more of the kinds that count; none where they were all looked for, or where there is
    /// nothing in it.
    pub fn unknown_among(&self, counts: impl Fn(&str) -> bool) -> Option<Unknown> {
        let not_asked = || (!self.unsearched.is_empty()).then_some(Unknown::Unsupported);
        let reason = self.unknown.or_else(not_asked).filter(|reason| *reason != Unknown::Empty)?;
        (self.unsearched.is_empty() || self.unsearched.iter().any(|kind| counts(kind))).then_some(reason)
    }

    /// Returns all that is there, or why it is not all known.
    pub fn complete(self) -> Result<Vec<Entity>, Unknown> {
        self.unknown.map_or(Ok(self.entities), Err)
    }

    /// Returns all that is there of the kinds that count, or why these are not all known.
    pub fn complete_among(mut self, counts: impl Fn(&str) -> bool) -> Result<Vec<Entity>, Unknown> {
        let unknown = self.unknown_among(&counts);
        self.entities.retain(|entity| counts(&entity.kind));
        unknown.map_or(Ok(self.entities), Err)
    }
}

/// A piece of personal data in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// What it is, as in `EMAIL_ADDRESS`.
    pub kind: Arc<str>,
    /// Which bytes of the text it spans.
    pub bytes: Range<usize>,
    /// Which characters (Unicode scalar values) of the text it spans.
    pub chars: Range<usize>,
    /// Its probability, from 0 to 1.
    pub confidence: f32,
    /// What found it.
    pub by: EntitySource,
}

/// What found a piece of personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntitySource {
    /// The model.
    Model,
    /// A pattern whose match was validated.
    Pattern,
}

/// A part of an answer that its context does not support.
#[derive(Debug, Clone, PartialEq)]
pub struct UnsupportedSpan {
    /// Which bytes of the answer it spans.
    pub bytes: Range<usize>,
    /// The probability that its worst token is unsupported, from 0 to 1.
    pub confidence: f32,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassifyCost {
    /// The time spent waiting for a thread.
    pub queued: Duration,
    /// The time spent cutting the text into tokens.
    pub tokenize: Duration,
    /// The time of the forwards that computed its windows.
    pub compute: Duration,
    /// How many tokens were read.
    pub tokens: usize,
    /// How many windows were answered, cached ones included.
    pub windows: usize,
    /// How many of them had their answer from the cache.
    pub cached: usize,
    /// The most windows that shared a forward with one of its own.
    pub batch: usize,
}

/// Why a head has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The queue is full, or too long for an answer in time.
    Busy,
    /// The deadline has passed.
    Late,
    /// The computation failed.
    Failed,
    /// There is nothing but white space to classify.
    Empty,
    /// No loaded model has the head.
    Unsupported,
    /// There are more tokens than are read, and what was not read might matter.
    TooLong,
    /// Much of the text is in signs that the model's vocabulary lacks.
    Unreadable,
    /// The text is in a language that no model for this reads.
    UnsupportedLanguage,
}

impl Unknown {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Busy,
        Self::Late,
        Self::Failed,
        Self::Empty,
        Self::Unsupported,
        Self::TooLong,
        Self::Unreadable,
        Self::UnsupportedLanguage,
    ];

    /// Says whether the same text may have an answer later.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Busy | Self::Late | Self::Failed)
    }

    /// Returns the reason as one lowercase word, for logs, headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Empty => "empty",
            Self::Unsupported => "unsupported",
            Self::TooLong => "too_long",
            Self::Unreadable => "unreadable",
            Self::UnsupportedLanguage => "unsupported_language",
        }
    }
}
