//! The `complexity` signal: the prompt is more like hard examples, more like easy ones, or neither.

use std::borrow::Cow;

use crate::classify::Unknown;
use crate::policy::{ComplexitySignal, Level};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::findings::{ClassifierFindings, UnitVector, max_cosine};
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for ComplexitySignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::EMBEDDING
    }

    fn examples(&self) -> Vec<Cow<'_, str>> {
        self.hard.iter().chain(&self.easy).map(|example| Cow::Borrowed(example.as_str())).collect()
    }

    fn detector(&self, embeddings: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Learned(Box::new(ComplexityDetector {
            hard: embeddings.all(&self.hard),
            easy: embeddings.all(&self.easy),
            margin: self.margin.fraction(),
            level: self.level,
        })))
    }
}

#[derive(Debug)]
struct ComplexityDetector {
    hard: Vec<UnitVector>,
    easy: Vec<UnitVector>,
    margin: f32,
    level: Level,
}

impl LearnedDetector for ComplexityDetector {
    /// By how much the most alike hard example is more alike than the most alike easy one.
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        let prompt = found.embedding()?;
        let lead = max_cosine(prompt, &self.hard) - max_cosine(prompt, &self.easy);
        let (matches, score) = match self.level {
            Level::Hard => (lead > self.margin, 0.5 + 0.5 * lead.abs().min(1.0)),
            Level::Easy => (lead < -self.margin, 0.5 + 0.5 * lead.abs().min(1.0)),
            // The nearer to the middle, the surer.
            Level::Medium => {
                let share = lead.abs() / self.margin.max(f32::MIN_POSITIVE);
                (lead.abs() <= self.margin, 1.0 - 0.5 * share)
            }
        };
        let reason = SignalReason::Measured { what: "lead of hard over easy", value: f64::from(lead) };
        let score = if matches { score.clamp(0.0, 1.0) } else { 0.0 };
        Ok(SignalValue { score, matches, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Findings;

    #[test]
    fn a_prompt_is_hard_easy_or_neither() {
        let of = |prompt: [f32; 2], level| {
            let prompt = Findings { embedding: Some(Ok(prompt.into())), ..Findings::default() };
            let found =
                ClassifierFindings { prompt: &prompt, others: &[], earlier: &[], follows_answer: true };
            let (hard, easy) = (vec![UnitVector::from([1.0, 0.0])], vec![UnitVector::from([0.0, 1.0])]);
            ComplexityDetector { hard, easy, margin: 0.3, level }.evaluate(&found).unwrap()
        };
        assert!(of([0.8, 0.6], Level::Medium).matches);
        assert!(of([1.0, 0.0], Level::Hard).matches && of([0.0, 1.0], Level::Easy).matches);
        let hard = of([1.0, 0.0], Level::Hard);
        assert_eq!((hard.score, of([0.0, 1.0], Level::Hard).score), (1.0, 0.0));
        let medium = of([0.7, 0.7], Level::Medium);
        assert_eq!((medium.score, medium.matches), (1.0, true));
    }
}
