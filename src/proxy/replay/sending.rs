//! Owns how far the sending of a request is, and its end where an upstream takes no more of it and does not answer.
//!
//! Over HTTP/1.1 Pingora takes the body from its retry buffer. Over HTTP/2 it would lose an answer that comes before the
//! request's end with it, so there it reads the body: then it lets a write's error pass and waits for the answer, but
//! asks the client's session nothing any more. What it still takes are custom messages, and one of them ends that wait.

use super::super::deadline::Deadline;
use super::LATE;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::{Error, ErrorType, Result};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

/// How long an answer may be on its way that was begun before its request was taken.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// How far the sending of a body is in the current attempt.
pub(super) enum Sending {
    /// Pingora takes it from its retry buffer.
    FromBuffer,
    /// It is yet to be read.
    Due,
    /// It was read; whether it could be sent is not known yet. Without a watch once there is an answer.
    Begun(Option<SendWatch>),
    Done,
}

impl Sending {
    /// Notes that a part of the answer is there, and says whether it came early. Nobody else looks at the deadline then.
    pub(super) fn answered(&mut self, deadline: &Deadline) -> Result<bool> {
        let Self::Begun(watch) = self else { return Ok(false) };
        *watch = None;
        if deadline.is_over(Instant::now()) {
            return Error::e_explain(LATE, "the upstream's deadline has passed");
        }
        Ok(true)
    }
}

/// Waits for the end of a write, and says where nothing follows it; until it is dropped.
pub(super) struct SendWatch(AbortHandle);

impl SendWatch {
    pub(super) fn start(messages: Sender<Bytes>) -> Self {
        let watch = async move {
            // Taken as soon as the write is over, well or not.
            messages.send(Bytes::new()).await?;
            drop(messages.reserve_many(messages.max_capacity()).await);
            tokio::time::sleep(ON_ITS_WAY).await;
            messages.send(Bytes::from_static(b"stalled")).await
        };
        Self(tokio::spawn(watch).abort_handle())
    }
}

impl Drop for SendWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Turns what a [`SendWatch`] says into an attempt's error.
pub(super) struct SendErrors;

#[async_trait]
impl CustomMessageWrite for SendErrors {
    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    async fn write_custom_message(&mut self, message: Bytes) -> Result<()> {
        if message.is_empty() {
            return Ok(());
        }
        let error = Error::explain(ErrorType::WriteTimedout, "the upstream took no more of the request");
        Err(error.into_up())
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
}
