//! Owns smooth weighted round robin.
//! Refuses to know why a member is left out of a turn.

/// Whose turn it is: nginx's smooth weighted round robin.
///
/// In each turn every free member's credit grows by its weight, the richest goes and pays what all gained.
/// Over as many turns as the weights sum to, each member goes exactly as often as its weight says, never in
/// blocks. A member left out neither gains nor pays: it comes back with the small credit it left with, not
/// with a burst. The cost is linear in the members.
#[derive(Debug)]
pub(in super::super) struct Turns {
    credit: Vec<i64>,
}

impl Turns {
    /// Starts with `credit`, one for each member.
    pub(in super::super) fn new(credit: Vec<i64>) -> Self {
        Self { credit }
    }

    /// Each member's credit.
    pub(in super::super) fn credit(&self) -> &[i64] {
        &self.credit
    }

    /// Takes one turn among the free members with a weight; `None` when there are none.
    pub(in super::super) fn next(&mut self, weights: &[u32], free: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut gained, mut richest) = (0, None);
        for (index, (credit, weight)) in self.credit.iter_mut().zip(weights).enumerate() {
            if *weight == 0 || !free(index) {
                continue;
            }
            *credit += i64::from(*weight);
            gained += i64::from(*weight);
            if richest.is_none_or(|(most, _)| *credit > most) {
                richest = Some((*credit, index));
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

    fn counts(turns: &mut Turns, weights: &[u32], picks: u64, free: impl Fn(usize) -> bool) -> Vec<u64> {
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            counts[turns.next(weights, &free).expect("one is free")] += 1;
        }
        counts
    }

    #[test]
    fn five_one_one_goes_round_smoothly() {
        let mut turns = Turns::new(vec![0; 3]);
        let order: Vec<_> = (0..7).filter_map(|_| turns.next(&[5, 1, 1], |_| true)).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nobody_free_or_weighted_is_nobody_chosen() {
        let mut turns = Turns::new(vec![0; 2]);
        assert_eq!(turns.next(&[1, 2], |_| false), None);
        assert_eq!(turns.next(&[0, 0], |_| true), None);
        assert_eq!(turns.credit(), [0, 0]);
        assert_eq!(Turns::new(Vec::new()).next(&[], |_| true), None);
    }

    proptest! {
        #[test]
        fn shares_are_exact_for_any_weights(weights in prop::collection::vec(0_u32..40, 1..20)) {
            let total = weights.iter().copied().map(u64::from).sum();
            let mut turns = Turns::new(vec![0; weights.len()]);
            for _ in 0..2 {
                let counted = counts(&mut turns, &weights, total, |_| true);
                prop_assert_eq!(counted, weights.iter().copied().map(u64::from).collect::<Vec<_>>());
            }
            prop_assert!(turns.credit().iter().all(|credit| *credit == 0));
        }

        #[test]
        fn every_prefix_is_close_to_the_share(
            weights in prop::collection::vec(1_u32..20, 1..10), picks in 1_u64..200,
        ) {
            let total: u64 = weights.iter().copied().map(u64::from).sum();
            let mut turns = Turns::new(vec![0; weights.len()]);
            for (count, weight) in counts(&mut turns, &weights, picks, |_| true).iter().zip(&weights) {
                let fair = picks as f64 * f64::from(*weight) / total as f64;
                prop_assert!((*count as f64 - fair).abs() <= weights.len() as f64);
            }
        }

        #[test]
        fn members_that_come_and_go_do_not_skew_the_shares(
            weights in prop::collection::vec(1_u32..20, 2..8),
            phases in prop::collection::vec((any::<u8>(), 1_u64..60), 1..60),
        ) {
            let mut turns = Turns::new(vec![0; weights.len()]);
            let mut owed = vec![0.0; weights.len()];
            for (mask, picks) in phases {
                let free = |index: usize| mask >> index & 1 == 1;
                let of = |index: usize| if free(index) { f64::from(weights[index]) } else { 0.0 };
                let total: f64 = (0..weights.len()).map(of).sum();
                if total == 0.0 {
                    prop_assert_eq!(turns.next(&weights, free), None);
                    continue;
                }
                for (index, count) in counts(&mut turns, &weights, picks, free).into_iter().enumerate() {
                    owed[index] += picks as f64 * of(index) / total - count as f64;
                }
            }
            let bound = 20.0 * weights.len() as f64;
            prop_assert!(owed.iter().all(|owed| owed.abs() <= bound), "{owed:?} {:?}", turns.credit());
        }
    }
}
