//! Payment cards (ISO/IEC 7812: issuer, length, Luhn) and US social security numbers (area, group, serial).

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{PatternHit, is_isolated, near};

/// Digits in groups, with single separators between them.
static RUN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[0-9]+(?:[ \-\u{a0}\u{202f}\u{2010}-\u{2013}][0-9]+)*").expect("the pattern is valid")
});

/// Words that tell a card's number from other numbers.
const CARD_WORDS: &[&str] = &[
    "card",
    "cards",
    "credit",
    "debit",
    "cc",
    "ccn",
    "pan",
    "visa",
    "mastercard",
    "maestro",
    "amex",
    "american express",
    "discover",
    "diners",
    "jcb",
    "unionpay",
    "carte",
    "karte",
    "kreditkarte",
    "tarjeta",
    "carta",
    "cartão",
    "kort",
];

/// Words that tell a social security number from other numbers.
const SSN_WORDS: &[&str] = &["ssn", "ssns", "ss#", "social security", "social sec", "soc sec"];

/// How many groups a number has at most: a card of 19 digits, in fours.
const MOST_GROUPS: usize = 5;

/// One group of a run: its bytes and the separator before it.
struct DigitGroup {
    bytes: Range<usize>,
    separator: Option<char>,
}

impl DigitGroup {
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Finds card and social security numbers.
pub(super) fn cards_and_security_numbers(text: &str, found: &mut Vec<PatternHit>) {
    for run in RUN.find_iter(text) {
        let groups = groups(run.as_str(), run.start());
        let mut next = 0;
        while next < groups.len() {
            let hit = number_at(text, &groups, next);
            next += hit.as_ref().map_or(1, |(_, used)| *used);
            found.extend(hit.map(|(hit, _)| hit));
        }
    }
}

fn groups(run: &str, offset: usize) -> Vec<DigitGroup> {
    let mut groups: Vec<DigitGroup> = Vec::new();
    let mut separator = None;
    for (at, c) in run.char_indices() {
        let at = offset + at;
        match groups.last_mut() {
            _ if !c.is_ascii_digit() => separator = Some(c),
            Some(group) if group.bytes.end == at => group.bytes.end += 1,
            _ => groups.push(DigitGroup { bytes: at..at + 1, separator: separator.take() }),
        }
    }
    groups
}

/// Gives the number that begins with a group, and of how many groups it consists; the longest one that is valid.
fn number_at(text: &str, groups: &[DigitGroup], first: usize) -> Option<(PatternHit, usize)> {
    let mut longest = None;
    let mut digits = 0;
    for last in first..groups.len().min(first + MOST_GROUPS) {
        digits += groups[last].len();
        // Groups that are separated in different ways are no single number.
        if digits > 19 || (last > first + 1 && groups[last].separator != groups[first + 1].separator) {
            break;
        }
        let parts = &groups[first..=last];
        let bytes = parts[0].bytes.start..groups[last].bytes.end;
        let kind = match digits {
            9 if is_security_number(text, groups, first, last) => "US_SSN",
            12.. if is_card(text, groups, first, last) => "CREDIT_CARD",
            _ => continue,
        };
        if is_isolated(text, &bytes) {
            longest = Some((PatternHit { kind, bytes, confidence: 0.99 }, parts.len()));
        }
    }
    longest
}

fn digits_of(text: &str, bytes: Range<usize>) -> impl DoubleEndedIterator<Item = u32> {
    text[bytes].bytes().filter(u8::is_ascii_digit).map(|byte| u32::from(byte - b'0'))
}

/// Whether the same separator ties a further group of `len` digits to those from `first` to `last`.
fn is_tied(groups: &[DigitGroup], first: usize, last: usize, len: impl Fn(usize) -> bool) -> bool {
    let own = groups[first..=last].get(1).and_then(|group| group.separator);
    let ties = |separator: Option<char>| {
        separator.is_some_and(|c| own == Some(c) || (own.is_none() && !c.is_whitespace()))
    };
    let left = first > 0 && ties(groups[first].separator) && len(groups[first - 1].len());
    left || groups.get(last + 1).is_some_and(|next| ties(next.separator) && len(next.len()))
}

fn is_card(text: &str, groups: &[DigitGroup], first: usize, last: usize) -> bool {
    if !is_grouped_like_a_card(&groups[first..=last]) {
        return false;
    }
    let bytes = groups[first].bytes.start..groups[last].bytes.end;
    let digits: Vec<u32> = digits_of(text, bytes.clone()).collect();
    if !luhn(&digits) {
        return false;
    }
    // Rows of four-digit numbers look like cards, and every tenth passes the checksum.
    let is_row = first < last && is_tied(groups, first, last, |len| len == 4);
    match issued(&digits) {
        CardIssuer::Common if !is_row => true,
        CardIssuer::Common | CardIssuer::Rare => near(text, &bytes, CARD_WORDS),
        CardIssuer::None => false,
    }
}

/// One group, groups of four with a rest, or 4-6-5 and 4-6-4 as on cards of 15 and 14 digits.
fn is_grouped_like_a_card(groups: &[DigitGroup]) -> bool {
    let Some((last, others)) = groups.split_last() else { return false };
    let fours = others.iter().all(|group| group.len() == 4) && (others.is_empty() || last.len() <= 4);
    let lens: Vec<usize> = groups.iter().map(DigitGroup::len).collect();
    fours || lens == [4, 6, 5] || lens == [4, 6, 4]
}

/// Whether the checksum of ISO/IEC 7812-1 holds.
pub(super) fn luhn(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let each = digits.iter().rev().enumerate();
    each.map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit }).sum::<u32>() % 10 == 0
}

