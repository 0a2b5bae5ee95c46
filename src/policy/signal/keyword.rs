//! Owns the signal `keyword`. Refuses to know how words are found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, SignalFields};
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// Words and phrases and how they are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keywords {
    /// The words and phrases; never empty.
    pub words: Vec<String>,
    /// How many of them must occur.
    pub need: Need,
    /// Whether upper and lower case differ.
    pub case: Case,
    /// How many letters of a word may differ.
    pub max_edits: u8,
    /// Which texts are looked at.
    pub scope: Scope,
}

/// How many of several words must occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// One.
    Any,
    /// Each.
    All,
    /// None.
    None,
}

/// Whether upper and lower case differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They do.
    Sensitive,
    /// They do not.
    Ignored,
}

/// Words and phrases; exactly one of `any`, `all` and `none`.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "KeywordSignal")]
pub(super) struct RawKeywords {
    /// One of these must occur.
    #[schemars(length(max = 10_000), inner(length(min = 1, max = 256)))]
    any: Vec<String>,
    /// Each of these must occur.
    #[schemars(length(max = 10_000), inner(length(min = 1, max = 256)))]
    all: Vec<String>,
    /// None of these may occur.
    #[schemars(length(max = 10_000), inner(length(min = 1, max = 256)))]
    none: Vec<String>,
    /// Whether upper and lower case differ.
    case_sensitive: bool,
    /// How many letters a word of the text may differ in, by insertion, removal or exchange.
    #[schemars(range(max = 3))]
    max_edits: u8,
    /// Which texts are looked at.
    scope: Scope,
}

impl SignalFields for Keywords {
    type Raw = RawKeywords;

    fn check(raw: Self::Raw, path: &YamlPath, _: &PolicyContext<'_>, checker: &mut Checker<'_>) -> Self {
        let lists = [(Need::Any, raw.any), (Need::All, raw.all), (Need::None, raw.none)];
        let mut given = lists.into_iter().filter(|(_, words)| !words.is_empty());
        let first = given.next();
        if first.is_none() || given.next().is_some() {
            checker.issue(path, "needs exactly one of `any`, `all` and `none`");
        }
        let (need, words) = first.unwrap_or((Need::Any, Vec::new()));
        if let Some(blank) = words.iter().position(|word| word.trim().is_empty()) {
            checker.issue(&path.index(blank), "a keyword must not be blank");
        }
        let case = if raw.case_sensitive { Case::Sensitive } else { Case::Ignored };
        Self { words, need, case, max_edits: raw.max_edits, scope: raw.scope }
    }
}
