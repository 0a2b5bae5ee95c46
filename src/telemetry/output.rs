//! Owns how the process prints while it serves: a thread of its own writes, nobody waits for it, and what a stream does
//! not take is dropped and counted.
//!
//! Knows nothing of what is written. The reader of a stream may be slow, gone or never have been there.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Bytes of the process's own log that may wait to be written.
const QUEUE_BYTES: usize = 1 << 20;

/// How long the end of the process waits for a stream to take what is left.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// How long a stream that takes nothing now, and does not block, is left alone.
const RETRY: Duration = Duration::from_millis(10);

/// The process's own log: lines on their way to a stream.
#[derive(Clone)]
pub struct ProcessLog(Arc<LineQueue>);

#[derive(Default)]
struct LineQueue {
    queued: Mutex<QueuedLines>,
    wakeup: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct QueuedLines {
    bytes: Vec<u8>,
    closed: bool,
}

/// Waits for what is left to be written when it is dropped, for a limited time.
pub struct FlushGuard {
    close: Box<dyn Fn() + Send>,
    /// Disconnected once all is written.
    written: mpsc::Receiver<()>,
}

impl ProcessLog {
    /// Starts to write lines to `out`.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<(Self, FlushGuard)> {
        let queue = Arc::new(LineQueue::default());
        let source = Arc::clone(&queue);
        let written = spawn_writer("process-log", move || source.write(out))?;
        let closed = Arc::clone(&queue);
        let close = Box::new(move || {
            closed.queued().closed = true;
            closed.wakeup.notify_one();
        });
        Ok((Self(queue), FlushGuard { close, written }))
    }

    /// The lines that were lost.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// Takes whole lines; never waits and never fails.
impl Write for ProcessLog {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut queued = self.0.queued();
        if queued.bytes.len() + line.len() > QUEUE_BYTES {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            queued.bytes.extend_from_slice(line);
            drop(queued);
            self.0.wakeup.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl LineQueue {
    fn queued(&self) -> MutexGuard<'_, QueuedLines> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, mut out: impl Write) {
        loop {
            let is_idle = |queued: &mut QueuedLines| queued.bytes.is_empty() && !queued.closed;
            let mut queued =
                self.wakeup.wait_while(self.queued(), is_idle).unwrap_or_else(PoisonError::into_inner);
            let (lines, closed) = (std::mem::take(&mut queued.bytes), queued.closed);
            drop(queued);
            self.dropped.fetch_add(write_lines(&mut out, &lines), Ordering::Relaxed);
            if closed {
                return;
            }
        }
    }
}

impl FlushGuard {
    /// Makes a guard that has `close` end a writer, which [`spawn_writer`] started.
    pub(super) fn new(close: impl Fn() + Send + 'static, written: mpsc::Receiver<()>) -> Self {
        Self { close: Box::new(close), written }
    }
}

impl Drop for FlushGuard {
    fn drop(&mut self) {
        (self.close)();
        // What a stream has not taken by then is lost with the process.
        let _ = self.written.recv_timeout(FLUSH_LIMIT);
    }
}

/// Runs a writer on a thread of its own; the receiver is disconnected when it has ended.
pub(super) fn spawn_writer(
    name: &str,
    write: impl FnOnce() + Send + 'static,
) -> std::io::Result<mpsc::Receiver<()>> {
    let (running, written) = mpsc::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        write();
        drop::<mpsc::Sender<()>>(running);
    })?;
    Ok(written)
}

/// Writes lines as far as the stream takes them; returns how many were lost.
pub(super) fn write_lines(out: &mut impl Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(taken) if taken > 0 => lines = &lines[taken..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody who shares the stream has made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Ok(_) | Err(_) => break,
        }
    }
    // Whatever is lost here was counted or is lost with the stream.
    let _ = out.flush();
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A stream whose reader never reads.
    struct Stuck;

    impl Write for Stuck {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            loop {
                std::thread::park();
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A stream whose reader has gone.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Err(ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_stream_that_nobody_reads_costs_lines_and_no_time() {
        let (mut log, guard) = ProcessLog::start(Stuck).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let began = Instant::now();
        for _ in 0..3 * QUEUE_BYTES / line.len() {
            log.write_all(&line).unwrap();
        }
        assert!(log.dropped() > 0);
        drop(guard);
        assert!(began.elapsed() < FLUSH_LIMIT * 5);
    }

    #[test]
    fn lines_that_a_stream_refuses_are_counted() {
        let (mut log, guard) = ProcessLog::start(Closed).unwrap();
        log.write_all(b"one\n").unwrap();
        log.write_all(b"two\n").unwrap();
        drop(guard);
        assert_eq!(log.dropped(), 2);
    }
}
