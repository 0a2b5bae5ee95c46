//! `/metrics` in the text format of Python's `prometheus_client`, family by family as vLLM 0.32 shows them; its
//! content type says version 1.0.0, the text is that of 0.0.4 all the same.
//! It refuses to know when numbers change, and leaves out the families of the Python process and its web server.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::SimEngine;
use super::stats::{Histogram, SimStats};

pub(super) fn text(engine: &SimEngine) -> String {
    let model = engine.options.models.first().map_or("", String::as_str);
    let mut page =
        MetricsPage { out: String::with_capacity(32 << 10), model: escape(model), started: engine.started };
    gauges(&mut page, engine);
    counters(&mut page, &engine.stats);
    histograms(&mut page, &engine.stats);
    configuration(&mut page, engine);
    page.out
}

fn gauges(page: &mut MetricsPage, engine: &SimEngine) {
    let load = engine.scheduler.load();
    let waiting = load.waiting as f64;
    page.gauge("num_requests_running", "Number of requests in model execution batches.", load.running as f64);
    page.gauge("num_requests_waiting", "Number of requests waiting to be processed.", waiting);
    page.family(
        "num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; \
         'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all \
         reasons equals vllm:num_requests_waiting.",
        "gauge",
    );
    page.series("num_requests_waiting_by_reason", &SeriesLabels::after("reason", "capacity"), waiting);
    page.series("num_requests_waiting_by_reason", &SeriesLabels::after("reason", "deferred"), 0.0);
    page.family(
        "engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; \
         weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
        "gauge",
    );
    let level = *engine.sleep.borrow();
    for (state, of_level) in [("awake", 0), ("weights_offloaded", 1), ("discard_all", 2)] {
        let value = f64::from(u8::from(level == of_level));
        page.series("engine_sleep_state", &SeriesLabels::after("sleep_state", state), value);
    }
    page.gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", load.kv_usage);
}

fn counters(page: &mut MetricsPage, stats: &SimStats) {
    let tokens = &stats.tokens;
    let (prompt, cached) = (value(&tokens.prompt), value(&tokens.cached));
    let one = |value| [(SeriesLabels::default(), value)];
    let by_source = |source, value| (SeriesLabels::after("source", source), value);
    page.counter(
        "prefix_cache_queries",
        "Prefix cache queries, in terms of number of queried tokens.",
        &one(value(&tokens.prefix_queries)),
    );
    page.counter(
        "prefix_cache_hits",
        "Prefix cache hits, in terms of number of cached tokens.",
        &one(value(&tokens.prefix_hits)),
    );
    page.counter("num_preemptions", "Cumulative number of preemption from the engine.", &one(0.0));
    page.counter("prompt_tokens", "Number of prefill tokens processed.", &one(prompt));
    page.counter(
        "prompt_tokens_by_source",
        "Number of prompt tokens by source.",
        &[
            by_source("local_compute", prompt - cached),
            by_source("local_cache_hit", cached),
            by_source("external_kv_transfer", 0.0),
        ],
    );
    page.counter("prompt_tokens_cached", "Number of cached prompt tokens (local + external).", &one(cached));
    page.counter("generation_tokens", "Number of generation tokens processed.", &one(value(&tokens.output)));
    let outcomes = &stats.outcomes;
    let by_reason = |reason, value| (SeriesLabels::before("finished_reason", reason), value);
    page.counter(
        "request_success",
        "Count of successfully processed requests.",
        &[
            by_reason("stop", value(&outcomes.stop)),
            by_reason("length", value(&outcomes.length)),
            by_reason("abort", value(&outcomes.abort)),
            by_reason("error", 0.0),
            by_reason("repetition", 0.0),
        ],
    );
    page.rejections(&[("max_num_queued_reqs", value(&outcomes.rejected)), ("max_num_queued_tokens", 0.0)]);
}

