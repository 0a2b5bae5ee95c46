//! Owns shadow requests: copies that go to another model for comparison, whose answers are read, counted and dropped.
//!
//! A copy never delays its original: it runs as a task of its own, and beyond a limit it is dropped.

use super::ext_proc::{EndpointPickers, PickerAnswer, PickerFailure, PickerQuestion};
use super::headers::X_REQUEST_ID;
use super::upstream::{self, UpstreamTls};
use crate::balance::{Lease, PickRequest};
use crate::openai::{Api, ChatRequest, Format, Translation, UsageReader};
use crate::policy::{Balance, ExternalPicker, FailureMode, PoolSpec};
use crate::route::{AnswerUse, PlanTarget, translation, upstream_body};
use crate::server_state::BufferShare;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Concurrent copies; what they hold counts in the bound on the bytes of all requests.
const MAX_CONCURRENT: usize = 64;

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 16 << 20;

pub(super) struct ShadowClient {
    connector: Connector,
    pickers: Arc<EndpointPickers>,
    permits: Semaphore,
}

pub(super) struct ShadowRequest {
    pub(super) live: Arc<Snapshot>,
    pub(super) api: Api,
    pub(super) request: ChatRequest,
    /// The model's name.
    pub(super) model: String,
    /// Headers beside those that the copy needs.
    pub(super) headers: HeaderMap,
    /// Where it goes; `None` where no endpoint is available.
    pub(super) upstream: Option<ShadowUpstream>,
    pub(super) request_id: String,
}

/// The endpoint that gets a copy.
pub(super) struct ShadowUpstream {
    pub(super) target: PlanTarget,
    pub(super) lease: Lease,
}

/// A copy as it is sent.
struct PreparedCopy<'a> {
    spec: &'a PoolSpec,
    peer: HttpPeer,
    body: Bytes,
    /// What the pool's external picker said, where it has one.
    picked: Option<PickerAnswer>,
}

/// A copy of what no model answers, as it is sent.
pub(super) struct RawCopy {
    /// The pool's name.
    pub(super) name: String,
    pub(super) peer: HttpPeer,
    pub(super) header: RequestHeader,
    pub(super) body: Bytes,
    pub(super) lease: Lease,
    /// How long everything may take.
    pub(super) total: Duration,
    /// What the body counts for.
    pub(super) share: BufferShare,
}

/// A copy failed; nothing but its metric tells.
struct ShadowFailure;

impl ShadowClient {
    pub(super) fn new(pickers: Arc<EndpointPickers>) -> Arc<Self> {
        Arc::new(Self { connector: Connector::new(None), pickers, permits: Semaphore::new(MAX_CONCURRENT) })
    }

    /// Sends a copy in a task of its own; what it holds counts in `share`.
    pub(super) fn send_in_background(
        self: &Arc<Self>,
        copy: ShadowRequest,
        share: BufferShare,
        upstream_tls: Arc<UpstreamTls>,
        metrics: Arc<Metrics>,
    ) {
        let shadows = Arc::clone(self);
        let mut copy = copy;
        tokio::spawn(async move {
            let Ok(_permit) = shadows.permits.try_acquire() else {
                metrics.shadowed(&copy.model, "dropped", Duration::ZERO, None);
                return;
            };
            let _held = share;
            let began = Instant::now();
            let Some(upstream) = copy.upstream.take() else {
                metrics.shadowed(&copy.model, "failed", Duration::ZERO, None);
                return;
            };
            match shadows.send_in_time(&copy, upstream, &upstream_tls, &metrics).await {
                Ok(tokens) => metrics.shadowed(&copy.model, "ok", began.elapsed(), tokens),
                Err(ShadowFailure) => metrics.shadowed(&copy.model, "failed", began.elapsed(), None),
            }
        });
    }

    /// Sends a copy of what no model answers, in a task of its own.
    pub(super) fn send_raw_in_background(self: &Arc<Self>, copy: RawCopy, metrics: Arc<Metrics>) {
        let shadows = Arc::clone(self);
        tokio::spawn(async move {
            let Ok(_permit) = shadows.permits.try_acquire() else {
                metrics.shadowed(&copy.name, "dropped", Duration::ZERO, None);
                return;
            };
            let _held = &copy.share;
            let began = Instant::now();
            let sent = tokio::time::timeout(copy.total, shadows.send_raw(&copy)).await;
            let label = if matches!(sent, Ok(Ok(()))) { "ok" } else { "failed" };
            metrics.shadowed(&copy.name, label, began.elapsed(), None);
        });
    }

    async fn send_raw(&self, copy: &RawCopy) -> Result<(), ShadowFailure> {
        let (mut session, _reused) = self.connector.get_http_session(&copy.peer).await?;
        session.write_request_header(Box::new(copy.header.clone())).await?;
        if !copy.body.is_empty() {
            session.write_request_body(copy.body.clone(), true).await?;
        }
        session.finish_request_body().await?;
        session.set_read_timeout(Some(copy.total));
        session.read_response_header().await?;
        let mut read = 0;
        while let Some(chunk) = session.read_response_body().await? {
            read += Bytes::len(&chunk);
            if read > MAX_ANSWER {
                return Err(ShadowFailure);
            }
        }
        copy.lease.succeeded();
        self.connector.release_http_session(session, &copy.peer, Some(upstream::KEEP_IDLE)).await;
        Ok(())
    }

