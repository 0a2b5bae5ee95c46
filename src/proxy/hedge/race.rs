//! Owns the race of two endpoints for the first byte of one answer, at the level of bytes: Pingora writes a request and reads
//! an answer as over one connection.
//!
//! Knows nothing of which endpoints there are, and of what either answer says beyond its first bytes.

use super::opening::{MAX_OPENING, Opening, read_opening};
use super::request_head::RequestHead;
use super::socket::FarEnd;
use super::{HedgePlan, SecondLeg};
use bytes::Bytes;
use http::StatusCode;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Read at once of a request.
const PIECE: usize = 16 << 10;

/// How an endpoint has failed a race.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum RaceFailure {
    /// No connection came about, or it broke.
    Broken,
    /// It answered with this.
    Refused(StatusCode),
}

/// Which of two endpoints answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Racer {
    First,
    Second,
}

/// The first bytes of an answer, and where the rest comes from.
struct OpenedAnswer {
    /// `None` where there was no connection.
    reader: Option<OwnedReadHalf>,
    bytes: Vec<u8>,
    failure: Option<RaceFailure>,
}

/// Sends what Pingora writes to `first` and, where that takes long, to a second endpoint; gives Pingora the answer of the one
/// that sends its first byte first. Dropped, it closes all connections.
pub(super) async fn race(proxy: FarEnd, first: TcpStream, plan: &HedgePlan) {
    let break_off = proxy.breaker();
    let (from_proxy, mut to_proxy) = tokio::io::split(proxy.stream);
    if run(from_proxy, &mut to_proxy, first, plan).await.is_err() {
        break_off();
    }
}

async fn run(
    mut from_proxy: ReadHalf<DuplexStream>,
    to_proxy: &mut WriteHalf<DuplexStream>,
    first: TcpStream,
    plan: &HedgePlan,
) -> io::Result<()> {
    let (first_reader, first_writer) = first.into_split();
    let head = RequestHead::default();
    let mut upload = Box::pin(forward(&mut from_proxy, first_writer, &head));
    let mut first = Box::pin(open(first_reader));
    let time_is_up = async {
        match plan.delay {
            Some(delay) => tokio::time::sleep(delay.saturating_sub(plan.sent.elapsed())).await,
            None => std::future::pending().await,
        }
    };
    let alone = tokio::select! {
        biased;
        opened = first.as_mut() => Some(opened),
        () = upload.as_mut() => return Ok(()),
        () = time_is_up => None,
    };
    if let Some(opened) = alone {
        plan.note_first_byte(opened.failure);
        return relay(opened, to_proxy, upload).await;
    }
    let Some(SecondLeg { lease, permit, head }) = plan.lease_second(&head) else {
        let opened = tokio::select! {
            opened = first.as_mut() => opened,
            () = upload.as_mut() => return Ok(()),
        };
        plan.note_first_byte(opened.failure);
        return relay(opened, to_proxy, upload).await;
    };
    let request = SecondRequest { head, body: plan.body.clone(), connect: plan.connect };
    let mut second = Box::pin(ask(lease.endpoint().addr(), request));
    let (mut of_first, mut of_second) = (None, None);
    let winner = loop {
        tokio::select! {
            biased;
            opened = first.as_mut(), if of_first.is_none() => {
                if of_first.insert(opened).failure.is_none() {
                    break Racer::First;
                }
            }
            (opened, writing) = second.as_mut(), if of_second.is_none() => {
                if of_second.insert((opened, writing)).0.failure.is_none() {
                    break Racer::Second;
                }
                plan.rival.set(None);
            }
            () = upload.as_mut() => return Ok(()),
        }
        if let (Some(first), Some((second, _))) = (&of_first, &of_second) {
            // Of two failures the one that says something.
            let says_less = first.bytes.is_empty() && !second.bytes.is_empty();
            break if says_less { Racer::Second } else { Racer::First };
        }
    };
    drop(permit);
    let failure_of_first = of_first.as_ref().and_then(|opened| opened.failure);
    let failure_of_second = of_second.as_ref().and_then(|(opened, _)| opened.failure);
    plan.note_first_byte(failure_of_first);
    plan.end_race(winner, lease, [failure_of_first, failure_of_second]);
    // The loser's connection closes with all that reads from it or writes to it.
    match winner {
        Racer::First => {
            drop((second, of_second));
            match of_first {
                Some(opened) => relay(opened, to_proxy, upload).await,
                None => Ok(()),
            }
        }
        Racer::Second => {
            drop((first, upload, of_first));
            match of_second {
                Some((opened, writing)) => relay(opened, to_proxy, writing).await,
                None => Ok(()),
            }
        }
    }
}

