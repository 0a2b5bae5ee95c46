//! Tasks whose classes are described by examples: which class a prompt is most like.
//!
//! There is no model behind these but the embedding: a prompt is compared with English phrases, and the class that it
//! is most like has the largest share. Long prompts, other languages and whatever the phrases do not foresee are judged
//! badly; the tests say how well the rest is.

#[cfg(test)]
mod held_out;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use signalbox_kernels::dot;

use super::embeddings::ExampleEmbeddings;
use super::findings::UnitVector;
use super::value::{SignalReason, SignalValue};

/// How many of a class's examples, the most alike, count for it.
const NEAREST: usize = 3;

/// Some classes, and how the likeness to them becomes their shares.
#[derive(Debug)]
pub(super) struct ExampleTask {
    pub(super) classes: &'static [Class],
    /// Divides the cosines before their softmax; found on the phrases themselves, each left out in turn.
    pub(super) temperature: f32,
    /// The class that is meant where no other is.
    pub(super) rest: Option<Rest>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) class: usize,
    /// Its cosine is never less.
    pub(super) min_cosine: f32,
}

/// One class, with the phrases that stand for it.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: &'static str,
    phrases: &'static [&'static str],
    /// `{}` in a pattern stands for each of the subjects.
    patterns: &'static [&'static str],
    subjects: &'static [&'static str],
}

impl ExampleTask {
    pub(super) fn examples(&self) -> impl Iterator<Item = Cow<'static, str>> {
        self.classes.iter().flat_map(Class::examples)
    }
}

impl Class {
    pub(super) const fn of(name: &'static str, phrases: &'static [&'static str]) -> Self {
        Self { name, phrases, patterns: &[], subjects: &[] }
    }

    pub(super) const fn with(
        mut self,
        patterns: &'static [&'static str],
        subjects: &'static [&'static str],
    ) -> Self {
        self.patterns = patterns;
        self.subjects = subjects;
        self
    }

    fn examples(&self) -> impl Iterator<Item = Cow<'static, str>> + use<> {
        let Self { phrases, patterns, subjects, .. } = *self;
        let whole = phrases.iter().map(|phrase| Cow::Borrowed(*phrase));
        let filled = patterns.iter().flat_map(move |pattern| {
            subjects.iter().map(move |subject| Cow::Owned(pattern.replace("{}", subject)))
        });
        whole.chain(filled)
    }
}

/// The embeddings of a task's examples.
#[derive(Debug)]
pub(super) struct ExampleBank {
    task: &'static ExampleTask,
    /// For each class those of its examples.
    classes: Vec<Vec<UnitVector>>,
}

impl ExampleBank {
    pub(super) fn new(task: &'static ExampleTask, embeddings: &ExampleEmbeddings<'_>) -> Self {
        let of = |class: &Class| class.examples().map(|example| embeddings.get(&example)).collect();
        Self { task, classes: task.classes.iter().map(of).collect() }
    }

    /// Returns the share of each class: a softmax of the mean cosine of its nearest examples.
    fn shares(&self, prompt: &[f32]) -> Vec<f32> {
        let mut shares: Vec<f32> = self.classes.iter().map(|class| nearest(prompt, class)).collect();
        if let Some(Rest { class, min_cosine }) = self.task.rest {
            shares[class] = shares[class].max(min_cosine);
        }
        let most = shares.iter().copied().fold(f32::MIN, f32::max);
        for share in &mut shares {
            *share = ((*share - most) / self.task.temperature).exp();
        }
        let sum: f32 = shares.iter().sum();
        shares.iter().map(|share| share / sum).collect()
    }

    /// Evaluates a signal by the share of the matching classes, all together.
    pub(super) fn value(&self, prompt: &[f32], matching: &[usize], min_score: f32) -> SignalValue {
        let shares = self.shares(prompt);
        let best = shares.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (best, share) = best.expect("a task has classes");
        let places = shares.iter().enumerate().filter(|(place, _)| matching.contains(place));
        let score = places.map(|(_, share)| share).sum();
        let reason = SignalReason::Class { class: self.task.classes[best].name, share };
        SignalValue::scored(score, min_score, reason)
    }
}

fn nearest(prompt: &[f32], examples: &[UnitVector]) -> f32 {
    let mut best = [f32::MIN; NEAREST];
    for example in examples {
        let mut cosine = dot(prompt, example);
        for place in &mut best {
            if cosine > *place {
                std::mem::swap(place, &mut cosine);
            }
        }
    }
    best.iter().sum::<f32>() / NEAREST as f32
}
