//! Owns a simulated engine: its queue, its steps and its KV cache. Refuses to know who chose it.

use signalbox::balance::{EngineMetrics, KvCacheSize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

/// Tokens of a block.
pub(super) const BLOCK: usize = 64;

/// Blocks of an engine's KV cache: 307,000 tokens.
const BLOCKS: usize = 4_800;

/// Tokens that a step computes at most.
const BUDGET: usize = 8_192;

/// Sequences that run at once at most.
const MAX_RUNNING: usize = 256;

/// What a step takes at least, in seconds.
const STEP: f64 = 0.015;

/// What each sequence adds.
const STEP_SEQUENCE: f64 = 0.000_15;

/// What each token of a prompt adds.
const STEP_PROMPT: f64 = 1.0 / 16_000.0;

/// The name of a block that one request alone has.
pub(super) fn own_block(kind: u64, request: usize, block: u64) -> u64 {
    kind | ((request as u64) << 16) | block
}

/// One request on an engine.
pub(super) struct Sequence {
    pub(super) id: usize,
    /// The blocks of its prompt, by name.
    pub(super) prompt: Vec<u64>,
    pub(super) prompt_tokens: usize,
    /// Tokens of the prompt that are computed or were cached.
    pub(super) computed: usize,
    pub(super) generated: usize,
    pub(super) answer: usize,
    /// Blocks that it holds.
    pub(super) held: Vec<u64>,
}

impl Sequence {
    fn tokens(&self) -> usize {
        self.prompt_tokens + self.generated
    }
}

/// The blocks of an engine's KV cache.
#[derive(Default)]
pub(super) struct Cache {
    /// References to each block, and when it was used last.
    blocks: HashMap<u64, (u32, u64)>,
    /// Blocks without a reference, the one used longest ago first.
    idle: BTreeMap<u64, u64>,
    clock: u64,
}

impl Cache {
    fn used(&self) -> usize {
        self.blocks.len() - self.idle.len()
    }

    fn has_room(&self, blocks: usize) -> bool {
        self.used() + blocks <= BLOCKS
    }

    fn take(&mut self, block: u64) {
        let (references, used) = self.blocks.entry(block).or_insert((0, 0));
        if *references == 0 {
            self.idle.remove(used);
        }
        *references += 1;
        if self.blocks.len() > BLOCKS {
            let (_, oldest) = self.idle.pop_first().expect("there was room");
            self.blocks.remove(&oldest);
        }
    }

    fn give_back(&mut self, blocks: &mut Vec<u64>) {
        for block in blocks.drain(..).rev() {
            let (references, used) = self.blocks.get_mut(&block).expect("held blocks are there");
            *references -= 1;
            if *references == 0 {
                self.clock += 1;
                *used = self.clock;
                self.idle.insert(self.clock, block);
            }
        }
    }

    pub(super) fn cached(&self, prompt: &[u64]) -> usize {
        prompt.iter().take_while(|block| self.blocks.contains_key(block)).count()
    }
}

/// One engine.
pub(super) struct Engine {
    /// What it takes, in multiples of the usual time.
    pub(super) slowness: f64,
    pub(super) waiting: VecDeque<Sequence>,
    pub(super) running: Vec<Sequence>,
    pub(super) cache: Cache,
    pub(super) is_stepping: bool,
    /// Tokens of prompts, and those of them that were cached.
    pub(super) prompt_tokens: usize,
    pub(super) cached_tokens: usize,
    pub(super) requests: usize,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            slowness: 1.0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            cache: Cache::default(),
            is_stepping: false,
            prompt_tokens: 0,
            cached_tokens: 0,
            requests: 0,
        }
    }
}

/// What a step did: requests that had their first token, and those that are over.
#[derive(Default)]
pub(super) struct StepEnd {
    pub(super) first: Vec<usize>,
    pub(super) over: Vec<usize>,
    /// Tokens that were generated.
    pub(super) tokens: usize,
}

impl Engine {
    /// Plans the next step; gives what it takes, in seconds.
    pub(super) fn step(&mut self) -> f64 {
        let mut budget = BUDGET;
        for sequence in &self.running {
            if sequence.computed >= sequence.prompt_tokens {
                budget = budget.saturating_sub(1);
            }
        }
        let decoding = BUDGET - budget;
        let mut prefilled = 0;
        for sequence in &mut self.running {
            let rest = (sequence.prompt_tokens - sequence.computed.min(sequence.prompt_tokens)).min(budget);
            sequence.computed += rest;
            (budget, prefilled) = (budget - rest, prefilled + rest);
        }
        while budget > 0 && self.running.len() < MAX_RUNNING {
            let Some(next) = self.waiting.front() else { break };
            let cached = self.cache.cached(&next.prompt).min(next.prompt_tokens.saturating_sub(1) / BLOCK);
            if !self.cache.has_room(next.prompt.len()) {
                break;
            }
            let mut sequence = self.waiting.pop_front().expect("it was there");
            for block in &sequence.prompt {
                self.cache.take(*block);
            }
            sequence.held.clone_from(&sequence.prompt);
            sequence.computed = cached * BLOCK;
            self.prompt_tokens += sequence.prompt_tokens;
            self.cached_tokens += sequence.computed;
            let rest = (sequence.prompt_tokens - sequence.computed).min(budget);
            sequence.computed += rest;
            (budget, prefilled) = (budget - rest, prefilled + rest);
            self.running.push(sequence);
        }
        self.slowness * (STEP + STEP_SEQUENCE * decoding as f64 + STEP_PROMPT * prefilled as f64)
    }

    /// Ends a step: each computed sequence has one token more.
    pub(super) fn end_step(&mut self) -> StepEnd {
        let mut end = StepEnd::default();
        let mut at = 0;
        while at < self.running.len() {
            let sequence = &mut self.running[at];
            if sequence.computed < sequence.prompt_tokens {
                at += 1;
                continue;
            }
            if sequence.tokens().is_multiple_of(BLOCK) && !self.cache.has_room(1) {
                // Preempted: the youngest gives its blocks back and is computed anew.
                let mut last = self.running.pop().expect("one is running");
                self.cache.give_back(&mut last.held);
                last.computed = 0;
                self.waiting.push_front(last);
                continue;
            }
            if sequence.tokens().is_multiple_of(BLOCK) {
                let block = (sequence.tokens() / BLOCK) as u64;
                let name = own_block(1 << 62, sequence.id, block);
                self.cache.take(name);
                sequence.held.push(name);
            }
            sequence.generated += 1;
            end.tokens += 1;
            if sequence.generated == 1 {
                end.first.push(sequence.id);
            }
            if sequence.generated >= sequence.answer {
                let mut over = self.running.remove(at);
                self.cache.give_back(&mut over.held);
                end.over.push(over.id);
            } else {
                at += 1;
            }
        }
        end
    }

    pub(super) fn metrics(&self, at: Instant) -> EngineMetrics {
        EngineMetrics {
            waiting: Some(self.waiting.len() as f32),
            running: Some(self.running.len() as f32),
            kv_usage: Some(self.cache.used() as f32 / BLOCKS as f32),
            kv_cache: Some(KvCacheSize { block_tokens: BLOCK as u32, blocks: BLOCKS as u32 }),
            ..EngineMetrics::new(at)
        }
    }
}
