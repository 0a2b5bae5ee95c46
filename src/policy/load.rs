//! Owns the way from text to checked data, and how the steps' issues come together. Refuses to know the steps.

use std::path::Path as FilePath;

use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::checker::Checker;
use super::document::RawPolicy;
use super::environment::Environment;
use super::expand::expand;
use super::issue::{Issue, Issues, YamlPath};
use super::server::{RawServer, ServerSpec};
use super::validate::validate;
use super::{Policy, yaml};

/// Loads a policy; relative files start at `base`, and decisions may name `domains` alone, or any at all while those are unknown.
///
/// The error holds everything that is wrong, in the order of the lines.
pub fn load(
    text: &str,
    base: &FilePath,
    environment: &dyn Environment,
    domains: Option<&[&str]>,
) -> Result<Policy, Issues> {
    read(text, base, environment, |raw: RawPolicy, checker| raw.check(domains, checker))
}

/// Loads a server file; relative files start at `base`.
pub fn load_server(text: &str, base: &FilePath, environment: &dyn Environment) -> Result<ServerSpec, Issues> {
    // Every key has a default, so a file without a single one is as good as `{}`.
    let blank = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    read(if blank { "{}" } else { text }, base, environment, RawServer::check)
}

/// Makes an issue of what only came out when a part of a policy was put to use.
pub fn fault_at(text: &str, keys: &[&str], message: String) -> Issues {
    let path = keys.iter().fold(YamlPath::default(), |path, key| path.key(key));
    // The text has been parsed before.
    let mark = yaml::parse(text).map(|tree| tree.locate(&path)).ok();
    let (line, column) = mark.map_or((1, 1), |mark| (mark.line, mark.column));
    Issues(vec![Issue { path: path.to_string(), line, column, message, suggestion: None }])
}

/// Gives the JSON Schema of a policy, for editors.
pub fn schema() -> Value {
    schema_for!(RawPolicy).to_value()
}

/// Gives the JSON Schema of a server file, for editors.
pub fn server_schema() -> Value {
    schema_for!(RawServer).to_value()
}

/// Reads a text as `R` and checks it.
fn read<R: DeserializeOwned + JsonSchema, T>(
    text: &str,
    base: &FilePath,
    environment: &dyn Environment,
    check: impl FnOnce(R, &mut Checker<'_>) -> T,
) -> Result<T, Issues> {
    let mut tree = yaml::parse(text).map_err(|issue| Issues(vec![issue]))?;
    let mut issues = expand(&mut tree, environment);
    let (value, faults) = validate(&tree, &schema_for!(R).to_value());
    issues = merged(issues, faults, |known, new| known.path == new.path);
    let Some(value) = value else { return Err(Issues::sorted(issues)) };
    // Faulty parts are left out of the value; what still makes a whole is checked all the same, so that one run names
    // as much as possible.
    match serde_json::from_value::<R>(value) {
        Ok(raw) => {
            let mut checker = Checker::new(&tree, base, environment);
            let result = check(raw, &mut checker);
            issues = merged(issues, checker.issues, |known, new| related(&known.path, &new.path));
            if issues.is_empty() { Ok(result) } else { Err(Issues::sorted(issues)) }
        }
        Err(error) if issues.is_empty() => {
            let path = String::new();
            let message = error.to_string();
            let issue =
                Issue { path, line: tree.mark.line, column: tree.mark.column, message, suggestion: None };
            Err(Issues(vec![issue]))
        }
        Err(_) => Err(Issues::sorted(issues)),
    }
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
