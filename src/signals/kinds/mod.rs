//! The kinds of signals, a file each: what a kind needs of a request, and how it is evaluated.
//!
//! A new kind is a file that implements [`SignalSpec`] for the policy's type, and a line in each of the two lists below.

mod complexity;
mod context;
mod conversation;
mod domain;
pub(super) mod fact_check;
pub(super) mod feedback;
mod identity;
mod jailbreak;
pub(super) mod keyword;
mod language;
mod metadata;
pub(super) mod modality;
mod pii;
mod reask;
mod secrets;
mod similarity;
mod structure;

use super::kind::SignalSpec;
use crate::policy::SignalKind;

/// Returns a signal's values as its kind reads them.
pub(super) fn spec(kind: &SignalKind) -> &dyn SignalSpec {
    match kind {
        SignalKind::Domain(spec) => spec,
        SignalKind::Jailbreak(spec) => spec,
        SignalKind::Pii(spec) => spec,
        SignalKind::Secrets(spec) => spec,
        SignalKind::Keyword(spec) => spec,
        SignalKind::Similarity(spec) => spec,
        SignalKind::Complexity(spec) => spec,
        SignalKind::Language(spec) => spec,
        SignalKind::Context(spec) => spec,
        SignalKind::Structure(spec) => spec,
        SignalKind::Conversation(spec) => spec,
        SignalKind::FactCheck(spec) => spec,
        SignalKind::Feedback(spec) => spec,
        SignalKind::Reask(spec) => spec,
        SignalKind::Modality(spec) => spec,
        SignalKind::Metadata(spec) => spec,
        SignalKind::Identity(spec) => spec,
    }
}
