//! Owns the one line that is written for each request.
//!
//! Records are gathered and spelt out several at a time: their code is fetched from memory once
//! for all. Lines are gathered in a bounded buffer and written by a thread of their own a few times a second: a request
//! neither waits for a terminal nor, while there are others, wakes a thread. Lines that find the buffer full are dropped
//! and counted.

use crate::openai::is_plain;
use crate::record::{Answered, Asked, Chosen, Record};
use http::Method;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Bytes that may wait to be written.
const CAPACITY: usize = 8 << 20;

/// How long lines are gathered once there is one.
const GATHER: Duration = Duration::from_millis(20);

/// How many bytes are gathered at most before they are written: more would leave the processor's cache on their way.
const ENOUGH: usize = 64 << 10;

/// How many records are gathered before they are spelt out.
const BATCH: usize = 16;

/// What a thread keeps to spell records out into, in bytes; few are longer together.
const ORDINARY: usize = 16 << 10;

/// Threads so far: each has its own place to gather records in, as far as there are so many.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    /// The lines that a thread spells out: in the processor's cache, where new memory would not be.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

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
    /// Records that are not spelt out yet, by thread. Locked before `waiting`, never behind it.
    gathered: Box<[Mutex<Vec<Entry>>]>,
    waiting: Mutex<Waiting>,
    some: Condvar,
    /// Whether the writer sleeps until it is woken, as it does when nothing is left to write.
    asleep: AtomicBool,
}

struct Entry {
    ended: SystemTime,
    record: Record,
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

impl AccessLog {
    /// Starts to write lines to `out`.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<(Self, Flush)> {
        let lines = Arc::new(Lines::new());
        let source = Arc::clone(&lines);
        let writer =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || source.write(out))?;
        Ok((AccessLog::Lines(Arc::clone(&lines)), Flush { lines, writer: Some(writer) }))
    }

    /// Adds one request's line.
    pub fn write(&self, record: Record) {
        if let AccessLog::Lines(lines) = self {
            lines.take(Entry { ended: SystemTime::now(), record });
        }
    }
}

/// Writes a member for each field of a struct; a field that is not named is a mistake that the compiler finds.
macro_rules! members {
    ($line:ident, $of:expr, $type:ident { $($name:ident),* $(; $($apart:ident),*)? }) => {
        let $type { $($name,)* $($($apart),*)? } = $of;
        $($name.member(concat!(",\"", stringify!($name), "\":"), $line)?;)*
    };
}

/// Writes a request's line: one JSON object.
///
/// By hand, since every request pays for it: a serialiser escapes each key anew, byte by byte.
fn line(line: &mut Vec<u8>, now: SystemTime, record: &Record) -> std::io::Result<()> {
    line.extend_from_slice(b"{\"ts\":\"");
    timestamp(now, line);
    line.push(b'"');
    members!(line, record, Record { request_id, client; asked, chosen, answered });
    members!(line, asked, Asked { method, path, requested_model, stream, request_bytes });
    members!(line, chosen, Chosen {
        model, category, confidence, coverage, decision, reason, classify_ms, classify_queued_ms, classify_tokens,
        classify_windows, classify_cached, pool, endpoint, tries; beside
    });
    members!(
        line,
        answered,
        Answered {
            status,
            response_path,
            error,
            response_bytes,
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            ttft_ms,
            duration_ms
        }
    );
    if let Some(beside) = beside {
        let start = line.len();
        serde_json::to_writer(&mut *line, beside)?;
        // Its members join the others, behind a comma where it has any.
        line.pop();
        if line.len() > start + 1 {
            line[start] = b',';
        } else {
            line.truncate(start);
        }
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

thread_local! {
    /// The last second that was written, by the clock and as text.
    static SECOND: Cell<(u64, [u8; 19])> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

/// Writes the time as RFC 3339 has it, in milliseconds.
fn timestamp(now: SystemTime, line: &mut Vec<u8>) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut second, mut text) = SECOND.get();
    if second != since.as_secs() {
        second = since.as_secs();
        let whole = humantime::format_rfc3339_seconds(now).to_string();
        text.copy_from_slice(&whole.as_bytes()[..19]);
        SECOND.set((second, text));
    }
    line.extend_from_slice(&text);
    let millis = since.subsec_millis();
    let digit = |value: u32| b'0' + (value % 10) as u8;
    line.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
}

/// What a member of the line may hold.
trait Member {
    /// Writes the member; `key` has a comma before it, its quotes and its colon.
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()>;
}

impl<T: Member> Member for Option<T> {
    #[inline]
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Some(value) => value.member(key, line),
            None => Ok(()),
        }
    }
}

