//! Owns the watch over a client while Pingora waits for something that leaves it no hook: a connection to an upstream, a
//! free stream on it, and room for a body in an HTTP/2 window.
//!
//! The client's session is lent to the watch meanwhile. A client that leaves ends the exchange where it stands: dropped, it
//! gives back all that it holds, and resets its stream. Refuses to know what is waited for.

use super::Gateway;
use crate::telemetry::AccessRecord;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

thread_local! {
    /// What the exchange that this thread polls at the moment shares with the watch around it; of none at other moments.
    static SHARED: SharedWatch = const {
        SharedWatch { state: Cell::new(WatchState::Off), client: RefCell::new(None), record: RefCell::new(None) }
    };
}

/// Handed over within one poll, so that no exchange pays for it that lends nothing.
struct SharedWatch {
    state: Cell<WatchState>,
    /// The client's session, while nothing else asks it anything.
    client: RefCell<Option<Box<ServerSession>>>,
    /// What an exchange had recorded that was dropped.
    record: RefCell<Option<Box<AccessRecord>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WatchState {
    Off,
    On,
    /// The exchange is being dropped, since its client has left.
    HasLeft,
}

/// Whether there is a watch to lend a client to.
pub(super) fn is_on() -> bool {
    SHARED.with(|shared| shared.state.get() != WatchState::Off)
}

/// Lends a client's session to the watch until it is taken back.
pub(super) fn lend(client: Box<ServerSession>) {
    SHARED.with(|shared| shared.client.replace(Some(client)));
}

/// Takes back the session that was lent.
pub(super) fn take_back() -> Option<Box<ServerSession>> {
    SHARED.with(|shared| shared.client.take())
}

/// Whether the exchange is dropped because its client has left.
pub(super) fn has_left() -> bool {
    SHARED.with(|shared| shared.state.get() == WatchState::HasLeft)
}

/// Leaves the record of the exchange that is dropped.
pub(super) fn leave_record(record: AccessRecord) {
    SHARED.with(|shared| shared.record.replace(Some(Box::new(record))));
}

/// An exchange with the watch over its client.
struct WatchedExchange<'a> {
    gateway: &'a Gateway,
    /// Nothing once its client has left.
    exchange: Option<Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'a>>>,
    /// The client's session, while it is lent.
    client: Option<Box<ServerSession>>,
}

impl WatchedExchange<'_> {
    /// Lets the exchange do something while this thread's shared watch is its own.
    fn share<T>(&mut self, state: WatchState, work: impl FnOnce(&mut Self) -> T) -> T {
        SHARED.with(|shared| {
            shared.state.set(state);
            // Whatever is there: an exchange that panicked may have left its client.
            shared.client.replace(self.client.take());
            let done = work(self);
            self.client = shared.client.take();
            shared.state.set(WatchState::Off);
            done
        })
    }

    /// Whether a client that is lent has left; not when the process ends its connections itself.
    fn has_left(&mut self, context: &mut Context<'_>) -> bool {
        let Some(client) = &mut self.client else { return false };
        // Nothing is lost with this future: whatever a client sends meanwhile, its session keeps.
        let has_left = pin!(client.read_body_or_idle(true)).poll(context).is_ready();
        has_left && !self.gateway.server_state.is_over()
    }
}

impl Future for WatchedExchange<'_> {
    type Output = Option<ReusedHttpStream>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.share(WatchState::On, |watched| {
            watched.exchange.as_mut().map_or(Poll::Ready(None), |exchange| exchange.as_mut().poll(context))
        });
        if polled.is_ready() || !self.has_left(context) {
            return polled;
        }
        self.share(WatchState::HasLeft, |watched| watched.exchange = None);
        if let Some(record) = SHARED.with(|shared| shared.record.take()) {
            self.gateway.finish(*record, None);
        }
        Poll::Ready(None)
    }
}

/// The proxy, with a watch over the client of every exchange.
pub struct WatchedProxy {
    proxy: Arc<HttpProxy<Gateway>>,
    gateway: Gateway,
}

impl WatchedProxy {
    /// Watches the clients of `proxy`, which was made of `gateway`.
    pub fn new(proxy: HttpProxy<Gateway>, gateway: Gateway) -> Self {
        Self { proxy: Arc::new(proxy), gateway }
    }
}

#[async_trait]
impl HttpServerApp for WatchedProxy {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let exchange = Some(self.proxy.process_new_http(session, shutdown));
        WatchedExchange { gateway: &self.gateway, exchange, client: None }.await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
