//! International bank account numbers (ISO 13616): the country's length and the checksum modulo 97.

use std::sync::LazyLock;

use regex::Regex;

use super::{PatternHit, after, before, is_word};

/// How every number begins: a country and two check digits.
static START: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z]{2}[0-9]{2}").expect("the pattern is valid"));

/// The countries of the registry with the length of their numbers; in order.
const LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HN", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
    ("YE", 30),
];

/// Finds account numbers, written as one word or in groups.
pub(super) fn accounts(text: &str, found: &mut Vec<PatternHit>) {
    for start in START.find_iter(text) {
        if before(text, start.start()).is_some_and(is_word) {
            continue;
        }
        if let Some(end) = end(text, start.start()) {
            found.push(PatternHit { kind: "IBAN_CODE", bytes: start.start()..end, confidence: 0.99 });
        }
    }
}

/// Says whether a text is an account number as a whole.
pub(super) fn is_account(text: &str) -> bool {
    START.find(text).is_some_and(|start| start.start() == 0 && end(text, 0) == Some(text.len()))
}

/// Gives where the number that begins at a byte ends.
fn end(text: &str, start: usize) -> Option<usize> {
    let country = text[start..start + 2].to_ascii_uppercase();
    let at = LENGTHS.binary_search_by_key(&country.as_str(), |(country, _)| country).ok()?;
    let length = LENGTHS[at].1;
    let mut number = Vec::with_capacity(length);
    let mut is_gap = true;
    let mut end = start;
    for (at, c) in text[start..].char_indices() {
        if c.is_ascii_alphanumeric() {
            number.push(c.to_ascii_uppercase());
            is_gap = false;
        } else if matches!(c, ' ' | '-' | '\u{a0}' | '\u{202f}') && !is_gap {
            is_gap = true;
        } else {
            return None;
        }
        if number.len() == length {
            end = start + at + 1;
            break;
        }
    }
    let is_whole = number.len() == length && !after(text, end).is_some_and(is_word);
    (is_whole && is_checked(&number)).then_some(end)
}

/// Whether the checksum of ISO 7064 (MOD 97-10) holds.
fn is_checked(number: &[char]) -> bool {
    let moved = number[4..].iter().chain(&number[..4]);
    let rest = moved.fold(0, |rest, c| match c.to_digit(36) {
        Some(value @ 10..) => (rest * 100 + value) % 97,
        value => (rest * 10 + value.unwrap_or(0)) % 97,
    });
    rest == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_countries_stand_in_order() {
        assert!(LENGTHS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
