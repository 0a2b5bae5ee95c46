//! Owns what a request's header must be like, to the letter of RFC 9112, and how it frames the body.
//!
//! Knows nothing of paths and of what the fields are for.

use crate::openai::Rejection;
use std::ops::Range;

/// The most fields of a header; Pingora takes no more either.
const MAX_FIELDS: usize = 256;

/// Fields that concern everybody on the way, so that `Connection` cannot name them: the next hop would not get them.
const END_TO_END: [&str; 4] = ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// The most names in `Connection`.
const MAX_CONNECTION_OPTIONS: usize = 9;

/// A request's header, as far as framing depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) body: BodyFraming,
    /// Where an absolute target has its scheme and its host, with the slash behind them.
    pub(super) origin: Option<Range<usize>>,
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Length(u64),
    Chunked,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadFault {
    TooLarge,
    BareLineFeed,
    RequestLine,
    Version,
    Target,
    /// `CONNECT`, which asks for a tunnel.
    Tunnel,
    Field,
    Host,
    ContentLength,
    TransferEncoding,
    /// `Content-Length` beside `Transfer-Encoding`.
    TwoLengths,
    Connection,
}

impl HeadFault {
    /// What the client is told; `max_head` is the limit in bytes.
    pub(super) fn rejection(self, max_head: usize) -> Rejection {
        let detail = match self {
            Self::TooLarge => return Rejection::HeaderTooLarge { limit: max_head },
            Self::Tunnel => return Rejection::MethodNotAllowed { allowed: "GET, POST" },
            Self::BareLineFeed => "a line does not end with CR LF",
            Self::RequestLine => "its first line is not `METHOD TARGET HTTP/1.1`",
            Self::Version => "its version is neither HTTP/1.1 nor HTTP/1.0",
            Self::Target => "its target is neither a path nor an absolute URL",
            Self::Field => "a field is not `name: value`",
            Self::Host => "it needs one `Host`, which is a host",
            Self::ContentLength => "`Content-Length` is not one number",
            Self::TransferEncoding => "the only `Transfer-Encoding` is `chunked`, once, in HTTP/1.1",
            Self::TwoLengths => "`Content-Length` beside `Transfer-Encoding` says twice where the body ends",
            Self::Connection => "`Connection` names a field that concerns more than the connection",
        };
        Rejection::BadHeader { detail }
    }
}

/// Reads the header that some bytes begin with, in one pass, and says how long it is; nothing where it is not whole in
/// `most` bytes, or something is wrong with it, which [`read_head`] tells.
pub(super) fn read_head_at_once(bytes: &[u8], most: usize) -> Option<(usize, Head)> {
    let bytes = &bytes[..bytes.len().min(most)];
    let end = memchr::memchr(b'\n', bytes)?;
    let line = bytes[..end].strip_suffix(b"\r")?;
    let (is_old, target) = read_request_line(line).ok()?;
    let (mut at, mut lines, mut fields) = (end + 1, 2, FieldFacts::default());
    while !bytes[at..].starts_with(b"\r\n") {
        let rest = &bytes[at..];
        let colon = rest.iter().position(|byte| !TOKEN[usize::from(*byte)])?;
        if colon == 0 || rest[colon] != b':' {
            return None;
        }
        let end = colon + memchr::memchr(b'\n', &rest[colon..])?;
        let value = rest[colon + 1..end].strip_suffix(b"\r")?;
        fields.add(&rest[..colon], value.trim_ascii()).ok()?;
        (at, lines) = (at + end + 1, lines + 1);
    }
    let length = at + 2;
    let head = || Some(Head { body: fields.body(is_old).ok()?, origin: read_target(line, target).ok()? });
    is_text(&bytes[..length], lines).then(head)?.map(|head| (length, head))
}