/// Writes to an endpoint what Pingora writes, and keeps the header; goes on as long as Pingora does, whether the endpoint
/// takes it or not.
async fn forward(from_proxy: &mut ReadHalf<DuplexStream>, mut writer: OwnedWriteHalf, head: &RequestHead) {
    let mut piece = vec![0; PIECE];
    let mut is_broken = false;
    loop {
        let length = from_proxy.read(&mut piece).await.unwrap_or(0);
        if length == 0 {
            break;
        }
        head.take(&piece[..length]);
        // Why it broke its answer says, or the end of it.
        is_broken = is_broken || writer.write_all(&piece[..length]).await.is_err();
    }
}

/// A request as it goes to the second endpoint.
struct SecondRequest {
    head: Vec<u8>,
    body: Bytes,
    connect: Duration,
}

/// Sends a request over a connection of its own, and waits for the first bytes of its answer; what is still to be written of it
/// comes along.
async fn ask(
    address: SocketAddr,
    request: SecondRequest,
) -> (OpenedAnswer, impl Future<Output = Infallible> + Unpin) {
    let connected = tokio::time::timeout(request.connect, connect(address)).await;
    let (reader, writer) = match connected {
        Ok(Ok(stream)) => {
            let (reader, writer) = stream.into_split();
            (Some(reader), Some(writer))
        }
        _ => (None, None),
    };
    let mut writing = Box::pin(async move {
        if let Some(mut writer) = writer {
            let is_sent = writer.write_all(&request.head).await.is_ok()
                && writer.write_all(&request.body).await.is_ok();
            tracing::trace!(is_sent, "the request was written to the second endpoint");
            // Closed, it would look as if the request was given up.
            return std::future::pending().await;
        }
        std::future::pending().await
    });
    let Some(reader) = reader else {
        let failure = Some(RaceFailure::Broken);
        return (OpenedAnswer { reader: None, bytes: Vec::new(), failure }, writing);
    };
    let opened = tokio::select! {
        biased;
        opened = open(reader) => opened,
        never = writing.as_mut() => match never {},
    };
    (opened, writing)
}

/// Connects to an endpoint.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads an answer until it has begun, is a refusal, or breaks off.
async fn open(mut reader: OwnedReadHalf) -> OpenedAnswer {
    let mut bytes = Vec::new();
    let failure = loop {
        match reader.read_buf(&mut bytes).await {
            Ok(0) if read_opening(&bytes) == Opening::Incomplete && !has_head(&bytes) => {
                break Some(RaceFailure::Broken);
            }
            Ok(0) => break None,
            Ok(_) => match read_opening(&bytes) {
                Opening::Incomplete if bytes.len() < MAX_OPENING => {}
                Opening::Incomplete | Opening::Begun => break None,
                Opening::Refused(status) => break Some(RaceFailure::Refused(status)),
            },
            Err(_) => break Some(RaceFailure::Broken),
        }
    };
    OpenedAnswer { reader: Some(reader), bytes, failure }
}

/// Whether an answer that ended has a whole header: then it is one without a body.
fn has_head(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\r\n\r\n").is_some()
}

/// Gives Pingora the rest of an answer, while the rest of the request is written; returns when either side has ended.
async fn relay<T>(
    opened: OpenedAnswer,
    to_proxy: &mut WriteHalf<DuplexStream>,
    upload: impl Future<Output = T> + Unpin,
) -> io::Result<()> {
    let OpenedAnswer { reader, bytes, .. } = opened;
    let answer = async {
        to_proxy.write_all(&bytes).await?;
        drop(bytes);
        if let Some(mut reader) = reader {
            tokio::io::copy(&mut reader, to_proxy).await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        ended = answer => ended,
        _ended = upload => Ok(()),
    }
}
