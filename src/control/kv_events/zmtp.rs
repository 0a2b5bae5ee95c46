//! Owns the little of `ZeroMQ`'s wire protocol (ZMTP 3.0, RFC 23) that a subscriber and an asker need: greeting, the NULL
//! mechanism, subscriptions, messages of several frames. Refuses to know what messages mean.
//!
//! Not a crate: `zeromq` 0.7, the one in pure Rust, allocates whatever length a peer's frame declares and bounds no message;
//! the others bind to libzmq in C++.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The most bytes of a message, all frames together: the tokens of a million-token prompt are a fifth of it.
const MAX_MESSAGE: u64 = 16 << 20;

/// The most frames of a message.
const MAX_FRAMES: usize = 8;

/// How long connecting and greeting may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A connection to a `ZeroMQ` socket.
pub(super) struct ZmtpStream {
    stream: BufReader<TcpStream>,
}

impl ZmtpStream {
    /// Connects as a socket of a type, such as `SUB`.
    pub(super) async fn connect(address: SocketAddr, socket_type: &str) -> Result<Self> {
        let late = |_elapsed| Error::new(ErrorKind::TimedOut, "no ZeroMQ socket in time");
        timeout(CONNECT_TIME, Self::greet(address, socket_type)).await.map_err(late)?
    }

    async fn greet(address: SocketAddr, socket_type: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // A peer that has gone without a word is noticed although nothing is ever sent to it.
        let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let mut own = Self { stream: BufReader::new(stream) };
        let mut greeting = [0; 64];
        (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
        greeting[12..16].copy_from_slice(b"NULL");
        own.stream.write_all(&greeting).await?;
        let mut theirs = [0; 64];
        own.stream.read_exact(&mut theirs).await?;
        if theirs[0] != 0xff || theirs[9] != 0x7f || theirs[10] < 3 || &theirs[12..17] != b"NULL\0" {
            return Err(bad("not a ZeroMQ socket without authentication"));
        }
        let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
        ready.extend_from_slice(&(socket_type.len() as u32).to_be_bytes());
        ready.extend_from_slice(socket_type.as_bytes());
        own.write_frame(COMMAND, &ready).await?;
        let (flags, command) = own.read_frame(MAX_MESSAGE).await?;
        if flags & COMMAND == 0 || !command.starts_with(b"\x05READY") {
            return Err(bad("the socket is not ready"));
        }
        Ok(own)
    }

    /// Wants the messages whose first frame begins with `topic`.
    pub(super) async fn subscribe(&mut self, topic: &str) -> Result<()> {
        self.send(&[&[b"\x01", topic.as_bytes()].concat()]).await
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, frames: &[&[u8]]) -> Result<()> {
        for (at, frame) in frames.iter().enumerate() {
            self.write_frame(if at + 1 < frames.len() { MORE } else { 0 }, frame).await?;
        }
        Ok(())
    }

    /// Receives a message; commands between messages mean nothing here.
    pub(super) async fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let (mut frames, mut left) = (Vec::new(), MAX_MESSAGE);
        loop {
            let (flags, frame) = self.read_frame(left).await?;
            if flags & COMMAND != 0 {
                continue;
            }
            left -= frame.len() as u64;
            frames.push(frame);
            if flags & MORE == 0 {
                return Ok(frames);
            }
            if frames.len() == MAX_FRAMES {
                return Err(bad("a message of too many frames"));
            }
        }
    }

    async fn write_frame(&mut self, flags: u8, frame: &[u8]) -> Result<()> {
        let mut bytes = Vec::with_capacity(frame.len() + 9);
        if let Ok(length) = u8::try_from(frame.len()) {
            bytes.extend_from_slice(&[flags, length]);
        } else {
            bytes.push(flags | LONG);
            bytes.extend_from_slice(&(frame.len() as u64).to_be_bytes());
        }
        bytes.extend_from_slice(frame);
        self.stream.write_all(&bytes).await
    }

    async fn read_frame(&mut self, most: u64) -> Result<(u8, Vec<u8>)> {
        let flags = self.stream.read_u8().await?;
        let length = if flags & LONG == 0 {
            self.stream.read_u8().await?.into()
        } else {
            self.stream.read_u64().await?
        };
        if length > most {
            return Err(bad("a message that is too long"));
        }
        // Grows as bytes come, not as they are announced.
        let mut frame = Vec::new();
        let read = (&mut self.stream).take(length).read_to_end(&mut frame).await?;
        if (read as u64) < length { Err(ErrorKind::UnexpectedEof.into()) } else { Ok((flags, frame)) }
    }
}

fn bad(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
