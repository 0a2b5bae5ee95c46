//! Owns the choice of a decision: what is known about a request against the operator's rules, pure and total.
//!
//! Knows nothing of how a label came about, nor of what becomes of the decision.

use crate::classify::Label;
use crate::policy::{Decision, Policy};

/// The first decision, by priority, that wants the label's domain and is content with its confidence.
pub fn decide<'policy>(policy: &'policy Policy, label: &Label) -> Option<&'policy Decision> {
    policy.decisions.iter().find(|decision| {
        decision.domains.iter().any(|domain| **domain == *label.name)
            && label.confidence >= decision.min_confidence.fraction()
    })
}
