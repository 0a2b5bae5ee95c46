//! Owns the signal `language` and the codes by which languages are named. Refuses to know how languages are recognised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SignalFields;
use crate::BasisPoints;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// The languages that can be named: ISO 639-1, then every other code that means it, ISO 639-3 first. Languages that a
/// detector can't tell from one go by its code.
#[rustfmt::skip]
pub const LANGUAGES: [(&str, &[&str]); 81] = [
    ("af", &["afr"]), ("am", &["amh"]), ("ar", &["ara", "arb"]), ("az", &["aze", "azj"]), ("be", &["bel"]),
    ("bg", &["bul"]), ("bn", &["ben"]), ("bo", &["bod"]), ("ca", &["cat"]), ("cs", &["ces"]),
    ("cy", &["cym"]), ("da", &["dan"]), ("de", &["deu"]), ("el", &["ell"]), ("en", &["eng"]),
    ("eo", &["epo"]), ("es", &["spa"]), ("et", &["est", "ekk"]), ("eu", &["eus"]), ("fa", &["fas", "pes"]),
    ("fi", &["fin"]), ("fr", &["fra"]), ("ga", &["gle"]), ("gl", &["glg"]), ("gu", &["guj"]),
    ("he", &["heb"]), ("hi", &["hin"]), ("hr", &["hrv", "bs", "bos", "sh", "hbs"]), ("hu", &["hun"]),
    ("hy", &["hye"]), ("id", &["ind"]), ("is", &["isl"]), ("it", &["ita"]), ("ja", &["jpn"]),
    ("ka", &["kat"]), ("kk", &["kaz"]), ("km", &["khm"]), ("kn", &["kan"]), ("ko", &["kor"]),
    ("la", &["lat"]), ("lo", &["lao"]), ("lt", &["lit"]), ("lv", &["lav", "lvs"]), ("mk", &["mkd"]),
    ("ml", &["mal"]), ("mn", &["mon", "khk"]), ("mr", &["mar"]), ("ms", &["msa", "zsm"]), ("mt", &["mlt"]),
    ("my", &["mya"]), ("nb", &["nob", "no", "nor", "nn", "nno"]), ("ne", &["nep", "npi"]), ("nl", &["nld"]),
    ("or", &["ori", "ory"]), ("pa", &["pan"]), ("pl", &["pol"]), ("pt", &["por"]), ("ro", &["ron", "mo"]),
    ("ru", &["rus"]), ("si", &["sin"]), ("sk", &["slk"]), ("sl", &["slv"]), ("sn", &["sna"]),
    ("so", &["som"]), ("sq", &["sqi", "als"]), ("sr", &["srp"]), ("sv", &["swe"]), ("sw", &["swa", "swh"]),
    ("ta", &["tam"]), ("te", &["tel"]), ("th", &["tha"]), ("tl", &["tgl", "fil"]), ("tr", &["tur"]),
    ("uk", &["ukr"]), ("ur", &["urd"]), ("uz", &["uzb", "uzn"]), ("vi", &["vie"]), ("yi", &["yid", "ydd"]),
    ("yo", &["yor"]), ("zh", &["zho", "cmn"]), ("zu", &["zul"]),
];

/// The language of the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LanguageSignal {
    /// The languages of which one must be the prompt's, by ISO 639-1 such as `en`, or 639-3; once checked by the former.
    #[schemars(length(min = 1, max = 100), inner(length(min = 2, max = 3)))]
    pub any: Vec<String>,
    /// The least confidence.
    #[serde(default = "half")]
    pub min_score: BasisPoints,
}

fn half() -> BasisPoints {
    BasisPoints(5000)
}

impl SignalFields for LanguageSignal {
    type Raw = Self;

    fn check(mut raw: Self, path: &YamlPath, _: &PolicyContext<'_>, checker: &mut Checker<'_>) -> Self {
        for (at, code) in raw.any.iter_mut().enumerate() {
            match named(&code.to_lowercase()) {
                Some(short) => short.clone_into(code),
                None => refuse(&path.key("any").index(at), code, checker),
            }
        }
        raw
    }
}

/// Finds the language of a code in lower case, by ISO 639-1.
pub(crate) fn named(code: &str) -> Option<&'static str> {
    LANGUAGES.iter().find(|(short, others)| *short == code || others.contains(&code)).map(|(short, _)| *short)
}

fn refuse(path: &YamlPath, code: &str, checker: &mut Checker<'_>) {
    let known: Vec<&str> = LANGUAGES.iter().map(|(short, _)| *short).collect();
    checker
        .issue(path, format!("no language that can be detected is `{code}`; those are {}", known.join(", ")));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_code_names_one_language() {
        let all: Vec<&str> = LANGUAGES
            .iter()
            .flat_map(|(short, others)| std::iter::once(short).chain(*others))
            .copied()
            .collect();
        assert_eq!(all.len(), all.iter().collect::<HashSet<_>>().len());
        for code in ["nb", "no", "nob"] {
            assert_eq!(named(code), Some("nb"));
        }
        assert_eq!(named("tlh"), None);
    }
}
