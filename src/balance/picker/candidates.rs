//! Owns what a picker may know: of one request, and of the endpoints that may take it.
//! Refuses to know how an endpoint is chosen.

use super::prompt::PickPrompt;
use crate::balance::endpoint::{Endpoint, PoolMember};
use crate::balance::engine_metrics::EngineMetrics;
use crate::balance::prefix_table::{MatchHints, PromptBlocks, tokens_of};
use crate::balance::prompt_tokens::KnownTokens;
use crate::balance::rendezvous::hash_key;
use crate::balance::token_load::RequestWork;
use crate::balance::token_progress::Liveness;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// For how long an endpoint is new.
const WARM_UP: Duration = Duration::from_secs(60);

/// One request, as a picker sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickRequest<'a> {
    /// What the policy keeps requests together by, such as a session's header, hashed; see [`crate::balance::hash_key`].
    pub key: Option<u64>,
    /// The endpoint that has what the request refers to, such as the response that it goes on from; it gets the request
    /// if it may, whatever the strategy.
    pub owner: Option<SocketAddr>,
    /// The replica that its model was chosen with, which gets it if it may.
    pub replica: Option<ReplicaForecast>,
    /// The name that the upstream knows the model by.
    pub model: &'a str,
    /// The `LoRA` adapter that is asked for instead of the model itself.
    pub adapter: Option<&'a str>,
    /// The prompt as it goes upstream, which is read only when a picker asks for it; `None` for a request whose prompt
    /// no engine keeps.
    pub prompt: Option<&'a PickPrompt<'a>>,
    /// Whether its answer comes token by token.
    pub streams: bool,
    /// Whether what the request costs its endpoint is to be known also where the choice does not go by that.
    pub needs_work: bool,
    /// The tokens of the prompt's beginning, where the pool knows them.
    pub known: Option<&'a KnownTokens>,
}

/// A prompt as it is looked for among what endpoints have.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct PromptLookup<'a> {
    pub(in super::super) blocks: PromptBlocks<'a>,
    known: Option<&'a KnownTokens>,
}

impl<'a> PickRequest<'a> {
    /// The blocks of the prompt, as the model with its adapter has them.
    pub(in super::super) fn blocks(&self) -> Option<PromptLookup<'a>> {
        let model = hash_key(self.adapter.unwrap_or(self.model).as_bytes());
        let blocks = PromptBlocks { chain: self.prompt?.prefix().blocks(), model };
        Some(PromptLookup { blocks, known: self.known })
    }
}

/// The endpoints of a pool that may take one request, by their place in the pool.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    members: &'a [PoolMember],
    tried: &'a [SocketAddr],
    now: Instant,
    /// The model whose refusals count, by its name's hash; `None` where the endpoints that refused it may be asked too.
    passing_over: Option<u64>,
    /// From how many requests in flight on an endpoint gets no more.
    max_in_flight: u32,
    /// Which endpoints are seen by how long they have been there.
    ages: EndpointAges,
}

/// Which endpoints are seen by how long they have been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndpointAges {
    All,
    Settled,
    /// New ones that were sent fewer tokens than this.
    New {
        sent_below: u64,
    },
}

impl<'a> Candidates<'a> {
    /// Looks at `members` for a request that has been to `tried` already.
    pub(in super::super) fn new(members: &'a [PoolMember], tried: &'a [SocketAddr], now: Instant) -> Self {
        Self { members, tried, now, passing_over: None, max_in_flight: u32::MAX, ages: EndpointAges::All }
    }

    /// Leaves out the endpoints that had better not be asked for a model.
    pub(in super::super) fn passing_over(self, model: u64) -> Self {
        Self { passing_over: Some(model), ..self }
    }

    /// Leaves out the endpoints that have as many requests as they may.
    pub(in super::super) fn limited_to(self, max_in_flight: Option<u32>) -> Self {
        Self { max_in_flight: max_in_flight.unwrap_or(u32::MAX), ..self }
    }

    /// Leaves out the endpoints that have just joined.
    pub(super) fn settled(&self) -> Self {
        Self { ages: EndpointAges::Settled, ..*self }
    }

    /// Leaves out all but those that have just joined and were sent fewer tokens than this.
    pub(super) fn new_with_less_than(&self, sent_below: u64) -> Self {
        Self { ages: EndpointAges::New { sent_below }, ..*self }
    }

