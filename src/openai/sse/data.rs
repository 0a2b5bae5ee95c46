//! An event's data together with where it stands in the event, for who changes it.
//!
//! Refuses to know what the data says.

use std::ops::Range;

use memchr::memchr2;

use super::BYTE_ORDER_MARK;

/// An event's data, and the way back to where it stands.
#[derive(Debug)]
pub(crate) struct EventData {
    pub(crate) bytes: Vec<u8>,
    /// Where each line of the data starts: in the data, and in the event.
    lines: Vec<(usize, usize)>,
}

impl EventData {
    /// Takes a document that is its own data.
    pub(crate) fn whole(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), lines: vec![(0, 0)] }
    }

    /// Reads an event's data; nothing if it has none.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let mut data = Self { bytes: Vec::new(), lines: Vec::new() };
        // A lenient client may pass over the mark anywhere, so that what follows one is always read here.
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
    pub(crate) fn locate(&self, span: &Range<usize>) -> Range<usize> {
        let locate = |at: usize| {
            let line = self.lines.partition_point(|(start, _)| *start <= at).saturating_sub(1);
            let (in_data, in_frame) = self.lines.get(line).copied().unwrap_or_default();
            in_frame + (at - in_data)
        };
        let start = locate(span.start);
        if span.is_empty() { start..start } else { start..locate(span.end - 1) + 1 }
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

    use super::super::{SseFrame, SseSplitter};
    use super::*;

    #[test]
    fn spans_of_several_lines_are_found_again() {
        let frame = b"\xef\xbb\xbfevent: x\r\ndata: {\"a\":\r\ndata:\"bc\"}\r\n\r\n";
        let data = EventData::of(frame).unwrap();
        assert_eq!(data.bytes, b"{\"a\":\n\"bc\"}");
        assert_eq!(&frame[data.locate(&(7..9))], b"bc");
        assert_eq!(&frame[data.locate(&(0..5))], b"{\"a\":");
        assert_eq!(&frame[data.locate(&(1..10))], b"\"a\":\r\ndata:\"bc\"");
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
                let (mut splitter, mut seen) = (SseSplitter::new(usize::MAX), Vec::new());
                let mut each = |frame: Result<SseFrame<'_>, _>| seen.push(frame.unwrap().raw().to_vec());
                stream.as_bytes().chunks(size).for_each(|chunk| splitter.feed(chunk, &mut each));
                splitter.finish(&mut each);
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
