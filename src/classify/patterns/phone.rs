//! Telephone numbers in forms that little else has: with a country's code, or grouped as in North America.
//!
//! A bare row of digits is left to the model, which reads the words around it.

use std::sync::LazyLock;

use regex::Regex;

use super::{PatternHit, is_digit, is_isolated, lead};

/// `+`, the country's code and further digits in groups, or the long-distance prefix written in front.
static INTERNATIONAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\+[0-9]{1,4}(?:[ .-]?(?:\([0-9]{1,4}\)|[0-9]{1,11})){1,6}(?: ?(?:x|ext\.?) ?[0-9]{1,5})?")
        .expect("the pattern is valid")
});

/// Three, three and four digits, the first in parentheses or tied by a sign.
static NORTH_AMERICAN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?:(?:001|1)[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[.-])[0-9]{3}[ .-][0-9]{4}(?: ?(?:x|ext\.?) ?[0-9]{1,5})?",
    )
    .expect("the pattern is valid")
});

/// Digits in groups of any kind; a number only where a word right before says so.
static LABELLED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:\([0-9]{1,5}\)[ .-]?)?[0-9]{2,13}(?:[ .-][0-9]{2,8}){0,5}(?:x[0-9]{1,5})?")
        .expect("the pattern is valid")
});

/// The end of a text that says that a number follows.
static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"\b(?:(?:tele)?phone|tel|mobile|cell|fax|desk|whatsapp|sms|telefon|tel[ée]fono)(?: ?(?:no|nr|num|number))?\.?(?: is)?[ :=#\x22']{1,4}$",
    )
    .expect("the pattern is valid")
});

/// How many bytes before a number may hold its label.
const REACH: usize = 28;

/// Finds telephone numbers.
pub(super) fn numbers(text: &str, found: &mut Vec<PatternHit>) {
    let count = |number: &str| {
        let own = number.split(['x', 'e']).next().unwrap_or_default();
        own.chars().filter(|c| is_digit(*c)).count()
    };
    let international = INTERNATIONAL
        .find_iter(text)
        .filter(|number| (8..=15).contains(&count(number.as_str())) && !number.as_str().starts_with("+0"));
    let north_american = NORTH_AMERICAN.find_iter(text);
    let labelled = LABELLED.find_iter(text).filter(|number| {
        (7..=13).contains(&count(number.as_str())) && LABEL.is_match(&lead(text, number.start(), REACH))
    });
    let numbers = international.chain(north_american).chain(labelled).map(|number| number.range());
    let alone = numbers.filter(|bytes| is_isolated(text, bytes));
    found.extend(alone.map(|bytes| PatternHit { kind: "PHONE_NUMBER", bytes, confidence: 0.95 }));
}
