//! How many tokens a request has in all its texts.
//!
//! Tokens are counted as the classifier cuts them; the model that answers cuts them somewhat differently, and adds
//! some for each message, for tools and for images, which are not counted here. Counting takes milliseconds, so that
//! nothing is counted where the number of bytes tells already, as no token is shorter than one; and what is longer
//! than [`COUNTED`] is judged from a part of every text.

use std::cell::OnceCell;

use super::value::{SignalReason, SignalValue};
use crate::classify::Unknown;
use crate::policy::ContextSignal;

/// How much of a request is cut into tokens, in bytes.
pub(super) const COUNTED: usize = 4 * 1024;

/// The length of a request's texts; counted once, and only if it must be.
pub(super) struct TokenCount<'t> {
    texts: Vec<&'t str>,
    bytes: usize,
    tokens: OnceCell<Option<u64>>,
}

impl<'t> TokenCount<'t> {
    /// Takes the texts.
    pub(super) fn of(texts: impl Iterator<Item = &'t str>) -> Self {
        let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
        Self { bytes: texts.iter().map(|text| text.len()).sum(), texts, tokens: OnceCell::new() }
    }

    /// Evaluates a signal of a number of tokens; unknown where `count`, which counts those of a text, fails.
    pub(super) fn within(
        &self,
        signal: &ContextSignal,
        count: impl Fn(&str) -> Option<usize>,
    ) -> Result<SignalValue, Unknown> {
        let (min, max) = (signal.min, signal.max);
        let bytes = self.bytes as u64;
        if bytes < min || (min == 0 && bytes <= max) {
            let reason = SignalReason::Measured { what: "tokens at most", value: bytes as f64 };
            return Ok(SignalValue::plain(bytes >= min, reason));
        }
        let tokens = self.tokens.get_or_init(|| self.count(count)).ok_or(Unknown::Failed)?;
        let what = if self.bytes <= COUNTED { "tokens" } else { "tokens, about" };
        let reason = SignalReason::Measured { what, value: tokens as f64 };
        Ok(SignalValue::plain((min..=max).contains(&tokens), reason))
    }

    /// Counts the tokens of all texts, or of the same share of each if they are long.
    fn count(&self, count: impl Fn(&str) -> Option<usize>) -> Option<u64> {
        let mut sum = 0.0;
        for text in &self.texts {
            let is_long = self.bytes > COUNTED;
            let share = if is_long { text.len() * COUNTED / self.bytes } else { text.len() };
            let part = &text[..text.ceil_char_boundary(share.max(1))];
            sum += count(part)? as f64 * text.len() as f64 / part.len() as f64;
        }
        Some(sum.round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn read(texts: &[&str], (min, max): (u64, u64)) -> SignalValue {
        TokenCount::of(texts.iter().copied())
            .within(&ContextSignal { min, max }, |text| Some(words(text)))
            .unwrap()
    }

    #[test]
    fn what_is_short_is_counted_whole() {
        let matches = |bounds| read(&["one two", "", "drei vier fünf"], bounds).matches;
        assert!(matches((5, 5)) && !matches((6, u64::MAX)) && !matches((0, 4)));
        assert_eq!(read(&["one two", "drei"], (1, 9)).reason.to_string(), "tokens 3");
    }

    #[test]
    fn of_what_is_long_a_part_of_every_text_is_counted_once() {
        let (long, short) = ("äb ".repeat(100_000), "word ".repeat(1000));
        let length = TokenCount::of([long.as_str(), short.as_str()].into_iter());
        let counted = Cell::new(0);
        let count = |text: &str| {
            counted.set(counted.get() + text.len());
            Some(words(text))
        };
        for (min, max) in [(100_000, 102_000), (1, 100_000)] {
            let bounds = ContextSignal { min, max };
            let reading = length.within(&bounds, count).unwrap();
            assert_eq!(reading.matches, min > 1, "{}", reading.reason);
            assert!(reading.reason.to_string().starts_with("tokens, about 10"));
        }
        assert!((1..=COUNTED + 8).contains(&counted.get()), "{}", counted.get());
    }

    #[test]
    fn nothing_is_counted_where_the_bytes_tell() {
        let uncounted = |(min, max)| {
            let length = TokenCount::of(["four"].into_iter());
            length
                .within(&ContextSignal { min, max }, |_| None)
                .map(|reading| (reading.matches, reading.reason.to_string()))
        };
        assert_eq!(uncounted((5, 9)), Ok((false, "tokens at most 4".to_owned())));
        assert_eq!(uncounted((0, 4)), Ok((true, "tokens at most 4".to_owned())));
        assert_eq!(uncounted((4, 4)), Err(Unknown::Failed));
        assert_eq!(uncounted((0, 3)), Err(Unknown::Failed));
        assert!(read(&[], (0, 0)).matches && !read(&[], (1, 9)).matches);
    }
}
