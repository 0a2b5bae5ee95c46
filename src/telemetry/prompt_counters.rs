//! Owns what is counted of prompts: what of them was cached, and where they were computed. Beside the counters in `facts`.

use super::columns::{RequestCounter, counter};
use super::facts::AccessRecord;

/// What is counted of prompts.
pub(super) const PROMPT_COUNTERS: &[RequestCounter<AccessRecord>] = &[
    counter(
        "prefix_tokens_total",
        "Tokens of prompts in pools that go by what endpoints have cached: predicted_prompt and predicted_cached as the \
         endpoint was chosen, prompt and cached as it then reported.",
        &["pool", "kind"],
        |record, add| {
            let (upstream, response) = (&record.upstream, &record.response);
            let (Some(pool), Some(predicted)) = (&upstream.pool, upstream.predicted_prompt_tokens) else {
                return;
            };
            let Some(prompt) = response.prompt_tokens else { return };
            let remote = record.remote_prefill();
            let pool = remote.and_then(|prefill| prefill.pool.as_ref()).unwrap_or(pool);
            let predicted_cached =
                remote.map_or(upstream.predicted_cached_tokens, |prefill| prefill.predicted_cached_tokens);
            add(&[pool, "predicted_prompt"], f64::from(predicted));
            add(&[pool, "predicted_cached"], f64::from(predicted_cached.unwrap_or_default()));
            add(&[pool, "prompt"], prompt as f64);
            add(&[pool, "cached"], response.cached_tokens.unwrap_or_default() as f64);
        },
    ),
    counter(
        "prefills_total",
        "Requests to pools with `prefill`, by that pool and where the prompt was computed: remote, or why not there.",
        &["pool", "result"],
        |record, add| {
            if let (Some(pool), Some(result)) = (&record.upstream.pool, record.prefill_result()) {
                add(&[pool, result], 1.0);
            }
        },
    ),
    counter(
        "prefill_seconds_total",
        "Time that requests waited for their prompts to be computed elsewhere, failed tries included.",
        &["pool", "result"],
        |record, add| {
            let took = record.details.as_ref().and_then(|details| details.prefill.ms);
            if let (Some(pool), Some(result), Some(ms)) =
                (&record.upstream.pool, record.prefill_result(), took)
            {
                add(&[pool, result], ms / 1_000.0);
            }
        },
    ),
];
