//! What is known about a request: one value for each signal of the policy that somebody needs.
//!
//! Owns how a signal is told from what the classifier found and from the request itself. [`Requirements`] says what is
//! needed, [`Detectors`] hold what is compiled and embedded once for a policy, and [`Detectors::read`] gives what is
//! [`SignalEvaluation`]. Refuses to know what follows from it.

mod build;
mod examples;
mod facts;
mod keyword;
mod language;
mod learned;
mod length;
mod read;
mod requirements;
mod structure;
#[cfg(test)]
mod tests;
mod value;

pub use build::{DetectorError, Detectors};
pub use read::{SignalEvaluation, SignalQuery};
pub use requirements::{Audience, Requirements};
pub use value::{NamedSignals, SignalReason, SignalResult, SignalValue, Signals};
