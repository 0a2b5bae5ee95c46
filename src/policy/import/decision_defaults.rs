//! Owns what a source sets once for all of its decisions. Refuses to know decisions and plugins.

use super::tool_files::ToolFiles;
use super::yaml_writer::YamlMapping;

/// What all decisions of a source share.
pub(super) struct DecisionDefaults<'a> {
    /// Whether this is the canonical dialect, whose decisions skip requests that name a model.
    pub(super) is_canonical: bool,
    /// The response cache, where it is on.
    pub(super) cache: Option<CacheDefaults>,
    /// Whether decisions cache responses without a plugin of their own.
    pub(super) caches_all: bool,
    /// The tools that every decision offers.
    pub(super) tools: Option<YamlMapping>,
    pub(super) prompt_min: Option<f64>,
    pub(super) pii_min: Option<f64>,
    /// Whether a hallucination detector is configured.
    pub(super) has_detector: bool,
    pub(super) files: &'a ToolFiles<'a>,
}

/// A semantic cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheDefaults {
    /// The least similarity of a hit, `0..=1`.
    pub(super) min_score: f64,
    pub(super) ttl_secs: u64,
}
