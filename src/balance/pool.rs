//! Owns one upstream's members and who of them takes the next request.
//! Refuses to know what a request is: it is a key, the addresses tried already and a moment.

use super::choice::{Entrant, Odds, Turns, rendezvous};
use super::ejection::{Ejection, Roster};
use super::endpoint::Endpoint;
use super::lease::Lease;
use super::lock;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

/// How a pool chooses among its available members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Smooth weighted round robin: exact shares by weight in the long run, never in blocks.
    ///
    /// Takes a lock for the time of one pass over the members; `benches/pick.rs` measures it alone and contended.
    RoundRobin,
    /// The less loaded of two members drawn by weight.
    LeastRequest,
    /// The same member for the same key; least request without a key.
    Hash,
}

/// One endpoint and its share of the pool's requests.
#[derive(Clone, Debug)]
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its share relative to the other members'; 0 takes no new requests.
    pub weight: u32,
}

/// One upstream: its members and the state of the choice among them, built anew for each snapshot.
#[derive(Debug)]
pub struct Pool {
    strategy: Strategy,
    members: Vec<Member>,
    weights: Vec<u32>,
    entrants: Vec<Entrant>,
    odds: Odds,
    turns: Mutex<Turns>,
    ejection: Ejection,
    generation: u64,
    roster: Arc<Mutex<Roster>>,
    seated: Once,
}

thread_local! {
    static RNG: RefCell<SmallRng> = RefCell::new(SmallRng::from_rng(&mut rand::rng()));
}

impl Pool {
    /// Builds a pool; a member that names the same endpoint as an earlier one adds its weight to that.
    ///
    /// The caller passes the same `Arc<Endpoint>` for an address that stays, with its counts and health. From
    /// `previous` come whose turn it is and the hold on the cap for ejections; the hold passes on with the
    /// first lease or count, so that a pool that is built but never used changes nothing.
    pub fn new(
        strategy: Strategy,
        ejection: Ejection,
        members: Vec<Member>,
        previous: Option<&Self>,
    ) -> Self {
        let members = merged(members);
        let weights: Vec<_> = members.iter().map(|member| member.weight).collect();
        let vacant = || Arc::new(Mutex::new(Roster::new(0, ejection.clone(), Vec::new())));
        let (before, roster) =
            previous.map_or_else(|| (0, vacant()), |pool| (pool.generation, pool.roster.clone()));
        Self {
            strategy,
            odds: Odds::new(&weights),
            turns: Mutex::new(Turns::new(credit(&members, previous))),
            entrants: entrants(&members),
            members,
            weights,
            ejection,
            generation: before + 1,
            roster,
            seated: Once::new(),
        }
    }

    /// Leases an available member for one request; `None` when there is none.
    ///
    /// Available is a member that is up, not ejected at `now`, has a weight and is not in `tried`. There is
    /// no panic mode: nobody available is nobody chosen. `key` (see [`super::hash_key`]) matters to
    /// [`Strategy::Hash`] only.
    pub fn lease(self: &Arc<Self>, key: Option<u64>, tried: &[SocketAddr], now: Instant) -> Option<Lease> {
        let chosen = RNG.with_borrow_mut(|rng| self.choose(key, tried, now, rng))?;
        Some(Lease::new(self.clone(), chosen, now))
    }

    /// The members, those with weight 0 too.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many members could be leased at `now`.
    pub fn available(&self, now: Instant) -> usize {
        self.take_seat(now);
        self.members.iter().filter(|member| member.weight > 0 && member.endpoint.available(now)).count()
    }

    fn choose(
        &self,
        key: Option<u64>,
        tried: &[SocketAddr],
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        self.take_seat(now);
        let free = |index: usize| {
            let endpoint = &self.members[index].endpoint;
            endpoint.available(now) && !tried.contains(&endpoint.addr())
        };
        match (self.strategy, key) {
            (Strategy::RoundRobin, _) => lock(&self.turns).next(&self.weights, free),
            (Strategy::Hash, Some(key)) => rendezvous(key, &self.entrants, free),
            (Strategy::LeastRequest, _) | (Strategy::Hash, None) => {
                self.odds.choose(rng, free, |index| self.members[index].endpoint.in_flight())
            }
        }
    }

    /// Notes that a request sent to `endpoint` at `taken` failed; `Some` when that ejected it.
    pub(super) fn failed(&self, endpoint: &Arc<Endpoint>, taken: Instant, now: Instant) -> Option<Duration> {
        lock(&self.roster).failed(endpoint, taken, now)
    }

    /// Makes this pool the one that ejections are judged by, unless a newer one is already.
    fn take_seat(&self, now: Instant) {
        self.seated.call_once(|| {
            let own = Roster::new(self.generation, self.ejection.clone(), serving(&self.members));
            lock(&self.roster).succeed(own, now);
        });
    }
}

