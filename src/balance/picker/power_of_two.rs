//! Owns least request by the power of two choices.
//! Refuses to know why an endpoint is left out.

use super::candidates::Candidates;
use crate::balance::endpoint::PoolMember;
use rand::Rng;

/// Weighted power of two choices: of two distinct endpoints drawn by weight, the less loaded one.
///
/// Endpoints are drawn by weight, not uniformly: a uniform draw sees an endpoint in two of n pairs, which would
/// cap a heavy endpoint's share there whatever its weight. Load is `(in flight + 1) / weight`. A draw costs a
/// binary search.
#[derive(Debug)]
pub(in crate::balance) struct PowerOfTwo {
    /// The sum of the weights up to and with each endpoint.
    cumulative: Vec<u64>,
}

/// Draws before a scan takes over: with half of the weight available, one pick in 128 scans.
const DRAWS: usize = 8;

/// One endpoint that was drawn, with its load as a dividend and a divisor.
#[derive(Clone, Copy)]
struct Drawn {
    place: usize,
    load: (u64, u64),
}

impl Drawn {
    /// Compares without dividing.
    fn is_lighter_than(&self, other: &Self) -> bool {
        u128::from(self.load.0) * u128::from(other.load.1)
            < u128::from(other.load.0) * u128::from(self.load.1)
    }
}

impl PowerOfTwo {
    pub(super) fn new(members: &[PoolMember]) -> Self {
        Self::of(members.iter().map(|member| member.weight))
    }

