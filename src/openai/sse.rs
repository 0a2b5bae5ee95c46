//! Server-sent events, found in a stream however it is cut into chunks.
//!
//! Owns the WHATWG framing: line ends of all three kinds, comments, data of several lines, the byte order
//! mark. Refuses to know what the data says, and to hold more than one event.

use std::borrow::Cow;

use memchr::memchr2;

/// The longest event that is read, in bytes; longer ones are passed over and counted.
pub const MAX_EVENT: usize = 256 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits a stream into events; an event that lies inside one chunk is not copied.
#[derive(Debug, Default)]
pub struct Events {
    /// The bytes of an event whose end has not arrived.
    tail: Vec<u8>,
    /// The unfinished event is longer than [`MAX_EVENT`].
    too_long: bool,
    line: Line,
    /// An event has ended, so that there can be no byte order mark any more.
    begun: bool,
    skipped: u64,
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

/// One event as it stood in the stream, its last line end perhaps included.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    raw: &'a [u8],
}

impl Events {
    /// Takes the next bytes and hands over every event that they complete.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) {
        let mut line = usize::from(self.line == Line::AfterReturn && chunk.first() == Some(&b'\n'));
        // A line feed that belongs to an event's last line end is not part of the next one.
        let mut start = if self.in_event() { 0 } else { line };
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
                self.complete(&chunk[start..end], &mut each);
                start = next;
            }
            line = next;
        }
        if line < chunk.len() {
            self.line = Line::Begun;
        }
        self.keep(&chunk[start..]);
    }

    /// Ends the stream and hands over an event that only lacked its blank line.
    pub fn finish(&mut self, mut each: impl FnMut(Event<'_>)) {
        self.complete(b"", &mut each);
        self.line = Line::Empty;
    }

    /// Returns how many events were too long to be read.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn in_event(&self) -> bool {
        self.too_long || !self.tail.is_empty()
    }

    fn complete(&mut self, piece: &[u8], each: &mut impl FnMut(Event<'_>)) {
        if self.too_long || self.tail.len() + piece.len() > MAX_EVENT {
            self.skipped += 1;
            self.too_long = false;
        } else if self.tail.is_empty() {
            each(Event { raw: self.without_mark(piece) });
        } else {
            self.tail.extend_from_slice(piece);
            each(Event { raw: self.without_mark(&self.tail) });
        }
        self.begun = true;
        self.tail.clear();
    }

    fn keep(&mut self, piece: &[u8]) {
        self.too_long |= self.tail.len() + piece.len() > MAX_EVENT;
        if self.too_long {
            self.tail = Vec::new();
        } else {
            self.tail.extend_from_slice(piece);
        }
    }

    fn without_mark<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        if self.begun { raw } else { raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(raw) }
    }
}

impl<'a> Event<'a> {
    /// Returns the bytes as they stood in the stream.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
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

    /// Splits at any line end; `\r\n` gives an empty line more, which says nothing.
    fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = Some(self.raw);
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
        let (mut events, mut seen) = (Events::default(), Vec::new());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            events.feed(&stream[pair[0]..pair[1]], |event| seen.push(event.data().map(Cow::into_owned)));
        }
        events.finish(|event| seen.push(event.data().map(Cow::into_owned)));
        seen.retain(Option::is_some);
        (seen, events.skipped())
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
        let mut events = Events::default();
        events.feed(chunk, |event| {
            assert!(chunk.as_ptr_range().contains(&event.raw().as_ptr()));
            assert!(matches!(event.data(), Some(Cow::Borrowed(_))));
        });
        assert_eq!(events.tail.capacity(), 0);
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
