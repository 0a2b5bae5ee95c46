//! Owns the access log: one line for each request, written by a thread of its own.
//!
//! Records are collected per thread and formatted several at a time, while the code for it is in the processor's cache.
//! Lines go to a bounded buffer that the writer empties a few times a second: a request neither waits for a terminal
//! nor, under load, wakes a thread. Lines that find the buffer full are dropped and counted.

use super::facts::AccessRecord;
use super::line::write_line;
use super::output::{FlushGuard, spawn_writer, write_lines};
use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Bytes that may wait to be written.
const CAPACITY: usize = 8 << 20;

/// How long lines are collected once there is one.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);

/// Bytes at which the writer is woken early: more would fall out of the processor's cache.
const FLUSH_BYTES: usize = 64 << 10;

/// Records that a thread collects before it formats them.
const BATCH: usize = 16;

/// Bytes that a thread keeps allocated for formatting; few batches are longer.
const TEXT_CAPACITY: usize = 16 << 10;

/// Threads so far: each collects in a batch of its own, as far as there are so many.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    /// The lines that a thread formats. Reused: it is in the processor's cache, where new memory would not be.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where the lines go.
#[derive(Clone)]
pub enum AccessLog {
    /// To a writer, through a buffer.
    Buffered(Arc<LogBuffer>),
    /// Nowhere.
    Off,
}

/// Lines on their way to the writer.
pub struct LogBuffer {
    /// Records that are not formatted yet, by thread. Lock order: before `pending`.
    batches: Box<[Mutex<Vec<LogEntry>>]>,
    pending: Mutex<PendingLines>,
    wakeup: Condvar,
    /// Whether the writer sleeps until it is woken: nothing was left to write.
    asleep: AtomicBool,
    dropped: AtomicU64,
}

struct LogEntry {
    ended: SystemTime,
    record: AccessRecord,
}

#[derive(Default)]
struct PendingLines {
    bytes: Vec<u8>,
    closed: bool,
}

impl AccessLog {
    /// Starts to write lines to `out`.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<(Self, FlushGuard)> {
        let buffer = Arc::new(LogBuffer::new());
        let source = Arc::clone(&buffer);
        let written = spawn_writer("access-log", move || source.write(out))?;
        let closed = Arc::clone(&buffer);
        let close = move || {
            closed.pending().closed = true;
            closed.wakeup.notify_one();
        };
        Ok((AccessLog::Buffered(buffer), FlushGuard::new(close, written)))
    }

    /// The lines that were lost.
    pub fn dropped(&self) -> u64 {
        match self {
            AccessLog::Buffered(buffer) => buffer.dropped.load(Ordering::Relaxed),
            AccessLog::Off => 0,
        }
    }

    /// Adds one request's line.
    pub fn write(&self, record: AccessRecord) {
        if let AccessLog::Buffered(buffer) = self {
            buffer.push(LogEntry { ended: SystemTime::now(), record });
        }
    }
}

impl LogBuffer {
    fn new() -> Self {
        let places = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            batches: (0..places).map(|_| Mutex::new(Vec::with_capacity(BATCH))).collect(),
            pending: Mutex::default(),
            wakeup: Condvar::new(),
            asleep: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }

