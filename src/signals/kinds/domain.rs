//! The `domain` signal: the prompt is about one of some domains.

use std::sync::Arc;

use crate::classify::{ClassifyHeads, Label, Unknown};
use crate::policy::{DomainSignal, Policy, Scope, SignalId, SignalKind};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::findings::ClassifierFindings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{LearnedDetector, SignalDetector, SignalSpec};
use crate::signals::value::{SignalReason, SignalValue, Signals};

impl SignalSpec for DomainSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::asked(ClassifyHeads::DOMAIN, Scope::Prompt)
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Learned(Box::new(self.clone())))
    }
}

impl LearnedDetector for DomainSignal {
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown> {
        let label = found.prompt.domain.as_ref().ok_or(Unknown::Unsupported)?;
        label.as_ref().map(|label| value(self, label)).map_err(|unknown| *unknown)
    }
}

fn value(signal: &DomainSignal, label: &Label) -> SignalValue {
    let is_one = signal.any.iter().any(|domain| **domain == *label.name);
    SignalValue {
        score: if is_one { label.confidence } else { 0.0 },
        matches: is_one && label.confidence >= signal.min_score.fraction(),
        reason: SignalReason::Label { label: Arc::clone(&label.name), confidence: label.confidence },
    }
}

impl Signals {
    /// Evaluates the signals of domains, and no others, by what a prompt is about.
    pub fn from_domain(policy: &Policy, label: &Result<Label, Unknown>) -> Self {
        let mut signals = Self::empty(policy.signals.len());
        for (id, signal) in policy.signals.iter().enumerate() {
            if let SignalKind::Domain(domain) = &signal.kind {
                let value = label.as_ref().map(|label| value(domain, label));
                signals = signals.with(SignalId(id), value.map_err(|unknown| *unknown));
            }
        }
        signals
    }
}
