//! A client's own text as messages to it may repeat it.
//!
//! Refuses to know the messages.

use std::borrow::Cow;

/// The most characters of a client's own text that a message repeats.
pub(super) const MAX_QUOTED_CHARS: usize = 200;

/// A client's own text as a message may repeat it: bounded, and control characters escaped.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let end = text.char_indices().nth(MAX_QUOTED_CHARS).map_or(text.len(), |(at, _)| at);
    let whole = end == text.len();
    if whole && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(end + 8);
    for c in text[..end].chars() {
        if c.is_control() { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    if !whole {
        safe.push('…');
    }
    Cow::Owned(safe)
}
