//! Owns a WebSocket from the request for one to its last byte: whether it is open, and how long it may be silent.
//!
//! Refuses to know where it goes, and what is said over it.

use super::deadline::{Deadline, DeadlineState};
use crate::server_state::{ClientConnection, ForcedEnd, OpenWebSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How often it is asked whether an upstream's answer is awaited yet.
const BEFORE: Duration = Duration::from_secs(1);

/// A WebSocket, from the request for one to its last byte.
pub(super) struct Tunnel {
    /// Whether the upstream has agreed: what follows are frames.
    is_open: bool,
    /// How long it may be silent in both directions.
    idle: Duration,
    connection: Arc<ClientConnection>,
    deadline: Arc<Deadline>,
    watch: AbortHandle,
    _counted: OpenWebSocket,
}

impl Tunnel {
    /// Starts to watch over a WebSocket that is asked for.
    pub(super) fn new(
        deadline: Arc<Deadline>,
        connection: Arc<ClientConnection>,
        idle: Duration,
        counted: OpenWebSocket,
    ) -> Self {
        let watch = tokio::spawn(watch(Arc::clone(&deadline), Arc::clone(&connection))).abort_handle();
        Self { is_open: false, idle, connection, deadline, watch, _counted: counted }
    }

    /// Whether frames are exchanged: nothing in HTTP can be said any more.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether it is ended since nothing came for too long, or since it was open for too long.
    pub(super) fn was_silent(&self) -> bool {
        self.connection.forced_end() == Some(ForcedEnd::Silent)
    }

    /// Starts the wait for the upstream to agree.
    pub(super) fn await_agreement(&self, now: Instant, within: Duration) {
        self.deadline.arm(now, within.min(self.idle));
    }

    /// Notes that bytes have passed, in either direction.
    pub(super) fn heard(&self, now: Instant) {
        if self.is_open {
            self.deadline.arm(now, self.idle);
        }
    }

    /// From now on what the client sends are frames.
    pub(super) fn open(&mut self, now: Instant) {
        self.is_open = true;
        self.connection.begin_tunnel();
        self.deadline.arm(now, self.idle);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Ends the client's connection once nothing has come for too long. Another task does, since Pingora's own waits for it.
async fn watch(deadline: Arc<Deadline>, connection: Arc<ClientConnection>) {
    loop {
        let now = Instant::now();
        let look = match deadline.next_look() {
            // Nothing is awaited before there is a connection.
            None => now + BEFORE,
            Some(_) => match deadline.look(now) {
                DeadlineState::Waiting(look) => look,
                // Each is said once, and another attempt is none of a WebSocket's once it is asked for.
                DeadlineState::TakenOut | DeadlineState::Slow | DeadlineState::PrefillFailed => now + BEFORE,
                DeadlineState::Late | DeadlineState::SlowClient => break,
            },
        };
        tokio::time::sleep_until(look.into()).await;
    }
    connection.end_silent();
}
