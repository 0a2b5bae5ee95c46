//! From the outputs of a text's windows to its findings: weighted means, the worst window, merged spans.
//!
//! Says where results are too incomplete for an answer: a domain may be judged from a part of the text, the guards'
//! findings may not. Knows nothing of queues; pure but for the clock that latencies are read from.

use std::ops::Range;
use std::sync::Arc;

use super::backend::HeadOutputs;
use super::model_set::ModelSet;
use super::paraphrase::{MAX_QUESTION_TOKENS, QuestionTokens};
use super::task::{ClassifyTask, ModelWindows, TaskProgress, WindowResult};
use super::{
    ClassifyHead, ClassifyHeads, Entity, Findings, Label, PiiFindings, Risk, Unknown, UnsupportedSpan,
};
use super::{groundedness, pii};

/// From which probability on an entity counts in a text that is likelier in a language the model does not read: to it, words of
/// another language look like names.
const LEAST_OF_GUESSES: f32 = 0.95;

impl ModelSet {
    /// Answers for each wanted head as far as the windows have its outputs.
    pub(super) fn findings(&self, task: &ClassifyTask, progress: &TaskProgress) -> Findings {
        let missing = |head: ClassifyHead| match head {
            _ if task.readers.unread.has(head) => Unknown::UnsupportedLanguage,
            _ if self.heads().has(head) => Unknown::Late,
            _ => Unknown::Unsupported,
        };
        let all = |head: ClassifyHead| progress.models.iter().filter(move |windows| windows.heads.has(head));
        let wanted = |head: ClassifyHead| task.readers.heads.has(head);
        let windows =
            |head: ClassifyHead| wanted(head).then(|| all(head).next().ok_or_else(|| missing(head)));
        let heads = (ClassifyHead::Domain, ClassifyHead::Jailbreak);
        let judged = |windows: &&ModelWindows| windows.heads.has(heads.0) || windows.heads.has(heads.1);
        Findings {
            domain: wanted(heads.0).then(|| {
                let labels = all(heads.0).map(|windows| self.domain(windows, task));
                self.joined(labels.collect(), missing(heads.0))
            }),
            jailbreak: wanted(heads.1).then(|| {
                let risks = all(heads.1).map(|windows| self.jailbreak(windows));
                worse(&risks.collect::<Vec<_>>(), missing(heads.1))
            }),
            pii: windows(ClassifyHead::Pii)
                .map(|windows| self.entities(windows?, task))
                .map(|found| found.map_or_else(PiiFindings::unknown, PiiFindings::known)),
            embedding: windows(ClassifyHead::Embedding).map(|windows| embedding(windows?)),
            hallucination: windows(ClassifyHead::Hallucination)
                .map(|windows| self.unsupported_spans(windows?, task)),
            question: windows(ClassifyHead::Paraphrase).map(|windows| self.question(windows?, task)),
            judges: progress.models.iter().filter(judged).map(|windows| self.name(windows.model)).collect(),
            cost: progress.cost,
        }
    }

    /// Joins what one or two models say that a text is about: of two, the one for more languages weighs twice, as it reads
    /// either language and the first but one.
    fn joined(&self, labels: Vec<Result<Label, Unknown>>, missing: Unknown) -> Result<Label, Unknown> {
        let unknown = labels.iter().find_map(|label| label.as_ref().err().copied()).unwrap_or(missing);
        let mut known = labels.into_iter().flatten();
        let first = known.next().ok_or(unknown)?;
        let Some(second) = known.next() else { return Ok(first) };
        let weighed = first.probabilities.iter().zip(&*second.probabilities);
        let probabilities: Arc<[f32]> = weighed.map(|(one, other)| (one + 2.0 * other) / 3.0).collect();
        let (name, confidence) = self.best_domain(&probabilities)?;
        Ok(Label { name, confidence, probabilities, coverage: first.coverage.min(second.coverage), ..second })
    }

    fn best_domain(&self, probabilities: &[f32]) -> Result<(Arc<str>, f32), Unknown> {
        let best = probabilities.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (index, confidence) = best.ok_or(Unknown::Failed)?;
        let name = self.labels(ClassifyHead::Domain).get(index).cloned().ok_or(Unknown::Failed)?;
        Ok((name, confidence))
    }

