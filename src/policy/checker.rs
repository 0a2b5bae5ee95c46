//! Owns what every check needs: where a path lies in the text, the files it reads, the issues it finds. Refuses to
//! know what is checked.

use std::path::{Path as FilePath, PathBuf};

use super::environment::Environment;
use super::issue::{Issue, MAX_ISSUES, YamlPath, near_miss};
use super::yaml::{Style, YamlNode};

/// The longest name of a model, a pool or a decision.
const MAX_NAME_BYTES: usize = 256;

/// The most bytes of files that a configuration reads, one that is named twice counted twice; the last may exceed it.
const MAX_FILES_BYTES: usize = 16 << 20;

/// The surroundings and the findings of one check.
pub(super) struct Checker<'a> {
    tree: &'a YamlNode,
    base: &'a FilePath,
    environment: &'a dyn Environment,
    /// What was wrong before; what it is in is missing from what is checked.
    known: &'a [Issue],
    pub(super) issues: Vec<Issue>,
    pub(super) files: Vec<PathBuf>,
    /// Of all files that were read, each as often as it was.
    file_bytes: usize,
}

impl<'a> Checker<'a> {
    /// Starts a check of `tree`, whose relative files start at `base`.
    pub(super) fn new(
        tree: &'a YamlNode,
        base: &'a FilePath,
        environment: &'a dyn Environment,
        known: &'a [Issue],
    ) -> Self {
        Self { tree, base, environment, known, issues: Vec::new(), files: Vec::new(), file_bytes: 0 }
    }

    /// Whether anything is wrong so far in the section of this name.
    pub(super) fn has_fault_in(&self, section: &str) -> bool {
        let is_in = |issue: &Issue| {
            let rest = issue.path.strip_prefix(section);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.known.iter().chain(&self.issues).any(is_in)
    }

    /// Gives the whole text as it was read, variables expanded.
    pub(super) fn tree(&self) -> &YamlNode {
        self.tree
    }

    /// Records that something is wrong.
    pub(super) fn issue(&mut self, path: &YamlPath, message: impl Into<String>) {
        self.record(path, message.into(), None);
    }

    /// Records that a name is unknown, with the likely correction.
    pub(super) fn unknown<'n>(
        &mut self,
        path: &YamlPath,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        if self.issues.len() < MAX_ISSUES {
            self.record(path, format!("unknown {what} `{name}`"), near_miss(name, known));
        }
    }

    /// Refuses a name that does not fit into a response header, a log line and a metric's label.
    pub(super) fn name(&mut self, path: &YamlPath, name: &str) {
        if name.trim().is_empty() || name.trim() != name || http::HeaderValue::from_str(name).is_err() {
            self.issue(path, "a name must be ASCII text without white space around it");
        } else if name.len() > MAX_NAME_BYTES {
            self.issue(path, format!("a name must not be longer than {MAX_NAME_BYTES} characters"));
        }
    }

    /// Gives an environment variable.
    pub(super) fn var(&self, name: &str) -> Option<String> {
        self.environment.var(name)
    }

    /// Says whether a value is what a variable expanded to, and nothing else.
    pub(super) fn is_expanded(&self, path: &YamlPath) -> bool {
        self.tree.scalar(path).is_some_and(|scalar| scalar.style == Style::Expanded)
    }

    /// Gives a scalar's text, variables expanded.
    pub(super) fn text(&self, path: &YamlPath) -> Option<String> {
        self.tree.scalar(path).map(|scalar| scalar.text.clone())
    }

    /// Joins a file reference to the configuration's folder.
    pub(super) fn resolve(&self, file: impl AsRef<FilePath>) -> PathBuf {
        self.base.join(file)
    }

    /// Reads a referenced file and remembers it, also when it cannot be read.
    pub(super) fn read(&mut self, file: &str) -> std::io::Result<Vec<u8>> {
        let file = self.resolve(file);
        let bytes = match self.file_bytes {
            MAX_FILES_BYTES.. => {
                let message =
                    format!("the files read so far are larger than {} MiB together", MAX_FILES_BYTES >> 20);
                Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message))
            }
            _ => self.environment.read(&file),
        };
        self.file_bytes += bytes.as_ref().map_or(0, Vec::len);
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        bytes
    }

    /// Reads a PEM file that must hold at least one block of a kind such as `CERTIFICATE`.
    pub(super) fn pem(&mut self, path: &YamlPath, file: &str, block: &str) -> Option<Vec<u8>> {
        match self.read(file) {
            Ok(bytes) if holds_block(&bytes, block) => return Some(bytes),
            Ok(_) => self.issue(path, format!("`{file}` holds no PEM block of a {}", block.to_lowercase())),
            Err(error) => self.issue(path, format!("cannot read `{file}`: {error}")),
        }
        None
    }

    fn record(&mut self, path: &YamlPath, message: String, suggestion: Option<String>) {
        if self.issues.len() >= MAX_ISSUES {
            return;
        }
        let mark = self.tree.locate(path);
        self.issues.push(Issue {
            path: path.to_string(),
            line: mark.line,
            column: mark.column,
            message,
            suggestion,
            excerpt: None,
        });
    }
}

/// Whether a PEM text has a header whose kind ends in `block`, as `EC PRIVATE KEY` does in `PRIVATE KEY`.
fn holds_block(bytes: &[u8], block: &str) -> bool {
    String::from_utf8_lossy(bytes).lines().any(|line| {
        let kind = line.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        kind.is_some_and(|kind| kind.ends_with(block))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pem_block_is_known_by_its_header() {
        assert!(holds_block(b"x\n-----BEGIN EC PRIVATE KEY-----\n", "PRIVATE KEY"));
        assert!(!holds_block(b"-----BEGIN CERTIFICATE-----", "PRIVATE KEY"));
        assert!(!holds_block(b"CERTIFICATE", "CERTIFICATE"));
    }
}
