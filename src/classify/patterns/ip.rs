//! IP addresses, distinguished from version and section numbers, times and paths in code.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{PatternHit, after, before, is_digit, is_word, last_word, lead};

static V4: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}").expect("the pattern is valid"));

/// Everything that version 6 addresses are written with, from the first colon's group on.
static V6: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{1,40}").expect("the pattern is valid"));

/// Words after which four numbers are no address.
const OTHER_WORDS: &[&str] = &[
    "version",
    "versions",
    "ver",
    "v",
    "release",
    "releases",
    "build",
    "firmware",
    "driver",
    "patch",
    "revision",
    "rev",
    "upgrade",
    "upgraded",
    "upgrading",
    "update",
    "updated",
    "downgrade",
    "downgraded",
    "section",
    "sections",
    "sec",
    "chapter",
    "clause",
    "paragraph",
    "article",
    "appendix",
    "figure",
    "table",
    "§",
    "oid",
];

/// Words after which they are one all the same.
const ADDRESS_WORDS: &[&str] = &[
    "ip",
    "ips",
    "ipv4",
    "address",
    "addresses",
    "host",
    "server",
    "subnet",
    "gateway",
    "dns",
    "ping",
    "from ip",
];

/// How many bytes before a number may hold the word that says what it is.
const REACH: usize = 40;

/// Finds addresses of both versions.
pub(super) fn addresses(text: &str, found: &mut Vec<PatternHit>) {
    let v4 = V4.find_iter(text).map(|found| found.range()).filter(|bytes| is_v4(text, bytes));
    let v6 = V6.find_iter(text).filter_map(|found| v6(text, found.range()));
    found.extend(v4.chain(v6).map(|bytes| PatternHit { kind: "IP_ADDRESS", bytes, confidence: 0.98 }));
}

fn is_v4(text: &str, bytes: &Range<usize>) -> bool {
    let Ok(address) = text[bytes.clone()].parse::<Ipv4Addr>() else { return false };
    // These are the same for everyone, so they say nothing of anybody; the last are masks.
    if address.is_unspecified() || address.is_loopback() || address.octets()[0] == 255 {
        return false;
    }
    ends_v4(text, bytes.end) && starts_v4(text, bytes.start) && !is_named_otherwise(text, bytes.start)
}

fn ends_v4(text: &str, end: usize) -> bool {
    match after(text, end) {
        // A point ends a sentence, or goes on with a fifth number or a file's extension.
        Some(point @ ('.' | '-')) => !after(text, end + point.len_utf8()).is_some_and(is_word),
        next => !next.is_some_and(is_word),
    }
}

fn starts_v4(text: &str, start: usize) -> bool {
    let Some(last) = before(text, start) else { return true };
    let further = before(text, start - last.len_utf8());
    match last {
        // A product and its version, as in `curl/8.0.0.1`, but not `//`.
        '/' | '-' | '.' => !further.is_some_and(is_word),
        // A pin, as in `package==1.2.3.4`.
        '=' => !further.is_some_and(|c| "=<>~!^".contains(c)),
        '~' | '^' => false,
        last => !is_word(last),
    }
}

fn is_named_otherwise(text: &str, start: usize) -> bool {
    let lead = lead(text, start, REACH);
    let line = lead.rsplit('\n').next().unwrap_or_default();
    let other = last_word(line, OTHER_WORDS);
    other.is_some() && other > last_word(line, ADDRESS_WORDS)
}

fn v6(text: &str, bytes: Range<usize>) -> Option<Range<usize>> {
    let run = &text[bytes.clone()];
    // A single colon at the end is the sentence's.
    let run = run.strip_suffix(':').filter(|rest| !rest.ends_with(':')).unwrap_or(run);
    let bytes = bytes.start..bytes.start + run.len();
    let touched = |c: char| is_word(c) || c == ':';
    if before(text, bytes.start).is_some_and(touched) || after(text, bytes.end).is_some_and(is_word) {
        return None;
    }
    let address: Ipv6Addr = run.parse().ok()?;
    // Shortened ones look like paths in code, so they must lie where addresses are given out.
    let is_given_out = matches!(address.segments()[0], 0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf);
    // Hardware addresses and times have eight groups of two at most.
    let is_pairs = run.split(':').all(|group| group.len() == 2);
    let stands = if run.contains("::") { is_given_out && run.contains(is_digit) } else { !is_pairs };
    stands.then_some(bytes)
}