    /// Averages the windows' probabilities, each with the weight of its tokens.
    fn domain(&self, windows: &ModelWindows, task: &ClassifyTask) -> Result<Label, Unknown> {
        let computed: Vec<(&WindowResult, &Vec<f32>)> = windows
            .computed()
            .filter_map(|(result, outputs)| Some((result, outputs.domain.as_ref()?)))
            .collect();
        if computed.is_empty() {
            return Err(windows.missing(ClassifyHeads::DOMAIN).unwrap_or(Unknown::Empty));
        }
        let probabilities =
            mean(computed.iter().map(|(result, values)| (result.window.tokens.len(), *values)));
        let (name, confidence) = self.best_domain(&probabilities)?;
        let read: usize = computed.iter().map(|(result, _)| result.window.fresh).sum();
        Ok(Label {
            name,
            confidence,
            probabilities: probabilities.into(),
            coverage: (read as f32 / windows.total_tokens.max(1.0)).min(1.0),
            latency: task.started.elapsed(),
        })
    }

    /// Takes the worst part of all windows; an answer if all were computed, or if it is bad enough whatever the others are.
    fn jailbreak(&self, windows: &ModelWindows) -> Result<Risk, Unknown> {
        let threshold = self.threshold(ClassifyHead::Jailbreak, windows.model);
        let bytes = |tokens: &Range<usize>| {
            windows.token_bytes[tokens.start].start..windows.token_bytes[tokens.end - 1].end
        };
        let worst =
            windows.computed().filter_map(|(result, outputs)| Some((result, outputs.jailbreak.as_ref()?)));
        let worst = worst.max_by(|(_, a), (_, b)| a.score.total_cmp(&b.score)).map(|(result, worst)| {
            let start = result.window.tokens.start;
            let at = bytes(&(start + worst.tokens.start..start + worst.tokens.end));
            Risk { score: worst.score, threshold, at }
        });
        let missing = if windows.is_whole {
            windows.missing(ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE })
        } else {
            Some(Unknown::TooLong)
        };
        match (worst, missing) {
            (Some(risk), missing) if missing.is_none() || risk.is_jailbreak() => Ok(risk),
            (_, missing) => Err(missing.unwrap_or(Unknown::Empty)),
        }
    }

    /// Joins the personal data of all windows where they overlap.
    fn entities(&self, windows: &ModelWindows, task: &ClassifyTask) -> Result<Vec<Entity>, Unknown> {
        let whole = task.excerpt.whole().filter(|_| windows.is_whole).ok_or(Unknown::TooLong)?;
        if let Some(reason) = windows.missing(ClassifyHeads { pii: true, ..ClassifyHeads::NONE }) {
            return Err(reason);
        }
        let start = whole.start;
        let in_piece = |bytes: &Range<usize>| bytes.start - start..bytes.end - start;
        let labeled: Vec<pii::PiiWindow<'_>> = windows
            .computed()
            .filter_map(|(result, outputs)| {
                let bytes = windows.token_bytes[result.window.tokens.clone()].iter().map(in_piece).collect();
                Some(pii::PiiWindow { bytes, labels: outputs.pii.as_deref()? })
            })
            .collect();
        let labels = self.labels(ClassifyHead::Pii);
        let mut threshold = self.threshold(ClassifyHead::Pii, windows.model);
        if task.readers.guessed.pii {
            threshold = threshold.max(LEAST_OF_GUESSES);
        }
        let mut entities = pii::entities(&whole.text, &labeled, labels, threshold);
        for entity in &mut entities {
            let leading = task.excerpt.leading_chars;
            entity.bytes = entity.bytes.start + start..entity.bytes.end + start;
            entity.chars = entity.chars.start + leading..entity.chars.end + leading;
        }
        Ok(entities)
    }

    /// The one window of a question that is short enough to be compared, in words that its model knows: signs that it lacks
    /// are all alike to it.
    fn question(&self, windows: &ModelWindows, task: &ClassifyTask) -> Result<Arc<QuestionTokens>, Unknown> {
        if let Some(reason) = windows.missing(ClassifyHeads::PARAPHRASE) {
            return Err(reason);
        }
        if task.readers.guessed.paraphrase {
            return Err(Unknown::UnsupportedLanguage);
        }
        let is_short = windows.is_whole && windows.token_bytes.len() <= MAX_QUESTION_TOKENS;
        let question = windows.computed().find_map(|(_, outputs)| outputs.question.clone());
        let question = question.filter(|_| is_short).ok_or(Unknown::TooLong)?;
        let unknown = self.models[windows.model].unknown_token();
        if unknown.is_some_and(|token| question.has(token)) { Err(Unknown::Unreadable) } else { Ok(question) }
    }

    /// Joins the judgements of all pairs on the answer's tokens.
    fn unsupported_spans(
        &self,
        windows: &ModelWindows,
        task: &ClassifyTask,
    ) -> Result<Vec<UnsupportedSpan>, Unknown> {
        let answer = task.excerpt.whole().filter(|_| windows.is_whole).ok_or(Unknown::TooLong)?;
        if let Some(reason) = windows.missing(ClassifyHeads::HALLUCINATION) {
            return Err(reason);
        }
        let pairs = windows.computed().filter_map(|(result, outputs)| {
            Some((result.window.tokens.start, outputs.hallucination.as_deref()?))
        });
        let probabilities = groundedness::lowest_of_pairs(windows.token_bytes.len(), pairs);
        let start = answer.start;
        let in_answer = windows.token_bytes.iter().map(|bytes| bytes.start - start..bytes.end - start);
        let bytes: Vec<Range<usize>> = in_answer.collect();
        let threshold = self.threshold(ClassifyHead::Hallucination, windows.model);
        let mut spans = groundedness::unsupported_spans(&answer.text, &bytes, &probabilities, threshold);
        for span in &mut spans {
            span.bytes = span.bytes.start + start..span.bytes.end + start;
        }
        Ok(spans)
    }
}