fn merged(members: Vec<Member>) -> Vec<Member> {
    let mut places = HashMap::with_capacity(members.len());
    let mut merged: Vec<Member> = Vec::with_capacity(members.len());
    for member in members {
        let place = *places.entry(Arc::as_ptr(&member.endpoint)).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(earlier) => earlier.weight = earlier.weight.saturating_add(member.weight),
            None => merged.push(member),
        }
    }
    merged
}

fn serving(members: &[Member]) -> Vec<Arc<Endpoint>> {
    members.iter().filter(|member| member.weight > 0).map(|member| member.endpoint.clone()).collect()
}

fn entrants(members: &[Member]) -> Vec<Entrant> {
    let seen = |member: &Member| Entrant { identity: member.endpoint.identity(), weight: member.weight };
    members.iter().map(seen).collect()
}

/// Each member's credit as it stood in `previous`, scaled to the new weights so that no old debt becomes a
/// burst.
fn credit(members: &[Member], previous: Option<&Pool>) -> Vec<i64> {
    let Some(previous) = previous else { return vec![0; members.len()] };
    let total = |members: &[Member]| members.iter().map(|member| i128::from(member.weight)).sum::<i128>();
    let (before, after) = (total(&previous.members).max(1), total(members));
    let turns = lock(&previous.turns);
    let old = previous.members.iter().zip(turns.credit());
    let old: HashMap<_, _> = old.map(|(member, credit)| (member.endpoint.addr(), *credit)).collect();
    let scaled = |member: &Member| {
        let credit = i128::from(old.get(&member.endpoint.addr()).copied().unwrap_or(0));
        i64::try_from(credit * after / before).unwrap_or(0)
    };
    members.iter().map(scaled).collect()
}

#[cfg(test)]
mod tests {
    use super::Strategy;
    use super::*;
    use proptest::prelude::{Strategy as _, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use std::thread;

    const STRATEGIES: [Strategy; 3] = [Strategy::RoundRobin, Strategy::LeastRequest, Strategy::Hash];
    const RULE: Ejection = Ejection {
        consecutive_failures: 2,
        base: Duration::from_secs(10),
        max: Duration::from_secs(60),
        max_share_bp: 5_000,
    };

    fn endpoints(count: u8) -> Vec<Arc<Endpoint>> {
        (0..count)
            .map(|last| Endpoint::new(([10, 0, 0, last], 8_000).into(), format!("pod-{last}:8000").into()))
            .collect()
    }

    fn weighted(endpoints: &[Arc<Endpoint>], weights: &[u32]) -> Vec<Member> {
        let pairs = endpoints.iter().cloned().zip(weights.iter().copied());
        pairs.map(|(endpoint, weight)| Member { endpoint, weight }).collect()
    }

    fn pool(strategy: Strategy, members: Vec<Member>) -> Arc<Pool> {
        Arc::new(Pool::new(strategy, RULE, members, None))
    }

    fn successor(pool: &Pool, members: Vec<Member>) -> Arc<Pool> {
        Arc::new(Pool::new(pool.strategy, pool.ejection.clone(), members, Some(pool)))
    }

    fn take_down(endpoint: &Endpoint) {
        let at_once = super::super::HealthThresholds { healthy_after: 1, unhealthy_after: 1 };
        endpoint.checked(false, &at_once);
    }

    fn picked(pool: &Arc<Pool>, now: Instant) -> u8 {
        match pool.lease(None, &[], now).expect("one is available").endpoint().addr().ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => unreachable!("tests use IPv4"),
        }
    }

    fn ejected(pool: &Pool, now: Instant) -> usize {
        pool.members.iter().filter(|member| member.endpoint.ejected(now)).count()
    }

    #[test]
    fn nobody_available_is_nobody_leased() {
        let now = Instant::now();
        for strategy in STRATEGIES {
            assert!(pool(strategy, Vec::new()).lease(Some(1), &[], now).is_none());
            let three = endpoints(3);
            let all = pool(strategy, weighted(&three, &[1, 1, 0]));
            assert!(all.lease(Some(1), &[three[0].addr(), three[1].addr()], now).is_none());
            for endpoint in &three {
                take_down(endpoint);
            }
            assert!(all.lease(Some(1), &[], now).is_none(), "there is no panic mode");
            assert_eq!(all.available(now), 0);
        }
    }

    #[test]
    fn a_reload_keeps_whose_turn_it_is() {
        let (now, three) = (Instant::now(), endpoints(3));
        let fresh = || pool(Strategy::RoundRobin, weighted(&three, &[5, 2, 1]));
        let (whole, mut reloaded) = (fresh(), fresh());
        for _ in 0..24 {
            assert_eq!(picked(&whole, now), picked(&reloaded, now));
            reloaded = successor(&reloaded, weighted(&three, &[5, 2, 1]));
        }
    }

