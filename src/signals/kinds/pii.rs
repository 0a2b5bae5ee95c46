//! The `pii` signal: a text holds personal data.

use std::sync::Arc;

use crate::classify::{ClassifyHeads, Unknown};
use crate::policy::{BasisPoints, PiiSignal};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::findings::{ClassifierFindings, PartialFindings};
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for PiiSignal {
    fn inputs(&self) -> SignalInputs {
        let by_model = ClassifyHeads { pii: true, ..ClassifyHeads::NONE };
        let heads = if self.kinds.are_checked() { ClassifyHeads::PATTERNS } else { by_model };
        SignalInputs::asked(heads, self.scope)
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Learned(Box::new(self.clone())))
    }
}

impl LearnedDetector for PiiSignal {
    /// The surest piece of a kind that counts.
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        let found = found.in_scope(self.scope).map(|found| found.pii.as_ref());
        let found = PartialFindings::of_pii(found, |kind| self.kinds.holds(kind));
        let entities = found.known.iter().flat_map(|entities| entities.iter());
        let surest = entities
            .filter(|entity| self.kinds.holds(&entity.kind))
            .max_by(|a, b| a.confidence.total_cmp(&b.confidence));
        let value = match surest {
            None => SignalValue::plain(false, SignalReason::Text("none that counts".into())),
            Some(entity) => {
                let (label, confidence) = (Arc::clone(&entity.kind), entity.confidence);
                // The classifier itself leaves out what is below its threshold.
                let min_score = self.min_score.map_or(0.0, BasisPoints::fraction);
                SignalValue::scored(confidence, min_score, SignalReason::Label { label, confidence })
            }
        };
        found.conclude(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Entity, EntitySource, Findings, PiiFindings};
    use crate::policy::{PiiKinds, Scope};

    fn data(kinds: &[(&str, f32)]) -> Findings {
        let entity = |(kind, confidence): &(&str, f32)| Entity {
            kind: (*kind).into(),
            bytes: 0..1,
            chars: 0..1,
            confidence: *confidence,
            by: EntitySource::Model,
        };
        Findings { pii: Some(PiiFindings::known(kinds.iter().map(entity).collect())), ..Findings::default() }
    }

    #[test]
    fn only_kinds_that_count_are_personal_data() {
        let prompt = data(&[("PERSON", 0.95), ("EMAIL_ADDRESS", 0.7)]);
        let found = ClassifierFindings { prompt: &prompt, others: &[], earlier: &[], follows_answer: true };
        let of = |kinds: &PiiKinds, min_score: Option<u16>| {
            let signal = PiiSignal {
                kinds: kinds.clone(),
                min_score: min_score.map(BasisPoints),
                scope: Scope::Prompt,
            };
            signal.evaluate(&found).unwrap()
        };
        let all = of(&PiiKinds::default(), None);
        assert_eq!((all.score, all.reason.to_string().as_str()), (0.95, "PERSON 0.9500"));
        let no_persons = PiiKinds { except: vec!["PERSON".into()], ..PiiKinds::default() };
        assert_eq!((of(&no_persons, None).score, of(&no_persons, Some(8000)).matches), (0.7, false));
        let only_ibans = PiiKinds { only: vec!["IBAN_CODE".into()], ..PiiKinds::default() };
        let none = of(&only_ibans, None);
        assert_eq!((none.matches, none.score), (false, 0.0));
    }
}
