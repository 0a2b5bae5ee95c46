//! What a vLLM server counts, and the numbers behind `/metrics`: counters and histograms as atomics.
//! It refuses to know how they are written down (`exposition`) and when they happen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::words::Finish;

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
    /// The sum in units of 1e-9, which holds 584 years of seconds and 18 milliards of tokens.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &[f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds: bounds.to_vec(), counts, sum: AtomicU64::new(0) }
    }

    /// Notes a duration, in seconds.
    pub(super) fn time(&self, took: Duration) {
        self.note(took.as_secs_f64(), took.as_nanos() as u64);
    }

    /// Notes a count.
    pub(super) fn count(&self, count: usize) {
        self.note(count as f64, count as u64 * 1_000_000_000);
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

    /// The sum of all values.
    pub(super) fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1e9
    }

    fn note(&self, value: f64, billionths: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(billionths, Ordering::Relaxed);
    }
}

/// How a finished request went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    /// From arrival to its turn.
    pub(super) queued: Duration,
    /// From its turn to the first token.
    pub(super) prefill: Duration,
    /// From the first token to the last.
    pub(super) decode: Duration,
    /// Tokens of the prompts.
    pub(super) prompt_tokens: usize,
    /// Tokens of the answers.
    pub(super) output_tokens: usize,
    /// Sequences generated.
    pub(super) sequences: usize,
    /// The limit that the client gave or that the model has.
    pub(super) max_tokens: usize,
}

/// All that is counted.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) prompt_tokens: AtomicU64,
    pub(super) cached_tokens: AtomicU64,
    pub(super) output_tokens: AtomicU64,
    pub(super) prefix_queries: AtomicU64,
    pub(super) prefix_hits: AtomicU64,
    pub(super) stopped: AtomicU64,
    pub(super) cut_short: AtomicU64,
    pub(super) aborted: AtomicU64,
    pub(super) turned_away: AtomicU64,
    pub(super) first_token: Histogram,
    pub(super) between_tokens: Histogram,
    pub(super) per_output_token: Histogram,
    pub(super) whole: Histogram,
    pub(super) queued: Histogram,
    pub(super) inference: Histogram,
    pub(super) prefill: Histogram,
    pub(super) decode: Histogram,
    pub(super) step_tokens: Histogram,
    pub(super) prompt_sizes: Histogram,
    pub(super) output_sizes: Histogram,
    pub(super) longest_output: Histogram,
    pub(super) asked_n: Histogram,
    pub(super) asked_tokens: Histogram,
    pub(super) computed_sizes: Histogram,
}

impl Stats {
    /// Makes counters at zero; token histograms end at `max_model_len`.
    pub(super) fn new(max_model_len: usize) -> Self {
        let sizes = one_two_five(max_model_len);
        let zero = || AtomicU64::new(0);
        Self {
            prompt_tokens: zero(),
            cached_tokens: zero(),
            output_tokens: zero(),
            prefix_queries: zero(),
            prefix_hits: zero(),
            stopped: zero(),
            cut_short: zero(),
            aborted: zero(),
            turned_away: zero(),
            first_token: Histogram::new(FIRST_TOKEN),
            between_tokens: Histogram::new(EACH_TOKEN),
            per_output_token: Histogram::new(EACH_TOKEN),
            whole: Histogram::new(LATENCY),
            queued: Histogram::new(LATENCY),
            inference: Histogram::new(LATENCY),
            prefill: Histogram::new(LATENCY),
            decode: Histogram::new(LATENCY),
            step_tokens: Histogram::new(STEP_TOKENS),
            prompt_sizes: Histogram::new(&sizes),
            output_sizes: Histogram::new(&sizes),
            longest_output: Histogram::new(&sizes),
            asked_n: Histogram::new(COUNT),
            asked_tokens: Histogram::new(&sizes),
            computed_sizes: Histogram::new(&sizes),
        }
    }

    /// Counts a prompt at the moment its turn comes.
    pub(super) fn scheduled(&self, tokens: usize, cached: usize, prefix_caching: bool) {
        if prefix_caching {
            self.prefix_queries.fetch_add(tokens as u64, Ordering::Relaxed);
            self.prefix_hits.fetch_add(cached as u64, Ordering::Relaxed);
        }
        self.prompt_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.cached_tokens.fetch_add(cached as u64, Ordering::Relaxed);
        self.step_tokens.count(tokens - cached);
        self.computed_sizes.count(tokens - cached);
    }

    /// Counts the tokens of one step, `since` after the step before.
    pub(super) fn stepped(&self, tokens: usize, since: Option<Duration>) {
        self.output_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        if let Some(since) = since {
            self.between_tokens.time(since);
            self.step_tokens.count(tokens);
        }
    }

    /// Counts a request that was answered to its end.
    pub(super) fn finished(&self, how: Finish, went: Finished) {
        let counter = match how {
            Finish::Stop => &self.stopped,
            Finish::Length => &self.cut_short,
        };
        counter.fetch_add(went.sequences as u64, Ordering::Relaxed);
        self.whole.time(went.queued + went.prefill + went.decode);
        self.queued.time(went.queued);
        self.inference.time(went.prefill + went.decode);
        self.prefill.time(went.prefill);
        self.decode.time(went.decode);
        let per_sequence = went.output_tokens / went.sequences.max(1);
        if per_sequence > 1 {
            self.per_output_token.time(went.decode / (per_sequence - 1) as u32);
        }
        self.prompt_sizes.count(went.prompt_tokens);
        self.output_sizes.count(went.output_tokens);
        self.longest_output.count(per_sequence);
        self.asked_n.count(went.sequences);
        self.asked_tokens.count(went.max_tokens);
    }

    /// Counts a request for which the queue had no room.
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request whose client left before its end.
    pub(super) fn left(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }
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
