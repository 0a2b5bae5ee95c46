//! The `jailbreak` signal: a text tries to turn a model against its instructions.

use crate::classify::{ClassifyHeads, Unknown};
use crate::policy::{BasisPoints, JailbreakSignal};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::findings::{ClassifierFindings, PartialFindings};
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for JailbreakSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::asked(ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE }, self.scope)
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Learned(Box::new(self.clone())))
    }
}

impl LearnedDetector for JailbreakSignal {
    /// The highest risk of all texts counts.
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        let risks = PartialFindings::of(found.in_scope(self.scope).map(|found| found.jailbreak.as_ref()));
        let worst = risks.known.iter().max_by(|a, b| a.score.total_cmp(&b.score));
        let highest = worst.map_or(0.0, |risk| risk.score);
        let min_score = self.min_score.map(BasisPoints::fraction);
        let matches = worst.is_some_and(|risk| highest >= min_score.unwrap_or(risk.threshold));
        let reason = SignalReason::Measured { what: "risk", value: f64::from(highest) };
        risks.conclude(SignalValue { score: highest, matches, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Findings, Risk};
    use crate::policy::Scope;

    fn risk(score: f32) -> Findings {
        Findings { jailbreak: Some(Ok(Risk { score, threshold: 0.8, at: 0..1 })), ..Findings::default() }
    }

    fn no_risk(reason: Unknown) -> Findings {
        Findings { jailbreak: Some(Err(reason)), ..Findings::default() }
    }

    fn evaluate(
        prompt: &Findings,
        others: &[(usize, Findings)],
        scope: Scope,
        min_score: Option<u16>,
    ) -> Result<SignalValue, Unknown> {
        let found = ClassifierFindings { prompt, others, earlier: &[], follows_answer: true };
        JailbreakSignal { min_score: min_score.map(BasisPoints), scope }.evaluate(&found)
    }

    #[test]
    fn the_worst_text_of_the_scope_counts() {
        let (prompt, others) = (risk(0.1), [(0, risk(0.9)), (1, risk(0.3))]);
        let of = |scope, min_score| evaluate(&prompt, &others, scope, min_score).unwrap();
        assert_eq!((of(Scope::Prompt, None).matches, of(Scope::Prompt, None).score), (false, 0.1));
        let all = of(Scope::Conversation, None);
        assert_eq!((all.matches, all.score, all.reason.to_string().as_str()), (true, 0.9, "risk 0.9000"));
        assert!(of(Scope::Prompt, Some(1000)).matches && !of(Scope::Conversation, Some(9500)).matches);
    }

    #[test]
    fn an_attack_is_known_whatever_is_missing_but_its_absence_is_not() {
        let missing = [(0, no_risk(Unknown::TooLong)), (1, no_risk(Unknown::Late))];
        let (bad, good) = (risk(0.9), risk(0.2));
        assert!(evaluate(&bad, &missing, Scope::Conversation, None).unwrap().matches);
        let unknown = evaluate(&good, &missing, Scope::Conversation, None);
        assert_eq!(unknown, Err(Unknown::TooLong));
        assert!(!evaluate(&good, &missing, Scope::Prompt, None).unwrap().matches);
        assert!(!evaluate(&no_risk(Unknown::Empty), &[], Scope::Prompt, None).unwrap().matches);
        let unasked = evaluate(&Findings::default(), &[], Scope::Prompt, None);
        assert_eq!(unasked, Err(Unknown::Unsupported));
    }
}