/// Reads a whole header, with the empty line at its end.
pub(super) fn read_head(head: &[u8]) -> Result<Head, HeadFault> {
    let mut lines = head.strip_suffix(b"\r\n\r\n").unwrap_or(head).split(|byte| *byte == b'\n');
    let line = lines.next().map(without_cr).transpose()?.unwrap_or_default();
    let (is_old, target) = read_request_line(line)?;
    let mut fields = FieldFacts::default();
    for line in lines {
        let line = without_cr(line)?;
        let colon = memchr::memchr(b':', line).ok_or(HeadFault::Field)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        if !is_token(name) || !value.iter().all(is_text) {
            return Err(HeadFault::Field);
        }
        fields.add(name, value)?;
    }
    Ok(Head { body: fields.body(is_old)?, origin: read_target(line, target)? })
}

/// The bytes of a line, of which the last has lost its end already.
fn without_cr(line: &[u8]) -> Result<&[u8], HeadFault> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&b'\r') { Err(HeadFault::BareLineFeed) } else { Ok(line) }
}

/// Whether there is nothing but text and so many ends of lines.
fn is_text(head: &[u8], lines: usize) -> bool {
    let is_control = |byte: u8| (byte < 32 && byte != b'\t') || byte == 127;
    // In short runs and without a way out, so that the compiler takes many bytes at a time.
    let controls = head
        .chunks(128)
        .map(|run| usize::from(run.iter().fold(0_u8, |count, byte| count + u8::from(is_control(*byte)))));
    controls.sum::<usize>() == 2 * lines
}

/// Returns whether the version is 1.0, and where the target is.
fn read_request_line(line: &[u8]) -> Result<(bool, Range<usize>), HeadFault> {
    let mut spaces = memchr::memchr_iter(b' ', line);
    let (Some(first), Some(second), None) = (spaces.next(), spaces.next(), spaces.next()) else {
        return Err(HeadFault::RequestLine);
    };
    let (method, target, version) = (&line[..first], &line[first + 1..second], &line[second + 1..]);
    if !is_token(method) || target.is_empty() || target.iter().any(u8::is_ascii_control) {
        return Err(HeadFault::RequestLine);
    }
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(HeadFault::Version),
    };
    if method == b"CONNECT" {
        return Err(HeadFault::Tunnel);
    }
    if target == b"*" && method != b"OPTIONS" {
        return Err(HeadFault::Target);
    }
    Ok((is_old, method.len() + 1..method.len() + 1 + target.len()))
}

/// Finds the scheme and the host of an absolute target: whoever is asked for, it is this gateway that was.
fn read_target(line: &[u8], at: Range<usize>) -> Result<Option<Range<usize>>, HeadFault> {
    let target = &line[at.clone()];
    if target.starts_with(b"/") || target == b"*" {
        return Ok(None);
    }
    let scheme = ["http://", "https://"].into_iter().find(|scheme| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    let host = at.start + scheme.ok_or(HeadFault::Target)?.len();
    let end = line[host..at.end].iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let end = end.map_or(at.end, |end| host + end);
    if end == host || !is_host(&line[host..end]) {
        return Err(HeadFault::Target);
    }
    let slash = usize::from(line.get(end) == Some(&b'/'));
    Ok(Some(at.start..end + slash))
}

/// What the fields of a header say of its framing.
#[derive(Default)]
struct FieldFacts {
    count: usize,
    hosts: usize,
    length: Option<u64>,
    codings: usize,
    connection_options: usize,
}

impl FieldFacts {
    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadFault> {
        self.count += 1;
        if self.count > MAX_FIELDS {
            return Err(HeadFault::TooLarge);
        }
        // The length tells most fields apart from these without looking at them.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.add_host(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.add_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.add_codings(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.add_connection_options(value),
            _ => Ok(()),
        }
    }

    fn add_host(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        self.hosts += 1;
        if self.hosts > 1 || !is_host(value) { Err(HeadFault::Host) } else { Ok(()) }
    }

    fn add_length(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        let number = number.ok_or(HeadFault::ContentLength)?;
        match self.length.replace(number) {
            Some(other) if other != number => Err(HeadFault::ContentLength),
            _ => Ok(()),
        }
    }

    fn add_codings(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        self.codings += 1;
        if self.codings > 1 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadFault::TransferEncoding);
        }
        Ok(())
    }

    fn add_connection_options(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        let options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        for option in options.filter(|option| !option.is_empty()) {
            self.connection_options += 1;
            let is_end_to_end = END_TO_END.iter().any(|name| option.eq_ignore_ascii_case(name.as_bytes()));
            if self.connection_options > MAX_CONNECTION_OPTIONS || !is_token(option) || is_end_to_end {
                return Err(HeadFault::Connection);
            }
        }
        Ok(())
    }

    fn body(&self, is_old: bool) -> Result<BodyFraming, HeadFault> {
        if self.hosts == 0 && !is_old {
            return Err(HeadFault::Host);
        }
        match (self.codings, self.length) {
            (0, length) => Ok(BodyFraming::Length(length.unwrap_or(0))),
            (_, _) if is_old => Err(HeadFault::TransferEncoding),
            // RFC 9112, 6.3: it may be an attempt to smuggle a request, and ought to be handled as an error. No client
            // writes both; whoever forwards both may have taken the other one for the body's end.
            (_, Some(_)) => Err(HeadFault::TwoLengths),
            (_, None) => Ok(BodyFraming::Chunked),
        }
    }
}

