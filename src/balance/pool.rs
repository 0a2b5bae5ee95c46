//! Owns one upstream's members, and the leases that requests hold on them.
//! Refuses to know how a member is chosen, what a request is and what counts as its success or failure.

mod lease;
mod tokens;

pub use lease::Lease;
use lease::{LeaseGrounds, LeaseTerms};

use super::admission::AdmissionGate;
use super::endpoint::{Endpoint, PoolMember};
use super::lock;
use super::members::{EndpointForecast, merged, weighted};
use super::outlier::OutlierDetector;
use super::picker::{Candidates, ChosenEndpoint, PickRequest, Picker, ReplicaForecast};
use super::prompt_tokens::PromptTokens;
use super::rendezvous::hash_key;
use crate::policy::{Balance, PoolLimits};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::cell::RefCell;
use std::net::SocketAddr;

use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

/// One upstream: its members and the state of the choice among them, built anew for each snapshot.
#[derive(Debug)]
pub struct Pool {
    members: Arc<[PoolMember]>,
    picker: Picker,
    limits: PoolLimits,
    /// Judges who may go here, where that is judged.
    gate: Option<Arc<AdmissionGate>>,
    generation: u64,
    detector: Arc<Mutex<OutlierDetector>>,
    activated: Once,
    /// The tokens of prompts' beginnings, where engines are listened to.
    tokens: Arc<PromptTokens>,
}

thread_local! {
    static RNG: RefCell<SmallRng> = RefCell::new(SmallRng::from_rng(&mut rand::rng()));
}

impl Pool {
    /// Builds a pool; a member that names the same endpoint as an earlier one adds its weight to that.
    ///
    /// The caller passes the same `Arc<Endpoint>` for an address that stays, with its counts and health. From
    /// `previous` come the state of its picker and the outlier detector, which judges by the new pool from its first
    /// lease or count on: a pool that is built but never used changes nothing.
    pub fn new(
        balance: &Balance,
        limits: impl Into<PoolLimits>,
        members: Vec<PoolMember>,
        previous: Option<&Self>,
    ) -> Self {
        let (members, limits): (Arc<[PoolMember]>, PoolLimits) = (merged(members).into(), limits.into());
        let unused = || Arc::new(Mutex::new(OutlierDetector::new(0, limits.ejection, Vec::new())));
        let gate = AdmissionGate::new(&members, limits, previous.and_then(|pool| pool.gate.as_ref()));
        let (before, detector) =
            previous.map_or_else(|| (0, unused()), |pool| (pool.generation, pool.detector.clone()));
        Self {
            picker: Picker::new(balance, &members, previous.map(|pool| (&pool.picker, &*pool.members))),
            members,
            limits,
            gate,
            generation: before + 1,
            detector,
            activated: Once::new(),
            tokens: previous.map_or_else(Arc::default, |pool| Arc::clone(&pool.tokens)),
        }
    }

    /// What judges who may go here; `None` where nobody waits for it.
    pub fn gate(&self) -> Option<&Arc<AdmissionGate>> {
        self.gate.as_ref()
    }

    /// Leases an available member for one request; `None` when there is none.
    ///
    /// Available is a member that is up, not ejected at `now`, has a weight and fewer requests than it may have, and is not
    /// in `tried`. There is no panic mode as Envoy has it: where no member is available, none is chosen. Members that refused the model, or fail and
    /// may not be ejected, are the last resort.
    pub fn lease(
        self: &Arc<Self>,
        request: &PickRequest<'_>,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<Lease> {
        self.lease_preferred(request, tried, now)
            .or_else(|| self.lease_among(request, &self.candidates(tried, now), now))
    }

    /// As [`Self::lease`], but without the last resort.
    pub fn lease_preferred(
        self: &Arc<Self>,
        request: &PickRequest<'_>,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<Lease> {
        let model = hash_key(request.model.as_bytes());
        let candidates = self.candidates(tried, now).passing_over(model);
        self.lease_among(request, &candidates, now)
    }

