//! Owns who may go to a pool: at once while it is not saturated, in turn while it is, or not at all.
//! Refuses to know what a request is, why it has its priority, and what its client hears.
//!
//! While requests wait, a task lets them go: whenever a lease of the pool ends, and now and then, since engines tell of
//! room only when they are asked. It is there for as long as any request waits.

use super::endpoint::PoolMember;
use super::fair_queue::{FairQueue, GateRequest, QueueBounds, QueueTicket, Queued};
use super::lock;
use super::picker::Candidates;
use super::saturation::{AddedLoad, saturation};
use crate::policy::{PoolLimits, QueueLimits};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// How often the pool is looked at while requests wait and no lease ends.
const LOOK: Duration = Duration::from_millis(10);

/// In what time an ended request counts half for the rate at which they end.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// The shortest and the longest that a client is told to stay away, and what it is told where no request has ended.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const UNKNOWN_WAIT: Duration = Duration::from_secs(5);

/// What becomes of a request that wants to go to a pool.
#[derive(Debug)]
pub enum AdmissionVerdict {
    /// It may go; the permit is held until it has its lease.
    Pass(AdmissionPermit),
    /// It waits for its turn.
    Wait(QueuedRequest),
    /// It may neither go nor wait.
    Refuse(AdmissionRefusal),
}

/// What becomes of a request that wants to go to a pool, and how that came about.
#[derive(Debug)]
pub struct AdmissionDecision {
    /// What becomes of it.
    pub verdict: AdmissionVerdict,
    /// How saturated the pool was.
    pub saturation: f64,
    /// Requests that waited before it.
    pub ahead: usize,
}

/// What would become of a request that wanted to go to a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionForecast {
    /// How saturated the pool is: wholly from 1 on.
    pub saturation: f64,
    /// Why it might neither go nor wait; `None` where it might.
    pub refusal: Option<AdmissionRefusal>,
    /// Whether it would have to wait.
    pub waits: bool,
    /// Requests that would go before it, if no other came.
    pub ahead: usize,
    /// Requests of the same tenant and priority that wait.
    pub of_tenant: usize,
    /// How many wait, by their priorities, the highest first.
    pub queued: Vec<(i32, usize)>,
    /// In what time it could be let go, by how fast requests end; nothing where it need not wait.
    pub expected_wait: Option<Duration>,
}

/// Why a request may not go to a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionRefusal {
    /// The pool is saturated, and the request's priority negative.
    Saturated,
    /// As many wait as may.
    QueueFull,
    /// It waited, and gave way to another.
    Displaced,
    /// It has waited as long as it may.
    Expired,
}

/// Judges who may go to a pool.
#[derive(Debug)]
pub struct AdmissionGate {
    members: Arc<[PoolMember]>,
    limits: PoolLimits,
    state: Arc<AdmissionState>,
}

/// What a pool and its successors know of those that want to go there.
#[derive(Debug, Default)]
struct AdmissionState {
    turns: Mutex<AdmissionTurns>,
    /// Requests that were let go and have no lease yet.
    pending: AtomicUsize,
    /// Tells the task that a lease has ended.
    ended: Notify,
    drained: Mutex<DrainRate>,
}

#[derive(Debug, Default)]
struct AdmissionTurns {
    queue: FairQueue<Waiter>,
    /// Whether the task is there that lets requests go.
    is_served: bool,
}

/// A request that waits.
#[derive(Debug)]
struct Waiter {
    /// That of the pool as the request's snapshot has it.
    gate: Arc<AdmissionGate>,
    go: oneshot::Sender<AdmissionPermit>,
}

/// Stands for a request that was let go until it has its lease.
#[derive(Debug)]
pub struct AdmissionPermit {
    state: Arc<AdmissionState>,
}