    #[test]
    fn old_debts_do_not_become_a_burst_under_new_weights() {
        let (now, two) = (Instant::now(), endpoints(2));
        let heavy = pool(Strategy::RoundRobin, weighted(&two, &[1_000_000, 1_000_000]));
        picked(&heavy, now);
        let light = successor(&heavy, weighted(&two, &[1, 1]));
        let first = (0..10).filter(|_| picked(&light, now) == 0).count();
        assert_eq!(first, 5);
    }

    #[test]
    fn one_endpoint_named_twice_is_one_member_with_both_weights() {
        let (now, two) = (Instant::now(), endpoints(2));
        let twice = [two[0].clone(), two[1].clone(), two[0].clone()];
        let pool = pool(Strategy::RoundRobin, weighted(&twice, &[1, 1, 2]));
        assert_eq!(pool.members().len(), 2);
        assert_eq!((0..40).filter(|_| picked(&pool, now) == 0).count(), 30);
    }

    #[test]
    fn a_key_stays_until_its_endpoint_goes_and_comes_back_with_it() {
        let (start, pool) = (Instant::now(), pool(Strategy::Hash, weighted(&endpoints(8), &[1; 8])));
        let home = |now, tried: &[SocketAddr]| {
            pool.lease(Some(42), tried, now).expect("available").endpoint().addr()
        };
        let first = home(start, &[]);
        assert!((0..20).all(|_| home(start, &[]) == first));
        let second = home(start, &[first]);
        assert_ne!(first, second);
        for _ in 0..2 {
            pool.lease(Some(42), &[], start).expect("available").failed(start);
        }
        assert_eq!(home(start, &[]), second);
        assert_eq!(home(start + RULE.base, &[]), first);
    }

    #[test]
    fn an_ejected_endpoint_recovers_on_trial() {
        let (start, two) = (Instant::now(), endpoints(2));
        let at = |seconds| start + Duration::from_secs(seconds);
        let pool = pool(Strategy::RoundRobin, weighted(&two, &[1, 1]));
        let fail_first = |now| pool.lease(None, &[two[1].addr()], now)?.failed(now);
        assert_eq!(fail_first(at(0)), None);
        assert_eq!(fail_first(at(0)).map(|wait| wait.as_secs()), Some(10));
        assert!((0..4).all(|_| picked(&pool, at(9)) == 1));
        assert_eq!(pool.available(at(9)), 1);
        assert_eq!(fail_first(at(10)).map(|wait| wait.as_secs()), Some(20), "one failure on trial");
        assert_eq!((pool.available(at(29)), pool.available(at(30))), (1, 2));
        pool.lease(None, &[two[1].addr()], at(30)).expect("on trial").succeeded();
        assert_eq!(fail_first(at(31)), None, "the trial was won");
    }

    #[test]
    fn the_only_endpoint_is_not_ejected_unless_the_share_is_the_whole() {
        for (max_share_bp, goes) in [(5_000, false), (9_999, false), (10_000, true)] {
            let (now, rule) = (Instant::now(), Ejection { max_share_bp, ..RULE });
            let members = weighted(&endpoints(2), &[1, 0]);
            let pool = Arc::new(Pool::new(Strategy::LeastRequest, rule, members, None));
            for _ in 0..2 {
                pool.lease(None, &[], now).expect("available").failed(now);
            }
            assert_eq!(pool.available(now) == 0, goes);
        }
    }

    #[test]
    fn a_lease_fails_once_and_does_not_succeed_after() {
        let (now, pool) = (Instant::now(), pool(Strategy::RoundRobin, weighted(&endpoints(2), &[1, 1])));
        let lease = pool.lease(None, &[], now).expect("available");
        assert_eq!((lease.failed(now), lease.failed(now), lease.failed(now)), (None, None, None));
        lease.succeeded();
        let other = lease.endpoint().addr();
        let again = [pool.lease(None, &[], now), pool.lease(None, &[], now)];
        let again = again.into_iter().flatten().find(|lease| lease.endpoint().addr() == other);
        assert!(again.expect("round robin comes by").failed(now).is_some(), "the first failure still counts");
    }

    #[test]
    fn a_pool_that_is_never_used_changes_nothing() {
        let (now, four) = (Instant::now(), endpoints(4));
        let live = pool(Strategy::RoundRobin, weighted(&four, &[1; 4]));
        assert_eq!(live.available(now), 4);
        for endpoint in &four[..2] {
            live.failed(endpoint, now, now);
            assert!(live.failed(endpoint, now, now).is_some());
        }
        let next = successor(&live, weighted(&four[..2], &[1; 2]));
        assert_eq!(live.available(now), 2);
        assert_eq!(next.available(now), 1, "half of the smaller pool is one");
        assert_eq!(live.available(now), 3);
    }

