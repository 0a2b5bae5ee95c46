//! Owns the computing of a prompt that goes on while its answer is awaited from another endpoint: how far it is, and its end
//! with the attempt that it is for.
//!
//! Refuses to know how it is asked for.

use crate::openai::TokenUsage;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::AbortHandle;

/// The computing of the current attempt's prompt; its drop ends that.
pub(super) struct ConcurrentPrefill {
    pub(super) endpoint: SocketAddr,
    pub(super) progress: Arc<PrefillProgress>,
    task: Option<AbortHandle>,
}

/// How far the computing of a prompt is.
#[derive(Debug, Default)]
pub(super) struct PrefillProgress {
    end: OnceLock<PrefillEnd>,
}

/// How the computing of a prompt ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrefillEnd {
    /// Why it is not computed, if it is not.
    pub(super) failure: Option<&'static str>,
    pub(super) usage: Option<TokenUsage>,
    pub(super) took: Duration,
}

impl ConcurrentPrefill {
    /// Starts the computing, which says by what it is given how it ends.
    pub(super) fn start<F>(endpoint: SocketAddr, compute: impl FnOnce(Arc<PrefillProgress>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let progress: Arc<PrefillProgress> = Arc::default();
        let task = tokio::spawn(compute(Arc::clone(&progress)));
        Self { endpoint, progress, task: Some(task.abort_handle()) }
    }

    /// Lets it end by itself: the answer is whole, and so is what it came from.
    pub(super) fn release(mut self) {
        self.task = None;
    }
}

impl Drop for ConcurrentPrefill {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl PrefillProgress {
    pub(super) fn end_with(&self, end: PrefillEnd) {
        self.end.get_or_init(|| end);
    }

    pub(super) fn end(&self) -> Option<PrefillEnd> {
        self.end.get().copied()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.end.get().is_some_and(|end| end.failure.is_some())
    }
}
