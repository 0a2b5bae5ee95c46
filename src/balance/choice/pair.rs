//! Owns least request by the power of two choices.
//! Refuses to know what the load is made of.

use rand::Rng;

/// Weighted odds for drawing two distinct members, the less loaded of which is chosen.
///
/// Members are drawn by weight, not uniformly: a uniform draw sees a member in two of n pairs, which would
/// cap a heavy member's share there whatever its weight. Load is `(in flight + 1) / weight`. A draw costs a
/// binary search.
#[derive(Debug)]
pub(in super::super) struct Odds {
    /// The sum of the weights up to and with each member.
    upto: Vec<u64>,
}

/// Draws before a scan takes over: with half of the weight free, one pick in 128 scans.
const DRAWS: usize = 8;

impl Odds {
    pub(in super::super) fn new(weights: &[u32]) -> Self {
        let upto = weights.iter().scan(0, |sum, weight| {
            *sum += u64::from(*weight);
            Some(*sum)
        });
        Self { upto: upto.collect() }
    }

    /// Chooses the less loaded of two free members drawn by weight, and scans for the least loaded where few
    /// are free.
    pub(in super::super) fn choose(
        &self,
        rng: &mut impl Rng,
        free: impl Fn(usize) -> bool,
        in_flight: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        let total = *self.upto.last()?;
        let load = |index| (u64::from(in_flight(index)) + 1, self.weight(index));
        if let Some(first) = self.draw(rng, total, &free)
            && self.weight(first) < total
            && let Some(second) = self.draw_other(rng, total, first, &free)
        {
            return Some(if lighter(load(second), load(first)) { second } else { first });
        }
        self.scan(rng, free, load)
    }

    fn draw(&self, rng: &mut impl Rng, total: u64, free: impl Fn(usize) -> bool) -> Option<usize> {
        if total == 0 {
            return None;
        }
        (0..DRAWS).map(|_| self.find(rng.random_range(0..total))).find(|index| free(*index))
    }

    /// Draws by weight among all but `first`, whose part of the line is stepped over.
    fn draw_other(
        &self,
        rng: &mut impl Rng,
        total: u64,
        first: usize,
        free: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let weight = self.weight(first);
        let start = self.upto[first] - weight;
        let skip = |point| if point >= start { point + weight } else { point };
        (0..DRAWS).map(|_| self.find(skip(rng.random_range(0..total - weight)))).find(|index| free(*index))
    }

    /// Finds the least loaded of all free members; equals are equally likely.
    fn scan(
        &self,
        rng: &mut impl Rng,
        free: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> (u64, u64),
    ) -> Option<usize> {
        let (mut best, mut equals) = (None, 1);
        for index in (0..self.upto.len()).filter(|index| self.weight(*index) > 0 && free(*index)) {
            let this = load(index);
            match best {
                Some((least, _)) if lighter(least, this) => {}
                Some((least, _)) if !lighter(this, least) => {
                    equals += 1;
                    if rng.random_range(0..equals) == 0 {
                        best = Some((this, index));
                    }
                }
                _ => (best, equals) = (Some((this, index)), 1),
            }
        }
        best.map(|(_, index)| index)
    }

    fn find(&self, point: u64) -> usize {
        self.upto.partition_point(|upto| *upto <= point)
    }

    fn weight(&self, index: usize) -> u64 {
        self.upto[index] - index.checked_sub(1).map_or(0, |before| self.upto[before])
    }
}

/// Compares two loads, each a dividend and a divisor, without dividing.
fn lighter(one: (u64, u64), other: (u64, u64)) -> bool {
    u128::from(one.0) * u128::from(other.1) < u128::from(other.0) * u128::from(one.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn of_two_the_less_loaded_is_chosen_always() {
        let mut rng = SmallRng::seed_from_u64(1);
        for (loads, weights, chosen) in [([3, 2], [1, 1], 1), ([3, 2], [2, 1], 0), ([0, 0], [1, 9], 1)] {
            let odds = Odds::new(&weights);
            assert!((0..50).all(|_| odds.choose(&mut rng, |_| true, |index| loads[index]) == Some(chosen)));
        }
    }

    #[test]
    fn equals_share_equally() {
        let (mut rng, odds) = (SmallRng::seed_from_u64(2), Odds::new(&[1, 1]));
        let first = (0..10_000).filter(|_| odds.choose(&mut rng, |_| true, |_| 7) == Some(0)).count();
        assert!((4_700..5_300).contains(&first), "{first}");
    }

    #[test]
    fn the_most_loaded_of_all_is_never_chosen() {
        let (mut rng, odds) = (SmallRng::seed_from_u64(3), Odds::new(&[1; 16]));
        let load = |index: usize| u32::from(index == 5);
        assert!((0..1_000).all(|_| odds.choose(&mut rng, |_| true, load) != Some(5)));
    }

    #[test]
    fn held_leases_spread_by_weight() {
        let weights = [1, 2, 3, 4, 6, 8];
        let (mut rng, odds, mut held) = (SmallRng::seed_from_u64(4), Odds::new(&weights), [0_u32; 6]);
        for _ in 0..2_400 {
            held[odds.choose(&mut rng, |_| true, |index| held[index]).expect("all are free")] += 1;
        }
        for (held, weight) in held.iter().zip(weights) {
            assert!(held.abs_diff(weight * 100) <= 2 * weight + 2, "{held} for weight {weight}");
        }
    }

    proptest! {
        #[test]
        fn only_free_members_with_a_weight_are_chosen(
            seed in any::<u64>(),
            members in prop::collection::vec((0_u32..5, any::<bool>(), 0_u32..9), 0..40),
        ) {
            let weights: Vec<_> = members.iter().map(|member| member.0).collect();
            let (odds, mut rng) = (Odds::new(&weights), SmallRng::seed_from_u64(seed));
            let any = members.iter().any(|(weight, free, _)| *weight > 0 && *free);
            for _ in 0..20 {
                let chosen = odds.choose(&mut rng, |index| members[index].1, |index| members[index].2);
                prop_assert_eq!(chosen.is_some(), any);
                prop_assert!(chosen.is_none_or(|index| members[index].0 > 0 && members[index].1));
            }
        }

        #[test]
        fn the_scan_finds_the_least_loaded(
            seed in any::<u64>(),
            members in prop::collection::vec((1_u32..5, any::<bool>(), 0_u32..9), 1..20),
        ) {
            let weights: Vec<_> = members.iter().map(|member| member.0).collect();
            let (odds, mut rng) = (Odds::new(&weights), SmallRng::seed_from_u64(seed));
            let load = |index: usize| (u64::from(members[index].2) + 1, u64::from(members[index].0));
            if let Some(chosen) = odds.scan(&mut rng, |index| members[index].1, load) {
                let mut free = (0..members.len()).filter(|index| members[*index].1);
                prop_assert!(free.all(|other| !lighter(load(other), load(chosen))));
            }
        }
    }
}
