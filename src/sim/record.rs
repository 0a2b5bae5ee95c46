//! What arrived: a bounded list of the latest requests, for tests to look at.
//! It refuses to know what is answered, only whether the answer was taken to its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, Method, Version};
use bytes::Bytes;

const KEPT: usize = 1024;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not ended yet.
    Open,
    /// The whole answer was handed to the connection.
    Completed,
    /// The client left, or a fault cut the answer off.
    Aborted,
}

/// One request as it was received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The header fields as received.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The HTTP version spoken by the client.
    pub version: Version,
    /// How it ended.
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
struct Kept {
    first: u64,
    requests: VecDeque<Seen>,
}

/// The list of the latest requests.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Kept>);

impl Record {
    /// Notes a request; the guard notes its end.
    pub(super) fn note(self: &Arc<Self>, seen: Seen) -> Open {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.requests.len() == KEPT {
            kept.requests.pop_front();
            kept.first += 1;
        }
        kept.requests.push_back(seen);
        let id = kept.first + kept.requests.len() as u64 - 1;
        Open { record: Arc::clone(self), id, outcome: Outcome::Aborted }
    }

    /// Copies the list, oldest first.
    pub(super) fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).requests.iter().cloned().collect()
    }
}

/// A request under way; dropped before `complete`, it was aborted.
#[derive(Debug)]
pub(super) struct Open {
    record: Arc<Record>,
    id: u64,
    outcome: Outcome,
}

impl Open {
    /// Notes that the answer went out whole.
    pub(super) fn complete(mut self) {
        self.outcome = Outcome::Completed;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut kept = self.record.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = self.id.checked_sub(kept.first) else { return };
        if let Some(seen) = kept.requests.get_mut(index as usize) {
            seen.outcome = self.outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str) -> Seen {
        Seen {
            method: Method::GET,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            version: Version::HTTP_11,
            outcome: Outcome::Open,
        }
    }

    #[test]
    fn the_latest_requests_are_kept_with_their_ends() {
        let record = Arc::new(Record::default());
        let lost = record.note(seen("/lost"));
        for _ in 0..KEPT - 2 {
            record.note(seen("/between")).complete();
        }
        let left = record.note(seen("/left"));
        let open = record.note(seen("/open"));
        drop(lost);
        drop(left);
        let all = record.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].outcome, Outcome::Completed);
        assert_eq!(all[KEPT - 2].outcome, Outcome::Aborted);
        assert_eq!(all[KEPT - 1].outcome, Outcome::Open);
        drop(open);
    }
}
