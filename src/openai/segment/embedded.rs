//! JSON inside of a string, as the arguments of a call are: the strings and long numbers in it.
//!
//! Refuses to know what they mean.

use std::ops::Range;

use super::super::json::{self, Scanner};
use super::reader::LONG_NUMBER;

/// A string or a long number of a JSON text.
pub(super) struct EmbeddedText {
    /// Its bytes in the text, without quotes.
    pub(super) range: Range<usize>,
    pub(super) is_number: bool,
}

/// Returns the strings, keys too, and the long numbers of an object or array; nothing if the text is neither.
pub(super) fn embedded_texts(text: &str) -> Option<Vec<EmbeddedText>> {
    let bytes = text.as_bytes();
    let is_json = bytes.trim_ascii_start().starts_with(b"{") || bytes.trim_ascii_start().starts_with(b"[");
    if !is_json || json::document(bytes).is_err() {
        return None;
    }
    let mut found = Vec::new();
    let mut scanner = Scanner { bytes, at: 0 };
    while let Some(next) = scanner.peek() {
        let start = scanner.at;
        match next {
            b'"' => {
                let Ok(range) = scanner.string() else { break };
                found.push(EmbeddedText { range, is_number: false });
            }
            b'0'..=b'9' if scanner.scalar().is_ok() => {
                let number = &bytes[start..scanner.at];
                if number.len() >= LONG_NUMBER && number.iter().all(u8::is_ascii_digit) {
                    found.push(EmbeddedText { range: start..scanner.at, is_number: true });
                }
            }
            _ => scanner.at += 1,
        }
    }
    Some(found)
}
