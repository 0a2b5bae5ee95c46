//! What is known about a request: one value for each signal of the policy that a rule, a guard or a plugin requires.
//!
//! [`Requirements`] say what is needed, [`Detectors`] hold what is compiled and embedded once for a policy, and
//! [`Detectors::evaluate`] gives a [`SignalEvaluation`]. Refuses to know what follows from it.
//!
//! Each kind of signal is a file of its own, which says what the kind needs of a request and how it is evaluated;
//! `kind` registers them.

mod detectors;
mod embeddings;
mod error;
mod evaluate;
mod examples;
mod findings;
mod inputs;
mod kind;
mod request;
mod requirements;
#[cfg(test)]
mod tests;
mod texts;
mod token_count;
mod value;

mod complexity;
mod context;
mod conversation;
mod domain;
mod fact_check;
mod feedback;
mod identity;
mod jailbreak;
mod keyword;
mod language;
mod metadata;
mod modality;
mod pii;
mod reask;
mod similarity;
mod structure;

pub use detectors::Detectors;
pub use error::DetectorError;
pub use evaluate::{SignalEvaluation, SignalQuery};
pub use requirements::{Audience, Requirements};
pub use value::{NamedSignals, SignalReason, SignalResult, SignalValue, Signals};
