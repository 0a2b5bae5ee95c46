//! Owns listening to what engines say of their KV caches: one task for each endpoint of a pool with `kv_events`, and in it
//! one for each data-parallel rank.
//!
//! Only hands it to the endpoint, with whether it is all there is: as long as that is not so, the endpoint is gone by what
//! was sent there. Each connection starts anew, with all that the engine repeats, so that no account mixes two lives of it.

mod payload;
mod sources;
mod zmtp;

use super::endpoint_client::{EndpointClient, PeerOf};
use super::endpoint_tasks::{EndpointTask, EndpointTasks};
use crate::balance::{Endpoint, KvEvent};
use crate::policy::PoolSpec;
use crate::snapshot::Live;
use crate::telemetry::Metrics;
use sources::{KvEventSource, SourceFinder};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use zmtp::ZmtpStream;

/// The time between two tries to connect: at first, and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// How long an engine is left alone that publishes nothing.
const NOTHING_PUBLISHED: Duration = Duration::from_secs(60);

/// The most engines that are asked at once where they publish; the others wait for their turn.
const MAX_CONCURRENT: usize = 256;

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
    peer_of: PeerOf,
    client: Arc<EndpointClient>,
    metrics: Arc<Metrics>,
}

impl KvListener {
    /// Makes a listener for the live snapshot.
    pub fn new(live: Arc<Live>, peer_of: PeerOf, metrics: Arc<Metrics>) -> Self {
        let client = EndpointClient::new(MAX_CONCURRENT);
        Self { live, subscriptions: Subscriptions { peer_of, client, metrics } }
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
        let listener = EngineListener {
            finder: SourceFinder::new(Arc::clone(&self.client), &self.peer_of, pool, endpoint, spec),
            endpoint: Arc::clone(endpoint),
            pool: Arc::clone(pool),
            metrics: Arc::clone(&self.metrics),
            is_failing: Arc::default(),
        };
        tokio::spawn(listener.run())
    }
}

/// The listening to all ranks of one endpoint's engine.
struct EngineListener {
    finder: SourceFinder,
    endpoint: Arc<Endpoint>,
    pool: Arc<PoolSpec>,
    metrics: Arc<Metrics>,
    is_failing: Arc<AtomicBool>,
}

impl EngineListener {
    /// Listens for ever. An engine that says where it publishes is asked anew once any connection ends: after a start it
    /// may say something else.
    async fn run(mut self) {
        let [first, most] = RETRY;
        let mut wait = first;
        loop {
            match self.finder.find().await {
                Ok(sources) if sources.is_empty() => {
                    tracing::info!(pool = self.pool.name, endpoint = %self.endpoint.addr(), "the engine publishes no KV events");
                    wait = NOTHING_PUBLISHED;
                }
                Ok(sources) => {
                    let has_heard = self.listen(sources).await;
                    wait = if has_heard { first } else { (wait * 2).min(most) };
                }
                Err(failure) => {
                    log_failure(&self.is_failing, &self.pool, &self.endpoint, &failure);
                    wait = (wait * 2).min(most);
                }
            }
            sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }

    /// Listens to all ranks, until one of them ends; says whether that one had said anything.
    async fn listen(&self, sources: Vec<KvEventSource>) -> bool {
        self.endpoint.set_kv_ranks(sources.len());
        let is_lasting = !self.finder.asks();
        let mut ranks = JoinSet::new();
        for source in sources {
            let subscription = Subscription {
                account: AccountGuard { endpoint: Arc::clone(&self.endpoint), rank: source.rank.into() },
                pool: Arc::clone(&self.pool),
                source,
                metrics: Arc::clone(&self.metrics),
                last: None,
                is_failing: Arc::clone(&self.is_failing),
            };
            ranks.spawn(subscription.run(is_lasting));
        }
        let ended = ranks.join_next().await;
        // What the others leave behind must be gone before they are listened to anew.
        ranks.shutdown().await;
        ended.is_some_and(|ended| ended.unwrap_or(false))
    }
}

fn log_failure(
    is_failing: &AtomicBool,
    pool: &PoolSpec,
    endpoint: &Endpoint,
    failure: &dyn std::fmt::Display,
) {
    if !is_failing.swap(true, Ordering::Relaxed) {
        let endpoint = endpoint.addr();
        tracing::warn!(pool = pool.name, %endpoint, %failure, "the engine's KV events cannot be listened to");
    }
}

/// A rank of an endpoint's engine whose account is taken in; it ends with this, since nobody would keep it.
struct AccountGuard {
    endpoint: Arc<Endpoint>,
    rank: usize,
}

impl AccountGuard {
    fn forget(&self) {
        self.set_complete(false);
        self.apply(&[KvEvent::Cleared]);
    }

    fn set_complete(&self, is_complete: bool) {
        self.endpoint.set_kv_complete(self.rank, is_complete);
    }

    fn apply(&self, events: &[KvEvent]) {
        self.endpoint.apply_kv_events(self.rank, events);
    }
}

impl Drop for AccountGuard {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The listening to one rank of an engine.
struct Subscription {
    pool: Arc<PoolSpec>,
    account: AccountGuard,
    source: KvEventSource,
    metrics: Arc<Metrics>,
    /// The number of the last batch that was taken in on this connection.
    last: Option<u64>,
    is_failing: Arc<AtomicBool>,
}

impl Subscription {
    /// Listens for ever, or until the first connection ends; says whether that had said anything.
    async fn run(mut self, is_lasting: bool) -> bool {
        let [first, most] = RETRY;
        let mut wait = first;
        loop {
            self.account.forget();
            self.last = None;
            let Err(error) = self.listen().await;
            log_failure(&self.is_failing, &self.pool, &self.account.endpoint, &error);
            if !is_lasting {
                return self.last.is_some();
            }
            wait = if self.last.is_some() { first } else { (wait * 2).min(most) };
            sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }

    /// Listens until the connection breaks or the engine starts anew.
    async fn listen(&mut self) -> Result<std::convert::Infallible> {
        let mut events = ZmtpStream::connect(self.address(self.source.port), "SUB").await?;
        events.subscribe(&self.source.topic).await?;
        // What is published from here on waits in the connection.
        if self.source.replay_port.is_some() {
            self.replay(0).await?;
            self.account.set_complete(true);
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
            let (repeats, is_late) = (self.source.replay_port.is_some(), self.last.is_none());
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
            self.account.set_complete(true);
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
        self.account.apply(&events);
        if events.contains(&KvEvent::Cleared) {
            // Whatever was missed before is gone.
            self.account.set_complete(true);
        }
        self.count("batch");
    }

    /// Takes in what the engine repeats from a number on.
    async fn replay(&mut self, from: u64) -> Result<()> {
        let Some(port) = self.source.replay_port else { return Ok(()) };
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
        SocketAddr::new(self.account.endpoint.addr().ip(), port)
    }

    fn count(&self, what: &'static str) {
        self.metrics.kv_event(&self.pool.name, what);
    }

    fn log_success(&self) {
        self.is_failing.store(false, Ordering::Relaxed);
        let (endpoint, rank) = (self.account.endpoint.addr(), self.account.rank);
        tracing::info!(pool = self.pool.name, %endpoint, rank, "the engine's KV events are listened to");
    }
}

/// The number and the payload of a message: the last two of its frames, behind a topic or an empty one.
fn numbered(message: &[Vec<u8>]) -> Option<(u64, &[u8])> {
    let [.., number, payload] = message else { return None };
    Some((u64::from_be_bytes(number.as_slice().try_into().ok()?), payload))
}