/// Whether these bytes are a `token` (RFC 9110, 5.6.2).
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// Which bytes a `token` may have.
static TOKEN: [bool; 256] = letters_digits_and(b"!#$%&'*+-.^_`|~");

const fn letters_digits_and(others: &[u8]) -> [bool; 256] {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        allowed[others[at] as usize] = true;
        at += 1;
    }
    allowed
}

/// Whether these bytes can be a host with a port (RFC 3986, 3.2); an empty one names nobody.
fn is_host(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| HOST[usize::from(*byte)])
}

/// Which bytes a host with a port may have.
static HOST: [bool; 256] = letters_digits_and(b"-._~%!$&'()*+;=:[]");

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, HeadFault> {
        let text = text.replace('\n', "\r\n");
        let head = read_head(text.as_bytes());
        let at_once = read_head_at_once(format!("{text}behind it").as_bytes(), MAX);
        if text.ends_with("\r\n\r\n") {
            let length = text.len();
            assert_eq!(at_once, head.as_ref().ok().map(|head| (length, head.clone())), "{text:?}");
        }
        head
    }

    const MAX: usize = 1 << 16;

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        let with = |fields: &str| format!("POST / HTTP/1.1\nHost: x\n{fields}\n\n");
        let cases = [
            ("GET / HTTP/1.1\n\n".to_owned(), HeadFault::Host),
            (with("Host: x"), HeadFault::Host),
            (with("host: y"), HeadFault::Host),
            ("GET / HTTP/1.1\nHost: a b\n\n".to_owned(), HeadFault::Host),
            ("GET / HTTP/1.1\nHost: a@b\n\n".to_owned(), HeadFault::Host),
            (with("Content-Length: 1\nContent-Length: 2"), HeadFault::ContentLength),
            (with("Content-Length: +1"), HeadFault::ContentLength),
            (with("Content-Length: 1, 1"), HeadFault::ContentLength),
            (with("Content-Length:"), HeadFault::ContentLength),
            (with("Content-Length: 99999999999999999999"), HeadFault::ContentLength),
            (with("Transfer-Encoding: gzip, chunked"), HeadFault::TransferEncoding),
            (with("Transfer-Encoding: chunked, chunked"), HeadFault::TransferEncoding),
            (with("Transfer-Encoding: chunked\nTransfer-Encoding: chunked"), HeadFault::TransferEncoding),
            (with("Transfer-Encoding: identity"), HeadFault::TransferEncoding),
            (with("Transfer-Encoding:"), HeadFault::TransferEncoding),
            (with("Transfer-Encoding: chunked\nContent-Length: 7"), HeadFault::TwoLengths),
            (with("Content-Length: 0\nTransfer-Encoding: chunked"), HeadFault::TwoLengths),
            ("POST / HTTP/1.0\nTransfer-Encoding: chunked\n\n".to_owned(), HeadFault::TransferEncoding),
            (with("Connection: host"), HeadFault::Connection),
            (with("Connection: close, X-Forwarded-For"), HeadFault::Connection),
            (with("Connection: \"close\""), HeadFault::Connection),
            (with("A : b"), HeadFault::Field),
            (with(" folded"), HeadFault::Field),
            (with("no colon"), HeadFault::Field),
            (with(": nameless"), HeadFault::Field),
            (with("A: \0"), HeadFault::Field),
            (with("A: a\rB: b"), HeadFault::BareLineFeed),
            ("GET  / HTTP/1.1\nHost: x\n\n".to_owned(), HeadFault::RequestLine),
            ("GET /\nHost: x\n\n".to_owned(), HeadFault::RequestLine),
            ("GET / HTTP/1.1 \nHost: x\n\n".to_owned(), HeadFault::RequestLine),
            ("G(T / HTTP/1.1\nHost: x\n\n".to_owned(), HeadFault::RequestLine),
            ("GET / HTTP/1.2\nHost: x\n\n".to_owned(), HeadFault::Version),
            ("GET / http/1.1\nHost: x\n\n".to_owned(), HeadFault::Version),
            ("PRI * HTTP/2.0\n\n".to_owned(), HeadFault::Version),
            ("CONNECT a:1 HTTP/1.1\nHost: a:1\n\n".to_owned(), HeadFault::Tunnel),
            ("GET a/b HTTP/1.1\nHost: x\n\n".to_owned(), HeadFault::Target),
            ("GET * HTTP/1.1\nHost: x\n\n".to_owned(), HeadFault::Target),
            ("GET ftp://a/ HTTP/1.1\nHost: x\n\n".to_owned(), HeadFault::Target),
            ("GET http:///a HTTP/1.1\nHost: x\n\n".to_owned(), HeadFault::Target),
            ("GET http://u@a/b HTTP/1.1\nHost: x\n\n".to_owned(), HeadFault::Target),
            (with(&"a: b\n".repeat(MAX_FIELDS)), HeadFault::TooLarge),
        ];
        for (text, fault) in cases {
            assert_eq!(read(&text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn what_is_well_formed_says_how_its_body_is_framed() {
        let with = |fields: &str| read(&format!("POST /a?b HTTP/1.1\nhost: x:1\n{fields}\n\n")).unwrap().body;
        assert_eq!(with("a:"), BodyFraming::Length(0));
        assert_eq!(with("Content-Length:  7 \t"), BodyFraming::Length(7));
        assert_eq!(with("content-length: 7\nContent-Length: 7"), BodyFraming::Length(7));
        assert_eq!(with("Transfer-Encoding: Chunked"), BodyFraming::Chunked);
        assert_eq!(with("Connection: keep-alive, Upgrade,, HTTP2-Settings"), BodyFraming::Length(0));
        assert_eq!(read("GET / HTTP/1.0\n\n").unwrap().body, BodyFraming::Length(0));
        assert_eq!(read("OPTIONS * HTTP/1.1\nHost:\n\n").unwrap().origin, None);
    }

    #[test]
    fn an_absolute_target_has_an_origin() {
        let origin = |target: &str| read(&format!("GET {target} HTTP/1.1\nHost: x\n\n")).unwrap().origin;
        assert_eq!(origin("/a"), None);
        assert_eq!(origin("http://a/b"), Some(4..13));
        assert_eq!(origin("HTTPS://a.b:80/"), Some(4..19));
        assert_eq!(origin("http://a"), Some(4..12));
        assert_eq!(origin("http://[::1]?b"), Some(4..16));
    }
}
