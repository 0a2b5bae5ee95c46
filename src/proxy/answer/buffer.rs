//! Holds an answer back as a whole, because its header reports what is found in its body.
//!
//! Knows nothing of sockets, nor of what is looked for.

use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::{Error, Result};

/// The pieces of an answer, as far as they have come.
#[derive(Default)]
pub(in crate::proxy) struct AnswerBuffer {
    pieces: Vec<HttpTask>,
    bytes: usize,
    is_whole: bool,
}

impl AnswerBuffer {
    /// Takes further pieces; an answer that breaks off is given up.
    pub(in crate::proxy) fn take(&mut self, pieces: Vec<HttpTask>) -> Result<(), Box<Error>> {
        for piece in pieces {
            self.is_whole |= match &piece {
                HttpTask::Header(_, end) => *end,
                HttpTask::Body(bytes, end) | HttpTask::UpgradedBody(bytes, end) => {
                    self.bytes += bytes.as_ref().map_or(0, bytes::Bytes::len);
                    *end
                }
                HttpTask::Trailer(_) | HttpTask::Done => true,
                HttpTask::Failed(_) => false,
            };
            if let HttpTask::Failed(error) = piece {
                self.pieces.clear();
                return Err(error);
            }
            self.pieces.push(piece);
        }
        Ok(())
    }

    /// Says whether the last piece has come.
    pub(in crate::proxy) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Counts the bytes of the body that are held.
    pub(in crate::proxy) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The header that the answer will have.
    pub(in crate::proxy) fn header(&self) -> Option<&ResponseHeader> {
        self.pieces.iter().find_map(|piece| match piece {
            HttpTask::Header(header, _) if !header.status.is_informational() => Some(&**header),
            _ => None,
        })
    }

    /// Lets all pieces go, with further headers.
    pub(in crate::proxy) fn release(&mut self, headers: &[(&'static str, String)]) -> Result<Vec<HttpTask>> {
        let mut pieces = std::mem::take(self).pieces;
        for piece in &mut pieces {
            if let HttpTask::Header(header, _) = piece
                && !header.status.is_informational()
            {
                for (name, value) in headers {
                    header.insert_header(*name, value)?;
                }
            }
        }
        Ok(pieces)
    }
}
