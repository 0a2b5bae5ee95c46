//! Owns the reading of engines' own figures: one task for each endpoint of a pool whose engines show metrics.
//!
//! Only hands the figures to their endpoint. One that cannot be read says nothing against the endpoint: its figures age.

mod exposition;
mod families;
mod pace;
mod page;

pub use page::EnginePage;

use super::endpoint_client::{EndpointClient, GetLimits, PeerOf, peer, request};
use super::endpoint_tasks::{EndpointTask, EndpointTasks};
use crate::balance::{Endpoint, EngineMetrics};
use crate::policy::{MetricsScrape, PoolSpec};
use crate::snapshot::Live;
use crate::telemetry::Metrics;
use pace::{ScrapePace, ScrapeResult};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The most pages read at once; the others wait for their turn.
const MAX_CONCURRENT: usize = 256;

/// The most bytes of a page; vLLM's has about sixty thousand.
const MAX_PAGE: usize = 4 << 20;

/// How long a page may take.
const PAGE_TIME: Duration = Duration::from_secs(1);

/// How often an idle endpoint is looked at for requests of ours, which costs nothing on the wire.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// So many failures in a row are worth a line in the log: one is a server that closed a connection as it was used.
const FAILURES_LOGGED: u32 = 2;

/// Keeps one reading task for each live endpoint whose engine shows metrics.
pub struct Scraper {
    live: Arc<Live>,
    scrapes: Scrapes,
}

struct Scrapes {
    peer_of: PeerOf,
    client: Arc<EndpointClient>,
    metrics: Arc<Metrics>,
}

impl Scraper {
    /// Makes a scraper for the live snapshot.
    pub fn new(live: Arc<Live>, peer_of: PeerOf, metrics: Arc<Metrics>) -> Self {
        Self { live, scrapes: Scrapes { peer_of, client: EndpointClient::new(MAX_CONCURRENT), metrics } }
    }

    /// Reads for ever, following each new snapshot.
    pub async fn run(self) {
        EndpointTasks::new(self.scrapes).follow(self.live).await;
    }
}

impl EndpointTask for Scrapes {
    fn holds_for(&self, pool: &PoolSpec, endpoints: usize) -> bool {
        pool.probes.metrics.as_ref().is_some_and(|metrics| metrics.holds_for(endpoints))
    }

    fn start(&self, pool: &Arc<PoolSpec>, endpoint: &Arc<Endpoint>) -> JoinHandle<()> {
        let spec = pool.probes.metrics.clone().expect("only such pools are asked");
        let scrape = EndpointScrape {
            requests: spec
                .paths
                .iter()
                .filter_map(|path| page_request(pool, &spec, path, endpoint))
                .collect(),
            path: 0,
            peer: peer(&self.peer_of, pool, endpoint, PAGE_TIME),
            pace: ScrapePace::new(&spec),
            failures: 0,
            logged: LoggedState::Good,
            pool: Arc::clone(pool),
            spec,
            endpoint: Arc::clone(endpoint),
            metrics: Arc::clone(&self.metrics),
        };
        tokio::spawn(scrape.run(Arc::clone(&self.client)))
    }
}

/// The request for a page of metrics. The pool's credential goes along only where the policy says so: engines show their
/// metrics without one, and a key is not sent where none is needed.
fn page_request(
    pool: &PoolSpec,
    spec: &MetricsScrape,
    path: &str,
    endpoint: &Endpoint,
) -> Option<RequestHeader> {
    let mut request = request(pool, path, endpoint)?;
    request.insert_header("accept", "text/plain;version=0.0.4").ok()?;
    request.insert_header("accept-encoding", "identity").ok()?;
    if let Some(credential) = pool.credential.as_ref().filter(|_| spec.send_credential) {
        request.insert_header(credential.header.clone(), credential.value.expose()).ok()?;
    }
    Some(request)
}

/// The reading of one endpoint's figures.
struct EndpointScrape {
    pool: Arc<PoolSpec>,
    spec: MetricsScrape,
    endpoint: Arc<Endpoint>,
    metrics: Arc<Metrics>,
    peer: HttpPeer,
    /// One for each path that the engine may show metrics under.
    requests: Vec<RequestHeader>,
    /// The index of the path that is asked next.
    path: usize,
    pace: ScrapePace,
    /// In a row.
    failures: u32,
    logged: LoggedState,
}

/// What of an endpoint the log has last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoggedState {
    Good,
    Failing,
    NotOffered,
}

impl Drop for EndpointScrape {
    /// From here on nobody says whether the engine sleeps.
    fn drop(&mut self) {
        self.endpoint.note_asleep(false);
    }
}

