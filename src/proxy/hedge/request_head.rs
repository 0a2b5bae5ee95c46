//! Owns the header of a request as it went to one endpoint, and how it goes to another.
//!
//! Knows nothing of connections.

use crate::proxy::headers::DATA_PARALLEL_RANK;
use memchr::memmem;
use std::sync::{Mutex, PoisonError};

/// A request with a longer header is not sent twice.
const MAX_HEAD: usize = 256 << 10;

/// The bytes of a request that Pingora writes, up to the end of its header.
#[derive(Debug, Default)]
pub(super) struct RequestHead(Mutex<Vec<u8>>);

/// What of a request's header is an endpoint's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndpointHeaders<'a> {
    /// Its host and port, as the policy writes them.
    pub(super) host: &'a str,
    /// The data-parallel rank that the request is to go to.
    pub(super) rank: Option<u16>,
}

impl RequestHead {
    /// Takes the next bytes; those beyond the header do not matter.
    pub(super) fn take(&self, bytes: &[u8]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_HEAD && end_of(&known).is_none() {
            known.extend_from_slice(&bytes[..bytes.len().min(MAX_HEAD)]);
        }
    }

    /// The header as it goes from an endpoint that has these headers to one that has those; `None` while it is not whole.
    pub(super) fn for_other(&self, own: EndpointHeaders<'_>, other: EndpointHeaders<'_>) -> Option<Vec<u8>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let head = &known[..end_of(&known)?];
        let mut written = Vec::with_capacity(head.len() + other.host.len());
        // Up to the empty line.
        for line in head[..head.len() - 2].split_inclusive(|byte| *byte == b'\n') {
            let (name, value) =
                line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
            let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
            let is_rank =
                own.rank.is_some() && name.eq_ignore_ascii_case(DATA_PARALLEL_RANK.as_str().as_bytes());
            if name.eq_ignore_ascii_case(b"host") && value == own.host.as_bytes() {
                written.extend_from_slice(name);
                written.extend_from_slice(format!(": {}\r\n", other.host).as_bytes());
            } else if !is_rank {
                written.extend_from_slice(line);
            }
        }
        if let Some(rank) = other.rank {
            written.extend_from_slice(format!("{DATA_PARALLEL_RANK}: {rank}\r\n").as_bytes());
        }
        written.extend_from_slice(b"\r\n");
        Some(written)
    }
}

fn end_of(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, rank: Option<u16>) -> EndpointHeaders<'_> {
        EndpointHeaders { host, rank }
    }

    #[test]
    fn a_request_names_the_endpoint_that_it_goes_to() {
        let head = RequestHead::default();
        head.take(b"POST /v1/x HTTP/1.1\r\nHost: a:1\r\nx-data-parallel-rank: 3\r\nx-note: ho");
        assert_eq!(head.for_other(at("a:1", Some(3)), at("b:2", None)), None, "it is not whole");
        head.take(b"st: a:1\r\n\r\n{\"body\": 1}");
        let text = |own, other| String::from_utf8(head.for_other(own, other).unwrap()).unwrap();
        assert_eq!(
            text(at("a:1", Some(3)), at("b:2", None)),
            "POST /v1/x HTTP/1.1\r\nHost: b:2\r\nx-note: host: a:1\r\n\r\n"
        );
        assert_eq!(
            text(at("a:1", Some(3)), at("b:2", Some(0))),
            "POST /v1/x HTTP/1.1\r\nHost: b:2\r\nx-note: host: a:1\r\nx-data-parallel-rank: 0\r\n\r\n"
        );
        assert!(
            text(at("other", None), at("b:2", None)).contains("Host: a:1"),
            "the policy's own host stays"
        );
    }

    #[test]
    fn a_header_without_end_is_not_gathered_for_ever() {
        let head = RequestHead::default();
        let piece = vec![b'a'; 64 << 10];
        (0..100).for_each(|_| head.take(&piece));
        assert!(head.0.lock().unwrap().len() <= 2 * MAX_HEAD);
        assert_eq!(head.for_other(at("a", None), at("b", None)), None);
    }
}
