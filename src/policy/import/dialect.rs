//! Owns recognising the system that a configuration belongs to. Refuses to read more than that takes.

use std::fmt;

use super::super::yaml::{self, YamlEntry, YamlKind, YamlNode};

/// The system and version that a configuration is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigDialect {
    /// Signalbox's own policy.
    Signalbox,
    /// vLLM Semantic Router's of autumn 2025, with models for each category.
    Categories,
    /// vLLM Semantic Router's of winter 2025, with `decisions` at the top level.
    Decisions,
    /// That of its command line in early 2026, `version: v0.1`.
    CommandLine,
    /// Its canonical one, `version: v0.3`.
    Canonical,
    /// Its objects of Kubernetes, `IntelligentPool` and `IntelligentRoute`.
    RoutingObjects,
    /// The Helm values of the vLLM production stack.
    ProductionStack,
    /// The Helm values of the vLLM Router, a program in Python.
    RouterChart,
    /// Kubernetes manifests.
    Manifests,
    /// A list of tools for a model, in JSON.
    Tools,
    /// None of these.
    Unknown,
}

impl ConfigDialect {
    /// Whether this is one of vLLM Semantic Router's.
    pub fn is_semantic_router(self) -> bool {
        matches!(self, Self::Categories | Self::Decisions | Self::CommandLine | Self::Canonical)
    }

    /// Whether this may say which models there are, alone or with others.
    pub(super) fn is_foreign(self) -> bool {
        !matches!(self, Self::Signalbox | Self::Tools | Self::Unknown)
    }
}

impl fmt::Display for ConfigDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signalbox => "Signalbox's own policy",
            Self::Categories => "models for each category, until November 2025",
            Self::Decisions => "`decisions` at the top level, November 2025 to March 2026",
            Self::CommandLine => "of the command line, `version: v0.1`",
            Self::Canonical => "canonical, `version: v0.3`",
            Self::RoutingObjects => "IntelligentPool and IntelligentRoute",
            Self::ProductionStack => "Helm values of the vLLM production stack",
            Self::RouterChart => "Helm values of the vLLM Router",
            Self::Manifests => "Kubernetes manifests",
            Self::Tools => "a list of tools",
            Self::Unknown => "unknown",
        })
    }
}

/// Recognises a configuration; a text that is no YAML is unknown.
pub fn recognise(text: &str) -> ConfigDialect {
    let documents = parse(text).unwrap_or_default();
    documents
        .into_iter()
        .flat_map(items)
        .map(|document| of(&document).dialect)
        .find(|dialect| *dialect != ConfigDialect::Unknown)
        .unwrap_or(ConfigDialect::Unknown)
}

/// Parses the documents of a text. Where it is a template that is no YAML, its placeholders are taken for words; where
/// the end of a list is indented too little, as Kubernetes' own reader allows, it is moved. Lines stay where they are.
pub(super) fn parse(text: &str) -> Result<Vec<YamlNode>, super::super::Issue> {
    let documents = yaml::parse_all(text).or_else(|issue| {
        let words = text.replace("{{", "((").replace("}}", "))");
        let moved = yaml::parse_all(&indented(text)).or_else(|_| yaml::parse_all(&words));
        moved.or_else(|_| yaml::parse_all(&indented(&words))).map_err(|_| issue)
    })?;
    let is_empty = |node: &YamlNode| matches!(&node.kind, YamlKind::Scalar(scalar) if scalar.text.is_empty());
    Ok(documents.into_iter().filter(|node| !is_empty(node)).collect())
}

/// The objects of a `List`, as `kubectl get` gives them; anything else stands for itself.
pub(super) fn items(root: YamlNode) -> Vec<YamlNode> {
    let is_list = |entries: &[YamlEntry]| matches!(value(entries, "kind").map(|node| &node.kind), Some(YamlKind::Scalar(kind)) if kind.text == "List");
    match root.kind {
        YamlKind::Map(mut entries) if is_list(&entries) => {
            let at = entries.iter().position(|entry| entry.key == "items");
            match at.map(|at| entries.swap_remove(at).value.kind) {
                Some(YamlKind::List(items)) => items,
                _ => Vec::new(),
            }
        }
        kind => vec![YamlNode { kind, ..root }],
    }
}

