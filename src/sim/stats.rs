//! The numbers behind `/metrics`: what a vLLM server counts, as atomic counters and histograms.
//! It refuses to know how they are exposed (`exposition`) and when they happen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::generation::SimFinishReason;

const LATENCY: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const EACH_TOKEN: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const COUNT: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];
const STEP_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// A histogram of seconds or of counts.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: Vec<f64>,
    counts: Vec<AtomicU64>,
    /// In units of 1e-9: 584 years of seconds or 18 milliard tokens before it overflows.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &[f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds: bounds.to_vec(), counts, sum: AtomicU64::new(0) }
    }

    /// Adds a duration, in seconds.
    pub(super) fn time(&self, took: Duration) {
        self.add(took.as_secs_f64(), took.as_nanos() as u64);
    }

    /// Adds a count, such as one of tokens.
    pub(super) fn count(&self, count: usize) {
        self.add(count as f64, count as u64 * 1_000_000_000);
    }

    /// Lists each bound with the number of values up to it.
    pub(super) fn cumulative(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut sum = 0;
        let counts = self.counts.iter().map(|count| {
            sum += count.load(Ordering::Relaxed);
            sum
        });
        bounds.zip(counts).collect()
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1e9
    }

    fn add(&self, value: f64, billionths: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(billionths, Ordering::Relaxed);
    }
}

/// The times and sizes of a finished request.
#[derive(Debug, Clone, Copy)]
pub(super) struct FinishedRequest {
    /// From arrival to scheduling.
    pub(super) queued: Duration,
    /// From scheduling to the first token.
    pub(super) prefill: Duration,
    /// From the first token to the last.
    pub(super) decode: Duration,
    pub(super) prompt_tokens: usize,
    /// Tokens of all sequences.
    pub(super) output_tokens: usize,
    pub(super) sequences: usize,
    /// The limit that the client gave or that the model has.
    pub(super) max_tokens: usize,
}

/// Counts of tokens.
#[derive(Debug, Default)]
pub(super) struct TokenCounters {
    pub(super) prompt: AtomicU64,
    pub(super) cached: AtomicU64,
    pub(super) output: AtomicU64,
    pub(super) prefix_queries: AtomicU64,
    pub(super) prefix_hits: AtomicU64,
}

/// Counts of requests by how they ended.
#[derive(Debug, Default)]
pub(super) struct OutcomeCounters {
    pub(super) stop: AtomicU64,
    pub(super) length: AtomicU64,
    pub(super) abort: AtomicU64,
    pub(super) rejected: AtomicU64,
}

/// Latencies in seconds.
#[derive(Debug)]
pub(super) struct LatencyHistograms {
    pub(super) first_token: Histogram,
    pub(super) inter_token: Histogram,
    pub(super) per_output_token: Histogram,
    pub(super) end_to_end: Histogram,
    pub(super) queue: Histogram,
    pub(super) inference: Histogram,
    pub(super) prefill: Histogram,
    pub(super) decode: Histogram,
}

/// Sizes in tokens and, for `n`, in sequences.
#[derive(Debug)]
pub(super) struct SizeHistograms {
    pub(super) step: Histogram,
    pub(super) prompt: Histogram,
    pub(super) output: Histogram,
    pub(super) longest_output: Histogram,
    pub(super) n: Histogram,
    pub(super) max_tokens: Histogram,
    pub(super) prefill_computed: Histogram,
}

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct SimStats {
    pub(super) tokens: TokenCounters,
    pub(super) outcomes: OutcomeCounters,
    pub(super) latency: LatencyHistograms,
    pub(super) sizes: SizeHistograms,
}

