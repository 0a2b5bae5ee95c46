//! A bounded log of the latest requests, for tests to look at.
//! It refuses to know responses, but for whether one was sent to its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, Method, Version};
use bytes::Bytes;

const CAPACITY: usize = 1024;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimOutcome {
    /// It has not ended yet.
    Open,
    /// The whole response was handed to the connection.
    Completed,
    /// The client disconnected, or a fault reset the connection.
    Aborted,
}

/// One request as it was received.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The header fields as received.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The client's HTTP version.
    pub version: Version,
    /// How it ended.
    pub outcome: SimOutcome,
}

#[derive(Debug, Default)]
struct LatestRequests {
    first: u64,
    requests: VecDeque<RecordedRequest>,
}

#[derive(Debug, Default)]
pub(super) struct RequestLog(Mutex<LatestRequests>);

impl RequestLog {
    /// Adds a request, whose outcome the guard sets.
    pub(super) fn record(self: &Arc<Self>, request: RecordedRequest) -> LogGuard {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.requests.len() == CAPACITY {
            latest.requests.pop_front();
            latest.first += 1;
        }
        latest.requests.push_back(request);
        let id = latest.first + latest.requests.len() as u64 - 1;
        LogGuard { log: Arc::clone(self), id, outcome: SimOutcome::Aborted }
    }

    /// Copies the log, oldest first.
    pub(super) fn all(&self) -> Vec<RecordedRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).requests.iter().cloned().collect()
    }
}

/// A request under way; dropped before `complete`, it was aborted.
#[derive(Debug)]
pub(super) struct LogGuard {
    log: Arc<RequestLog>,
    id: u64,
    outcome: SimOutcome,
}

impl LogGuard {
    /// Notes that the whole response was sent.
    pub(super) fn complete(mut self) {
        self.outcome = SimOutcome::Completed;
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let mut latest = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = self.id.checked_sub(latest.first) else { return };
        if let Some(request) = latest.requests.get_mut(index as usize) {
            request.outcome = self.outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> RecordedRequest {
        RecordedRequest {
            method: Method::GET,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            version: Version::HTTP_11,
            outcome: SimOutcome::Open,
        }
    }

    #[test]
    fn the_latest_requests_are_logged_with_their_outcomes() {
        let log = Arc::new(RequestLog::default());
        let lost = log.record(request("/lost"));
        for _ in 0..CAPACITY - 2 {
            log.record(request("/between")).complete();
        }
        let left = log.record(request("/left"));
        let open = log.record(request("/open"));
        drop(lost);
        drop(left);
        let all = log.all();
        assert_eq!(all.len(), CAPACITY);
        assert_eq!(all[0].outcome, SimOutcome::Completed);
        assert_eq!(all[CAPACITY - 2].outcome, SimOutcome::Aborted);
        assert_eq!(all[CAPACITY - 1].outcome, SimOutcome::Open);
        drop(open);
    }
}
