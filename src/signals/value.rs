//! The values of signals with their reasons, by the place of the signal in the policy, and how they are shown.
//!
//! Refuses to know how a value comes about.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::classify::Unknown;
use crate::policy::{Policy, SignalId};

/// What is known about one request, by [`SignalId`]; a signal that nothing requires is not evaluated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signals {
    results: Vec<Option<SignalResult>>,
}

/// What came of one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalResult {
    /// The value, or why there is none.
    pub value: Result<SignalValue, Unknown>,
    /// What it cost beside the classifier's pass; signals of keywords are read together, and each has a share.
    pub took: Duration,
}

/// The value of a signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalValue {
    /// How strong the signal is, from 0 to 1; 0 where nothing speaks for it.
    pub score: f32,
    /// Whether it matches by its own threshold.
    pub matches: bool,
    /// Why it has this score.
    pub reason: SignalReason,
}

/// Why a signal has its value; displayed, it says so to people, without any text of the request.
#[derive(Debug, Clone, PartialEq)]
pub enum SignalReason {
    /// The text is about this, or holds this, so surely.
    Label {
        /// The most probable label.
        label: Arc<str>,
        /// Its probability.
        confidence: f32,
    },
    /// The text is of this class, so surely.
    Class {
        /// The class.
        class: &'static str,
        /// How sure that is, 0 to 1.
        share: f32,
    },
    /// Some of several things were found.
    Hits {
        /// How many were found.
        hits: usize,
        /// How many were looked for.
        of: usize,
    },
    /// Something was measured.
    Measured {
        /// What was measured, such as `tokens` or `cosine`.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// Something else, in words of the policy or of ours.
    Text(Cow<'static, str>),
}

impl fmt::Display for SignalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label { label, confidence } => write!(f, "{label} {confidence:.4}"),
            Self::Class { class, share } => write!(f, "{class} {share:.4}"),
            Self::Hits { hits, of } => write!(f, "{hits} of {of}"),
            Self::Measured { what, value } if value.fract() == 0.0 => write!(f, "{what} {value}"),
            Self::Measured { what, value } => write!(f, "{what} {value:.4}"),
            Self::Text(words) => f.write_str(words),
        }
    }
}

impl SignalValue {
    /// The value of something that is so or is not so.
    pub(super) fn plain(matches: bool, reason: SignalReason) -> Self {
        Self { score: if matches { 1.0 } else { 0.0 }, matches, reason }
    }

    /// The value of a score that must reach `min_score`.
    pub(super) fn scored(score: f32, min_score: f32, reason: SignalReason) -> Self {
        let score = score.clamp(0.0, 1.0);
        Self { score, matches: score >= min_score, reason }
    }
}

impl Signals {
    /// Makes room for so many signals, of which none is evaluated yet.
    pub fn empty(count: usize) -> Self {
        Self { results: vec![None; count] }
    }

    /// Adds what came of a signal.
    pub fn insert(&mut self, SignalId(id): SignalId, result: SignalResult) {
        if self.results.len() <= id {
            self.results.resize(id + 1, None);
        }
        self.results[id] = Some(result);
    }

    /// Adds a value that cost nothing.
    #[must_use]
    pub fn with(mut self, id: SignalId, value: Result<SignalValue, Unknown>) -> Self {
        self.insert(id, SignalResult { value, took: Duration::ZERO });
        self
    }

    /// Returns what came of a signal; nothing if it was not evaluated.
    pub fn get(&self, SignalId(id): SignalId) -> Option<&SignalResult> {
        self.results.get(id)?.as_ref()
    }

    /// Returns what was evaluated, by place.
    pub fn iter(&self) -> impl Iterator<Item = (SignalId, &SignalResult)> {
        self.results.iter().enumerate().filter_map(|(id, result)| Some((SignalId(id), result.as_ref()?)))
    }

    /// Returns what was evaluated under the names of the policy, to be written as JSON.
    pub fn named<'a>(&'a self, policy: &'a Policy) -> NamedSignals<'a> {
        NamedSignals { signals: self, policy }
    }
}

/// Signals under their names: as JSON an object with `kind`, `took_us`, and either `score`, `matches` and `why` or
/// `unknown` for each that was evaluated.
#[derive(Debug, Clone, Copy)]
pub struct NamedSignals<'a> {
    signals: &'a Signals,
    policy: &'a Policy,
}

impl Serialize for NamedSignals<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (id, result) in self.signals.iter().filter(|(SignalId(id), _)| *id < self.policy.signals.len()) {
            let signal = &self.policy[id];
            map.serialize_entry(&signal.name, &NamedSignal { kind: signal.kind.as_str(), result })?;
        }
        map.end()
    }
}

struct NamedSignal<'a> {
    kind: &'static str,
    result: &'a SignalResult,
}

impl Serialize for NamedSignal<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind)?;
        match &self.result.value {
            Ok(value) => {
                map.serialize_entry("score", &value.score)?;
                map.serialize_entry("matches", &value.matches)?;
                map.serialize_entry("why", &format_args!("{}", value.reason))?;
            }
            Err(unknown) => map.serialize_entry("unknown", unknown.as_str())?,
        }
        map.serialize_entry("took_us", &(self.result.took.as_nanos() as f64 / 1000.0))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Fixed, load};

    #[test]
    fn signals_are_shown_under_their_names_with_reasons() {
        let text = "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels: {m: {pools: [p]}}\n\
             pools: {p: {endpoints: [\"127.0.0.1:1\"]}}\n\
             signals: {words: {keyword: {any: [x]}}, long: {context: {min_tokens: 9}}, rest: {reask: {}}}\n";
        let policy = load(text, Path::new("."), &Fixed::default(), None).unwrap();
        let reason = SignalReason::Hits { hits: 1, of: 2 };
        let signals = Signals::empty(3)
            .with(SignalId(0), Ok(SignalValue { score: 0.75, matches: true, reason }))
            .with(SignalId(1), Err(Unknown::Late));
        let shown = serde_json::to_value(signals.named(&policy)).unwrap();
        let expected = serde_json::json!({
            "words": {"kind": "keyword", "score": 0.75, "matches": true, "why": "1 of 2", "took_us": 0.0},
            "long": {"kind": "context", "unknown": "late", "took_us": 0.0},
        });
        assert_eq!(shown, expected);
        assert_eq!(signals.iter().count(), 2);
        assert_eq!(signals.get(SignalId(9)), None);
    }

    #[test]
    fn reasons_are_short_and_say_how_much() {
        for (reason, text) in [
            (SignalReason::Label { label: "math".into(), confidence: 0.5 }, "math 0.5000"),
            (SignalReason::Class { class: "image", share: 0.25 }, "image 0.2500"),
            (SignalReason::Measured { what: "matches", value: 3.0 }, "matches 3"),
            (SignalReason::Measured { what: "cosine", value: 1.0 / 3.0 }, "cosine 0.3333"),
            (SignalReason::Text("nobody known".into()), "nobody known"),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
