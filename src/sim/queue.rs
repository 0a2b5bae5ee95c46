//! The running and the waiting requests: a bound on each, first come, first served.
//! It refuses to know time, tasks and locks; `W` is what wakes a waiting request.

use std::collections::VecDeque;

use super::kv::{BlockAllocation, BlockDemand, BlockPool};

/// What a submitted request does.
#[derive(Debug)]
pub(super) enum Admission {
    /// It runs and holds its blocks.
    Running(BlockAllocation),
    /// It waits under this ticket.
    Waiting(u64),
    /// The queue is full.
    Full,
}

#[derive(Debug)]
struct WaitingRequest<W> {
    ticket: u64,
    demands: Vec<BlockDemand>,
    wake: W,
}

/// The number of running requests, the waiting ones, and the blocks.
#[derive(Debug)]
pub(super) struct RequestQueue<W> {
    running: usize,
    max_running: usize,
    waiting: VecDeque<WaitingRequest<W>>,
    max_waiting: usize,
    tickets: u64,
    pool: BlockPool,
}

impl<W> RequestQueue<W> {
    /// Makes an idle queue over a pool.
    pub(super) fn new(max_running: usize, max_waiting: usize, pool: BlockPool) -> Self {
        Self { running: 0, max_running, waiting: VecDeque::new(), max_waiting, tickets: 0, pool }
    }

    /// Starts a request, queues it, or rejects it; `wake` makes what will wake it.
    pub(super) fn submit(&mut self, demands: Vec<BlockDemand>, wake: impl FnOnce() -> W) -> Admission {
        if self.waiting.is_empty()
            && let Some(blocks) = self.start(&demands)
        {
            return Admission::Running(blocks);
        }
        if self.waiting.len() >= self.max_waiting {
            return Admission::Full;
        }
        self.tickets += 1;
        self.waiting.push_back(WaitingRequest { ticket: self.tickets, demands, wake: wake() });
        Admission::Waiting(self.tickets)
    }

    /// Releases the blocks of a running request, and starts those that can run now.
    pub(super) fn finish(&mut self, blocks: BlockAllocation) -> Vec<(W, BlockAllocation)> {
        self.running -= 1;
        self.pool.release(blocks);
        self.promote()
    }

    /// Removes a waiting request, and starts those that it blocked.
    pub(super) fn cancel(&mut self, ticket: u64) -> Vec<(W, BlockAllocation)> {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        self.promote()
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn pool(&self) -> &BlockPool {
        &self.pool
    }

    pub(super) fn pool_mut(&mut self) -> &mut BlockPool {
        &mut self.pool
    }

    fn promote(&mut self) -> Vec<(W, BlockAllocation)> {
        let mut started = Vec::new();
        while let Some(first) = self.waiting.pop_front() {
            if let Some(blocks) = self.start(&first.demands) {
                started.push((first.wake, blocks));
            } else {
                self.waiting.push_front(first);
                break;
            }
        }
        started
    }

    fn start(&mut self, demands: &[BlockDemand]) -> Option<BlockAllocation> {
        if self.running >= self.max_running {
            return None;
        }
        let blocks = self.pool.admit(demands)?;
        self.running += 1;
        Some(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(count: usize) -> Vec<BlockDemand> {
        vec![BlockDemand { prompt_blocks: count, ..BlockDemand::default() }]
    }

    fn queue(max_running: usize, max_waiting: usize, total: usize) -> RequestQueue<&'static str> {
        RequestQueue::new(max_running, max_waiting, BlockPool::new(total, true))
    }

    fn running(admission: Admission) -> BlockAllocation {
        match admission {
            Admission::Running(blocks) => blocks,
            other => panic!("not running: {other:?}"),
        }
    }

    #[test]
    fn waiting_requests_start_in_their_order() {
        let mut queue = queue(1, 8, 100);
        let first = running(queue.submit(blocks(1), || "first"));
        assert!(matches!(queue.submit(blocks(1), || "second"), Admission::Waiting(_)));
        assert!(matches!(queue.submit(blocks(1), || "third"), Admission::Waiting(_)));
        assert_eq!((queue.running(), queue.waiting()), (1, 2));
        let started = queue.finish(first);
        assert_eq!(started.len(), 1);
        assert_eq!(started[0].0, "second");
        assert_eq!((queue.running(), queue.waiting()), (1, 1));
    }

    #[test]
    fn beyond_the_bound_of_the_queue_requests_are_rejected() {
        let mut queue = queue(1, 1, 100);
        let _first = running(queue.submit(blocks(1), || "first"));
        assert!(matches!(queue.submit(blocks(1), || "second"), Admission::Waiting(_)));
        assert!(matches!(queue.submit(blocks(1), || "third"), Admission::Full));
    }

    #[test]
    fn a_request_waits_while_no_block_is_free() {
        let mut queue = queue(8, 8, 4);
        let first = running(queue.submit(blocks(3), || "first"));
        assert!(matches!(queue.submit(blocks(3), || "second"), Admission::Waiting(_)));
        assert_eq!(queue.finish(first).len(), 1);
        assert_eq!(queue.pool().used(), 3);
    }

    #[test]
    fn a_cancelled_request_unblocks_those_behind_it() {
        let mut queue = queue(8, 8, 4);
        let _first = running(queue.submit(blocks(2), || "first"));
        let Admission::Waiting(ticket) = queue.submit(blocks(4), || "big") else { panic!("must wait") };
        assert!(matches!(queue.submit(blocks(1), || "small"), Admission::Waiting(_)), "no overtaking");
        let started = queue.cancel(ticket);
        assert_eq!(started.len(), 1);
        assert_eq!(started[0].0, "small");
    }
}