    /// Leases the member at `addr`, which was chosen elsewhere; `None` where there is none, or it may not be leased.
    pub fn lease_at(
        self: &Arc<Self>,
        addr: SocketAddr,
        request: &PickRequest<'_>,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<Lease> {
        self.activate(now);
        let place = self.candidates(tried, now).place_of(addr)?;
        if !self.members[place].endpoint.enter(self.limits.max_in_flight) {
            return None;
        }
        let model = hash_key(request.model.as_bytes());
        let terms = LeaseTerms { model, grounds: LeaseGrounds::default(), streams: request.streams, now };
        Some(Lease::new(self.clone(), place, terms))
    }

    /// Whether the member at `addr` could be leased at `now`.
    pub fn can_lease(&self, addr: SocketAddr, tried: &[SocketAddr], now: Instant) -> bool {
        self.candidates(tried, now).place_of(addr).is_some()
    }

    /// The addresses of the members that could be leased at `now`.
    pub fn available_addresses(&self, tried: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        self.activate(now);
        let candidates = self.candidates(tried, now);
        let places = (0..self.members.len()).filter(|place| candidates.contains(*place));
        places.map(|place| self.members[place].endpoint.addr()).collect()
    }

    fn lease_among(
        self: &Arc<Self>,
        request: &PickRequest<'_>,
        candidates: &Candidates<'_>,
        now: Instant,
    ) -> Option<Lease> {
        self.activate(now);
        let prompt = request.prompt.filter(|_| self.reads_prompt() || request.needs_work);
        let request = PickRequest { prompt, ..*request };
        let known = self.known_tokens(&request);
        let request = PickRequest { known: known.as_ref(), ..request };
        let owner = request.owner.and_then(|addr| candidates.place_of(addr));
        let owner = owner.map(ChosenEndpoint::without_margin).or_else(|| {
            let ReplicaForecast { endpoint, margin, is_cold, .. } = request.replica?;
            Some(ChosenEndpoint { place: candidates.place_of(endpoint)?, margin, is_cold })
        });
        // One member alone needs no choice.
        let pick = || match self.members.len() {
            1 => candidates.contains(0).then(|| ChosenEndpoint::without_margin(0)),
            _ => RNG.with_borrow_mut(|rng| self.picker.pick(&request, candidates, rng)),
        };
        // Once for each endpoint that others fill up between the choice and its lease.
        for _ in 0..self.members.len() {
            let best = owner.filter(|owner| candidates.contains(owner.place)).or_else(pick)?;
            let Some(view) = candidates.get(best.place) else { continue };
            if self.members[best.place].endpoint.enter(self.limits.max_in_flight) {
                let before = request.prompt.map(|_prompt| view.work_to_first_token(0));
                let work = view.send(&request);
                let expected = before.zip(work).map(|(before, work)| before + f64::from(work.uncached));
                let model = hash_key(request.model.as_bytes());
                let rank = view.enter_rank(&request);
                if best.is_cold {
                    self.picker.note_cold(view);
                }
                let grounds = LeaseGrounds { work, expected, margin: best.margin, rank };
                let terms = LeaseTerms { model, grounds, streams: request.streams, now };
                return Some(Lease::new(self.clone(), best.place, terms));
            }
        }
        None
    }

    /// The members for a request that has been to `tried` already.
    fn candidates<'a>(&'a self, tried: &'a [SocketAddr], now: Instant) -> Candidates<'a> {
        Candidates::new(&self.members, tried, now).limited_to(self.limits.max_in_flight)
    }

    /// Whether members are available at `now`, and all of them have as many requests as they may.
    pub fn is_full(&self, now: Instant) -> bool {
        let Some(most) = self.limits.max_in_flight else { return false };
        let available = |member: &&PoolMember| member.weight > 0 && member.endpoint.available(now);
        let mut members = self.members.iter().filter(available).peekable();
        members.peek().is_some() && members.all(|member| member.endpoint.in_flight() >= most)
    }

