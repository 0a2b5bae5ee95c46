//! Owns what happens to a connection between its acceptance and its first request: whether it has a place, its TLS
//! handshake, and the bounds on what it sends.
//!
//! Everything after that is the proxy's.

use super::client_stream::{ClientStream, HeaderLimits, Speech, response};
use super::listen::ServerName;
use crate::openai::Rejection;
use crate::proxy::WatchedProxy;
use crate::server_state::{ConnectionGuard, ConnectionsFull, ServerState};
use crate::snapshot::Live;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as TcpConnection;
use pingora::protocols::{ALPN, Ssl, Stream};
use pingora::server::ShutdownWatch;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// How long a client may take to hear that there is no place for it.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// How many clients may be told so at a time; others are closed without a word, for each takes a socket.
pub(super) const REFUSED_AT_A_TIME: usize = 16;

/// When a client that found no place may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Clients' connections on their way to the proxy.
pub(super) struct ClientApp {
    pub(super) proxy: Arc<WatchedProxy>,
    /// The listeners with TLS.
    pub(super) acceptors: Vec<(SocketAddr, Acceptor)>,
    pub(super) server_state: Arc<ServerState>,
    /// Whom the policy trusts, which stands for many clients.
    pub(super) live: Arc<Live>,
    pub(super) limits: HeaderLimits,
    /// Places for clients that are refused.
    pub(super) refusing: Semaphore,
}

#[async_trait]
impl ServerApp for ClientApp {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let digest = stream.get_socket_digest()?;
        let peer = digest.peer_addr()?.as_inet()?.ip();
        let acceptor = digest.local_addr().and_then(|local| self.acceptor(*local.as_inet()?));
        // By the time since it was accepted: this may have waited for its turn.
        let accepted = stream.get_timing_digest().into_iter().flatten().next();
        let age = accepted.and_then(|timing| timing.established_ts.elapsed().ok()).unwrap_or_default();
        let Ok(guard) = self.open(peer, age) else {
            if acceptor.is_none()
                && let Ok(_place) = self.refusing.try_acquire()
            {
                refuse(stream).await;
            }
            return None;
        };
        let (stream, speech) = match acceptor {
            None => (stream, Speech::Unknown),
            Some(acceptor) => self.secure(acceptor, stream, &guard).await?,
        };
        let client = ClientStream::new(stream, guard, self.server_state.share(), speech, self.limits);
        self.proxy.process_new(Box::new(client), shutdown).await
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

impl ClientApp {
    fn open(&self, peer: IpAddr, age: Duration) -> Result<ConnectionGuard, ConnectionsFull> {
        let is_trusted = self.live.load().policy.identity.trusts(peer);
        let connections = &self.server_state.connections;
        let opened = connections.open_from(peer, is_trusted, age);
        if opened.is_err() {
            connections.count_refusal("too_many_connections");
        }
        opened
    }

    /// The TLS of the listener that took a connection: the one of that address, or of all addresses.
    fn acceptor(&self, local: SocketAddr) -> Option<&Acceptor> {
        let is_exact = |(listener, _): &&(SocketAddr, Acceptor)| listener.ip() == local.ip().to_canonical();
        let of_port = || self.acceptors.iter().filter(|(listener, _)| listener.port() == local.port());
        let found = of_port()
            .find(is_exact)
            .or_else(|| of_port().find(|(listener, _)| listener.ip().is_unspecified()));
        found.map(|(_, acceptor)| acceptor)
    }

    /// Shakes hands within the time of a header; nothing if that fails.
    async fn secure(
        &self,
        acceptor: &Acceptor,
        stream: Stream,
        guard: &ConnectionGuard,
    ) -> Option<(Stream, Speech)> {
        let stream = stream.into_any().downcast::<TcpConnection>().ok()?;
        let handshake = tokio::time::timeout(self.limits.time, acceptor.tls_handshake(*stream));
        let evicted = std::future::poll_fn(|context| guard.connection.poll_forced_end(context));
        let secured = tokio::select! {
            secured = handshake => secured,
            _evicted = evicted => return None,
        };
        match secured {
            Ok(Ok(stream)) => {
                let digest = stream.get_ssl_digest();
                if let Some(ServerName(name)) = digest.as_ref().and_then(|digest| digest.extension.get()) {
                    guard.connection.note_server_name(name);
                }
                let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
                let speech = if is_http2 { Speech::Http2Preface } else { Speech::Http1 };
                Some((Box::new(stream), speech))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                guard.count_refusal("tls_handshake_failed");
                None
            }
            Err(_elapsed) => {
                guard.count_refusal("tls_handshake_slow");
                None
            }
        }
    }
}

/// Tells a client that there is no place for it.
async fn refuse(mut stream: Stream) {
    let answer = response(&Rejection::Overloaded { retry_after: RETRY_AFTER });
    let telling = async {
        stream.write_all(&answer).await?;
        stream.flush().await?;
        AsyncWriteExt::shutdown(&mut stream).await?;
        // Closed with bytes unread, it would be reset, and the answer lost.
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    // One that does not listen is closed all the same.
    let _ = tokio::time::timeout(REFUSAL_TIME, telling).await;
}
