//! Owns one run: a pool of the gateway's own in front of simulated engines, in virtual time. Refuses to know which way of
//! choosing is meant to win.

use super::engine::{BLOCK, Engine, Sequence, own_block};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use signalbox::balance::{
    Endpoint, InFlightGuard, LatencyStats, Lease, PickPrompt, PickRequest, Pool, PoolMember,
};
use signalbox::choose::{Candidate, ChoiceInput, choose, identity};
use signalbox::openai::ChatRequest;
use signalbox::policy::{Balance, BasisPoints, Choose, ChooseBy, ChooseWeights, ModelId};
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
    /// Engines of each model.
    pub(super) engines: usize,
    /// The models that a request may go to, each by what its engines take in multiples of the usual time.
    pub(super) models: &'static [f64],
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

/// How one of several models is chosen, by the least expected time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelChoosing {
    /// By the averages of each model; then its replica.
    ModelThenReplica,
    /// Each model together with the replica that would get the request.
    Pair,
}

/// What a run gave.
#[derive(Default)]
pub(super) struct Outcome {
    /// Tokens of answers a second.
    pub(super) tokens: f64,
    /// Times to the first token, in seconds, in order.
    ttft: Vec<f64>,
    /// Times to the last, in seconds, of answers that ended.
    whole: Vec<f64>,
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

    /// The mean time to the last token.
    pub(super) fn whole(&self) -> f64 {
        self.whole.iter().sum::<f64>() / self.whole.len() as f64
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
    /// Counts it at its model, where one of several was chosen.
    at_model: Option<InFlightGuard>,
    ttft: f64,
    /// Tokens of its prompt that its engine had cached.
    cached: usize,
    has_token: bool,
}

/// Engines behind a pool for each model.
struct Cluster<'a> {
    workload: &'a Workload,
    start: Instant,
    endpoints: Vec<Arc<Endpoint>>,
    choosing: ModelChoosing,
    pools: Vec<Arc<Pool>>,
    latencies: Vec<Arc<LatencyStats>>,
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
pub(super) fn run(
    workload: &Workload,
    balance: &Balance,
    choosing: ModelChoosing,
    rate: f64,
    seconds: f64,
) -> Outcome {
    let mut cluster = Cluster::new(workload, balance, choosing, seconds / 4.0);
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
    fn new(workload: &'a Workload, balance: &Balance, choosing: ModelChoosing, warm: f64) -> Self {
        let endpoint = |last: usize| {
            Endpoint::new(([10, 0, 0, last as u8], 8_000).into(), format!("engine-{last}:8000").into())
        };
        let endpoints: Vec<Arc<Endpoint>> =
            (0..workload.engines * workload.models.len()).map(endpoint).collect();
        let member = |endpoint: &Arc<Endpoint>| PoolMember { endpoint: Arc::clone(endpoint), weight: 1 };
        let pool = |own: &[Arc<Endpoint>]| {
            Arc::new(Pool::new(balance, None, own.iter().map(member).collect(), None))
        };
        let pools = endpoints.chunks(workload.engines).map(pool).collect();
        let engines = workload.models.iter().flat_map(|speed| {
            (0..workload.engines).map(|_| Engine { slowness: *speed, ..Engine::default() })
        });
        let mut sum = 0.0;
        let weights = (1..=workload.groups.unwrap_or(0)).map(|rank| {
            sum += (rank as f64).powf(-workload.skew);
            sum
        });
        Self {
            workload,
            start: Instant::now(),
            choosing,
            pools,
            latencies: workload.models.iter().map(|_| Arc::default()).collect(),
            engines: engines.collect(),
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
        let mut pick = PickRequest { model: "m", prompt: Some(&prompt), ..PickRequest::default() };
        let model = self.choose(&mut pick);
        let lease = self.pools[model].lease(&pick, &[], self.instant()).expect("an endpoint is up");
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
        let at_model = (self.pools.len() > 1).then(|| self.latencies[model].enter());
        self.flights.push(Flight {
            came: self.now,
            lease: Some(lease),
            at_model,
            ttft: 0.0,
            cached,
            has_token: false,
        });
        engine.requests += usize::from(self.now > self.warm);
        engine.waiting.push_back(sequence);
        if !std::mem::replace(&mut engine.is_stepping, true) {
            let takes = engine.step();
            self.after(takes, Event::StepEnd(at));
        }
    }

    /// Chooses one of several models, by the gateway's own function.
    fn choose(&self, pick: &mut PickRequest<'_>) -> usize {
        if self.pools.len() == 1 {
            return 0;
        }
        let now = self.instant();
        let how = Choose {
            by: ChooseBy::Latency,
            min_quality: BasisPoints(0),
            max_ttft: None,
            max_time_per_token: None,
            weights: ChooseWeights { quality: 0, cost: 0, latency: 1, load: 0 },
        };
        let candidates: Vec<Candidate<'_>> = self
            .pools
            .iter()
            .zip(&self.latencies)
            .enumerate()
            .map(|(model, (pool, latency))| Candidate {
                model: ModelId(model),
                identity: identity(&model.to_string(), None),
                weight: 1,
                price: None,
                quality: BasisPoints(5_000),
                reading: latency.snapshot(now),
                replica: match self.choosing {
                    ModelChoosing::ModelThenReplica => None,
                    ModelChoosing::Pair => pool.best_replica(pick, now),
                },
                reachable: true,
                in_flight: pool.members().iter().map(|member| member.endpoint.in_flight()).sum(),
                capacity: pool.members().len() as u32,
            })
            .collect();
        let Workload { shared, own, answer, .. } = *self.workload;
        let (prompt_tokens, expected_tokens) = ((shared + own) as u64, answer as u64);
        let input = ChoiceInput { prompt_tokens, expected_tokens, ..ChoiceInput::default() };
        let chosen = choose(&candidates, &how, &input).index;
        pick.owner = candidates[chosen].replica.map(|replica| replica.endpoint);
        chosen
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
            flight.ttft = self.now - flight.came;
            if let Some(lease) = &flight.lease {
                if let (Some(at_model), Some(work)) = (&flight.at_model, lease.expected_work()) {
                    at_model.stats().observe_work(now, work, Duration::from_secs_f64(flight.ttft));
                }
                lease.token(now);
                lease.cached(flight.cached as u64, (self.workload.shared + self.workload.own) as u64);
            }
            if flight.came > self.warm {
                self.outcome.ttft.push(self.now - flight.came);
            }
        }
        for id in end.over {
            let now = self.instant();
            let flight = &mut self.flights[id];
            flight.lease = None;
            let took = self.now - flight.came;
            if let Some(at_model) = flight.at_model.take() {
                let [ttft, took] = [flight.ttft, took].map(Duration::from_secs_f64);
                at_model.stats().observe(now, Some(ttft), self.workload.answer as u64, took);
            }
            if flight.came > self.warm {
                self.outcome.whole.push(took);
            }
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
            whole: self.outcome.whole,
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