impl ModelWindows {
    fn computed(&self) -> impl Iterator<Item = (&WindowResult, &HeadOutputs)> {
        self.results.iter().filter_map(|result| Some((result, result.outputs.as_deref()?)))
    }

    /// Returns why some window lacks outputs of `heads` that it was to have; none if all are there. A text without
    /// windows is empty, or unreadable.
    fn missing(&self, heads: ClassifyHeads) -> Option<Unknown> {
        if self.results.is_empty() {
            return Some(if self.is_unreadable { Unknown::Unreadable } else { Unknown::Empty });
        }
        let incomplete = self.results.iter().filter(|result| {
            let computed = result.outputs.as_ref().map_or(ClassifyHeads::NONE, |outputs| outputs.heads());
            !result.heads.and(heads).without(computed).is_empty()
        });
        incomplete
            .map(|result| if result.failed { Unknown::Failed } else { Unknown::Late })
            .reduce(|one, other| if one == Unknown::Failed { one } else { other })
    }
}

/// Takes the worse of what one or two models say, each by its own threshold; an attack whatever the other does not know.
fn worse(risks: &[Result<Risk, Unknown>], missing: Unknown) -> Result<Risk, Unknown> {
    let above = |risk: &Risk| risk.score - risk.threshold;
    let worst = risks.iter().flatten().max_by(|a, b| above(a).total_cmp(&above(b)));
    let unknown = risks.iter().find_map(|risk| risk.as_ref().err().copied());
    match (worst, unknown) {
        (Some(risk), None) => Ok(risk.clone()),
        (Some(risk), Some(_)) if risk.is_jailbreak() => Ok(risk.clone()),
        (_, unknown) => Err(unknown.unwrap_or(missing)),
    }
}

/// Averages the windows' vectors, each with the weight of its tokens, and scales the mean to unit length.
fn embedding(windows: &ModelWindows) -> Result<Arc<[f32]>, Unknown> {
    if let Some(reason) = windows.missing(ClassifyHeads { embedding: true, ..ClassifyHeads::NONE }) {
        return Err(reason);
    }
    let vectors = windows.computed().filter_map(|(result, outputs)| {
        let vector = outputs.embedding.as_ref()?;
        Some((result.window.tokens.len(), vector))
    });
    let mut mean = mean(vectors);
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