/// Whether an issuer gives out numbers that begin like that and are that long.
enum CardIssuer {
    /// A widespread issuer and length.
    Common,
    /// Possible, but so short, long or seldom that a number alone does not tell.
    Rare,
    None,
}

fn issued(digits: &[u32]) -> CardIssuer {
    let prefix = digits.iter().take(4).fold(0, |value, digit| value * 10 + digit);
    match (prefix, digits.len()) {
        (2221..=2720 | 3528..=3589 | 4000..=4999 | 5100..=5599 | 6011 | 6440..=6599, 16)
        | (3400..=3499 | 3700..=3799, 15)
        | (3000..=3059 | 3600..=3699 | 3800..=3999, 14) => CardIssuer::Common,
        (3088..=3094 | 3096..=3102 | 3112..=3120 | 3158..=3159 | 3337..=3349 | 3500..=3599, 16)
        | (4000..=4999, 13 | 19)
        | (1800 | 2131, 15)
        | (5000..=5099 | 5600..=5899 | 6000..=6999, 12..=19) => CardIssuer::Rare,
        _ => CardIssuer::None,
    }
}

/// Whether nine digits may be somebody's social security number. None was ever given out with these areas, groups and serials
/// (<https://www.ssa.gov/employer/randomization.html>), and two were printed as examples.
pub(super) fn was_given_out(digits: &[u32]) -> bool {
    let value =
        digits.iter().fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(*digit)));
    let (area, group, serial) = (value / 1_000_000, value / 10_000 % 100, value % 10_000);
    let is_example = matches!(value, 78_051_120 | 219_099_999);
    digits.len() == 9 && !matches!(area, 0 | 666 | 900..) && group > 0 && serial > 0 && !is_example
}

fn is_security_number(text: &str, groups: &[DigitGroup], first: usize, last: usize) -> bool {
    let bytes = groups[first].bytes.start..groups[last].bytes.end;
    if !was_given_out(&digits_of(text, bytes.clone()).collect::<Vec<_>>()) {
        return false;
    }
    let lens: Vec<usize> = groups[first..=last].iter().map(DigitGroup::len).collect();
    if is_tied(groups, first, last, |_| true) {
        return false;
    }
    match lens.as_slice() {
        [3, 2, 4] if groups[last].separator.is_some_and(|separator| !separator.is_whitespace()) => true,
        [3, 2, 4] | [9] => near(text, &bytes, SSN_WORDS),
        _ => false,
    }
}