impl EndpointScrape {
    async fn run(mut self, client: Arc<EndpointClient>) {
        if self.requests.is_empty() {
            tracing::error!(pool = self.pool.name, endpoint = %self.endpoint.addr(), "metrics cannot be asked for");
            return;
        }
        // Many endpoints that come at once are not asked in step.
        sleep(self.spec.min_interval.mul_f64(rand::random_range(0.0..1.0))).await;
        loop {
            let began = Instant::now();
            let result = self.scrape(&client).await;
            self.pace.note_cost(began.elapsed());
            let wait = self.pace.after(result).mul_f64(rand::random_range(0.95..1.05));
            let is_of_others = result == ScrapeResult::Busy && self.endpoint.in_flight() == 0;
            if result == ScrapeResult::Idle || is_of_others {
                self.wait_for_work(wait).await;
            } else {
                sleep(wait).await;
            }
        }
    }

    /// Reads the page once, under the next path where one shows nothing.
    async fn scrape(&mut self, client: &EndpointClient) -> ScrapeResult {
        for _ in 0..self.requests.len() {
            let started = Instant::now();
            let page = self.read_page(client).await;
            let (result, label) = match page {
                Ok(Some(metrics)) => (self.take(metrics), "success"),
                Ok(None) => (ScrapeResult::NotOffered, "not_offered"),
                Err(error) if is_refusal(&error) => (ScrapeResult::NotOffered, "not_offered"),
                Err(error) => (self.fail(&error), "failure"),
            };
            self.metrics.scraped(&self.pool.name, label, started.elapsed());
            if result != ScrapeResult::NotOffered {
                return result;
            }
            self.path = (self.path + 1) % self.requests.len();
        }
        self.miss()
    }

    async fn read_page(&mut self, client: &EndpointClient) -> pingora::Result<Option<EngineMetrics>> {
        let mut page = EnginePage::new(self.spec.engine);
        let limits = GetLimits { time: PAGE_TIME, bytes: MAX_PAGE, statuses: &[200] };
        let request = &self.requests[self.path];
        client.get(&mut self.peer, request, limits, |piece| page.feed(piece)).await?;
        Ok(page.finish(Instant::now()))
    }

    fn take(&mut self, metrics: EngineMetrics) -> ScrapeResult {
        let has_some = |figure: Option<f32>| figure.is_some_and(|figure| figure > 0.0);
        let ours = self.endpoint.in_flight();
        let is_busy = has_some(metrics.waiting) || has_some(metrics.running) || ours > 0;
        if let Some(running) = metrics.running {
            self.pace.note_share(ours as f32, running + metrics.waiting.unwrap_or_default());
        }
        self.endpoint.note_engine_metrics(EngineMetrics { max_age: self.spec.max_age, ..metrics });
        self.failures = 0;
        if self.logged != LoggedState::Good {
            self.logged = LoggedState::Good;
            tracing::info!(pool = self.pool.name, endpoint = %self.endpoint.addr(), "the engine's metrics are read");
        }
        if is_busy { ScrapeResult::Busy } else { ScrapeResult::Idle }
    }

    fn fail(&mut self, error: &Error) -> ScrapeResult {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            // The next try tells whether it is more than a connection that had been idle too long.
            self.pace.hurry();
        }
        if self.failures >= FAILURES_LOGGED && self.logged != LoggedState::Failing {
            self.logged = LoggedState::Failing;
            let endpoint = self.endpoint.addr();
            tracing::warn!(pool = self.pool.name, %endpoint, failure = %error, "the engine's metrics cannot be read");
        }
        ScrapeResult::Failed
    }

    fn miss(&mut self) -> ScrapeResult {
        self.failures = 0;
        if self.logged != LoggedState::NotOffered {
            self.logged = LoggedState::NotOffered;
            let paths = self.spec.paths.join(", ");
            tracing::info!(pool = self.pool.name, endpoint = %self.endpoint.addr(), paths, "the engine shows no known metrics");
        }
        ScrapeResult::NotOffered
    }

    /// Waits until the time is up or the endpoint has a request of ours.
    async fn wait_for_work(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep_until(end.min(tokio::time::Instant::now() + LOOK_INTERVAL)).await;
            if self.endpoint.in_flight() > 0 {
                self.pace.hurry();
                return;
            }
        }
    }
}

/// Whether an answer says that there is nothing to read here, and will be nothing soon.
fn is_refusal(error: &Error) -> bool {
    // 501: llama.cpp's server without `--metrics`.
    matches!(error.etype(), ErrorType::HTTPStatus(400..=499 | 501))
}
