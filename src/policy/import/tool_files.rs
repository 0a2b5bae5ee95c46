//! Owns the tool lists given beside a configuration that it refers to. Refuses to read them.

use super::source_node::SourceNode;

/// The names of the lists of tools that were given.
#[derive(Debug, Default)]
pub(super) struct ToolFiles<'a> {
    pub(super) tools: Vec<&'a str>,
}

impl ToolFiles<'_> {
    /// Finds the given file that a path in a configuration means, and records the outcome.
    pub(super) fn tools(&self, path: &SourceNode<'_>) -> Option<String> {
        let last = |path: &str| path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        let wanted = last(path.text()?);
        let found = self.tools.iter().find(|given| last(given) == wanted);
        match found {
            Some(given) => path.mapped(&format!("tools.file: {given}")),
            None => {
                path.unsupported("the file was not given to the import, so no tools are picked; give it too");
            }
        }
        found.map(|given| (*given).to_owned())
    }
}
