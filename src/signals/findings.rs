//! What the classifier found in a request's texts, as learned signals read it.
//!
//! Refuses to know how the classifier finds it and which texts were put to it.

use std::sync::Arc;

use signalbox_kernels::dot;

use super::value::SignalValue;
use crate::classify::{Entity, Findings, PiiFindings, Unknown};
use crate::policy::Scope;

/// A text's embedding, of unit length.
pub(super) type UnitVector = Arc<[f32]>;

/// What was found in the texts of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassifierFindings<'a> {
    pub(super) prompt: &'a Findings,
    /// In the other texts, by their places.
    pub(super) others: &'a [(usize, Findings)],
    /// The places of the user's earlier messages, the latest first.
    pub(super) earlier: &'a [usize],
    /// Whether the model has answered before the prompt.
    pub(super) follows_answer: bool,
}

impl<'a> ClassifierFindings<'a> {
    /// Returns what was found in the texts of a scope.
    pub(super) fn in_scope(&self, scope: Scope) -> impl Iterator<Item = &'a Findings> {
        let others = match scope {
            Scope::Prompt => &[],
            Scope::Conversation => self.others,
        };
        std::iter::once(self.prompt).chain(others.iter().map(|(_, findings)| findings))
    }

    /// Returns the prompt's embedding.
    pub(super) fn embedding(&self) -> Result<&'a UnitVector, Unknown> {
        let found = self.prompt.embedding.as_ref().ok_or(Unknown::Unsupported)?;
        found.as_ref().map_err(|unknown| *unknown)
    }
}

/// What several texts hold, as far as it is known. A text without words holds nothing.
pub(super) struct PartialFindings<T> {
    pub(super) known: Vec<T>,
    missing: Option<Unknown>,
}

impl<'a> PartialFindings<&'a Vec<Entity>> {
    /// Takes personal data of the kinds that count: what patterns found is known whatever the model says.
    pub(super) fn of_pii(
        found: impl Iterator<Item = Option<&'a PiiFindings>>,
        counts: impl Fn(&str) -> bool,
    ) -> Self {
        let mut partial = Self { known: Vec::new(), missing: None };
        let mut found = found.peekable();
        if matches!(found.peek(), None | Some(None)) {
            partial.missing = Some(Unknown::Unsupported);
        }
        for found in found.flatten() {
            partial.known.push(&found.entities);
            partial.missing = partial.missing.or(found.unknown_among(&counts));
        }
        partial
    }
}

impl<'a, T> PartialFindings<&'a T> {
    pub(super) fn of(found: impl Iterator<Item = Option<&'a Result<T, Unknown>>>) -> Self {
        let mut partial = Self { known: Vec::new(), missing: None };
        let mut found = found.peekable();
        if matches!(found.peek(), None | Some(None)) {
            partial.missing = Some(Unknown::Unsupported);
        }
        for found in found.flatten() {
            match found {
                Ok(found) => partial.known.push(found),
                Err(Unknown::Empty) => {}
                Err(unknown) => {
                    partial.missing.get_or_insert(*unknown);
                }
            }
        }
        partial
    }

    /// A match is known whatever is missing; that nothing matches only if nothing is missing.
    pub(super) fn conclude(&self, value: SignalValue) -> Result<SignalValue, Unknown> {
        match self.missing {
            Some(unknown) if !value.matches => Err(unknown),
            _ => Ok(value),
        }
    }
}

/// The greatest cosine of an embedding with some others.
pub(super) fn max_cosine(of: &[f32], others: &[UnitVector]) -> f32 {
    others.iter().map(|other| dot(of, other)).fold(f32::MIN, f32::max)
}
