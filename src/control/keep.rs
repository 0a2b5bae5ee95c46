//! Owns when kept answers are written to their file: now and then, and when the process ends.
//!
//! Knows nothing of what is kept.

use crate::snapshot::Live;
use std::sync::Arc;
use std::time::Duration;

/// How often they are written while the process runs: so much may be lost if it is killed.
const EVERY: Duration = Duration::from_secs(300);

/// Writes kept answers for ever.
pub async fn keep_answers(live: Arc<Live>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let live = Arc::clone(&live);
        // A panic there is logged, and the next turn comes.
        let _ = tokio::task::spawn_blocking(move || save_answers(&live)).await;
    }
}

/// Writes kept answers to their file, if the policy names one; blocks on the disk.
pub fn save_answers(live: &Live) {
    let Some(cache) = live.load().cache.clone() else { return };
    match cache.save() {
        Ok(0) => {}
        Ok(entries) => tracing::info!(entries, "kept answers are written"),
        Err(error) => tracing::warn!(%error, "kept answers cannot be written"),
    }
}
