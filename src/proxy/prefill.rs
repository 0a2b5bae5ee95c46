//! Owns the prefill of a long prompt by another pool's endpoint, before the request goes to the one that answers it.
//!
//! Whatever goes wrong there, the request goes on: the endpoint that answers computes the prompt itself, unless its engine
//! cannot. Knows nothing of what the two engines hand over.

mod beside;
mod hand_over;

use super::admit::ShortCircuit;
use super::attempt::Attempts;
use super::attempt_failure::{AttemptFailure, Blame, LateBytes};
use super::deadline::FirstByteWatch;
use super::endpoint_reports::{report_failure, report_refusal};
use super::exchange::Exchange;
use super::failure::{RETRY_AFTER, RequestFailure};
use super::side_client::{Interruption, SideAnswer, SideError, SideRequest};
use super::upstream::{KEEP_IDLE, UpstreamTarget, prepare_for, use_connections_of};
use super::{Gateway, replay};
use crate::balance::{Lease, RetryBudget};
use crate::openai::{ChatRequest, Format, MooncakeRank, Rejection, TokenUsage, UsageReader, mooncake_ranks};
use crate::policy::{KvConnector, PoolSpec, PrefillSpec};
use crate::route::{LeaseInput, lease_prefill};
use crate::server_state::BufferShare;
use crate::snapshot::Snapshot;
use crate::telemetry::{PrefillRecord, millis};
use bytes::Bytes;
use hand_over::{HandOver, PrefillEngine};
use http::Version;
use http::header::HOST;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_proxy::Session;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

/// How many endpoints are asked to compute one prompt; after that the endpoint that answers does.
const MAX_TRIES: usize = 2;

/// What became of a prefill.
enum PrefillOutcome {
    /// It is done, and the next engine is to be told this, if anything.
    Remote { transfer: Option<Bytes>, usage: Option<TokenUsage> },
    /// The prompt is computed where it is answered, for this reason.
    Local(&'static str),
}

/// The prefill of one attempt.
struct Prefill<'a> {
    live: &'a Snapshot,
    spec: &'a PrefillSpec,
    /// The pool that computes the prompt.
    pool: &'a PoolSpec,
    hand_over: HandOver,
    body: Bytes,
    /// The client's header.
    header: RequestHeader,
    /// Holds room for the body and the answers.
    share: BufferShare,
    record: PrefillRecord,
}

impl Gateway {
    /// Has the prompt of the current attempt computed elsewhere, where its pool's policy says so and it is worth it; fails
    /// where the client leaves meanwhile or its time is over.
    pub(super) async fn prefill(&self, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
        let live = Arc::clone(&exchange.live);
        let Some(attempts) = &mut exchange.attempts else { return Ok(()) };
        let Some(spec) = &attempts.spec(&live).prefill else { return Ok(()) };
        if let KvConnector::Sglang { bootstrap_port } = spec.connector {
            return self.prefill_beside(bootstrap_port, session, exchange);
        }
        attempts.restore_body(&live);
        if let Some(reason) = why_local(attempts, spec, &live) {
            if attempts.request.upstream_request().names_kv_transfer() {
                attempts.set_body(parsed(attempts, &live)?.decode_body(None));
            }
            let record = PrefillRecord { result: Some(reason), ..PrefillRecord::default() };
            exchange.record.details().prefill = record;
            return Ok(());
        }
        let request = parsed(attempts, &live)?;
        let began = Instant::now();
        let header = session.req_header().clone();
        let mut prefill = Prefill::new(&live, spec, header, exchange.active.new_share());
        prefill.body = request.prefill_body(prefill.hand_over.keep().as_deref());
        let outcome = self.run_prefill(&mut prefill, session, exchange).await?;
        let mut record = prefill.record(outcome.label());
        record.ms = Some(millis(began.elapsed()));
        let attempts = exchange.attempts.as_mut().expect("it is there for the whole prefill");
        attempts.prefill_elsewhere(outcome.is_remote(), Instant::now());
        let body = match &outcome {
            PrefillOutcome::Remote { transfer, usage } => {
                record.cached_tokens = Some(usage.map_or(0, |usage| usage.cached_tokens));
                request.decode_body(transfer.as_deref())
            }
            PrefillOutcome::Local(_) => request.decode_body(None),
        };
        let held = exchange.active.buffered.bytes() + body.len();
        attempts.set_body(body);
        exchange.record.details().prefill = record;
        if exchange.active.buffered.grow_to(held).is_err() {
            let overloaded = Rejection::Overloaded { retry_after: RETRY_AFTER };
            return Err(RequestFailure::explain(overloaded, "there is no room for what engines hand over"));
        }
        Ok(())
    }

