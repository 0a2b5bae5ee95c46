//! The scheduler as tasks see it: a slot in it is a guard, and dropping that guard gives everything back.
//! It refuses to know HTTP and what is generated; the rules of the queue are in `queue`, those of blocks in `kv`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::SimOptions;
use super::kv::{BlockAllocation, BlockContent, BlockDemand, BlockPool};
use super::kv_events::KvPublisher;
use super::queue::{Admission, RequestQueue};
use super::tokens::{TokenizedPrompt, block_hash, ids_of};

type SharedQueue = RequestQueue<oneshot::Sender<RunningSlot>>;

/// The state shared by all requests of one simulated server.
#[derive(Debug)]
pub(super) struct Scheduler {
    queue: Mutex<SharedQueue>,
    running: AtomicUsize,
    block_size: usize,
    /// Where changes of blocks are told.
    pub(super) publisher: Option<Arc<KvPublisher>>,
}

/// What the gauges of `/metrics` show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) running: usize,
    pub(super) waiting: usize,
    /// The share of blocks that running requests hold, `0..=1`.
    pub(super) kv_usage: f64,
}

impl Scheduler {
    /// Makes an idle scheduler.
    pub(super) fn new(options: &SimOptions) -> Arc<Self> {
        let mut pool = BlockPool::new(options.capacity.kv_blocks, options.capacity.prefix_caching);
        let model = options.models.first().map_or("", String::as_str);
        let publisher = options.kv_events.then(|| KvPublisher::new(model, options.capacity.block_size));
        if publisher.is_some() {
            pool.tell_changes();
        }
        Arc::new(Self {
            queue: Mutex::new(RequestQueue::new(
                options.capacity.max_num_seqs,
                options.capacity.max_waiting,
                pool,
            )),
            running: AtomicUsize::new(0),
            block_size: options.capacity.block_size,
            publisher,
        })
    }

    pub(super) fn load(&self) -> Load {
        let queue = self.lock();
        let kv_usage = queue.pool().used() as f64 / queue.pool().total().max(1) as f64;
        Load { running: queue.running(), waiting: queue.waiting(), kv_usage }
    }

    /// The number of running requests, read without the lock.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// The tokens that all blocks hold.
    pub(super) fn capacity_tokens(&self) -> usize {
        self.lock().pool().total() * self.block_size
    }

    /// Submits one request of several sequences: each prompt with the number of tokens that will follow it.
    /// `None` when the queue is full.
    pub(super) fn submit(self: &Arc<Self>, sequences: &[(&TokenizedPrompt, usize)]) -> Option<Placement> {
        let demands = sequences.iter().map(|(prompt, tokens)| self.demand(prompt, *tokens)).collect();
        let tails = sequences.iter().map(|(prompt, _)| SequenceTail::after(prompt)).collect();
        let mut receiver = None;
        let admission = self.change(|queue| {
            queue.submit(demands, || {
                let (sender, woken) = oneshot::channel();
                receiver = Some(woken);
                sender
            })
        });
        match (admission, receiver) {
            (Admission::Running(blocks), _) => {
                Some(Placement::Running(RunningSlot::new(Arc::clone(self), blocks), tails))
            }
            (Admission::Waiting(ticket), Some(wake)) => {
                let waiting = WaitingSlot { scheduler: Arc::clone(self), ticket, wake };
                Some(Placement::Waiting(waiting, tails))
            }
            (Admission::Waiting(_) | Admission::Full, _) => None,
        }
    }

