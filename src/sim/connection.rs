//! Sockets: accepting, TLS, HTTP/1.1 and HTTP/2 on one port, and resetting a connection on purpose.
//! It refuses to know requests and responses.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::engine::SimEngine;

/// How long to leave the port alone when accepting fails, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How long what was sent has to leave the buffers before a connection is reset.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);

/// Accepts connections until it is dropped, which closes them all.
pub(super) async fn serve(
    engine: Arc<SimEngine>,
    router: Router,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let stream = ResettableStream::new(stream);
                    if engine.faults().refuse {
                        stream.reset.reset_now();
                    } else {
                        connections.spawn(accept(stream, router.clone(), acceptor.clone()));
                    }
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn accept(stream: ResettableStream, router: Router, acceptor: Option<TlsAcceptor>) {
    let reset = stream.reset.clone();
    match acceptor {
        None => serve_connection(stream, router, reset).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_connection(stream, router, reset).await;
            }
        }
    }
}

async fn serve_connection<S>(stream: S, router: Router, reset: ResetHandle)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    let handle = reset.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(handle.clone());
        inner.call(request)
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A protocol error is the client's, which sees the connection close.
        _ = connection => {}
        () = reset.0.wake.notified() => {}
    }
}

/// Resets one connection; found in the extensions of its requests.
#[derive(Debug, Clone, Default)]
pub(super) struct ResetHandle(Arc<ResetState>);

#[derive(Debug, Default)]
struct ResetState {
    done: AtomicBool,
    wake: Notify,
}

impl ResetHandle {
    /// Resets the connection once what was sent has left the buffers; the future ends with the connection.
    pub(super) async fn reset(&self) {
        tokio::time::sleep(FLUSH_PAUSE).await;
        self.reset_now();
        std::future::pending::<()>().await;
    }

    fn reset_now(&self) {
        self.0.done.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}

/// A TCP stream that closes with RST instead of FIN once its handle was used.
#[derive(Debug)]
struct ResettableStream {
    stream: TcpStream,
    reset: ResetHandle,
}

impl ResettableStream {
    fn new(stream: TcpStream) -> Self {
        // Without it small events wait for acknowledgements; a socket that cannot have it still works.
        let _ = stream.set_nodelay(true);
        Self { stream, reset: ResetHandle::default() }
    }
}

impl Drop for ResettableStream {
    fn drop(&mut self) {
        if self.reset.0.done.load(Ordering::Acquire) {
            // With SO_LINGER at zero, close sends RST.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ResettableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