/// Writes a member whose text needs no escapes. Not inlined, as the other writers are not: a line has many members, for
/// which one copy of the code will do.
#[inline(never)]
fn text(key: &str, value: &str, line: &mut Vec<u8>) {
    line.extend_from_slice(key.as_bytes());
    line.push(b'"');
    line.extend_from_slice(value.as_bytes());
    line.push(b'"');
}

/// Words of our own, in which nothing is to be escaped.
impl Member for &'static str {
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        text(key, self, line);
        Ok(())
    }
}

impl Member for String {
    #[inline(never)]
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        if is_plain(self) {
            text(key, self, line);
            return Ok(());
        }
        line.extend_from_slice(key.as_bytes());
        Ok(serde_json::to_writer(line, self)?)
    }
}

/// A token, in which nothing is to be escaped.
impl Member for Method {
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        text(key, self.as_str(), line);
        Ok(())
    }
}

impl Member for SocketAddr {
    #[inline(never)]
    fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
        line.extend_from_slice(key.as_bytes());
        let SocketAddr::V4(address) = self else { return write!(line, "\"{self}\"") };
        for (octet, before) in address.ip().octets().into_iter().zip(*b"\"...") {
            line.push(before);
            for scale in [100, 10] {
                if octet >= scale {
                    line.push(b'0' + octet / scale % 10);
                }
            }
            line.push(b'0' + octet % 10);
        }
        line.push(b':');
        serde_json::to_writer(&mut *line, &address.port())?;
        line.push(b'"');
        Ok(())
    }
}

macro_rules! plain_members {
    ($($type:ty),*) => {$(
        impl Member for $type {
            #[inline(never)]
            fn member(&self, key: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
                line.extend_from_slice(key.as_bytes());
                Ok(serde_json::to_writer(line, self)?)
            }
        }
    )*};
}

plain_members!(bool, u16, u32, u64, usize, f32, f64);

