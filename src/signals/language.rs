//! Which language a text is written in, told from its letters and their triples.
//!
//! Short texts, names and code are told badly, and the score says so: it is the detector's own confidence.

use super::value::{SignalReason, SignalValue};

/// How much of a text is looked at, in bytes; more makes no language surer.
const READ: usize = 4096;

/// ISO 639-3 to ISO 639-1, by the former; macrolanguages stand for the languages that are told apart in them.
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

/// Reads a signal of languages, by ISO 639-1 or ISO 639-3; Bokmål is also called Norwegian.
pub(super) fn read(text: &str, any: &[String], least: f32) -> SignalValue {
    let Some(found) = whatlang::detect(&text[..text.floor_char_boundary(READ)]) else {
        return SignalValue::plain(false, SignalReason::Text("no language".into()));
    };
    let (long, share) = (found.lang().code(), found.confidence() as f32);
    let code = short(long).unwrap_or(long);
    let is_one = any.iter().any(|wanted| names(wanted, long));
    SignalValue {
        score: if is_one { share } else { 0.0 },
        matches: is_one && share >= least,
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

    fn any(codes: &[&str]) -> Vec<String> {
        codes.iter().map(|code| (*code).to_owned()).collect()
    }

    #[test]
    fn every_language_that_is_told_has_two_letters() {
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
                let reading = read(text, &any(&["xx", code]), 0.3);
                assert!(reading.matches, "{code}: {}", reading.reason);
            }
            assert!(!read(text, &any(&["xx"]), 0.0).matches);
        }
    }

    #[test]
    fn what_has_no_letters_has_no_language() {
        for text in ["", "   ", "12345 + 67", "?!", "\u{1F600}"] {
            let reading = read(text, &any(&["en"]), 0.0);
            assert_eq!(
                (reading.matches, reading.reason.to_string().as_str()),
                (false, "no language"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_unsure_language_does_not_match() {
        let reading = read("I am begging pardon", &any(&["en", "tl"]), 1.0);
        assert!(!reading.matches && reading.score < 1.0, "{}", reading.reason);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_detector(text in "\\PC{0,200}", repeat in 1..80_usize) {
            let reading = read(&text.repeat(repeat), &any(&["en"]), 0.5);
            prop_assert!((0.0..=1.0).contains(&reading.score));
        }
    }
}
