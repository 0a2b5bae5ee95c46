//! Owns one run: a pool of the gateway's own in front of simulated engines, in virtual time. Refuses to know which way of
//! choosing is meant to win.

use super::engine::{BLOCK, Engine, Sequence, own_block};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use signalbox::balance::{Endpoint, Lease, PickPrompt, PickRequest, Pool, PoolMember};
use signalbox::openai::ChatRequest;
use signalbox::policy::Balance;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often engines are asked for their figures, in microseconds.
const SCRAPE: u64 = 200_000;

/// What arrives.
#[derive(Clone, Copy)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) engines: usize,
    /// Prompts of one group begin with the same text; `None`: no two do.
    pub(super) groups: Option<u64>,
    /// How uneven groups are: each next one is asked for less often by this power of its rank.
    pub(super) skew: f64,
    /// Tokens that the prompts of a group share.
    pub(super) shared: usize,
    /// Tokens that a prompt has alone.
    pub(super) own: usize,
    pub(super) answer: usize,
    /// Requests a second.
    pub(super) rates: &'static [f64],
}

/// What a run gave.
#[derive(Default)]
pub(super) struct Outcome {
    /// Tokens of answers a second.
    pub(super) tokens: f64,
    /// Times to the first token, in seconds, in order.
    ttft: Vec<f64>,
    /// The share of prompts' tokens that were cached, 0 to 1.
    pub(super) hits: f64,
    /// The most that one engine got, as a multiple of its fair share.
    pub(super) busiest: f64,
}

impl Outcome {
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let at = (self.ttft.len() as f64 * share) as usize;
        self.ttft.get(at.min(self.ttft.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    pub(super) fn mean(&self) -> f64 {
        self.ttft.iter().sum::<f64>() / self.ttft.len() as f64
    }
}

/// What happens next.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    StepEnd(usize),
    Scrape,
}

/// A request under way, as the gateway sees it.
struct Flight {
    came: f64,
    lease: Option<Lease>,
    /// Tokens of its prompt that its engine had cached.
    cached: usize,
    has_token: bool,
}

/// Engines behind a pool.
struct Cluster<'a> {
    workload: &'a Workload,
    start: Instant,
    endpoints: Vec<Arc<Endpoint>>,
    pool: Arc<Pool>,
    engines: Vec<Engine>,
    flights: Vec<Flight>,
    /// By time, in microseconds.
    events: BinaryHeap<Reverse<(u64, Event)>>,
    rng: SmallRng,
    /// How often each group and those before it are asked for.
    cumulative: Vec<f64>,
    systems: HashMap<u64, String>,
    /// Figures count from then on, in seconds.
    warm: f64,
    now: f64,
    generated: usize,
    outcome: Outcome,
}

/// Runs a workload at a rate for so many seconds, the first quarter of which does not count.
pub(super) fn run(workload: &Workload, balance: &Balance, rate: f64, seconds: f64) -> Outcome {
    let mut cluster = Cluster::new(workload, balance, seconds / 4.0);
    cluster.events.push(Reverse((0, Event::Arrival)));
    cluster.events.push(Reverse((0, Event::Scrape)));
    while let Some(Reverse((micros, event))) = cluster.events.pop() {
        cluster.now = micros as f64 / 1e6;
        if cluster.now > seconds {
            break;
        }
        match event {
            Event::Arrival => cluster.arrive(rate),
            Event::StepEnd(at) => cluster.end_step(at),
            Event::Scrape => cluster.scrape(),
        }
    }
    cluster.finish(seconds)
}

