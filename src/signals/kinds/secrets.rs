//! The `secrets` signal: a text holds keys, tokens or passwords.

use crate::policy::{PiiSignal, SecretsSignal};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{SignalDetector, SignalSpec};

/// They are looked for as personal data is, and only their kinds count.
fn as_pii(spec: &SecretsSignal) -> PiiSignal {
    PiiSignal { kinds: spec.kinds(), min_score: None, scope: spec.scope }
}

impl SignalSpec for SecretsSignal {
    fn inputs(&self) -> SignalInputs {
        as_pii(self).inputs()
    }

    fn detector(&self, embeddings: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        as_pii(self).detector(embeddings)
    }
}
