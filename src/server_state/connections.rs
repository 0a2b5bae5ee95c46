//! Owns the connections of clients: how many there may be, in all and of one peer, and which one goes for a new one.
//!
//! A connection that waits for a request, or for all of one, makes room for one that may bring one. Knows nothing of
//! what is sent on them.

use futures::task::AtomicWaker;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub most: usize,
    /// From one address; of IPv6 from one /64, which is one customer's.
    pub most_of_one_peer: usize,
}

/// The connections of clients.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    start: Instant,
    open: Mutex<OpenConnections>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    by_id: HashMap<u64, Arc<ClientConnection>>,
    by_peer: HashMap<IpAddr, usize>,
    next_id: u64,
}

/// One connection of a client.
#[derive(Debug)]
pub struct ClientConnection {
    id: u64,
    peer: IpAddr,
    is_trusted: bool,
    start: Instant,
    /// Requests on it, from their headers on.
    requests: AtomicUsize,
    /// Of those, how many have come whole.
    whole: AtomicUsize,
    /// When it began to wait, for a request or for all of one, in microseconds, as [`micros_since`] counts them.
    waits_since_us: AtomicU64,
    /// Whether what is sent on it is no HTTP any more.
    is_tunnel: AtomicBool,
    /// The name that its client asked for when it shook hands, in lower case.
    server_name: OnceLock<Box<str>>,
    /// A [`ForcedEnd`], or 0.
    end: AtomicU8,
    reader: AtomicWaker,
}

/// Why a connection is ended by the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForcedEnd {
    /// It waited, and another connection needs its place.
    Evicted,
    /// The process ends, and what is in flight has had its time.
    ProcessEnds,
    /// Its WebSocket was silent, or open, for too long.
    Silent,
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    /// The connection.
    pub connection: Arc<ClientConnection>,
    connections: Arc<Connections>,
}

/// Counts a request on a connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionRequest {
    connection: Arc<ClientConnection>,
    is_whole: bool,
}

/// The limit on connections is reached, and all of them are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit on connections is reached")]
pub struct ConnectionsFull;

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, start: Instant::now(), open: Mutex::default(), refusals: Mutex::default() })
    }

    /// The connections there are.
    pub fn count(&self) -> usize {
        self.open().by_id.len()
    }

    /// Counts a connection that was refused, or ended before it brought a request.
    pub fn count_refusal(&self, reason: &'static str) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// What was refused so far, by reason.
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    /// Counts a new connection, made so long ago: those of one burst come here in any order. Where there are too many,
    /// the one that has waited longest goes; a trusted peer, which stands for many clients, may have any number of them.
    pub fn open_from(
        self: &Arc<Self>,
        peer: IpAddr,
        is_trusted: bool,
        age: Duration,
    ) -> Result<ConnectionGuard, ConnectionsFull> {
        let peer = network_of(peer);
        let mut open = self.open();
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or_default();
        if !is_trusted && of_peer >= self.limits.most_of_one_peer {
            let evicted = open.evict(|connection| connection.peer == peer && !connection.is_trusted);
            evicted.ok_or(ConnectionsFull)?;
            self.count_refusal("evicted");
        } else if open.by_id.len() >= self.limits.most {
            open.evict(|_| true).ok_or(ConnectionsFull)?;
            self.count_refusal("evicted");
        }
        let id = open.next_id;
        open.next_id += 1;
        let connection = Arc::new(ClientConnection {
            id,
            peer,
            is_trusted,
            start: self.start,
            requests: AtomicUsize::new(0),
            whole: AtomicUsize::new(0),
            waits_since_us: AtomicU64::new(
                micros_since(self.start, Instant::now()).saturating_sub(age.as_micros() as u64),
            ),
            is_tunnel: AtomicBool::new(false),
            server_name: OnceLock::new(),
            end: AtomicU8::new(0),
            reader: AtomicWaker::new(),
        });
        open.by_id.insert(id, Arc::clone(&connection));
        *open.by_peer.entry(peer).or_default() += 1;
        drop(open);
        Ok(ConnectionGuard { connection, connections: Arc::clone(self) })
    }

    pub(super) fn end_all(&self) {
        for connection in self.open().by_id.values() {
            connection.force(ForcedEnd::ProcessEnds);
        }
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// Ends the connection that has waited longest of those that may go.
    fn evict(&mut self, may_go: impl Fn(&ClientConnection) -> bool) -> Option<()> {
        let waiting = self.by_id.values().filter(|connection| connection.may_go() && may_go(connection));
        let longest = waiting.min_by_key(|connection| connection.waits_since_us.load(Ordering::Relaxed))?;
        let (id, connection) = (longest.id, Arc::clone(longest));
        // Its place is free now, though its socket takes a moment to close.
        self.remove(id);
        connection.force(ForcedEnd::Evicted);
        Some(())
    }

    fn remove(&mut self, id: u64) {
        let Some(connection) = self.by_id.remove(&id) else { return };
        if let Some(count) = self.by_peer.get_mut(&connection.peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&connection.peer);
            }
        }
    }
}

impl ConnectionGuard {
    /// Counts that the connection ended before it brought a request.
    pub fn count_refusal(&self, reason: &'static str) {
        self.connections.count_refusal(reason);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.open().remove(self.connection.id);
    }
}

impl ClientConnection {
    /// Whether there is no request on it.
    pub fn is_waiting(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0
    }

