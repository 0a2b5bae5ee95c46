//! Owns what a page of metrics says of its engine: the families that are read, summed up over data-parallel ranks.
//! Refuses to know how the page came.

use super::exposition::{MetricLabels, MetricSample, PageLines, name_of, unescaped};
use super::families::{EngineFamily, family};
use crate::balance::{EngineMetrics, KvCacheSize, LoadedAdapters};
use crate::policy::EngineKind;
use std::time::Instant;

/// The most adapters of one engine that are remembered.
const MAX_ADAPTERS: usize = 256;

/// More than any engine has of anything; sums of it are exact enough and finite.
const MAX_FIGURE: f64 = 1e9;

/// Reads a page of an engine's metrics as it comes, in one pass.
#[derive(Debug)]
pub struct EnginePage {
    engine: EngineKind,
    lines: PageLines,
    figures: Figures,
}

impl EnginePage {
    /// Starts a page of an engine.
    pub fn new(engine: EngineKind) -> Self {
        Self { engine, lines: PageLines::default(), figures: Figures::default() }
    }

    /// Takes the next piece, cut wherever.
    pub fn feed(&mut self, piece: &[u8]) {
        let Self { engine, lines, figures } = self;
        lines.feed(piece, |line| {
            if let Some((name, rest)) = name_of(line)
                && let Some(family) = family(*engine, name)
                && let Some(sample) = MetricSample::read(rest)
            {
                figures.add(family, sample);
            }
        });
    }

    /// What the page said, read at `at`; `None` where it names no family that is read.
    pub fn finish(self, at: Instant) -> Option<EngineMetrics> {
        self.figures.is_known.then(|| self.figures.metrics(at))
    }
}

/// A figure that several ranks may show.
#[derive(Debug, Clone, Copy, Default)]
struct RankTotal {
    sum: f64,
    ranks: u32,
}

impl RankTotal {
    /// Adds one rank's figure; one that is negative, no number or beyond reason is unknown.
    fn add(&mut self, value: f64) {
        if (0.0..=MAX_FIGURE).contains(&value) {
            self.sum += value;
            self.ranks += 1;
        }
    }

    fn sum(self) -> Option<f32> {
        (self.ranks > 0).then_some(self.sum as f32)
    }

    fn mean(self) -> Option<f32> {
        self.sum().map(|sum| sum / self.ranks as f32)
    }

    fn count(self) -> Option<u32> {
        (self.ranks > 0).then_some(self.sum as u32)
    }
}

#[derive(Debug, Default)]
struct Figures {
    is_known: bool,
    waiting: RankTotal,
    waiting_for_capacity: RankTotal,
    running: RankTotal,
    kv_usage: RankTotal,
    old_kv_usage: RankTotal,
    block_tokens: RankTotal,
    blocks: RankTotal,
    awake: RankTotal,
    asleep: RankTotal,
    /// The adapters by the newest series, and its time: every combination that there ever was has a series.
    adapters: Option<AdapterSeries>,
}

#[derive(Debug)]
struct AdapterSeries {
    time: f64,
    /// The text of its labels.
    labels: Vec<u8>,
}

impl Figures {
    fn add(&mut self, family: EngineFamily, sample: MetricSample<'_>) {
        let MetricSample { labels, value } = sample;
        if is_counted_elsewhere(labels) {
            return;
        }
        self.is_known = true;
        match family {
            EngineFamily::Waiting => self.waiting.add(value),
            EngineFamily::WaitingByReason if labels.get(b"reason") == Some(b"capacity") => {
                self.waiting_for_capacity.add(value);
            }
            EngineFamily::Running => self.running.add(value),
            EngineFamily::RequestsByType => match labels.get(b"request_type") {
                Some(b"waiting") => self.waiting.add(value),
                Some(b"scheduled") => self.running.add(value),
                _ => {}
            },
            EngineFamily::KvUsage => self.kv_usage.add(value),
            EngineFamily::OldKvUsage => self.old_kv_usage.add(value),
            EngineFamily::BlockTokens => self.block_tokens.add(value),
            EngineFamily::Blocks => self.blocks.add(value),
            EngineFamily::BlocksByType => match labels.get(b"kv_cache_block_type") {
                Some(b"fraction") => self.kv_usage.add(value),
                Some(b"tokens_per") => self.block_tokens.add(value),
                Some(b"max") => self.blocks.add(value),
                _ => {}
            },
            EngineFamily::CacheConfig { block_tokens, blocks } => {
                if let (Some(tokens), Some(blocks)) = (number(labels, block_tokens), number(labels, blocks)) {
                    self.block_tokens.add(tokens);
                    self.blocks.add(blocks);
                }
            }
            EngineFamily::SleepState if labels.get(b"sleep_state") == Some(b"awake") => self.awake.add(value),
            EngineFamily::SleepState => self.asleep.add(value),
            EngineFamily::Adapters => self.add_adapters(labels, value),
            EngineFamily::WaitingByReason => {}
        }
    }