    /// What the endpoints are held against each other by for a request, which is not sent; in the order of the members.
    pub fn forecast(&self, request: &PickRequest<'_>, now: Instant) -> Vec<EndpointForecast> {
        let candidates = self.candidates(&[], now).passing_over(hash_key(request.model.as_bytes()));
        let known = self.known_tokens(request);
        let request = &PickRequest { known: known.as_ref(), ..*request };
        let standings = self.picker.standings(request, &candidates);
        let of = |(place, member): (usize, &PoolMember)| {
            let view = candidates.get(place);
            EndpointForecast {
                endpoint: Arc::clone(&member.endpoint),
                is_available: view.is_some(),
                uncached: view
                    .filter(|_| self.picker.reads_prompt())
                    .map(|view| request.uncached(view.matched(request.blocks()))),
                load: view.map(|view| view.engine_load()),
                standing: standings.iter().find(|(at, _)| *at == place).map(|(_, standing)| *standing),
            }
        };
        self.members.iter().enumerate().map(of).collect()
    }

    /// The member that would get a request, as it stands for it; `None` where the choice does not go by the work before the
    /// first token, or no member is available.
    pub fn best_replica(&self, request: &PickRequest<'_>, now: Instant) -> Option<ReplicaForecast> {
        if !self.picker.reads_prompt() {
            return None;
        }
        let candidates = self.candidates(&[], now).passing_over(hash_key(request.model.as_bytes()));
        let known = self.known_tokens(request);
        let request = &PickRequest { known: known.as_ref(), ..*request };
        let best = RNG.with_borrow_mut(|rng| self.picker.pick(request, &candidates, rng))?;
        let view = candidates.get(best.place)?;
        let uncached = request.uncached(view.matched(request.blocks()));
        Some(ReplicaForecast {
            endpoint: view.addr(),
            work: view.work_to_first_token(uncached),
            cached: request.prompt.map_or(0, |prompt| prompt.tokens().saturating_sub(uncached)),
            in_flight: view.in_flight(),
            margin: best.margin,
            is_cold: best.is_cold,
        })
    }

    /// Whether the choice goes by the prompt; where there is no choice it need not be read.
    pub fn reads_prompt(&self) -> bool {
        self.members.len() > 1 && self.picker.reads_prompt()
    }

    /// In what time the first of the ejected members returns; `None` where none is ejected at `now`.
    pub fn next_return(&self, now: Instant) -> Option<Duration> {
        let ejected = self.members.iter().filter_map(|member| member.endpoint.ejected_until(now));
        Some(ejected.min()?.saturating_duration_since(now))
    }

    /// The members, those with weight 0 too.
    pub fn members(&self) -> &[PoolMember] {
        &self.members
    }

    /// How many members could be leased at `now`.
    pub fn available(&self, now: Instant) -> usize {
        self.activate(now);
        self.members.iter().filter(|member| member.weight > 0 && member.endpoint.available(now)).count()
    }

    /// Records that a request sent to `endpoint` at `taken` failed; `Some` when that ejected it.
    fn failed(&self, endpoint: &Arc<Endpoint>, taken: Instant, now: Instant) -> Option<Duration> {
        lock(&self.detector).failed(endpoint, taken, now)
    }

    /// Records how long the first token of a stream took; `Some` when that ejected the endpoint.
    fn first_token(&self, endpoint: &Arc<Endpoint>, ttft: Duration, now: Instant) -> Option<Duration> {
        self.limits.ejection.filter(|rule| rule.slow_factor > 0)?;
        lock(&self.detector).first_token(endpoint, ttft, now)
    }

