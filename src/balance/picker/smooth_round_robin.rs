//! Owns smooth weighted round robin.
//! Refuses to know why an endpoint is left out of a turn.

use super::candidates::Candidates;
use crate::balance::endpoint::PoolMember;
use std::collections::HashMap;

/// nginx's smooth weighted round robin: exact shares by weight in the long run, never in blocks.
///
/// In each turn every available endpoint's credit grows by its weight, the richest goes and pays what all gained.
/// Over as many turns as the weights sum to, each endpoint goes exactly as often as its weight says, never in
/// blocks. An endpoint left out neither gains nor pays: it comes back with the small credit it left with, not
/// with a burst. The cost is linear in the endpoints.
#[derive(Debug)]
pub(in crate::balance) struct SmoothWeightedRoundRobin {
    credit: Vec<i64>,
}

impl SmoothWeightedRoundRobin {
    pub(super) fn new(members: usize) -> Self {
        Self { credit: vec![0; members] }
    }

    /// Goes on over other members: each that stays keeps its credit, scaled to the new weights so that no old debt
    /// becomes a burst.
    pub(super) fn carried_over(&self, before: &[PoolMember], after: &[PoolMember]) -> Self {
        let total = |members: &[PoolMember]| members.iter().map(|one| i128::from(one.weight)).sum::<i128>();
        let (total_before, total_after) = (total(before).max(1), total(after));
        let known = before.iter().zip(&self.credit);
        let known: HashMap<_, _> = known.map(|(member, credit)| (member.endpoint.addr(), *credit)).collect();
        let scaled = |member: &PoolMember| {
            let credit = i128::from(known.get(&member.endpoint.addr()).copied().unwrap_or(0));
            i64::try_from(credit * total_after / total_before).unwrap_or(0)
        };
        Self { credit: after.iter().map(scaled).collect() }
    }

    pub(super) fn pick(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        self.next(candidates.iter().map(|view| view.map(|view| view.weight())))
    }

    /// Takes one turn; the weight of an endpoint that is left out is `None`. `None` when there are none.
    fn next(&mut self, weights: impl Iterator<Item = Option<u32>>) -> Option<usize> {
        let (mut gained, mut richest) = (0, None);
        for (place, (credit, weight)) in self.credit.iter_mut().zip(weights).enumerate() {
            let Some(weight) = weight.filter(|weight| *weight > 0) else { continue };
            *credit += i64::from(weight);
            gained += i64::from(weight);
            if richest.is_none_or(|(most, _)| *credit > most) {
                richest = Some((*credit, place));
            }
        }
        let (_, chosen) = richest?;
        self.credit[chosen] -= gained;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The weights of those that are available.
    fn available(weights: &[u32], is_available: impl Fn(usize) -> bool) -> impl Iterator<Item = Option<u32>> {
        weights.iter().enumerate().map(move |(place, weight)| is_available(place).then_some(*weight))
    }

    fn counts(
        round_robin: &mut SmoothWeightedRoundRobin,
        weights: &[u32],
        picks: u64,
        is_available: impl Fn(usize) -> bool,
    ) -> Vec<u64> {
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            counts[round_robin.next(available(weights, &is_available)).expect("one is available")] += 1;
        }
        counts
    }

    #[test]
    fn five_one_one_goes_round_smoothly() {
        let mut round_robin = SmoothWeightedRoundRobin::new(3);
        let order: Vec<_> =
            (0..7).filter_map(|_| round_robin.next(available(&[5, 1, 1], |_| true))).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn no_endpoint_is_chosen_where_none_is_available_or_weighted() {
        let mut round_robin = SmoothWeightedRoundRobin::new(2);
        assert_eq!(round_robin.next(available(&[1, 2], |_| false)), None);
        assert_eq!(round_robin.next(available(&[0, 0], |_| true)), None);
        assert_eq!(round_robin.credit, [0, 0]);
        assert_eq!(SmoothWeightedRoundRobin::new(0).next(std::iter::empty()), None);
    }

    proptest! {
        #[test]
        fn shares_are_exact_for_any_weights(weights in prop::collection::vec(0_u32..40, 1..20)) {
            let total = weights.iter().copied().map(u64::from).sum();
            let mut round_robin = SmoothWeightedRoundRobin::new(weights.len());
            for _ in 0..2 {
                let counted = counts(&mut round_robin, &weights, total, |_| true);
                prop_assert_eq!(counted, weights.iter().copied().map(u64::from).collect::<Vec<_>>());
            }
            prop_assert!(round_robin.credit.iter().all(|credit| *credit == 0));
        }

        #[test]
        fn every_prefix_is_close_to_the_share(
            weights in prop::collection::vec(1_u32..20, 1..10), picks in 1_u64..200,
        ) {
            let total: u64 = weights.iter().copied().map(u64::from).sum();
            let mut round_robin = SmoothWeightedRoundRobin::new(weights.len());
            for (count, weight) in counts(&mut round_robin, &weights, picks, |_| true).iter().zip(&weights) {
                let fair = picks as f64 * f64::from(*weight) / total as f64;
                prop_assert!((*count as f64 - fair).abs() <= weights.len() as f64);
            }
        }

        #[test]
        fn endpoints_that_come_and_go_do_not_skew_the_shares(
            weights in prop::collection::vec(1_u32..20, 2..8),
            phases in prop::collection::vec((any::<u8>(), 1_u64..60), 1..60),
        ) {
            let mut round_robin = SmoothWeightedRoundRobin::new(weights.len());
            let mut owed = vec![0.0; weights.len()];
            for (mask, picks) in phases {
                let free = |index: usize| mask >> index & 1 == 1;
                let of = |index: usize| if free(index) { f64::from(weights[index]) } else { 0.0 };
                let total: f64 = (0..weights.len()).map(of).sum();
                if total == 0.0 {
                    prop_assert_eq!(round_robin.next(available(&weights, free)), None);
                    continue;
                }
                for (index, count) in counts(&mut round_robin, &weights, picks, free).into_iter().enumerate() {
                    owed[index] += picks as f64 * of(index) / total - count as f64;
                }
            }
            let bound = 20.0 * weights.len() as f64;
            prop_assert!(owed.iter().all(|owed| owed.abs() <= bound), "{owed:?} {:?}", round_robin.credit);
        }
    }
}
