//! Owns how many retries a pool may add to the load it was given.
//! Refuses to know why a request is retried and where it goes then.

use super::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A bound on retries over the last ten seconds: a share of the requests of that time, and a floor per
/// second.
///
/// After Finagle's and tower's retry budgets: deposits and withdrawals expire together after the window, so
/// that quiet times save nothing up. Each call takes one uncontended lock for tens of nanoseconds.
#[derive(Debug)]
pub struct RetryBudget {
    share_bp: u16,
    min_per_second: u32,
    window: Mutex<BudgetWindow>,
}

const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);
const WHOLE_BP: u128 = 10_000;

impl RetryBudget {
    /// Allows retries for `share_bp` basis points of the requests, and `min_per_second` besides.
    pub fn new(share_bp: u16, min_per_second: u32) -> Self {
        Self { share_bp, min_per_second, window: Mutex::default() }
    }

    /// Whether this budget was made with these bounds, so that a reload may keep it.
    pub fn is_for(&self, share_bp: u16, min_per_second: u32) -> bool {
        (self.share_bp, self.min_per_second) == (share_bp, min_per_second)
    }

    /// Deposits for one first attempt.
    pub fn request(&self, now: Instant) {
        let mut window = lock(&self.window);
        let slot = window.advance(now);
        window.slots[slot].requests += 1;
        window.requests += 1;
    }

    /// Withdraws one retry; false, and nothing withdrawn, when the budget is spent.
    pub fn withdraw(&self, now: Instant) -> bool {
        let mut window = lock(&self.window);
        let slot = window.advance(now);
        let floor = u128::from(self.min_per_second) * SLOTS as u128 * WHOLE_BP;
        let earned = u128::from(window.requests) * u128::from(self.share_bp);
        let allowed = (u128::from(window.retries) + 1) * WHOLE_BP <= floor + earned;
        if allowed {
            window.slots[slot].retries += 1;
            window.retries += 1;
        }
        allowed
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct BudgetSlot {
    requests: u64,
    retries: u64,
}

/// The last ten seconds in slots of one, with their sums.
#[derive(Debug, Default)]
struct BudgetWindow {
    start: Option<Instant>,
    /// The number of the newest slot since `start`.
    newest: u64,
    slots: [BudgetSlot; SLOTS],
    requests: u64,
    retries: u64,
}

impl BudgetWindow {
    /// Forgets what has left the window and gives the index of the slot for `now`; a late `now` counts as the
    /// newest.
    fn advance(&mut self, now: Instant) -> usize {
        let start = *self.start.get_or_insert(now);
        let number = now.saturating_duration_since(start).as_secs() / SLOT.as_secs();
        let steps = number.saturating_sub(self.newest).min(SLOTS as u64);
        for step in 1..=steps {
            let gone = std::mem::take(&mut self.slots[index(self.newest + step)]);
            self.requests -= gone.requests;
            self.retries -= gone.retries;
        }
        self.newest = self.newest.max(number);
        index(self.newest)
    }
}

fn index(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fifth_of_the_requests_may_be_retried() {
        let (budget, now) = (RetryBudget::new(2_000, 0), Instant::now());
        assert!(!budget.withdraw(now));
        (0..10).for_each(|_| budget.request(now));
        assert_eq!((0..10).filter(|_| budget.withdraw(now)).count(), 2);
    }

    #[test]
    fn the_floor_holds_without_requests_and_comes_back_after_the_window() {
        let (budget, now) = (RetryBudget::new(0, 3), Instant::now());
        assert_eq!((0..100).filter(|_| budget.withdraw(now)).count(), 30);
        assert!(!budget.withdraw(now + Duration::from_secs(9)));
        assert_eq!((0..100).filter(|_| budget.withdraw(now + Duration::from_secs(10))).count(), 30);
    }

    #[test]
    fn deposits_expire_with_the_window() {
        let (budget, now) = (RetryBudget::new(10_000, 0), Instant::now());
        (0..50).for_each(|_| budget.request(now));
        assert!(budget.withdraw(now + Duration::from_secs(9)));
        assert!(!budget.withdraw(now + Duration::from_secs(10)));
    }

    proptest! {
           #[test]
           fn retries_never_exceed_the_share_and_the_floor_in_any_window(
               share_bp in 0_u16..=10_000, floor in 0_u32..4,
               calls in prop::collection::vec((0_u64..1_500, any::<bool>()), 1..400),
           ) {
               let (budget, start) = (RetryBudget::new(share_bp, floor), Instant::now());
               // Slots count from the first call.
               lock(&budget.window).advance(start);
    let (mut second, mut millis, mut log) = (0_u64, 0_u64, Vec::new());
               for (wait, retry) in calls {
                   millis += wait / 10 * u64::from(wait % 3 == 0);
                   second = second.max(millis / 1_000);
                   let now = start + Duration::from_millis(millis);
                   let taken = if retry { budget.withdraw(now) } else { budget.request(now); false };
                   log.push((second, retry, taken));
                   let recent = || log.iter().filter(|(s, ..)| s + SLOTS as u64 > second);
                   let requests = recent().filter(|(_, retry, _)| !retry).count() as u64;
                   let retries = recent().filter(|(.., taken)| *taken).count() as u64;
                   let allowed = requests * u64::from(share_bp) + u64::from(floor) * 100_000;
                prop_assert!(!taken || retries * 10_000 <= allowed);
                prop_assert!(!retry || taken || (retries + 1) * 10_000 > allowed, "refused within the budget");
               }
           }
       }
}
