//! An upstream whose every byte a test sends itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A listener that answers nothing by itself.
pub(crate) struct Upstream {
    listener: TcpListener,
}

/// One connection, with a request that has been read whole.
pub(crate) struct Call {
    stream: TcpStream,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Takes the next connection and reads its request.
    pub(crate) async fn call(&self) -> Call {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut call = Call { stream, head: String::new(), body: String::new() };
        call.read().await;
        call
    }

    /// Takes the next connection and answers it with the head of a stream of events.
    pub(crate) async fn stream(&self) -> Call {
        let mut call = self.call().await;
        call.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        call
    }
}

impl Call {
    /// Reads the next request on the same connection.
    pub(crate) async fn again(&mut self) {
        self.read().await;
    }

    async fn read(&mut self) {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.stream.read_buf(&mut bytes).await.unwrap() > 0, "the request broke off");
        };
        self.head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = self.head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while bytes.len() < end + length {
            assert!(self.stream.read_buf(&mut bytes).await.unwrap() > 0, "the request's body broke off");
        }
        self.body = String::from_utf8_lossy(&bytes[end..end + length]).into_owned();
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Answers with a JSON document.
    pub(crate) async fn answer(&mut self) {
        self.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").await;
    }

    /// Sends one chunk of a chunked body.
    pub(crate) async fn chunk(&mut self, data: &[u8]) {
        self.send([format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()).await;
    }

    /// Sends the last chunk.
    pub(crate) async fn end(&mut self) {
        self.send("0\r\n\r\n").await;
    }

    /// Sends chunks until the connection is closed.
    pub(crate) async fn flood(mut self) {
        let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
        while self.stream.write_all(&chunk).await.is_ok() {}
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset counts as closed.
        let _ = self.stream.read_to_end(&mut rest).await;
    }

    /// Closes the connection with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
