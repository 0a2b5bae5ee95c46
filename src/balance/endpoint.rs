//! Owns what is known about one upstream address: requests in flight, active health, passive ejection and refusals.
//! Refuses to know the other endpoints of its pool, how it is probed and how requests reach it.

use super::engine_metrics::{EngineMetrics, LoadReport};
use super::engine_state::EngineState;
use super::failure_record::FailureRecord;
use super::kv_account::{KvAccount, KvAccountState};
use super::kv_blocks::KvEvent;
use super::lock;
use super::refusals::{Refusal, Refusals};
use super::rendezvous::address_identity;
use super::token_progress::Liveness;
use crate::policy::{Ejection, Health};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One upstream address with its live state, kept for as long as any snapshot names the address.
#[derive(Debug)]
pub struct Endpoint {
    location: Location,
    in_flight: AtomicU32,
    /// Bit 0: down. Above it: checks in a row that contradict bit 0.
    active: AtomicU32,
    /// Whether `record` holds anything that a success would clear or that keeps requests away.
    suspect: AtomicBool,
    record: Mutex<FailureRecord>,
    /// Whether `refusals` names any model.
    refuses: AtomicBool,
    refusals: Mutex<Refusals>,
    /// Counts how often its pooled connections were given up; those of an earlier count are not used again.
    connections: AtomicU64,
    /// Counts the answers that have begun.
    answers: AtomicU64,
    /// What pickers go by.
    engine: EngineState,
}

/// Where an endpoint is, and how it is spoken to.
#[derive(Debug)]
struct Location {
    addr: SocketAddr,
    /// The address as the operator wrote it.
    host: Arc<str>,
    /// Whether it is known to speak HTTP/2 with prior knowledge.
    h2c: bool,
    /// The address, hashed: the same in every process and on every machine.
    identity: u64,
}

/// An endpoint's connections and answers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionMark {
    /// How often its pooled connections were given up; those of an earlier count are not used again.
    pub connections: u64,
    /// How many answers have begun.
    pub answers: u64,
}

/// One endpoint and its share of its pool's requests.
#[derive(Clone, Debug)]
pub struct PoolMember {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its share relative to the other members'; 0 takes no new requests.
    pub weight: u32,
}

/// The most requests of an endpoint on probation, where others can take the rest.
const PROBATION_REQUESTS: u32 = 3;

const DOWN: u32 = 1;
const ONE_CHECK: u32 = 2;

impl Endpoint {
    /// Makes an endpoint that is up, idle and without a record; `host` is the address as the operator wrote
    /// it.
    pub fn new(addr: SocketAddr, host: Arc<str>) -> Arc<Self> {
        Self::with_protocol(addr, host, false)
    }

    /// The same for one that is known to speak HTTP/2 with prior knowledge, or not.
    pub fn with_protocol(addr: SocketAddr, host: Arc<str>, h2c: bool) -> Arc<Self> {
        let engine = EngineState::default();
        engine.joins(Instant::now());
        Arc::new(Self {
            location: Location { addr, host, h2c, identity: address_identity(addr) },
            in_flight: AtomicU32::new(0),
            active: AtomicU32::new(0),
            suspect: AtomicBool::new(false),
            record: Mutex::default(),
            refuses: AtomicBool::new(false),
            refusals: Mutex::default(),
            connections: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            engine,
        })
    }

    /// The resolved address.
    pub fn addr(&self) -> SocketAddr {
        self.location.addr
    }

    /// The address as the operator wrote it, such as `api.openai.com:443`.
    pub fn host(&self) -> &Arc<str> {
        &self.location.host
    }

    /// Whether it is known to speak HTTP/2 with prior knowledge.
    pub fn speaks_h2c(&self) -> bool {
        self.location.h2c
    }

    /// Leases out at this moment.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether active health checks hold the endpoint up; without checks it stays up.
    pub fn is_up(&self) -> bool {
        self.active.load(Ordering::Relaxed) & DOWN == 0
    }

    /// Whether passive ejection keeps requests away at `now`.
    pub fn ejected(&self, now: Instant) -> bool {
        self.suspect.load(Ordering::Acquire) && lock(&self.record).ejected(now)
    }

