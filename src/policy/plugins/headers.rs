//! Owns changes to the headers that go upstream, and the names of headers that a policy may use. Refuses to know requests.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;

/// Headers that belong to the connection or to the gateway; a policy cannot change them.
pub(crate) const RESERVED_HEADERS: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
];

/// Changes to the headers that go upstream; names in lower case, values valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Headers that get this value, whatever they had.
    pub set: Vec<(String, String)>,
    /// Headers that get this value beside what they have.
    pub add: Vec<(String, String)>,
    /// Headers that are left out.
    pub remove: Vec<String>,
}

impl HeaderChanges {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Changes to the headers that go upstream.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Headers")]
pub(super) struct RawHeaders {
    /// Headers that get this value, whatever they had.
    #[schemars(extend("maxProperties" = 64))]
    set: IndexMap<String, String>,
    /// Headers that get this value beside what they have.
    #[schemars(extend("maxProperties" = 64))]
    add: IndexMap<String, String>,
    /// Headers that are left out.
    #[schemars(length(max = 64))]
    remove: Vec<String>,
}

impl RawHeaders {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> HeaderChanges {
        let remove_path = path.key("remove");
        HeaderChanges {
            set: pairs(self.set, &path.key("set"), checker),
            add: pairs(self.add, &path.key("add"), checker),
            remove: self
                .remove
                .iter()
                .enumerate()
                .map(|(index, name)| header_name(name, &remove_path.index(index), checker))
                .collect(),
        }
    }
}

fn pairs(raw: IndexMap<String, String>, path: &YamlPath, checker: &mut Checker<'_>) -> Vec<(String, String)> {
    let mut pairs = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        let path = path.key(&name);
        let name = header_name(&name, &path, checker);
        if http::HeaderValue::from_str(&value).is_err() {
            checker.issue(&path, "not a header's value: only printable ASCII can stand in one");
        }
        pairs.push((name, value));
    }
    pairs
}

/// Gives a header's name in lower case.
pub(crate) fn header_name(name: &str, path: &YamlPath, checker: &mut Checker<'_>) -> String {
    match http::HeaderName::from_bytes(name.as_bytes()) {
        Err(_) => checker.issue(path, format!("`{name}` is no header's name")),
        Ok(name) if RESERVED_HEADERS.contains(&name.as_str()) => {
            checker.issue(
                path,
                format!("`{name}` belongs to the connection; it cannot be changed or relied on"),
            );
        }
        Ok(_) => {}
    }
    name.to_ascii_lowercase()
}
