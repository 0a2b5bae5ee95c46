//! Owns whether and how a pool's endpoints are asked for their engines' own figures. Refuses to know the figures.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;

/// How the engines behind a pool's endpoints are asked for their figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsScrape {
    /// Which pools it holds for.
    pub condition: ScrapeCondition,
    /// Whose names of metrics are read.
    pub engine: EngineKind,
    /// The paths that are requested with GET, before any prefix of the pool: the next where one tells nothing.
    pub paths: Vec<String>,
    /// The time between two requests to an endpoint that has work.
    pub min_interval: Duration,
    /// The time between two requests to an endpoint that has had none for long.
    pub max_interval: Duration,
    /// For how long figures say something.
    pub max_age: Duration,
    /// Whether the requests carry the pool's credential.
    pub send_credential: bool,
}

/// Which pools are asked for figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrapeCondition {
    /// The operator said so.
    Always,
    /// Those of several endpoints: with one there is nothing to choose.
    SeveralEndpoints,
}

impl MetricsScrape {
    /// Whether a pool of so many endpoints is asked.
    pub fn holds_for(&self, endpoints: usize) -> bool {
        self.condition == ScrapeCondition::Always || endpoints > 1
    }
}

/// An engine, by how it names its metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Any of them: their names do not clash.
    #[default]
    Auto,
    /// vLLM, from 0.6 on.
    Vllm,
    /// `SGLang`.
    Sglang,
    /// TensorRT-LLM's `trtllm-serve`.
    Trtllm,
    /// Triton, with or without its TensorRT-LLM backend.
    Triton,
    /// llama.cpp's server.
    Llamacpp,
}

impl EngineKind {
    /// Where the engine shows its metrics.
    fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &["/metrics", "/prometheus/metrics"],
            // Under `/metrics` it has statistics in JSON, each of which it shows once.
            Self::Trtllm => &["/prometheus/metrics"],
            Self::Vllm | Self::Sglang | Self::Triton | Self::Llamacpp => &["/metrics"],
        }
    }
}

/// Whether endpoints are asked for their engines' metrics: `on`, `off`, or how.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Metrics")]
pub(super) enum RawMetrics {
    /// Whether they are.
    Switch(bool),
    /// The same in other words.
    Word(OnOrOff),
    /// They are, in this way.
    Full(RawMetricsSettings),
}

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnOrOff {
    /// Endpoints are asked.
    On,
    /// They are not.
    Off,
}

/// How endpoints are asked for their engines' metrics.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "MetricsSettings")]
pub(super) struct RawMetricsSettings {
    /// Whether endpoints are asked; when absent, those of pools with several endpoints, health checks and no `tls` are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    enabled: Option<bool>,
    /// The path that is requested with GET, before any prefix of the pool; the engine's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    path: Option<String>,
    /// Whose names of metrics are read.
    engine: EngineKind,
    /// The time between two requests to an endpoint that has work.
    #[serde(with = "DurationText")]
    min_interval: Duration,
    /// The time between two requests to an endpoint that has had none for long.
    #[serde(with = "DurationText")]
    max_interval: Duration,
    /// For how long figures say something.
    #[serde(with = "DurationText")]
    max_age: Duration,
    /// Whether the requests carry the pool's credential; engines show their metrics without one.
    send_credential: bool,
}

impl Default for RawMetricsSettings {
    fn default() -> Self {
        Self {
            enabled: None,
            path: None,
            engine: EngineKind::Auto,
            min_interval: Duration::from_millis(50),
            max_interval: Duration::from_secs(5),
            max_age: Duration::from_secs(10),
            send_credential: false,
        }
    }
}

/// What of a pool bears on whether it is asked.
#[derive(Clone, Copy)]
pub(super) struct MetricsContext {
    pub(super) uses_tls: bool,
    pub(super) has_credential: bool,
    pub(super) has_checks: bool,
}

impl RawMetrics {
    /// Completes what the operator wrote, or left out.
    pub(super) fn check(
        raw: Option<Self>,
        pool: MetricsContext,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Option<MetricsScrape> {
        let switched = |on| RawMetricsSettings { enabled: Some(on), ..RawMetricsSettings::default() };
        let settings = match raw {
            None => RawMetricsSettings::default(),
            Some(Self::Switch(on)) => switched(on),
            Some(Self::Word(word)) => switched(word == OnOrOff::On),
            Some(Self::Full(settings)) => settings,
        };
        settings.check(pool, path, checker)
    }
}

impl RawMetricsSettings {
    fn check(
        self,
        pool: MetricsContext,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Option<MetricsScrape> {
        if let Some(target) = &self.path
            && (!target.starts_with('/') || !target.chars().all(|c| c.is_ascii_graphic()))
        {
            checker.issue(&path.key("path"), "must start with `/` and have no white space");
        }
        if self.min_interval < Duration::from_millis(10) {
            checker.issue(&path.key("min_interval"), "must be at least 10ms");
        }
        if self.max_interval < self.min_interval {
            checker.issue(&path.key("max_interval"), "is shorter than `min_interval`");
        }
        if self.max_age < self.max_interval {
            checker.issue(
                &path.key("max_age"),
                "is shorter than `max_interval`: idle endpoints would have no figures",
            );
        }
        if self.send_credential && !pool.has_credential {
            checker.issue(&path.key("send_credential"), "has no effect without a `credential` of the pool");
        }
        let condition = match self.enabled {
            Some(false) => return None,
            Some(true) => ScrapeCondition::Always,
            // Behind TLS is a provider, as a rule, and that shows no metrics; and who turns checks off wants endpoints to
            // get nothing but requests.
            None if pool.uses_tls || !pool.has_checks => return None,
            None => ScrapeCondition::SeveralEndpoints,
        };
        let known = || self.engine.paths().iter().map(|path| (*path).to_owned()).collect();
        Some(MetricsScrape {
            condition,
            engine: self.engine,
            paths: self.path.map_or_else(known, |path| vec![path]),
            min_interval: self.min_interval,
            max_interval: self.max_interval,
            max_age: self.max_age,
            send_credential: self.send_credential,
        })
    }
}
