//! Owns which language a text is written in: by its script where that decides, else by the n-grams of its words' letters.
//! Refuses to know requests, policies and what a language is good for.
//!
//! A text is sampled, not read: as much as makes a language sure, from its start, its end and places between. What the
//! detector isn't sure of has no language.

#![forbid(unsafe_code)]

mod sample;
mod script;
mod table;
mod words;

use sample::TextSample;
use script::Script;

/// The least confidence at which a text is said to be in a language.
const LEAST_CONFIDENCE: f32 = 0.5;

/// The language of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectedLanguage {
    /// ISO 639-1.
    pub code: &'static str,
    /// How likely the language is right, from 0 to 1; at least 0.5 where [`detect`] says so.
    pub confidence: f32,
}

/// Detects the language of a text. Program text, identifiers, addresses and numbers have none, nor have words that several
/// languages share.
///
/// Looks at a kilobyte at most, whatever the text's length.
pub fn detect(text: &str) -> Option<DetectedLanguage> {
    likeliest(text).filter(|found| found.confidence >= LEAST_CONFIDENCE)
}

/// Gives the likeliest language of a text, however unsure that is; none where there are no letters, or what is likeliest
/// is no language.
pub fn likeliest(text: &str) -> Option<DetectedLanguage> {
    let mut sample = TextSample::of(text);
    let (script, share) = sample.main_script()?;
    let (code, likely) = sample.language(script)?;
    (!code.is_empty()).then_some(DetectedLanguage { code, confidence: likely * share })
}

/// Says whether a text has so many letters of scripts other than Latin, anywhere in it.
pub fn has_other_scripts(text: &str, letters: usize) -> bool {
    let is_other = |letter: &char| Script::of(*letter).is_some_and(|script| script != Script::Latin);
    !text.is_ascii()
        && text
            .chars()
            .filter(|letter| *letter >= '\u{370}')
            .filter(is_other)
            .nth(letters.saturating_sub(1))
            .is_some()
}

/// Gives the languages that can be detected, by ISO 639-1.
pub fn detectable() -> impl Iterator<Item = &'static str> {
    table::languages().chain(script::BY_SCRIPT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    fn code(text: &str) -> Option<&'static str> {
        detect(text).map(|found| found.code)
    }

    #[derive(Deserialize)]
    struct Prompt {
        text: String,
        /// ISO 639-1; empty for what is no language.
        label: String,
    }

    /// What a detector made of prompts: how many it got right, wrong, or was unsure of.
    #[derive(Debug, Default)]
    struct Tally {
        right: usize,
        wrong: usize,
        unsure: usize,
    }

    fn prompts() -> BTreeMap<String, Tally> {
        let mut all: BTreeMap<String, Tally> = BTreeMap::new();
        for line in include_str!("../../tests/eval/language.jsonl").lines() {
            let Prompt { text, label } = serde_json::from_str(line).unwrap();
            let found = code(&text);
            let tally = all.entry(label.clone()).or_default();
            match found {
                Some(found) if found == label => tally.right += 1,
                // Keywords and names of program text are English.
                Some("en") if label.is_empty() => tally.unsure += 1,
                Some(found) => {
                    println!("{label}, not {found}: {text}");
                    tally.wrong += 1;
                }
                None => tally.unsure += 1,
            }
        }
        all
    }

    #[test]
    fn short_prompts_are_in_their_language_or_in_none() {
        let all = prompts();
        let sum = |of: fn(&Tally) -> usize| all.values().map(of).sum::<usize>();
        let languages =
            sum(|tally| tally.right + tally.wrong + tally.unsure) - all[""].unsure - all[""].wrong;
        assert!(sum(|tally| tally.wrong) * 100 <= languages * 2, "{all:?}");
        assert!(sum(|tally| tally.right) * 100 >= languages * 80, "{all:?}");
    }

    #[test]
    fn english_and_program_text_are_no_other_language() {
        let all = prompts();
        assert_eq!((all["en"].wrong, all[""].wrong), (0, 0));
        assert_eq!(code("Hello, how are you?"), Some("en"));
        assert_eq!(code("Explain quicksort in C++"), Some("en"));
    }

    #[test]
    fn a_script_that_one_language_has_decides() {
        for (text, language) in [
            ("Πώς είσαι;", "el"),
            ("რატომ არის ცა ლურჯი?", "ka"),
            ("Ինչու է երկինքը կապույտ", "hy"),
            ("আকাশ নীল কেন", "bn"),
            ("ஏன் வானம் நீலமாக இருக்கிறது", "ta"),
            ("למה השמיים כחולים?", "he"),
            ("װאָס איז דער חילוק", "yi"),
            ("ሰማይ ለምን ሰማያዊ ነው", "am"),
            ("ကောင်းကင်ဘာလို့ပြာတာလဲ", "my"),
            ("ហេតុអ្វីបានជាមេឃពណ៌ខៀវ", "km"),
        ] {
            assert_eq!(code(text), Some(language), "{text}");
        }
    }

    #[test]
    fn technical_terms_do_not_hide_the_language_around_them() {
        assert_eq!(code("Объясни мне, как работает quicksort на Rust"), Some("ru"));
        assert_eq!(code("请用Python写一个quicksort"), Some("zh"));
        assert_eq!(code("What does 你好 mean in English, and how is it said?"), Some("en"));
    }

    #[test]
    fn what_has_no_letters_has_no_language() {
        for text in ["", "   ", "12345 + 67", "?!", "\u{1F600}", "x"] {
            assert_eq!(code(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_text_is_sampled_from_both_ends() {
        let filler = "0123456789 ".repeat(10_000);
        let german = "Bitte fasse die Zahlen in einem kurzen Absatz auf Deutsch zusammen.";
        assert_eq!(code(&format!("{german}\n{filler}")), Some("de"));
        assert_eq!(code(&format!("{filler}\n{german}")), Some("de"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_detector(text in "\\PC{0,200}", repeat in 1..80_usize) {
            let confidence = detect(&text.repeat(repeat)).map_or(1.0, |found| found.confidence);
            prop_assert!((0.5..=1.0).contains(&confidence));
        }
    }
}
