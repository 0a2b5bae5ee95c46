//! One completion over time: scheduled, first token, each further token, end; counted as it goes.
//! It refuses to know how it is written.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::engine::SimEngine;
use super::generation::{Generation, SamplingParams, SimFinishReason, SplitMix64};
use super::request::SimRequest;
use super::schedule::{Placement, RunningRequest};
use super::stats::FinishedRequest;
use super::structured::OutputForm;
use super::tokens::TokenizedPrompt;
use super::transfer::{EndedPrompt, SglangRole};

/// Tokens so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct SimUsage {
    pub(super) prompt: usize,
    pub(super) output: usize,
    /// Prompt tokens that were cached.
    pub(super) cached: usize,
}

/// A completion under way; dropped before its end, it counts as aborted.
#[derive(Debug)]
pub(super) struct Completion {
    engine: Arc<SimEngine>,
    pub(super) request: SimRequest,
    /// One a choice, generated in advance and emitted token by token.
    pub(super) choices: Vec<Generation>,
    placement: Option<Placement>,
    running: Option<RunningRequest>,
    cached: usize,
    /// What the engine that goes on from here is to be told.
    pub(super) handed_over: Value,
    emitted: usize,
    times: Timestamps,
    is_over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Timestamps {
    arrived: Instant,
    scheduled: Instant,
    first: Instant,
    last: Instant,
    due: Instant,
}

impl Completion {
    /// Generates the texts and submits the request; `None` when the queue is full.
    pub(super) fn new(engine: Arc<SimEngine>, request: SimRequest, arrived: Instant) -> Option<Self> {
        let options = &engine.options;
        let natural_tokens = if request.ignore_eos { usize::MAX } else { options.default_max_tokens.max(1) };
        let mut random = SplitMix64(options.seed);
        let mut choices = Vec::with_capacity(request.prompts.len() * request.n);
        let mut sequences: Vec<(&TokenizedPrompt, usize)> = Vec::with_capacity(choices.capacity());
        for prompt in &request.prompts {
            for _ in 0..request.n {
                let seed = random.next_u64() ^ prompt.digest;
                let max_tokens = request.max_tokens;
                let choice = match &request.form {
                    OutputForm::Text => {
                        let stops = &request.stops;
                        Generation::new(SamplingParams { seed, natural_tokens, max_tokens, stops })
                    }
                    OutputForm::Json(text) => Generation::fixed(text, max_tokens),
                    OutputForm::Call(call) => Generation::fixed(&call.arguments, max_tokens),
                };
                sequences.push((prompt, choice.ends.len()));
                choices.push(choice);
            }
        }
        let placement = Some(engine.scheduler.submit(&sequences)?);
        let times = Timestamps { arrived, scheduled: arrived, first: arrived, last: arrived, due: arrived };
        let running = None;
        Some(Self {
            engine,
            request,
            choices,
            placement,
            running,
            cached: 0,
            handed_over: Value::Null,
            emitted: 0,
            times,
            is_over: false,
        })
    }

    /// Waits until the request runs, and for the first token.
    pub(super) async fn begin(&mut self) {
        let Some(placement) = self.placement.take() else { return };
        let running = placement.until_running().await;
        self.times.scheduled = Instant::now();
        let tokens = self.prompt_tokens();
        self.cached = running.cached_tokens(self.request.n);
        let options = &self.engine.options;
        self.engine.stats.scheduled(tokens, self.cached, options.capacity.prefix_caching);
        self.running = Some(running);
        let latency = &options.latency;
        let tokens_of = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        let prompt = &self.request.prompts[0];
        let fetched = match (&self.request.room, options.sglang) {
            (Some(room), Some(SglangRole::Decode)) => room.fetch(prompt).await,
            _ => self.request.transfer.fetch(prompt).await,
        };
        // One token is always computed.
        let fetched = fetched.min(tokens.saturating_sub(1));
        let prefill = if fetched > self.cached {
            let time = latency.transfer_per_token * tokens_of(fetched - self.cached);
            self.cached = fetched;
            time
        } else {
            latency.ttft + latency.prefill_per_token * tokens_of(tokens - self.cached)
        };
        self.times.due = self.times.scheduled;
        self.sleep(prefill).await;
        if let (Some(room), Some(SglangRole::Prefill)) = (&self.request.room, self.engine.options.sglang) {
            self.engine.kept.wait_in(room, &self.request.prompts[0]).await;
        }
        self.times.first = Instant::now();
        self.times.last = self.times.first;
        self.engine.stats.first_token(self.times.first - self.times.arrived);
        let emitted = self.emit();
        self.engine.stats.stepped(emitted, None);
    }

