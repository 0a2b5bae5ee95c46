//! Owns shadow requests: copies that go to another model for comparison, whose answers are read, counted and dropped.
//!
//! A copy never delays its original: it runs as a task of its own, and beyond a limit it is dropped.

use super::upstream::{self, UpstreamTls};
use crate::openai::{Api, ChatRequest, Format, UsageReader};
use crate::policy::ModelId;
use crate::route::{Target, body_for};
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use pingora::connectors::http::Connector;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Concurrent copies; with a body of 10 MiB each they hold 640 MiB.
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
    pub(super) model: ModelId,
    pub(super) request_id: String,
}

/// A copy failed; nothing but its metric tells.
struct ShadowFailure;

impl ShadowClient {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { connector: Connector::new(None), permits: Semaphore::new(MAX_CONCURRENT) })
    }

    /// Sends a copy in a task of its own.
    pub(super) fn send_in_background(
        self: &Arc<Self>,
        copy: ShadowRequest,
        upstream_tls: Arc<UpstreamTls>,
        metrics: Arc<Metrics>,
    ) {
        let shadows = Arc::clone(self);
        tokio::spawn(async move {
            let model = copy.live.policy[copy.model].name.clone();
            let Ok(_permit) = shadows.permits.try_acquire() else {
                metrics.shadowed(&model, "dropped", Duration::ZERO, None);
                return;
            };
            let began = Instant::now();
            let limit = copy.target().map(|target| {
                let live = &copy.live;
                live.pool_spec(target.route(&live.policy).pool).timeouts.total
            });
            let sent =
                tokio::time::timeout(limit.unwrap_or_default(), shadows.send(&copy, &upstream_tls)).await;
            match sent {
                Ok(Ok(tokens)) => metrics.shadowed(&model, "ok", began.elapsed(), tokens),
                Ok(Err(ShadowFailure)) | Err(_) => metrics.shadowed(&model, "failed", began.elapsed(), None),
            }
        });
    }

    /// Sends a copy and reads its answer; returns the answer's tokens, where the upstream counts them.
    async fn send(
        &self,
        copy: &ShadowRequest,
        upstream_tls: &UpstreamTls,
    ) -> Result<Option<u64>, ShadowFailure> {
        let live = &copy.live;
        let target = copy.target().ok_or(ShadowFailure)?;
        let pool = target.route(&live.policy).pool;
        let (spec, now) = (live.pool_spec(pool), Instant::now());
        let lease = live.pool(pool).lease(None, &[], now).ok_or(ShadowFailure)?;
        let peer = upstream_tls.peer(spec, lease.endpoint().addr());
        let body = body_for(&live.policy, &target, copy.api, &copy.request);
        let header = upstream::new_request(
            spec,
            lease.endpoint().host(),
            copy.api.path(),
            body.len(),
            &copy.request_id,
        );
        let header = header.map_err(|_rejection| ShadowFailure)?;
        let (mut session, _reused) = self.connector.get_http_session(&peer).await?;
        session.write_request_header(Box::new(header)).await?;
        session.write_request_body(body, true).await?;
        session.finish_request_body().await?;
        session.set_read_timeout(Some(spec.timeouts.first_byte));
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

impl ShadowRequest {
    /// The model behind the first of its pools that has an endpoint.
    fn target(&self) -> Option<Target> {
        let now = Instant::now();
        let routes = &self.live.policy[self.model].routes;
        let route = routes.iter().position(|route| self.live.pool(route.pool).available(now) > 0)?;
        Some(Target { model: self.model, route, lora: None, reasoning: None })
    }
}
