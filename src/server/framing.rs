//! Owns where requests begin and end on an HTTP/1.1 connection, to the letter of RFC 9112: what two parsers could read
//! in two ways goes no further.
//!
//! Sees every byte that a client sends and changes none. Knows nothing of sockets and answers.

use super::head::{BodyFraming, Head, HeadFault, read_head, read_head_at_once};
use std::ops::Range;

/// The longest line that holds a chunk's size and its extensions.
const MAX_CHUNK_LINE: usize = 4 << 10;

/// The longest trailer section.
const MAX_TRAILERS: usize = 16 << 10;

/// Follows the requests of one connection.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct RequestFraming {
    state: FramingState,
    /// Of a header that is not complete, the bytes that were looked at.
    looked_at: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum FramingState {
    #[default]
    Head,
    /// An empty line came before a request, as some clients end the last one.
    HeadAfterLine,
    Body {
        left: u64,
    },
    Chunk(ChunkFraming),
    /// A body was malformed: where the next request begins is not known.
    Broken,
}

/// Follows one chunked body.
#[derive(Debug, Default, Clone, Copy)]
struct ChunkFraming {
    state: ChunkState,
    /// The chunk's size, then what is left of its data.
    left: u64,
    /// Bytes of the line with the size, or of the trailers.
    length: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    /// Blanks behind the size: an extension must follow.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Ended,
}

/// What of some bytes may be handed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// So many from the first on; behind them begins a header that is not complete.
    pub(super) passes: usize,
    /// These of them become `/`: the scheme and the host of an absolute request target. Nothing was looked at behind
    /// the header that has them.
    pub(super) origin: Option<Range<usize>>,
}

/// What is wrong with what a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FramingFault {
    /// With a header; nothing of it was handed on.
    Head(HeadFault),
    /// With a body.
    Body,
}

impl RequestFraming {
    /// Whether a request's header is what comes next, or is coming.
    pub(super) fn is_at_head(&self) -> bool {
        matches!(self.state, FramingState::Head | FramingState::HeadAfterLine)
    }

    /// Whether a body was malformed: nothing behind it is handed on.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.state, FramingState::Broken)
    }

    /// Looks at what follows the bytes that were handed on; begins with the same header again if that was incomplete.
    pub(super) fn scan(&mut self, bytes: &[u8], max_head: usize) -> Result<Scanned, FramingFault> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                FramingState::Body { left } => {
                    let taken = (*left).min(rest.len() as u64);
                    *left -= taken;
                    if *left == 0 {
                        self.state = FramingState::Head;
                    }
                    at += taken as usize;
                }
                FramingState::Chunk(chunk) => match chunk.scan(rest) {
                    Some(taken) => {
                        at += taken;
                        if chunk.state == ChunkState::Ended {
                            self.state = FramingState::Head;
                        }
                    }
                    None => {
                        self.state = FramingState::Broken;
                    }
                },
                FramingState::Broken if at > 0 => break,
                FramingState::Broken => return Err(FramingFault::Body),
                FramingState::Head if rest.starts_with(b"\r\n") => {
                    self.state = FramingState::HeadAfterLine;
                    at += 2;
                }
                FramingState::Head if rest == b"\r" => break,
                FramingState::Head | FramingState::HeadAfterLine => {
                    let (length, head) = match self.find_head(rest, max_head) {
                        Ok(Some(found)) => found,
                        Ok(None) => break,
                        // What came before it can be handed on.
                        Err(_later) if at > 0 => break,
                        Err(fault) => return Err(FramingFault::Head(fault)),
                    };
                    self.begin_body(&head);
                    let start = at;
                    at += length;
                    if let Some(origin) = head.origin {
                        let origin = start + origin.start..start + origin.end;
                        return Ok(Scanned { passes: at, origin: Some(origin) });
                    }
                }
            }
        }
        Ok(Scanned { passes: at, origin: None })
    }

    /// Finds a header, and how long it is, if it is whole.
    fn find_head(&mut self, bytes: &[u8], max_head: usize) -> Result<Option<(usize, Head)>, HeadFault> {
        if bytes.starts_with(b"\r\n") {
            // A second empty line, or nothing but one.
            return Err(HeadFault::RequestLine);
        }
        // Most headers come in one piece.
        if self.looked_at == 0
            && let Some(found) = read_head_at_once(bytes, max_head)
        {
            return Ok(Some(found));
        }
        let Some(length) = self.head_length(bytes, max_head)? else { return Ok(None) };
        Ok(Some((length, read_head(&bytes[..length])?)))
    }

    /// Finds the end of a header; each byte is looked at once, however they come.
    fn head_length(&mut self, bytes: &[u8], max_head: usize) -> Result<Option<usize>, HeadFault> {
        let from = self.looked_at.min(bytes.len());
        for line_end in memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at) {
            if line_end == 0 || bytes[line_end - 1] != b'\r' {
                return Err(HeadFault::BareLineFeed);
            }
            if bytes[..line_end].ends_with(b"\r\n\r") {
                self.looked_at = 0;
                let length = line_end + 1;
                return if length > max_head { Err(HeadFault::TooLarge) } else { Ok(Some(length)) };
            }
        }
        self.looked_at = bytes.len();
        if bytes.len() > max_head { Err(HeadFault::TooLarge) } else { Ok(None) }
    }

    fn begin_body(&mut self, head: &Head) {
        self.state = match head.body {
            BodyFraming::Length(0) => FramingState::Head,
            BodyFraming::Length(left) => FramingState::Body { left },
            BodyFraming::Chunked => FramingState::Chunk(ChunkFraming::default()),
        };
    }
}