    /// Waits for the next token.
    pub(super) async fn step(&mut self) {
        self.sleep(self.engine.options.latency.itl).await;
        let now = Instant::now();
        let emitted = self.emit();
        self.engine.stats.stepped(emitted, Some(now - self.times.last));
        self.times.last = now;
    }

    /// How many tokens of each choice have been emitted.
    pub(super) fn emitted(&self) -> usize {
        self.emitted
    }

    /// Whether every choice has been emitted to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.choices.iter().all(|choice| choice.ends.len() <= self.emitted)
    }

    pub(super) fn usage(&self) -> SimUsage {
        let output = self.choices.iter().map(|choice| choice.ends.len().min(self.emitted)).sum();
        SimUsage { prompt: self.prompt_tokens(), output, cached: self.cached }
    }

    /// The usage of one choice so far.
    pub(super) fn usage_of(&self, choice: usize) -> SimUsage {
        let prompt = self.request.prompts[choice / self.request.n].tokens;
        SimUsage { prompt, output: self.choices[choice].ends.len().min(self.emitted), cached: self.cached }
    }

    /// Gives the slot back and counts the request as finished.
    pub(super) fn end(&mut self) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        self.running = None;
        self.hand_over();
        let times = &self.times;
        let usage = self.usage();
        let reason = self.choices.first().map_or(SimFinishReason::Stop, |choice| choice.finish);
        self.engine.stats.finished(
            reason,
            FinishedRequest {
                queued: times.scheduled - times.arrived,
                prefill: times.first - times.scheduled,
                decode: times.last - times.first,
                prompt_tokens: usage.prompt,
                output_tokens: usage.output,
                sequences: self.choices.len(),
                max_tokens: self.request.max_tokens,
            },
        );
    }

    /// Keeps the prompt for another engine, where that is asked for.
    fn hand_over(&mut self) {
        let engine = &self.engine;
        let is_cut = self.choices.iter().all(|choice| choice.finish == SimFinishReason::Length);
        let request = format!("cmpl-{:016x}", engine.random().next_u64());
        let block_size = engine.options.capacity.block_size;
        let ended = EndedPrompt { prompt: &self.request.prompts[0], is_cut, block_size, request: &request };
        self.handed_over = engine.kept.keep(&self.request.transfer, ended);
    }

    fn prompt_tokens(&self) -> usize {
        self.request.prompts.iter().map(|prompt| prompt.tokens).sum()
    }

    /// Lets time pass, stretched by the load; the schedule is kept, so that waiting late does not add up.
    async fn sleep(&mut self, idle_time: Duration) {
        self.engine.until_unwedged().await;
        if idle_time.is_zero() {
            return;
        }
        self.times.due += idle_time.mul_f64(self.engine.stretch());
        sleep_until(self.times.due).await;
    }

    /// Emits the next token of every choice that has one, and counts them.
    fn emit(&mut self) -> usize {
        let index = self.emitted;
        self.emitted += 1;
        let Some(running) = &mut self.running else { return 0 };
        let mut emitted = 0;
        for (sequence, choice) in self.choices.iter().enumerate() {
            if index < choice.ends.len() {
                running.append_token(sequence, choice.token(index).as_bytes());
                emitted += 1;
            }
        }
        emitted
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.is_over {
            self.engine.stats.aborted();
        }
    }
}
