//! The `metadata` signal: what the body's `metadata` says, where only strings, numbers and booleans count as values.

use crate::classify::Unknown;
use crate::openai::ChatRequest;
use crate::policy::{MetadataSignal, MetadataTest};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{RequestDetector, SignalDetector, SignalSpec};
use crate::signals::request::RequestView;
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for MetadataSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::NONE
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Request(Box::new(self.clone())))
    }
}

impl RequestDetector for MetadataSignal {
    fn evaluate(&self, request: &RequestView<'_>) -> Result<SignalValue, Unknown> {
        Ok(value(self, request.request))
    }
}

/// The reason never shows a value, which is the client's.
fn value(signal: &MetadataSignal, request: &ChatRequest) -> SignalValue {
    let value = request.metadata(&signal.key);
    let (matches, reason) = match (&signal.test, &value) {
        (MetadataTest::In(values), Some(value)) => {
            let is_one = values.iter().any(|known| known == value);
            (is_one, if is_one { "one of the values" } else { "another value" })
        }
        (MetadataTest::In(_), None) => (false, "absent"),
        (MetadataTest::Present, value) => (value.is_some(), presence(value.is_some())),
        (MetadataTest::Absent, value) => (value.is_none(), presence(value.is_some())),
    };
    SignalValue::plain(matches, SignalReason::Text(reason.into()))
}

fn presence(is_there: bool) -> &'static str {
    if is_there { "present" } else { "absent" }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn metadata_is_one_of_some_values_or_is_there_or_is_not() {
        let body = r#"{"model":"m","metadata":{"plan":"gold","n":3,"deep":{}}}"#;
        let gold = ChatRequest::parse(Bytes::from(body)).unwrap();
        let one_of =
            |values: &[&str]| MetadataTest::In(values.iter().map(|value| (*value).to_owned()).collect());
        let of = |key: &str, test: MetadataTest| value(&MetadataSignal { key: key.to_owned(), test }, &gold);
        assert!(of("plan", one_of(&["silver", "gold"])).matches);
        assert!(!of("plan", one_of(&["silver"])).matches);
        assert!(of("n", one_of(&["3"])).matches);
        assert!(of("plan", MetadataTest::Present).matches);
        assert!(of("deep", MetadataTest::Absent).matches);
        let absent = of("other", one_of(&["x"]));
        assert_eq!((absent.matches, absent.reason.to_string().as_str()), (false, "absent"));
        let secret = of("plan", one_of(&["silver"])).reason.to_string();
        assert!(!secret.contains("gold"), "{secret}");
    }
}