impl AdmissionPermit {
    fn new(state: &Arc<AdmissionState>) -> Self {
        state.pending.fetch_add(1, Ordering::AcqRel);
        Self { state: Arc::clone(state) }
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        self.state.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request in a pool's queue; dropping it gives its place up.
#[derive(Debug)]
pub struct QueuedRequest {
    state: Arc<AdmissionState>,
    ticket: QueueTicket,
    turn: oneshot::Receiver<AdmissionPermit>,
}

impl QueuedRequest {
    /// Waits for its turn, for as long as it takes; wants a runtime.
    pub async fn turn(&mut self) -> Result<AdmissionPermit, AdmissionRefusal> {
        if !std::mem::replace(&mut lock(&self.state.turns).is_served, true) {
            tokio::spawn(serve(Arc::clone(&self.state)));
        }
        (&mut self.turn).await.map_err(|_displaced| AdmissionRefusal::Displaced)
    }
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        let waiter = lock(&self.state.turns).queue.remove(self.ticket);
        drop(waiter);
    }
}

/// Lets requests go until none waits.
async fn serve(state: Arc<AdmissionState>) {
    while state.let_go(Instant::now()) {
        tokio::select! {
            () = state.ended.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl AdmissionState {
    /// Lets those go for whom there is room, in turn; says whether others wait, and is to be called again then.
    fn let_go(self: &Arc<Self>, now: Instant) -> bool {
        let mut turns = lock(&self.turns);
        while let Some(first) = turns.queue.first() {
            if first.gate.saturation_with(now, true) >= 1.0 {
                return true;
            }
            let Some(waiter) = turns.queue.pop() else { break };
            // One that has left meanwhile gives its permit back.
            drop(waiter.go.send(AdmissionPermit::new(self)));
        }
        turns.is_served = false;
        false
    }
}

impl AdmissionGate {
    /// Makes the gate of a pool, which takes over who waits from that of the pool before; `None` where the limits have
    /// nothing judged.
    pub(super) fn new(
        members: &Arc<[PoolMember]>,
        limits: PoolLimits,
        previous: Option<&Arc<Self>>,
    ) -> Option<Arc<Self>> {
        limits.saturation?;
        let state = previous.map(|gate| Arc::clone(&gate.state)).unwrap_or_default();
        Some(Arc::new(Self { members: Arc::clone(members), limits, state }))
    }

    /// Says whether a request may go to the pool at `now`; one that may is counted until its permit drops.
    pub fn admit(
        self: &Arc<Self>,
        request: GateRequest,
        limits: &QueueLimits,
        now: Instant,
    ) -> AdmissionDecision {
        let mut turns = lock(&self.state.turns);
        let saturation = self.saturation(now);
        let ahead = turns.queue.ahead_of(request.priority, request.tenant);
        let decided = |verdict| AdmissionDecision { verdict, saturation, ahead };
        if turns.queue.is_empty() && saturation < 1.0 {
            return decided(AdmissionVerdict::Pass(AdmissionPermit::new(&self.state)));
        }
        if request.priority < 0 {
            return decided(AdmissionVerdict::Refuse(AdmissionRefusal::Saturated));
        }
        let (go, turn) = oneshot::channel();
        let queued =
            turns.queue.push(request, Waiter { gate: Arc::clone(self), go }, QueueBounds::of(limits));
        drop(turns);
        let Some(Queued { ticket, displaced }) = queued else {
            return decided(AdmissionVerdict::Refuse(AdmissionRefusal::QueueFull));
        };
        // Each hears of it by the end of its channel.
        drop(displaced);
        decided(AdmissionVerdict::Wait(QueuedRequest { state: Arc::clone(&self.state), ticket, turn }))
    }

    /// Says what would become of a request at `now`; nothing comes of it.
    pub fn forecast(&self, request: GateRequest, limits: &QueueLimits, now: Instant) -> AdmissionForecast {
        let saturation = self.saturation(now);
        let turns = lock(&self.state.turns);
        let queue = &turns.queue;
        let has_room = queue.is_empty() && saturation < 1.0;
        let refusal = match () {
            () if has_room => None,
            () if request.priority < 0 => Some(AdmissionRefusal::Saturated),
            () if !queue.takes(request, QueueBounds::of(limits)) => Some(AdmissionRefusal::QueueFull),
            () => None,
        };
        let (ahead, of_tenant) = (
            queue.ahead_of(request.priority, request.tenant),
            queue.of_tenant(request.priority, request.tenant),
        );
        let queued = queue.lengths();
        drop(turns);
        AdmissionForecast {
            saturation,
            refusal,
            waits: !has_room && refusal.is_none(),
            ahead,
            of_tenant,
            queued,
            expected_wait: (!has_room).then(|| self.expected_wait(now)),
        }
    }

    /// Whether a request of negative priority would be refused at `now`.
    pub fn sheds(&self, now: Instant) -> bool {
        let is_waited_for = !lock(&self.state.turns).queue.is_empty();
        is_waited_for || self.saturation(now) >= 1.0
    }

    /// How saturated the pool is at `now`: wholly from 1 on.
    pub fn saturation(&self, now: Instant) -> f64 {
        self.saturation_with(now, false)
    }

    /// How many requests wait for the pool, by their priorities, the highest first.
    pub fn queue_lengths(&self) -> Vec<(i32, usize)> {
        lock(&self.state.turns).queue.lengths()
    }

    /// In what time a request that came at `now` could be let go, by how fast requests end.
    pub fn expected_wait(&self, now: Instant) -> Duration {
        let queued = lock(&self.state.turns).queue.len() as f64;
        let waiting: f64 = self.candidates(now).iter().flatten().map(|view| view.engine_load().waiting).sum();
        let rate = lock(&self.state.drained).per_second(now);
        let wait = rate.map_or(UNKNOWN_WAIT, |rate| {
            Duration::try_from_secs_f64((queued + waiting + 1.0) / rate).unwrap_or(LONGEST_WAIT)
        });
        wait.clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// Notes at `now` that a request of the pool has ended.
    pub(super) fn ended(&self, now: Instant) {
        lock(&self.state.drained).add(now);
        self.state.ended.notify_one();
    }

    fn saturation_with(&self, now: Instant, assumes_waiting: bool) -> f64 {
        let pending = self.state.pending.load(Ordering::Acquire);
        saturation(&self.candidates(now), &self.limits, AddedLoad { pending, assumes_waiting })
    }

    /// The members that requests go to by preference.
    fn candidates(&self, now: Instant) -> Candidates<'_> {
        // No model's name has this hash but by chance, so that no refusal of a model counts.
        Candidates::new(&self.members, &[], now).passing_over(0)
    }
}

/// How fast requests end, older ones counting less.
#[derive(Debug, Default)]
struct DrainRate {
    count: f64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl DrainRate {
    fn add(&mut self, now: Instant) {
        self.count = self.faded(now) + 1.0;
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn faded(&self, now: Instant) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let halves = now.saturating_duration_since(last).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.count * (-halves).exp2()
    }

    /// `None` where none has ended for long.
    fn per_second(&self, now: Instant) -> Option<f64> {
        let since = now.saturating_duration_since(self.first?).as_secs_f64().max(1.0);
        let mean_life = HALF_LIFE.as_secs_f64() / std::f64::consts::LN_2;
        // What a steady rate of 1 would have left by now.
        let of_one = mean_life * (1.0 - (-since / mean_life).exp());
        let rate = self.faded(now) / of_one;
        (rate > 1e-3).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Endpoint, EngineMetrics, PickRequest, Pool};
    use crate::policy::{Balance, PoolLimits, Saturation};

    fn pool(max_in_flight: Option<u32>) -> Arc<Pool> {
        let endpoint = Endpoint::new(([10, 0, 0, 1], 80).into(), "a:80".into());
        let limits =
            PoolLimits { max_in_flight, saturation: Some(Saturation::default()), ..PoolLimits::default() };
        let members = vec![PoolMember { endpoint, weight: 1 }];
        Arc::new(Pool::new(&Balance::LeastRequest, limits, members, None))
    }

    fn gate(pool: &Pool) -> &Arc<AdmissionGate> {
        pool.gate().expect("it is judged")
    }

    fn says(pool: &Pool, waiting: f32) {
        let metrics = EngineMetrics { waiting: Some(waiting), ..EngineMetrics::new(Instant::now()) };
        pool.members()[0].endpoint.note_engine_metrics(metrics);
    }

    fn admit(pool: &Arc<Pool>, priority: i32) -> AdmissionVerdict {
        let request = GateRequest { priority, tenant: 0, bytes: 1 };
        let forecast = gate(pool).forecast(request, &QueueLimits::default(), Instant::now());
        let decision = gate(pool).admit(request, &QueueLimits::default(), Instant::now());
        assert_eq!((forecast.saturation, forecast.ahead), (decision.saturation, decision.ahead));
        match &decision.verdict {
            AdmissionVerdict::Pass(_) => assert!(!forecast.waits && forecast.refusal.is_none()),
            AdmissionVerdict::Wait(_) => assert!(forecast.waits && forecast.refusal.is_none()),
            AdmissionVerdict::Refuse(why) => assert_eq!(forecast.refusal, Some(*why)),
        }
        decision.verdict
    }

    fn queued(verdict: AdmissionVerdict) -> QueuedRequest {
        match verdict {
            AdmissionVerdict::Wait(queued) => queued,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_saturated_pool_refuses_what_gives_way_and_lets_the_rest_wait() {
        let pool = pool(None);
        assert!(matches!(admit(&pool, -1), AdmissionVerdict::Pass(_)), "nothing is known of it");
        says(&pool, 5.0);
        assert!(matches!(admit(&pool, -1), AdmissionVerdict::Refuse(AdmissionRefusal::Saturated)));
        let (mut low, mut high) = (queued(admit(&pool, 0)), queued(admit(&pool, 9)));
        assert_eq!(gate(&pool).queue_lengths(), [(9, 1), (0, 1)]);
        says(&pool, 4.0);
        let permit = high.turn().await.unwrap();
        assert_eq!(gate(&pool).queue_lengths(), [(0, 1)], "the one that was let go takes the room");
        assert!(gate(&pool).sheds(Instant::now()), "as long as others wait");
        says(&pool, 0.0);
        drop(low.turn().await.unwrap());
        drop(permit);
        assert_eq!((gate(&pool).queue_lengths().len(), gate(&pool).saturation(Instant::now())), (0, 0.0));
    }

    #[tokio::test]
    async fn a_lease_that_ends_lets_the_next_go_and_one_that_leaves_is_forgotten() {
        let pool = pool(Some(1));
        let lease = pool.lease(&PickRequest::default(), &[], Instant::now()).unwrap();
        let (left, mut next) = (queued(admit(&pool, 0)), queued(admit(&pool, 0)));
        drop(left);
        assert_eq!(gate(&pool).queue_lengths(), [(0, 1)]);
        let (permit, ()) = tokio::join!(next.turn(), async { drop(lease) });
        assert!(permit.is_ok());
    }

    #[test]
    fn the_rate_at_which_requests_end_is_known_soon_and_forgotten_late() {
        let (mut rate, start) = (DrainRate::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(rate.per_second(at(0)), None);
        for (until, least, most) in [(2_000, 8.0, 12.0), (60_000, 9.0, 11.0)] {
            let mut now = 0;
            rate = DrainRate::default();
            while now < until {
                rate.add(at(now));
                now += 100;
            }
            let read = rate.per_second(at(until)).unwrap();
            assert!((least..most).contains(&read), "{read} after {until} ms");
        }
        assert_eq!(rate.per_second(at(600_000)), None);
    }
}
