//! What can be asked of a text and what is found: questions, answers, and the reasons for no answer.
//!
//! Values alone; refuses to know how an answer comes about.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// One thing that can be asked of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// What the text is about.
    Domain,
    /// Whether it tries to turn a model against its instructions.
    Jailbreak,
    /// Which personal data it holds.
    Pii,
    /// Its meaning as a vector.
    Embedding,
    /// Which parts of an answer nothing bears out that its model was told.
    Hallucination,
}

impl Question {
    /// Every question, in the order of their declaration.
    pub const ALL: [Self; 5] =
        [Self::Domain, Self::Jailbreak, Self::Pii, Self::Embedding, Self::Hallucination];

    /// Returns the question as one lowercase word, for policies, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Jailbreak => "jailbreak",
            Self::Pii => "pii",
            Self::Embedding => "embedding",
            Self::Hallucination => "hallucination",
        }
    }
}

/// What is asked of a text; all of it is answered by one pass where one model can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a set, whose members are named where it is made")]
pub struct Questions {
    /// What the text is about.
    pub domain: bool,
    /// Whether it tries to turn a model against its instructions.
    pub jailbreak: bool,
    /// Which personal data it holds.
    pub pii: bool,
    /// Its meaning as a vector.
    pub embedding: bool,
    /// Which parts of an answer nothing bears out; asked of claims alone.
    pub hallucination: bool,
}

impl Questions {
    /// Nothing.
    pub const NONE: Self =
        Self { domain: false, jailbreak: false, pii: false, embedding: false, hallucination: false };
    /// The domain alone.
    pub const DOMAIN: Self = Self { domain: true, ..Self::NONE };
    /// Everything that can be asked of one text.
    pub const ALL: Self = Self { domain: true, jailbreak: true, pii: true, embedding: true, ..Self::NONE };
    /// What is asked of a claim.
    pub const HALLUCINATION: Self = Self { hallucination: true, ..Self::NONE };

    /// Says whether a question is among these.
    pub fn has(self, question: Question) -> bool {
        match question {
            Question::Domain => self.domain,
            Question::Jailbreak => self.jailbreak,
            Question::Pii => self.pii,
            Question::Embedding => self.embedding,
            Question::Hallucination => self.hallucination,
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

    /// Says whether nothing is asked.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Returns the questions, one by one.
    pub fn iter(self) -> impl Iterator<Item = Question> {
        Question::ALL.into_iter().filter(move |question| self.has(*question))
    }

    fn each(self, other: Self, join: impl Fn(bool, bool) -> bool) -> Self {
        Self {
            domain: join(self.domain, other.domain),
            jailbreak: join(self.jailbreak, other.jailbreak),
            pii: join(self.pii, other.pii),
            embedding: join(self.embedding, other.embedding),
            hallucination: join(self.hallucination, other.hallucination),
        }
    }
}

impl FromIterator<Question> for Questions {
    fn from_iter<I: IntoIterator<Item = Question>>(questions: I) -> Self {
        questions.into_iter().fold(Self::NONE, |all, question| match question {
            Question::Domain => Self { domain: true, ..all },
            Question::Jailbreak => Self { jailbreak: true, ..all },
            Question::Pii => Self { pii: true, ..all },
            Question::Embedding => Self { embedding: true, ..all },
            Question::Hallucination => Self { hallucination: true, ..all },
        })
    }
}

/// What was found in a text; what was not asked is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// What the text is about.
    pub domain: Option<Result<Label, Unknown>>,
    /// Whether it tries to turn a model against its instructions.
    pub jailbreak: Option<Result<Risk, Unknown>>,
    /// The personal data in it, by their place.
    pub pii: Option<Result<Vec<Entity>, Unknown>>,
    /// Its meaning: a vector of unit length.
    pub embedding: Option<Result<Arc<[f32]>, Unknown>>,
    /// The parts of an answer that nothing bears out, by their place.
    pub hallucination: Option<Result<Vec<Doubt>, Unknown>>,
    /// What it cost.
    pub cost: Cost,
}

impl Findings {
    /// Answers every question alike: nothing is known.
    pub(super) fn unknown(questions: Questions, reason: Unknown, cost: Cost) -> Self {
        Self {
            domain: questions.domain.then_some(Err(reason)),
            jailbreak: questions.jailbreak.then_some(Err(reason)),
            pii: questions.pii.then_some(Err(reason)),
            embedding: questions.embedding.then_some(Err(reason)),
            hallucination: questions.hallucination.then_some(Err(reason)),
            cost,
        }
    }

    /// Returns in one word whether everything that was asked has an answer, and if not, the first reason.
    pub fn outcome(&self) -> &'static str {
        self.unknowns().next().map_or("ok", |(_, reason)| reason.as_str())
    }

    /// Returns the questions that have no answer, each with the reason.
    pub fn unknowns(&self) -> impl Iterator<Item = (Question, Unknown)> {
        let found = [
            self.domain.as_ref().and_then(|found| found.as_ref().err()),
            self.jailbreak.as_ref().and_then(|found| found.as_ref().err()),
            self.pii.as_ref().and_then(|found| found.as_ref().err()),
            self.embedding.as_ref().and_then(|found| found.as_ref().err()),
            self.hallucination.as_ref().and_then(|found| found.as_ref().err()),
        ];
        let reasons = found.map(Option::<&Unknown>::copied);
        Question::ALL.into_iter().zip(reasons).filter_map(|(question, reason)| Some((question, reason?)))
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
    /// The time from the question to this answer.
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

/// A part of an answer that nothing bears out.
#[derive(Debug, Clone, PartialEq)]
pub struct Doubt {
    /// Which bytes of the answer it spans.
    pub bytes: Range<usize>,
    /// The probability that its worst token is made up, from 0 to 1.
    pub confidence: f32,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// The time spent waiting for a thread.
    pub queued: Duration,
    /// The time spent cutting the text into tokens.
    pub tokenize: Duration,
    /// The time of the forwards that its windows had part in.
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

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The queue is full.
    Busy,
    /// The deadline has passed.
    Late,
    /// The computation failed.
    Failed,
    /// There is nothing but white space to classify.
    Empty,
    /// No loaded model answers the question.
    Unsupported,
    /// There are more tokens than are read, and what was not read might matter.
    TooLong,
}

impl Unknown {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::Busy, Self::Late, Self::Failed, Self::Empty, Self::Unsupported, Self::TooLong];

    /// Returns the reason as one lowercase word, for logs, headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Empty => "empty",
            Self::Unsupported => "unsupported",
            Self::TooLong => "too_long",
        }
    }
}