    /// Makes this pool the one that ejections are judged by, unless a newer one is already.
    fn activate(&self, now: Instant) {
        self.activated.call_once(|| {
            let own = OutlierDetector::new(self.generation, self.limits.ejection, weighted(&self.members));
            lock(&self.detector).replace_with(own, now);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{BasisPoints, Ejection, HashKey};
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use std::thread;

    static STRATEGIES: [Balance; 4] = [
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Hash(HashKey::Field(String::new())),
        Balance::Auto,
    ];
    const RULE: Ejection = Ejection {
        consecutive_failures: 2,
        base: Duration::from_secs(10),
        max: Duration::from_secs(60),
        max_share: BasisPoints(5_000),
        slow_factor: 0,
    };

    /// The requests at a time of an endpoint that was ejected and is back.
    const PROBATION: usize = 3;

    fn endpoints(count: u8) -> Vec<Arc<Endpoint>> {
        (0..count)
            .map(|last| Endpoint::new(([10, 0, 0, last], 8_000).into(), format!("pod-{last}:8000").into()))
            .collect()
    }

    fn weighted(endpoints: &[Arc<Endpoint>], weights: &[u32]) -> Vec<PoolMember> {
        let pairs = endpoints.iter().cloned().zip(weights.iter().copied());
        pairs.map(|(endpoint, weight)| PoolMember { endpoint, weight }).collect()
    }

    fn pool(balance: &Balance, members: Vec<PoolMember>) -> Arc<Pool> {
        Arc::new(Pool::new(balance, Some(RULE), members, None))
    }

    fn successor(pool: &Pool, balance: &Balance, members: Vec<PoolMember>) -> Arc<Pool> {
        Arc::new(Pool::new(balance, pool.limits, members, Some(pool)))
    }

    fn keyed(key: Option<u64>) -> PickRequest<'static> {
        PickRequest { key, ..PickRequest::default() }
    }

    fn take_down(endpoint: &Endpoint) {
        let at_once = crate::policy::Health { healthy_after: 1, unhealthy_after: 1, ..Default::default() };
        endpoint.checked(false, &at_once);
    }

    fn picked(pool: &Arc<Pool>, now: Instant) -> u8 {
        match pool.lease(&keyed(None), &[], now).expect("one is available").endpoint().addr().ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => unreachable!("tests use IPv4"),
        }
    }

    fn ejected(pool: &Pool, now: Instant) -> usize {
        pool.members.iter().filter(|member| member.endpoint.ejected(now)).count()
    }

    #[test]
    fn no_endpoint_gets_more_requests_than_it_may_have_however_many_ask_at_once() {
        let now = Instant::now();
        let all = endpoints(3);
        for balance in &STRATEGIES {
            let limits = PoolLimits { max_in_flight: Some(4), ..PoolLimits::default() };
            let pool = Arc::new(Pool::new(balance, limits, weighted(&all, &[1, 1, 5]), None));
            let leases: Vec<Lease> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|at| {
                        let pool = &pool;
                        scope.spawn(move || {
                            (0..6).filter_map(|_| pool.lease(&keyed(Some(at)), &[], now)).collect::<Vec<_>>()
                        })
                    })
                    .collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(leases.len(), 12, "{balance:?}");
            assert!(pool.is_full(now) && all.iter().all(|endpoint| endpoint.in_flight() == 4));
            drop(leases);
            assert!(!pool.is_full(now) && all.iter().all(|endpoint| endpoint.in_flight() == 0));
        }
    }

    #[test]
    fn one_that_was_ejected_gets_a_few_requests_until_one_has_gone_well() {
        let (now, all) = (Instant::now(), endpoints(2));
        let pool = pool(&Balance::RoundRobin, weighted(&all, &[1, 1]));
        let lease = |at| pool.lease(&keyed(None), &[], at).expect("one is available");
        let on_first =
            |leases: &[Lease]| leases.iter().filter(|one| Arc::ptr_eq(one.endpoint(), &all[0])).count();
        for _ in 0..2 {
            let bad = pool.lease(&keyed(None), &[all[1].addr()], now).expect("the first");
            bad.failed(now);
        }
        assert!(all[0].ejected(now));
        let back = now + RULE.base;
        let held: Vec<Lease> = (0..20).map(|_| lease(back)).collect();
        assert_eq!(on_first(&held), PROBATION);
        let last = pool.lease(&keyed(None), &[all[1].addr()], back);
        assert!(last.is_some(), "where there is no other, more");
        drop(last);
        held.iter().find(|one| Arc::ptr_eq(one.endpoint(), &all[0])).expect("three").succeeded();
        let after: Vec<Lease> = (0..20).map(|_| lease(back)).collect();
        assert_eq!(on_first(&after), 10);
    }

    #[test]
    fn no_endpoint_is_leased_where_none_is_available() {
        let now = Instant::now();
        for balance in &STRATEGIES {
            assert!(pool(balance, Vec::new()).lease(&keyed(Some(1)), &[], now).is_none());
            let three = endpoints(3);
            let all = pool(balance, weighted(&three, &[1, 1, 0]));
            assert!(all.lease(&keyed(Some(1)), &[three[0].addr(), three[1].addr()], now).is_none());
            for endpoint in &three {
                take_down(endpoint);
            }
            assert!(all.lease(&keyed(Some(1)), &[], now).is_none(), "there is no panic mode");
            assert_eq!(all.available(now), 0);
        }
    }

