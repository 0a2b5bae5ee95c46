//! The load client of `benches/hop`: closed-loop HTTP/1.1 over raw keep-alive sockets, one JSON line as the result.
//!
//! It owns the clock: the time from the first byte written to the last byte of the answer, and to the first of its body. It knows nothing about
//! the contestants, pays for no HTTP library (a request is one prepared buffer, an answer is only framed) and runs
//! on one thread, so that it takes as little as possible of the core it shares with the upstream.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const READ_BYTES: usize = 64 * 1024;
const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// A closed-loop load client: every client sends its next request when the answer to its last one is complete.
#[derive(Parser)]
struct Arguments {
    /// The address under load.
    #[arg(long)]
    target: SocketAddr,
    /// The path to post to.
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// Concurrent clients, one connection each.
    #[arg(long, default_value_t = 1)]
    clients: u64,
    /// Requests in all, shared by the clients.
    #[arg(long)]
    requests: u64,
    /// The file whose content is posted.
    #[arg(long)]
    body: PathBuf,
    /// Counts server-sent events: answers without any are errors.
    #[arg(long)]
    stream: bool,
    /// Seconds after which one request counts as failed.
    #[arg(long, default_value_t = 60)]
    timeout_s: u64,
}

/// What all clients of a run share.
struct Run {
    target: SocketAddr,
    request: Vec<u8>,
    expects_events: bool,
    deadline: Duration,
    budget: AtomicU64,
}

impl Run {
    /// Takes one request out of the budget, if any is left.
    fn take(&self) -> bool {
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// What one client saw.
#[derive(Default)]
struct Tally {
    latencies_ns: Vec<u64>,
    /// To the first byte of the body.
    first_ns: Vec<u64>,
    errors: u64,
    events: u64,
    bytes: u64,
    last_error: Option<Fault>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("malformed answer")]
    Malformed,
    #[error("no event in a stream")]
    NoEvents,
    #[error("timed out")]
    Timeout,
}

/// How an answer's end is found.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// An answer's head: what the client needs of it.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    framing: Framing,
    keeps_alive: bool,
}

/// Parses an answer's head, without its final blank line.
fn parse_head(head: &[u8]) -> Result<Head, Fault> {
    let text = std::str::from_utf8(head).map_err(|_| Fault::Malformed)?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or(Fault::Malformed)?;
    let mut parsed = Head { status, framing: Framing::Close, keeps_alive: true };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            parsed.framing = Framing::Length(value.parse().map_err(|_| Fault::Malformed)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            parsed.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
            parsed.keeps_alive = false;
        }
    }
    parsed.keeps_alive &= parsed.framing != Framing::Close;
    Ok(parsed)
}

/// Counts the events of an SSE body fed in any slicing: an event ends at a blank line.
#[derive(Default)]
struct EventCounter {
    line_is_empty: bool,
    events: u64,
}

impl EventCounter {
    fn feed(&mut self, data: &[u8]) {
        for &byte in data {
            match byte {
                b'\r' => {}
                b'\n' => {
                    self.events += u64::from(self.line_is_empty);
                    self.line_is_empty = true;
                }
                _ => self.line_is_empty = false,
            }
        }
    }
}

/// Where a chunked body stands.
#[derive(Clone, Copy)]
enum ChunkState {
    Size(u64),
    SizeExtension(u64),
    Data(u64),
    AfterData,
    Trailer { line_is_empty: bool },
    Done,
}

