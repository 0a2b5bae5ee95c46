//! How the classifier's threads are divided: each lane computes one forward at a time with all of its threads.
//!
//! Refuses to know what is computed.

/// The most threads that compute one forward together: more gain little on one text, and other texts want some.
const MAX_LANE_THREADS: usize = 4;

/// Divides threads into lanes of at most [`MAX_LANE_THREADS`], one for each model at least, as far as there are threads.
///
/// A lane takes work as one thread and computes it with all of its threads.
pub(super) fn lanes(threads: usize, models: usize) -> Vec<usize> {
    let threads = threads.max(1);
    let lanes = threads.div_ceil(MAX_LANE_THREADS).max(models).min(threads).max(1);
    (0..lanes).map(|lane| threads / lanes + usize::from(lane < threads % lanes)).collect()
}

/// Runs `work` on this thread as one of `width` threads of a pool of its own.
///
/// Kernels spread over the rayon pool they find themselves in, by default one of all cores.
pub(super) fn in_rayon_pool(lane: usize, width: usize, work: impl FnOnce()) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(width.max(1))
        .thread_name(move |at| format!("classify-{lane}-{at}"))
        .use_current_thread()
        .build();
    if let Err(error) = &pool {
        tracing::warn!(%error, "a classifier thread has no pool of its own and shares that of all cores");
    }
    work();
    drop(pool);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_divided_into_lanes_without_a_rest() {
        assert_eq!(lanes(0, 1), [1]);
        assert_eq!(lanes(1, 3), [1]);
        assert_eq!(lanes(2, 1), [2]);
        assert_eq!(lanes(2, 2), [1, 1]);
        assert_eq!(lanes(8, 1), [4, 4]);
        assert_eq!(lanes(9, 1), [3, 3, 3]);
        assert_eq!(lanes(8, 3), [3, 3, 2]);
    }
}
