//! Owns shadow requests: copies that go to another model for comparison, whose answers are read, counted and dropped.
//!
//! A copy never delays its original: it runs as a task of its own, and beyond a limit it is dropped.

use super::upstream::{self, UpstreamTls};
use crate::balance::Lease;
use crate::openai::{Api, ChatRequest, Format, Translation, UsageReader};
use crate::policy::PoolSpec;
use crate::route::{PlanTarget, translation, upstream_body};
use crate::server_state::BufferShare;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use pingora::connectors::http::Connector;
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
    permits: Semaphore,
}

pub(super) struct ShadowRequest {
    pub(super) live: Arc<Snapshot>,
    pub(super) api: Api,
    pub(super) request: ChatRequest,
    /// The model's name.
    pub(super) model: String,
    /// Where it goes; `None` where no endpoint is available.
    pub(super) upstream: Option<ShadowUpstream>,
    pub(super) request_id: String,
}

/// The endpoint that gets a copy.
pub(super) struct ShadowUpstream {
    pub(super) target: PlanTarget,
    pub(super) lease: Lease,
}

/// A copy failed; nothing but its metric tells.
struct ShadowFailure;

impl ShadowClient {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { connector: Connector::new(None), permits: Semaphore::new(MAX_CONCURRENT) })
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
        tokio::spawn(async move {
            let Ok(_permit) = shadows.permits.try_acquire() else {
                metrics.shadowed(&copy.model, "dropped", Duration::ZERO, None);
                return;
            };
            let _held = share;
            let began = Instant::now();
            match shadows.send_in_time(&copy, &upstream_tls).await {
                Ok(tokens) => metrics.shadowed(&copy.model, "ok", began.elapsed(), tokens),
                Err(ShadowFailure) => metrics.shadowed(&copy.model, "failed", began.elapsed(), None),
            }
        });
    }

    async fn send_in_time(
        &self,
        copy: &ShadowRequest,
        upstream_tls: &UpstreamTls,
    ) -> Result<Option<u64>, ShadowFailure> {
        let upstream = copy.upstream.as_ref().ok_or(ShadowFailure)?;
        let spec = copy.live.pool_spec(upstream.target.route(&copy.live.policy).pool);
        let peer = upstream_tls.peer(spec, upstream.lease.endpoint());
        let sent = self.send(copy, upstream, spec, peer);
        tokio::time::timeout(spec.timeouts.total, sent).await.map_err(|_elapsed| ShadowFailure)?
    }

    /// Sends a copy and reads its answer; returns the answer's tokens, where the upstream counts them.
    async fn send(
        &self,
        copy: &ShadowRequest,
        ShadowUpstream { target, lease }: &ShadowUpstream,
        spec: &PoolSpec,
        peer: HttpPeer,
    ) -> Result<Option<u64>, ShadowFailure> {
        let translation = translation(spec, copy.api).map_err(|_none| ShadowFailure)?;
        let path = translation.map_or(copy.api, Translation::upstream).path();
        let body = upstream_body(&copy.live, target, &copy.request).map_err(|_none| ShadowFailure)?;
        let header = upstream::new_request(spec, lease.endpoint().host(), path, body.len(), &copy.request_id);
        let header = header.map_err(|_rejection| ShadowFailure)?;
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
        let content_type = answered.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut usage = UsageReader::new(Format::of(content_type));
        let mut read = 0;
        while let Some(chunk) = session.read_response_body().await? {
            read += Bytes::len(&chunk);
            if read > MAX_ANSWER {
                return Err(ShadowFailure);
            }
            usage.feed(&chunk);
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
