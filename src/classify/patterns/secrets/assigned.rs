//! Values that their own text says are secrets: `password: …`, `"api_key": "…"`, `Authorization: Bearer …`.
//!
//! What follows such a word is mostly prose or code; only what looks made up, not spelt, is taken. The words are looked for
//! all at once, and only behind one is anything matched: most texts have none.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::Regex;

use super::{ACCESS_TOKEN, PASSWORD, PatternHit, entropy, is_placeholder, is_word};

/// What a word says of the value behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SaidToBe {
    /// A password, which may be short.
    Password,
    /// A secret of another kind.
    Secret,
    /// A request's credential (RFC 6750, RFC 7617).
    Credential,
}

const WORDS: [(&str, SaidToBe); 23] = [
    ("password", SaidToBe::Password),
    ("passwd", SaidToBe::Password),
    ("passwort", SaidToBe::Password),
    ("passphrase", SaidToBe::Password),
    ("kennwort", SaidToBe::Password),
    ("contraseña", SaidToBe::Password),
    ("mot de passe", SaidToBe::Password),
    ("pwd", SaidToBe::Password),
    ("secret", SaidToBe::Secret),
    ("api_key", SaidToBe::Secret),
    ("api-key", SaidToBe::Secret),
    ("apikey", SaidToBe::Secret),
    ("api key", SaidToBe::Secret),
    ("access_key", SaidToBe::Secret),
    ("access-key", SaidToBe::Secret),
    ("accesskey", SaidToBe::Secret),
    ("auth_token", SaidToBe::Secret),
    ("auth-token", SaidToBe::Secret),
    ("access_token", SaidToBe::Secret),
    ("access-token", SaidToBe::Secret),
    ("accesstoken", SaidToBe::Secret),
    ("private_key", SaidToBe::Secret),
    ("authorization", SaidToBe::Credential),
];

static WORD: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = WORDS.iter().map(|(word, _)| word);
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .ascii_case_insensitive(true)
        .build(words)
        .expect("the words are few")
});

/// Behind the word: the rest of its name, what ties it to its value, a quote if there is one, and the value.
static TIED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"^(?:[_.-][A-Za-z0-9_.-]{0,24})?["'`]?\s{0,2}(:=?|=>?|is:?|ist:?|es:?|est:?)\s{0,2}(["'`]?)([^\s"'`<>,;]{6,200})"#,
    )
    .expect("the pattern is valid")
});

static CREDENTIAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"^["']?\s{0,2}[:=]\s{0,2}["']?(?:[Bb]earer|[Bb]asic|[Tt]oken)\s{1,2}([A-Za-z0-9+/=._~-]{16,2048})"#,
    )
    .expect("the pattern is valid")
});

/// How many bytes behind a word are looked at.
const REACH: usize = 256;

/// The same for a credential.
const CREDENTIAL_REACH: usize = 2112;

/// A command's user and password, as curl and its kin take them.
static USER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\s(?:-u|--user|--proxy-user)[ =]["']?[^\s:"']{1,64}:([^\s"'`<>]{6,200})"#)
        .expect("the pattern is valid")
});

/// Finds assigned secrets; only the value is the secret.
pub(super) fn values(text: &str, found: &mut Vec<PatternHit>) {
    if text.contains("curl ") || text.contains("http ") {
        let values = USER.captures_iter(text).filter_map(|user| user.get(1));
        let values =
            values.filter(|value| looks_made_up(value.as_str(), 6) && !is_code(value.as_str(), false));
        found.extend(values.map(|value| PatternHit {
            kind: PASSWORD,
            bytes: value.range(),
            confidence: 0.95,
        }));
    }
    for word in WORD.find_iter(text) {
        let (said, start) = (WORDS[word.pattern().as_usize()].1, word.end());
        found.extend(match said {
            SaidToBe::Credential => credential(text, start),
            SaidToBe::Password => value(text, start, 6),
            SaidToBe::Secret => value(text, start, 16),
        });
    }
}

fn credential(text: &str, start: usize) -> Option<PatternHit> {
    let value = CREDENTIAL.captures(reach(text, start, CREDENTIAL_REACH))?.get(1)?;
    let hit = || PatternHit {
        kind: ACCESS_TOKEN,
        bytes: start + value.start()..start + value.end(),
        confidence: 0.97,
    };
    looks_made_up(value.as_str(), 16).then(hit)
}

/// Finds the value that is tied to a word, of at least so many bytes.
fn value(text: &str, start: usize, least: usize) -> Option<PatternHit> {
    let Some(tied) = TIED.captures(reach(text, start, REACH)) else { return beside(text, start, least) };
    let (tie, quote, value) = (tied.get(1)?, tied.get(2)?, tied.get(3)?);
    let is_quoted = !quote.is_empty();
    let bytes = start + value.start()..start + value.end();
    let bytes =
        if is_quoted { bytes } else { end_of_value(text, bytes, tie.as_str().starts_with([':', '='])) };
    let value = &text[bytes.clone()];
    let is_secret = looks_made_up(value, least) && !is_code(value, is_quoted);
    is_secret.then_some(PatternHit { kind: PASSWORD, bytes, confidence: 0.95 })
}

fn reach(text: &str, start: usize, most: usize) -> &str {
    &text[start..text.floor_char_boundary(text.len().min(start + most))]
}

/// Finds the value that stands right behind the word, with nothing between that ties them. It must look like no word with a
/// version or number.
fn beside(text: &str, start: usize, least: usize) -> Option<PatternHit> {
    let rest = reach(text, start, REACH).strip_prefix(' ')?;
    let ends = |c: char| c.is_whitespace() || "\"'`<>,;".contains(c);
    let length = rest.find(ends).unwrap_or(rest.len());
    let bytes = end_of_value(text, start + 1..start + 1 + length, false);
    let value = &text[bytes.clone()];
    let kinds =
        [char::is_lowercase, char::is_uppercase, |c: char| c.is_ascii_digit(), |c| "!#$%&*+=?@^".contains(c)];
    let is_mixed = kinds.iter().filter(|kind| value.contains(**kind)).count() >= 3;
    let turns =
        value.as_bytes().windows(2).filter(|two| two[0].is_ascii_digit() != two[1].is_ascii_digit()).count();
    let is_secret = (is_mixed || turns >= 3) && looks_made_up(value, least.max(8)) && !is_code(value, false);
    is_secret.then_some(PatternHit { kind: PASSWORD, bytes, confidence: 0.9 })
}

/// Without quotes, a point or bracket at the end is the sentence's, and a question mark unless a sign has set the value.
fn end_of_value(text: &str, bytes: Range<usize>, is_set: bool) -> Range<usize> {
    let is_outside = |c: char| ".)]}:".contains(c) || (c == '?' && !is_set);
    bytes.start..bytes.start + text[bytes].trim_end_matches(is_outside).len()
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
    let is_path =
        value.contains('.') && value.split('.').all(|part| !part.is_empty() && part.chars().all(is_word));
    (!is_quoted && (is_call || is_path)) || is_link
}