/// Feeds a slice of a chunked body; payload goes to `events`, the return value is the state afterwards.
fn feed_chunked(
    mut state: ChunkState,
    mut data: &[u8],
    events: &mut EventCounter,
) -> Result<ChunkState, Fault> {
    while let Some((&byte, rest)) = data.split_first() {
        if let ChunkState::Data(left) = state {
            let taken = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            events.feed(&data[..taken]);
            data = &data[taken..];
            let left = left - taken as u64;
            state = if left == 0 { ChunkState::AfterData } else { ChunkState::Data(left) };
            continue;
        }
        data = rest;
        state = match (state, byte) {
            (ChunkState::Size(0) | ChunkState::SizeExtension(0), b'\n') => {
                ChunkState::Trailer { line_is_empty: true }
            }
            (ChunkState::Size(size) | ChunkState::SizeExtension(size), b'\n') => ChunkState::Data(size),
            (ChunkState::Size(size), b'\r') => ChunkState::Size(size),
            (ChunkState::Size(size), b';') | (ChunkState::SizeExtension(size), _) => {
                ChunkState::SizeExtension(size)
            }
            (ChunkState::Size(size), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Fault::Malformed)?;
                ChunkState::Size(size.checked_mul(16).ok_or(Fault::Malformed)? + u64::from(digit))
            }
            (ChunkState::AfterData, b'\n') => ChunkState::Size(0),
            (ChunkState::AfterData, b'\r') => ChunkState::AfterData,
            (ChunkState::Trailer { line_is_empty: true }, b'\n') => ChunkState::Done,
            (ChunkState::Trailer { .. }, b'\n') => ChunkState::Trailer { line_is_empty: true },
            (ChunkState::Trailer { line_is_empty }, b'\r') => ChunkState::Trailer { line_is_empty },
            (ChunkState::Trailer { .. }, _) => ChunkState::Trailer { line_is_empty: false },
            (ChunkState::AfterData | ChunkState::Data(_) | ChunkState::Done, _) => {
                return Err(Fault::Malformed);
            }
        };
    }
    Ok(state)
}

/// One keep-alive connection.
struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// A complete answer.
struct Answer {
    /// When the first byte of its body came.
    first: Instant,
    events: u64,
    bytes: u64,
    keeps_alive: bool,
}

impl Connection {
    async fn open(target: SocketAddr) -> Result<Self, Fault> {
        let socket = TcpStream::connect(target).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; READ_BYTES] })
    }

    /// Sends one request and reads its answer to the last byte.
    async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Fault> {
        self.socket.write_all(request).await?;
        let (head, mut start, mut end) = self.read_head().await?;
        let mut events = EventCounter::default();
        let mut left = if let Framing::Length(length) = head.framing { length } else { 0 };
        let mut chunks = ChunkState::Size(0);
        let (mut bytes, mut first) = (0, None);
        loop {
            let data = &self.buffer[start..end];
            if !data.is_empty() {
                first.get_or_insert_with(Instant::now);
            }
            bytes += data.len() as u64;
            let complete = match head.framing {
                Framing::Length(_) => {
                    events.feed(data);
                    left = left.checked_sub(data.len() as u64).ok_or(Fault::Malformed)?;
                    left == 0
                }
                Framing::Chunked => {
                    chunks = feed_chunked(chunks, data, &mut events)?;
                    matches!(chunks, ChunkState::Done)
                }
                Framing::Close => {
                    events.feed(data);
                    false
                }
            };
            if complete {
                break;
            }
            start = 0;
            end = self.socket.read(&mut self.buffer).await?;
            if end == 0 && head.framing == Framing::Close {
                break;
            }
            if end == 0 {
                return Err(Fault::Malformed);
            }
        }
        if head.status != 200 {
            return Err(Fault::Status(head.status));
        }
        let first = first.unwrap_or_else(Instant::now);
        Ok(Answer { first, events: events.events, bytes, keeps_alive: head.keeps_alive })
    }

    /// Reads up to the blank line; the rest of what was read stands at `buffer[start..end]`.
    async fn read_head(&mut self) -> Result<(Head, usize, usize), Fault> {
        let mut end = 0;
        loop {
            let read = self.socket.read(&mut self.buffer[end..]).await?;
            if read == 0 || end > HEAD_LIMIT_BYTES {
                return Err(Fault::Malformed);
            }
            end += read;
            if let Some(at) = self.buffer[..end].windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok((parse_head(&self.buffer[..at])?, at + 4, end));
            }
        }
    }
}

/// Sends requests, one after the other, until the run's budget is spent.
async fn client(run: Arc<Run>) -> Tally {
    let mut tally = Tally::default();
    let mut open: Option<Connection> = None;
    while run.take() {
        let begun = Instant::now();
        match timeout(run.deadline, one(&run, open.take())).await.unwrap_or(Err(Fault::Timeout)) {
            Ok((answer, connection)) => {
                let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                tally.latencies_ns.push(nanos(begun.elapsed()));
                tally.first_ns.push(nanos(answer.first.saturating_duration_since(begun)));
                tally.events += answer.events;
                tally.bytes += answer.bytes;
                open = answer.keeps_alive.then_some(connection);
            }
            Err(fault) => {
                tally.errors += 1;
                tally.last_error = Some(fault);
            }
        }
    }
    tally
}