    /// Gives the endpoint at `place`; `None` where it is down, ejected, passed over, tried already, has enough requests
    /// or no weight.
    ///
    /// Asked for one place at a time: of 256 endpoints the power of two choices looks at two.
    pub fn get(&self, place: usize) -> Option<EndpointView<'a>> {
        self.view(self.members.get(place)?)
    }

    /// Finds the endpoint at an address, if it may take the request.
    pub(in super::super) fn place_of(&self, addr: SocketAddr) -> Option<usize> {
        let place = self.members.iter().position(|member| member.endpoint.addr() == addr)?;
        self.contains(place).then_some(place)
    }

    /// Gives every place in turn, as [`Candidates::get`] does.
    pub fn iter(&self) -> impl Iterator<Item = Option<EndpointView<'a>>> + use<'a, '_> {
        self.members.iter().map(|member| self.view(member))
    }

    fn view(&self, member: &'a PoolMember) -> Option<EndpointView<'a>> {
        let PoolMember { endpoint, weight } = member;
        let eligible = *weight > 0
            && endpoint.in_flight() < self.max_in_flight
            && endpoint.available(self.now)
            && !self.tried.contains(&endpoint.addr())
            && !self.passing_over.is_some_and(|model| endpoint.is_passed_over(model, self.now))
            && !(self.passing_over.is_some() && self.is_stuck(endpoint));
        let view = EndpointView { endpoint, weight: *weight, now: self.now };
        let is_seen = match self.ages {
            EndpointAges::All => true,
            EndpointAges::Settled => !view.is_new(),
            EndpointAges::New { sent_below } => view.is_new() && view.sent_tokens() < sent_below,
        };
        (eligible && is_seen).then_some(view)
    }

    /// Whether an endpoint would not answer: it sleeps, or gives no tokens.
    fn is_stuck(&self, endpoint: &Endpoint) -> bool {
        endpoint.engine().is_asleep() || endpoint.is_wedged(self.now)
    }

    /// Whether the endpoint at `place` may take the request.
    pub fn contains(&self, place: usize) -> bool {
        self.get(place).is_some()
    }
}

/// What an endpoint is held against others by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Tokens to compute before the first token; the least is chosen.
    Cost(f64),
    /// The weighted sum of its scores; the highest is chosen.
    Score(f64),
}

impl Standing {
    /// As a figure of which the least is chosen.
    pub fn as_cost(self) -> f64 {
        match self {
            Self::Cost(cost) => cost,
            Self::Score(score) => -score,
        }
    }
}

/// The endpoint that a picker chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChosenEndpoint {
    /// Its place in the pool.
    pub place: usize,
    /// What it was held against the others by; nothing where that is a turn, a draw or a key.
    pub margin: Option<ChoiceMargin>,
    /// Whether it is to be noted, once it gets the request, that no endpoint had any of the prompt.
    pub is_cold: bool,
}

/// What a choice was made by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChoiceMargin {
    /// The chosen endpoint's figure.
    pub chosen: Standing,
    /// The best figure of the others, if there are any.
    pub next: Option<Standing>,
}

/// The endpoint that would get a request, and what the request would find there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplicaForecast {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// What comes before the first token, in tokens to compute.
    pub work: f64,
    /// Tokens of the prompt that it probably has cached.
    pub cached: u32,
    /// Requests that it has.
    pub in_flight: u32,
    /// What it was held against the others by.
    pub margin: Option<ChoiceMargin>,
    /// Whether it is to be noted, once it gets the request, that no endpoint had any of the prompt.
    pub is_cold: bool,
}

impl ChosenEndpoint {
    /// One that no figure speaks for.
    pub(in crate::balance) fn without_margin(place: usize) -> Self {
        Self { place, margin: None, is_cold: false }
    }
}

/// One endpoint, as a picker sees it; each method reads what is so at that moment.
#[derive(Clone, Copy, Debug)]
pub struct EndpointView<'a> {
    endpoint: &'a Endpoint,
    weight: u32,
    now: Instant,
}

/// How busy an engine is: by its own last figures, with what this process has given it since.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineLoad {
    /// Whether the engine says so itself; otherwise these are this process's requests alone, none of them waiting.
    pub is_reported: bool,
    /// Requests in its queue.
    pub waiting: f64,
    /// Requests in its batch.
    pub running: f64,
    /// The share of its KV cache in use, 0 to 1; 0 where it is unknown.
    pub kv_usage: f64,
}

