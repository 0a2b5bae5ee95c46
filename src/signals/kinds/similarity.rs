//! The `similarity` signal: the prompt is like examples of the policy.

use std::borrow::Cow;

use signalbox_kernels::dot;

use crate::classify::Unknown;
use crate::policy::{Aggregate, SimilaritySignal};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::findings::{ClassifierFindings, UnitVector, max_cosine};
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for SimilaritySignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::EMBEDDING
    }

    fn examples(&self) -> Vec<Cow<'_, str>> {
        self.to.iter().map(|example| Cow::Borrowed(example.as_str())).collect()
    }

    fn detector(&self, embeddings: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        let examples = embeddings.all(&self.to);
        Ok(SignalDetector::Learned(Box::new(SimilarityDetector {
            examples,
            aggregate: self.aggregate,
            min_score: self.min_score.fraction(),
        })))
    }
}

#[derive(Debug)]
struct SimilarityDetector {
    /// At least one.
    examples: Vec<UnitVector>,
    aggregate: Aggregate,
    min_score: f32,
}

impl LearnedDetector for SimilarityDetector {
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        let prompt = found.embedding()?;
        let (what, cosine) = match self.aggregate {
            // Whether one is enough and whether the greatest is enough is the same.
            Aggregate::Max | Aggregate::Any => ("greatest cosine", max_cosine(prompt, &self.examples)),
            Aggregate::Mean => {
                let sum: f32 = self.examples.iter().map(|example| dot(prompt, example)).sum();
                ("mean cosine", sum / self.examples.len().max(1) as f32)
            }
        };
        let reason = SignalReason::Measured { what, value: f64::from(cosine) };
        Ok(SignalValue::scored(cosine, self.min_score, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Findings;

    fn evaluate(
        prompt: [f32; 2],
        examples: &[[f32; 2]],
        aggregate: Aggregate,
        min_score: f32,
    ) -> SignalValue {
        let prompt = Findings { embedding: Some(Ok(prompt.into())), ..Findings::default() };
        let found = ClassifierFindings { prompt: &prompt, others: &[], earlier: &[], follows_answer: true };
        let examples = examples.iter().map(|example| UnitVector::from(*example)).collect();
        SimilarityDetector { examples, aggregate, min_score }.evaluate(&found).unwrap()
    }

    #[test]
    fn likeness_is_the_greatest_cosine_or_their_mean() {
        let examples = [[1.0, 0.0], [0.0, 1.0]];
        let of = |aggregate, min_score| evaluate([0.6, 0.8], &examples, aggregate, min_score);
        assert_eq!(of(Aggregate::Max, 0.8), of(Aggregate::Any, 0.8));
        assert!(of(Aggregate::Max, 0.8).matches && !of(Aggregate::Mean, 0.8).matches);
        assert!((of(Aggregate::Mean, 0.8).score - 0.7).abs() < 1e-6);
        let opposite = evaluate([-1.0, 0.0], &examples[..1], Aggregate::Max, 0.1);
        assert_eq!((opposite.score, opposite.matches), (0.0, false));
    }
}