    #[test]
    fn an_older_pool_does_not_take_the_seat_back() {
        let (now, four) = (Instant::now(), endpoints(4));
        let old = pool(Strategy::RoundRobin, weighted(&four, &[1; 4]));
        let new = successor(&old, weighted(&four[..2], &[1; 2]));
        assert_eq!((new.available(now), old.available(now)), (2, 4));
        let fail_twice = |endpoint| (old.failed(endpoint, now, now), old.failed(endpoint, now, now)).1;
        let ejected: Vec<_> = four.iter().map(|endpoint| fail_twice(endpoint).is_some()).collect();
        assert_eq!(ejected, [true, false, false, false], "judged by the newer pool of two");
    }

    #[test]
    fn threads_leave_no_lease_behind() {
        for strategy in STRATEGIES {
            let (now, pool) = (Instant::now(), pool(strategy, weighted(&endpoints(5), &[1, 2, 3, 4, 5])));
            thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let pool = &pool;
                    scope.spawn(move || {
                        let mut held = Vec::new();
                        for step in 0..2_000 {
                            held.extend(pool.lease(Some(step * 31 + thread), &[], now));
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
        let (now, pool) = (Instant::now(), pool(Strategy::RoundRobin, weighted(&endpoints(3), &[5, 3, 2])));
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
        let (now, pool) = (Instant::now(), pool(Strategy::LeastRequest, weighted(&endpoints(9), &[1; 9])));
        let fail = || {
            (0..300).filter(|_| pool.lease(None, &[], now).is_some_and(|l| l.failed(now).is_some())).count()
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

    fn steps() -> impl proptest::prelude::Strategy<Value = Vec<Step>> {
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
            strategy in prop::sample::select(&STRATEGIES[..]),
            max_share_bp in 0_u16..=10_000,
        ) {
            let (mut now, all, rule) = (Instant::now(), endpoints(8), Ejection { max_share_bp, ..RULE });
            let chosen = |mask: u8| -> Vec<Member> {
                let some = all.iter().enumerate().filter(|(index, _)| mask >> index & 1 == 1);
                let some: Vec<_> = some.map(|(_, endpoint)| endpoint.clone()).collect();
                weighted(&some, &[1, 2, 3, 1, 2, 3, 1, 2])
            };
            let mut pool = Arc::new(Pool::new(strategy, rule.clone(), chosen(255), None));
            let mut held: Vec<Lease> = Vec::new();
            for step in steps {
                match step {
                    Step::Lease(key) => held.extend(pool.lease(Some(key), &[], now)),
                    Step::Drop(index) if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                    Step::Fail(index) if !held.is_empty() => {
                        let lease = &held[index.index(held.len())];
                        let wait = lease.failed(now);
                        prop_assert_eq!(wait.is_some_and(|wait| wait.is_zero()), false);
                        prop_assert!(wait.is_none() || lease.endpoint().ejected(now));
                    }
                    Step::Succeed(index) if !held.is_empty() => held[index.index(held.len())].succeeded(),
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Reload(mask) => pool = successor(&pool, chosen(mask)),
                    Step::Drop(_) | Step::Fail(_) | Step::Succeed(_) => {}
                }
                let members = pool.members.len();
                let available = pool.available(now);
                prop_assert_eq!(available, members - ejected(&pool, now));
                let share = members * usize::from(max_share_bp) / 10_000;
                let one = usize::from(members > 1 && max_share_bp > 0);
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
            strategy in prop::sample::select(&STRATEGIES[..]),
            key in prop::option::of(any::<u64>()),
            seed in any::<u64>(),
        ) {
            let now = Instant::now();
            let all = endpoints(u8::try_from(members.len()).expect("few"));
            let weights: Vec<_> = members.iter().map(|member| member.0).collect();
            let pool = pool(strategy, weighted(&all, &weights));
            let mut tried = Vec::new();
            pool.take_seat(now);
            for (endpoint, (_, up, out, was_tried)) in all.iter().zip(&members) {
                if !up { take_down(endpoint) }
                if *out { endpoint.eject(now, &RULE); }
                if *was_tried { tried.push(endpoint.addr()) }
            }
            let good = |(weight, up, out, tried): (u32, bool, bool, bool)| weight > 0 && up && !out && !tried;
            let any = members.iter().any(|member| good(*member));
            let mut rng = SmallRng::seed_from_u64(seed);
            for _ in 0..10 {
                let chosen = pool.choose(key, &tried, now, &mut rng);
                prop_assert_eq!(chosen.is_some(), any);
                prop_assert!(chosen.is_none_or(|index| good(members[index])));
            }
        }
    }
}
