//! What the answers of a text's windows amount to: weighted means, the worst window, merged spans.
//!
//! Incomplete answers are told apart from complete ones here: a domain may be judged from a part of the text, what
//! guards may not. Knows nothing of queues; pure but for the clock that latencies are read from.

use std::ops::Range;
use std::sync::Arc;

use super::answer::Answer;
use super::reading::{Library, Part, Progress, Reading, Sheet};
use super::{Doubt, Entity, Findings, Label, Question, Questions, Risk, Unknown};
use super::{claim, pii};

impl Library {
    /// Answers what was asked of a text as far as its windows have answers.
    pub(super) fn findings(&self, reading: &Reading, progress: &Progress) -> Findings {
        let ask = |question: Question| {
            let late = if self.questions().has(question) { Unknown::Late } else { Unknown::Unsupported };
            let part = progress.parts.iter().find(|part| part.asked.has(question)).ok_or(late);
            reading.questions.has(question).then_some(part)
        };
        Findings {
            domain: ask(Question::Domain).map(|part| self.domain(part?, reading)),
            jailbreak: ask(Question::Jailbreak).map(|part| self.jailbreak(part?)),
            pii: ask(Question::Pii).map(|part| self.entities(part?, reading)),
            embedding: ask(Question::Embedding).map(|part| embedding(part?)),
            hallucination: ask(Question::Hallucination).map(|part| self.doubts(part?, reading)),
            cost: progress.cost,
        }
    }

    /// The mean of the windows' probabilities, each with the weight of its tokens.
    fn domain(&self, part: &Part, reading: &Reading) -> Result<Label, Unknown> {
        let found: Vec<(&Sheet, &Vec<f32>)> =
            part.found().filter_map(|(sheet, answer)| Some((sheet, answer.domain.as_ref()?))).collect();
        if found.is_empty() {
            return Err(part.missing(Questions::DOMAIN).unwrap_or(Unknown::Empty));
        }
        let probabilities = mean(found.iter().map(|(sheet, values)| (sheet.window.tokens.len(), *values)));
        let best = probabilities.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (index, confidence) = best.ok_or(Unknown::Failed)?;
        let name = self.labels(Question::Domain).get(index).cloned().ok_or(Unknown::Failed)?;
        let read: usize = found.iter().map(|(sheet, _)| sheet.window.fresh).sum();
        Ok(Label {
            name,
            confidence,
            probabilities: probabilities.into(),
            coverage: (read as f32 / part.total.max(1.0)).min(1.0),
            latency: reading.begun.elapsed(),
        })
    }

