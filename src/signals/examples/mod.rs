//! Signals that are judged by example: whether facts need checking, what a user says of an answer, and what kind of
//! answer is asked for.
//!
//! There is no model behind these but the embedding: a prompt is held against the English phrases in this folder, and
//! what it is most like has the largest share. Long prompts, other languages and whatever the phrases do not foresee
//! are judged badly; the tests say how well the rest is. Refuses to know what follows from a judgement.

mod facts;
mod feedback;
#[cfg(test)]
mod held_out;
mod modality;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::learned::{Vector, cosine};
use super::value::{SignalReason, SignalValue};
use crate::policy::{FactCheckSignal, Feedback, FeedbackSignal, Modality, ModalitySignal, SignalKind};

/// How many of a class's examples, the most alike, speak for it.
const NEAREST: usize = 3;

/// What is judged by examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Judgement {
    /// Whether an answer should be held against facts.
    Facts,
    /// What the user says of the answer before.
    Feedback,
    /// What kind of answer is asked for.
    Modality,
}

/// One class, with the phrases that stand for it.
struct Class {
    name: &'static str,
    phrases: &'static [&'static str],
    /// Patterns into which subjects are put.
    patterns: &'static [&'static str],
}

impl Class {
    const fn of(name: &'static str, phrases: &'static [&'static str]) -> Self {
        Self { name, phrases, patterns: &[] }
    }

    const fn with(mut self, patterns: &'static [&'static str]) -> Self {
        self.patterns = patterns;
        self
    }

    fn examples(&self) -> impl Iterator<Item = Cow<'static, str>> {
        let whole = self.phrases.iter().map(|phrase| Cow::Borrowed(*phrase));
        let about = |pattern: &'static str| {
            modality::SUBJECTS.iter().map(move |subject| Cow::Owned(pattern.replace("{}", subject)))
        };
        whole.chain(self.patterns.iter().copied().flat_map(about))
    }
}

/// How the likeness to classes becomes their shares.
struct Scale {
    /// Divides the cosines before their softmax; found on the phrases themselves, each left out in turn.
    temperature: f32,
    /// The class that is meant where nothing else is, and its least cosine.
    rest: Option<(usize, f32)>,
}

const FACTS: [Class; 2] = [Class::of("needed", facts::NEEDED), Class::of("not needed", facts::NOT_NEEDED)];

const FEEDBACK: [Class; 5] = [
    Class::of("satisfied", feedback::SATISFIED),
    Class::of("need_clarification", feedback::NEED_CLARIFICATION),
    Class::of("wrong_answer", feedback::WRONG_ANSWER),
    Class::of("want_different", feedback::WANT_DIFFERENT),
    Class::of("none", feedback::NONE),
];

const MODALITY: [Class; 3] = [
    Class::of("text", modality::TEXT).with(modality::TEXT_OF),
    Class::of("image", modality::IMAGE).with(modality::IMAGE_OF),
    Class::of("both", modality::BOTH).with(modality::BOTH_OF),
];

impl Judgement {
    /// Returns what a kind of signal is judged by.
    pub(super) fn of(kind: &SignalKind) -> Option<Self> {
        match kind {
            SignalKind::FactCheck(_) => Some(Self::Facts),
            SignalKind::Feedback(_) => Some(Self::Feedback),
            SignalKind::Modality(_) => Some(Self::Modality),
            _ => None,
        }
    }

    /// Returns the word for it, as policies spell it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Facts => "fact_check",
            Self::Feedback => "feedback",
            Self::Modality => "modality",
        }
    }

    /// Returns all examples.
    pub(super) fn examples(self) -> impl Iterator<Item = Cow<'static, str>> {
        self.classes().iter().flat_map(Class::examples)
    }

    fn classes(self) -> &'static [Class] {
        match self {
            Self::Facts => &FACTS,
            Self::Feedback => &FEEDBACK,
            Self::Modality => &MODALITY,
        }
    }

    fn scale(self) -> Scale {
        match self {
            Self::Facts => Scale { temperature: 0.03, rest: None },
            Self::Feedback => Scale { temperature: 0.035, rest: Some((4, 0.25)) },
            Self::Modality => Scale { temperature: 0.045, rest: Some((0, 0.4)) },
        }
    }
}

/// The meanings of a judgement's examples.
#[derive(Debug)]
pub(super) struct ExampleBank {
    judgement: Judgement,
    /// For each class those of its examples.
    classes: Vec<Vec<Vector>>,
}

impl ExampleBank {
    /// Puts the meanings of the examples together.
    pub(super) fn new(judgement: Judgement, meaning: impl Fn(&str) -> Vector) -> Self {
        let classes = judgement.classes().iter();
        let meanings = |class: &Class| class.examples().map(|example| meaning(&example)).collect();
        Self { judgement, classes: classes.map(meanings).collect() }
    }

    /// Returns the share of each class: a softmax of how alike its nearest examples are in the mean.
    fn shares(&self, prompt: &[f32]) -> Vec<f32> {
        let Scale { temperature, rest } = self.judgement.scale();
        let mut shares: Vec<f32> = self.classes.iter().map(|class| nearest(prompt, class)).collect();
        if let Some((class, least)) = rest {
            shares[class] = shares[class].max(least);
        }
        let most = shares.iter().copied().fold(f32::MIN, f32::max);
        for share in &mut shares {
            *share = ((*share - most) / temperature).exp();
        }
        let sum: f32 = shares.iter().sum();
        shares.iter().map(|share| share / sum).collect()
    }

    /// Reads a signal of this judgement: the share of the classes that match, all together.
    pub(super) fn read(&self, prompt: &[f32], kind: &SignalKind) -> Option<SignalValue> {
        let (wanted, min_score): (Vec<usize>, _) = match kind {
            SignalKind::FactCheck(FactCheckSignal { needed, min_score }) => {
                (vec![usize::from(!needed)], min_score)
            }
            SignalKind::Feedback(FeedbackSignal { any, min_score }) => {
                (any.iter().map(|one| feedback_class(*one)).collect(), min_score)
            }
            SignalKind::Modality(ModalitySignal { any, min_score }) => {
                (any.iter().map(|one| modality_class(*one)).collect(), min_score)
            }
            _ => return None,
        };
        let shares = self.shares(prompt);
        let (best, share) = shares.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let places = shares.iter().enumerate().filter(|(place, _)| wanted.contains(place));
        let score = places.map(|(_, share)| share).sum();
        let reason = SignalReason::Class { class: self.judgement.classes()[best].name, share };
        Some(SignalValue::scored(score, min_score.fraction(), reason))
    }
}

fn nearest(prompt: &[f32], examples: &[Vector]) -> f32 {
    let mut best = [f32::MIN; NEAREST];
    for example in examples {
        let mut cosine = cosine(prompt, example);
        for place in &mut best {
            if cosine > *place {
                std::mem::swap(place, &mut cosine);
            }
        }
    }
    best.iter().sum::<f32>() / NEAREST as f32
}

fn feedback_class(feedback: Feedback) -> usize {
    match feedback {
        Feedback::Satisfied => 0,
        Feedback::NeedClarification => 1,
        Feedback::WrongAnswer => 2,
        Feedback::WantDifferent => 3,
    }
}

fn modality_class(modality: Modality) -> usize {
    match modality {
        Modality::Text => 0,
        Modality::Image => 1,
        Modality::Both => 2,
    }
}
