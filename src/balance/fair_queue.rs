//! Owns the order of those that wait: the highest priority first, within one each tenant in turn, within a tenant as they
//! came; and who gives way where too many wait. Pure.
//! Refuses to know what is waited for, and for how long.

use crate::policy::QueueLimits;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

/// What bounds those that wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueBounds {
    pub(super) requests: usize,
    pub(super) bytes: usize,
}

impl QueueBounds {
    pub(super) fn of(limits: &QueueLimits) -> Self {
        Self { requests: limits.max_requests, bytes: limits.max_bytes }
    }
}

/// A request that would wait.
#[derive(Clone, Copy, Debug)]
pub struct GateRequest {
    /// Higher ones go first; negative ones do not wait.
    pub priority: i32,
    /// Whom it is counted with: the tenants of one priority go in turn.
    pub tenant: u64,
    /// How long its body is.
    pub bytes: usize,
}

/// Where a request stands among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueTicket {
    priority: i32,
    /// The tenant, hashed.
    tenant: u64,
    number: u64,
}

/// What came of a request that wants to wait.
#[derive(Debug)]
pub(super) struct Queued<W> {
    pub(super) ticket: QueueTicket,
    /// Those that gave way to it.
    pub(super) displaced: Vec<W>,
}

/// Those that wait.
#[derive(Debug)]
pub(super) struct FairQueue<W> {
    bands: BTreeMap<i32, Band<W>>,
    /// Requests that have come, so that each has a number.
    numbers: u64,
    requests: usize,
    bytes: usize,
}

/// Those of one priority.
#[derive(Debug)]
struct Band<W> {
    /// By tenants, and by when they came.
    tenants: HashMap<u64, BTreeMap<u64, Entry<W>>>,
    /// Tenants with requests, each once, the next first.
    turns: VecDeque<u64>,
    requests: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<W> {
    waiter: W,
    bytes: usize,
}

impl<W> Default for FairQueue<W> {
    fn default() -> Self {
        Self { bands: BTreeMap::new(), numbers: 0, requests: 0, bytes: 0 }
    }
}

impl<W> Default for Band<W> {
    fn default() -> Self {
        Self { tenants: HashMap::new(), turns: VecDeque::new(), requests: 0, bytes: 0 }
    }
}

impl<W> Band<W> {
    fn of(&self, tenant: u64) -> usize {
        self.tenants.get(&tenant).map_or(0, BTreeMap::len)
    }
}

/// Who gives way to a request that would wait.
enum Room {
    /// Those of lower priorities, until it fits; nobody where it fits already.
    FromLower,
    /// One of the same priority.
    From(QueueTicket),
}

impl<W> FairQueue<W> {
    pub(super) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    pub(super) fn len(&self) -> usize {
        self.requests
    }

    /// How many wait of each priority, the highest first.
    pub(super) fn lengths(&self) -> Vec<(i32, usize)> {
        self.bands.iter().rev().map(|(priority, band)| (*priority, band.requests)).collect()
    }

    /// How many would go before a request that came now, if no other comes: those of higher priorities, and those of its own
    /// whose turns are before its.
    pub(super) fn ahead_of(&self, priority: i32, tenant: u64) -> usize {
        let higher = self.bands.range((Bound::Excluded(priority), Bound::Unbounded));
        let higher: usize = higher.map(|(_, band)| band.requests).sum();
        let Some(band) = self.bands.get(&priority) else { return higher };
        let own = band.of(tenant);
        let place = band.turns.iter().position(|other| *other == tenant).unwrap_or(band.turns.len());
        let others = band.turns.iter().enumerate().filter(|(_, other)| **other != tenant);
        let before = others.map(|(at, other)| band.of(*other).min(own + usize::from(at < place)));
        higher + own + before.sum::<usize>()
    }

    /// How many requests of a tenant wait with this priority.
    pub(super) fn of_tenant(&self, priority: i32, tenant: u64) -> usize {
        self.bands.get(&priority).map_or(0, |band| band.of(tenant))
    }

