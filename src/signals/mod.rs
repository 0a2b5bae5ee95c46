//! What is known about a request: one value for each signal of the policy that a rule, a guard or a plugin requires.
//!
//! [`Requirements`] say what is needed, [`Detectors`] hold what is compiled and embedded once for a policy, and
//! [`Detectors::evaluate`] gives a [`SignalEvaluation`]. Refuses to know what follows from it.
//!
//! Each kind of signal is a file of `kinds`, which says what the kind needs of a request and how it is evaluated.

mod detectors;
mod embeddings;
mod error;
mod evaluate;
mod examples;
mod findings;
mod inputs;
mod judged;
mod kind;
mod kinds;
mod request;
mod requirements;
#[cfg(test)]
mod tests;
mod texts;
mod token_count;
mod value;

pub use detectors::Detectors;
pub use error::DetectorError;
pub use evaluate::{SignalEvaluation, SignalQuery};
pub use judged::{JudgedFindings, JudgedText, source_of};
pub use requirements::{Audience, Requirements};
pub use value::{NamedSignals, SignalReason, SignalResult, SignalValue, Signals};