    fn push(&self, entry: LogEntry) {
        let place = THREAD.with(|thread| thread % self.batches.len());
        let mut entries = self.batches[place].lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        if entries.len() >= BATCH {
            self.format(&mut entries);
        }
        drop(entries);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            // The writer checks `asleep` under this lock: it has seen the change or is waiting already.
            drop(self.pending());
            self.wakeup.notify_one();
        }
    }

    fn format(&self, entries: &mut Vec<LogEntry>) {
        TEXT.with_borrow_mut(|text| {
            text.clear();
            text.shrink_to(TEXT_CAPACITY);
            let count = entries.len() as u64;
            for LogEntry { ended, record } in entries.drain(..) {
                let start = text.len();
                if write_line(text, ended, &record).is_err() {
                    text.truncate(start);
                }
            }
            self.add(text, count);
        });
    }

    fn add(&self, lines: &[u8], count: u64) {
        let mut pending = self.pending();
        if pending.bytes.len() + lines.len() > CAPACITY {
            self.dropped.fetch_add(count, Ordering::Relaxed);
            return;
        }
        let before = pending.bytes.len();
        pending.bytes.extend_from_slice(lines);
        let after = pending.bytes.len();
        drop(pending);
        if before < FLUSH_BYTES && after >= FLUSH_BYTES {
            self.wakeup.notify_one();
        }
    }

    fn write(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        let mut reported = 0;
        loop {
            let few = |pending: &mut PendingLines| pending.bytes.len() < FLUSH_BYTES && !pending.closed;
            let waited = self.wakeup.wait_timeout_while(self.pending(), FLUSH_INTERVAL, few);
            let (pending, _timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            let closed = pending.closed;
            drop(pending);
            for entries in &self.batches {
                let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
                if !entries.is_empty() {
                    self.format(&mut entries);
                }
            }
            batch.clear();
            let mut pending = self.pending();
            std::mem::swap(&mut pending.bytes, &mut batch);
            drop(pending);
            let lost = write_lines(&mut out, &batch);
            let dropped = self.dropped.fetch_add(lost, Ordering::Relaxed) + lost;
            // At every doubling: a stream that is closed loses each line from then on.
            if dropped > reported * 2 {
                reported = dropped;
                tracing::warn!(dropped, "access-log lines were dropped: nobody reads them, or too slowly");
            }
            if closed {
                return;
            }
            if batch.is_empty() {
                self.sleep();
            }
        }
    }

    /// Waits until there is something to write, or the log is closed.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        // A record that comes after this check finds `asleep` set and wakes the writer.
        let is_empty = |entries: &Mutex<Vec<LogEntry>>| {
            entries.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
        };
        if self.batches.iter().all(is_empty) {
            let sleeps = |pending: &mut PendingLines| {
                self.asleep.load(Ordering::SeqCst) && pending.bytes.is_empty() && !pending.closed
            };
            drop(self.wakeup.wait_while(self.pending(), sleeps));
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn pending(&self) -> MutexGuard<'_, PendingLines> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
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
            log.write(AccessRecord { request_id: format!("req-{at}"), ..AccessRecord::default() });
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
    fn a_line_that_nothing_follows_wakes_the_writer_and_is_written() {
        let (sender, written) = mpsc::channel();
        let (log, _flush) = AccessLog::start(Sink(sender)).unwrap();
        let AccessLog::Buffered(lines) = &log else { unreachable!() };
        for at in 0..20 {
            while at % 2 == 0 && !lines.asleep.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let request_id = format!("req-{at}");
            log.write(AccessRecord { request_id: request_id.clone(), ..AccessRecord::default() });
            let mut text = Vec::new();
            while text.is_empty() {
                text = written.recv_timeout(Duration::from_secs(30)).unwrap();
            }
            assert!(String::from_utf8(text).unwrap().contains(&request_id));
        }
    }

    #[test]
    fn lines_of_many_threads_are_all_written() {
        const EACH: usize = 1_000;
        let (sender, written) = mpsc::channel();
        let (log, flush) = AccessLog::start(Sink(sender)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let log = &log;
                scope.spawn(move || {
                    for at in 0..EACH {
                        log.write(AccessRecord {
                            request_id: format!("{thread}-{at}."),
                            ..AccessRecord::default()
                        });
                    }
                });
            }
        });
        drop(flush);
        let text = String::from_utf8(written.into_iter().flatten().collect()).unwrap();
        assert_eq!(text.lines().count(), 8 * EACH);
        for request_id in ["0-0.", "7-999.", "3-500."] {
            assert_eq!(text.matches(&format!("\"{request_id}")).count(), 1);
        }
    }

    #[test]
    fn a_full_buffer_drops_lines_instead_of_growing() {
        let lines = LogBuffer::new();
        let line = vec![b'x'; CAPACITY / 4];
        for _ in 0..10 {
            lines.add(&line, 1);
        }
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 6);
        assert_eq!(lines.pending().bytes.len(), CAPACITY);
    }
}
