//! Owns the connection that a request came on: its limits, and where it stands among all of them.
//! Refuses to know the request.

use super::Gateway;
use crate::server_state::ClientConnection;
use pingora_proxy::Session;
use std::sync::Arc;

/// The connection that a request came on, as its listener has attached it.
pub(super) fn of(session: &Session) -> Option<&Arc<ClientConnection>> {
    session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

impl Gateway {
    /// Sets the limits of the client's connection.
    pub(super) fn limit_connection(&self, session: &mut Session) {
        let downstream = session.as_downstream_mut();
        // `None` stays: the request's header or framing forbids keep-alive.
        let keepalive = downstream.get_keepalive().filter(|_| !self.server_state.is_closing());
        downstream.set_keepalive(keepalive.map(|_| self.limits.idle_timeout.as_secs().max(1)));
        // Pingora takes bytes after the body for an aborted request unless pipelining is allowed.
        downstream.set_pipelining_enabled(true);
        // `body::read` bounds the whole body's time.
        downstream.set_read_timeout(None);
        // A client that stops reading must not hold an endpoint for ever.
        downstream.set_write_timeout(Some(self.limits.idle_timeout));
        downstream.set_total_drain_timeout(Some(self.limits.body_timeout));
    }
}
