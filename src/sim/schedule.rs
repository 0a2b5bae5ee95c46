//! The scheduler as tasks see it: a place in it is a value, and dropping that value gives everything back.
//! It refuses to know HTTP and what is generated; the rules of the line are in `queue`, those of blocks in `kv`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Options;
use super::kv::{Holding, Need, Pool};
use super::queue::{Queue, Submitted};
use super::words::{Prompt, block_hash};

type Line = Queue<oneshot::Sender<Slot>>;

/// The state shared by all requests of one simulated server.
#[derive(Debug)]
pub(super) struct Scheduler {
    line: Mutex<Line>,
    running: AtomicUsize,
    block_size: usize,
}

/// What the gauges show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Requests that run.
    pub(super) running: usize,
    /// Requests that wait.
    pub(super) waiting: usize,
    /// The share of blocks that running requests hold, `0..=1`.
    pub(super) kv_usage: f64,
}

impl Scheduler {
    /// Makes an idle scheduler.
    pub(super) fn new(options: &Options) -> Arc<Self> {
        let pool = Pool::new(options.kv_blocks, options.prefix_caching);
        Arc::new(Self {
            line: Mutex::new(Queue::new(options.max_num_seqs, options.max_waiting, pool)),
            running: AtomicUsize::new(0),
            block_size: options.block_size,
        })
    }

    /// Says how busy it is.
    pub(super) fn load(&self) -> Load {
        let line = self.lock();
        let kv_usage = line.pool().used() as f64 / line.pool().total().max(1) as f64;
        Load { running: line.running(), waiting: line.waiting(), kv_usage }
    }

    /// Counts those that run, without taking the lock.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Counts the blocks that the largest request could hold.
    pub(super) fn capacity_tokens(&self) -> usize {
        self.lock().pool().total() * self.block_size
    }

    /// Asks for a place for one request of several sequences: each prompt with the tokens that will follow it.
    /// `None` when the line is full.
    pub(super) fn enter(self: &Arc<Self>, sequences: &[(&Prompt, usize)]) -> Option<Place> {
        let needs = sequences.iter().map(|(prompt, tokens)| self.need(prompt, *tokens)).collect();
        let growing = sequences.iter().map(|(prompt, _)| Growing::after(prompt)).collect();
        let mut receiver = None;
        let submitted = self.lock().submit(needs, || {
            let (sender, waiting) = oneshot::channel();
            receiver = Some(waiting);
            sender
        });
        match (submitted, receiver) {
            (Submitted::Running(holding), _) => {
                Some(Place::Running(Slot::new(Arc::clone(self), holding), growing))
            }
            (Submitted::Waiting(ticket), Some(wake)) => {
                let waiter = Waiter { scheduler: Arc::clone(self), ticket, wake };
                Some(Place::Waiting(waiter, growing))
            }
            (Submitted::Waiting(_) | Submitted::Full, _) => None,
        }
    }

    fn need(&self, prompt: &Prompt, tokens: usize) -> Need {
        let prompt_blocks = prompt.tokens.div_ceil(self.block_size);
        let all_blocks = (prompt.tokens + tokens).div_ceil(self.block_size);
        Need {
            hashes: prompt.hashes.clone(),
            reusable: prompt.tokens.saturating_sub(1) / self.block_size,
            prompt_blocks,
            later_blocks: all_blocks - prompt_blocks,
        }
    }