    async fn send_in_time(
        &self,
        copy: &ShadowRequest,
        mut upstream: ShadowUpstream,
        upstream_tls: &UpstreamTls,
        metrics: &Metrics,
    ) -> Result<Option<u64>, ShadowFailure> {
        let spec = copy.live.pool_spec(upstream.target.pool(&copy.live.policy));
        let sent = async {
            let body = upstream_body(&copy.live, &upstream.target, &copy.request, AnswerUse::Passed);
            let mut body = body.map_err(|_none| ShadowFailure)?;
            let picked = match &spec.balance {
                Balance::External(picker) => {
                    let began = Instant::now();
                    let answered = self.ask(copy, picker, &upstream, &body).await;
                    let label = answered.as_ref().map_or_else(PickerFailure::label, |_| "picked");
                    metrics.picked_externally(&spec.name, label, began.elapsed());
                    let is_open = picker.failure_mode == FailureMode::FailOpen;
                    match answered {
                        Ok((lease, answer)) => {
                            upstream.lease = lease;
                            body = answer.body.clone().unwrap_or(body);
                            Some(answer)
                        }
                        Err(PickerFailure::Unavailable(_)) if is_open => None,
                        Err(_) => return Err(ShadowFailure),
                    }
                }
                _ => None,
            };
            let peer = upstream_tls.peer(spec, upstream.lease.endpoint());
            self.send(copy, &upstream, PreparedCopy { spec, peer, body, picked }).await
        };
        tokio::time::timeout(spec.timeouts.total, sent).await.map_err(|_elapsed| ShadowFailure)?
    }

    /// Has the picker of the copy's pool choose its endpoint.
    async fn ask(
        &self,
        copy: &ShadowRequest,
        picker: &ExternalPicker,
        upstream: &ShadowUpstream,
        body: &Bytes,
    ) -> Result<(Lease, PickerAnswer), PickerFailure> {
        let policy = &copy.live.policy;
        let pool = copy.live.pool(upstream.target.pool(policy));
        let open = pool.available_addresses(&[], Instant::now());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(&copy.request_id) {
            headers.insert(X_REQUEST_ID, id);
        }
        let question = PickerQuestion {
            path: copy.api.path(),
            headers,
            body,
            subset: (open.len() < pool.members().len()).then_some(&open),
            timeout: picker.timeout,
        };
        let answer = self.pickers.ask(picker, question).await?;
        let request = PickRequest {
            model: upstream.target.upstream_model(policy),
            streams: copy.request.stream(),
            ..PickRequest::default()
        };
        let mut leases =
            answer.endpoints.iter().map(|addr| pool.lease_at(*addr, &request, &[], Instant::now()));
        let lease = leases.find_map(|lease| lease);
        Ok((lease.ok_or(PickerFailure::Unavailable("unknown_endpoint"))?, answer))
    }

    /// Sends a copy and reads its answer; returns the answer's tokens, where the upstream counts them.
    async fn send(
        &self,
        copy: &ShadowRequest,
        ShadowUpstream { lease, target }: &ShadowUpstream,
        PreparedCopy { spec, peer, body, picked }: PreparedCopy<'_>,
    ) -> Result<Option<u64>, ShadowFailure> {
        let translation = translation(spec, copy.api).map_err(|_none| ShadowFailure)?;
        let path = translation.map_or(copy.api, Translation::upstream).path();
        let rewritten = target.via.as_ref().and_then(|via| via.rewritten_path(path));
        let path = rewritten.as_deref().unwrap_or(path);
        let path = upstream::upstream_path(path, &spec.api, target.upstream_model(&copy.live.policy));
        let header =
            upstream::new_request(spec, lease.endpoint().host(), &path, body.len(), &copy.request_id);
        let mut header = header.map_err(|_rejection| ShadowFailure)?;
        // What the pool says of itself stays: its key, and the host.
        let own = header.headers.clone();
        for (name, value) in copy.headers.iter().filter(|(name, _)| !own.contains_key(*name)) {
            header.append_header(name.clone(), value.clone())?;
        }
        for (name, value) in picked.iter().flat_map(|answer| &answer.changes.set) {
            header.insert_header(name.clone(), value.clone())?;
        }
        let mut picker = picked.map(|answer| answer.session);
        let (mut session, _reused) = self.connector.get_http_session(&peer).await?;
        session.write_request_header(Box::new(header)).await?;
        session.write_request_body(body, true).await?;
        session.finish_request_body().await?;
        session.set_read_timeout(Some(spec.timeouts.first_byte(copy.request.stream())));
        session.read_response_header().await?;
        let answered = session.response_header().ok_or(ShadowFailure)?;
        if !answered.status.is_success() {
            return Err(ShadowFailure);
        }
        if let Some(picker) = &mut picker {
            picker.report_header(lease.endpoint().addr(), answered.status, &answered.headers).await;
        }
        let content_type = answered.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut usage = UsageReader::new(Format::of(content_type));
        let mut read = 0;
        while let Some(chunk) = session.read_response_body().await? {
            read += Bytes::len(&chunk);
            if read > MAX_ANSWER {
                return Err(ShadowFailure);
            }
            usage.feed(&chunk);
            if let Some(picker) = &mut picker {
                picker.report_piece(&chunk);
            }
        }
        if let Some(picker) = picker {
            picker.finish();
        }
        lease.succeeded();
        self.connector.release_http_session(session, &peer, Some(upstream::KEEP_IDLE)).await;
        Ok(usage.finish().map(|usage| usage.completion_tokens))
    }
}

impl From<Box<pingora::Error>> for ShadowFailure {
    fn from(_error: Box<pingora::Error>) -> Self {
        ShadowFailure
    }
}
