//! A client and upstreams on bare sockets, for what well-behaved libraries do not do.

use crate::harness::PATIENCE;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// One connection over which HTTP/1.1 is written by hand.
pub struct Wire {
    stream: TcpStream,
    rest: Vec<u8>,
}

/// One message read off a connection: its head as text and its body with the framing taken away.
#[derive(Debug)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    /// The status of an answer.
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// A header's value, empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
            .unwrap_or("")
    }

    /// The `code` of an error in OpenAI's shape.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Wire {
    pub async fn open(addr: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(addr).await.unwrap(), rest: Vec::new() }
    }

    /// The server's end of a connection.
    pub fn of(stream: TcpStream) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Reads the next request whole; `None` when the connection ends before it.
    pub async fn request(&mut self) -> Option<Message> {
        self.message().await
    }

    /// Sends the head of an answer, and chunks of nothing but one line until the peer closes.
    pub async fn flood(&mut self) {
        let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
        self.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while self.stream.write_all(&chunk).await.is_ok() {}
    }

    /// Sends bytes as they are; tells whether the peer has taken them all.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("the peer reads or closes in time").is_ok()
    }

    /// Sends a request of a JSON body with its length.
    pub async fn post(&mut self, path: &str, body: &str) -> bool {
        self.send(post(path, body)).await
    }

    /// Reads one answer, an interim one too; `None` when the connection ends before it.
    pub async fn answer(&mut self) -> Option<Message> {
        tokio::time::timeout(PATIENCE, self.message()).await.expect("the peer answers or closes in time")
    }

    /// Reads on until some bytes have come, those included.
    pub async fn read_until(&mut self, mark: &str) {
        let read = async {
            let at = self.position(mark.as_bytes()).await.expect("the peer says it before it closes");
            self.take(at + mark.len()).await
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the peer says it in time");
    }

    /// Reads so many bytes as they are; fewer where the connection ends before.
    pub async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        tokio::time::timeout(PATIENCE, self.take(count)).await.expect("the bytes come in time")
    }

    /// Whether the peer has closed without another byte.
    pub async fn closed(&mut self) -> bool {
        self.rest.is_empty()
            && !tokio::time::timeout(PATIENCE, self.fill()).await.expect("the peer closes in time")
    }

    async fn message(&mut self) -> Option<Message> {
        let head = self.head().await?;
        let mut message = Message { head, body: Vec::new() };
        if message.head.starts_with("HTTP/1.1 1") {
            return Some(message);
        }
        if message.header("transfer-encoding") == "chunked" {
            loop {
                let end = self.position(b"\r\n").await?;
                let size =
                    usize::from_str_radix(std::str::from_utf8(&self.rest[..end]).unwrap(), 16).unwrap();
                self.take(end + 2).await?;
                message.body.extend(self.take(size).await?);
                self.take(2).await?;
                if size == 0 {
                    return Some(message);
                }
            }
        }
        let length = message.header("content-length").parse().unwrap_or(0);
        message.body = self.take(length).await?;
        Some(message)
    }

    async fn head(&mut self) -> Option<String> {
        let end = self.position(b"\r\n\r\n").await?;
        String::from_utf8(self.take(end + 4).await?).ok()
    }

    async fn position(&mut self, mark: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self.rest.windows(mark.len()).position(|part| part == mark) {
                return Some(at);
            }
            self.fill().await.then_some(())?;
        }
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.rest.len() < count {
            self.fill().await.then_some(())?;
        }
        let rest = self.rest.split_off(count);
        Some(std::mem::replace(&mut self.rest, rest))
    }

    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.rest).await, Ok(count) if count > 0)
    }
}

/// The bytes of a request with its length.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The bytes of an answer with its length.
pub fn answer(status: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + body).into_bytes()
}

/// What a scripted upstream does with a request.
pub enum Act {
    /// Reads it whole and answers these bytes; the connection stays.
    Answer(Vec<u8>),
    /// The same, with bytes that depend on the request.
    AnswerTo(fn(&Message) -> Vec<u8>),
    /// Answers these bytes to the head alone, and closes without having read the body.
    AnswerEarly(Vec<u8>),
    /// Reads it whole and closes without a word.
    Close,
    /// Resets the connection at the head, without having read the body.
    Reset,
}

/// An upstream that does what a script says; HTTP/1.1 over plaintext.
pub struct Scripted {
    pub addr: SocketAddr,
    requests: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Starts it; the script hears the number of the connection and of the request on it, both from 0.
    pub async fn start(script: impl Fn(usize, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Message>>>::default();
        let (script, record) = (Arc::new(script), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, record) = (Arc::clone(&script), Arc::clone(&record));
                tokio::spawn(async move {
                    let wire = Wire { stream, rest: Vec::new() };
                    converse(wire, |request| script(connection, request), &record).await;
                });
            }
        });
        Self { addr, requests, task }
    }

    /// Takes the requests out that came so far, those that were read whole.
    pub fn requests(&self) -> Vec<Message> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut wire: Wire, script: impl Fn(usize) -> Act, record: &Mutex<Vec<Message>>) {
    for request in 0.. {
        if wire.position(b"\r\n\r\n").await.is_none() {
            return;
        }
        match script(request) {
            Act::Answer(bytes) => {
                let Some(message) = wire.message().await else { return };
                record.lock().unwrap().push(message);
                wire.send(bytes).await;
            }
            Act::AnswerTo(write) => {
                let Some(message) = wire.message().await else { return };
                let bytes = write(&message);
                record.lock().unwrap().push(message);
                wire.send(bytes).await;
            }
            Act::AnswerEarly(bytes) => {
                wire.send(bytes).await;
                return;
            }
            Act::Close => {
                wire.message().await;
                return;
            }
            Act::Reset => return wire.stream.set_zero_linger().unwrap(),
        }
    }
}

/// An address that refuses every connection for as long as this lives: bound, but not listening.
pub struct Refusing {
    _socket: TcpSocket,
    pub addr: SocketAddr,
}

impl Refusing {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let addr = socket.local_addr().unwrap();
        Self { _socket: socket, addr }
    }
}

/// An address where no connection comes about: its backlog is full.
pub struct Deaf {
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
    pub addr: SocketAddr,
}

impl Deaf {
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        let patience = std::time::Duration::from_millis(300);
        while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(addr)).await {
            queued.push(stream.unwrap());
        }
        Self { _listener: listener, _queued: queued, addr }
    }
}
