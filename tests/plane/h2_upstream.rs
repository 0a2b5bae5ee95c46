//! An upstream that speaks HTTP/2 frame by frame, and badly.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How a connection goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers every request.
    Answers,
    /// Reads and says nothing at all, not even its settings.
    NoSettings,
    /// Never grants more window than there is at first.
    NoWindow,
    /// Grants one byte at a time.
    OneByte,
    /// Allows no stream.
    NoStreams,
    /// Answers one request, and then nothing, pings neither.
    MuteAfterOne,
    /// Answers with an error before it has read the request, and reads none of it; with or without a reset that says no
    /// error.
    Refuses { status: u16, resets: bool },
    /// Answers 413 the same way once it has read a part of the body.
    RefusesLater,
    /// Begins an answer before it has read the request, and never ends it.
    Begins,
    /// The same, and goes on with it all the time.
    Drips,
    /// Resets the stream for an error of its own before it has read the request.
    Fails,
}

/// What [`Manner::Refuses`] answers.
pub(crate) const REFUSAL: &str = r#"{"error":{"message":"too much","type":"invalid_request_error"}}"#;

/// A listener whose connections behave as a script says.
pub(crate) struct H2Upstream {
    pub(crate) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl H2Upstream {
    /// Starts it; the script hears the number of the connection, from 0.
    pub(crate) async fn start(script: impl Fn(usize) -> Manner + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let manner = script(count.fetch_add(1, Ordering::SeqCst));
                // A connection that the gateway closes ends its task.
                tokio::spawn(async move { serve(stream, manner).await.ok() });
            }
        });
        Self { addr, connections, task }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for H2Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    async fn read(stream: &mut TcpStream) -> std::io::Result<Self> {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        stream.read_exact(&mut payload).await?;
        Ok(Self { kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), payload })
    }
}

async fn send(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> std::io::Result<()> {
    let [_, l0, l1, l2] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let [s0, s1, s2, s3] = id.to_be_bytes();
    stream.write_all(&[&[l0, l1, l2, kind, flags, s0, s1, s2, s3], payload].concat()).await
}

async fn serve(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    let settings: &[u8] = if manner == Manner::NoStreams { &[0, 3, 0, 0, 0, 0] } else { &[] };
    if manner != Manner::NoSettings {
        send(&mut stream, SETTINGS, 0, 0, settings).await?;
    }
    let mut refused = 0;
    let mut is_mute = manner == Manner::NoSettings;
    loop {
        let frame = Frame::read(&mut stream).await?;
        let refusal = match (manner, frame.kind) {
            (Manner::Refuses { status, resets }, HEADERS) => Some((status, resets)),
            (Manner::RefusesLater, DATA) if frame.stream > refused => Some((413, true)),
            _ => None,
        };
        let is_refusing = matches!(manner, Manner::Refuses { .. } | Manner::RefusesLater);
        if frame.kind == DATA && is_refusing && !frame.payload.is_empty() {
            // What all streams share is given back, whatever becomes of one.
            let granted = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
            send(&mut stream, WINDOW_UPDATE, 0, 0, &granted).await?;
        }
        if let Some((status, resets)) = refusal {
            refused = frame.stream;
            refuse(&mut stream, frame.stream, status, resets).await?;
            continue;
        }
        match frame.kind {
            _ if is_mute => {}
            SETTINGS if frame.flags & ACK == 0 => send(&mut stream, SETTINGS, ACK, 0, &[]).await?,
            PING if frame.flags & ACK == 0 => send(&mut stream, PING, ACK, 0, &frame.payload).await?,
            DATA if frame.flags & END_STREAM != 0 && frame.stream > refused => {
                // `:status: 200` of the static table.
                send(&mut stream, HEADERS, END_HEADERS, frame.stream, &[0x88]).await?;
                send(&mut stream, DATA, END_STREAM, frame.stream, b"{}").await?;
                is_mute = manner == Manner::MuteAfterOne;
            }
            HEADERS if manner == Manner::Fails => {
                // `INTERNAL_ERROR`.
                send(&mut stream, RST_STREAM, 0, frame.stream, &2_u32.to_be_bytes()).await?;
            }
            HEADERS if matches!(manner, Manner::Begins | Manner::Drips) => {
                send(&mut stream, HEADERS, END_HEADERS, frame.stream, &[0x88]).await?;
                send(&mut stream, DATA, 0, frame.stream, b"{").await?;
                if manner == Manner::Drips {
                    loop {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                        send(&mut stream, DATA, 0, frame.stream, b" ").await?;
                    }
                }
            }
            HEADERS | DATA if manner == Manner::OneByte => {
                for id in [0, frame.stream] {
                    send(&mut stream, WINDOW_UPDATE, 0, id, &1_u32.to_be_bytes()).await?;
                }
                // Slow enough that it never ends, fast enough that something always moves.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            DATA if matches!(manner, Manner::Answers | Manner::MuteAfterOne) => {
                let granted = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                for id in [0, frame.stream] {
                    send(&mut stream, WINDOW_UPDATE, 0, id, &granted).await?;
                }
            }
            _ => {}
        }
    }
}

/// Answers whole, and asks for no more of the request.
async fn refuse(stream: &mut TcpStream, id: u32, status: u16, resets: bool) -> std::io::Result<()> {
    // `:status` and `content-type` of the static table, their values as they are.
    let head = format!("\x08\x03{status}\x0f\x10\x10application/json");
    send(stream, HEADERS, END_HEADERS, id, head.as_bytes()).await?;
    send(stream, DATA, END_STREAM, id, REFUSAL.as_bytes()).await?;
    if resets { send(stream, RST_STREAM, 0, id, &[0; 4]).await } else { Ok(()) }
}
