//! Personal data and secrets that a rule can recognise: numbers of cards, accounts, people and telephones, addresses of mail
//! and machines, domains, keys and passwords.
//!
//! A match counts only after its check (checksum, issuer, allotted range, neighbours), so that a hit may overrule a
//! model. Every scan is linear in the text. Knows nothing of models or tokens.

mod accounts;
mod digits;
mod iban;
mod ip;
mod mail;
mod national;
mod phone;
mod refuted;
mod secrets;

pub(super) use refuted::is_refuted;

use std::collections::BTreeMap;
use std::ops::Range;

/// A match that has passed its check.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PatternHit {
    /// The type of entity, as the models' labels name it.
    pub(super) kind: &'static str,
    /// Which bytes of the text it spans.
    pub(super) bytes: Range<usize>,
    /// The probability that it is one.
    pub(super) confidence: f32,
}

/// Finds what the patterns recognise; the hits are in the text's order and share no byte.
pub(super) fn hits(text: &str) -> Vec<PatternHit> {
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let mut found = Vec::new();
    // Of overlapping hits the first is kept: the surer patterns come first, and what contains others.
    secrets::secrets(text, &mut found);
    mail::addresses(text, &mut found);
    if has_digit {
        iban::accounts(text, &mut found);
        digits::cards_and_security_numbers(text, &mut found);
        accounts::addresses(text, &mut found);
        national::numbers(text, &mut found);
    }
    ip::addresses(text, &mut found);
    if has_digit {
        phone::numbers(text, &mut found);
    }
    mail::domains(text, &mut found);
    let mut kept: BTreeMap<usize, PatternHit> = BTreeMap::new();
    for hit in found {
        let before = kept.range(..hit.bytes.end).next_back();
        if before.is_none_or(|(_, other)| other.bytes.end <= hit.bytes.start) {
            kept.insert(hit.bytes.start, hit);
        }
    }
    kept.into_values().collect()
}

/// The character before a byte.
fn before(text: &str, at: usize) -> Option<char> {
    text[..at].chars().next_back()
}

/// The character after a byte.
fn after(text: &str, at: usize) -> Option<char> {
    text[at..].chars().next()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// Whether a run of digits is complete: no letter or digit touches it, and no point or sign ties it to more.
fn is_isolated(text: &str, bytes: &Range<usize>) -> bool {
    let ties = |c: char| matches!(c, '.' | ',' | '-' | '/' | ':' | '\u{2010}'..='\u{2013}');
    let left = before(text, bytes.start).is_some_and(|c| {
        let further = || before(text, bytes.start - c.len_utf8()).is_some_and(is_digit);
        is_word(c) || (ties(c) && further())
    });
    let right = after(text, bytes.end).is_some_and(|c| {
        let further = || after(text, bytes.end + c.len_utf8()).is_some_and(is_digit);
        is_word(c) || (ties(c) && further())
    });
    !left && !right
}

/// How many bytes around a number may hold the word that says what it is.
const REACH: usize = 64;

/// Whether one of the words is near a number.
fn near(text: &str, bytes: &Range<usize>, words: &[&str]) -> bool {
    last_word(&lead(text, bytes.start, REACH), words).is_some()
        || last_word(&trail(text, bytes.end, REACH / 2), words).is_some()
}

/// The lowercase ASCII of at most `reach` bytes before a place, cut to whole characters.
fn lead(text: &str, at: usize, reach: usize) -> String {
    text[text.floor_char_boundary(at.saturating_sub(reach))..at].to_ascii_lowercase()
}

/// The lowercase ASCII of at most `reach` bytes after a place, cut to whole characters.
fn trail(text: &str, at: usize, reach: usize) -> String {
    text[at..text.floor_char_boundary(text.len().min(at + reach))].to_ascii_lowercase()
}

/// Returns where the last whole word of `words` is in a piece of text.
fn last_word(piece: &str, words: &[&str]) -> Option<usize> {
    let whole = |at: usize, word: &str| {
        !before(piece, at).is_some_and(char::is_alphanumeric)
            && !after(piece, at + word.len()).is_some_and(char::is_alphanumeric)
    };
    let places = words.iter().flat_map(|word| piece.match_indices(word));
    places.filter(|(at, word)| whole(*at, word)).map(|(at, _)| at).max()
}

#[cfg(test)]
mod tests;
