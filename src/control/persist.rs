//! Owns when the response cache is written to its file: every few minutes, and when the process ends.
//!
//! Knows nothing of what the cache holds.

use crate::snapshot::Live;
use std::sync::Arc;
use std::time::Duration;

/// How often it is written while the process runs: so much may be lost if it is killed.
const INTERVAL: Duration = Duration::from_secs(300);

/// Writes the response cache for ever.
pub async fn persist_response_cache(live: Arc<Live>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let live = Arc::clone(&live);
        // A panic there is logged, and the next turn comes.
        let _ = tokio::task::spawn_blocking(move || save_response_cache(&live)).await;
    }
}

/// Writes the response cache to its file, if the policy names one; blocks on the disk.
pub fn save_response_cache(live: &Live) {
    let Some(cache) = live.load().cache.clone() else { return };
    match cache.save() {
        Ok(0) => {}
        Ok(entries) => tracing::info!(entries, "kept answers are written"),
        Err(error) => tracing::warn!(%error, "kept answers cannot be written"),
    }
}
