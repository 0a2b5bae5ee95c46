//! Secrets: what opens something to whoever has it.
//!
//! The forms are those that the issuers document, as the public scanners of repositories know them. What stands for a secret
//! in a template or an example (`${TOKEN}`, `<your key>`, `xxxx`) is none.

mod assigned;
mod connection;
mod marked;
mod token;

use std::sync::LazyLock;

use regex::Regex;

use super::{PatternHit, after, before, is_word};

/// Keys of cloud providers' accounts.
pub(super) const CLOUD_KEY: &str = "CLOUD_KEY";
/// Keys and tokens of services, and tokens of any issuer that carry what they allow.
pub(super) const ACCESS_TOKEN: &str = "ACCESS_TOKEN";
/// Private keys in text form.
pub(super) const PRIVATE_KEY: &str = "PRIVATE_KEY";
/// Addresses of servers with the password in them.
pub(super) const CONNECTION_STRING: &str = "CONNECTION_STRING";
/// What is said or assigned to be a password or another secret.
pub(super) const PASSWORD: &str = "PASSWORD";

/// Finds secrets, the surest first.
pub(super) fn secrets(text: &str, found: &mut Vec<PatternHit>) {
    private_keys(text, found);
    marked::tokens(text, found);
    token::tokens(text, found);
    connection::strings(text, found);
    assigned::values(text, found);
}

/// The first line of a private key, whatever its algorithm.
static KEY_BEGINS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
        .expect("the pattern is valid")
});

/// How long a private key is at most, in bytes: RSA of 16384 bits has 13 KiB.
const MAX_KEY_BYTES: usize = 16 << 10;

/// Finds private keys, from their first line to their last; one that is cut off goes to the end of what can be a part of it.
fn private_keys(text: &str, found: &mut Vec<PatternHit>) {
    let mut next = 0;
    while let Some(begin) = KEY_BEGINS.find_at(text, next) {
        let end = key_end(text, begin.end());
        next = end;
        found.push(PatternHit { kind: PRIVATE_KEY, bytes: begin.start()..end, confidence: 0.99 });
    }
}

fn key_end(text: &str, start: usize) -> usize {
    let reach = text.floor_char_boundary(text.len().min(start + MAX_KEY_BYTES));
    // Headers such as `Proc-Type: 4,ENCRYPTED` belong to it, and line ends that are escaped in JSON.
    let is_part = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "+/=:,\\-".contains(c);
    let body = &text[start..reach];
    let body = &body[..body.find(|c| !is_part(c)).unwrap_or(body.len())];
    match body.find("-----END ") {
        Some(at) => {
            let rest = &body[at + "-----END ".len()..];
            start + at + "-----END ".len() + rest.find("-----").map_or(0, |at| at + 5)
        }
        None => start + body.trim_end().len(),
    }
}

/// The bits of information that each byte carries by how often the bytes occur (Shannon); of random hexadecimal digits just
/// under 4, of words about 3, of repetitions next to none.
fn entropy(bytes: &[u8]) -> f32 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let all = bytes.len() as f32;
    let bits = |count: &u32| {
        let share = *count as f32 / all;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

/// Whether a text stands for a secret that is to be filled in.
fn is_placeholder(value: &str) -> bool {
    const SIGNS: &[&str] = &["${", "{{", "<", "%(", "...", "***", "xxxx", "____", "$(", "#{"];
    const WORDS: &[&str] = &[
        "password",
        "passwd",
        "pass",
        "pwd",
        "secret",
        "token",
        "changeme",
        "change-me",
        "change_me",
        "redacted",
        "placeholder",
        "none",
        "null",
        "undefined",
        "string",
        "true",
        "false",
        "required",
        "hidden",
        "masked",
    ];
    let lower = value.to_ascii_lowercase();
    let is_percent = |rest: &str| rest.len() <= 2 || rest.ends_with('%') || rest.starts_with(['(', '{']);
    let is_variable = value.starts_with('$')
        || (value.starts_with('{') && value.ends_with('}'))
        || value.strip_prefix('%').is_some_and(is_percent);
    let is_told = |start: &&str| lower.starts_with(*start);
    is_variable
        || SIGNS.iter().any(|sign| lower.contains(sign))
        || WORDS.contains(&lower.as_str())
        || ["your", "my-", "my_", "example", "insert"].iter().any(is_told)
}

#[cfg(test)]
mod tests;