    /// Asks endpoints until one has computed the prompt, as long as time, tries and the client's patience last.
    async fn run_prefill(
        &self,
        prefill: &mut Prefill<'_>,
        session: &mut Session,
        exchange: &Exchange,
    ) -> Result<PrefillOutcome> {
        let Some(attempts) = &exchange.attempts else { return Ok(PrefillOutcome::Local("no_endpoint")) };
        if prefill.share.grow_to(prefill.body.len()).is_err() {
            return Ok(PrefillOutcome::Local("no_room"));
        }
        attempts.deadline.await_first_byte(Instant::now(), prefill.spec.timeout, FirstByteWatch::default());
        attempts.prefill_elsewhere(true, Instant::now());
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut reason = "no_endpoint";
        let mut left = pin!(session.as_downstream_mut().read_body_or_idle(true));
        while tried.len() < MAX_TRIES {
            let Some(lease) = prefill.lease(attempts, &tried) else { break };
            tried.push(lease.endpoint().addr());
            let failure = match self.compute(prefill, &lease, exchange, left.as_mut()).await? {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {
                    // The endpoint may be well all the same.
                    reason = "bootstrap";
                    continue;
                }
                Err(SideError::Interrupted(why)) => return interrupted(why.as_deref(), attempts),
                Err(SideError::TooLong) => return Ok(PrefillOutcome::Local("too_long")),
                Err(SideError::NoRoom) => return Ok(PrefillOutcome::Local("no_room")),
                Err(SideError::Failed(failure)) => failure,
            };
            reason = label(failure);
            self.note_prefill_failure(prefill.pool, &lease, failure);
            if !may_retry(failure) || !prefill.budget().withdraw(Instant::now()) {
                break;
            }
        }
        Ok(PrefillOutcome::Local(reason))
    }

    /// Has one endpoint compute the prompt; nothing where its connector does not say which engine it is.
    async fn compute(
        &self,
        prefill: &mut Prefill<'_>,
        lease: &Lease,
        exchange: &Exchange,
        mut left: Interruption<'_>,
    ) -> Result<Result<Option<PrefillOutcome>, SideError>> {
        let address = lease.endpoint().addr();
        prefill.record.endpoint = Some(address);
        prefill.record.predicted_cached_tokens = lease.work().map(|work| work.cached());
        let mut rank = None;
        if let Some(port) = prefill.hand_over.rank_server() {
            let query = rank_query(SocketAddr::new(address.ip(), port), prefill.pool)?;
            let ranks = match self.side_client.send(query, &mut prefill.share, left.as_mut()).await {
                Ok(SideAnswer { body }) => mooncake_ranks(&body),
                Err(SideError::Interrupted(why)) => return Ok(Err(SideError::Interrupted(why))),
                Err(_) => Vec::new(),
            };
            rank = choose_rank(ranks, lease.rank());
            if rank.is_none() {
                return Ok(Ok(None));
            }
        }
        let number = rank.as_ref().map(|rank| rank.rank).or_else(|| lease.rank());
        let request = self.prefill_request(prefill, lease, number, exchange)?;
        let answer = self.side_client.send(request, &mut prefill.share, left).await;
        Ok(answer.map(|SideAnswer { body }| {
            let usage = note_computed(lease, &body, Format::Json);
            let engine = PrefillEngine { address: address.ip(), rank: rank.as_ref() };
            Some(prefill.hand_over.outcome(engine, &body, usage))
        }))
    }

