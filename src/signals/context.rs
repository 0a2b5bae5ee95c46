//! The `context` signal: how many tokens the request's texts have together.

use super::embeddings::ExampleEmbeddings;
use super::inputs::SignalInputs;
use super::kind::{RequestDetector, SignalDetector, SignalSpec};
use super::request::RequestView;
use super::value::SignalValue;
use crate::classify::Unknown;
use crate::policy::ContextSignal;

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
