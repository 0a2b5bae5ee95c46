//! Owns the one line that is written for each request.
//!
//! Lines are gathered in a bounded buffer and written by a thread of their own a few times a second: a request
//! neither waits for a terminal nor wakes a thread. Lines that find the buffer full are dropped and counted.

use crate::record::{Answered, Asked, Chosen, Record};
use serde::Serialize;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Bytes that may wait to be written.
const CAPACITY: usize = 8 << 20;

/// How long lines are gathered once there is one.
const GATHER: Duration = Duration::from_millis(20);

/// Where the lines go.
#[derive(Clone)]
pub enum AccessLog {
    /// To a writer, by way of a buffer.
    Lines(Arc<Lines>),
    /// Nowhere, as the operator wanted.
    Off,
}

/// Lines on their way out.
pub struct Lines {
    waiting: Mutex<Waiting>,
    some: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
    over: bool,
}

/// Writes what is left when it is dropped.
pub struct Flush {
    lines: Arc<Lines>,
    writer: Option<std::thread::JoinHandle<()>>,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<SocketAddr>,
    #[serde(flatten)]
    asked: &'a Asked,
    #[serde(flatten)]
    chosen: &'a Chosen,
    #[serde(flatten)]
    answered: &'a Answered,
}

impl AccessLog {
    /// Starts to write lines to `out`.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<(Self, Flush)> {
        let lines = Arc::new(Lines { waiting: Mutex::default(), some: Condvar::new() });
        let source = Arc::clone(&lines);
        let writer =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || source.write(out))?;
        Ok((AccessLog::Lines(Arc::clone(&lines)), Flush { lines, writer: Some(writer) }))
    }

    /// Adds one request's line.
    pub fn write(&self, record: &Record) {
        let AccessLog::Lines(lines) = self else { return };
        let ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = Vec::with_capacity(1024);
        let Record { request_id, client, asked, chosen, answered } = record;
        let entry = Line { ts: &ts, request_id, client: *client, asked, chosen, answered };
        if serde_json::to_writer(&mut line, &entry).is_ok() {
            line.push(b'\n');
            lines.add(&line);
        }
    }
}

impl Lines {
    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.bytes.len() + line.len() > CAPACITY {
            waiting.dropped += 1;
            return;
        }
        let was_empty = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if was_empty {
            self.some.notify_one();
        }
    }

    fn write(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let idle = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.over;
            let waiting = self.some.wait_while(self.waiting(), idle).unwrap_or_else(PoisonError::into_inner);
            let over = waiting.over;
            drop(waiting);
            if !over {
                std::thread::sleep(GATHER);
            }
            batch.clear();
            let mut waiting = self.waiting();
            std::mem::swap(&mut waiting.bytes, &mut batch);
            let dropped = std::mem::take(&mut waiting.dropped);
            drop(waiting);
            if dropped > 0 {
                tracing::warn!(dropped, "access-log lines were dropped: their reader is too slow");
            }
            // Standard output may be closed; the requests go on all the same.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            if over {
                return;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.lines.waiting().over = true;
        self.lines.some.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to write.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Sink(mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_once_and_whole_before_the_end() {
        let (sender, written) = mpsc::channel();
        let (log, flush) = AccessLog::start(Sink(sender)).unwrap();
        for at in 0..100 {
            log.write(&Record { request_id: format!("req-{at}"), ..Record::default() });
        }
        drop(flush);
        let bytes: Vec<u8> = written.into_iter().flatten().collect();
        let lines: Vec<&str> = std::str::from_utf8(&bytes).unwrap().lines().collect();
        assert_eq!(lines.len(), 100);
        for (at, line) in lines.iter().enumerate() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["request_id"], format!("req-{at}"));
        }
    }

    #[test]
    fn a_full_buffer_drops_lines_instead_of_growing() {
        let lines = Lines { waiting: Mutex::default(), some: Condvar::new() };
        let line = vec![b'x'; CAPACITY / 4];
        for _ in 0..10 {
            lines.add(&line);
        }
        assert_eq!(lines.waiting().dropped, 6);
        assert_eq!(lines.waiting().bytes.len(), CAPACITY);
    }
}
