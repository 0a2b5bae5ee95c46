//! Owns what the first bytes of an answer over HTTP/1.1 tell: that it has begun, or that the endpoint refuses.
//!
//! Knows nothing of who reads them; the rest of the answer is Pingora's to read.

use http::StatusCode;
use memchr::memmem;

/// A header that is longer is taken for an answer as it is.
pub(super) const MAX_OPENING: usize = 64 << 10;

/// How an answer opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// More of it has to come: a stream's header is often sent long before its first byte.
    Incomplete,
    /// The first byte of its body is there, or it has none.
    Begun,
    /// The endpoint has no time for it, or cannot answer.
    Refused(StatusCode),
}

/// Reads what has come of an answer so far.
pub(super) fn read_opening(bytes: &[u8]) -> Opening {
    let mut rest = bytes;
    loop {
        let Some(end) = memmem::find(rest, b"\r\n\r\n") else {
            return if bytes.len() >= MAX_OPENING { Opening::Begun } else { Opening::Incomplete };
        };
        let (head, body) = rest.split_at(end + 4);
        // What is no HTTP is for Pingora to say.
        let Some(status) = status_of(head) else { return Opening::Begun };
        return match status {
            StatusCode::CONTINUE | StatusCode::PROCESSING | StatusCode::EARLY_HINTS => {
                rest = body;
                continue;
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Opening::Refused(status),
            _ if status.is_server_error() => Opening::Refused(status),
            StatusCode::OK if body.is_empty() && !has_no_body(head) => Opening::Incomplete,
            _ => Opening::Begun,
        };
    }
}

/// The status in the first line of a header.
fn status_of(head: &[u8]) -> Option<StatusCode> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    StatusCode::from_bytes(rest.get(2..5)?).ok()
}

fn has_no_body(head: &[u8]) -> bool {
    let is_zero = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let is_length = line[..colon].eq_ignore_ascii_case(b"content-length");
        Some(is_length && line[colon + 1..].trim_ascii() == b"0")
    };
    head.split(|byte| *byte == b'\n').any(|line| is_zero(line) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opening(text: &str) -> Opening {
        read_opening(text.as_bytes())
    }

    #[test]
    fn an_answer_begins_with_the_first_byte_of_its_body() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        (0..=head.len()).for_each(|end| assert_eq!(opening(&head[..end]), Opening::Incomplete, "{end}"));
        assert_eq!(opening(&format!("{head}5")), Opening::Begun);
        assert_eq!(opening("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Opening::Begun);
        assert_eq!(opening("HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\n"), Opening::Incomplete);
        assert_eq!(opening("HTTP/1.1 204 No Content\r\n\r\n"), Opening::Begun);
        assert_eq!(opening("HTTP/1.1 400 Bad Request\r\n\r\n"), Opening::Begun, "another would say the same");
        assert_eq!(opening("SSH-2.0-x\r\n\r\n"), Opening::Begun, "Pingora says what is wrong");
    }

    #[test]
    fn what_comes_before_an_answer_is_none() {
        let early = "HTTP/1.1 103 Early Hints\r\n\r\n";
        assert_eq!(opening(early), Opening::Incomplete);
        assert_eq!(opening(&format!("{early}HTTP/1.1 503 Service Unavailable\r\n\r\n")), refused(503));
        assert_eq!(opening("HTTP/1.1 429 Too Many Requests\r\n\r\n"), refused(429));
    }

    fn refused(status: u16) -> Opening {
        Opening::Refused(StatusCode::from_u16(status).unwrap())
    }

    #[test]
    fn a_header_without_end_is_not_gathered_for_ever() {
        assert_eq!(read_opening(&vec![b'a'; MAX_OPENING]), Opening::Begun);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut answer = b"HTTP/1.1 ".to_vec();
            answer.extend(&bytes);
            let _ = (read_opening(&bytes), read_opening(&answer));
        }
    }
}
