//! A place in a text that a stage wants changed.

use std::ops::Range;

/// A place in a text, and what is to stand there.
pub(super) struct TextFinding {
    pub(super) span: Range<usize>,
    /// Nothing where the answer has to end before it.
    pub(super) with: Option<String>,
    /// Whether the guard found it, and not the unmasking.
    pub(super) is_guards: bool,
}

impl TextFinding {
    pub(super) fn of_guard(span: Range<usize>, with: Option<String>) -> Self {
        Self { span, with, is_guards: true }
    }
}
