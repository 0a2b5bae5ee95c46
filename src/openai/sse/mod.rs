//! Server-sent events: found in a stream however it is cut into chunks, and written.
//!
//! Owns the WHATWG framing: line ends of all three kinds, comments, data of several lines, the byte order
//! mark. Every byte of a stream is in exactly one frame, so that frames can go on as they came. Refuses to know what
//! the data says, and to hold more than one event.

mod data;
mod write;

use std::borrow::Cow;

use memchr::memchr2;

pub(super) use data::EventData;
pub(super) use write::{DONE, named_event, unnamed_event};

/// The longest event that is read, in bytes; longer ones are passed over and counted.
pub const MAX_EVENT: usize = 256 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits a stream behind its blank lines; an event that lies inside one chunk is not copied.
#[derive(Debug)]
pub struct SseSplitter {
    max_event: usize,
    /// The bytes of an event whose end has not arrived.
    tail: Vec<u8>,
    /// The unfinished event is longer than `max_event`, and its bytes are dropped.
    is_oversized: bool,
    line: Line,
    /// An event has ended, so that there can be no byte order mark any more.
    begun: bool,
}

/// What the current line has so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Line {
    #[default]
    Empty,
    /// Nothing, and the line before ended in a carriage return, to which a line feed may still belong.
    AfterReturn,
    Begun,
}

/// One event as it stood in the stream, its blank line included. The line feed of a line end that two chunks share
/// is at the start of the next frame.
#[derive(Debug, Clone, Copy)]
pub struct SseFrame<'a> {
    raw: &'a [u8],
    is_first: bool,
}

/// An event longer than its splitter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OversizedEvent;

impl SseSplitter {
    /// Starts a stream of which no event longer than `max_event` bytes is held, its blank line not counted.
    pub fn new(max_event: usize) -> Self {
        Self { max_event, tail: Vec::new(), is_oversized: false, line: Line::Empty, begun: false }
    }

    /// Takes the next bytes and hands over every event that they complete. One that is too long is reported once, as
    /// soon as it is.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Result<SseFrame<'_>, OversizedEvent>)) {
        let mut line = usize::from(self.line == Line::AfterReturn && chunk.first() == Some(&b'\n'));
        let mut start = 0;
        if self.line == Line::AfterReturn && !chunk.is_empty() {
            self.line = Line::Empty;
        }
        while let Some(length) = memchr2(b'\n', b'\r', &chunk[line..]) {
            let end = line + length;
            let mut next = end + 1;
            let is_blank = length == 0 && self.line != Line::Begun;
            self.line = Line::Empty;
            if chunk[end] == b'\r' {
                match chunk.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.line = Line::AfterReturn,
                }
            }
            if is_blank {
                self.complete(&chunk[start..next], next - end, &mut each);
                start = next;
            }
            line = next;
        }
        if line < chunk.len() {
            self.line = Line::Begun;
        }
        self.keep(&chunk[start..], &mut each);
    }

    /// Ends the stream and hands over an event that only lacked its blank line.
    pub fn finish(&mut self, mut each: impl FnMut(Result<SseFrame<'_>, OversizedEvent>)) {
        if !self.tail.is_empty() {
            self.complete(b"", 0, &mut each);
        }
        self.line = Line::Empty;
    }

    /// Says whether the unfinished event is one of which nothing is held.
    pub fn is_inside_oversized(&self) -> bool {
        self.is_oversized
    }

    /// Returns how many bytes wait for their event's end.
    pub fn held(&self) -> usize {
        self.tail.len()
    }

    fn complete(
        &mut self,
        piece: &[u8],
        blank: usize,
        each: &mut impl FnMut(Result<SseFrame<'_>, OversizedEvent>),
    ) {
        let is_first = !std::mem::replace(&mut self.begun, true);
        if std::mem::take(&mut self.is_oversized) {
            return;
        }
        if self.tail.len() + piece.len() - blank > self.max_event {
            each(Err(OversizedEvent));
        } else if self.tail.is_empty() {
            each(Ok(SseFrame { raw: piece, is_first }));
        } else {
            self.tail.extend_from_slice(piece);
            each(Ok(SseFrame { raw: &self.tail, is_first }));
        }
        self.tail.clear();
    }

    fn keep(&mut self, piece: &[u8], each: &mut impl FnMut(Result<SseFrame<'_>, OversizedEvent>)) {
        if self.is_oversized {
            return;
        }
        if self.tail.len() + piece.len() > self.max_event {
            self.is_oversized = true;
            self.tail = Vec::new();
            each(Err(OversizedEvent));
        } else {
            self.tail.extend_from_slice(piece);
        }
    }
}

impl<'a> SseFrame<'a> {
    /// Takes one whole event; only a stream's first one may start with a byte order mark.
    pub(super) fn new(raw: &'a [u8], is_first: bool) -> Self {
        Self { raw, is_first }
    }

    /// Takes one whole event that is not a stream's first.
    pub fn of(raw: &'a [u8]) -> Self {
        Self { raw, is_first: false }
    }

    /// Returns the bytes as they stood in the stream.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Returns the event's length in bytes, its blank line not counted.
    pub(super) fn len(&self) -> usize {
        let without_blank = self.raw.strip_suffix(b"\r\n").or_else(|| self.raw.strip_suffix(b"\n"));
        without_blank.or_else(|| self.raw.strip_suffix(b"\r")).map_or(self.raw.len(), <[u8]>::len)
    }

    /// Returns the data, borrowed if it is one line; nothing if the event has none, as a comment has.
    pub fn data(&self) -> Option<Cow<'a, [u8]>> {
        let mut lines = self.lines().filter_map(data_of);
        let first = lines.next()?;
        let Some(second) = lines.next() else {
            return Some(Cow::Borrowed(first));
        };
        let mut data = [first, b"\n", second].concat();
        for line in lines {
            data.push(b'\n');
            data.extend_from_slice(line);
        }
        Some(Cow::Owned(data))
    }

    /// Splits at any line end; `\r\n` gives an empty line more, which has no data.
    fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        let without_mark = self.raw.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.is_first);
        let mut rest = Some(without_mark.unwrap_or(self.raw));
        std::iter::from_fn(move || {
            let bytes = rest?;
            let end = memchr2(b'\n', b'\r', bytes);
            rest = end.map(|end| &bytes[end + 1..]);
            Some(&bytes[..end.unwrap_or(bytes.len())])
        })
    }
}