    #[test]
    fn a_reload_keeps_the_turns_of_round_robin() {
        let (now, three) = (Instant::now(), endpoints(3));
        let fresh = || pool(&Balance::RoundRobin, weighted(&three, &[5, 2, 1]));
        let (whole, mut reloaded) = (fresh(), fresh());
        for _ in 0..24 {
            assert_eq!(picked(&whole, now), picked(&reloaded, now));
            reloaded = successor(&reloaded, &Balance::RoundRobin, weighted(&three, &[5, 2, 1]));
        }
    }

    #[test]
    fn old_debts_do_not_become_a_burst_under_new_weights() {
        let (now, two) = (Instant::now(), endpoints(2));
        let heavy = pool(&Balance::RoundRobin, weighted(&two, &[1_000_000, 1_000_000]));
        picked(&heavy, now);
        let light = successor(&heavy, &Balance::RoundRobin, weighted(&two, &[1, 1]));
        let first = (0..10).filter(|_| picked(&light, now) == 0).count();
        assert_eq!(first, 5);
    }

    #[test]
    fn one_endpoint_named_twice_is_one_member_with_both_weights() {
        let (now, two) = (Instant::now(), endpoints(2));
        let twice = [two[0].clone(), two[1].clone(), two[0].clone()];
        let pool = pool(&Balance::RoundRobin, weighted(&twice, &[1, 1, 2]));
        assert_eq!(pool.members().len(), 2);
        assert_eq!((0..40).filter(|_| picked(&pool, now) == 0).count(), 30);
    }

    #[test]
    fn a_key_stays_until_its_endpoint_goes_and_comes_back_with_it() {
        let (start, pool) = (Instant::now(), pool(&STRATEGIES[2], weighted(&endpoints(8), &[1; 8])));
        let home = |now, tried: &[SocketAddr]| {
            pool.lease(&keyed(Some(42)), tried, now).expect("available").endpoint().addr()
        };
        let first = home(start, &[]);
        assert!((0..20).all(|_| home(start, &[]) == first));
        let second = home(start, &[first]);
        assert_ne!(first, second);
        for _ in 0..2 {
            pool.lease(&keyed(Some(42)), &[], start).expect("available").failed(start);
        }
        assert_eq!(home(start, &[]), second);
        assert_eq!(home(start + RULE.base, &[]), first);
    }

    #[test]
    fn an_ejected_endpoint_recovers_on_probation() {
        let (start, two) = (Instant::now(), endpoints(2));
        let at = |seconds| start + Duration::from_secs(seconds);
        let pool = pool(&Balance::RoundRobin, weighted(&two, &[1, 1]));
        let fail_first = |now| pool.lease(&keyed(None), &[two[1].addr()], now)?.failed(now);
        assert_eq!(fail_first(at(0)), None);
        assert_eq!(fail_first(at(0)).map(|wait| wait.as_secs()), Some(10));
        assert!((0..4).all(|_| picked(&pool, at(9)) == 1));
        assert_eq!(pool.available(at(9)), 1);
        assert_eq!(fail_first(at(10)).map(|wait| wait.as_secs()), Some(20), "one failure on probation");
        assert_eq!((pool.available(at(29)), pool.available(at(30))), (1, 2));
        pool.lease(&keyed(None), &[two[1].addr()], at(30)).expect("on probation").succeeded();
        assert_eq!(fail_first(at(31)), None, "the probation was won");
    }

    #[test]
    fn the_only_endpoint_is_not_ejected_unless_the_share_is_the_whole() {
        for (max_share, goes) in [(5_000, false), (9_999, false), (10_000, true)] {
            let (now, rule) = (Instant::now(), Ejection { max_share: BasisPoints(max_share), ..RULE });
            let members = weighted(&endpoints(2), &[1, 0]);
            let pool = Arc::new(Pool::new(&Balance::LeastRequest, Some(rule), members, None));
            for _ in 0..2 {
                pool.lease(&keyed(None), &[], now).expect("available").failed(now);
            }
            assert_eq!(pool.available(now) == 0, goes);
        }
    }

