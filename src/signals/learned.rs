//! Signals that are told from what the classifier found: attacks, personal data, and likeness to examples.
//!
//! Refuses to know how the classifier finds it and which texts were put to it.

use std::sync::Arc;

use signalbox_kernels::dot;

use super::examples::ExampleBank;
use super::value::{SignalReason, SignalValue};
use crate::classify::{Findings, Unknown};
use crate::policy::{Aggregate, Level, PiiKinds, Scope, SignalKind};

/// A meaning: a vector of unit length.
pub(super) type Vector = Arc<[f32]>;

/// The meanings of examples of two sides.
#[derive(Debug)]
pub(super) struct HardEasyExamples {
    /// Of hard prompts.
    pub(super) hard: Vec<Vector>,
    /// Of easy ones.
    pub(super) easy: Vec<Vector>,
}

/// What was found in the texts of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassifierFindings<'a> {
    /// In the prompt.
    pub(super) prompt: &'a Findings,
    /// In the other texts, by their places.
    pub(super) others: &'a [(usize, Findings)],
    /// The places of the user's earlier messages, the latest first.
    pub(super) earlier: &'a [usize],
    /// Whether the model has answered before the prompt.
    pub(super) follows_answer: bool,
}

impl<'a> ClassifierFindings<'a> {
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
struct PartialFindings<T> {
    known: Vec<T>,
    missing: Option<Unknown>,
}

impl<'a, T> PartialFindings<&'a T> {
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
    fn settle(&self, reading: SignalValue) -> Result<SignalValue, Unknown> {
        match self.missing {
            Some(unknown) if !reading.matches => Err(unknown),
            _ => Ok(reading),
        }
    }
}

/// Reads a signal of attacks: the highest risk of all texts.
pub(super) fn jailbreak(
    findings: ClassifierFindings<'_>,
    scope: Scope,
    least: Option<f32>,
) -> Result<SignalValue, Unknown> {
    let risks = PartialFindings::of(findings.over(scope).map(|found| found.jailbreak.as_ref()));
    let worst = risks.known.iter().max_by(|a, b| a.score.total_cmp(&b.score));
    let highest = worst.map_or(0.0, |risk| risk.score);
    let matches = worst.is_some_and(|risk| highest >= least.unwrap_or(risk.threshold));
    let reason = SignalReason::Measured { what: "risk", value: f64::from(highest) };
    risks.settle(SignalValue { score: highest, matches, reason })
}

/// Reads a signal of personal data: the surest piece of a kind that counts.
pub(super) fn pii(
    findings: ClassifierFindings<'_>,
    kinds: &PiiKinds,
    scope: Scope,
    least: Option<f32>,
) -> Result<SignalValue, Unknown> {
    let found = PartialFindings::of(findings.over(scope).map(|found| found.pii.as_ref()));
    let entities = found.known.iter().flat_map(|entities| entities.iter());
    let surest = entities
        .filter(|entity| kinds.holds(&entity.kind))
        .max_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let reading = match surest {
        None => SignalValue::plain(false, SignalReason::Text("none that counts".into())),
        Some(entity) => {
            let (label, confidence) = (Arc::clone(&entity.kind), entity.confidence);
            // The classifier itself leaves out what is below its threshold.
            SignalValue::scored(confidence, least.unwrap_or(0.0), SignalReason::Label { label, confidence })
        }
    };
    found.settle(reading)
}

/// The cosine of two meanings.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b)
}

fn greatest(of: &[f32], examples: &[Vector]) -> f32 {
    examples.iter().map(|example| cosine(of, example)).fold(f32::MIN, f32::max)
}

/// Reads a signal of likeness to examples, of which there is at least one.
pub(super) fn similarity(
    prompt: &[f32],
    examples: &[Vector],
    aggregate: Aggregate,
    least: f32,
) -> SignalValue {
    let (what, cosine) = match aggregate {
        // Whether one is enough and whether the greatest is enough is the same.
        Aggregate::Max | Aggregate::Any => ("greatest cosine", greatest(prompt, examples)),
        Aggregate::Mean => {
            let sum: f32 = examples.iter().map(|example| cosine(prompt, example)).sum();
            ("mean cosine", sum / examples.len().max(1) as f32)
        }
    };
    SignalValue::scored(cosine, least, SignalReason::Measured { what, value: f64::from(cosine) })
}

