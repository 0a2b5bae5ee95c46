//! Owns how Pingora's tasks of an answer go through its stages, and how they are held back until it is whole.
//! Refuses to know what the stages do.

use super::answer::{AnswerPipeline, MAX_ANSWER};
use super::failure::RequestFailure;
use crate::classify::Unknown;
use bytes::Bytes;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, ErrorType, Result};

/// Sends a part of an answer through its stages; fails where the client has to get an error in the answer's place.
pub(super) async fn pass(pipeline: &mut AnswerPipeline, tasks: Vec<HttpTask>) -> Result<Vec<HttpTask>> {
    let mut passed = Vec::with_capacity(tasks.len());
    for task in tasks {
        let (data, end) = match task {
            HttpTask::Body(data, end) => (data.unwrap_or_default(), end),
            HttpTask::Trailer(_) | HttpTask::Done => (Bytes::new(), true),
            other => {
                passed.push(other);
                continue;
            }
        };
        let had_ended = pipeline.has_ended();
        let released = pipeline.pass(data, end).await.map_err(RequestFailure::of_answer)?;
        // An empty piece would end a chunked body.
        if !had_ended && (!released.bytes.is_empty() || released.is_last) {
            passed.push(HttpTask::Body(Some(released.bytes), released.is_last));
        }
    }
    Ok(passed)
}

/// Holds an answer back until it is whole, and verifies it then; gives what may be sent now.
pub(super) async fn hold(
    pipeline: &mut AnswerPipeline,
    client: &mut ServerSession,
    tasks: Vec<HttpTask>,
) -> Result<Vec<HttpTask>> {
    pipeline.buffer.take(tasks)?;
    if pipeline.buffer.is_whole() {
        let headers = tokio::select! {
            biased;
            headers = pipeline.verify() => headers,
            _left = client.read_body_or_idle(true) => {
                let gone = Error::explain(ErrorType::ConnectionClosed, "the client has gone");
                return Err(gone.into_down());
            }
        };
        return pipeline.buffer.release(&headers);
    }
    if pipeline.buffer.bytes() > MAX_ANSWER {
        pipeline.skip_verification(Unknown::TooLong);
        return pipeline.buffer.release(&[]);
    }
    Ok(Vec::new())
}

/// Drops a part of an answer that is held elsewhere; fails where the upstream has failed.
pub(super) fn drop_held(tasks: Vec<HttpTask>) -> Result<bool> {
    for task in tasks {
        match task {
            HttpTask::Failed(error) => return Err(error),
            HttpTask::Done | HttpTask::Trailer(_) | HttpTask::Header(_, true) => {
                return Err(Error::explain(ErrorType::ReadError, "what is held is not whole").into_up());
            }
            _ => {}
        }
    }
    Ok(false)
}