impl ChunkFraming {
    /// Takes bytes up to the body's end; says how many, or that they are malformed.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() && self.state != ChunkState::Ended {
            if self.state == ChunkState::Data {
                let taken = self.left.min((bytes.len() - at) as u64);
                self.left -= taken;
                at += taken as usize;
                if self.left == 0 {
                    self.state = ChunkState::DataCr;
                }
                continue;
            }
            self.state = self.next(bytes[at])?;
            at += 1;
        }
        Some(at)
    }

    fn next(&mut self, byte: u8) -> Option<ChunkState> {
        use ChunkState as S;
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        let next = match (self.state, byte) {
            (S::Size, _) if byte.is_ascii_hexdigit() && self.length < 15 => {
                self.left = self.left * 16 + u64::from((byte as char).to_digit(16)?);
                S::Size
            }
            (S::Size, b'\r') if self.length > 0 => S::SizeLf,
            (S::Extension, b'\r') => S::SizeLf,
            (S::Size, b' ' | b'\t') if self.length > 0 => S::Blank,
            (S::Size, b';') if self.length > 0 => S::Extension,
            (S::Blank, b' ' | b'\t') => S::Blank,
            (S::Blank, b';') => S::Extension,
            (S::Extension, _) if is_text => S::Extension,
            (S::SizeLf, b'\n') if self.left == 0 => S::TrailerStart,
            (S::SizeLf, b'\n') => S::Data,
            (S::DataCr, b'\r') => S::DataLf,
            (S::DataLf, b'\n') => S::Size,
            (S::TrailerStart, b'\r') => S::LastLf,
            (S::Trailer, b'\r') => S::TrailerLf,
            (S::TrailerStart | S::Trailer, _) if is_text => S::Trailer,
            (S::TrailerLf, b'\n') => S::TrailerStart,
            (S::LastLf, b'\n') => S::Ended,
            _ => return None,
        };
        self.length = if matches!(next, S::Data) || self.state == S::SizeLf || self.state == S::DataLf {
            0
        } else {
            self.length + 1
        };
        let is_trailer = matches!(next, S::TrailerStart | S::Trailer | S::TrailerLf | S::LastLf | S::Ended);
        (self.length <= if is_trailer { MAX_TRAILERS } else { MAX_CHUNK_LINE }).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 10;

    /// Hands bytes on as they come, piece by piece; returns what passes in the end.
    fn pass(pieces: &[&[u8]]) -> Result<Vec<u8>, FramingFault> {
        let (mut framing, mut held, mut passed) = (RequestFraming::default(), Vec::new(), Vec::new());
        for piece in pieces {
            held.extend_from_slice(piece);
            loop {
                let scanned = framing.scan(&held, MAX)?;
                if scanned.passes == 0 {
                    break;
                }
                passed.extend(held.drain(..scanned.passes));
            }
        }
        Ok(passed)
    }

    #[test]
    fn only_whole_headers_pass_and_bodies_as_they_come() {
        let text: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\r\nPOST / HTTP/1.1\r\nHost: x\r\n\
              Transfer-Encoding: chunked\r\n\r\n5;a=\"b\" \r\nhello\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(pass(&[text]).unwrap(), text);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(pass(&bytes).unwrap(), text);
        for cut in 1..text.len() {
            let (one, two) = text.split_at(cut);
            assert_eq!(pass(&[one, two]).unwrap(), text, "cut at {cut}");
        }
        let mut framing = RequestFraming::default();
        let scanned = framing.scan(&text[..30], MAX).unwrap();
        assert_eq!((scanned.passes, framing.is_at_head()), (0, true));
    }

    #[test]
    fn malformed_chunks_are_faults() {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let long = format!("1;{}\r\na\r\n", "x".repeat(MAX_CHUNK_LINE));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(MAX_TRAILERS / 5));
        for body in [
            "\r\n",
            "\n",
            ";a\r\n",
            "zz\r\n",
            " 1\r\na\r\n",
            "1 \r\na\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            "1\na\r\n",
            "1;a\nb\r\na\r\n",
            "1;a\x00\r\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "0\r\na\nb\r\n",
            "0\r\n\n",
            "1234567890abcdef0\r\n",
            &long,
            &trailers,
        ] {
            let outcome = pass(&[format!("{head}{body}").as_bytes()]);
            assert_eq!(outcome, Err(FramingFault::Body), "{body:?}");
        }
    }

    #[test]
    fn one_empty_line_may_come_before_a_request() {
        let text: &[u8] = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let pieces: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!((pass(&[text]).unwrap(), pass(&pieces).unwrap()), (text.to_vec(), text.to_vec()));
        assert_eq!(pass(&[b"\r\n\r\n"]), Err(FramingFault::Head(HeadFault::RequestLine)));
    }

    #[test]
    fn a_header_has_a_most_and_its_lines_end_with_both_bytes() {
        let fault = |text: &str| pass(&[text.as_bytes()]).unwrap_err();
        assert_eq!(fault("GET / HTTP/1.1\nHost: x\n\n"), FramingFault::Head(HeadFault::BareLineFeed));
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "x".repeat(MAX));
        assert_eq!(fault(&long), FramingFault::Head(HeadFault::TooLarge));
        assert_eq!(fault(&format!("{long}\r\n\r\n")), FramingFault::Head(HeadFault::TooLarge));
    }

    #[test]
    fn an_absolute_target_is_pointed_out() {
        let text = b"GET http://a.test/v1 HTTP/1.1\r\nHost: b\r\n\r\n";
        let scanned = RequestFraming::default().scan(text, MAX).unwrap();
        assert_eq!(scanned, Scanned { passes: text.len(), origin: Some(4..18) });
    }
}
