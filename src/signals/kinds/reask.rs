//! The `reask` signal: the user asks again what was asked in one of the last messages.

use signalbox_kernels::dot;

use crate::classify::Unknown;
use crate::policy::ReaskSignal;
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::findings::{ClassifierFindings, PartialFindings};
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for ReaskSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs { lookback: self.lookback, all_texts: true, ..SignalInputs::EMBEDDING }
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Learned(Box::new(self.clone())))
    }
}

impl LearnedDetector for ReaskSignal {
    /// The greatest cosine with one of the last messages of the user.
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        let places = &found.earlier[..found.earlier.len().min(usize::from(self.lookback))];
        if places.is_empty() {
            return Ok(SignalValue::plain(false, SignalReason::Text("nothing before".into())));
        }
        let prompt = found.embedding()?;
        let findings = found.others.iter().filter(|(place, _)| places.contains(place));
        let before = PartialFindings::of(findings.map(|(_, found)| found.embedding.as_ref()));
        let most = before.known.iter().map(|known| dot(prompt, known)).fold(0.0, f32::max);
        let reason = SignalReason::Measured { what: "cosine", value: f64::from(most) };
        before.conclude(SignalValue::scored(most, self.min_score.fraction(), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Findings;
    use crate::policy::BasisPoints;

    fn embedding(vector: &[f32]) -> Findings {
        Findings { embedding: Some(Ok(vector.into())), ..Findings::default() }
    }

    fn evaluate(
        prompt: &Findings,
        others: &[(usize, Findings)],
        earlier: &[usize],
        lookback: u8,
    ) -> Result<SignalValue, Unknown> {
        let found = ClassifierFindings { prompt, others, earlier, follows_answer: true };
        ReaskSignal { min_score: BasisPoints(8500), lookback }.evaluate(&found)
    }

    #[test]
    fn a_question_is_asked_again_if_one_of_the_last_was_like_it() {
        let prompt = embedding(&[1.0, 0.0]);
        let others = [(4, embedding(&[0.0, 1.0])), (2, embedding(&[0.9, 0.1])), (0, embedding(&[1.0, 0.0]))];
        let of = |earlier: &[usize], lookback| evaluate(&prompt, &others, earlier, lookback);
        assert!(of(&[4, 2, 0], 2).unwrap().matches);
        assert!(!of(&[4, 2, 0], 1).unwrap().matches);
        assert_eq!(of(&[], 3).unwrap().reason.to_string(), "nothing before");
        let late = Findings { embedding: Some(Err(Unknown::Late)), ..Findings::default() };
        assert_eq!(evaluate(&prompt, &[(0, late.clone())], &[0], 1), Err(Unknown::Late));
        assert_eq!(evaluate(&late, &others, &[4], 1), Err(Unknown::Late));
    }
}
