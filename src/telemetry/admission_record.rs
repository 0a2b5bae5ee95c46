//! Owns what is recorded of a request's admission to its pool: a group of the table of facts.
//!
//! Knows nothing of the rest of the table.

use super::line::facts;

facts! {
    /// How a request came to a pool that may have too much to do.
    pub struct AdmissionRecord {
        /// Its priority.
        priority: Option<i32>,
        /// How saturated its pool was when it came: wholly from 1 on.
        saturation as "pool_saturation": Option<f64>,
        /// Requests that were before it in the queue.
        ahead as "queued_ahead": Option<usize>,
        /// What became of it: `passed`, `waited`, `left` while it waited, or why it was refused.
        result as "admission": Option<&'static str>,
        /// Milliseconds that it waited.
        queued_ms: Option<f64>,
        /// Why it was refused, as llm-d says it.
        dropped_reason: Option<&'static str>,
    }
}
