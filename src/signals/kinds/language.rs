//! The `language` signal: which language the prompt is written in, by its letters and their trigrams.
//!
//! Short texts, names and code are recognised badly, and the score says so: it is the detector's own confidence.

use crate::classify::Unknown;
use crate::policy::LanguageSignal;
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{RequestDetector, SignalDetector, SignalSpec};
use crate::signals::request::RequestView;
use crate::signals::value::{SignalReason, SignalValue};

/// How much of a text is looked at, in bytes; more makes no language surer.
const MAX_READ: usize = 4096;

/// ISO 639-3 to ISO 639-1, by the former; macrolanguages stand for the languages that the detector knows of them.
#[rustfmt::skip]
const CODES: [(&str, &str); 70] = [
    ("afr", "af"), ("aka", "ak"), ("amh", "am"), ("ara", "ar"), ("aze", "az"), ("bel", "be"),
    ("ben", "bn"), ("bul", "bg"), ("cat", "ca"), ("ces", "cs"), ("cmn", "zh"), ("cym", "cy"),
    ("dan", "da"), ("deu", "de"), ("ell", "el"), ("eng", "en"), ("epo", "eo"), ("est", "et"),
    ("fin", "fi"), ("fra", "fr"), ("guj", "gu"), ("heb", "he"), ("hin", "hi"), ("hrv", "hr"),
    ("hun", "hu"), ("hye", "hy"), ("ind", "id"), ("ita", "it"), ("jav", "jv"), ("jpn", "ja"),
    ("kan", "kn"), ("kat", "ka"), ("khm", "km"), ("kor", "ko"), ("lat", "la"), ("lav", "lv"),
    ("lit", "lt"), ("mal", "ml"), ("mar", "mr"), ("mkd", "mk"), ("mya", "my"), ("nep", "ne"),
    ("nld", "nl"), ("nob", "nb"), ("ori", "or"), ("pan", "pa"), ("pes", "fa"), ("pol", "pl"),
    ("por", "pt"), ("ron", "ro"), ("rus", "ru"), ("sin", "si"), ("slk", "sk"), ("slv", "sl"),
    ("sna", "sn"), ("spa", "es"), ("srp", "sr"), ("swe", "sv"), ("tam", "ta"), ("tel", "te"),
    ("tgl", "tl"), ("tha", "th"), ("tuk", "tk"), ("tur", "tr"), ("ukr", "uk"), ("urd", "ur"),
    ("uzb", "uz"), ("vie", "vi"), ("yid", "yi"), ("zul", "zu"),
];

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
        Ok(value(self, found.as_ref()))
    }
}

fn detect(text: &str) -> Option<whatlang::Info> {
    whatlang::detect(&text[..text.floor_char_boundary(MAX_READ)])
}

/// Languages are named by ISO 639-1 or ISO 639-3; Bokmål is also called Norwegian.
fn value(signal: &LanguageSignal, found: Option<&whatlang::Info>) -> SignalValue {
    let Some(found) = found else {
        return SignalValue::plain(false, SignalReason::Text("no language".into()));
    };
    let (long, share) = (found.lang().code(), found.confidence() as f32);
    let code = short(long).unwrap_or(long);
    let is_one = signal.any.iter().any(|wanted| names(wanted, long));
    SignalValue {
        score: if is_one { share } else { 0.0 },
        matches: is_one && share >= signal.min_score.fraction(),
        reason: SignalReason::Class { class: code, share },
    }
}

/// Says whether a code names the language of this ISO 639-3 code.
fn names(wanted: &str, long: &str) -> bool {
    wanted == long || Some(wanted) == short(long) || (wanted == "no" && long == "nob")
}

fn short(long: &str) -> Option<&'static str> {
    let place = CODES.binary_search_by_key(&long, |(long, _)| long).ok()?;
    Some(CODES[place].1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whatlang::Lang;

    use super::*;
    use crate::policy::BasisPoints;

    fn read(text: &str, any: &[&str], min_score: u16) -> SignalValue {
        let any = any.iter().map(|code| (*code).to_owned()).collect();
        value(&LanguageSignal { any, min_score: BasisPoints(min_score) }, detect(text).as_ref())
    }

    #[test]
    fn every_language_of_the_detector_has_two_letters() {
        for language in Lang::all() {
            assert!(short(language.code()).is_some(), "{language}");
        }
        assert!(CODES.is_sorted());
    }

    #[test]
    fn a_language_has_its_two_letters_and_its_three() {
        for wanted in ["nb", "no", "nob"] {
            assert!(names(wanted, "nob") && !names(wanted, "dan"), "{wanted}");
        }
        assert!(names("xyz", "xyz"), "a language without two letters has three");
    }

    #[test]
    fn a_text_is_in_its_language_by_either_code() {
        for (text, code, other) in [
            ("Pourriez-vous m'expliquer comment fonctionne la photosynthèse dans les plantes ?", "fr", "fra"),
            ("Wie funktioniert die Photosynthese in Pflanzen, und warum ist sie so wichtig?", "de", "deu"),
            ("Could you please explain to me how photosynthesis works inside of plants?", "en", "eng"),
            ("请解释一下植物的光合作用是如何进行的", "zh", "cmn"),
            ("植物の光合成がどのように行われるか説明してください", "ja", "jpn"),
        ] {
            for code in [code, other] {
                let reading = read(text, &["xx", code], 3000);
                assert!(reading.matches, "{code}: {}", reading.reason);
            }
            assert!(!read(text, &["xx"], 0).matches);
        }
    }

    #[test]
    fn what_has_no_letters_has_no_language() {
        for text in ["", "   ", "12345 + 67", "?!", "\u{1F600}"] {
            let reading = read(text, &["en"], 0);
            assert_eq!(
                (reading.matches, reading.reason.to_string().as_str()),
                (false, "no language"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_unsure_language_does_not_match() {
        let reading = read("I am begging pardon", &["en", "tl"], 10_000);
        assert!(!reading.matches && reading.score < 1.0, "{}", reading.reason);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_detector(text in "\\PC{0,200}", repeat in 1..80_usize) {
            let reading = read(&text.repeat(repeat), &["en"], 5000);
            prop_assert!((0.0..=1.0).contains(&reading.score));
        }
    }
}
