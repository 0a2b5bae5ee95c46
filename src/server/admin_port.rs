//! Owns the connections of the operator's port: the same bounds hold for them as for clients, with places of their own.
//!
//! Knows nothing of what is asked there.

use super::client_stream::{ClientStream, HeaderLimits, Speech};
use crate::policy::ClientLimits;
use crate::server_state::{ConnectionLimits, ServerState};
use pingora::protocols::l4::stream::Stream as TcpConnection;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The most connections of the operator's.
const MOST_CONNECTIONS: usize = 128;

/// The most bytes of headers that are not complete.
const MOST_HEADER_BYTES: usize = 4 << 20;

/// How long to wait where the system gives no more sockets.
const PAUSE: Duration = Duration::from_millis(100);

/// The operator's port.
pub(super) struct AdminPort {
    listener: TcpListener,
    /// Not the clients': they could take the operator's places.
    state: Arc<ServerState>,
    limits: HeaderLimits,
}

impl AdminPort {
    pub(super) fn new(listener: TcpListener, limits: &ClientLimits) -> Self {
        let own = ClientLimits { max_buffered_bytes: MOST_HEADER_BYTES, ..*limits };
        let places = ConnectionLimits { most: MOST_CONNECTIONS, most_of_one_peer: MOST_CONNECTIONS };
        let limits = HeaderLimits {
            bytes: limits.max_header_bytes,
            time: limits.header_timeout,
            idle: Some(limits.idle_timeout),
        };
        Self { listener, state: ServerState::new(&own, places), limits }
    }
}

impl crate::control::AdminListener for AdminPort {
    type Io = ClientStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (ClientStream, SocketAddr) {
        loop {
            let Ok((stream, peer)) = self.listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // One that finds no place is closed.
            let Ok(guard) = self.state.connections.open_from(peer.ip(), true, Duration::ZERO) else {
                continue;
            };
            let stream = Box::new(TcpConnection::from(stream));
            return (
                ClientStream::new(stream, guard, self.state.share(), Speech::Unknown, self.limits),
                peer,
            );
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