/// Moves lines that only close a list or a mapping to the right.
fn indented(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let is_end = line.trim_start().starts_with([']', '}']);
        if is_end { format!("        {line}") } else { line.to_owned() }
    });
    lines.collect()
}

/// What a document is recognised as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recognition {
    pub(super) dialect: ConfigDialect,
    /// The key under which the configuration is, as in the values of a Helm chart.
    pub(super) wrapped_in: Option<&'static str>,
}

impl Recognition {
    fn plain(dialect: ConfigDialect) -> Self {
        Self { dialect, wrapped_in: None }
    }
}

pub(super) fn of(root: &YamlNode) -> Recognition {
    let entries = match &root.kind {
        YamlKind::Map(entries) => entries,
        YamlKind::List(items) if !items.is_empty() && items.iter().all(is_tool) => {
            return Recognition::plain(ConfigDialect::Tools);
        }
        _ => return Recognition::plain(ConfigDialect::Unknown),
    };
    let dialect = of_mapping(entries);
    // Helm charts hold the configuration in their values.
    match value(entries, "config").map(|node| &node.kind) {
        Some(YamlKind::Map(inner)) if dialect == ConfigDialect::Unknown => {
            Recognition { dialect: of_mapping(inner), wrapped_in: Some("config") }
        }
        _ => Recognition::plain(dialect),
    }
}

fn of_mapping(entries: &[YamlEntry]) -> ConfigDialect {
    let has = |key: &str| value(entries, key).is_some();
    let text = |key: &str| match value(entries, key).map(|node| &node.kind) {
        Some(YamlKind::Scalar(scalar)) => scalar.text.as_str(),
        _ => "",
    };
    if has("apiVersion") && has("kind") {
        let is_routing = text("apiVersion").starts_with("vllm.ai/")
            && ["IntelligentPool", "IntelligentRoute"].contains(&text("kind"));
        return if is_routing { ConfigDialect::RoutingObjects } else { ConfigDialect::Manifests };
    }
    match text("version") {
        "1" => return ConfigDialect::Signalbox,
        "v0.1" => return ConfigDialect::CommandLine,
        _ => {}
    }
    let is_versioned = has("providers") && (has("routing") || has("listeners") || has("recipes"));
    if has("routing") || text("version").starts_with("v0.") || is_versioned {
        return if has("decisions") { ConfigDialect::CommandLine } else { ConfigDialect::Canonical };
    }
    if has("servingEngineSpec") || has("routerSpec") {
        return ConfigDialect::ProductionStack;
    }
    if matches!(value(entries, "models").map(|node| &node.kind), Some(YamlKind::List(items)) if items.iter().any(is_chart_model))
    {
        return ConfigDialect::RouterChart;
    }
    // What else there is stands in objects of Kubernetes.
    if text("config_source") == "kubernetes" {
        return ConfigDialect::Decisions;
    }
    if has("decisions") && (has("default_model") || has("model_config") || has("categories")) {
        return if has("pools") { ConfigDialect::Signalbox } else { ConfigDialect::Decisions };
    }
    if has("model_config") || has("vllm_endpoints") || (has("categories") && has("default_model")) {
        return ConfigDialect::Categories;
    }
    if has("pools") && has("models") { ConfigDialect::Signalbox } else { ConfigDialect::Unknown }
}

fn is_tool(item: &YamlNode) -> bool {
    matches!(&item.kind, YamlKind::Map(entries) if ["tool", "function"].iter().any(|key| value(entries, key).is_some()))
}

fn is_chart_model(item: &YamlNode) -> bool {
    let has = |entries: &[YamlEntry], key: &str| value(entries, key).is_some();
    matches!(&item.kind, YamlKind::Map(entries) if has(entries, "modelName") && has(entries, "name"))
}

fn value<'a>(entries: &'a [YamlEntry], key: &str) -> Option<&'a YamlNode> {
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}