impl SimStats {
    /// Makes counters at zero; token histograms end at `max_model_len`.
    pub(super) fn new(max_model_len: usize) -> Self {
        let sizes = one_two_five(max_model_len);
        Self {
            tokens: TokenCounters::default(),
            outcomes: OutcomeCounters::default(),
            latency: LatencyHistograms {
                first_token: Histogram::new(FIRST_TOKEN),
                inter_token: Histogram::new(EACH_TOKEN),
                per_output_token: Histogram::new(EACH_TOKEN),
                end_to_end: Histogram::new(LATENCY),
                queue: Histogram::new(LATENCY),
                inference: Histogram::new(LATENCY),
                prefill: Histogram::new(LATENCY),
                decode: Histogram::new(LATENCY),
            },
            sizes: SizeHistograms {
                step: Histogram::new(STEP_TOKENS),
                prompt: Histogram::new(&sizes),
                output: Histogram::new(&sizes),
                longest_output: Histogram::new(&sizes),
                n: Histogram::new(COUNT),
                max_tokens: Histogram::new(&sizes),
                prefill_computed: Histogram::new(&sizes),
            },
        }
    }

    /// Counts a prompt when it is scheduled.
    pub(super) fn scheduled(&self, tokens: usize, cached: usize, prefix_caching: bool) {
        if prefix_caching {
            add(&self.tokens.prefix_queries, tokens);
            add(&self.tokens.prefix_hits, cached);
        }
        add(&self.tokens.prompt, tokens);
        add(&self.tokens.cached, cached);
        self.sizes.step.count(tokens - cached);
        self.sizes.prefill_computed.count(tokens - cached);
    }

    /// Counts the time from arrival to the first token.
    pub(super) fn first_token(&self, took: Duration) {
        self.latency.first_token.time(took);
    }

    /// Counts the tokens of one step, `since` after the step before.
    pub(super) fn stepped(&self, tokens: usize, since: Option<Duration>) {
        add(&self.tokens.output, tokens);
        if let Some(since) = since {
            self.latency.inter_token.time(since);
            self.sizes.step.count(tokens);
        }
    }

    /// Counts a request whose completions all ended.
    pub(super) fn finished(&self, reason: SimFinishReason, request: FinishedRequest) {
        let counter = match reason {
            SimFinishReason::Stop => &self.outcomes.stop,
            SimFinishReason::Length => &self.outcomes.length,
        };
        add(counter, request.sequences);
        let latency = &self.latency;
        latency.end_to_end.time(request.queued + request.prefill + request.decode);
        latency.queue.time(request.queued);
        latency.inference.time(request.prefill + request.decode);
        latency.prefill.time(request.prefill);
        latency.decode.time(request.decode);
        let per_sequence = request.output_tokens / request.sequences.max(1);
        if per_sequence > 1 {
            latency.per_output_token.time(request.decode / (per_sequence - 1) as u32);
        }
        self.sizes.prompt.count(request.prompt_tokens);
        self.sizes.output.count(request.output_tokens);
        self.sizes.longest_output.count(per_sequence);
        self.sizes.n.count(request.sequences);
        self.sizes.max_tokens.count(request.max_tokens);
    }

    /// Counts a request that a full queue rejects.
    pub(super) fn rejected(&self) {
        add(&self.outcomes.rejected, 1);
    }

    /// Counts a request whose client disconnected before the end.
    pub(super) fn aborted(&self) {
        add(&self.outcomes.abort, 1);
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Lists 1, 2, 5, 10, 20, 50, … up to `max`.
fn one_two_five(max: usize) -> Vec<f64> {
    let series = (0..).flat_map(|power| [1, 2, 5].map(|factor| factor * 10_usize.pow(power)));
    series.take_while(|bound| *bound <= max).map(|bound| bound as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_include_their_bound() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for count in [1, 2, 2, 3] {
            histogram.count(count);
        }
        assert_eq!(histogram.cumulative(), [(1.0, 1), (2.0, 3), (f64::INFINITY, 4)]);
        assert!((histogram.sum() - 8.0).abs() < 1e-9);
    }

    #[test]
    fn token_buckets_end_at_the_longest_context() {
        assert_eq!(one_two_five(300), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
    }
}
