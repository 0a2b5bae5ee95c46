//! The strings and long numbers of a JSON value, and of JSON inside of a string, as the arguments of a call are.
//!
//! Refuses to know what they mean.

use std::ops::Range;

use super::super::json::{self, Scanner};

/// How many digits a number has that can be personal data.
const LONG_NUMBER: usize = 9;

/// A string, a key or a long number of a JSON text.
pub(super) struct EmbeddedText {
    /// Its bytes in the text, without quotes.
    pub(super) range: Range<usize>,
    pub(super) is_key: bool,
    pub(super) is_number: bool,
}

/// Returns the strings, keys too, and the long numbers of an object or array; nothing if the text is neither.
pub(super) fn embedded_texts(text: &str) -> Option<Vec<EmbeddedText>> {
    let bytes = text.as_bytes();
    let is_json = bytes.trim_ascii_start().starts_with(b"{") || bytes.trim_ascii_start().starts_with(b"[");
    (is_json && json::document(bytes).is_ok()).then(|| value_texts(bytes).collect())
}

/// Returns the strings, keys too, and the long numbers of a value, however deep: one pass, whatever is nested in what.
pub(super) fn value_texts(value: &[u8]) -> impl Iterator<Item = EmbeddedText> {
    let mut scanner = Scanner::new(value, 0);
    std::iter::from_fn(move || {
        while let Some(next) = scanner.peek() {
            let start = scanner.at;
            match next {
                b'"' => {
                    let range = scanner.string().ok()?;
                    scanner.white_space();
                    let is_key = scanner.peek() == Some(b':');
                    return Some(EmbeddedText { range, is_key, is_number: false });
                }
                b'0'..=b'9' if scanner.scalar().is_ok() => {
                    let range = start..scanner.at;
                    if range.len() >= LONG_NUMBER && value[range.clone()].iter().all(u8::is_ascii_digit) {
                        return Some(EmbeddedText { range, is_key: false, is_number: true });
                    }
                }
                _ => scanner.at += 1,
            }
        }
        None
    })
}
