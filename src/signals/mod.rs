//! What is known about a request: one value for each signal of the policy that somebody needs.
//!
//! Owns how a signal is told from what the classifier found and from the request itself. Refuses to know what follows
//! from it.

use crate::classify::{Label, Unknown};
use crate::policy::{Policy, SignalId, SignalKind};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is known about one request, by [`SignalId`]; what nobody needed was not asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signals {
    told: Vec<Option<Told>>,
}

/// What one signal says.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The reading, or why there is none.
    pub reading: Result<Reading, Unknown>,
    /// What it cost beside the classifier's pass.
    pub took: Duration,
}

/// The reading of a signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// How strong the signal is, from 0 to 1; 0 where nothing speaks for it.
    pub score: f32,
    /// Whether it matches by its own threshold.
    pub matches: bool,
    /// Why.
    pub why: Why,
}

/// Why a signal reads as it does; displayed, it says so to people, without any text of the request.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// The prompt is about this, so surely.
    About {
        /// The most probable label.
        label: Arc<str>,
        /// Its probability.
        confidence: f32,
    },
    /// Something was measured.
    Measured {
        /// What.
        what: &'static str,
        /// How much.
        value: f64,
    },
    /// Something else, in words of the policy.
    Said(Box<str>),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::About { label, confidence } => write!(f, "{label} {confidence:.4}"),
            Self::Measured { what, value } => write!(f, "{what} {value}"),
            Self::Said(words) => f.write_str(words),
        }
    }
}

impl Signals {
    /// Reads the signals of domains, and no others, from what the prompt is about.
    pub fn of_domain(policy: &Policy, domain: &Result<Label, Unknown>) -> Self {
        let told = policy.signals.iter().map(|signal| match &signal.kind {
            SignalKind::Domain { any, min_score } => {
                let reading = domain.as_ref().map(|label| about(any, min_score.fraction(), label));
                Some(Told { reading: reading.map_err(|unknown| *unknown), took: Duration::ZERO })
            }
            _ => None,
        });
        Self { told: told.collect() }
    }

    /// Returns what a signal says; nothing if it was not asked.
    pub fn get(&self, SignalId(id): SignalId) -> Option<&Told> {
        self.told.get(id)?.as_ref()
    }

    /// Returns what was asked, by place.
    pub fn iter(&self) -> impl Iterator<Item = (SignalId, &Told)> {
        self.told.iter().enumerate().filter_map(|(id, told)| Some((SignalId(id), told.as_ref()?)))
    }
}

/// Reads a signal of domains.
fn about(any: &[String], least: f32, label: &Label) -> Reading {
    let is_one = any.iter().any(|domain| **domain == *label.name);
    Reading {
        score: if is_one { label.confidence } else { 0.0 },
        matches: is_one && label.confidence >= least,
        why: Why::About { label: Arc::clone(&label.name), confidence: label.confidence },
    }
}