    fn start(self: &Arc<Self>, started: Vec<(oneshot::Sender<Slot>, Holding)>) {
        for (wake, holding) in started {
            // One that has just left drops its slot here, which gives it back.
            drop(wake.send(Slot::new(Arc::clone(self), holding)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place: running at once, or waiting for its turn.
#[derive(Debug)]
pub(super) enum Place {
    /// Its turn has come.
    Running(Slot, Vec<Growing>),
    /// Its turn will come.
    Waiting(Waiter, Vec<Growing>),
}

impl Place {
    /// Waits for the turn.
    pub(super) async fn turn(self) -> Turn {
        match self {
            Self::Running(slot, growing) => Turn { slot, growing },
            Self::Waiting(mut waiter, growing) => {
                let slot = (&mut waiter.wake).await.expect("the scheduler outlives whoever waits for it");
                Turn { slot, growing }
            }
        }
    }
}

/// A ticket in the waiting line; dropping it leaves the line.
#[derive(Debug)]
pub(super) struct Waiter {
    scheduler: Arc<Scheduler>,
    ticket: u64,
    wake: oneshot::Receiver<Slot>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let started = self.scheduler.lock().give_up(self.ticket);
        self.scheduler.start(started);
    }
}

/// A running request; dropping it frees its blocks and starts the next in line.
#[derive(Debug)]
pub(super) struct Slot {
    scheduler: Arc<Scheduler>,
    holding: Option<Holding>,
}

impl Slot {
    fn new(scheduler: Arc<Scheduler>, holding: Holding) -> Self {
        scheduler.running.fetch_add(1, Ordering::Relaxed);
        Self { scheduler, holding: Some(holding) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(holding) = self.holding.take() {
            self.scheduler.running.fetch_sub(1, Ordering::Relaxed);
            let started = self.scheduler.lock().leave(holding);
            self.scheduler.start(started);
        }
    }
}

/// A sequence's last, not yet full block.
#[derive(Debug)]
pub(super) struct Growing {
    tokens: usize,
    chain: u64,
    tail: Vec<u8>,
    /// The block that the answer has grown into; until then its tokens go to the prompt's last one.
    block: Option<u32>,
}

impl Growing {
    fn after(prompt: &Prompt) -> Self {
        Self { tokens: prompt.tokens, chain: prompt.chain(), tail: prompt.tail.clone(), block: None }
    }
}

/// A running request with its growing sequences.
#[derive(Debug)]
pub(super) struct Turn {
    slot: Slot,
    growing: Vec<Growing>,
}

impl Turn {
    /// Counts the prompt tokens that were found in the cache, once for the `n` sequences of each prompt.
    pub(super) fn cached_tokens(&self, n: usize) -> usize {
        let reused = self.slot.holding.iter().flat_map(|holding| holding.reused.iter().step_by(n));
        reused.sum::<usize>() * self.slot.scheduler.block_size
    }

    /// Appends one token to a sequence; the lock is taken once a block.
    pub(super) fn advance(&mut self, sequence: usize, token: &[u8]) {
        let size = self.slot.scheduler.block_size;
        let (Some(growing), Some(holding)) = (self.growing.get_mut(sequence), &mut self.slot.holding) else {
            return;
        };
        if growing.tokens.is_multiple_of(size) {
            growing.block = self.slot.scheduler.lock().pool_mut().grow(holding);
        }
        growing.tokens += 1;
        growing.tail.extend_from_slice(token);
        if growing.tokens.is_multiple_of(size) {
            growing.chain = block_hash(&growing.tail, growing.chain);
            growing.tail.clear();
            if let Some(block) = growing.block.or(holding.lasts.get(sequence).copied().flatten()) {
                self.slot.scheduler.lock().pool_mut().seal(block, growing.chain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { max_num_seqs: 1, max_waiting: 4, kv_blocks: 8, block_size: 4, ..Options::default() }
    }

    #[tokio::test]
    async fn dropping_a_slot_starts_the_next_and_dropping_a_waiter_leaves_the_line() {
        let scheduler = Scheduler::new(&options());
        let prompt = Prompt::of_text("one two three", 4);
        let first = scheduler.enter(&[(&prompt, 4)]).expect("a place").turn().await;
        let second = scheduler.enter(&[(&prompt, 4)]).expect("a place");
        let third = scheduler.enter(&[(&prompt, 4)]).expect("a place");
        assert_eq!((scheduler.load().running, scheduler.load().waiting), (1, 2));
        drop(second);
        assert_eq!(scheduler.load().waiting, 1);
        drop(first);
        assert_eq!((scheduler.load().running, scheduler.load().waiting), (1, 0));
        drop(third);
        assert_eq!((scheduler.load().running, scheduler.running()), (0, 0));
        assert!(scheduler.load().kv_usage.abs() < f64::EPSILON);
    }

    #[tokio::test]
    async fn an_answer_sent_back_as_a_prompt_is_found_in_the_cache() {
        let scheduler = Scheduler::new(&options());
        let prompt = Prompt::of_text("one two six ten\n", 4);
        let mut turn = scheduler.enter(&[(&prompt, 8)]).expect("a place").turn().await;
        assert_eq!(turn.cached_tokens(1), 0);
        for word in ["Red", " sun", " is", " far", " up", " now"] {
            turn.advance(0, word.as_bytes());
        }
        drop(turn);
        let next = Prompt::of_text("one two six ten\nRed sun is far up now and then\n", 4);
        let turn = scheduler.enter(&[(&next, 1)]).expect("a place").turn().await;
        assert_eq!(turn.cached_tokens(1), 8, "one block of the prompt and one that the answer completed");
    }
}