    fn prefill_request(
        &self,
        prefill: &Prefill<'_>,
        lease: &Lease,
        rank: Option<u16>,
        exchange: &Exchange,
    ) -> Result<SideRequest> {
        let target = UpstreamTarget {
            spec: prefill.pool,
            authority: lease.endpoint().host(),
            length: prefill.body.len(),
            rank,
        };
        let mut header = prefill.header.clone();
        header.set_version(Version::HTTP_11);
        prepare_for(&mut header, exchange, target).map_err(|rejection| {
            RequestFailure::explain(rejection, "the request cannot be made the prefill's")
        })?;
        let mut peer = self.upstream_tls.peer(prefill.pool, lease.endpoint());
        use_connections_of(&mut peer, lease.endpoint().mark().connections);
        Ok(SideRequest { peer, header, body: prefill.body.clone() })
    }

    fn note_prefill_failure(&self, pool: &PoolSpec, lease: &Lease, failure: AttemptFailure) {
        let now = Instant::now();
        if failure.blame() == Blame::Endpoint {
            report_failure(lease, pool, now, &self.metrics);
        }
        if let Some(refusal) = failure.refusal() {
            report_refusal(lease, pool, refusal, now);
        }
    }
}

impl<'a> Prefill<'a> {
    fn new(live: &'a Snapshot, spec: &'a PrefillSpec, header: RequestHeader, share: BufferShare) -> Self {
        let (hand_over, pool) = (HandOver::new(spec.connector), live.pool_spec(spec.pool));
        Self {
            live,
            spec,
            pool,
            hand_over,
            body: Bytes::new(),
            header,
            share,
            record: PrefillRecord::default(),
        }
    }

    /// What is told of it, which has come to this.
    fn record(&self, result: &'static str) -> PrefillRecord {
        PrefillRecord { result: Some(result), pool: Some(self.pool.name.clone()), ..self.record.clone() }
    }

    /// The retries that the requests of the pool may spend together which computes prompts.
    fn budget(&self) -> &RetryBudget {
        &self.live.upstreams.retry_budgets[self.spec.pool.0]
    }

    fn lease(&self, attempts: &Attempts, tried: &[SocketAddr]) -> Option<Lease> {
        let input = LeaseInput {
            headers: &self.header.headers,
            request: &attempts.request.request,
            upstream_request: attempts.request.upstream_request(),
            tried,
            last_resort: false,
            now: Instant::now(),
        };
        lease_prefill(self.live, attempts.target(), self.spec.pool, input)
    }
}

impl PrefillOutcome {
    fn is_remote(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Remote { .. } => "remote",
            Self::Local(reason) => reason,
        }
    }
}

/// Why the endpoint that answers computes the prompt itself, where it does.
///
/// Where the other pool has too much to do, a prompt would wait there for what its own endpoint can do at once: that one
/// let it in.
fn why_local(attempts: &Attempts, spec: &PrefillSpec, live: &Snapshot) -> Option<&'static str> {
    let work = attempts.work().filter(|_| attempts.request.upstream_request().can_hand_over_prefill());
    let is_saturated = || live.pool(spec.pool).gate().is_some_and(|gate| gate.sheds(Instant::now()));
    match work {
        None => Some("unsupported"),
        Some(work) if work.uncached < spec.min_uncached_tokens => Some("below_threshold"),
        Some(_) => is_saturated().then_some("saturated"),
    }
}

/// The request of an attempt, as its body has it.
fn parsed(attempts: &Attempts, live: &Snapshot) -> Result<ChatRequest> {
    ChatRequest::of(attempts.upstream_api(live), attempts.body().clone())
        .map_err(|rejection| RequestFailure::explain(rejection, "a changed request cannot be read again"))
}

