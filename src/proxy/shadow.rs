//! Owns the copies of requests that go to another model for comparison: their answers are read, counted and dropped.
//!
//! A copy never holds up the request it is a copy of: it runs beside it, and beyond a bound it is not made at all.

use super::peer::{self, Wardrobe};
use crate::metrics::Metrics;
use crate::openai::{Api, ChatRequest, Format, UsageReader};
use crate::policy::ModelId;
use crate::route::{Target, body_for};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use pingora::connectors::http::Connector;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How many copies are under way at most; with a body of 10 MiB each they hold 640 MiB.
const MOST: usize = 64;

/// How much of an answer is read.
const MAX_ANSWER: usize = 16 << 20;

/// What copies of requests need.
pub(super) struct Shadows {
    connector: Connector,
    room: Semaphore,
}

/// One copy.
pub(super) struct Copy {
    pub(super) live: Arc<Snapshot>,
    pub(super) api: Api,
    pub(super) request: ChatRequest,
    pub(super) model: ModelId,
    pub(super) request_id: String,
}

/// Why a copy came to nothing; the request it is a copy of knows nothing of it.
struct Failed;

impl Shadows {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { connector: Connector::new(None), room: Semaphore::new(MOST) })
    }

    /// Sends a copy on its way.
    pub(super) fn cast(self: &Arc<Self>, copy: Copy, wardrobe: Arc<Wardrobe>, metrics: Arc<Metrics>) {
        let shadows = Arc::clone(self);
        tokio::spawn(async move {
            let model = copy.live.policy[copy.model].name.clone();
            let Ok(_place) = shadows.room.try_acquire() else {
                metrics.shadowed(&model, "dropped", Duration::ZERO, None);
                return;
            };
            let began = Instant::now();
            let limit = copy.target().map(|target| {
                let live = &copy.live;
                live.pool_spec(target.route(&live.policy).pool).timeouts.total
            });
            let sent = tokio::time::timeout(limit.unwrap_or_default(), shadows.send(&copy, &wardrobe)).await;
            match sent {
                Ok(Ok(tokens)) => metrics.shadowed(&model, "ok", began.elapsed(), tokens),
                Ok(Err(Failed)) | Err(_) => metrics.shadowed(&model, "failed", began.elapsed(), None),
            }
        });
    }

    /// Sends a copy and reads its answer; gives the tokens of the answer, where the upstream counts them.
    async fn send(&self, copy: &Copy, wardrobe: &Wardrobe) -> Result<Option<u64>, Failed> {
        let live = &copy.live;
        let target = copy.target().ok_or(Failed)?;
        let pool = target.route(&live.policy).pool;
        let (spec, now) = (live.pool_spec(pool), Instant::now());
        let lease = live.pool(pool).lease(None, &[], now).ok_or(Failed)?;
        let peer = wardrobe.peer(spec, lease.endpoint().addr());
        let body = body_for(&live.policy, &target, copy.api, &copy.request);
        let header =
            peer::fresh(spec, lease.endpoint().host(), copy.api.path(), body.len(), &copy.request_id);
        let header = header.map_err(|_rejection| Failed)?;
        let (mut session, _reused) = self.connector.get_http_session(&peer).await?;
        session.write_request_header(Box::new(header)).await?;
        session.write_request_body(body, true).await?;
        session.finish_request_body().await?;
        session.set_read_timeout(Some(spec.timeouts.first_byte));
        session.read_response_header().await?;
        let answered = session.response_header().ok_or(Failed)?;
        if !answered.status.is_success() {
            return Err(Failed);
        }
        let content_type = answered.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut usage = UsageReader::new(Format::of(content_type));
        let mut read = 0;
        while let Some(chunk) = session.read_response_body().await? {
            read += Bytes::len(&chunk);
            if read > MAX_ANSWER {
                return Err(Failed);
            }
            usage.feed(&chunk);
        }
        lease.succeeded();
        self.connector.release_http_session(session, &peer, Some(peer::KEEP_IDLE)).await;
        Ok(usage.finish().map(|usage| usage.completion_tokens))
    }
}

impl From<Box<pingora::Error>> for Failed {
    fn from(_error: Box<pingora::Error>) -> Self {
        Failed
    }
}

impl Copy {
    /// The model behind the first of its pools that has an endpoint.
    fn target(&self) -> Option<Target> {
        let now = Instant::now();
        let routes = &self.live.policy[self.model].routes;
        let route = routes.iter().position(|route| self.live.pool(route.pool).available(now) > 0)?;
        Some(Target { model: self.model, route, lora: None, reasoning: None })
    }
}