    fn add_adapters(&mut self, labels: MetricLabels<'_>, time: f64) {
        let is_newer = self.adapters.as_ref().is_none_or(|known| time > known.time);
        if time.is_finite() && is_newer {
            let known = self.adapters.get_or_insert_with(|| AdapterSeries { time, labels: Vec::new() });
            known.time = time;
            known.labels.clear();
            known.labels.extend_from_slice(labels.bytes());
        }
    }

    fn metrics(&self, at: Instant) -> EngineMetrics {
        let is_asleep = match self.awake.sum() {
            Some(awake) => awake == 0.0,
            None => self.asleep.sum > 0.0,
        };
        let usage = self.kv_usage.mean().or(self.old_kv_usage.mean());
        EngineMetrics {
            // Those that are deferred for another reason than capacity are no load.
            waiting: self.waiting_for_capacity.sum().or(self.waiting.sum()),
            running: self.running.sum(),
            kv_usage: usage.map(|usage| usage.min(1.0)),
            kv_cache: self.kv_cache(),
            adapters: self.adapters.as_ref().map(|series| adapters(MetricLabels::of_bytes(&series.labels))),
            is_asleep,
            ..EngineMetrics::new(at)
        }
    }

    /// The cache of all ranks together.
    fn kv_cache(&self) -> Option<KvCacheSize> {
        let block_tokens = self.block_tokens.mean().map(|tokens| tokens as u32)?;
        let blocks = self.blocks.count()?;
        (block_tokens > 0 && blocks > 0).then_some(KvCacheSize { block_tokens, blocks })
    }
}

/// Whether a series repeats what another one shows: ranks of one engine that share their requests, and parts of a sum.
fn is_counted_elsewhere(labels: MetricLabels<'_>) -> bool {
    labels.iter().any(|(name, value)| match name {
        b"tp_rank" | b"pp_rank" => value != b"0",
        b"priority" => !value.is_empty(),
        _ => false,
    })
}

fn number(labels: MetricLabels<'_>, name: &[u8]) -> Option<f64> {
    std::str::from_utf8(labels.get(name)?).ok()?.parse().ok()
}

