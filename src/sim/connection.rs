//! Sockets: accepting, TLS, HTTP/1.1 and HTTP/2 on one port, and cutting a connection off with a reset.
//! It refuses to know what is asked and answered.

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

use super::api::{self, Engine};

/// How long to leave the port alone when accepting fails, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Accepts connections until it is dropped, which closes them all.
pub(super) async fn serve(engine: Arc<Engine>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    let router = api::router(Arc::clone(&engine));
    let acceptor = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let line = Line::new(stream);
                    if engine.faults().refuse {
                        line.cut.cut();
                    } else {
                        connections.spawn(converse(line, router.clone(), acceptor.clone()));
                    }
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn converse(line: Line, router: Router, acceptor: Option<TlsAcceptor>) {
    let cut = line.cut.clone();
    match acceptor {
        None => converse_over(line, router, cut).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(line).await {
                converse_over(stream, router, cut).await;
            }
        }
    }
}

async fn converse_over<S>(stream: S, router: Router, cut: Cut)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    let handle = cut.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(handle.clone());
        inner.call(request)
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client's fault is the client's to notice.
        _ = connection => {}
        () = cut.0.wake.notified() => {}
    }
}

/// A handle that cuts a connection off.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(Arc<CutState>);

#[derive(Debug, Default)]
struct CutState {
    done: AtomicBool,
    wake: Notify,
}

impl Cut {
    /// Resets the connection; what was not yet sent is lost.
    pub(super) fn cut(&self) {
        self.0.done.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}

/// A TCP stream that ends with a reset instead of a farewell once it has been cut.
#[derive(Debug)]
struct Line {
    stream: TcpStream,
    cut: Cut,
}

impl Line {
    fn new(stream: TcpStream) -> Self {
        // Without it small events wait for acknowledgements; a socket that cannot have it still works.
        let _ = stream.set_nodelay(true);
        Self { stream, cut: Cut::default() }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.cut.0.done.load(Ordering::Acquire) {
            // Lingering for no time at all is how a reset is asked for.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
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