    /// Whether a request might wait: there is room, or others would give way.
    pub(super) fn takes(&self, request: GateRequest, bounds: QueueBounds) -> bool {
        self.room_for(request, bounds).is_some()
    }

    /// Adds a request, where there is room or others give way; `None` where it may not wait.
    ///
    /// Those of lower priorities give way, the newest of the lowest first; else the newest of the tenant that has the most
    /// of the same priority, where the newcomer's own has fewer even with it.
    pub(super) fn push(&mut self, request: GateRequest, waiter: W, bounds: QueueBounds) -> Option<Queued<W>> {
        let displaced = self.make_room(request, bounds)?;
        let GateRequest { priority, tenant, bytes } = request;
        self.numbers += 1;
        let ticket = QueueTicket { priority, tenant, number: self.numbers };
        let band = self.bands.entry(priority).or_default();
        let requests = band.tenants.entry(tenant).or_default();
        if requests.is_empty() {
            band.turns.push_back(tenant);
        }
        requests.insert(ticket.number, Entry { waiter, bytes });
        band.requests += 1;
        band.bytes += bytes;
        self.requests += 1;
        self.bytes += bytes;
        Some(Queued { ticket, displaced })
    }

    /// The one whose turn it is.
    pub(super) fn first(&self) -> Option<&W> {
        let (_, band) = self.bands.last_key_value()?;
        let (_, entry) = band.tenants.get(band.turns.front()?)?.first_key_value()?;
        Some(&entry.waiter)
    }

    /// Takes the one whose turn it is; its tenant's next turn comes after all others of the same priority.
    pub(super) fn pop(&mut self) -> Option<W> {
        let (priority, band) = self.bands.last_key_value()?;
        let tenant = *band.turns.front()?;
        let (number, _) = band.tenants.get(&tenant)?.first_key_value()?;
        let ticket = QueueTicket { priority: *priority, tenant, number: *number };
        if let Some(turns) = self.bands.get_mut(&ticket.priority).map(|band| &mut band.turns) {
            turns.rotate_left(1);
        }
        self.remove(ticket)
    }

    /// Takes one out of its turn; `None` where it does not wait any more.
    pub(super) fn remove(&mut self, ticket: QueueTicket) -> Option<W> {
        let band = self.bands.get_mut(&ticket.priority)?;
        let requests = band.tenants.get_mut(&ticket.tenant)?;
        let entry = requests.remove(&ticket.number)?;
        if requests.is_empty() {
            band.tenants.remove(&ticket.tenant);
            band.turns.retain(|tenant| *tenant != ticket.tenant);
        }
        band.requests -= 1;
        band.bytes -= entry.bytes;
        if band.requests == 0 {
            self.bands.remove(&ticket.priority);
        }
        self.requests -= 1;
        self.bytes -= entry.bytes;
        Some(entry.waiter)
    }

    /// Finds who would have to give way; `None` where that is not enough.
    fn room_for(&self, request: GateRequest, bounds: QueueBounds) -> Option<Room> {
        let GateRequest { priority, tenant, bytes } = request;
        if bounds.requests == 0 || bytes > bounds.bytes {
            return None;
        }
        let lower = self.bands.range(..priority);
        let (requests, lower_bytes) =
            lower.fold((0, 0), |(requests, bytes), (_, band)| (requests + band.requests, bytes + band.bytes));
        if self.fits(bytes, bounds, requests, lower_bytes) {
            return Some(Room::FromLower);
        }
        let band = self.bands.get(&priority)?;
        let most = *band.turns.iter().max_by_key(|other| band.of(**other))?;
        let victim = self.newest(priority, Some(most)).filter(|_| band.of(most) > band.of(tenant) + 1)?;
        let gone = band.tenants.get(&most)?.get(&victim.number)?.bytes;
        let is_enough = requests == 0 && self.fits(bytes, bounds, 1, lower_bytes + gone);
        is_enough.then_some(Room::From(victim))
    }

