//! A stream cut at its events, no byte lost, and where in an event its data stands.
//!
//! Refuses to know what the data says, and to skip anything: what comes in goes out.

use std::ops::Range;

use memchr::memchr2;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits a stream behind its blank lines.
#[derive(Debug, Default)]
pub(super) struct Frames {
    tail: Vec<u8>,
    /// The line so far has a byte.
    in_line: bool,
    /// The last byte was a carriage return, to which a line feed may belong.
    after_return: bool,
}

impl Frames {
    /// Takes the next bytes and hands over every event that they complete, its blank line included.
    pub(super) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Vec<u8>)) {
        let mut rest = chunk;
        if self.after_return && rest.first() == Some(&b'\n') {
            self.tail.push(b'\n');
            rest = &rest[1..];
        }
        if !chunk.is_empty() {
            self.after_return = false;
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let is_blank = end == 0 && !self.in_line;
            let mut next = end + 1;
            if rest[end] == b'\r' {
                match rest.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
            self.tail.extend_from_slice(&rest[..next]);
            self.in_line = false;
            rest = &rest[next..];
            if is_blank {
                each(std::mem::take(&mut self.tail));
            }
        }
        self.in_line |= !rest.is_empty();
        self.tail.extend_from_slice(rest);
    }

    /// Returns the bytes of an event that lacks its end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.tail)
    }

    /// Returns how many bytes wait for their event's end.
    pub(super) fn held(&self) -> usize {
        self.tail.len()
    }
}

/// An event's data, and the way back to where it stands.
#[derive(Debug)]
pub(super) struct EventData {
    pub(super) bytes: Vec<u8>,
    /// Where each line of the data starts: in the data, and in the event.
    lines: Vec<(usize, usize)>,
}

impl EventData {
    /// Takes a document that is its own data.
    pub(super) fn whole(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), lines: vec![(0, 0)] }
    }

    /// Reads an event's data; nothing if it has none.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let mut data = Self { bytes: Vec::new(), lines: Vec::new() };
        let mut at = if frame.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        while at < frame.len() {
            let end = memchr2(b'\n', b'\r', &frame[at..]).map_or(frame.len(), |length| at + length);
            if let Some(start) = value_of(&frame[at..end]) {
                if !data.lines.is_empty() {
                    data.bytes.push(b'\n');
                }
                data.lines.push((data.bytes.len(), at + start));
                data.bytes.extend_from_slice(&frame[at + start..end]);
            }
            at = end + 1;
        }
        (!data.lines.is_empty()).then_some(data)
    }

    /// Returns where in the event a span of the data stands; it is not empty, or lies inside a line.
    pub(super) fn place(&self, span: &Range<usize>) -> Range<usize> {
        let place = |at: usize| {
            let line = self.lines.partition_point(|(start, _)| *start <= at).saturating_sub(1);
            let (in_data, in_frame) = self.lines.get(line).copied().unwrap_or_default();
            in_frame + (at - in_data)
        };
        let start = place(span.start);
        if span.is_empty() { start..start } else { start..place(span.end - 1) + 1 }
    }
}

/// Returns where the value of a `data` line starts.
fn value_of(line: &[u8]) -> Option<usize> {
    match line.strip_prefix(b"data")? {
        [] => Some(4),
        [b':', b' ', ..] => Some(6),
        [b':', ..] => Some(5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_of_several_lines_are_found_again() {
        let frame = b"\xef\xbb\xbfevent: x\r\ndata: {\"a\":\r\ndata:\"bc\"}\r\n\r\n";
        let data = EventData::of(frame).unwrap();
        assert_eq!(data.bytes, b"{\"a\":\n\"bc\"}");
        assert_eq!(&frame[data.place(&(7..9))], b"bc");
        assert_eq!(&frame[data.place(&(0..5))], b"{\"a\":");
        assert_eq!(&frame[data.place(&(1..10))], b"\"a\":\r\ndata:\"bc\"");
        assert!(EventData::of(b": ping\n\n").is_none());
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_no_cut_matters(
            pieces in prop::collection::vec(prop::sample::select(vec!["data: a", ":", "\n", "\r", "\r\n", "\n\n"]), 0..24),
            size in 1_usize..9,
        ) {
            let stream = pieces.concat();
            let split = |size: usize| {
                let (mut frames, mut seen) = (Frames::default(), Vec::new());
                stream.as_bytes().chunks(size).for_each(|chunk| frames.feed(chunk, |frame| seen.push(frame)));
                seen.push(frames.rest());
                seen
            };
            let (whole, cut) = (split(stream.len().max(1)), split(size));
            prop_assert_eq!(whole.concat(), stream.as_bytes());
            prop_assert_eq!(cut.concat(), stream.as_bytes());
            let data = |frames: Vec<Vec<u8>>| -> Vec<_> {
                frames.iter().filter_map(|frame| EventData::of(frame)).map(|data| data.bytes).collect()
            };
            prop_assert_eq!(data(whole), data(cut));
        }
    }
}