/// Reads a signal of how hard a prompt is: by how much the most alike hard example is more alike than the easy one.
pub(super) fn complexity(prompt: &[f32], sides: &HardEasyExamples, margin: f32, level: Level) -> SignalValue {
    let lead = greatest(prompt, &sides.hard) - greatest(prompt, &sides.easy);
    let (matches, score) = match level {
        Level::Hard => (lead > margin, 0.5 + 0.5 * lead.abs().min(1.0)),
        Level::Easy => (lead < -margin, 0.5 + 0.5 * lead.abs().min(1.0)),
        // The nearer to the middle, the surer.
        Level::Medium => (lead.abs() <= margin, 1.0 - 0.5 * lead.abs() / margin.max(f32::MIN_POSITIVE)),
    };
    let reason = SignalReason::Measured { what: "lead of hard over easy", value: f64::from(lead) };
    SignalValue { score: if matches { score.clamp(0.0, 1.0) } else { 0.0 }, matches, reason }
}

/// Reads a signal that is judged by examples; of what users say of an answer only where there is one.
pub(super) fn judged(
    findings: ClassifierFindings<'_>,
    bank: &ExampleBank,
    kind: &SignalKind,
) -> Result<SignalValue, Unknown> {
    if matches!(kind, SignalKind::Feedback(_)) && !findings.follows_answer {
        return Ok(SignalValue::plain(false, SignalReason::Text("no answer before".into())));
    }
    bank.read(findings.meaning()?, kind).ok_or(Unknown::Unsupported)
}