/// Asks a bootstrap server which ranks there are; it is none of those that a pool's key is for.
fn rank_query(server: SocketAddr, pool: &PoolSpec) -> Result<SideRequest> {
    let mut header = RequestHeader::build("GET", b"/query", None)?;
    header.insert_header(HOST, server.to_string())?;
    let mut peer = HttpPeer::new(server, false, String::new());
    peer.options.connection_timeout = Some(pool.timeouts.connect);
    peer.options.total_connection_timeout = Some(pool.timeouts.connect);
    peer.options.idle_timeout = Some(KEEP_IDLE);
    Ok(SideRequest::without_body(peer, header))
}

/// The rank that is to compute a prompt: the one that has most of it, where that is known.
fn choose_rank(mut ranks: Vec<MooncakeRank>, preferred: Option<u16>) -> Option<MooncakeRank> {
    if let Some(at) = ranks.iter().position(|rank| Some(rank.rank) == preferred) {
        return Some(ranks.swap_remove(at));
    }
    (!ranks.is_empty()).then(|| ranks.swap_remove(rand::random_range(0..ranks.len())))
}

/// Reads what an engine says of a prompt that it has computed.
fn note_computed(lease: &Lease, answer: &[u8], format: Format) -> Option<TokenUsage> {
    let mut reader = UsageReader::new(format);
    reader.feed(answer);
    let usage = reader.finish();
    lease.token(Instant::now());
    lease.succeeded();
    if let Some(usage) = usage {
        lease.cached(usage.cached_tokens, usage.prompt_tokens);
    }
    usage
}

/// Tells a deadline that has passed from a client that has left.
fn interrupted(why: Option<&Error>, attempts: &Attempts) -> Result<PrefillOutcome> {
    let is_late = why.is_some_and(|error| *error.etype() == replay::LATE);
    if attempts.deadline.is_over(Instant::now()) {
        return Err(RequestFailure::explain(Rejection::UpstreamTimeout, "the prefill took all of the time"));
    }
    if is_late {
        return Ok(PrefillOutcome::Local("timeout"));
    }
    Err(ShortCircuit::ClientGone.into_error())
}

/// The failure as the log and the metrics have it.
fn label(failure: AttemptFailure) -> &'static str {
    match failure {
        AttemptFailure::Status { status, .. } if status.is_server_error() => "server_error",
        AttemptFailure::Status { status, .. } if status.as_u16() == 429 => "busy",
        // The endpoint that answers refuses it too, in the client's hearing.
        AttemptFailure::Status { .. } => "refused",
        AttemptFailure::Saturated => "busy",
        AttemptFailure::Connect { .. } => "connect",
        AttemptFailure::Late(LateBytes::First | LateBytes::Next | LateBytes::Last) | AttemptFailure::Slow => {
            "timeout"
        }
        AttemptFailure::Stalled { .. }
        | AttemptFailure::Reset { .. }
        | AttemptFailure::TakenOut
        | AttemptFailure::Prefill => "reset",
    }
}

/// Whether another endpoint may do better at once.
fn may_retry(failure: AttemptFailure) -> bool {
    label(failure) != "refused" && label(failure) != "timeout"
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn only_what_another_endpoint_may_do_better_is_tried_there() {
        let status = |status| AttemptFailure::Status {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
        };
        for (failure, name, is_retried) in [
            (status(400), "refused", false),
            (status(404), "refused", false),
            (status(429), "busy", true),
            (status(503), "server_error", true),
            (AttemptFailure::Saturated, "busy", true),
            (AttemptFailure::Connect { timed_out: true }, "connect", true),
            (AttemptFailure::Reset { reused: false, answer_begun: false }, "reset", true),
            (AttemptFailure::Late(LateBytes::First), "timeout", false),
        ] {
            assert_eq!((label(failure), may_retry(failure)), (name, is_retried), "{failure:?}");
        }
    }
}
