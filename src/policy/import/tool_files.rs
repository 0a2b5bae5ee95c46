//! Owns the tool lists given beside a configuration that it refers to. Refuses to read them.

use std::collections::BTreeSet;

use super::super::yaml::{YamlKind, YamlNode};
use super::source_node::SourceNode;

/// The names of the lists of tools that were given.
#[derive(Debug, Default)]
pub(super) struct ToolFiles<'a> {
    pub(super) tools: Vec<&'a str>,
}

impl ToolFiles<'_> {
    /// Finds the given file that a path in a configuration means, and records the outcome.
    pub(super) fn tools(&self, path: &SourceNode<'_>) -> Option<String> {
        let wanted = file_name(path.text()?);
        let found = self.tools.iter().find(|given| file_name(given) == wanted);
        match found {
            Some(given) => path.mapped(&format!("tools.file: {given}")),
            None => {
                path.unsupported("the file was not given to the import, so no tools are picked; give it too");
            }
        }
        found.map(|given| (*given).to_owned())
    }
}

/// Finds the names of the files that a configuration names as its lists of tools.
pub(super) fn named(node: &YamlNode, found: &mut BTreeSet<String>) {
    match &node.kind {
        YamlKind::Scalar(_) => {}
        YamlKind::List(items) => items.iter().for_each(|item| named(item, found)),
        YamlKind::Map(entries) => {
            for entry in entries {
                match &entry.value.kind {
                    YamlKind::Scalar(path) if entry.key == "tools_db_path" => {
                        found.insert(file_name(&path.text).to_owned());
                    }
                    _ => named(&entry.value, found),
                }
            }
        }
    }
}

/// The last part of a path.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}