    fn of(weights: impl IntoIterator<Item = u32>) -> Self {
        let cumulative = weights.into_iter().scan(0, |sum, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        });
        Self { cumulative: cumulative.collect() }
    }

    pub(super) fn pick(&self, candidates: &Candidates<'_>, rng: &mut impl Rng) -> Option<usize> {
        self.choose(rng, |place| Some(candidates.get(place)?.counted_in_flight()))
    }

    /// Chooses of two endpoints drawn by weight, and scans for the least loaded where few are available; `in_flight` is
    /// `None` for an endpoint that is not.
    fn choose(&self, rng: &mut impl Rng, in_flight: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        let total = self.cumulative.last().copied().unwrap_or(0);
        if let Some(first) = self.draw(rng, total, &in_flight)
            && self.weight(first.place) < total
            && let Some(second) = self.draw_other(rng, total, first.place, &in_flight)
        {
            return Some(if second.is_lighter_than(&first) { second.place } else { first.place });
        }
        self.scan(rng, in_flight)
    }

    fn draw(
        &self,
        rng: &mut impl Rng,
        total: u64,
        in_flight: impl Fn(usize) -> Option<u32>,
    ) -> Option<Drawn> {
        if total == 0 {
            return None;
        }
        (0..DRAWS).find_map(|_| self.drawn(self.find(rng.random_range(0..total)), &in_flight))
    }

    /// Draws by weight among all but `first`, whose part of the line is stepped over.
    fn draw_other(
        &self,
        rng: &mut impl Rng,
        total: u64,
        first: usize,
        in_flight: impl Fn(usize) -> Option<u32>,
    ) -> Option<Drawn> {
        let weight = self.weight(first);
        let start = self.cumulative[first] - weight;
        let skip = |point| if point >= start { point + weight } else { point };
        let mut draw = || self.find(skip(rng.random_range(0..total - weight)));
        (0..DRAWS).find_map(|_| self.drawn(draw(), &in_flight))
    }

    /// Finds the least loaded of all available endpoints; equals are equally likely.
    fn scan(&self, rng: &mut impl Rng, in_flight: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        let (mut best, mut equals): (Option<Drawn>, u32) = (None, 1);
        let weighted = (0..self.cumulative.len()).filter(|place| self.weight(*place) > 0);
        for this in weighted.filter_map(|place| self.drawn(place, &in_flight)) {
            match &best {
                Some(least) if least.is_lighter_than(&this) => {}
                Some(least) if !this.is_lighter_than(least) => {
                    equals += 1;
                    if rng.random_range(0..equals) == 0 {
                        best = Some(this);
                    }
                }
                _ => (best, equals) = (Some(this), 1),
            }
        }
        best.map(|best| best.place)
    }

    fn drawn(&self, place: usize, in_flight: impl Fn(usize) -> Option<u32>) -> Option<Drawn> {
        Some(Drawn { place, load: (u64::from(in_flight(place)?) + 1, self.weight(place)) })
    }

    fn find(&self, point: u64) -> usize {
        self.cumulative.partition_point(|sum| *sum <= point)
    }

    fn weight(&self, place: usize) -> u64 {
        self.cumulative[place] - place.checked_sub(1).map_or(0, |before| self.cumulative[before])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn best(
        picker: &PowerOfTwo,
        rng: &mut SmallRng,
        in_flight: impl Fn(usize) -> Option<u32>,
    ) -> Option<usize> {
        picker.choose(rng, in_flight)
    }

    #[test]
    fn of_two_the_less_loaded_is_chosen_always() {
        let mut rng = SmallRng::seed_from_u64(1);
        for (loads, weights, chosen) in [([3, 2], [1, 1], 1), ([3, 2], [2, 1], 0), ([0, 0], [1, 9], 1)] {
            let picker = PowerOfTwo::of(weights);
            assert!((0..50).all(|_| best(&picker, &mut rng, |place| Some(loads[place])) == Some(chosen)));
        }
    }

    #[test]
    fn equals_share_equally() {
        let (mut rng, picker) = (SmallRng::seed_from_u64(2), PowerOfTwo::of([1, 1]));
        let first = (0..10_000).filter(|_| best(&picker, &mut rng, |_| Some(7)) == Some(0)).count();
        assert!((4_700..5_300).contains(&first), "{first}");
    }

    #[test]
    fn the_most_loaded_of_all_is_never_chosen() {
        let (mut rng, picker) = (SmallRng::seed_from_u64(3), PowerOfTwo::of([1; 16]));
        let load = |place: usize| Some(u32::from(place == 5));
        assert!((0..1_000).all(|_| best(&picker, &mut rng, load) != Some(5)));
    }

    #[test]
    fn held_leases_spread_by_weight() {
        let weights = [1, 2, 3, 4, 6, 8];
        let (mut rng, picker, mut held) = (SmallRng::seed_from_u64(4), PowerOfTwo::of(weights), [0_u32; 6]);
        for _ in 0..2_400 {
            held[best(&picker, &mut rng, |place| Some(held[place])).expect("all are available")] += 1;
        }
        for (held, weight) in held.iter().zip(weights) {
            assert!(held.abs_diff(weight * 100) <= 2 * weight + 2, "{held} for weight {weight}");
        }
    }

    proptest! {
        #[test]
        fn only_available_endpoints_with_a_weight_are_chosen(
            seed in any::<u64>(),
            members in prop::collection::vec((0_u32..5, any::<bool>(), 0_u32..9), 0..40),
        ) {
            let weights: Vec<_> = members.iter().map(|member| member.0).collect();
            let (picker, mut rng) = (PowerOfTwo::of(weights), SmallRng::seed_from_u64(seed));
            let any = members.iter().any(|(weight, available, _)| *weight > 0 && *available);
            for _ in 0..20 {
                let chosen = best(&picker, &mut rng, |place| members[place].1.then_some(members[place].2));
                prop_assert_eq!(chosen.is_some(), any);
                prop_assert!(chosen.is_none_or(|place| members[place].0 > 0 && members[place].1));
            }
        }

        #[test]
        fn the_scan_finds_the_least_loaded(
            seed in any::<u64>(),
            members in prop::collection::vec((1_u32..5, any::<bool>(), 0_u32..9), 1..20),
        ) {
            let weights: Vec<_> = members.iter().map(|member| member.0).collect();
            let (picker, mut rng) = (PowerOfTwo::of(weights), SmallRng::seed_from_u64(seed));
            let in_flight = |place: usize| members[place].1.then_some(members[place].2);
            if let Some(chosen) = picker.scan(&mut rng, in_flight) {
                let chosen = picker.drawn(chosen, in_flight).expect("only what is available is chosen");
                let mut available = (0..members.len()).filter_map(|place| picker.drawn(place, in_flight));
                prop_assert!(available.all(|other| !other.is_lighter_than(&chosen)));
            }
        }
    }
}