    /// Whether so many bytes fit once so many requests with so many bytes are gone.
    fn fits(&self, bytes: usize, bounds: QueueBounds, gone: usize, gone_bytes: usize) -> bool {
        self.requests - gone < bounds.requests && self.bytes - gone_bytes + bytes <= bounds.bytes
    }

    /// Has others give way, if need be; `None`, and nobody has, where that is not enough.
    fn make_room(&mut self, request: GateRequest, bounds: QueueBounds) -> Option<Vec<W>> {
        let mut displaced = Vec::new();
        match self.room_for(request, bounds)? {
            Room::FromLower => {
                while !self.fits(request.bytes, bounds, 0, 0) {
                    let lowest = *self.bands.first_key_value()?.0;
                    displaced.extend(self.newest(lowest, None).and_then(|ticket| self.remove(ticket)));
                }
            }
            Room::From(victim) => displaced.extend(self.remove(victim)),
        }
        Some(displaced)
    }

    /// The newest of a priority, or of one of its tenants.
    fn newest(&self, priority: i32, of: Option<u64>) -> Option<QueueTicket> {
        let tenants = self.bands.get(&priority)?.tenants.iter();
        let newest = tenants.filter(|(tenant, _)| of.is_none_or(|of| of == **tenant));
        let last = newest.filter_map(|(tenant, requests)| Some((*requests.last_key_value()?.0, *tenant)));
        let (number, tenant) = last.max()?;
        Some(QueueTicket { priority, tenant, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDE: QueueBounds = QueueBounds { requests: 100, bytes: 1_000 };

    fn push(queue: &mut FairQueue<u32>, priority: i32, tenant: u64, name: u32) -> Option<QueueTicket> {
        Some(queue.push(GateRequest { priority, tenant, bytes: 1 }, name, WIDE)?.ticket)
    }

    fn order(mut queue: FairQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn the_highest_go_first_tenants_in_turn_and_each_in_its_order() {
        let mut queue = FairQueue::default();
        for (priority, tenant, name) in
            [(0, 1, 1), (0, 1, 2), (0, 1, 3), (0, 2, 4), (0, 2, 5), (5, 2, 6), (-1, 3, 7)]
        {
            push(&mut queue, priority, tenant, name).unwrap();
        }
        assert_eq!(queue.lengths(), [(5, 1), (0, 5), (-1, 1)]);
        let ahead = |priority, tenant| queue.ahead_of(priority, tenant);
        assert_eq!([ahead(9, 1), ahead(5, 2), ahead(0, 1), ahead(0, 2), ahead(0, 9)], [0, 1, 6, 6, 3]);
        assert_eq!((queue.of_tenant(0, 1), queue.of_tenant(0, 9)), (3, 0));
        assert_eq!(order(queue), [6, 1, 4, 2, 5, 3, 7]);
    }

    #[test]
    fn one_that_leaves_is_gone_at_once_and_only_once() {
        let mut queue = FairQueue::default();
        let tickets = [1, 2, 3].map(|name| push(&mut queue, 0, 1, name).unwrap());
        assert_eq!(queue.remove(tickets[1]), Some(2));
        assert_eq!(queue.remove(tickets[1]), None);
        assert_eq!(order(queue), [1, 3]);
    }

    #[test]
    fn where_it_is_full_the_newest_of_the_lowest_gives_way_to_a_higher_one() {
        let bounds = QueueBounds { requests: 3, bytes: 30 };
        let mut queue = FairQueue::default();
        for (priority, name) in [(0, 1), (0, 2), (1, 3)] {
            queue.push(GateRequest { priority, tenant: 1, bytes: 10 }, name, bounds).unwrap();
        }
        assert!(
            queue.push(GateRequest { priority: 0, tenant: 1, bytes: 10 }, 9, bounds).is_none(),
            "its own kind does not"
        );
        assert_eq!(
            queue.push(GateRequest { priority: 2, tenant: 1, bytes: 10 }, 4, bounds).unwrap().displaced,
            [2]
        );
        assert_eq!(
            queue.push(GateRequest { priority: 2, tenant: 1, bytes: 15 }, 5, bounds).unwrap().displaced,
            [1, 3],
            "for its bytes too"
        );
        assert!(
            queue.push(GateRequest { priority: 2, tenant: 1, bytes: 31 }, 6, bounds).is_none(),
            "it would never fit"
        );
        assert_eq!(order(queue), [4, 5]);
    }

    #[test]
    fn a_tenant_that_fills_the_queue_gives_way_to_one_with_fewer() {
        let bounds = QueueBounds { requests: 4, bytes: 1_000 };
        let mut queue = FairQueue::default();
        for name in 1..=4 {
            queue.push(GateRequest { priority: 0, tenant: 1, bytes: 1 }, name, bounds).unwrap();
        }
        assert_eq!(
            queue.push(GateRequest { priority: 0, tenant: 2, bytes: 1 }, 5, bounds).unwrap().displaced,
            [4]
        );
        assert_eq!(
            queue.push(GateRequest { priority: 0, tenant: 2, bytes: 1 }, 6, bounds).unwrap().displaced,
            [3]
        );
        assert!(
            queue.push(GateRequest { priority: 0, tenant: 2, bytes: 1 }, 7, bounds).is_none(),
            "they have as many each"
        );
        assert_eq!(order(queue), [1, 5, 2, 6]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_bound_is_passed(
            steps in prop::collection::vec((-2_i32..3, 0_u64..4, 1_usize..20, 0_u8..4), 1..200),
            requests in 1_usize..12,
            bytes in 10_usize..80,
        ) {
            let bounds = QueueBounds { requests, bytes };
            let mut queue: FairQueue<(i32, u64, u64, usize)> = FairQueue::default();
            let mut waiting: Vec<(i32, u64, u64, usize)> = Vec::new();
            for (priority, tenant, size, kind) in steps {
                match kind {
                    0 => {
                        let popped = queue.pop();
                        prop_assert_eq!(popped.is_none(), waiting.is_empty());
                        if let Some(popped) = popped {
                            prop_assert!(waiting.iter().all(|other| other.0 <= popped.0), "a higher one waits");
                            let own = waiting.iter().filter(|other| (other.0, other.1) == (popped.0, popped.1));
                            prop_assert!(own.map(|other| other.2).min() == Some(popped.2), "not its first");
                            waiting.retain(|other| *other != popped);
                        }
                    }
                    1 if !waiting.is_empty() => {
                        let (priority, tenant, number, _) = waiting[size % waiting.len()];
                        let left = queue.remove(QueueTicket { priority, tenant, number });
                        prop_assert!(left.is_some());
                        waiting.retain(|other| other.2 != number);
                    }
                    _ => {
                        let number = queue.numbers + 1;
                        let request = GateRequest { priority, tenant, bytes: size };
                        let queued = queue.push(request, (priority, tenant, number, size), bounds);
                        let has_lower = waiting.iter().any(|other| other.0 < priority);
                        let fits = waiting.len() < requests
                            && waiting.iter().map(|other| other.3).sum::<usize>() + size <= bytes;
                        prop_assert!(queued.is_some() || !fits);
                        if let Some(queued) = queued {
                            prop_assert!(queued.displaced.is_empty() || !fits, "in vain");
                            for gone in queued.displaced {
                                prop_assert!(gone.0 < priority || (gone.0 == priority && !has_lower && gone.1 != tenant));
                                waiting.retain(|other| *other != gone);
                            }
                            waiting.push((priority, tenant, queued.ticket.number, size));
                        }
                    }
                }
                prop_assert!(queue.len() == waiting.len() && waiting.len() <= requests);
                prop_assert!(waiting.iter().map(|other| other.3).sum::<usize>() <= bytes);
            }
            prop_assert_eq!(std::iter::from_fn(|| queue.pop()).count(), waiting.len());
            prop_assert!(queue.is_empty() && queue.bytes == 0 && queue.bands.is_empty());
        }
    }
}
