//! Owns an answer of the connection's own to what is no request: how it is written, and how its client gets to read it.
//!
//! Decides nothing.

use crate::openai::Rejection;
use pingora::protocols::Stream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a client may take to get the answer.
const LINGER: Duration = Duration::from_secs(3);

/// How much is still read of what it sends: a connection closed with bytes unread is reset, the answer with it.
const DRAIN_LIMIT: usize = 1 << 20;

/// An answer after which the connection ends.
pub(super) struct ClosingAnswer {
    answer: Vec<u8>,
    sent: usize,
    is_shut: bool,
    drained: usize,
    timer: Pin<Box<Sleep>>,
}

impl ClosingAnswer {
    pub(super) fn new(rejection: &Rejection) -> Self {
        let timer = Box::pin(tokio::time::sleep(LINGER));
        Self { answer: response(rejection), sent: 0, is_shut: false, drained: 0, timer }
    }

    /// Writes the answer, and reads on until the client has closed or its time is up.
    pub(super) fn poll(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        while self.sent < self.answer.len() {
            match ready!(Pin::new(&mut *stream).poll_write(context, &self.answer[self.sent..])) {
                Ok(sent) if sent > 0 => self.sent += sent,
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        if !self.is_shut {
            if ready!(Pin::new(&mut *stream).poll_flush(context)).is_err()
                || ready!(Pin::new(&mut *stream).poll_shutdown(context)).is_err()
            {
                return Poll::Ready(());
            }
            self.is_shut = true;
        }
        let mut unread = [0; 4096];
        while self.drained < DRAIN_LIMIT {
            let mut unread = ReadBuf::new(&mut unread);
            let outcome = ready!(Pin::new(&mut *stream).poll_read(context, &mut unread));
            if outcome.is_err() || unread.filled().is_empty() {
                break;
            }
            self.drained += unread.filled().len();
        }
        Poll::Ready(())
    }
}

/// A rejection as it goes over a connection that ends with it.
pub(in crate::server) fn response(rejection: &Rejection) -> Vec<u8> {
    let (status, body) = (rejection.status(), rejection.body());
    let after = rejection.retry_after().map(|after| format!("retry-after: {}\r\n", after.as_secs().max(1)));
    let allow = rejection.allow().map(|allow| format!("allow: {allow}\r\n"));
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\n{}{}",
        body.len(),
        after.unwrap_or_default(),
        allow.unwrap_or_default()
    );
    [head.as_bytes(), b"\r\n", &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is_and_that_it_is_the_last() {
        let text = String::from_utf8(response(&Rejection::SlowHeader)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("connection: close"), "{head}");
    }
}
