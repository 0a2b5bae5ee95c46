//! Owns the account of how a request was routed, as the response, the log and the metrics give it.
//!
//! Decides nothing.

use crate::classify::{Label, Unknown};
use crate::policy::{ChooseBy, Model, ModelId, Policy, Reasoning, TextSource};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

/// How a request was routed, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingTrace {
    /// What the model was chosen by.
    pub reason: RoutingReason,
    /// The model that was chosen.
    pub model: Option<ModelId>,
    /// The name of the list of decisions, if it is not the policy's own.
    pub recipe: Option<String>,
    /// The name of the decision that matched.
    pub decision: Option<String>,
    /// Its score, from 0 to 1.
    pub score: Option<f32>,
    /// What the prompt is about, where that was asked.
    pub label: Option<Label>,
    /// By what one of several models was chosen, and why this one.
    pub chosen: Option<ChosenModel>,
    /// Whether the model was told to reason.
    pub reasoning: Option<Reasoning>,
    /// Whether the operator's system prompt went in.
    pub system_prompt: bool,
    /// What the guards found.
    pub notices: Vec<GuardNotice>,
}

/// How one of several models was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenModel {
    /// By what.
    pub by: &'static str,
    /// Why this one.
    pub reason: &'static str,
    /// The best of the others, where they are compared by a measure.
    pub runner_up: Option<RunnerUpModel>,
}

/// The model that would have been chosen without the chosen one, with its replica, and why it was not.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerUpModel {
    /// The model's name.
    pub name: String,
    /// Its replica, where replicas are told apart.
    pub endpoint: Option<SocketAddr>,
    /// What is measured.
    pub by: ChooseBy,
    /// Its measure: see [`crate::choose::RunnerUp`].
    pub measure: f64,
    /// The chosen one's.
    pub chosen: f64,
}

impl fmt::Display for RunnerUpModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        // Without a running gateway no replica has an address.
        if let Some(endpoint) = self.endpoint.filter(|endpoint| !endpoint.ip().is_unspecified()) {
            write!(f, " on {endpoint}")?;
        }
        let (measure, chosen) = (self.measure, self.chosen);
        match self.by {
            // Prices are kept in 10⁻¹² of the currency.
            ChooseBy::Cost => write!(f, ": cost {:.6} against {:.6}", measure / 1e12, chosen / 1e12),
            ChooseBy::Latency => write!(f, ": {measure:.3} s against {chosen:.3} s"),
            _ => write!(f, ": score {measure:.3} against {chosen:.3}"),
        }
    }
}

/// Something that a guard found.
#[derive(Debug, Clone, PartialEq)]
pub enum GuardNotice {
    /// An attack on the model.
    Jailbreak {
        /// How probable, from 0 to 1.
        score: f32,
        /// The part of the request that scores that.
        at: Option<AttackPlace>,
    },
    /// Personal data.
    Pii {
        /// The kinds of data, each once, as the classifier names them.
        kinds: Vec<String>,
    },
    /// A guard could not judge the request.
    Unjudged {
        /// The guard's key in the policy.
        guard: &'static str,
        /// Why the classifier gave no answer.
        reason: Unknown,
    },
}

/// Where in a request an attack stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttackPlace {
    /// Whose text it is in.
    pub source: TextSource,
    /// The message, counted from 0; none outside of messages.
    pub message: Option<usize>,
    /// The bytes of the text there.
    pub bytes: Range<usize>,
}

impl fmt::Display for AttackPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, message, bytes } = self;
        f.write_str(source.as_str())?;
        if let Some(message) = message {
            write!(f, " in message {message}")?;
        }
        write!(f, ", bytes {}..{}", bytes.start, bytes.end)
    }
}

/// Why a plan names the model it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutingReason {
    /// The client named the model.
    Named,
    /// A decision matched.
    Decided,
    /// No decision matched, and the conversation goes on with the one that it has.
    Kept,
    /// A guard sends attacks there.
    Guarded,
    /// No decision matched.
    NoDecision,
    /// The classifier gave no answer, and the policy says to fall back.
    Unclassified(Unknown),
}

impl RoutingReason {
    /// The reason as logs and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            RoutingReason::Named => "named",
            RoutingReason::Decided => "decided",
            RoutingReason::Kept => "kept",
            RoutingReason::Guarded => "guarded",
            RoutingReason::NoDecision => "default",
            RoutingReason::Unclassified(Unknown::Busy) => "default_classifier_busy",
            RoutingReason::Unclassified(Unknown::Late) => "default_classifier_late",
            RoutingReason::Unclassified(Unknown::Failed) => "default_classifier_failed",
            RoutingReason::Unclassified(Unknown::Empty) => "default_no_text",
            RoutingReason::Unclassified(Unknown::Unsupported) => "default_classifier_unsupported",
            RoutingReason::Unclassified(Unknown::TooLong) => "default_classifier_too_long",
            RoutingReason::Unclassified(Unknown::Unreadable) => "default_classifier_unreadable",
            RoutingReason::Unclassified(Unknown::UnsupportedLanguage) => {
                "default_classifier_unsupported_language"
            }
        }
    }
}

impl RoutingTrace {
    pub(super) fn new(reason: RoutingReason) -> Self {
        Self {
            reason,
            model: None,
            recipe: None,
            decision: None,
            score: None,
            label: None,
            chosen: None,
            reasoning: None,
            system_prompt: false,
            notices: Vec::new(),
        }
    }

    /// The chosen model, as the policy knows it.
    pub fn model<'a>(&self, policy: &'a Policy) -> Option<&'a Model> {
        Some(&policy[self.model?])
    }
}