    /// Takes in one active check's result; `Some(up)` when it changed the state. Of `rule` only the checks in a row count;
    /// 0 is read as 1.
    ///
    /// A return from down to up also forgets failures and refusals: they were about the process that went away.
    /// A passed check alone does not end an ejection, since `/health` often answers while requests fail.
    pub fn checked(&self, ok: bool, rule: &Health) -> Option<bool> {
        let step = |state: u32| {
            let down = state & DOWN == DOWN;
            if ok != down {
                return down.into();
            }
            let row = state / ONE_CHECK + 1;
            let needed = if down { rule.healthy_after } else { rule.unhealthy_after };
            if row >= needed { u32::from(!down) } else { state.saturating_add(ONE_CHECK) }
        };
        let before = self
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(step(state)))
            .expect("the step always gives a state");
        if (before ^ step(before)) & DOWN == 0 {
            return None;
        }
        if ok {
            self.with_record(|record| *record = FailureRecord::default());
            *lock(&self.refusals) = Refusals::default();
            self.refuses.store(false, Ordering::Release);
            self.engine.joins(Instant::now());
            self.engine.note_asleep(false);
        }
        Some(ok)
    }

    /// Keeps what the engine said of itself; what it does not say this time is unknown again.
    pub fn note_engine_metrics(&self, metrics: EngineMetrics) {
        self.engine.note(metrics, self.in_flight());
    }

    /// Updates what the engine said of itself with a report in an answer, as long as that is fresh at `now`.
    pub fn note_load_report(&self, report: LoadReport, now: Instant) {
        self.engine.update(report, self.in_flight(), now);
    }

    /// What the engine last said of itself, however long ago; `None` where it never did.
    pub fn engine_metrics(&self) -> Option<Arc<EngineMetrics>> {
        Some(self.engine.report()?.metrics)
    }

    /// Says how many data-parallel ranks the engine has, each with a KV cache of its own; 64 at most.
    pub fn set_kv_ranks(&self, count: usize) {
        self.engine.kv.get_or_init(KvAccount::default).set_ranks(count);
    }

    /// Takes in what a rank of the engine, 0 where it has one alone, says of its KV cache.
    pub fn apply_kv_events(&self, rank: usize, events: &[KvEvent]) {
        self.engine.kv.get_or_init(KvAccount::default).apply(rank, events);
    }

    /// Says whether a rank's account of its KV cache, as it was taken in, is all of it.
    pub fn set_kv_complete(&self, rank: usize, is_complete: bool) {
        if let Some(blocks) = self.engine.kv.get_or_init(KvAccount::default).blocks_of(rank) {
            blocks.set_complete(is_complete);
        }
    }

    /// What is known of the engine's account of its KV cache; `None` where it was never listened to.
    pub fn kv_account(&self, now: Instant) -> Option<KvAccountState> {
        Some(self.engine.kv.get()?.state(now))
    }

    /// What pickers go by.
    pub(super) fn engine(&self) -> &EngineState {
        &self.engine
    }

    /// Whether it gives tokens at `now`, while some are due.
    pub(super) fn liveness(&self, now: Instant) -> Liveness {
        self.engine.progress.liveness(now, self.in_flight(), self.engine.load.prefill())
    }

    /// Whether no token has come from it for long at `now`, while some are due and it has got more to do.
    pub fn is_wedged(&self, now: Instant) -> bool {
        self.liveness(now) == Liveness::Wedged
    }

    /// Whether its engine sleeps, by what was heard of it last, however long ago.
    pub fn is_asleep(&self) -> bool {
        self.engine.is_asleep()
    }

    /// Notes that its engine was put to sleep, or woken, or that nobody says so any more.
    pub fn note_asleep(&self, is_asleep: bool) {
        self.engine.note_asleep(is_asleep);
    }

    /// The address as rendezvous hashing takes it.
    pub(super) fn identity(&self) -> u64 {
        self.location.identity
    }

    /// Whether a request may be sent here at `now`.
    pub(super) fn available(&self, now: Instant) -> bool {
        self.is_up() && !self.ejected(now)
    }

    /// Whether requests for a model, by its name's hash, had better go elsewhere at `now`: it was refused here, or the
    /// endpoint fails and may not be ejected.
    pub(super) fn is_passed_over(&self, model: u64, now: Instant) -> bool {
        (self.refuses.load(Ordering::Acquire) && lock(&self.refusals).is_paused(model, now))
            || (self.suspect.load(Ordering::Acquire) && self.is_spared(now))
    }

    /// Whether the endpoint keeps failing and may not be ejected, or was ejected and has as many requests as are to show
    /// whether it is well again.
    fn is_spared(&self, now: Instant) -> bool {
        let record = lock(&self.record);
        record.passed_over(now) || (record.on_probation(now) && self.in_flight() >= PROBATION_REQUESTS)
    }

    /// Notes that a model was refused; gives for how long requests for it are kept away, if they were not already.
    pub(super) fn refused(&self, model: u64, refusal: Refusal, now: Instant) -> Option<Duration> {
        let mut refusals = lock(&self.refusals);
        let wait = refusals.refused(model, refusal, now);
        self.refuses.store(true, Ordering::Release);
        wait
    }

    /// Whether another endpoint may be asked what this one refused.
    pub(super) fn may_compare(&self, now: Instant) -> bool {
        lock(&self.refusals).may_compare(now)
    }

    /// Notes that another endpoint refused the same.
    pub(super) fn compared_in_vain(&self, now: Instant) {
        lock(&self.refusals).compared_in_vain(now);
    }

    /// Forgets that a model was refused.
    pub(super) fn answered(&self, model: u64) {
        if self.refuses.load(Ordering::Acquire) {
            let mut refusals = lock(&self.refusals);
            refusals.answered(model);
            self.refuses.store(!refusals.is_empty(), Ordering::Release);
        }
    }

    /// What tells later whether the endpoint has answered, and which of its pooled connections may be used until then.
    pub fn mark(&self) -> ConnectionMark {
        ConnectionMark {
            connections: self.connections.load(Ordering::Relaxed),
            answers: self.answers.load(Ordering::Relaxed),
        }
    }

    /// Counts an answer that has begun.
    pub fn note_answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up the pooled connections that were made under the count of `mark`, once.
    pub fn retire_connections(&self, mark: ConnectionMark) {
        let seen = mark.connections;
        // Others may have done so already; theirs are new.
        let _ = self.connections.compare_exchange(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Counts a lease that begins, unless there are `most` already; says whether it does.
    pub(super) fn enter(&self, most: Option<u32>) -> bool {
        let most = most.unwrap_or(u32::MAX);
        let more = |now: u32| (now < most).then_some(now + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts a lease that ends; only the drop of [`super::Lease`] calls it, once.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Clears the failures in a row after a request that was sent at `taken` went well.
    pub(super) fn succeeded(&self, taken: Instant) {
        if self.suspect.load(Ordering::Acquire) {
            self.with_record(|record| record.succeeded(taken));
        }
    }

    /// Notes that a request sent at `taken` failed; true when that is reason enough to eject.
    pub(super) fn failed(&self, taken: Instant, now: Instant, rule: &Ejection) -> bool {
        self.with_record(|record| record.failed(taken, now, rule))
    }

    /// Keeps requests away from `now` on and tells for how long.
    pub(super) fn eject(&self, now: Instant, rule: &Ejection) -> Duration {
        self.with_record(|record| record.eject(now, rule))
    }

    /// Keeps requests away where others can take them, without ejecting.
    pub(super) fn pass_over(&self, now: Instant, rule: &Ejection) {
        self.with_record(|record| record.pass_over(now, rule));
    }

    /// When the present ejection ends, if the endpoint is ejected at `now`.
    pub(super) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        lock(&self.record).until(now)
    }

    /// Ends an ejection at `now`, before its time; the endpoint stays on probation.
    pub(super) fn readmit(&self, now: Instant) {
        self.with_record(|record| record.readmit(now));
    }

    fn with_record<T>(&self, change: impl FnOnce(&mut FailureRecord) -> T) -> T {
        let mut record = lock(&self.record);
        let result = change(&mut record);
        self.suspect.store(record.suspect(), Ordering::Release);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::BasisPoints;

    fn rule(healthy_after: u32, unhealthy_after: u32) -> Health {
        Health { healthy_after, unhealthy_after, ..Health::default() }
    }

    fn endpoint() -> Arc<Endpoint> {
        Endpoint::new(([127, 0, 0, 1], 8000).into(), "localhost:8000".into())
    }

    fn results(endpoint: &Endpoint, checks: &[bool]) -> Vec<Option<bool>> {
        checks.iter().map(|ok| endpoint.checked(*ok, &rule(2, 3))).collect()
    }

    #[test]
    fn checks_in_a_row_take_an_endpoint_down_and_bring_it_back() {
        let endpoint = endpoint();
        assert_eq!(results(&endpoint, &[false, false, true, false, false]), [None; 5]);
        assert_eq!(results(&endpoint, &[false, false]), [Some(false), None]);
        assert!(!endpoint.is_up());
        assert_eq!(
            results(&endpoint, &[true, false, true, true, true]),
            [None, None, None, Some(true), None]
        );
        assert!(endpoint.is_up());
    }

    #[test]
    fn thresholds_of_zero_and_one_change_the_state_at_the_first_check() {
        for after in [0, 1] {
            let (endpoint, at_once) = (endpoint(), rule(after, after));
            assert_eq!(endpoint.checked(true, &at_once), None);
            assert_eq!(endpoint.checked(false, &at_once), Some(false));
            assert_eq!(endpoint.checked(true, &at_once), Some(true));
        }
    }

    #[test]
    fn coming_back_up_forgets_the_passive_record() {
        let (endpoint, start) = (endpoint(), Instant::now());
        let rule = Ejection {
            consecutive_failures: 1,
            base: Duration::from_secs(30),
            max: Duration::from_secs(300),
            max_share: BasisPoints(10_000),
            slow_factor: 0,
        };
        assert!(endpoint.failed(start, start, &rule));
        endpoint.eject(start, &rule);
        assert!(endpoint.ejected(start));
        results(&endpoint, &[true, true, true]);
        assert!(endpoint.ejected(start), "passed checks alone do not end an ejection");
        results(&endpoint, &[false, false, false, true, true]);
        assert!(!endpoint.ejected(start));
    }
}
