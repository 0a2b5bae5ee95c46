//! Owns the connection that Pingora sees of a race: its near end, and the task at its far end, which ends with it.
//!
//! Knows nothing of what the task does.

use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::oneshot;

/// Bytes on their way in each direction.
const BUFFER: usize = 64 << 10;

/// The far end of a connection within this process.
pub(super) struct FarEnd {
    pub(super) stream: DuplexStream,
    is_broken: Arc<AtomicBool>,
}

impl FarEnd {
    /// Has the near end see, after what was written, that the connection broke off rather than ended; before this drops.
    pub(super) fn breaker(&self) -> impl FnOnce() + Send + use<> {
        let is_broken = Arc::clone(&self.is_broken);
        move || is_broken.store(true, Ordering::Release)
    }
}

/// The near end of a connection within this process.
#[derive(Debug)]
pub(super) struct HedgedSocket {
    near: DuplexStream,
    /// Whether the far end has broken off rather than ended.
    is_broken: Arc<AtomicBool>,
    /// Its drop ends the task at the far end, whatever that waits for.
    _alive: oneshot::Sender<()>,
}

impl HedgedSocket {
    /// Opens a connection to what `serve` does with its far end.
    pub(super) fn open<F>(serve: impl FnOnce(FarEnd) -> F) -> Stream
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (near, far) = tokio::io::duplex(BUFFER);
        let (alive, gone) = oneshot::channel();
        let is_broken = Arc::new(AtomicBool::new(false));
        let served = serve(FarEnd { stream: far, is_broken: Arc::clone(&is_broken) });
        tokio::spawn(async move {
            tokio::select! {
                () = served => {}
                _gone = gone => {}
            }
        });
        Stream::from(VirtualSocketStream::new(Box::new(Self { near, is_broken, _alive: alive })))
    }
}

impl VirtualSocket for HedgedSocket {
    /// The connections behind it have their own.
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for HedgedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.near).poll_read(context, buffer);
        let has_ended = matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if has_ended && buffer.remaining() > 0 && self.is_broken.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        polled
    }
}

impl AsyncWrite for HedgedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.near).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_shutdown(context)
    }
}
