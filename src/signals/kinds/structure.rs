//! The `structure` signal: how often patterns occur in the prompt, as a count, per thousand characters, or one after
//! the other.
//!
//! One search is linear in the text, but a pattern that looks far ahead for the better of two matches can make every
//! search walk the whole rest: a signal that takes longer than [`BUDGET`] is given up as late.

use std::time::{Duration, Instant};

use regex::Regex;

use crate::classify::Unknown;
use crate::policy::{MAX_PATTERN_BYTES, Measure, StructureSignal};
use crate::signals::embeddings::ExampleEmbeddings;
use crate::signals::inputs::SignalInputs;
use crate::signals::kind::{RequestDetector, SignalDetector, SignalSpec};
use crate::signals::request::RequestView;
use crate::signals::value::{SignalReason, SignalValue};

/// How long the patterns of one signal may take on one text; checked between two matches.
const BUDGET: Duration = Duration::from_millis(25);

/// After how many matches the clock is looked at.
const MATCHES_A_LOOK: u64 = 16;

impl SignalSpec for StructureSignal {
    fn inputs(&self) -> SignalInputs {
        SignalInputs::NONE
    }

    fn detector(&self, _: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error> {
        Ok(SignalDetector::Request(Box::new(StructureDetector::new(self)?)))
    }
}

#[derive(Debug)]
struct StructureDetector {
    measure: CompiledMeasure,
    /// Bounds in thousandths.
    min_milli: u64,
    max_milli: u64,
}

#[derive(Debug)]
enum CompiledMeasure {
    /// Counts matches that do not overlap.
    Count(Regex),
    /// The same for each 1,000 characters.
    Density(Regex),
    /// Counts how often one match follows the other, all through.
    Sequence(Vec<Regex>),
}

impl RequestDetector for StructureDetector {
    fn evaluate(&self, request: &RequestView<'_>) -> Result<SignalValue, Unknown> {
        self.measure(request.texts.prompt(), Instant::now() + BUDGET)
    }
}

impl StructureDetector {
    fn new(signal: &StructureSignal) -> Result<Self, regex::Error> {
        let compiled =
            |pattern: &String| regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build();
        let measure = match &signal.measure {
            Measure::Count(pattern) => CompiledMeasure::Count(compiled(pattern)?),
            Measure::Density(pattern) => CompiledMeasure::Density(compiled(pattern)?),
            Measure::Sequence(patterns) => {
                CompiledMeasure::Sequence(patterns.iter().map(compiled).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { measure, min_milli: signal.min_milli, max_milli: signal.max_milli })
    }

    /// Measures a text; late once `deadline` has passed.
    fn measure(&self, text: &str, deadline: Instant) -> Result<SignalValue, Unknown> {
        let (what, milli) = match &self.measure {
            CompiledMeasure::Count(pattern) => {
                ("matches", count(pattern, text, deadline)?.saturating_mul(1000))
            }
            CompiledMeasure::Density(pattern) => {
                // Most texts are ASCII, which is seen in a fraction of the time.
                let characters = if text.is_ascii() { text.len() } else { text.chars().count() };
                let characters = characters.max(1) as u64;
                let count = count(pattern, text, deadline)?;
                ("matches in 1000 characters", count.saturating_mul(1_000_000) / characters)
            }
            CompiledMeasure::Sequence(patterns) => {
                ("sequences", rounds(patterns, text, deadline)?.saturating_mul(1000))
            }
        };
        let reason = SignalReason::Measured { what, value: milli as f64 / 1000.0 };
        Ok(SignalValue::plain((self.min_milli..=self.max_milli).contains(&milli), reason))
    }
}

fn in_time(done: u64, deadline: Instant) -> Result<(), Unknown> {
    let looks = done.is_multiple_of(MATCHES_A_LOOK);
    if looks && Instant::now() >= deadline { Err(Unknown::Late) } else { Ok(()) }
}

fn count(pattern: &Regex, text: &str, deadline: Instant) -> Result<u64, Unknown> {
    in_time(0, deadline)?;
    let mut count = 0;
    for _ in pattern.find_iter(text) {
        count += 1;
        in_time(count, deadline)?;
    }
    Ok(count)
}

/// Counts how often all the patterns follow one another; no two rounds share a byte.
fn rounds(patterns: &[Regex], text: &str, deadline: Instant) -> Result<u64, Unknown> {
    in_time(0, deadline)?;
    let (mut rounds, mut at) = (0, 0);
    if patterns.is_empty() {
        return Ok(0);
    }
    loop {
        let start = at;
        for pattern in patterns {
            match pattern.find_at(text, at) {
                Some(found) => at = found.end(),
                None => return Ok(rounds),
            }
        }
        rounds += 1;
        in_time(rounds, deadline)?;
        if at == start {
            // Nothing but empty matches: the next round begins a character later.
            let Some(next) = text[at..].chars().next() else { return Ok(rounds) };
            at += next.len_utf8();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn detector(measure: &Measure, min_milli: u64, max_milli: u64) -> StructureDetector {
        StructureDetector::new(&StructureSignal { measure: measure.clone(), min_milli, max_milli }).unwrap()
    }

    /// Measures in thousandths.
    fn milli(measure: &Measure, text: &str) -> u64 {
        match detector(measure, 0, u64::MAX).measure(text, soon()).unwrap().reason {
            SignalReason::Measured { value, .. } => (value * 1000.0).round() as u64,
            other => panic!("{other}"),
        }
    }

    fn counted(pattern: &str, text: &str) -> u64 {
        milli(&Measure::Count(pattern.into()), text) / 1000
    }

    fn sequence(patterns: &[&str]) -> Measure {
        Measure::Sequence(patterns.iter().map(|pattern| (*pattern).to_owned()).collect())
    }

    #[test]
    fn matches_are_counted_per_text_or_per_thousand_characters() {
        assert_eq!(counted(r"\?", "why? how? é?"), 3);
        assert_eq!(counted(r"\b\w+\b", "two words"), 2);
        assert_eq!(counted("(?i)CODE", "Code, code"), 2);
        assert_eq!(counted("", "ab"), 3);
        assert_eq!(milli(&Measure::Density("é".into()), "éaaaaaaaaa"), 100_000);
        assert_eq!(milli(&Measure::Density("a".into()), ""), 0);
    }

    #[test]
    fn a_sequence_counts_how_often_all_its_patterns_follow_one_another() {
        let steps = sequence(&["first", "then", "finally"]);
        assert_eq!(milli(&steps, "first a then b finally c"), 1_000);
        assert_eq!(milli(&steps, "then first finally"), 0);
        assert_eq!(milli(&steps, "first then then finally first then finally then"), 2_000);
        assert_eq!(milli(&sequence(&["", ""]), "añb"), 4_000);
    }

    #[test]
    fn bounds_are_in_thousandths_and_inclusive() {
        let count = Measure::Count("a".into());
        let matches = |min, max| detector(&count, min, max).measure("aa", soon()).unwrap().matches;
        assert!(matches(2000, 2000) && matches(1, 9000));
        assert!(!matches(2001, 9000) && !matches(0, 1999));
    }

    #[test]
    fn what_takes_too_long_is_late() {
        let detector = |measure: &Measure| detector(measure, 0, u64::MAX);
        let text = "if ".repeat(100_000);
        let began = Instant::now();
        let counted = detector(&Measure::Count("if(.*then)?".into())).measure(&text, began);
        assert_eq!(counted, Err(Unknown::Late));
        assert_eq!(detector(&sequence(&["a"])).measure("a", began), Err(Unknown::Late));
    }

    proptest! {
        #[test]
        fn a_count_is_what_the_naive_reader_counts(text in "[ab?é ]{0,60}") {
            prop_assert_eq!(counted("ab", &text), text.matches("ab").count() as u64);
            // Every round takes the next "ab" and the next "é" behind it.
            let mut rounds = 0;
            let mut rest = text.as_str();
            while let Some(at) = rest.find("ab") {
                rest = &rest[at + 2..];
                let Some(at) = rest.find('é') else { break };
                rest = &rest[at + 'é'.len_utf8()..];
                rounds += 1;
            }
            prop_assert_eq!(milli(&sequence(&["ab", "é"]), &text), rounds * 1000);
        }
    }
}