/// Sends one request, on the open connection if there is one.
async fn one(run: &Run, open: Option<Connection>) -> Result<(Answer, Connection), Fault> {
    let mut connection = match open {
        Some(connection) => connection,
        None => Connection::open(run.target).await?,
    };
    let answer = connection.exchange(&run.request).await?;
    if run.expects_events && answer.events == 0 {
        return Err(Fault::NoEvents);
    }
    Ok((answer, connection))
}

/// Gives the value below which a fraction of the sorted values lies, in microseconds.
fn quantile_us(sorted_ns: &[u64], fraction: f64) -> f64 {
    let last = sorted_ns.len().saturating_sub(1);
    let at = (last as f64 * fraction).round() as usize;
    sorted_ns.get(at).map_or(0.0, |&ns| ns as f64 / 1_000.0)
}

fn report(tallies: Vec<Tally>, wall: Duration) -> serde_json::Value {
    let mut all = Tally::default();
    for tally in tallies {
        all.latencies_ns.extend(tally.latencies_ns);
        all.first_ns.extend(tally.first_ns);
        all.errors += tally.errors;
        all.events += tally.events;
        all.bytes += tally.bytes;
        all.last_error = tally.last_error.or(all.last_error);
    }
    all.latencies_ns.sort_unstable();
    all.first_ns.sort_unstable();
    let count = all.latencies_ns.len();
    serde_json::json!({
        "count": count,
        "errors": all.errors,
        "last_error": all.last_error.map(|fault| fault.to_string()),
        "events": all.events,
        "bytes": all.bytes,
        "wall_s": wall.as_secs_f64(),
        "rps": count as f64 / wall.as_secs_f64(),
        "first_p50_us": quantile_us(&all.first_ns, 0.50),
        "first_p99_us": quantile_us(&all.first_ns, 0.99),
        "p50_us": quantile_us(&all.latencies_ns, 0.50),
        "p90_us": quantile_us(&all.latencies_ns, 0.90),
        "p99_us": quantile_us(&all.latencies_ns, 0.99),
        "max_us": quantile_us(&all.latencies_ns, 1.0),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let body = fs::read(&arguments.body)?;
    let mut request = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        arguments.path,
        arguments.target,
        body.len(),
    )
    .into_bytes();
    request.extend_from_slice(&body);
    let run = Arc::new(Run {
        target: arguments.target,
        request,
        expects_events: arguments.stream,
        deadline: Duration::from_secs(arguments.timeout_s),
        budget: AtomicU64::new(arguments.requests),
    });
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..arguments.clients {
        clients.spawn(client(Arc::clone(&run)));
    }
    let tallies = clients.join_all().await;
    writeln!(io::stdout(), "{}", report(tallies, begun.elapsed()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] =
        b"b\r\ndata: one\n\n\r\n14;ext=1\r\ndata: two\n\ndata: 3\n\r\n1\r\n\n\r\n0\r\nx-t: 1\r\n\r\n";

    #[test]
    fn any_slicing_of_a_chunked_stream_gives_the_same_events() {
        for size in 1..=CHUNKED.len() {
            let mut events = EventCounter::default();
            let mut state = ChunkState::Size(0);
            for slice in CHUNKED.chunks(size) {
                state = feed_chunked(state, slice, &mut events).expect("well-formed");
            }
            assert!(matches!(state, ChunkState::Done));
            assert_eq!(events.events, 3);
        }
    }

    #[test]
    fn a_head_tells_status_and_framing() {
        let head =
            parse_head(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 12").expect("well-formed");
        assert_eq!(head, Head { status: 503, framing: Framing::Length(12), keeps_alive: true });
        let head = parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close");
        let expected = Head { status: 200, framing: Framing::Chunked, keeps_alive: false };
        assert_eq!(head.expect("well-formed"), expected);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let sorted: Vec<u64> = (0..=100).map(|n| n * 1_000).collect();
        assert!((quantile_us(&sorted, 0.5) - 50.0).abs() < f64::EPSILON);
        assert!((quantile_us(&sorted, 0.99) - 99.0).abs() < f64::EPSILON);
        assert!(quantile_us(&[], 0.5).abs() < f64::EPSILON);
    }
}