impl EndpointView<'_> {
    /// The resolved address.
    pub fn addr(&self) -> SocketAddr {
        self.endpoint.addr()
    }

    /// Its share relative to the pool's other endpoints, never 0.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Requests that it has been given and has not answered to their end.
    pub fn in_flight(&self) -> u32 {
        self.endpoint.in_flight()
    }

    /// The same, twice as many and one more while it gives no tokens.
    pub(super) fn counted_in_flight(&self) -> u32 {
        let in_flight = self.in_flight();
        if self.is_stalled() { in_flight.saturating_mul(2).saturating_add(1) } else { in_flight }
    }

    /// Whether no token has come from it for a while, and some are due.
    pub(super) fn is_stalled(&self) -> bool {
        self.endpoint.liveness(self.now) != Liveness::Live
    }

    /// Whether it has just joined, or come back.
    pub(super) fn is_new(&self) -> bool {
        self.endpoint.engine().is_younger_than(WARM_UP, self.now)
    }

    /// Tokens of prompts that it was sent and did not have.
    pub(super) fn sent_tokens(&self) -> u64 {
        self.endpoint.engine().prefixes().written_tokens()
    }

    /// What its engine says of itself, unless that is too old.
    pub fn engine(&self) -> Option<Arc<EngineMetrics>> {
        self.endpoint.engine_metrics().filter(|metrics| metrics.is_fresh(self.now))
    }

    /// How busy its engine is.
    pub fn engine_load(&self) -> EngineLoad {
        let in_flight = f64::from(self.in_flight());
        let report = self.endpoint.engine().report();
        let Some(report) = report.filter(|report| report.metrics.is_fresh(self.now)) else {
            return EngineLoad { running: in_flight, ..EngineLoad::default() };
        };
        let of = |value: Option<f32>| f64::from(value.unwrap_or(0.0));
        let (waiting, running) = (of(report.metrics.waiting), of(report.metrics.running));
        // Others' requests, by what this process had there when the engine was asked.
        let foreign = (waiting + running - f64::from(report.in_flight)).max(0.0);
        let since = in_flight - f64::from(report.in_flight);
        let waiting = if waiting > 0.0 { (waiting + since).max(0.0) } else { 0.0 };
        EngineLoad {
            is_reported: true,
            waiting,
            running: (foreign + in_flight - waiting).max(0.0),
            kv_usage: of(report.metrics.kv_usage),
        }
    }

    /// How many requests more it has than when its engine was last asked, or fewer; 0 where that is not known.
    pub(in super::super) fn given_since_report(&self) -> f64 {
        let report = self.endpoint.engine().report();
        report.map_or(0.0, |report| f64::from(self.in_flight()) - f64::from(report.in_flight))
    }

    /// How many leading blocks of the prompt it probably has cached.
    pub(in super::super) fn matched(&self, prompt: Option<PromptLookup<'_>>) -> usize {
        self.matched_by(prompt, &mut MatchHints::default())
    }

    /// The same, quicker where it has as many as others.
    pub(super) fn matched_by(&self, prompt: Option<PromptLookup<'_>>, hints: &mut MatchHints) -> usize {
        let engine = self.endpoint.engine();
        prompt.map_or(0, |PromptLookup { blocks, known }| engine.matched(blocks, known, hints, self.now))
    }

    /// Tokens that were new to it since it was last sent a prompt with the same leading blocks; `None` where it never was.
    pub(super) fn tokens_since(&self, prompt: Option<PromptLookup<'_>>, matched: usize) -> Option<u64> {
        self.endpoint.engine().prefixes().tokens_since(prompt?.blocks, matched)
    }

    /// Notes that the request goes there, which has its prompt cached from then on; gives what that costs.
    pub(in super::super) fn send(&self, request: &PickRequest<'_>) -> Option<RequestWork> {
        let (prompt, lookup) = (request.prompt?, request.blocks()?);
        let matched = self.matched(Some(lookup));
        self.endpoint.engine().record(lookup.blocks, matched, self.now);
        Some(work(prompt.prefix().tokens(), matched))
    }

    /// Counts the request, which is there already, on the data-parallel rank that it had better go to, if there is one.
    pub(in super::super) fn enter_rank(&self, request: &PickRequest<'_>) -> Option<u16> {
        let account = self.endpoint.engine().kv.get()?;
        account.enter(request.known?, self.in_flight()).filter(|_| account.is_live(self.now))
    }

    /// Tokens of prompts that it still has to compute for this process.
    pub fn prefill_tokens(&self) -> f64 {
        self.endpoint.engine().load.prefill() as f64
    }

    /// Tokens of the prompts of all requests in flight for this process.
    pub fn context_tokens(&self) -> f64 {
        self.endpoint.engine().load.context() as f64
    }

    /// The work that this process gave it lately, in tokens to compute, with a half-life of five seconds.
    pub fn recent_work(&self) -> f64 {
        self.endpoint.engine().load.recent(self.now)
    }

    /// The turn of the last prompt that it got of which no endpoint had anything; 0 where it never did.
    pub fn last_cold(&self) -> u64 {
        self.endpoint.engine().last_cold.load(Ordering::Relaxed)
    }

    /// Notes that it gets such a prompt, in this turn.
    pub(super) fn note_cold(&self, turn: u64) {
        self.endpoint.engine().last_cold.store(turn, Ordering::Relaxed);
    }
}

impl PickRequest<'_> {
    /// Tokens of the prompt that an endpoint has to compute which has so many leading blocks of it; 0 where the prompt
    /// does not matter.
    pub fn uncached(&self, matched: usize) -> u32 {
        self.prompt.map_or(0, |prompt| work(prompt.prefix().tokens(), matched).uncached)
    }
}

fn work(prompt: u32, matched: usize) -> RequestWork {
    let cached = tokens_of(matched);
    // One token of a prompt is always computed.
    RequestWork { prompt, uncached: prompt.saturating_sub(cached).max(prompt.min(1)) }
}
