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
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

tokio::task_local! {
    /// Of the exchange that the present task works on.
    static WATCH: RefCell<ClientWatch>;
}

/// What an exchange and the watch over its client give each other.
#[derive(Default)]
struct ClientWatch {
    /// The client's session, while nothing else asks it anything.
    client: Option<Box<ServerSession>>,
    /// The exchange is being dropped, since its client has left.
    has_left: bool,
    /// What the dropped exchange had recorded.
    record: Option<Box<AccessRecord>>,
}

impl ClientWatch {
    /// Is done once a client that is lent has left.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(client) = &mut self.client else { return Poll::Pending };
        // Nothing is lost with this future: whatever a client sends meanwhile, its session keeps.
        pin!(client.read_body_or_idle(true)).poll(context).map(drop)
    }
}

/// Whether there is a watch to lend a client to.
pub(super) fn is_on() -> bool {
    WATCH.try_with(|_watch| ()).is_ok()
}

/// Lends a client's session to the watch until it is taken back.
pub(super) fn lend(client: Box<ServerSession>) {
    let _ = WATCH.try_with(|watch| watch.borrow_mut().client = Some(client));
}

/// Takes back the session that was lent.
pub(super) fn take_back() -> Option<Box<ServerSession>> {
    WATCH.try_with(|watch| watch.borrow_mut().client.take()).ok().flatten()
}

/// Whether the exchange is dropped because its client has left.
pub(super) fn has_left() -> bool {
    WATCH.try_with(|watch| watch.borrow().has_left).unwrap_or_default()
}

/// Leaves the record of the exchange that is dropped.
pub(super) fn leave_record(record: AccessRecord) {
    let _ = WATCH.try_with(|watch| watch.borrow_mut().record = Some(Box::new(record)));
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

    /// Is done once the client has left while it is lent; never when the process ends its connections itself.
    async fn client_left(&self) {
        poll_fn(|context| {
            let left = WATCH.with(|watch| watch.borrow_mut().poll_left(context));
            if self.gateway.server_state.is_over() { Poll::Pending } else { left }
        })
        .await;
    }

    async fn exchange(&self, session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        let mut exchange = self.proxy.process_new_http(session, shutdown);
        tokio::select! {
            biased;
            done = &mut exchange => return done,
            () = self.client_left() => {}
        }
        WATCH.with(|watch| watch.borrow_mut().has_left = true);
        drop(exchange);
        if let Some(record) = WATCH.with(|watch| watch.borrow_mut().record.take()) {
            self.gateway.finish(*record, None);
        }
        None
    }
}

#[async_trait]
impl HttpServerApp for WatchedProxy {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        WATCH.scope(RefCell::default(), self.exchange(session, shutdown)).await
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
