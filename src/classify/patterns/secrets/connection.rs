//! Connection strings: addresses of databases, queues and accounts with the password in them.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::Regex;

use super::{CONNECTION_STRING, PatternHit, is_placeholder};

/// Behind the scheme: `user:password@host`, and what belongs to the address behind it.
static AUTHORITY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^[^\s:/@"'<>`]{0,128}:([^\s/@"'<>`]{1,256})@[^\s"'<>`,;)\]}]{1,512}"#)
        .expect("the pattern is valid")
});

/// Behind the scheme: a host, and a password among the parameters, as JDBC's drivers have it.
static PARAMETERS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)^[^\s"'<>`?;]{1,256}[?;](?:[^\s"'<>`]{0,256}[&;])?(?:password|pwd)=([^\s"'<>`&;]{1,256})[^\s"'<>`,)\]}]{0,256}"#)
        .expect("the pattern is valid")
});

/// How many bytes behind a scheme are looked at.
const REACH: usize = 900;

/// What stands before the scheme in Java.
const JDBC: &str = "jdbc:";

/// How long a scheme is at most.
const MAX_SCHEME: usize = 31;

/// The secrets of strings of assignments, as drivers on Windows and Azure's accounts have them.
static SECRETS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let names = ["password=", "pwd=", "accountkey=", "sharedaccesskey="];
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .ascii_case_insensitive(true)
        .build(names)
        .expect("the names are few")
});

/// What stands before the secret there.
const NAMES: &[&str] = &[
    "server",
    "data source",
    "host",
    "endpoint",
    "defaultendpointsprotocol",
    "accountname",
    "database",
    "initial catalog",
    "user id",
    "uid",
    "user",
    "sharedaccesskeyname",
    "port",
];

/// How many assignments are looked at, and how long each may be.
const MAX_ASSIGNMENTS: usize = 8;
const MAX_ASSIGNMENT: usize = 240;

/// Finds connection strings whose password is not a placeholder.
pub(super) fn strings(text: &str, found: &mut Vec<PatternHit>) {
    let addresses = text.match_indices("://").filter_map(|(at, _)| address(text, at));
    let assignments = SECRETS.find_iter(text).filter_map(|name| assignments(text, name.start(), name.end()));
    let hits = addresses.chain(assignments);
    found.extend(hits.map(|bytes| PatternHit { kind: CONNECTION_STRING, bytes, confidence: 0.98 }));
}

/// The address whose scheme ends at a place, if it has a password.
fn address(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let rest = &text[at + 3..text.floor_char_boundary(text.len().min(at + 3 + REACH))];
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+.-".contains(byte);
    let scheme = text.as_bytes()[..at].iter().rev().take(MAX_SCHEME).take_while(|byte| is_part(byte)).count();
    let start = at - scheme;
    // What a page's address has among its parameters is a form's, no connection's.
    let is_page = text[start..at].to_ascii_lowercase().starts_with("http");
    let parameters = || PARAMETERS.captures(rest).filter(|_| !is_page);
    let found = AUTHORITY.captures(rest).or_else(parameters)?;
    let (whole, password) = (found.get(0)?, found.get(1)?);
    if scheme < 2 || is_placeholder(password.as_str()) {
        return None;
    }
    let start = start - if text[..start].ends_with(JDBC) { JDBC.len() } else { 0 };
    let end = whole.as_str().trim_end_matches(['.', '!', '?', ':']).len();
    Some(start..at + 3 + end)
}

/// The assignments around one of a secret, whose name and value begin at these places; none if it stands alone.
fn assignments(text: &str, name: usize, value: usize) -> Option<std::ops::Range<usize>> {
    let mut start = name;
    for _ in 0..MAX_ASSIGNMENTS {
        let floor = text.floor_char_boundary(start.saturating_sub(MAX_ASSIGNMENT));
        let Some(before) = text[floor..start].trim_end_matches(' ').strip_suffix(';') else { break };
        let one = before.rfind([';', '"', '\'', '\n', '<', '>']).map_or(before, |at| &before[at + 1..]);
        let Some(offset) = named(one) else { break };
        start = floor + before.len() - one.len() + offset;
    }
    let ends = |c: char| c.is_whitespace() || "\"'<>".contains(c);
    let rest = &text[value..text.floor_char_boundary(text.len().min(value + 500))];
    let rest = &rest[..rest.find(ends).unwrap_or(rest.len())];
    let secret = rest.split(';').next().unwrap_or_default();
    (start < name && secret.len() >= 4 && !is_placeholder(secret)).then(|| start..value + rest.len())
}

/// Where the name of an assignment begins, if it is one of those; before the first there may be other words, or a variable that
/// all of it is assigned to.
fn named(assignment: &str) -> Option<usize> {
    assignment.match_indices('=').take(2).find_map(|(at, _)| {
        let name = assignment[..at].trim_end();
        let lower = name.to_ascii_lowercase();
        let known = NAMES.iter().filter(|known| lower.ends_with(*known)).map(|known| known.len()).max()?;
        (at + 1 < assignment.len()).then_some(name.len() - known)
    })
}
