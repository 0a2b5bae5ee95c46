//! Owns finding the configuration that a ConfigMap holds. Refuses to know what is in it.

use super::super::yaml::{YamlEntry, YamlKind, YamlNode};
use super::dialect::{self, ConfigDialect};

/// A file in a ConfigMap.
pub(super) struct ConfigMapFile {
    pub(super) name: String,
    pub(super) text: String,
    /// The lines of the manifest before its first one.
    pub(super) lines_above: usize,
}

/// The files of a ConfigMap that are configuration; none of any other object.
pub(super) fn files(root: &YamlNode) -> Vec<ConfigMapFile> {
    if text(root, "kind") != Some("ConfigMap") {
        return Vec::new();
    }
    let Some(YamlKind::Map(data)) = value(root, "data").map(|data| &data.kind) else { return Vec::new() };
    data.iter().filter_map(file).collect()
}

/// The name of each such file.
pub(super) fn names(root: &YamlNode) -> Vec<String> {
    files(root).into_iter().map(|file| file.name).collect()
}

fn file(entry: &YamlEntry) -> Option<ConfigMapFile> {
    let YamlKind::Scalar(scalar) = &entry.value.kind else { return None };
    let dialect = dialect::recognise(&scalar.text);
    let is_configuration = dialect.is_semantic_router()
        || matches!(
            dialect,
            ConfigDialect::Signalbox | ConfigDialect::Tools | ConfigDialect::ProductionStack
        );
    is_configuration.then(|| ConfigMapFile {
        name: entry.key.clone(),
        text: scalar.text.clone(),
        // A block begins below its key.
        lines_above: entry.mark.line,
    })
}

fn value<'a>(node: &'a YamlNode, key: &str) -> Option<&'a YamlNode> {
    let YamlKind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

fn text<'a>(node: &'a YamlNode, key: &str) -> Option<&'a str> {
    match &value(node, key)?.kind {
        YamlKind::Scalar(scalar) => Some(&scalar.text),
        YamlKind::List(_) | YamlKind::Map(_) => None,
    }
}
