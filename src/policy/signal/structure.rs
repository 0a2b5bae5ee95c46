//! Owns the signal `structure`. Refuses to know how patterns are matched.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CountRange, SignalFields};
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// The largest program that a pattern may become, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Patterns in the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StructureSignal {
    /// What is measured.
    pub measure: Measure,
    /// At least, in thousandths.
    pub min_milli: u64,
    /// At most, in thousandths.
    pub max_milli: u64,
}

/// What is measured of patterns in a text; each is a regular expression that compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// How often it matches.
    Count(String),
    /// How often it matches in 1,000 characters.
    Density(String),
    /// How often they match one after the other.
    Sequence(Vec<String>),
}

/// Patterns in the prompt; exactly one of `count`, `density` and `sequence`.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "StructureSignal")]
pub(super) struct RawStructureSignal {
    /// A regular expression whose matches are counted.
    #[schemars(length(min = 1, max = 4096))]
    count: Option<String>,
    /// A regular expression whose matches in 1,000 characters are counted.
    #[schemars(length(min = 1, max = 4096))]
    density: Option<String>,
    /// Regular expressions that must match one after the other.
    #[schemars(length(max = 32), inner(length(min = 1, max = 4096)))]
    sequence: Vec<String>,
    /// At least so many; 1 without either bound.
    #[schemars(range(min = 0.0, max = 1e9))]
    min: Option<f64>,
    /// At most so many.
    #[schemars(range(min = 0.0, max = 1e9))]
    max: Option<f64>,
}

impl SignalFields for StructureSignal {
    type Raw = RawStructureSignal;

    fn check(raw: Self::Raw, path: &YamlPath, _: &PolicyContext<'_>, checker: &mut Checker<'_>) -> Self {
        let single = [("count", &raw.count), ("density", &raw.density)];
        for (key, pattern) in single.into_iter().filter_map(|(key, pattern)| Some((key, pattern.as_ref()?))) {
            check_pattern(pattern, &path.key(key), checker);
        }
        for (index, pattern) in raw.sequence.iter().enumerate() {
            check_pattern(pattern, &path.key("sequence").index(index), checker);
        }
        let sequence = Some(raw.sequence).filter(|patterns| !patterns.is_empty());
        let measures = [
            raw.count.map(Measure::Count),
            raw.density.map(Measure::Density),
            sequence.map(Measure::Sequence),
        ];
        let mut measures = measures.into_iter().flatten();
        let measure = measures.next();
        if measure.is_none() || measures.next().is_some() {
            checker.issue(path, "needs exactly one of `count`, `density` and `sequence`");
        }
        let milli = |bound: f64| (bound * 1000.0).round() as u64;
        let CountRange { min, max } =
            CountRange::check(raw.min.map(milli), raw.max.map(milli), 1000, path, checker);
        let measure = measure.unwrap_or(Measure::Sequence(Vec::new()));
        Self { measure, min_milli: min, max_milli: max }
    }
}

fn check_pattern(pattern: &str, path: &YamlPath, checker: &mut Checker<'_>) {
    if let Err(error) = regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build() {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        checker.issue(path, format!("not a regular expression: {last}"));
    }
}
