//! Owns the way from text to checked data, and how the steps' issues come together. Refuses to know the steps.

use std::path::Path as FilePath;

use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::checker::Checker;
use super::document::RawPolicy;
use super::environment::Environment;
use super::expand::expand;
use super::issue::{Issue, Issues, Position};
use super::model_facts::ModelFacts;
use super::server::{RawServer, ServerSpec};
use super::validate::{UNKNOWN_KEY, validate};
use super::yaml::{self, YamlKind, YamlNode};
use super::{ClassifierSpec, Policy};

/// Loads a policy; relative files start at `base`, and decisions may name `domains` alone, or any at all while those are unknown.
///
/// The error holds everything that is wrong, in the order of the lines.
pub fn load(
    text: &str,
    base: &FilePath,
    environment: &dyn Environment,
    domains: Option<&[&str]>,
) -> Result<Policy, Issues> {
    let domains = domains.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let facts = ModelFacts { domains, faults: Vec::new() };
    load_with(text, base, environment, &|_| facts.clone())
}

/// Loads a policy as [`load`] does, and asks `inspect` for what its models say of themselves.
pub fn load_with(
    text: &str,
    base: &FilePath,
    environment: &dyn Environment,
    inspect: &dyn Fn(&ClassifierSpec) -> ModelFacts,
) -> Result<Policy, Issues> {
    let config = ConfigText { text, base, environment, kind: ConfigKind::Policy };
    config.read(|raw: RawPolicy, checker| raw.check(inspect, checker))
}

/// Loads a server file; relative files start at `base`.
pub fn load_server(text: &str, base: &FilePath, environment: &dyn Environment) -> Result<ServerSpec, Issues> {
    // Every key has a default, so a file without a single one is as good as `{}`.
    let blank = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let text = if blank { "{}" } else { text };
    ConfigText { text, base, environment, kind: ConfigKind::Server }.read(RawServer::check)
}

/// Gives a file's text, or says where it stops being UTF-8.
pub fn decode(bytes: Vec<u8>) -> Result<String, Issues> {
    String::from_utf8(bytes).map_err(|error| {
        let (bytes, end) = (error.as_bytes(), error.utf8_error().valid_up_to());
        let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        let encoding = if is_utf16 { "UTF-16" } else { "not UTF-8, perhaps Latin-1" };
        let before = String::from_utf8_lossy(&bytes[..end]);
        let last = before.rsplit('\n').next().unwrap_or_default();
        let mark = Position { line: before.matches('\n').count() + 1, column: last.chars().count() + 1 };
        Issues(vec![Issue::of_document(mark, format!("the text is {encoding}; save it as UTF-8"))])
    })
}

/// Gives the JSON Schema of a policy, for editors.
pub fn schema() -> Value {
    schema_for!(RawPolicy).to_value()
}

/// Gives the JSON Schema of a server file, for editors.
pub fn server_schema() -> Value {
    schema_for!(RawServer).to_value()
}

/// One of the files that the process reads, and where it stands.
struct ConfigText<'a> {
    text: &'a str,
    base: &'a FilePath,
    environment: &'a dyn Environment,
    kind: ConfigKind,
}

#[derive(Clone, Copy)]
enum ConfigKind {
    Policy,
    Server,
}

impl ConfigText<'_> {
    /// Reads the text as `R` and checks it.
    fn read<R: DeserializeOwned + JsonSchema, T>(
        &self,
        check: impl FnOnce(R, &mut Checker<'_>) -> T,
    ) -> Result<T, Issues> {
        self.checked(check).map_err(|issues| Issues::sorted(issues, self.text))
    }

    fn checked<R: DeserializeOwned + JsonSchema, T>(
        &self,
        check: impl FnOnce(R, &mut Checker<'_>) -> T,
    ) -> Result<T, Vec<Issue>> {
        let mut tree = yaml::parse(self.text).map_err(|issue| vec![issue])?;
        let mut issues = expand(&mut tree, self.environment);
        let schema = schema_for!(R).to_value();
        let (value, mut faults) = validate(&tree, &schema);
        if let Some(issue) = self.kind.mistaken(&tree, &schema) {
            return Err(vec![issue]);
        }
        self.kind.correct(&mut faults);
        issues = merged(issues, faults, |known, new| known.path == new.path);
        let Some(value) = value else { return Err(issues) };
        // Faulty parts are left out of the value; what still makes a whole is checked all the same, so that one run
        // names as much as possible.
        match serde_json::from_value::<R>(value) {
            Ok(raw) => {
                let mut checker = Checker::new(&tree, self.base, self.environment, &issues);
                let result = check(raw, &mut checker);
                let found = checker.issues;
                issues = merged(issues, found, |known, new| related(&known.path, &new.path));
                if issues.is_empty() { Ok(result) } else { Err(issues) }
            }
            Err(error) if issues.is_empty() => Err(vec![Issue::of_document(tree.mark, error.to_string())]),
            Err(_) => Err(issues),
        }
    }
}

impl ConfigKind {
    /// The schema of the other file, and what that is called.
    fn other(self) -> (Value, &'static str) {
        match self {
            Self::Policy => (server_schema(), "server file, `--server`"),
            Self::Server => (schema(), "policy"),
        }
    }

    /// Says of a text whose every key is the other file's that it is that file.
    fn mistaken(self, tree: &YamlNode, own: &Value) -> Option<Issue> {
        let YamlKind::Map(entries) = &tree.kind else { return None };
        if entries.is_empty() || entries.iter().any(|entry| has_key(own, &entry.key)) {
            return None;
        }
        let (other, name) = self.other();
        let is_other = entries.iter().all(|entry| has_key(&other, &entry.key));
        is_other.then(|| Issue::of_document(tree.mark, format!("this is the {name}")))
    }

    /// Says of each unknown key that the other file has that it belongs there.
    fn correct(self, faults: &mut [Issue]) {
        let is_unknown = |fault: &&mut Issue| fault.message.starts_with(UNKNOWN_KEY);
        let unknown: Vec<&mut Issue> = faults.iter_mut().filter(is_unknown).collect();
        if unknown.is_empty() {
            return;
        }
        let (other, name) = self.other();
        for fault in unknown.into_iter().filter(|fault| has_key(&other, &fault.path)) {
            fault.message = format!("belongs in the {name}");
        }
    }
}

fn has_key(schema: &Value, key: &str) -> bool {
    schema.get("properties").is_some_and(|keys| keys.get(key).is_some())
}

/// Adds the issues that do not merely follow from a known one.
fn merged(mut known: Vec<Issue>, new: Vec<Issue>, follows: impl Fn(&Issue, &Issue) -> bool) -> Vec<Issue> {
    let first = known.len();
    for issue in new {
        if !known[..first].iter().any(|known| follows(known, &issue)) {
            known.push(issue);
        }
    }
    known
}

/// Whether one path leads through the other.
fn related(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    long.strip_prefix(short).is_some_and(|rest| {
        short.is_empty() || rest.is_empty() || rest.starts_with('.') || rest.starts_with('[')
    })
}
