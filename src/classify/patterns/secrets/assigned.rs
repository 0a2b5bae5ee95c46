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
        r#"^(?:[_.-][A-Za-z0-9_.-]{0,24})?["'`]?\s{0,2}(?::=?|=>?|is:?|ist:?|es:?|est:?)\s{0,2}(["'`]?)([^\s"'`<>,;]{6,200})"#,
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

/// Finds assigned secrets; only the value is the secret.
pub(super) fn values(text: &str, found: &mut Vec<PatternHit>) {
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
    let tied = TIED.captures(reach(text, start, REACH))?;
    let (quote, value) = (tied.get(1)?, tied.get(2)?);
    let is_quoted = !quote.is_empty();
    let bytes = end_of_value(text, start + value.start()..start + value.end(), is_quoted);
    let value = &text[bytes.clone()];
    let is_secret = looks_made_up(value, least) && !is_code(value, is_quoted);
    is_secret.then_some(PatternHit { kind: PASSWORD, bytes, confidence: 0.95 })
}

fn reach(text: &str, start: usize, most: usize) -> &str {
    &text[start..text.floor_char_boundary(text.len().min(start + most))]
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
    let is_path =
        value.contains('.') && value.split('.').all(|part| !part.is_empty() && part.chars().all(is_word));
    (!is_quoted && (is_call || is_path)) || is_link
}