    /// Whether no request on it has come whole.
    pub fn may_go(&self) -> bool {
        self.whole.load(Ordering::Acquire) == 0
    }

    /// Counts a request on it, which came at `now` and whose body may be still to come.
    pub fn begin_request(self: &Arc<Self>, now: Instant) -> ConnectionRequest {
        self.waits_since_us.store(micros_since(self.start, now), Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::AcqRel);
        ConnectionRequest { connection: Arc::clone(self), is_whole: false }
    }

    /// Ready once the process wants it to end; the task that reads it is woken then.
    pub fn poll_forced_end(&self, context: &Context<'_>) -> Poll<ForcedEnd> {
        if let Some(end) = self.forced_end() {
            return Poll::Ready(end);
        }
        self.reader.register(context.waker());
        // It may have been decided in between.
        self.forced_end().map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether what is sent on it is no HTTP any more.
    pub fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Ordering::Acquire)
    }

    /// The name that its client asked for when it shook hands, in lower case.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.get().map(|name| &**name)
    }

    /// Notes the name that its client asked for when it shook hands; the first one stays.
    pub fn note_server_name(&self, name: &str) {
        self.server_name.get_or_init(|| name.to_ascii_lowercase().into());
    }

    /// Has all that its client sends from now on passed on as it is.
    pub fn begin_tunnel(&self) {
        self.is_tunnel.store(true, Ordering::Release);
    }

    /// Ends a WebSocket that was silent, or open, for too long.
    pub fn end_silent(&self) {
        self.force(ForcedEnd::Silent);
    }

    /// Why it is to end, if it is.
    pub fn forced_end(&self) -> Option<ForcedEnd> {
        let forced = self.end.load(Ordering::Acquire);
        let ends = [ForcedEnd::Evicted, ForcedEnd::ProcessEnds, ForcedEnd::Silent];
        ends.into_iter().find(|end| *end as u8 + 1 == forced)
    }

    fn force(&self, end: ForcedEnd) {
        self.end.store(end as u8 + 1, Ordering::Release);
        self.reader.wake();
    }
}

impl ConnectionRequest {
    /// Counts it as come whole: from now on its connection stays.
    pub fn receive_whole(&mut self) {
        if !std::mem::replace(&mut self.is_whole, true) {
            self.connection.whole.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for ConnectionRequest {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.waits_since_us.store(micros_since(connection.start, Instant::now()), Ordering::Relaxed);
        if self.is_whole {
            connection.whole.fetch_sub(1, Ordering::AcqRel);
        }
        connection.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts from an hour before `start`: a connection may be older than that.
fn micros_since(start: Instant, now: Instant) -> u64 {
    const HOUR: Duration = Duration::from_secs(3600);
    (HOUR + now.saturating_duration_since(start)).as_micros() as u64
}

/// What counts as one peer: an IPv4 address, or the first 64 bits of an IPv6 one.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        peer @ IpAddr::V4(_) => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn connections(most: usize, most_of_one_peer: usize) -> Arc<Connections> {
        Connections::new(ConnectionLimits { most, most_of_one_peer })
    }

    fn is_ended(guard: &ConnectionGuard) -> bool {
        guard.connection.poll_forced_end(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_connection_that_waits_makes_room_for_a_new_one() {
        let connections = connections(2, 2);
        let peer = |last| IpAddr::from([192, 0, 2, last]);
        let busy = connections.open_from(peer(1), false, Duration::ZERO).unwrap();
        let mut request = busy.connection.begin_request(Instant::now());
        request.receive_whole();
        let waiting = connections.open_from(peer(2), false, Duration::ZERO).unwrap();
        let fresh = connections.open_from(peer(3), false, Duration::ZERO).unwrap();
        assert!(is_ended(&waiting) && !is_ended(&busy) && !is_ended(&fresh));
        let mut received = fresh.connection.begin_request(Instant::now());
        received.receive_whole();
        assert_eq!(connections.open_from(peer(4), false, Duration::ZERO).unwrap_err(), ConnectionsFull);
        drop(request);
        let _withheld = busy.connection.begin_request(Instant::now());
        let last = connections.open_from(peer(4), false, Duration::ZERO).unwrap();
        assert!(is_ended(&busy));
        assert_eq!((connections.count(), connections.refusals()), (2, vec![("evicted", 2)]));
        drop((busy, waiting, fresh, last));
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn the_one_that_was_made_last_goes_last() {
        let connections = connections(2, 2);
        let peer = IpAddr::from([192, 0, 2, 1]);
        let last = connections.open_from(peer, false, Duration::ZERO).unwrap();
        let first = connections.open_from(peer, false, Duration::from_micros(900)).unwrap();
        let _second = connections.open_from(peer, false, Duration::from_micros(500)).unwrap();
        assert!(is_ended(&first) && !is_ended(&last));
    }

    #[test]
    fn one_peer_cannot_take_the_places_of_others() {
        let connections = connections(10, 1);
        for (one, same) in [("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8::1", "2001:db8::ffff")] {
            let (one, same) = (one.parse().unwrap(), same.parse().unwrap());
            let first = connections.open_from(one, false, Duration::ZERO).unwrap();
            let _second = connections.open_from(same, false, Duration::ZERO).unwrap();
            assert!(is_ended(&first), "{one}");
        }
        let trusted =
            [0; 5].map(|_| connections.open_from(IpAddr::from([10, 0, 0, 1]), true, Duration::ZERO).unwrap());
        assert!(!trusted.iter().any(is_ended));
    }
}