impl Lines {
    fn new() -> Self {
        let places = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            gathered: (0..places).map(|_| Mutex::new(Vec::with_capacity(BATCH))).collect(),
            waiting: Mutex::default(),
            some: Condvar::new(),
            asleep: AtomicBool::new(false),
        }
    }

    fn take(&self, entry: Entry) {
        let place = THREAD.with(|thread| thread % self.gathered.len());
        let mut entries = self.gathered[place].lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        if entries.len() >= BATCH {
            self.spell(&mut entries);
        }
        drop(entries);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            // The writer looks at it under this lock: it has either seen it or waits already.
            drop(self.waiting());
            self.some.notify_one();
        }
    }

    /// Spells records out and lets their lines wait to be written.
    fn spell(&self, entries: &mut Vec<Entry>) {
        TEXT.with_borrow_mut(|text| {
            text.clear();
            text.shrink_to(ORDINARY);
            let count = entries.len() as u64;
            for Entry { ended, record } in entries.drain(..) {
                let start = text.len();
                if line(text, ended, &record).is_err() {
                    text.truncate(start);
                }
            }
            self.add(text, count);
        });
    }

    fn add(&self, lines: &[u8], count: u64) {
        let mut waiting = self.waiting();
        if waiting.bytes.len() + lines.len() > CAPACITY {
            waiting.dropped += count;
            return;
        }
        let before = waiting.bytes.len();
        waiting.bytes.extend_from_slice(lines);
        let after = waiting.bytes.len();
        drop(waiting);
        if before < ENOUGH && after >= ENOUGH {
            self.some.notify_one();
        }
    }

    fn write(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let few = |waiting: &mut Waiting| waiting.bytes.len() < ENOUGH && !waiting.over;
            let waited = self.some.wait_timeout_while(self.waiting(), GATHER, few);
            let (waiting, _timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            let over = waiting.over;
            drop(waiting);
            for entries in &self.gathered {
                let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
                if !entries.is_empty() {
                    self.spell(&mut entries);
                }
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
            if batch.is_empty() {
                self.sleep();
            }
        }
    }

    /// Waits until there is something to write, or it is over.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        // Whoever comes after this look sees that the writer sleeps, and wakes it.
        let is_empty =
            |entries: &Mutex<Vec<Entry>>| entries.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if self.gathered.iter().all(is_empty) {
            let sleeps = |waiting: &mut Waiting| {
                self.asleep.load(Ordering::SeqCst) && waiting.bytes.is_empty() && !waiting.over
            };
            drop(self.some.wait_while(self.waiting(), sleeps));
        }
        self.asleep.store(false, Ordering::SeqCst);
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
            log.write(Record { request_id: format!("req-{at}"), ..Record::default() });
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
        let AccessLog::Lines(lines) = &log else { unreachable!() };
        for at in 0..20 {
            while at % 2 == 0 && !lines.asleep.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let request_id = format!("req-{at}");
            log.write(Record { request_id: request_id.clone(), ..Record::default() });
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
                        log.write(Record { request_id: format!("{thread}-{at}."), ..Record::default() });
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
    fn a_line_says_what_the_record_says_whatever_stands_in_it() {
        let mut record = Record { request_id: "a\"b\\c\nd\u{1f}\u{7f}é".to_owned(), ..Record::default() };
        record.client = Some("[2001:db8::1]:80".parse().unwrap());
        record.asked.path = "/v1/\t".to_owned();
        record.chosen.endpoint = Some("192.0.2.17:8000".parse().unwrap());
        record.chosen.confidence = Some(0.25);
        record.chosen.beside();
        record.answered.duration_ms = 1.0625;
        let read = |record: &Record| -> serde_json::Value {
            let mut text = Vec::new();
            line(&mut text, SystemTime::UNIX_EPOCH, record).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let mut expected = serde_json::json!({
            "ts": "1970-01-01T00:00:00.000Z", "request_id": record.request_id, "client": "[2001:db8::1]:80",
            "method": "GET", "path": "/v1/\t", "stream": false, "request_bytes": 0, "confidence": 0.25,
            "endpoint": "192.0.2.17:8000", "tries": 0, "status": 0, "response_path": "", "response_bytes": 0,
            "duration_ms": 1.0625,
        });
        assert_eq!(read(&record), expected);
        record.chosen.beside().pii = vec!["PERSON".to_owned()];
        expected["pii"] = serde_json::json!(["PERSON"]);
        assert_eq!(read(&record), expected);
    }

    #[test]
    fn a_time_is_written_as_rfc_3339_has_it() {
        for millis in [0, 1, 999, 1_000, 951_782_399_999, 951_782_400_000, 1_795_286_400_123, 999] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            let mut text = Vec::new();
            timestamp(now, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), humantime::format_rfc3339_millis(now).to_string());
        }
    }

    #[test]
    fn a_full_buffer_drops_lines_instead_of_growing() {
        let lines = Lines::new();
        let line = vec![b'x'; CAPACITY / 4];
        for _ in 0..10 {
            lines.add(&line, 1);
        }
        assert_eq!(lines.waiting().dropped, 6);
        assert_eq!(lines.waiting().bytes.len(), CAPACITY);
    }
}
