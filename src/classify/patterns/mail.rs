//! E-mail addresses and the domains of links and of bare host names.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{PatternHit, after, before, is_word};

static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)+").expect("the pattern is valid")
});

static LINK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[Hh][Tt][Tt][Pp][Ss]?://[\w-]+(?:\.[\w-]+)+").expect("the pattern is valid")
});

static BARE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\w-]+(?:\.[\w-]+)+").expect("the pattern is valid"));

/// Top-level domains that are neither words nor extensions of files nor usual in code.
const TOP: &[&str] = &[
    "com", "org", "net", "edu", "gov", "mil", "biz", "de", "fr", "nl", "uk", "ch", "au", "jp", "cn", "ru",
    "br", "eu", "dk", "cz", "kr", "nz", "za",
];

/// Extensions of files that are no top-level domains.
const FILES: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "ico", "css", "scss", "js", "jsx", "mjs", "tsx",
    "json", "html", "htm", "xml", "yaml", "yml", "toml", "lock", "txt", "pdf", "csv", "log", "tgz", "gz",
    "jar", "exe", "dll",
];

/// Names in code that end like domains.
const NOT_HOSTS: &[&str] =
    &["asp.net", "vb.net", "ado.net", "system.net", "java.net", "ml.net", "socket.net"];

/// Finds e-mail addresses.
pub(super) fn addresses(text: &str, found: &mut Vec<PatternHit>) {
    for address in ADDRESS.find_iter(text) {
        let Some((local, host)) = address.as_str().rsplit_once('@') else { continue };
        let at = address.start() + local.len();
        let local = local_of(local);
        let Some(host) = host_of(host) else { continue };
        // A picture for a dense screen, as in `icon@2x.png`, or a file of a pinned package.
        if host.rsplit('.').next().is_some_and(|top| FILES.contains(&top.to_ascii_lowercase().as_str())) {
            continue;
        }
        if !local.is_empty() && local.len() <= 64 {
            let bytes = at - local.len()..at + 1 + host.len();
            found.push(PatternHit { kind: "EMAIL_ADDRESS", bytes, confidence: 0.99 });
        }
    }
}

/// Says whether a text holds an address.
pub(super) fn holds_address(text: &str) -> bool {
    let mut found = Vec::new();
    addresses(text, &mut found);
    !found.is_empty()
}

/// Gives the end of a word that is the name in front of the `@`.
fn local_of(word: &str) -> &str {
    let is_latin = |c: char| c < '\u{250}';
    let last_is_latin = word.chars().next_back().is_some_and(is_latin);
    // What the standard allows in front is mostly the sentence's own: quotes, slashes, an assignment. And where words
    // are written without spaces, another script ends before the name.
    let is_other = |c: char| !(is_word(c) || "+%.-&'".contains(c)) || is_latin(c) != last_is_latin;
    let local = word.rfind(is_other).map_or(word, |at| word[at..].trim_start_matches(is_other));
    local.trim_start_matches(|c: char| !is_word(c))
}

/// Finds the hosts of links, their scheme included, and bare host names of well-known top-level domains.
pub(super) fn domains(text: &str, found: &mut Vec<PatternHit>) {
    let mut push = |bytes| found.push(PatternHit { kind: "DOMAIN_NAME", bytes, confidence: 0.95 });
    for link in LINK.find_iter(text) {
        let scheme = link.as_str().find("://").map_or(0, |at| at + 3);
        if before(text, link.start()).is_some_and(is_word) {
            continue;
        }
        let Some(host) = host_of(&link.as_str()[scheme..]) else { continue };
        push(link.start()..slash(text, link.start() + scheme + host.len()));
    }
    for bare in BARE.find_iter(text) {
        let Some(host) = host_of(bare.as_str()) else { continue };
        let bytes = bare.start()..bare.start() + host.len();
        if is_bare(text, &bytes) {
            push(bytes);
        }
    }
}

/// Takes in the slash that ends a link without a path.
fn slash(text: &str, end: usize) -> usize {
    let goes_on = |at: usize| match after(text, at) {
        Some('?' | '.') => after(text, at + 1).is_some_and(is_word),
        next => next.is_some_and(|c| is_word(c) || "/#%~@:-{$".contains(c)),
    };
    match after(text, end) {
        Some('/') if !goes_on(end + 1) => end + 1,
        _ => end,
    }
}

/// Gives the front of a dotted name that is a host: its labels are well-formed and the last one has letters only.
fn host_of(name: &str) -> Option<&str> {
    let fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && !label.contains('_')
    };
    let is_top = |label: &str| {
        let letters = label.chars().all(char::is_alphabetic) && label.chars().count() >= 2;
        letters || (label.len() > 4 && label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--")))
    };
    let name = name.trim_end_matches(['-', '_']);
    let (front, top) = name.rsplit_once('.')?;
    // Another script that follows without a space is no part of the name.
    let top = match top.find(|c: char| !c.is_ascii()) {
        Some(at @ 2..) => &top[..at],
        _ => top,
    };
    let name = &name[..front.len() + 1 + top.len()];
    (name.len() <= 253 && is_top(top) && fits(top) && front.split('.').all(fits)).then_some(name)
}

fn is_bare(text: &str, bytes: &Range<usize>) -> bool {
    let name = text[bytes.clone()].to_ascii_lowercase();
    let Some((front, top)) = name.rsplit_once('.') else { return false };
    let longest = front.split('.').map(|label| label.chars().count()).max().unwrap_or(0);
    let is_call =
        after(text, bytes.end).is_some_and(|c| "_([=<>".contains(c) || (c.is_ascii() && is_word(c)));
    let is_part = before(text, bytes.start).is_some_and(|c| is_word(c) || "./\\@$#:-".contains(c));
    longest >= 3 && TOP.contains(&top) && !is_call && !is_part && !NOT_HOSTS.contains(&name.as_str())
}
