//! Owns the tasks that ask endpoints something beside requests: one for each live endpoint, following snapshots.
//! Refuses to know what is asked.

use crate::balance::Endpoint;
use crate::policy::PoolSpec;
use crate::snapshot::{Live, Snapshot};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What is asked of endpoints.
pub(super) trait EndpointTask {
    /// Whether the endpoints of a pool, of which there are so many, are asked.
    fn holds_for(&self, pool: &PoolSpec, endpoints: usize) -> bool;

    /// Starts to ask one endpoint of such a pool, for ever.
    fn start(&self, pool: &Arc<PoolSpec>, endpoint: &Arc<Endpoint>) -> JoinHandle<()>;
}

/// The tasks of one kind, by where their endpoints are in memory.
pub(super) struct EndpointTasks<T> {
    kind: T,
    running: HashMap<usize, RunningTask>,
}

struct RunningTask {
    pool: Arc<PoolSpec>,
    endpoint: Arc<Endpoint>,
    handle: JoinHandle<()>,
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl<T: EndpointTask> EndpointTasks<T> {
    pub(super) fn new(kind: T) -> Self {
        Self { kind, running: HashMap::new() }
    }

    /// Keeps one task for each endpoint that is to be asked, for ever.
    pub(super) async fn follow(mut self, live: Arc<Live>) {
        let mut changes = live.changes();
        loop {
            changes.mark_unchanged();
            self.keep_up_with(&live.load());
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn keep_up_with(&mut self, live: &Snapshot) {
        let mut kept = HashMap::new();
        for (spec, pool) in live.policy.pools.iter().zip(&live.upstreams.pools) {
            if !self.kind.holds_for(spec, pool.members().len()) {
                continue;
            }
            // One copy of a pool's description for all its endpoints, of which there may be hundreds.
            let shared = Arc::new(spec.clone());
            for member in pool.members() {
                let endpoint = &member.endpoint;
                let key = Arc::as_ptr(endpoint) as usize;
                let running = self.running.remove(&key).filter(|running| running.pool == shared);
                let running = running.unwrap_or_else(|| RunningTask {
                    pool: Arc::clone(&shared),
                    endpoint: Arc::clone(endpoint),
                    handle: self.kind.start(&shared, endpoint),
                });
                debug_assert!(Arc::ptr_eq(&running.endpoint, endpoint), "a task keeps its endpoint alive");
                kept.insert(key, running);
            }
        }
        self.running = kept;
    }
}
