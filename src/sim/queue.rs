//! Who runs and who waits: at most so many at once, the others first come, first served, and no further than the
//! queue is long. It refuses to know time, tasks and locks; `W` is whatever wakes a waiting one.

use std::collections::VecDeque;

use super::kv::{Holding, Need, Pool};

/// What became of a request that asked to run.
#[derive(Debug)]
pub(super) enum Submitted {
    /// It runs and holds its blocks.
    Running(Holding),
    /// It waits under this ticket.
    Waiting(u64),
    /// The queue is full.
    Full,
}

#[derive(Debug)]
struct Waiting<W> {
    ticket: u64,
    needs: Vec<Need>,
    wake: W,
}

/// The running count, the waiting line and the blocks.
#[derive(Debug)]
pub(super) struct Queue<W> {
    running: usize,
    max_running: usize,
    waiting: VecDeque<Waiting<W>>,
    max_waiting: usize,
    tickets: u64,
    pool: Pool,
}

impl<W> Queue<W> {
    /// Makes an idle queue over a pool.
    pub(super) fn new(max_running: usize, max_waiting: usize, pool: Pool) -> Self {
        Self { running: 0, max_running, waiting: VecDeque::new(), max_waiting, tickets: 0, pool }
    }

    /// Starts a request, or lets it wait, or turns it away; `wake` makes what will wake it.
    pub(super) fn submit(&mut self, needs: Vec<Need>, wake: impl FnOnce() -> W) -> Submitted {
        if self.waiting.is_empty()
            && let Some(holding) = self.start(&needs)
        {
            return Submitted::Running(holding);
        }
        if self.waiting.len() >= self.max_waiting {
            return Submitted::Full;
        }
        self.tickets += 1;
        self.waiting.push_back(Waiting { ticket: self.tickets, needs, wake: wake() });
        Submitted::Waiting(self.tickets)
    }

    /// Takes back what a running request held, and starts those whose turn it now is.
    pub(super) fn leave(&mut self, holding: Holding) -> Vec<(W, Holding)> {
        self.running -= 1;
        self.pool.release(holding);
        self.promote()
    }

    /// Takes a waiting request out of the line, and starts those that it stood in the way of.
    pub(super) fn give_up(&mut self, ticket: u64) -> Vec<(W, Holding)> {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        self.promote()
    }

    /// Counts those that run.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Counts those that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The blocks.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The blocks, to grow into.
    pub(super) fn pool_mut(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn promote(&mut self) -> Vec<(W, Holding)> {
        let mut started = Vec::new();
        while let Some(first) = self.waiting.pop_front() {
            if let Some(holding) = self.start(&first.needs) {
                started.push((first.wake, holding));
            } else {
                self.waiting.push_front(first);
                break;
            }
        }
        started
    }

    fn start(&mut self, needs: &[Need]) -> Option<Holding> {
        if self.running >= self.max_running {
            return None;
        }
        let holding = self.pool.admit(needs)?;
        self.running += 1;
        Some(holding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(count: usize) -> Vec<Need> {
        vec![Need { prompt_blocks: count, ..Need::default() }]
    }

    fn queue(max_running: usize, max_waiting: usize, total: usize) -> Queue<&'static str> {
        Queue::new(max_running, max_waiting, Pool::new(total, true))
    }

    fn running(submitted: Submitted) -> Holding {
        match submitted {
            Submitted::Running(holding) => holding,
            other => panic!("not running: {other:?}"),
        }
    }

    #[test]
    fn those_who_wait_start_in_their_order() {
        let mut queue = queue(1, 8, 100);
        let first = running(queue.submit(blocks(1), || "first"));
        assert!(matches!(queue.submit(blocks(1), || "second"), Submitted::Waiting(_)));
        assert!(matches!(queue.submit(blocks(1), || "third"), Submitted::Waiting(_)));
        assert_eq!((queue.running(), queue.waiting()), (1, 2));
        let started = queue.leave(first);
        assert_eq!(started.len(), 1);
        assert_eq!(started[0].0, "second");
        assert_eq!((queue.running(), queue.waiting()), (1, 1));
    }

    #[test]
    fn beyond_the_bound_of_the_queue_requests_are_turned_away() {
        let mut queue = queue(1, 1, 100);
        let _first = running(queue.submit(blocks(1), || "first"));
        assert!(matches!(queue.submit(blocks(1), || "second"), Submitted::Waiting(_)));
        assert!(matches!(queue.submit(blocks(1), || "third"), Submitted::Full));
    }

    #[test]
    fn a_request_waits_while_no_block_is_free() {
        let mut queue = queue(8, 8, 4);
        let first = running(queue.submit(blocks(3), || "first"));
        assert!(matches!(queue.submit(blocks(3), || "second"), Submitted::Waiting(_)));
        assert_eq!(queue.leave(first).len(), 1);
        assert_eq!(queue.pool().used(), 3);
    }

    #[test]
    fn one_that_gives_up_clears_the_way() {
        let mut queue = queue(8, 8, 4);
        let _first = running(queue.submit(blocks(2), || "first"));
        let Submitted::Waiting(ticket) = queue.submit(blocks(4), || "big") else { panic!("must wait") };
        assert!(matches!(queue.submit(blocks(1), || "small"), Submitted::Waiting(_)), "no overtaking");
        let started = queue.give_up(ticket);
        assert_eq!(started.len(), 1);
        assert_eq!(started[0].0, "small");
    }
}