    /// The worst window; an answer if all were read, or if it is bad enough whatever the others say.
    fn jailbreak(&self, part: &Part) -> Result<Risk, Unknown> {
        let threshold = self.threshold(Question::Jailbreak);
        let scores = part.found().filter_map(|(sheet, answer)| Some((sheet, answer.jailbreak?)));
        let worst = scores.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(sheet, score)| Risk {
            score,
            threshold,
            at: part.bytes[sheet.window.tokens.start].start..part.bytes[sheet.window.tokens.end - 1].end,
        });
        let missing = if part.is_whole {
            part.missing(Questions { jailbreak: true, ..Questions::NONE })
        } else {
            Some(Unknown::TooLong)
        };
        match (worst, missing) {
            (Some(risk), missing) if missing.is_none() || risk.is_jailbreak() => Ok(risk),
            (_, missing) => Err(missing.unwrap_or(Unknown::Empty)),
        }
    }

    /// The personal data of all windows, merged where windows overlap.
    fn entities(&self, part: &Part, reading: &Reading) -> Result<Vec<Entity>, Unknown> {
        let (start, text) = reading.excerpt.whole().filter(|_| part.is_whole).ok_or(Unknown::TooLong)?;
        if let Some(reason) = part.missing(Questions { pii: true, ..Questions::NONE }) {
            return Err(reason);
        }
        let shifted = |bytes: &Range<usize>| bytes.start - start..bytes.end - start;
        let windows: Vec<pii::Window<'_>> = part
            .found()
            .filter_map(|(sheet, answer)| {
                let bytes = part.bytes[sheet.window.tokens.clone()].iter().map(shifted).collect();
                Some(pii::Window { bytes, found: answer.pii.as_deref()? })
            })
            .collect();
        let (labels, threshold) = (self.labels(Question::Pii), self.threshold(Question::Pii));
        let mut found = pii::entities(text, &windows, labels, threshold);
        for entity in &mut found {
            let lead = reading.excerpt.lead;
            entity.bytes = entity.bytes.start + start..entity.bytes.end + start;
            entity.chars = entity.chars.start + lead..entity.chars.end + lead;
        }
        Ok(found)
    }

    /// What no pair bears out of a claim's answer.
    fn doubts(&self, part: &Part, reading: &Reading) -> Result<Vec<Doubt>, Unknown> {
        let (start, answer) = reading.excerpt.whole().filter(|_| part.is_whole).ok_or(Unknown::TooLong)?;
        if let Some(reason) = part.missing(Questions::HALLUCINATION) {
            return Err(reason);
        }
        let pairs = part.found().filter_map(|(sheet, answer)| {
            Some((sheet.window.tokens.start, answer.hallucination.as_deref()?))
        });
        let probabilities = claim::least(part.bytes.len(), pairs);
        let shifted = part.bytes.iter().map(|bytes| bytes.start - start..bytes.end - start);
        let bytes: Vec<Range<usize>> = shifted.collect();
        let threshold = self.threshold(Question::Hallucination);
        let mut doubts = claim::doubts(answer, &bytes, &probabilities, threshold);
        for doubt in &mut doubts {
            doubt.bytes = doubt.bytes.start + start..doubt.bytes.end + start;
        }
        Ok(doubts)
    }
}

impl Part {
    fn found(&self) -> impl Iterator<Item = (&Sheet, &Answer)> {
        self.sheets.iter().filter_map(|sheet| Some((sheet, sheet.answer.as_deref()?)))
    }

    /// Why some window does not answer what is asked of it; none if all do. A text without windows is empty.
    fn missing(&self, asked: Questions) -> Option<Unknown> {
        if self.sheets.is_empty() {
            return Some(Unknown::Empty);
        }
        let open = self.sheets.iter().filter(|sheet| {
            let known = sheet.answer.as_ref().map_or(Questions::NONE, |answer| answer.questions());
            !sheet.wanted.and(asked).without(known).is_empty()
        });
        open.map(|sheet| if sheet.failed { Unknown::Failed } else { Unknown::Late })
            .reduce(|one, other| if one == Unknown::Failed { one } else { other })
    }
}

/// The mean of the windows' vectors, each with the weight of its tokens, at unit length.
fn embedding(part: &Part) -> Result<Arc<[f32]>, Unknown> {
    if let Some(reason) = part.missing(Questions { embedding: true, ..Questions::NONE }) {
        return Err(reason);
    }
    let found = part.found().filter_map(|(sheet, answer)| {
        let vector = answer.embedding.as_ref()?;
        Some((sheet.window.tokens.len(), vector))
    });
    let mut mean = mean(found);
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length <= 0.0 {
        return Err(Unknown::Failed);
    }
    for x in &mut mean {
        *x /= length;
    }
    Ok(mean.into())
}

fn mean<'a>(weighted: impl Iterator<Item = (usize, &'a Vec<f32>)>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    let mut weights = 0.0;
    for (weight, values) in weighted {
        let weight = weight as f32;
        weights += weight;
        sum.resize(values.len(), 0.0);
        for (total, value) in sum.iter_mut().zip(values) {
            *total += weight * value;
        }
    }
    for total in &mut sum {
        *total /= weights;
    }
    sum
}