impl<'a> Cluster<'a> {
    fn new(workload: &'a Workload, balance: &Balance, warm: f64) -> Self {
        let endpoint = |last: usize| {
            Endpoint::new(([10, 0, 0, last as u8], 8_000).into(), format!("engine-{last}:8000").into())
        };
        let endpoints: Vec<Arc<Endpoint>> = (0..workload.engines).map(endpoint).collect();
        let member = |endpoint: &Arc<Endpoint>| PoolMember { endpoint: Arc::clone(endpoint), weight: 1 };
        let pool = Pool::new(balance, None, endpoints.iter().map(member).collect(), None);
        let mut sum = 0.0;
        let weights = (1..=workload.groups.unwrap_or(0)).map(|rank| {
            sum += (rank as f64).powf(-workload.skew);
            sum
        });
        Self {
            workload,
            start: Instant::now(),
            pool: Arc::new(pool),
            engines: endpoints.iter().map(|_| Engine::default()).collect(),
            endpoints,
            flights: Vec::new(),
            events: BinaryHeap::new(),
            rng: SmallRng::seed_from_u64(7),
            cumulative: weights.collect(),
            systems: HashMap::new(),
            warm,
            now: 0.0,
            generated: 0,
            outcome: Outcome::default(),
        }
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.now)
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.events.push(Reverse((((self.now + seconds) * 1e6) as u64, event)));
    }

    /// Takes a request, as a Poisson process brings them.
    fn arrive(&mut self, rate: f64) {
        let gap = -(1.0 - self.rng.random::<f64>()).ln() / rate;
        self.after(gap, Event::Arrival);
        let (group, id) = (self.draw_group(), self.flights.len());
        let request = self.request(group, id);
        let prompt = PickPrompt::new(&request);
        let pick = PickRequest { model: "m", prompt: Some(&prompt), ..PickRequest::default() };
        let lease = self.pool.lease(&pick, &[], self.instant()).expect("an endpoint is up");
        let same = |one: &Arc<Endpoint>| Arc::ptr_eq(one, lease.endpoint());
        let at = self.endpoints.iter().position(same).expect("one of the pool's");
        let Workload { shared, own, answer, .. } = *self.workload;
        let first = (0..(shared / BLOCK) as u64).map(|block| (group << 16) | block);
        let rest = (0..own.div_ceil(BLOCK) as u64).map(|block| own_block(1 << 63, id, block));
        let sequence = Sequence {
            id,
            prompt: first.chain(rest).collect(),
            prompt_tokens: shared + own,
            computed: 0,
            generated: 0,
            answer,
            held: Vec::new(),
        };
        let engine = &mut self.engines[at];
        let cached = engine.cache.cached(&sequence.prompt) * BLOCK;
        self.flights.push(Flight { came: self.now, lease: Some(lease), cached, has_token: false });
        engine.requests += usize::from(self.now > self.warm);
        engine.waiting.push_back(sequence);
        if !std::mem::replace(&mut engine.is_stepping, true) {
            let takes = engine.step();
            self.after(takes, Event::StepEnd(at));
        }
    }

    /// Draws a group; with a skew the first are asked for most.
    fn draw_group(&mut self) -> u64 {
        let Some(sum) = self.cumulative.last() else { return self.rng.random_range(0..1 << 40) };
        let point = self.rng.random::<f64>() * sum;
        self.cumulative.partition_point(|sum| *sum <= point) as u64
    }

    fn request(&mut self, group: u64, id: usize) -> ChatRequest {
        let Workload { shared, own, .. } = *self.workload;
        let system = self.systems.entry(group).or_insert_with(|| text("system", group, shared));
        let question = text("question", id as u64, own);
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{question}"}}]}}"#
        );
        ChatRequest::parse(Bytes::from(body)).expect("a request")
    }

    fn end_step(&mut self, at: usize) {
        let end = self.engines[at].end_step();
        if self.now > self.warm {
            self.generated += end.tokens;
        }
        let now = self.instant();
        for id in end.first {
            let flight = &mut self.flights[id];
            flight.has_token = true;
            if let Some(lease) = &flight.lease {
                lease.token(now);
                lease.cached(flight.cached as u64, (self.workload.shared + self.workload.own) as u64);
            }
            if flight.came > self.warm {
                self.outcome.ttft.push(self.now - flight.came);
            }
        }
        for id in end.over {
            self.flights[id].lease = None;
        }
        let engine = &mut self.engines[at];
        engine.is_stepping = !engine.running.is_empty() || !engine.waiting.is_empty();
        if engine.is_stepping {
            let takes = engine.step();
            self.after(takes, Event::StepEnd(at));
        }
    }

    fn scrape(&mut self) {
        let now = self.instant();
        for (engine, endpoint) in self.engines.iter().zip(&self.endpoints) {
            endpoint.note_engine_metrics(engine.metrics(now));
        }
        self.after(SCRAPE as f64 / 1e6, Event::Scrape);
    }

    fn finish(mut self, seconds: f64) -> Outcome {
        // Who still waits for a first token has waited until now at least.
        let late = self.flights.iter().filter(|flight| flight.came > self.warm && !flight.has_token);
        self.outcome.ttft.extend(late.map(|flight| seconds - flight.came));
        self.outcome.ttft.sort_by(f64::total_cmp);
        let sum = |of: fn(&Engine) -> usize| self.engines.iter().map(of).sum::<usize>() as f64;
        let most = self.engines.iter().map(|engine| engine.requests).max().unwrap_or(0) as f64;
        Outcome {
            tokens: self.generated as f64 / (seconds - self.warm),
            hits: sum(|engine| engine.cached_tokens) / sum(|engine| engine.prompt_tokens).max(1.0),
            busiest: most * self.engines.len() as f64 / sum(|engine| engine.requests).max(1.0),
            ttft: self.outcome.ttft,
        }
    }
}

/// Text of about so many tokens, which begins as no other does.
fn text(of: &str, number: u64, tokens: usize) -> String {
    let mut text = format!("{of} {number}. ");
    while text.len() < tokens * 4 {
        let _ = write!(text, "{number:x} and more of {of}, ");
    }
    text.truncate(tokens * 4);
    text
}
