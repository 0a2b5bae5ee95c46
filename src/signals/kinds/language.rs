//! The `language` signal: which language the prompt is written in.
//!
//! What the detector isn't sure of has no language; else the score is its confidence.

use crate::classify::Unknown;
use crate::language::{DetectedLanguage, detect};
use crate::policy::LanguageSignal;
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{RequestDetector, SignalDetector, SignalSpec};
use crate::signals::request::RequestView;
use crate::signals::value::{SignalReason, SignalValue};

impl SignalSpec for LanguageSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::NONE
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Request(Box::new(self.clone())))
    }
}

impl RequestDetector for LanguageSignal {
    fn evaluate(&self, request: &RequestView<'_>) -> Result<SignalValue, Unknown> {
        let found = request.language.get_or_init(|| detect(request.texts.prompt()));
        Ok(value(self, *found))
    }
}

fn value(signal: &LanguageSignal, found: Option<DetectedLanguage>) -> SignalValue {
    let Some(DetectedLanguage { code, confidence }) = found else {
        return SignalValue::plain(false, SignalReason::Text("no language".into()));
    };
    let is_one = signal.any.iter().any(|wanted| wanted == code);
    SignalValue {
        score: if is_one { confidence } else { 0.0 },
        matches: is_one && confidence >= signal.min_score.fraction(),
        reason: SignalReason::Class { class: code, share: confidence },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::language::detectable;
    use crate::policy::{BasisPoints, LANGUAGES};

    fn read(found: Option<DetectedLanguage>, any: &[&str], min_score: u16) -> SignalValue {
        let any = any.iter().map(|code| (*code).to_owned()).collect();
        value(&LanguageSignal { any, min_score: BasisPoints(min_score) }, found)
    }

    #[test]
    fn policies_name_what_can_be_detected() {
        let named: BTreeSet<&str> = LANGUAGES.iter().map(|(code, _)| *code).collect();
        assert_eq!(named, detectable().collect());
    }

    #[test]
    fn a_language_matches_from_its_least_confidence_on() {
        let found = Some(DetectedLanguage { code: "fr", confidence: 0.8 });
        assert!(read(found, &["de", "fr"], 8000).matches);
        assert!(!read(found, &["de", "fr"], 8001).matches);
        assert!(!read(found, &["de"], 0).matches);
    }

    #[test]
    fn what_has_no_language_matches_none() {
        let reading = read(None, &["en"], 0);
        assert_eq!((reading.matches, reading.reason.to_string().as_str()), (false, "no language"));
    }
}
