//! Values that their own text says are secrets: `password: …`, `"api_key": "…"`, `Authorization: Bearer …`.
//!
//! What follows such a word is mostly prose or code; only what looks made up, not spelt, is taken.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{ACCESS_TOKEN, PASSWORD, PatternHit, entropy, is_placeholder};

/// The word, what ties it to its value, a quote if there is one, and the value.
static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?ix)
        (?: (?P<password> passw(?:or)?d | passwort | passphrase | kennwort | contraseña | mot\ de\ passe | pwd )
          | (?: secret | api[_.-]?key | access[_.-]?key | auth[_.-]?token | access[_.-]?token | private[_.-]?key ) )
        (?: [_.-][a-z0-9_.-]{0,24} )?
        ["'`]?\s{0,2} (?: :=? | =>? | is:? | ist:? | es:? | est:? ) \s{0,2}
        (?P<quote> ["'`]? )
        (?P<value> [^\s"'`<>,;]{6,200} )"#,
    )
    .expect("the pattern is valid")
});

/// A request's credential (RFC 6750, RFC 7617).
static CREDENTIAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)authorization["']?\s{0,2}[:=]\s{0,2}["']?(?:bearer|basic|token)\s{1,2}([A-Za-z0-9+/=._~-]{16,2048})"#)
        .expect("the pattern is valid")
});

/// Finds assigned secrets; only the value is the secret.
pub(super) fn values(text: &str, found: &mut Vec<PatternHit>) {
    for credential in CREDENTIAL.captures_iter(text) {
        if let Some(value) = credential.get(1).filter(|value| looks_made_up(value.as_str(), 16)) {
            found.push(PatternHit { kind: ACCESS_TOKEN, bytes: value.range(), confidence: 0.97 });
        }
    }
    for assignment in ASSIGNED.captures_iter(text) {
        let Some(value) = assignment.name("value") else { continue };
        let is_quoted = assignment.name("quote").is_some_and(|quote| !quote.is_empty());
        let bytes = end_of_value(text, value.range(), is_quoted);
        // A password is short and its word says what it is; other words stand before many values.
        let least = if assignment.name("password").is_some() { 6 } else { 16 };
        let value = &text[bytes.clone()];
        if looks_made_up(value, least) && !is_code(value, is_quoted) {
            found.push(PatternHit { kind: PASSWORD, bytes, confidence: 0.95 });
        }
    }
}

/// Without quotes, a point or bracket at the end is the sentence's.
fn end_of_value(text: &str, bytes: Range<usize>, is_quoted: bool) -> Range<usize> {
    if is_quoted {
        return bytes;
    }
    let value = &text[bytes.clone()];
    bytes.start..bytes.start + value.trim_end_matches(['.', ')', ']', '}', ':', '?']).len()
}

/// Whether a value is long and mixed enough to be a secret: it has digits or signs among its letters, and no form of a
/// placeholder.
fn looks_made_up(value: &str, least: usize) -> bool {
    let has = |test: fn(&char) -> bool| value.chars().any(|c| test(&c));
    let letters = has(|c| char::is_alphabetic(*c));
    let digits = has(char::is_ascii_digit);
    let signs = has(|c| !c.is_alphanumeric() && !"-_./:".contains(*c));
    let mixed = letters && (digits || signs);
    value.len() >= least && mixed && !is_placeholder(value) && entropy(value.as_bytes()) >= 2.2
}

/// Whether a value is an expression rather than a text: a call, a path of names, a type.
fn is_code(value: &str, is_quoted: bool) -> bool {
    let is_call = value.contains('(') || value.contains("::") || value.contains("->") || value.contains('[');
    let is_link = value.contains("://") || value.starts_with('/') || value.starts_with("./");
    // A name of a variable or member, as in `password=user.password2`.
    let is_path = value.contains('.')
        && value.split('.').all(|part| !part.is_empty() && part.chars().all(super::is_word));
    (!is_quoted && (is_call || is_path)) || is_link
}
