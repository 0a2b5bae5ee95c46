//! Signals that are told from what the classifier found: attacks, personal data, and likeness to examples.
//!
//! Refuses to know how the classifier finds it and which texts were put to it.

use std::sync::Arc;

use super::reading::{Reading, Why};
use crate::classify::{Findings, Unknown};
use crate::policy::{Aggregate, Level, PiiKinds, Scope};

/// A meaning: a vector of unit length.
pub(super) type Vector = Arc<[f32]>;

/// What was found in the texts of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard<'a> {
    /// In the prompt.
    pub(super) prompt: &'a Findings,
    /// In the other texts, by their places.
    pub(super) others: &'a [(usize, Findings)],
    /// The places of the user's earlier messages, the latest first.
    pub(super) earlier: &'a [usize],
}

impl<'a> Heard<'a> {
    fn over(self, scope: Scope) -> impl Iterator<Item = &'a Findings> {
        let others = match scope {
            Scope::Prompt => &[],
            Scope::Conversation => self.others,
        };
        std::iter::once(self.prompt).chain(others.iter().map(|(_, findings)| findings))
    }

    /// The meaning of the prompt.
    pub(super) fn meaning(self) -> Result<&'a Vector, Unknown> {
        let found = self.prompt.embedding.as_ref().ok_or(Unknown::Unsupported)?;
        found.as_ref().map_err(|unknown| *unknown)
    }
}

/// What several texts hold, as far as it is known. A text without words holds nothing.
struct Gathered<T> {
    known: Vec<T>,
    missing: Option<Unknown>,
}

impl<'a, T> Gathered<&'a T> {
    fn of(found: impl Iterator<Item = Option<&'a Result<T, Unknown>>>) -> Self {
        let mut gathered = Self { known: Vec::new(), missing: None };
        let mut found = found.peekable();
        if matches!(found.peek(), None | Some(None)) {
            gathered.missing = Some(Unknown::Unsupported);
        }
        for found in found.flatten() {
            match found {
                Ok(found) => gathered.known.push(found),
                Err(Unknown::Empty) => {}
                Err(unknown) => {
                    gathered.missing.get_or_insert(*unknown);
                }
            }
        }
        gathered
    }

    /// What matches is known whatever the rest says; what does not only if nothing is missing.
    fn settle(&self, reading: Reading) -> Result<Reading, Unknown> {
        match self.missing {
            Some(unknown) if !reading.matches => Err(unknown),
            _ => Ok(reading),
        }
    }
}

/// Reads a signal of attacks: the highest risk of all texts.
pub(super) fn jailbreak(heard: Heard<'_>, scope: Scope, least: Option<f32>) -> Result<Reading, Unknown> {
    let risks = Gathered::of(heard.over(scope).map(|found| found.jailbreak.as_ref()));
    let worst = risks.known.iter().max_by(|a, b| a.score.total_cmp(&b.score));
    let (score, threshold) = worst.map_or((0.0, f32::MAX), |risk| (risk.score, risk.threshold));
    let why = Why::Measured { what: "risk", value: f64::from(score) };
    let matches = worst.is_some() && score >= least.unwrap_or(threshold);
    risks.settle(Reading { score, matches, why })
}

/// Reads a signal of personal data: the surest piece of a kind that counts.
pub(super) fn pii(
    heard: Heard<'_>,
    kinds: &PiiKinds,
    scope: Scope,
    least: Option<f32>,
) -> Result<Reading, Unknown> {
    let found = Gathered::of(heard.over(scope).map(|found| found.pii.as_ref()));
    let entities = found.known.iter().flat_map(|entities| entities.iter());
    let surest = entities
        .filter(|entity| kinds.holds(&entity.kind))
        .max_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let reading = match surest {
        None => Reading::plain(false, Why::Said("none that counts".into())),
        Some(entity) => {
            let (label, confidence) = (Arc::clone(&entity.kind), entity.confidence);
            // The classifier itself leaves out what is below its threshold.
            Reading::scored(confidence, least.unwrap_or(0.0), Why::About { label, confidence })
        }
    };
    found.settle(reading)
}

/// The cosine of two meanings.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn greatest(of: &[f32], examples: &[Vector]) -> f32 {
    examples.iter().map(|example| cosine(of, example)).fold(f32::MIN, f32::max)
}

/// Reads a signal of likeness to examples, of which there is at least one.
pub(super) fn similarity(prompt: &[f32], examples: &[Vector], aggregate: Aggregate, least: f32) -> Reading {
    let (what, cosine) = match aggregate {
        // Whether one is enough and whether the greatest is enough is the same.
        Aggregate::Max | Aggregate::Any => ("greatest cosine", greatest(prompt, examples)),
        Aggregate::Mean => {
            let sum: f32 = examples.iter().map(|example| cosine(prompt, example)).sum();
            ("mean cosine", sum / examples.len().max(1) as f32)
        }
    };
    Reading::scored(cosine, least, Why::Measured { what, value: f64::from(cosine) })
}

/// Reads a signal of how hard a prompt is: by how much the most alike hard example is more alike than the easy one.
pub(super) fn complexity(
    prompt: &[f32],
    (hard, easy): (&[Vector], &[Vector]),
    margin: f32,
    level: Level,
) -> Reading {
    let lead = greatest(prompt, hard) - greatest(prompt, easy);
    let (matches, score) = match level {
        Level::Hard => (lead > margin, 0.5 + 0.5 * lead.abs().min(1.0)),
        Level::Easy => (lead < -margin, 0.5 + 0.5 * lead.abs().min(1.0)),
        // The nearer to the middle, the surer.
        Level::Medium => (lead.abs() <= margin, 1.0 - 0.5 * lead.abs() / margin.max(f32::MIN_POSITIVE)),
    };
    let why = Why::Measured { what: "lead of hard over easy", value: f64::from(lead) };
    Reading { score: if matches { score.clamp(0.0, 1.0) } else { 0.0 }, matches, why }
}

/// Reads a signal of questions that are asked again: the greatest likeness to one of the last messages of the user.
pub(super) fn reask(heard: Heard<'_>, least: f32, lookback: u8) -> Result<Reading, Unknown> {
    let places = &heard.earlier[..heard.earlier.len().min(usize::from(lookback))];
    if places.is_empty() {
        return Ok(Reading::plain(false, Why::Said("nothing before".into())));
    }
    let prompt = heard.meaning()?;
    let findings = heard.others.iter().filter(|(place, _)| places.contains(place));
    let before = Gathered::of(findings.map(|(_, found)| found.embedding.as_ref()));
    let most = before.known.iter().map(|known| cosine(prompt, known)).fold(0.0, f32::max);
    before.settle(Reading::scored(most, least, Why::Measured { what: "cosine", value: f64::from(most) }))
}
