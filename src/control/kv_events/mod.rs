//! Owns listening to what engines say of their KV caches: one task for each endpoint of a pool with `kv_events`.
//!
//! Only hands it to the endpoint, with whether it is all there is: as long as that is not so, the endpoint is gone by what
//! was sent there. Each connection starts anew, with all that the engine repeats, so that no account mixes two lives of it.

mod payload;
mod zmtp;

use super::endpoint_tasks::{EndpointTask, EndpointTasks};
use crate::balance::{Endpoint, KvEvent};
use crate::policy::{KvEventsSpec, PoolSpec};
use crate::snapshot::Live;
use crate::telemetry::Metrics;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use zmtp::ZmtpStream;

/// The time between two tries to connect: at first, and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// How long an engine may take to repeat all that it still has.
const REPLAY_TIME: Duration = Duration::from_secs(30);

/// What stands in place of a number at the end of what is repeated: -1.
const END_OF_REPLAY: u64 = u64::MAX;

/// Keeps one listening task for each live endpoint whose engine says what its KV cache holds.
pub struct KvListener {
    live: Arc<Live>,
    subscriptions: Subscriptions,
}

struct Subscriptions {
    metrics: Arc<Metrics>,
}

impl KvListener {
    /// Makes a listener for the live snapshot.
    pub fn new(live: Arc<Live>, metrics: Arc<Metrics>) -> Self {
        Self { live, subscriptions: Subscriptions { metrics } }
    }

    /// Listens for ever, following each new snapshot.
    pub async fn run(self) {
        EndpointTasks::new(self.subscriptions).follow(self.live).await;
    }
}

impl EndpointTask for Subscriptions {
    fn holds_for(&self, pool: &PoolSpec, _endpoints: usize) -> bool {
        pool.probes.kv_events.is_some()
    }

    fn start(&self, pool: &Arc<PoolSpec>, endpoint: &Arc<Endpoint>) -> JoinHandle<()> {
        let spec = pool.probes.kv_events.clone().expect("only such pools are listened to");
        let subscription = Subscription {
            account: AccountGuard(Arc::clone(endpoint)),
            pool: Arc::clone(pool),
            spec,
            metrics: Arc::clone(&self.metrics),
            last: None,
            is_failing: false,
        };
        tokio::spawn(subscription.run())
    }
}

/// An endpoint whose engine's account is taken in; it ends with this, since nobody would keep it.
struct AccountGuard(Arc<Endpoint>);

impl AccountGuard {
    fn forget(&self) {
        self.0.set_kv_complete(false);
        self.0.apply_kv_events(&[KvEvent::Cleared]);
    }
}

impl Drop for AccountGuard {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The listening to one endpoint's engine.
struct Subscription {
    pool: Arc<PoolSpec>,
    account: AccountGuard,
    spec: KvEventsSpec,
    metrics: Arc<Metrics>,
    /// The number of the last batch that was taken in on this connection.
    last: Option<u64>,
    is_failing: bool,
}

impl Subscription {
    async fn run(mut self) {
        let [first, most] = RETRY;
        let mut wait = first;
        loop {
            self.account.forget();
            self.last = None;
            let Err(error) = self.listen().await;
            wait = if self.last.is_some() { first } else { (wait * 2).min(most) };
            self.log_failure(&error);
            sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }

    /// Listens until the connection breaks or the engine starts anew.
    async fn listen(&mut self) -> Result<std::convert::Infallible> {
        let mut events = ZmtpStream::connect(self.address(self.spec.port), "SUB").await?;
        events.subscribe(&self.spec.topic).await?;
        // What is published from here on waits in the connection.
        if self.spec.replay_port.is_some() {
            self.replay(0).await?;
            self.account.0.set_kv_complete(true);
        }
        self.log_success();
        let mut newest = None;
        loop {
            let message = events.receive().await?;
            let Some((number, payload)) = numbered(&message) else {
                self.count("garbage");
                continue;
            };
            if newest.is_some_and(|newest| number <= newest) {
                self.count("restart");
                return Err(Error::new(ErrorKind::ConnectionReset, "the engine has started anew"));
            }
            newest = Some(number);
            self.take_in_order(number, payload).await?;
        }
    }

    /// Takes in a batch, after those that were missed before it.
    async fn take_in_order(&mut self, number: u64, payload: &[u8]) -> Result<()> {
        let next = self.last.map_or(0, |last| last + 1);
        if number > next {
            let (repeats, is_late) = (self.spec.replay_port.is_some(), self.last.is_none());
            if repeats || !is_late {
                self.count("gap");
            }
            if repeats {
                self.replay(next).await?;
            } else {
                self.account.forget();
            }
            self.last = Some(self.last.unwrap_or(0).max(number - 1));
        }
        if self.last.is_some_and(|last| number <= last) {
            // It was repeated before.
            return Ok(());
        }
        if number == 0 {
            self.account.0.set_kv_complete(true);
        }
        self.take(number, payload);
        Ok(())
    }

    fn take(&mut self, number: u64, payload: &[u8]) {
        self.last = Some(number);
        let Some(events) = payload::events(payload) else {
            self.count("garbage");
            return;
        };
        self.account.0.apply_kv_events(&events);
        if events.contains(&KvEvent::Cleared) {
            // Whatever was missed before is gone.
            self.account.0.set_kv_complete(true);
        }
        self.count("batch");
    }

    /// Takes in what the engine repeats from a number on.
    async fn replay(&mut self, from: u64) -> Result<()> {
        let Some(port) = self.spec.replay_port else { return Ok(()) };
        let late = |_elapsed| Error::new(ErrorKind::TimedOut, "the engine does not repeat in time");
        timeout(REPLAY_TIME, self.replay_all(port, from)).await.map_err(late)?
    }

    async fn replay_all(&mut self, port: u16, from: u64) -> Result<()> {
        let mut replay = ZmtpStream::connect(self.address(port), "DEALER").await?;
        replay.send(&[b"", &from.to_be_bytes()]).await?;
        loop {
            let message = replay.receive().await?;
            let Some((number, payload)) = numbered(&message) else {
                self.count("garbage");
                continue;
            };
            if number == END_OF_REPLAY {
                self.count("replay");
                return Ok(());
            }
            if self.last.is_none_or(|last| number > last) {
                self.take(number, payload);
            }
        }
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.account.0.addr().ip(), port)
    }

    fn count(&self, what: &'static str) {
        self.metrics.kv_event(&self.pool.name, what);
    }

    fn log_success(&mut self) {
        self.is_failing = false;
        tracing::info!(pool = self.pool.name, endpoint = %self.account.0.addr(), "the engine's KV events are listened to");
    }

    fn log_failure(&mut self, failure: &Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let endpoint = self.account.0.addr();
            tracing::warn!(pool = self.pool.name, %endpoint, %failure, "the engine's KV events cannot be listened to");
        }
    }
}

/// The number and the payload of a message: the last two of its frames, behind a topic or an empty one.
fn numbered(message: &[Vec<u8>]) -> Option<(u64, &[u8])> {
    let [.., number, payload] = message else { return None };
    Some((u64::from_be_bytes(number.as_slice().try_into().ok()?), payload))
}
