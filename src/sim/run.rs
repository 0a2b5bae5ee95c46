//! One answer over time: its turn, its first token, each further one, its end; counted as it goes.
//! It refuses to know how the answer is written down.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::api::Engine;
use super::ask::Ask;
use super::schedule::{Place, Turn};
use super::stats::Finished;
use super::words::{Answer, Brief, Dice, Finish, Prompt};

/// What the client is billed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Tokens of the prompts.
    pub(super) prompt: usize,
    /// Tokens of the answers so far.
    pub(super) output: usize,
    /// Prompt tokens that were cached.
    pub(super) cached: usize,
}

/// An answer under way; dropped before its end, it counts as aborted.
#[derive(Debug)]
pub(super) struct Run {
    engine: Arc<Engine>,
    /// What was asked.
    pub(super) ask: Ask,
    /// The answers, one a choice, written in advance and told bit by bit.
    pub(super) answers: Vec<Answer>,
    place: Option<Place>,
    turn: Option<Turn>,
    cached: usize,
    told: usize,
    times: Times,
    over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    arrived: Instant,
    scheduled: Instant,
    first: Instant,
    last: Instant,
    due: Instant,
}

impl Run {
    /// Writes the answers and takes a place for them; `None` when there is none.
    pub(super) fn new(engine: Arc<Engine>, ask: Ask, arrived: Instant) -> Option<Self> {
        let options = &engine.options;
        let natural = if ask.ignore_eos { usize::MAX } else { options.default_max_tokens.max(1) };
        let mut dice = Dice(options.seed);
        let mut answers = Vec::with_capacity(ask.prompts.len() * ask.n);
        let mut sequences: Vec<(&Prompt, usize)> = Vec::with_capacity(answers.capacity());
        for prompt in &ask.prompts {
            for _ in 0..ask.n {
                let seed = dice.roll() ^ prompt.digest;
                let brief = Brief { seed, natural, limit: ask.max_tokens, stops: &ask.stops };
                let answer = Answer::write(brief);
                sequences.push((prompt, answer.ends.len()));
                answers.push(answer);
            }
        }
        let place = Some(engine.scheduler.enter(&sequences)?);
        let times = Times { arrived, scheduled: arrived, first: arrived, last: arrived, due: arrived };
        Some(Self { engine, ask, answers, place, turn: None, cached: 0, told: 0, times, over: false })
    }

    /// Waits for the turn and for the first token.
    pub(super) async fn begin(&mut self) {
        let Some(place) = self.place.take() else { return };
        let turn = place.turn().await;
        self.times.scheduled = Instant::now();
        let tokens = self.prompt_tokens();
        self.cached = turn.cached_tokens(self.ask.n);
        let options = &self.engine.options;
        self.engine.stats.scheduled(tokens, self.cached, options.prefix_caching);
        self.turn = Some(turn);
        let computed = u32::try_from(tokens - self.cached).unwrap_or(u32::MAX);
        let prefill = options.ttft + options.prefill_per_token * computed;
        self.times.due = self.times.scheduled;
        self.pass(prefill).await;
        self.times.first = Instant::now();
        self.times.last = self.times.first;
        self.engine.stats.first_token.time(self.times.first - self.times.arrived);
        let told = self.tell();
        self.engine.stats.stepped(told, None);
    }

    /// Waits for the next token.
    pub(super) async fn step(&mut self) {
        self.pass(self.engine.options.itl).await;
        let now = Instant::now();
        let told = self.tell();
        self.engine.stats.stepped(told, Some(now - self.times.last));
        self.times.last = now;
    }

    /// How many tokens of each choice have been told.
    pub(super) fn told(&self) -> usize {
        self.told
    }

    /// Whether every choice has been told to its end.
    pub(super) fn is_told(&self) -> bool {
        self.answers.iter().all(|answer| answer.ends.len() <= self.told)
    }

    /// The usage so far.
    pub(super) fn usage(&self) -> Usage {
        let output = self.answers.iter().map(|answer| answer.ends.len().min(self.told)).sum();
        Usage { prompt: self.prompt_tokens(), output, cached: self.cached }
    }

    /// The usage of one choice so far.
    pub(super) fn usage_of(&self, choice: usize) -> Usage {
        let prompt = self.ask.prompts[choice / self.ask.n].tokens;
        Usage { prompt, output: self.answers[choice].ends.len().min(self.told), cached: self.cached }
    }

    /// Gives the place back and counts the request as answered.
    pub(super) fn end(&mut self) {
        if self.over {
            return;
        }
        self.over = true;
        self.turn = None;
        let times = &self.times;
        let usage = self.usage();
        let how = self.answers.first().map_or(Finish::Stop, |answer| answer.finish);
        self.engine.stats.finished(
            how,
            Finished {
                queued: times.scheduled - times.arrived,
                prefill: times.first - times.scheduled,
                decode: times.last - times.first,
                prompt_tokens: usage.prompt,
                output_tokens: usage.output,
                sequences: self.answers.len(),
                max_tokens: self.ask.max_tokens,
            },
        );
    }

    fn prompt_tokens(&self) -> usize {
        self.ask.prompts.iter().map(|prompt| prompt.tokens).sum()
    }

    /// Lets time pass, stretched by the load; the schedule is kept, so that waiting late does not add up.
    async fn pass(&mut self, idle_time: Duration) {
        if idle_time.is_zero() {
            return;
        }
        self.times.due += idle_time.mul_f64(self.engine.stretch());
        sleep_until(self.times.due).await;
    }

    fn tell(&mut self) -> usize {
        let index = self.told;
        self.told += 1;
        let Some(turn) = &mut self.turn else { return 0 };
        let mut told = 0;
        for (choice, answer) in self.answers.iter().enumerate() {
            if index < answer.ends.len() {
                turn.advance(choice, answer.token(index).as_bytes());
                told += 1;
            }
        }
        told
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.over {
            self.engine.stats.left();
        }
    }
}