    #[test]
    fn a_lease_fails_once_and_does_not_succeed_after() {
        let (now, pool) = (Instant::now(), pool(&Balance::RoundRobin, weighted(&endpoints(2), &[1, 1])));
        let lease = pool.lease(&keyed(None), &[], now).expect("available");
        assert_eq!((lease.failed(now), lease.failed(now), lease.failed(now)), (None, None, None));
        lease.succeeded();
        let other = lease.endpoint().addr();
        let again = [pool.lease(&keyed(None), &[], now), pool.lease(&keyed(None), &[], now)];
        let again = again.into_iter().flatten().find(|lease| lease.endpoint().addr() == other);
        assert!(again.expect("round robin comes by").failed(now).is_some(), "the first failure still counts");
    }

    #[test]
    fn a_pool_that_is_never_used_changes_nothing() {
        let (now, four) = (Instant::now(), endpoints(4));
        let live = pool(&Balance::RoundRobin, weighted(&four, &[1; 4]));
        assert_eq!(live.available(now), 4);
        for endpoint in &four[..2] {
            live.failed(endpoint, now, now);
            assert!(live.failed(endpoint, now, now).is_some());
        }
        let next = successor(&live, &Balance::RoundRobin, weighted(&four[..2], &[1; 2]));
        assert_eq!(live.available(now), 2);
        assert_eq!(next.available(now), 1, "half of the smaller pool is one");
        assert_eq!(live.available(now), 3);
    }

    #[test]
    fn an_older_pool_is_not_activated_again() {
        let (now, four) = (Instant::now(), endpoints(4));
        let old = pool(&Balance::RoundRobin, weighted(&four, &[1; 4]));
        let new = successor(&old, &Balance::RoundRobin, weighted(&four[..2], &[1; 2]));
        assert_eq!((new.available(now), old.available(now)), (2, 4));
        let fail_twice = |endpoint| (old.failed(endpoint, now, now), old.failed(endpoint, now, now)).1;
        let ejected: Vec<_> = four.iter().map(|endpoint| fail_twice(endpoint).is_some()).collect();
        assert_eq!(ejected, [true, false, false, false], "judged by the newer pool of two");
    }