fn adapters(labels: MetricLabels<'_>) -> LoadedAdapters {
    let names = |label: &[u8]| {
        let list = labels.get(label).map(unescaped).unwrap_or_default();
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.take(MAX_ADAPTERS).map(Box::from).collect()
    };
    LoadedAdapters {
        running: names(b"running_lora_adapters"),
        waiting: names(b"waiting_lora_adapters"),
        max: number(labels, b"max_lora").map_or(0, |max| max as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_as(engine: EngineKind, page: &str) -> Option<EngineMetrics> {
        let mut reader = EnginePage::new(engine);
        reader.feed(page.as_bytes());
        reader.finish(Instant::now())
    }

    fn read(page: &str) -> EngineMetrics {
        read_as(EngineKind::Auto, page).expect("a family is known")
    }

    fn load(page: &str) -> [Option<f32>; 3] {
        let EngineMetrics { waiting, running, kv_usage, .. } = read(page);
        [waiting, running, kv_usage]
    }

    fn size(block_tokens: u32, blocks: u32) -> KvCacheSize {
        KvCacheSize { block_tokens, blocks }
    }

    #[test]
    fn every_dialect_is_read() {
        for (engine, page) in [
            (
                EngineKind::Vllm,
                "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 3.0\n\
                 vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 7.0\n\
                 vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.25\n\
                 vllm:cache_config_info{block_size=\"16\",cpu_offload_gb=\"0\",num_gpu_blocks=\"100\"} 1.0\n",
            ),
            (
                EngineKind::Vllm,
                "vllm:num_requests_waiting 3\nvllm:num_requests_running 7\nvllm:gpu_cache_usage_perc 0.25\n\
                 vllm:cache_config_info{num_gpu_blocks=\"100\",block_size=\"16\"} 1\n",
            ),
            (
                EngineKind::Sglang,
                "sglang:num_queue_reqs{tp_rank=\"0\"} 3\nsglang:num_running_reqs{tp_rank=\"0\"} 7\n\
                 sglang:num_queue_reqs{tp_rank=\"1\"} 3\nsglang:num_running_reqs{tp_rank=\"0\",priority=\"5\"} 2\n\
                 sglang:token_usage{tp_rank=\"0\",priority=\"\"} 0.25\n\
                 sglang:cache_config_info{page_size=\"16\",num_pages=\"100\"} 1\n",
            ),
            (
                EngineKind::Trtllm,
                "trtllm_num_requests_waiting 3\ntrtllm_num_requests_running 7\n\
                 trtllm_kv_cache_utilization 0.25\ntrtllm_kv_cache_tokens_per_block 16\n\
                 trtllm_kv_cache_max_blocks 100\n",
            ),
            (
                EngineKind::Triton,
                "nv_trt_llm_request_metrics{model=\"t\",request_type=\"waiting\"} 3\n\
                 nv_trt_llm_request_metrics{model=\"t\",request_type=\"scheduled\"} 7\n\
                 nv_trt_llm_request_metrics{model=\"t\",request_type=\"max\"} 64\n\
                 nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\"} 0.25\n\
                 nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\"} 16\n\
                 nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\"} 100\n",
            ),
        ] {
            assert_eq!(load(page), [Some(3.0), Some(7.0), Some(0.25)], "{page}");
            assert_eq!(read(page).kv_cache, Some(size(16, 100)), "{page}");
            assert_eq!(read_as(engine, page).map(|read| read.waiting), Some(Some(3.0)), "{page}");
            let other = if engine == EngineKind::Vllm { EngineKind::Sglang } else { EngineKind::Vllm };
            assert_eq!(read_as(other, page), None, "{page}");
        }
        let llama = "llamacpp:requests_processing 7\nllamacpp:requests_deferred 3\n\
                     llamacpp:kv_cache_usage_ratio 0.25\n";
        assert_eq!(load(llama), [Some(3.0), Some(7.0), Some(0.25)]);
        assert_eq!(load("nv_inference_pending_request_count{model=\"m\"} 2\n"), [Some(2.0), None, None]);
    }

    #[test]
    fn the_ranks_behind_one_port_are_one_endpoint() {
        let page = "vllm:num_requests_waiting{engine=\"0\"} 1\nvllm:num_requests_waiting{engine=\"1\"} 2\n\
                    vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_running{engine=\"1\"} 4\n\
                    vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.25\n\
                    vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"100\"} 1\n\
                    vllm:cache_config_info{block_size=\"16\",engine=\"1\",num_gpu_blocks=\"200\"} 1\n";
        assert_eq!(load(page), [Some(3.0), Some(7.0), Some(0.375)]);
        assert_eq!(read(page).kv_cache, Some(size(16, 300)));
    }

    #[test]
    fn only_those_that_wait_for_capacity_are_waiting_where_the_engine_tells_them_apart() {
        let page =
            "vllm:num_requests_waiting 9\nvllm:num_requests_waiting_by_reason{reason=\"deferred\"} 7\n";
        assert_eq!(read(page).waiting, Some(9.0));
        let page = page.to_owned() + "vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 2\n";
        assert_eq!(read(&page).waiting, Some(2.0));
    }

    #[test]
    fn the_newest_series_names_the_adapters() {
        let page = "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"old\",waiting_lora_adapters=\"\"} 1.7e9\n\
                    vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a, b\",waiting_lora_adapters=\"c\\\"\"} 1.8e+09\n\
                    vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"older\",waiting_lora_adapters=\"\"} 1.6e9\n";
        let adapters = read(page).adapters.unwrap();
        let texts = |names: &[Box<str>]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&adapters.running), ["a", "b"]);
        assert_eq!((texts(&adapters.waiting), adapters.max), (vec!["c\"".to_owned()], 4));
        let many = vec!["x"; 5_000].join(",");
        let page = format!("vllm:lora_requests_info{{running_lora_adapters=\"{many}\"}} 1\n");
        assert_eq!(read(&page).adapters.unwrap().running.len(), MAX_ADAPTERS);
    }

    #[test]
    fn an_engine_sleeps_when_it_is_not_awake() {
        let state = |awake, offloaded| {
            let page = format!(
                "vllm:engine_sleep_state{{engine=\"0\",sleep_state=\"awake\"}} {awake}\n\
                 vllm:engine_sleep_state{{engine=\"0\",sleep_state=\"weights_offloaded\"}} {offloaded}\n"
            );
            read(&page).is_asleep
        };
        assert_eq!([state("1.0", "0.0"), state("0.0", "1.0"), state("NaN", "0.0")], [false, true, false]);
        assert!(!read("vllm:num_requests_running 1\n").is_asleep);
    }

    #[test]
    fn what_is_no_figure_is_unknown() {
        for value in ["NaN", "-1", "+Inf", "-Inf", "1e300"] {
            let page = format!("vllm:num_requests_waiting {value}\nvllm:kv_cache_usage_perc {value}\n");
            assert_eq!(load(&page), [None; 3], "{value}");
        }
        let page = "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\"} 1.0\n";
        assert_eq!(read(page).kv_cache, None);
        assert_eq!(read("vllm:kv_cache_usage_perc 42\n").kv_usage, Some(1.0));
        for page in [
            "",
            "<html></html>\n",
            "up 1\n",
            "# TYPE vllm:num_requests_running gauge\n",
            "vllm:num_requests_running 1",
        ] {
            assert_eq!(read_as(EngineKind::Auto, page), None, "{page}");
        }
    }

    #[test]
    fn a_later_name_of_a_figure_wins_over_an_earlier_one() {
        let page = "vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.1\n";
        assert_eq!(read(page).kv_usage, Some(0.1));
    }

    fn hostile_lines() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "vllm:num_requests_waiting",
            "vllm:num_requests_waiting_by_reason",
            "vllm:kv_cache_usage_perc",
            "vllm:cache_config_info",
            "vllm:lora_requests_info",
            "vllm:engine_sleep_state",
            "nv_trt_llm_kv_cache_block_metrics",
            "# HELP",
        ]);
        let labels = prop_oneof![
            Just(String::new()),
            Just("{reason=\"capacity\"}".to_owned()),
            "\\{(block_size|num_gpu_blocks|max_lora|running_lora_adapters)=\"[0-9,\\\\\"}e.-]{0,12}\"?\\}?",
            ".{0,20}",
        ];
        let value =
            prop_oneof![any::<f64>().prop_map(|value| value.to_string()), ".{0,8}".prop_map(|text| text)];
        (name, labels, value).prop_map(|(name, labels, value)| format!("{name}{labels} {value}\n"))
    }

    proptest! {
        #[test]
        fn what_is_read_of_any_page_is_a_figure_and_the_same_however_it_is_cut(
            lines in prop::collection::vec(hostile_lines(), 0..30),
            size in 1_usize..64,
        ) {
            let page = lines.concat();
            let at = Instant::now();
            let mut pieces = EnginePage::new(EngineKind::Auto);
            page.as_bytes().chunks(size).for_each(|piece| pieces.feed(piece));
            let mut whole = EnginePage::new(EngineKind::Auto);
            whole.feed(page.as_bytes());
            let read = whole.finish(at);
            prop_assert_eq!(&pieces.finish(at), &read);
            if let Some(read) = read {
                for figure in [read.waiting, read.running, read.kv_usage].into_iter().flatten() {
                    prop_assert!(figure >= 0.0 && figure.is_finite());
                }
                prop_assert!(read.kv_usage.is_none_or(|usage| usage <= 1.0));
            }
        }
    }
}