fn value(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn histograms(page: &mut MetricsPage, stats: &SimStats) {
    let SimStats { latency, sizes, .. } = stats;
    let all: [(&str, &str, &Histogram); 15] = [
        ("request_prompt_tokens", "Number of prefill tokens processed.", &sizes.prompt),
        ("request_generation_tokens", "Number of generation tokens processed.", &sizes.output),
        ("iteration_tokens_total", "Histogram of number of tokens per engine_step.", &sizes.step),
        (
            "request_max_num_generation_tokens",
            "Histogram of maximum number of requested generation tokens.",
            &sizes.longest_output,
        ),
        ("request_params_n", "Histogram of the n request parameter.", &sizes.n),
        ("request_params_max_tokens", "Histogram of the max_tokens request parameter.", &sizes.max_tokens),
        ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", &latency.first_token),
        ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", &latency.inter_token),
        (
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            &latency.per_output_token,
        ),
        ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", &latency.end_to_end),
        (
            "request_queue_time_seconds",
            "Histogram of time spent in WAITING phase for request.",
            &latency.queue,
        ),
        (
            "request_inference_time_seconds",
            "Histogram of time spent in RUNNING phase for request.",
            &latency.inference,
        ),
        (
            "request_prefill_time_seconds",
            "Histogram of time spent in PREFILL phase for request.",
            &latency.prefill,
        ),
        (
            "request_decode_time_seconds",
            "Histogram of time spent in DECODE phase for request.",
            &latency.decode,
        ),
        (
            "request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            &sizes.prefill_computed,
        ),
    ];
    for (name, help, histogram) in all {
        page.histogram(name, help, histogram);
    }
}

fn configuration(page: &mut MetricsPage, engine: &SimEngine) {
    let options = &engine.options;
    page.family("cache_config_info", "Information of the LLMEngine CacheConfig", "gauge");
    let caching = if options.capacity.prefix_caching { "True" } else { "False" };
    let _ = writeln!(
        page.out,
        r#"vllm:cache_config_info{{block_size="{}",cache_dtype="auto",enable_prefix_caching="{caching}",engine="0",gpu_memory_utilization="0.92",kv_cache_size_tokens="{}",num_cpu_blocks="None",num_gpu_blocks="{}",num_gpu_blocks_override="None",prefix_caching_hash_algo="sha256",sliding_window="None"}} 1.0"#,
        options.capacity.block_size,
        options.capacity.kv_blocks * options.capacity.block_size,
        options.capacity.kv_blocks,
    );
}

/// The labels of a series besides `engine` and `model_name`, which stand sorted by name among them.
#[derive(Default)]
struct SeriesLabels {
    before_model: String,
    after_model: String,
}

impl SeriesLabels {
    fn before(name: &str, value: &str) -> Self {
        Self { before_model: format!(r#"{name}="{value}","#), after_model: String::new() }
    }

    fn after(name: &str, value: &str) -> Self {
        Self { before_model: String::new(), after_model: format!(r#",{name}="{value}""#) }
    }
}

struct MetricsPage {
    out: String,
    model: String,
    started: f64,
}

impl MetricsPage {
    fn family(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.out, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}");
    }

    fn series(&mut self, name: &str, labels: &SeriesLabels, value: f64) {
        let SeriesLabels { before_model, after_model } = labels;
        let _ = writeln!(
            self.out,
            r#"vllm:{name}{{engine="0",{before_model}model_name="{}"{after_model}}} {}"#,
            self.model,
            number(value)
        );
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, "gauge");
        self.series(name, &SeriesLabels::default(), value);
    }

    fn counter(&mut self, name: &str, help: &str, values: &[(SeriesLabels, f64)]) {
        let (total, created) = (format!("{name}_total"), format!("{name}_created"));
        self.family(&total, help, "counter");
        for (labels, value) in values {
            self.series(&total, labels, *value);
        }
        self.family(&created, help, "gauge");
        for (labels, _) in values {
            self.series(&created, labels, self.started);
        }
    }

    /// Writes the one family without an `engine` label: requests are rejected before one is chosen.
    fn rejections(&mut self, reasons: &[(&str, f64)]) {
        let help = "Number of admission attempts rejected by a queue limit, by reason.";
        for (suffix, kind) in [("total", "counter"), ("created", "gauge")] {
            let name = format!("admission_rejections_{suffix}");
            self.family(&name, help, kind);
            for (reason, count) in reasons {
                let value = number(if kind == "counter" { *count } else { self.started });
                let labels = format!(r#"model_name="{}",reason="{reason}""#, self.model);
                let _ = writeln!(self.out, "vllm:{name}{{{labels}}} {value}");
            }
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, help, "histogram");
        let (bucket, created) = (format!("{name}_bucket"), format!("{name}_created"));
        let buckets = histogram.cumulative();
        for (bound, count) in &buckets {
            self.series(&bucket, &SeriesLabels::before("le", &number(*bound)), *count as f64);
        }
        let count = buckets.last().map_or(0, |(_, count)| *count);
        self.series(&format!("{name}_count"), &SeriesLabels::default(), count as f64);
        self.series(&format!("{name}_sum"), &SeriesLabels::default(), histogram.sum());
        self.family(&created, help, "gauge");
        self.series(&created, &SeriesLabels::default(), self.started);
    }
}

/// Writes a number as `prometheus_client` does: always a float, with an exponent from a million on.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let plain = format!("{value:?}");
    match plain.find('.') {
        Some(dot) if value > 0.0 && dot > 6 => {
            let digits: String = plain.chars().filter(|c| *c != '.').collect();
            let (first, rest) = digits.split_at(1);
            let mantissa = format!("{first}.{rest}");
            format!("{}e+{:02}", mantissa.trim_end_matches(['0', '.']), dot - 1)
        }
        _ => plain,
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimOptions;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (3.0, "3.0"),
            (0.0425, "0.0425"),
            (999_999.0, "999999.0"),
            (5_120_000.0, "5.12e+06"),
            (1_795_228_476.033_959, "1.795228476033959e+09"),
            (f64::INFINITY, "+Inf"),
        ];
        for (value, written) in cases {
            assert_eq!(number(value), written);
        }
    }

    #[test]
    fn the_page_names_what_schedulers_read() {
        let page = text(&SimEngine::new(SimOptions::default(), ([127, 0, 0, 1], 1).into()));
        for line in [
            r#"vllm:num_requests_running{engine="0",model_name="llama3-8b"} 0.0"#,
            r#"vllm:kv_cache_usage_perc{engine="0",model_name="llama3-8b"} 0.0"#,
            r#"vllm:request_success_total{engine="0",finished_reason="abort",model_name="llama3-8b"} 0.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="llama3-8b"} 0.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="llama3-8b"} 0.0"#,
            "# TYPE vllm:prefix_cache_queries_created gauge",
        ] {
            assert!(page.lines().any(|have| have == line), "missing: {line}");
        }
    }
}
