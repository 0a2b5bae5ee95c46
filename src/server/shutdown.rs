//! Owns the graceful shutdown: not ready first, serving on for the drain delay, then the end once nothing is in flight.
//!
//! Knows Pingora's signals and the number of requests in flight, nothing of what they are.

use super::upgrade;
use crate::policy::ServerSpec;
use crate::server_state::ServerState;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::BackgroundService;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// How long the last bytes may take to be written after the last request has ended.
const LINGER: Duration = Duration::from_millis(100);

/// How long what is still in flight may take to end in its own words, once its time is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a successor may take to come for the listeners; meanwhile this process serves on.
const SUCCESSOR_TIME: Duration = Duration::from_secs(5);

/// How often it is looked whether something has come about.
const POLL: Duration = Duration::from_millis(10);

/// Translates the system's signals for Pingora; `SIGTERM` takes effect after the drain delay.
pub(super) struct ShutdownSignals {
    server_state: Arc<ServerState>,
    delay: Duration,
    upgrade_socket: PathBuf,
}

impl ShutdownSignals {
    pub(super) fn new(server_state: Arc<ServerState>, spec: &ServerSpec) -> Self {
        Self { server_state, delay: spec.drain.delay, upgrade_socket: spec.upgrade.socket.clone() }
    }

    /// Waits for a successor, for a limited time.
    async fn successor(&self) -> bool {
        let until = Instant::now() + SUCCESSOR_TIME;
        while !upgrade::is_awaited(&self.upgrade_socket) {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    /// Waits for a signal to hand over that a successor answers; any other changes nothing.
    async fn handed_over(&self, quit: &mut Signal) {
        loop {
            quit.recv().await;
            if self.successor().await {
                return;
            }
            tracing::warn!(
                socket = %self.upgrade_socket.display(),
                "no successor waits for the listeners (`signalbox serve --upgrade`): serving on"
            );
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for ShutdownSignals {
    async fn recv(&self) -> ShutdownSignal {
        let kinds = [SignalKind::terminate(), SignalKind::quit(), SignalKind::interrupt()];
        let [Ok(mut terminate), Ok(mut quit), Ok(mut interrupt)] = kinds.map(signal) else {
            tracing::error!("no signals can be received; the process can only be killed");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {
                tracing::info!(delay = ?self.delay, "draining: not ready any more, serving on");
                self.server_state.drain();
                tokio::select! {
                    () = tokio::time::sleep(self.delay) => ShutdownSignal::GracefulTerminate,
                    _ = interrupt.recv() => ShutdownSignal::FastShutdown,
                }
            }
            () = self.handed_over(&mut quit) => {
                tracing::info!("handing the listeners over");
                // Pingora closes kept connections in a few seconds: until then each is told with its next answer.
                self.server_state.close_connections();
                ShutdownSignal::GracefulUpgrade
            }
            _ = interrupt.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

/// Ends the process once Pingora has stopped accepting and nothing is in flight.
pub(super) struct GracefulShutdown {
    server_state: Arc<ServerState>,
    timeout: Duration,
    handed_over: Arc<Notify>,
    done: Mutex<mpsc::Sender<()>>,
}

impl GracefulShutdown {
    /// Waits up to `timeout` for requests in flight; notifies `handed_over` when a successor has the listeners.
    pub(super) fn new(
        server_state: Arc<ServerState>,
        timeout: Duration,
        handed_over: Arc<Notify>,
        done: mpsc::Sender<()>,
    ) -> Self {
        Self { server_state, timeout, handed_over, done: Mutex::new(done) }
    }
}

#[async_trait]
impl BackgroundService for GracefulShutdown {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        // From now on, so that none is missed that comes while Pingora stops accepting.
        let mut interrupts = signal(SignalKind::interrupt()).ok();
        if shutdown.wait_for(|down| *down).await.is_err() {
            return;
        }
        if !self.server_state.is_draining() {
            // Without a successor the drain begins before Pingora stops accepting, so this is a hand-over.
            tracing::info!("the listeners are handed over; what is in flight is finished here");
            self.handed_over.notify_one();
        }
        self.server_state.drain();
        // Pingora handles no further signal, but a second interrupt should end the drain at once.
        tokio::select! {
            () = self.idle(self.timeout) => {}
            () = interrupted(interrupts.as_mut()) => {}
        }
        let cut = self.server_state.in_flight();
        if cut > 0 {
            tracing::warn!(requests = cut, "the drain is over; requests are cut");
            self.server_state.end_requests();
            self.idle(LAST_WORDS).await;
        }
        tokio::time::sleep(LINGER).await;
        // The process may be ending already.
        let _ = self.done.lock().unwrap_or_else(PoisonError::into_inner).send(());
    }
}

impl GracefulShutdown {
    /// Waits until nothing is in flight, for a limited time.
    async fn idle(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.server_state.in_flight() > 0 && Instant::now() < until {
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn interrupted(interrupts: Option<&mut Signal>) {
    match interrupts {
        Some(interrupts) => {
            interrupts.recv().await;
        }
        None => std::future::pending().await,
    }
}