    #[test]
    fn threads_leave_no_lease_behind() {
        for balance in &STRATEGIES {
            let (now, pool) = (Instant::now(), pool(balance, weighted(&endpoints(5), &[1, 2, 3, 4, 5])));
            thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let pool = &pool;
                    scope.spawn(move || {
                        let mut held = Vec::new();
                        for step in 0..2_000 {
                            held.extend(pool.lease(&keyed(Some(step * 31 + thread)), &[], now));
                            if step % 7 == thread {
                                held.clear();
                            }
                        }
                        assert_eq!(pool.available(now), 5);
                    });
                }
            });
            assert!(pool.members().iter().all(|member| member.endpoint.in_flight() == 0));
        }
    }

    #[test]
    fn threads_share_turns_exactly() {
        let (now, pool) = (Instant::now(), pool(&Balance::RoundRobin, weighted(&endpoints(3), &[5, 3, 2])));
        let counts = thread::scope(|scope| {
            let run =
                || scope.spawn(|| (0..500).map(|_| usize::from(picked(&pool, now))).collect::<Vec<_>>());
            let threads: Vec<_> = (0..4).map(|_| run()).collect();
            let mut counts = [0; 3];
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("no panic"))
                .for_each(|pick| counts[pick] += 1);
            counts
        });
        assert_eq!(counts, [1_000, 600, 400]);
    }

    #[test]
    fn threads_that_fail_everything_stay_under_the_cap() {
        let (now, pool) = (Instant::now(), pool(&Balance::LeastRequest, weighted(&endpoints(9), &[1; 9])));
        let fail = || {
            (0..300)
                .filter(|_| pool.lease(&keyed(None), &[], now).is_some_and(|l| l.failed(now).is_some()))
                .count()
        };
        let ejections = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(fail)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<usize>()
        });
        assert_eq!((ejections, ejected(&pool, now), pool.available(now)), (4, 4, 5));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Lease(u64),
        Drop(prop::sample::Index),
        Fail(prop::sample::Index),
        Succeed(prop::sample::Index),
        Wait(u64),
        Reload(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => any::<u64>().prop_map(Step::Lease),
            2 => any::<prop::sample::Index>().prop_map(Step::Drop),
            6 => any::<prop::sample::Index>().prop_map(Step::Fail),
            1 => any::<prop::sample::Index>().prop_map(Step::Succeed),
            2 => (0_u64..15).prop_map(Step::Wait),
            1 => any::<u8>().prop_map(Step::Reload),
        ];
        prop::collection::vec(step, 1..150)
    }

    proptest! {
        #[test]
        fn leases_are_counted_and_the_ejected_share_is_capped_whatever_happens(
            steps in steps(),
            balance in prop::sample::select(&STRATEGIES[..]),
            max_share in 0_u16..=10_000,
        ) {
            let (mut now, all, rule) = (Instant::now(), endpoints(8), Ejection { max_share: BasisPoints(max_share), ..RULE });
            let chosen = |mask: u8| -> Vec<PoolMember> {
                let some = all.iter().enumerate().filter(|(index, _)| mask >> index & 1 == 1);
                let some: Vec<_> = some.map(|(_, endpoint)| endpoint.clone()).collect();
                weighted(&some, &[1, 2, 3, 1, 2, 3, 1, 2])
            };
            let mut pool = Arc::new(Pool::new(&balance, Some(rule), chosen(255), None));
            let mut held: Vec<Lease> = Vec::new();
            for step in steps {
                match step {
                    Step::Lease(key) => held.extend(pool.lease(&keyed(Some(key)), &[], now)),
                    Step::Drop(index) if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                    Step::Fail(index) if !held.is_empty() => {
                        let lease = &held[index.index(held.len())];
                        let wait = lease.failed(now);
                        prop_assert_eq!(wait.is_some_and(|wait| wait.is_zero()), false);
                        prop_assert!(wait.is_none() || lease.endpoint().ejected(now));
                    }
                    Step::Succeed(index) if !held.is_empty() => held[index.index(held.len())].succeeded(),
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Reload(mask) => pool = successor(&pool, &balance, chosen(mask)),
                    Step::Drop(_) | Step::Fail(_) | Step::Succeed(_) => {}
                }
                let members = pool.members.len();
                let available = pool.available(now);
                prop_assert_eq!(available, members - ejected(&pool, now));
                let share = members * usize::from(max_share) / 10_000;
                let one = usize::from(members > 1 && max_share > 0);
                prop_assert!(members - available <= share.max(one));
                for endpoint in &all {
                    let leases = held.iter().filter(|lease| Arc::ptr_eq(lease.endpoint(), endpoint)).count();
                    prop_assert_eq!(endpoint.in_flight() as usize, leases);
                }
            }
            held.clear();
            prop_assert!(all.iter().all(|endpoint| endpoint.in_flight() == 0));
        }

        #[test]
        fn only_available_and_untried_members_are_leased(
            members in prop::collection::vec((0_u32..4, any::<bool>(), any::<bool>(), any::<bool>()), 0..20),
            balance in prop::sample::select(&STRATEGIES[..]),
            key in prop::option::of(any::<u64>()),
            seed in any::<u64>(),
        ) {
            let now = Instant::now();
            let all = endpoints(u8::try_from(members.len()).expect("few"));
            let weights: Vec<_> = members.iter().map(|member| member.0).collect();
            let pool = pool(&balance, weighted(&all, &weights));
            let mut tried = Vec::new();
            pool.activate(now);
            for (endpoint, (_, up, out, was_tried)) in all.iter().zip(&members) {
                if !up { take_down(endpoint) }
                if *out { endpoint.eject(now, &RULE); }
                if *was_tried { tried.push(endpoint.addr()) }
            }
            let good = |(weight, up, out, tried): (u32, bool, bool, bool)| weight > 0 && up && !out && !tried;
            let any = members.iter().any(|member| good(*member));
            let mut rng = SmallRng::seed_from_u64(seed);
            for _ in 0..10 {
                let candidates = Candidates::new(&pool.members, &tried, now);
                let chosen = pool.picker.pick(&keyed(key), &candidates, &mut rng).map(|chosen| chosen.place);
                prop_assert_eq!(chosen.is_some(), any);
                prop_assert!(chosen.is_none_or(|index| good(members[index])));
            }
        }
    }
}