/// Returns the value of a `data` line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of every event, with the stream cut at `cuts`.
    fn read(stream: &[u8], cuts: &[usize]) -> (Vec<Option<Vec<u8>>>, u64) {
        let (mut splitter, mut seen, mut skipped) = (SseSplitter::new(MAX_EVENT), Vec::new(), 0);
        let mut each = |frame: Result<SseFrame<'_>, OversizedEvent>| match frame {
            Ok(frame) => seen.push(frame.data().map(Cow::into_owned)),
            Err(OversizedEvent) => skipped += 1,
        };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            splitter.feed(&stream[pair[0]..pair[1]], &mut each);
        }
        splitter.finish(&mut each);
        seen.retain(Option::is_some);
        (seen, skipped)
    }

    fn data(stream: &str) -> Vec<String> {
        let text = |data: Option<Vec<u8>>| String::from_utf8(data.unwrap()).unwrap();
        read(stream.as_bytes(), &[]).0.into_iter().map(text).collect()
    }

    #[test]
    fn events_end_at_blank_lines_of_any_kind() {
        for end in ["\n", "\r", "\r\n"] {
            let stream =
                ["data: a", "", ": note", "", "event: x", "data:b", "data:  c", "data", "", "", "data: d"];
            assert_eq!(data(&stream.join(end)), ["a", "b\n c\n", "d"], "{end:?}");
        }
        assert_eq!(data("data: a\r\n\rdata: b\n\r\n"), ["a", "b"]);
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_once() {
        assert_eq!(data("\u{feff}data: a\n\n\u{feff}data: b\n\n"), ["a"]);
        assert_eq!(data("\u{feff}\ndata: a\n\n"), ["a"]);
    }

    #[test]
    fn other_fields_are_not_data() {
        assert!(data("database: a\n\nid: 1\nretry: 2\n\ndat: x\n\n").is_empty());
    }

    #[test]
    fn an_event_inside_one_chunk_is_not_copied() {
        let chunk = b"data: a\n\ndata: b\n\n";
        let mut splitter = SseSplitter::new(MAX_EVENT);
        splitter.feed(chunk, |frame| {
            let frame = frame.unwrap();
            assert!(chunk.as_ptr_range().contains(&frame.raw().as_ptr()));
            assert!(matches!(frame.data(), Some(Cow::Borrowed(_))));
        });
        assert_eq!(splitter.tail.capacity(), 0);
    }

    #[test]
    fn an_event_too_long_is_skipped_and_counted_and_the_next_one_read() {
        let longest = "x".repeat(MAX_EVENT - "data: \n".len());
        let stream = format!("data: {longest}\n\ndata: {longest}x\n\ndata: b\n\n");
        for cuts in [&[][..], &[7, 300_000], &[262_145, 262_146, 400_000, 524_290]] {
            let (seen, skipped) = read(stream.as_bytes(), cuts);
            assert_eq!((seen.len(), skipped), (2, 1));
            assert_eq!(seen[1].as_deref(), Some(b"b".as_slice()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn cutting_a_stream_changes_nothing(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "data: a", "data:b", "data", ":c", "event: d", "\n", "\r", "\r\n", "\n\n", "\r\r", "\u{feff}", "é", " ",
            ]), 0..24),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let stream = pieces.concat();
            let every: Vec<_> = (0..stream.len()).collect();
            let whole = read(stream.as_bytes(), &[]);
            prop_assert_eq!(&read(stream.as_bytes(), &cuts), &whole);
            prop_assert_eq!(&read(stream.as_bytes(), &every), &whole);
        }
    }
}