    fn demand(&self, prompt: &TokenizedPrompt, tokens: usize) -> BlockDemand {
        let prompt_blocks = prompt.tokens.div_ceil(self.block_size);
        let all_blocks = (prompt.tokens + tokens).div_ceil(self.block_size);
        BlockDemand {
            hashes: prompt.hashes.clone(),
            reusable: prompt.tokens.saturating_sub(1) / self.block_size,
            prompt_blocks,
            later_blocks: all_blocks - prompt_blocks,
            ids: if self.publisher.is_some() {
                prompt.ids().chunks_exact(self.block_size).map(<[u64]>::to_vec).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn start(self: &Arc<Self>, started: Vec<(oneshot::Sender<RunningSlot>, BlockAllocation)>) {
        for (wake, blocks) in started {
            // The slot of a request that was just cancelled is dropped here, which frees it.
            drop(wake.send(RunningSlot::new(Arc::clone(self), blocks)));
        }
    }

    /// Changes the queue or its blocks, and tells what has changed, in order.
    fn change<T>(&self, change: impl FnOnce(&mut SharedQueue) -> T) -> T {
        let mut queue = self.lock();
        let result = change(&mut queue);
        if let Some(publisher) = &self.publisher {
            publisher.publish(&queue.pool_mut().take_changes());
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, SharedQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a submitted request is.
#[derive(Debug)]
pub(super) enum Placement {
    Running(RunningSlot, Vec<SequenceTail>),
    Waiting(WaitingSlot, Vec<SequenceTail>),
}

impl Placement {
    /// Waits until the request runs.
    pub(super) async fn until_running(self) -> RunningRequest {
        match self {
            Self::Running(slot, tails) => RunningRequest { slot, tails },
            Self::Waiting(mut waiting, tails) => {
                let slot = (&mut waiting.wake).await.expect("the scheduler outlives its waiting requests");
                RunningRequest { slot, tails }
            }
        }
    }
}

/// A waiting request; dropping it cancels it.
#[derive(Debug)]
pub(super) struct WaitingSlot {
    scheduler: Arc<Scheduler>,
    ticket: u64,
    wake: oneshot::Receiver<RunningSlot>,
}

impl Drop for WaitingSlot {
    fn drop(&mut self) {
        let started = self.scheduler.change(|queue| queue.cancel(self.ticket));
        self.scheduler.start(started);
    }
}

/// The slot of a running request; dropping it frees its blocks and starts the next in the queue.
#[derive(Debug)]
pub(super) struct RunningSlot {
    scheduler: Arc<Scheduler>,
    blocks: Option<BlockAllocation>,
}

impl RunningSlot {
    fn new(scheduler: Arc<Scheduler>, blocks: BlockAllocation) -> Self {
        scheduler.running.fetch_add(1, Ordering::Relaxed);
        Self { scheduler, blocks: Some(blocks) }
    }
}

impl Drop for RunningSlot {
    fn drop(&mut self) {
        if let Some(blocks) = self.blocks.take() {
            self.scheduler.running.fetch_sub(1, Ordering::Relaxed);
            let started = self.scheduler.change(|queue| queue.finish(blocks));
            self.scheduler.start(started);
        }
    }
}

/// A sequence's last, not yet full block.
#[derive(Debug)]
pub(super) struct SequenceTail {
    tokens: usize,
    chain: u64,
    bytes: Vec<u8>,
    /// The block that generated tokens grow into; until there is one they go to the prompt's last one.
    block: Option<u32>,
}

impl SequenceTail {
    fn after(prompt: &TokenizedPrompt) -> Self {
        Self { tokens: prompt.tokens, chain: prompt.chain(), bytes: prompt.tail.clone(), block: None }
    }
}

/// A running request with its sequences.
#[derive(Debug)]
pub(super) struct RunningRequest {
    slot: RunningSlot,
    tails: Vec<SequenceTail>,
}

impl RunningRequest {
    /// Counts the prompt tokens that were found in the cache, once for the `n` sequences of each prompt.
    pub(super) fn cached_tokens(&self, n: usize) -> usize {
        let reused = self.slot.blocks.iter().flat_map(|blocks| blocks.reused.iter().step_by(n));
        reused.sum::<usize>() * self.slot.scheduler.block_size
    }

    /// Appends one token to a sequence; the lock is taken once a block.
    pub(super) fn append_token(&mut self, sequence: usize, token: &[u8]) {
        let size = self.slot.scheduler.block_size;
        let (Some(tail), Some(blocks)) = (self.tails.get_mut(sequence), &mut self.slot.blocks) else {
            return;
        };
        if tail.tokens.is_multiple_of(size) {
            tail.block = self.slot.scheduler.change(|queue| queue.pool_mut().grow(blocks));
        }
        tail.tokens += 1;
        tail.bytes.extend_from_slice(token);
        if tail.tokens.is_multiple_of(size) {
            let (parent, bytes) = (tail.chain, std::mem::take(&mut tail.bytes));
            tail.chain = block_hash(&bytes, parent);
            if let Some(block) = tail.block.or(blocks.lasts.get(sequence).copied().flatten()) {
                let content = || BlockContent { parent, ids: ids_of(&String::from_utf8_lossy(&bytes)) };
                let chain = tail.chain;
                self.slot.scheduler.change(|queue| queue.pool_mut().seal(block, chain, content));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SimCapacity;
    use super::*;

    fn options() -> SimOptions {
        let capacity = SimCapacity {
            max_num_seqs: 1,
            max_waiting: 4,
            kv_blocks: 8,
            block_size: 4,
            ..SimCapacity::default()
        };
        SimOptions { capacity, ..SimOptions::default() }
    }

    #[tokio::test]
    async fn dropping_a_slot_starts_the_next_and_dropping_a_waiting_request_cancels_it() {
        let scheduler = Scheduler::new(&options());
        let prompt = TokenizedPrompt::of_text("one two three", 4);
        let first = scheduler.submit(&[(&prompt, 4)]).expect("a slot").until_running().await;
        let second = scheduler.submit(&[(&prompt, 4)]).expect("a slot");
        let third = scheduler.submit(&[(&prompt, 4)]).expect("a slot");
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
    async fn a_completion_sent_back_as_a_prompt_is_found_in_the_cache() {
        let scheduler = Scheduler::new(&options());
        let prompt = TokenizedPrompt::of_text("one two six ten\n", 4);
        let mut running = scheduler.submit(&[(&prompt, 8)]).expect("a slot").until_running().await;
        assert_eq!(running.cached_tokens(1), 0);
        for word in ["Red", " sun", " is", " far", " up", " now"] {
            running.append_token(0, word.as_bytes());
        }
        drop(running);
        let next = TokenizedPrompt::of_text("one two six ten\nRed sun is far up now and then\n", 4);
        let running = scheduler.submit(&[(&next, 1)]).expect("a slot").until_running().await;
        assert_eq!(
            running.cached_tokens(1),
            8,
            "one block of the prompt and one that generated tokens completed"
        );
    }
}
