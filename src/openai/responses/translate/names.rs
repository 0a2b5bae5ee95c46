//! The names of a request's tools in a chat, which has no namespaces, and back.
//!
//! Refuses to know what tools do.

use xxhash_rust::xxh3::xxh3_64;

use crate::json::object::{elements, string_member};

/// The longest name of a function, in bytes.
const MAX_NAME: usize = 64;

/// The most tools whose names are told apart.
const MAX_TOOLS: usize = 4096;

/// The tools whose calls are not written as those of a function of the same name.
#[derive(Debug, Default)]
pub(super) struct ToolNames(Vec<ToolName>);

/// One tool.
#[derive(Debug)]
pub(super) struct ToolName {
    /// Its name in a chat.
    flat: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// Its input is a text, which a chat has as the one argument of a function.
    pub(super) is_custom: bool,
}

impl ToolNames {
    /// Reads the tools of a request.
    pub(super) fn of(tools: &[u8]) -> Self {
        let mut names = Self::default();
        for tool in elements(if tools.starts_with(b"[") { tools } else { b"[]" }) {
            let name = string_member(tool, "name").unwrap_or_default();
            match string_member(tool, "type").as_deref() {
                Some("custom") => names.add(None, &name, true),
                Some("namespace") => {
                    let inner = crate::json::member(tool, "tools").unwrap_or(b"[]");
                    for tool in elements(if inner.starts_with(b"[") { inner } else { b"[]" }) {
                        let is_custom = string_member(tool, "type").as_deref() == Some("custom");
                        let own = string_member(tool, "name").unwrap_or_default();
                        names.add(Some(&name), &own, is_custom);
                    }
                }
                _ => {}
            }
        }
        names
    }

    fn add(&mut self, namespace: Option<&str>, name: &str, is_custom: bool) {
        if self.0.len() < MAX_TOOLS {
            let flat = flat_name(namespace, name);
            let namespace = namespace.map(str::to_owned);
            self.0.push(ToolName { flat, name: name.to_owned(), namespace, is_custom });
        }
    }

    /// Finds the tool that a chat calls by this name; nothing if that is its own.
    pub(super) fn find(&self, flat: &str) -> Option<&ToolName> {
        self.0.iter().find(|tool| tool.flat == flat)
    }
}

/// The name of a tool in a chat: one that is too long is cut, and told apart by a fingerprint.
pub(super) fn flat_name(namespace: Option<&str>, name: &str) -> String {
    let whole = match namespace {
        Some(namespace) if namespace.ends_with("__") => format!("{namespace}{name}"),
        Some(namespace) => format!("{namespace}__{name}"),
        None => name.to_owned(),
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if whole.len() <= MAX_NAME && whole.chars().all(is_allowed) {
        return whole;
    }
    let fingerprint = format!("_{:08x}", xxh3_64(whole.as_bytes()) as u32);
    let plain = whole.chars().map(|c| if is_allowed(c) { c } else { '_' });
    plain.take(MAX_NAME - fingerprint.len()).collect::<String>() + &fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_found_again() {
        let tools = br#"[{"type":"function","name":"plain"},{"type":"custom","name":"patch"},
            {"type":"namespace","name":"mcp__git__","tools":[{"type":"function","name":"log"}]}]"#;
        let names = ToolNames::of(tools);
        assert!(names.find("plain").is_none());
        assert!(names.find("patch").is_some_and(|tool| tool.is_custom && tool.namespace.is_none()));
        let log = names.find("mcp__git__log").unwrap();
        assert_eq!((log.name.as_str(), log.namespace.as_deref()), ("log", Some("mcp__git__")));
        let cut = flat_name(Some(&"n".repeat(60)), "tool_a");
        assert_eq!(cut.len(), MAX_NAME);
        assert_ne!(cut, flat_name(Some(&"n".repeat(60)), "tool_b"));
        assert!(flat_name(None, "git.log").starts_with("git_log_"));
    }
}
