//! Owns the choice of a decision: what is known about a request against the operator's rules, pure and total.
//!
//! Knows nothing of how a label came about, nor of what becomes of the decision.

use crate::classify::Label;
use crate::policy::{Decision, Policy};
use std::fmt;

/// The first decision, by priority, that wants the label's domain and is content with its confidence.
pub fn decide<'policy>(policy: &'policy Policy, label: &Label) -> Option<&'policy Decision> {
    policy.decisions.iter().find(|decision| judge(decision, label) == Verdict::Matched)
}

/// Every decision in the order in which they are tried, each with what it makes of the label; the first that matched
/// is the one that [`decide`] gives.
pub fn trace<'a>(policy: &'a Policy, label: &'a Label) -> impl Iterator<Item = Step<'a>> {
    policy.decisions.iter().map(|decision| Step { decision, label, verdict: judge(decision, label) })
}

/// What a decision makes of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It wants the domain, and the label is sure enough.
    Matched,
    /// It wants other domains.
    OtherDomain,
    /// It wants the domain, but the label is not sure enough.
    Unsure,
}

/// One decision held against a label; displayed, it says why.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The decision.
    pub decision: &'a Decision,
    /// The label.
    pub label: &'a Label,
    /// What came of it.
    pub verdict: Verdict,
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Label { name, confidence, .. } = self.label;
        let (domains, least) = (self.decision.domains.join(", "), self.decision.min_confidence.fraction());
        match self.verdict {
            Verdict::OtherDomain => write!(f, "domain {name} is not in [{domains}]"),
            Verdict::Unsure => write!(f, "confidence {confidence:.4} < {least}"),
            Verdict::Matched => {
                write!(f, "domain {name} is in [{domains}], confidence {confidence:.4} >= {least}")
            }
        }
    }
}

fn judge(decision: &Decision, label: &Label) -> Verdict {
    if decision.domains.iter().all(|domain| **domain != *label.name) {
        Verdict::OtherDomain
    } else if label.confidence < decision.min_confidence.fraction() {
        Verdict::Unsure
    } else {
        Verdict::Matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Fixed, load};
    use std::path::Path;
    use std::time::Duration;

    fn policy() -> Policy {
        let text = "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels: {m: {pools: [p]}}\n\
                    pools: {p: {endpoints: [\"127.0.0.1:1\"]}}\ndecisions:\n\
                    - {name: sure, priority: 3, domains: [math], min_confidence: 0.9, model: m}\n\
                    - {name: laws, priority: 2, domains: [law, history], model: m}\n\
                    - {name: maths, priority: 1, domains: [math], model: m}\n";
        load(text, Path::new("."), &Fixed::default(), None).unwrap()
    }

    fn label(name: &str, confidence: f32) -> Label {
        let latency = Duration::ZERO;
        Label { name: name.into(), confidence, probabilities: [confidence].into(), coverage: 1.0, latency }
    }

    #[test]
    fn a_trace_says_of_each_decision_why_and_its_first_match_is_the_choice() {
        let (policy, label) = (policy(), label("math", 0.8));
        let steps: Vec<_> = trace(&policy, &label).collect();
        let why: Vec<_> = steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            why,
            [
                "confidence 0.8000 < 0.9",
                "domain math is not in [law, history]",
                "domain math is in [math], confidence 0.8000 >= 0.5"
            ]
        );
        let first = steps.iter().find(|step| step.verdict == Verdict::Matched).unwrap();
        assert_eq!(decide(&policy, &label).unwrap().name, first.decision.name);
    }

    #[test]
    fn confidence_at_the_least_is_enough() {
        let policy = policy();
        assert_eq!(decide(&policy, &label("math", 0.9)).unwrap().name, "sure");
        assert_eq!(decide(&policy, &label("history", 0.5)).unwrap().name, "laws");
        assert_eq!(decide(&policy, &label("history", 0.49)), None);
        assert_eq!(decide(&policy, &label("biology", 1.0)), None);
    }
}
