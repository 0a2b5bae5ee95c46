//! A stream out of a whole answer, as if the model wrote it now.
//!
//! Owns how a text is cut into pieces. Refuses to know where the answer was kept, and to change what it says.

use bytes::Bytes;

use crate::Api;
use crate::json::object::{is_object, non_null_member};

/// How many pieces a text is cut into, about, at most.
const MOST_PIECES: usize = 1024;

/// The longest piece in bytes, so that an event stays far below the longest that is read.
const LONGEST_PIECE: usize = 16 * 1024;

/// Writes a stream that says what the whole answer says, all events at once. `now`, in seconds since 1970, stands
/// where the answer does not say when it was made. Nothing for what is no answer of this API.
pub fn stream_of(answer: &[u8], api: Api, include_usage: bool, now: u64) -> Option<Bytes> {
    if !is_object(answer) || non_null_member(answer, "error").is_some() {
        return None;
    }
    api.answers().stream_of(answer, include_usage, now).map(Bytes::from)
}

/// Cuts a text into words, each with the white space after it; a long text into longer pieces.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let least = (text.len() / MOST_PIECES).min(LONGEST_PIECE);
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = rest.ceil_char_boundary(least);
        let end = rest[from..]
            .char_indices()
            .scan(false, |spaced, (at, c)| {
                let is_next = *spaced && !c.is_whitespace();
                *spaced |= c.is_whitespace();
                Some((from + at, is_next))
            })
            .find(|(_, is_next)| *is_next);
        let end = end.map_or(rest.len(), |(at, _)| at).min(rest.floor_char_boundary(LONGEST_PIECE));
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests;