/// Reads a signal of questions that are asked again: the greatest likeness to one of the last messages of the user.
pub(super) fn reask(
    findings: ClassifierFindings<'_>,
    least: f32,
    lookback: u8,
) -> Result<SignalValue, Unknown> {
    let places = &findings.earlier[..findings.earlier.len().min(usize::from(lookback))];
    if places.is_empty() {
        return Ok(SignalValue::plain(false, SignalReason::Text("nothing before".into())));
    }
    let prompt = findings.meaning()?;
    let findings = findings.others.iter().filter(|(place, _)| places.contains(place));
    let before = PartialFindings::of(findings.map(|(_, found)| found.embedding.as_ref()));
    let most = before.known.iter().map(|known| cosine(prompt, known)).fold(0.0, f32::max);
    before.settle(SignalValue::scored(
        most,
        least,
        SignalReason::Measured { what: "cosine", value: f64::from(most) },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Entity, EntitySource, Risk};

    fn risk(score: f32) -> Findings {
        Findings { jailbreak: Some(Ok(Risk { score, threshold: 0.8, at: 0..1 })), ..Findings::default() }
    }

    fn no_risk(reason: Unknown) -> Findings {
        Findings { jailbreak: Some(Err(reason)), ..Findings::default() }
    }

    fn data(kinds: &[(&str, f32)]) -> Findings {
        let entity = |(kind, confidence): &(&str, f32)| Entity {
            kind: (*kind).into(),
            bytes: 0..1,
            chars: 0..1,
            confidence: *confidence,
            by: EntitySource::Model,
        };
        Findings { pii: Some(Ok(kinds.iter().map(entity).collect())), ..Findings::default() }
    }

    fn meaning(vector: &[f32]) -> Findings {
        Findings { embedding: Some(Ok(vector.into())), ..Findings::default() }
    }

    fn findings<'a>(
        prompt: &'a Findings,
        others: &'a [(usize, Findings)],
        earlier: &'a [usize],
    ) -> ClassifierFindings<'a> {
        ClassifierFindings { prompt, others, earlier, follows_answer: true }
    }

    #[test]
    fn the_worst_text_of_the_scope_counts() {
        let (prompt, others) = (risk(0.1), [(0, risk(0.9)), (1, risk(0.3))]);
        let read = |scope, least| jailbreak(findings(&prompt, &others, &[]), scope, least).unwrap();
        assert_eq!((read(Scope::Prompt, None).matches, read(Scope::Prompt, None).score), (false, 0.1));
        let all = read(Scope::Conversation, None);
        assert_eq!((all.matches, all.score, all.reason.to_string().as_str()), (true, 0.9, "risk 0.9000"));
        assert!(read(Scope::Prompt, Some(0.1)).matches && !read(Scope::Conversation, Some(0.95)).matches);
    }

    #[test]
    fn an_attack_is_known_whatever_is_missing_but_its_absence_is_not() {
        let missing = [(0, no_risk(Unknown::TooLong)), (1, no_risk(Unknown::Late))];
        let (bad, good) = (risk(0.9), risk(0.2));
        assert!(jailbreak(findings(&bad, &missing, &[]), Scope::Conversation, None).unwrap().matches);
        let unknown = jailbreak(findings(&good, &missing, &[]), Scope::Conversation, None);
        assert_eq!(unknown, Err(Unknown::TooLong));
        assert!(!jailbreak(findings(&good, &missing, &[]), Scope::Prompt, None).unwrap().matches);
        let empty = no_risk(Unknown::Empty);
        assert!(!jailbreak(findings(&empty, &[], &[]), Scope::Prompt, None).unwrap().matches);
        let unasked = Findings::default();
        let unknown = jailbreak(findings(&unasked, &[], &[]), Scope::Prompt, None);
        assert_eq!(unknown, Err(Unknown::Unsupported));
    }

    #[test]
    fn only_kinds_that_count_are_personal_data() {
        let prompt = data(&[("PERSON", 0.95), ("EMAIL_ADDRESS", 0.7)]);
        let read =
            |kinds: &PiiKinds, least| pii(findings(&prompt, &[], &[]), kinds, Scope::Prompt, least).unwrap();
        let all = read(&PiiKinds::default(), None);
        assert_eq!((all.score, all.reason.to_string().as_str()), (0.95, "PERSON 0.9500"));
        let no_persons = PiiKinds { except: vec!["PERSON".into()], ..PiiKinds::default() };
        assert_eq!((read(&no_persons, None).score, read(&no_persons, Some(0.8)).matches), (0.7, false));
        let only_ibans = PiiKinds { only: vec!["IBAN_CODE".into()], ..PiiKinds::default() };
        let none = read(&only_ibans, None);
        assert_eq!((none.matches, none.score), (false, 0.0));
    }

    #[test]
    fn likeness_is_the_greatest_cosine_or_their_mean() {
        let examples = [Vector::from([1.0, 0.0]), Vector::from([0.0, 1.0])];
        let read = |aggregate, least| similarity(&[0.6, 0.8], &examples, aggregate, least);
        assert_eq!(read(Aggregate::Max, 0.8), read(Aggregate::Any, 0.8));
        assert!(read(Aggregate::Max, 0.8).matches && !read(Aggregate::Mean, 0.8).matches);
        assert!((read(Aggregate::Mean, 0.8).score - 0.7).abs() < 1e-6);
        let opposite = similarity(&[-1.0, 0.0], &examples[..1], Aggregate::Max, 0.1);
        assert_eq!((opposite.score, opposite.matches), (0.0, false));
    }

    #[test]
    fn a_prompt_is_hard_easy_or_neither() {
        let sides =
            HardEasyExamples { hard: vec![Vector::from([1.0, 0.0])], easy: vec![Vector::from([0.0, 1.0])] };
        let read = |prompt: [f32; 2], level| complexity(&prompt, &sides, 0.3, level);
        assert!(read([0.8, 0.6], Level::Medium).matches);
        assert!(read([1.0, 0.0], Level::Hard).matches && read([0.0, 1.0], Level::Easy).matches);
        let hard = read([1.0, 0.0], Level::Hard);
        assert_eq!((hard.score, read([0.0, 1.0], Level::Hard).score), (1.0, 0.0));
        let medium = read([0.7, 0.7], Level::Medium);
        assert_eq!((medium.score, medium.matches), (1.0, true));
    }

    #[test]
    fn a_question_is_asked_again_if_one_of_the_last_was_like_it() {
        let prompt = meaning(&[1.0, 0.0]);
        let others = [(4, meaning(&[0.0, 1.0])), (2, meaning(&[0.9, 0.1])), (0, meaning(&[1.0, 0.0]))];
        let read = |earlier: &[usize], lookback| reask(findings(&prompt, &others, earlier), 0.85, lookback);
        assert!(read(&[4, 2, 0], 2).unwrap().matches);
        assert!(!read(&[4, 2, 0], 1).unwrap().matches);
        assert_eq!(read(&[], 3).unwrap().reason.to_string(), "nothing before");
        let late = Findings { embedding: Some(Err(Unknown::Late)), ..Findings::default() };
        let unknown = reask(findings(&prompt, &[(0, late.clone())], &[0]), 0.85, 1);
        assert_eq!(unknown, Err(Unknown::Late));
        assert_eq!(reask(findings(&late, &others, &[4]), 0.85, 1), Err(Unknown::Late));
    }
}
