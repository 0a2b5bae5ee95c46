//! What a simulated engine says of its KV cache, as vLLM's publisher `zmq` says it: numbered batches in `MessagePack` to
//! whoever subscribes, and the latest ones again to whoever asks. It refuses to know blocks beyond their hashes.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rmpv::Value;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::kv::BlockChange;

/// The batches that are kept to be repeated, and those that a slow subscriber may be behind.
const BUFFER: usize = 10_000;

/// The longest frame that is read.
const MAX_FRAME: u64 = 4096;

/// What ends the batches that are repeated: the number -1.
const END: [u8; 8] = [0xff; 8];

/// Publishes what changes in the blocks of one server.
#[derive(Debug)]
pub(super) struct KvPublisher {
    topic: String,
    block_size: usize,
    is_muted: AtomicBool,
    published: Mutex<Published>,
    /// The ports of the events and of their repetition, once they are served.
    ports: OnceLock<(u16, Option<u16>)>,
    batches: broadcast::Sender<Batch>,
}

#[derive(Debug, Default)]
struct Published {
    next: u64,
    latest: VecDeque<Batch>,
}

#[derive(Debug, Clone)]
struct Batch {
    number: u64,
    payload: Bytes,
}

impl KvPublisher {
    pub(super) fn new(model: &str, block_size: usize) -> Arc<Self> {
        Arc::new(Self {
            topic: format!("kv@sim@{model}"),
            block_size,
            is_muted: AtomicBool::new(false),
            published: Mutex::default(),
            ports: OnceLock::new(),
            batches: broadcast::Sender::new(BUFFER),
        })
    }

    /// Says on which ports it is served.
    pub(super) fn set_ports(&self, events: u16, replays: Option<u16>) {
        // Served a second time, it is still where it was said to be first.
        let _ = self.ports.set((events, replays));
    }

    /// Where it is served, as vLLM tells it of its only rank.
    pub(super) fn sources(&self) -> serde_json::Value {
        let Some((events, replays)) = self.ports.get() else { return json!({}) };
        json!({"0": {
            "enable_kv_cache_events": true,
            "publisher": "zmq",
            "endpoint": format!("tcp://*:{events}"),
            "replay_endpoint": replays.map(|port| format!("tcp://*:{port}")),
            "buffer_steps": BUFFER,
            "hwm": 100_000,
            "max_queue_size": 100_000,
            "topic": self.topic,
        }})
    }

    /// Whether batches are numbered and kept, but reach no subscriber.
    pub(super) fn mute(&self, is_muted: bool) {
        self.is_muted.store(is_muted, Ordering::Relaxed);
    }

    /// Publishes changes in the order in which they happened.
    pub(super) fn publish(&self, changes: &[BlockChange]) {
        if changes.is_empty() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let events = changes.iter().map(|change| self.event(change)).collect();
        let batch = Value::Array(vec![Value::F64(now), Value::Array(events), Value::from(0)]);
        let mut payload = Vec::new();
        rmpv::encode::write_value(&mut payload, &batch).expect("a vector takes everything");
        self.publish_raw(payload.into());
    }

    /// Publishes any bytes as a batch.
    pub(super) fn publish_raw(&self, payload: Bytes) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = Batch { number: published.next, payload };
        published.next += 1;
        if published.latest.len() == BUFFER {
            published.latest.pop_front();
        }
        published.latest.push_back(batch.clone());
        if !self.is_muted.load(Ordering::Relaxed) {
            // Nobody may have subscribed.
            let _ = self.batches.send(batch);
        }
    }

    fn event(&self, change: &BlockChange) -> Value {
        let hashes = |hash: u64| Value::Array(vec![Value::from(hash)]);
        match change {
            BlockChange::Stored { hash, parent, ids } => Value::Array(vec![
                "BlockStored".into(),
                hashes(*hash),
                if *parent == 0 { Value::Nil } else { Value::from(*parent) },
                Value::Array(ids.iter().map(|id| Value::from(*id)).collect()),
                Value::from(self.block_size),
                Value::Nil,
                "GPU".into(),
                Value::Nil,
                Value::Nil,
                Value::from(0),
            ]),
            BlockChange::Removed { hash } => {
                Value::Array(vec!["BlockRemoved".into(), hashes(*hash), "GPU".into(), Value::from(0)])
            }
        }
    }

    /// Serves subscribers until it is dropped.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(Arc::clone(&self).feed(stream));
        }
    }

    /// Serves those who ask for batches again until it is dropped.
    pub(super) async fn serve_replays(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(Arc::clone(&self).repeat(stream));
        }
    }

    async fn feed(self: Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        greet(&mut stream, "PUB").await?;
        let (_, subscription) = read_frame(&mut stream).await?;
        let mut batches = self.batches.subscribe();
        if subscription.first() != Some(&1) || !self.topic.as_bytes().starts_with(&subscription[1..]) {
            return Ok(());
        }
        while let Ok(Batch { number, payload }) = batches.recv().await {
            write_message(&mut stream, &[self.topic.as_bytes(), &number.to_be_bytes(), &payload]).await?;
        }
        Ok(())
    }

    async fn repeat(self: Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        greet(&mut stream, "ROUTER").await?;
        loop {
            // An empty frame comes before the number.
            let (more, _) = read_frame(&mut stream).await?;
            if !more {
                continue;
            }
            let (_, from) = read_frame(&mut stream).await?;
            let from = from.try_into().map_or(0, u64::from_be_bytes);
            let latest: Vec<Batch> = {
                let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
                published.latest.iter().filter(|batch| batch.number >= from).cloned().collect()
            };
            for Batch { number, payload } in latest {
                write_message(&mut stream, &[b"", &number.to_be_bytes(), &payload]).await?;
            }
            write_message(&mut stream, &[b"", &END, b""]).await?;
        }
    }
}

async fn greet(stream: &mut TcpStream, socket_type: &str) -> io::Result<()> {
    let mut greeting = [0; 64];
    greeting[..12].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01");
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await?;
    stream.read_exact(&mut greeting).await?;
    let ready =
        [b"\x05READY\x0bSocket-Type\0\0\0", &[socket_type.len() as u8][..], socket_type.as_bytes()].concat();
    stream.write_all(&[&[4, ready.len() as u8], &ready[..]].concat()).await?;
    read_frame(stream).await.map(|_ready| ())
}

/// Reads a frame; says whether another belongs to it.
async fn read_frame(stream: &mut TcpStream) -> io::Result<(bool, Vec<u8>)> {
    let flags = stream.read_u8().await?;
    let length = if flags & 2 == 0 { stream.read_u8().await?.into() } else { stream.read_u64().await? };
    if length > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await?;
    Ok((flags & 1 == 1, frame))
}

async fn write_message(stream: &mut TcpStream, frames: &[&[u8]]) -> io::Result<()> {
    let mut message = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        message.push(2 | u8::from(at + 1 < frames.len()));
        message.extend_from_slice(&(frame.len() as u64).to_be_bytes());
        message.extend_from_slice(frame);
    }
    stream.write_all(&message).await
}
