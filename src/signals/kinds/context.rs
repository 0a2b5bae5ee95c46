//! The `context` signal: how many tokens the request's texts have together.

use crate::classify::Unknown;
use crate::policy::ContextSignal;
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{RequestDetector, SignalDetector, SignalSpec};
use crate::signals::request::RequestView;
use crate::signals::value::SignalValue;

impl SignalSpec for ContextSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs { all_texts: true, ..SignalInputs::NONE }
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Request(Box::new(self.clone())))
    }
}

impl RequestDetector for ContextSignal {
    fn evaluate(&self, request: &RequestView<'_>) -> Result<SignalValue, Unknown> {
        request.token_count().within(self, |text| request.classifier.count_tokens(text))
    }
}
