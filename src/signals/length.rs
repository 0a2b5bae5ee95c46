//! How many tokens a request has, told from all its texts.
//!
//! Tokens are counted as the classifier cuts them; the model that answers cuts them somewhat differently, and adds
//! some for each message, for tools and for images, which are not counted here. What is longer than [`COUNTED`] is
//! judged from a part of every text.

use super::reading::{Reading, Why};
use crate::classify::Unknown;

/// How much of a request is cut into tokens, in bytes.
pub(super) const COUNTED: usize = 8 * 1024;

/// The tokens of a request, counted once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tokens {
    /// How many there are.
    count: u64,
    /// Whether all of it was counted.
    is_exact: bool,
}

impl Tokens {
    /// Counts the tokens of texts, or of a part of each if they are long; nothing where `count` fails.
    pub(super) fn of<'t>(
        texts: impl Iterator<Item = &'t str> + Clone,
        count: impl Fn(&str) -> Option<usize>,
    ) -> Option<Self> {
        let bytes: usize = texts.clone().map(str::len).sum();
        let is_exact = bytes <= COUNTED;
        let mut sum = 0.0;
        for text in texts.filter(|text| !text.is_empty()) {
            let share = if is_exact { text.len() } else { text.len() * COUNTED / bytes };
            let part = &text[..text.ceil_char_boundary(share.max(1))];
            sum += count(part)? as f64 * text.len() as f64 / part.len() as f64;
        }
        Some(Self { count: sum.round() as u64, is_exact })
    }

    /// Reads a signal of a number of tokens.
    pub(super) fn read(tokens: Option<Self>, (min, max): (u64, u64)) -> Result<Reading, Unknown> {
        let Self { count, is_exact } = tokens.ok_or(Unknown::Failed)?;
        let what = if is_exact { "tokens" } else { "tokens, about" };
        let why = Why::Measured { what, value: count as f64 };
        Ok(Reading::plain((min..=max).contains(&count), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn what_is_short_is_counted_whole() {
        let tokens = Tokens::of(["one two", "", "drei vier fünf"].into_iter(), |text| Some(words(text)));
        assert_eq!(tokens, Some(Tokens { count: 5, is_exact: true }));
        let reading = |bounds| Tokens::read(tokens, bounds).unwrap();
        assert!(reading((5, 5)).matches && !reading((6, u64::MAX)).matches && !reading((0, 4)).matches);
        assert_eq!(reading((0, 9)).why.to_string(), "tokens 5");
    }

    #[test]
    fn of_what_is_long_a_part_of_every_text_is_counted() {
        let (long, short) = ("äb ".repeat(100_000), "word ".repeat(1000));
        let counted = Cell::new(0);
        let count = |text: &str| {
            counted.set(counted.get() + text.len());
            Some(words(text))
        };
        let tokens = Tokens::of([long.as_str(), short.as_str()].into_iter(), count).unwrap();
        assert!(!tokens.is_exact && counted.get() <= COUNTED + 8, "{}", counted.get());
        assert!(tokens.count.abs_diff(101_000) < 1000, "{}", tokens.count);
        assert!(Tokens::read(Some(tokens), (1, 2)).unwrap().why.to_string().starts_with("tokens, about 10"));
    }

    #[test]
    fn what_cannot_be_counted_is_unknown() {
        let tokens = Tokens::of(["x"].into_iter(), |_| None);
        assert_eq!(Tokens::read(tokens, (0, 1)), Err(Unknown::Failed));
        assert_eq!(Tokens::of([].into_iter(), |_| None), Some(Tokens { count: 0, is_exact: true }));
    }
}
