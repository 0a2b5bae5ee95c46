//! Owns the question to a running gateway how the replicas stand for a request, and its answer as text.
//! Refuses to know how a replica is chosen.

use super::super::Failure;
use crate::openai::ChatRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;
use ureq::Agent;

/// How long a gateway may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A gateway, by its operator's port.
pub(super) struct RunningGateway {
    agent: Agent,
    url: String,
}

/// How the replicas stand that could get a request, as `/api/v1/pick` says it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReplicaStandings {
    model: String,
    pool: String,
    prompt_tokens: u32,
    endpoints: Vec<ReplicaStanding>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// How one replica stands.
#[derive(Debug, Serialize, Deserialize)]
struct ReplicaStanding {
    host: String,
    available: bool,
    best: bool,
    in_flight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncached_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl RunningGateway {
    /// Names the gateway whose operator's port is at an address, with or without `http://`.
    pub(super) fn new(address: &str) -> Self {
        let config = Agent::config_builder().timeout_global(Some(ANSWER_TIME)).http_status_as_error(false);
        let base = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        Self { agent: config.build().into(), url: format!("{}/api/v1/pick", base.trim_end_matches('/')) }
    }

    /// Asks how the replicas stand for a request; `None` where none would get it.
    pub(super) fn replicas(&self, request: &ChatRequest) -> Result<Option<ReplicaStandings>, Failure> {
        let failed = |error: &dyn fmt::Display| format!("{}: {error}", self.url);
        let sent = self.agent.post(&self.url).send(&request.body()[..]);
        let mut answer = sent.map_err(|error| failed(&error))?;
        let text = answer.body_mut().read_to_string().map_err(|error| failed(&error))?;
        match answer.status().as_u16() {
            200 => Ok(Some(serde_json::from_str(&text).map_err(|error| failed(&error))?)),
            409 => Ok(None),
            _ => Err(failed(&text).into()),
        }
    }
}

impl fmt::Display for ReplicaStandings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} for {}, {} tokens", self.pool, self.model, self.prompt_tokens)?;
        self.endpoints.iter().try_for_each(|endpoint| endpoint.fmt(f))
    }
}

impl fmt::Display for ReplicaStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n          {} {}: ", if self.best { "=>" } else { " -" }, self.host)?;
        if !self.available {
            return f.write_str("unavailable");
        }
        write!(f, "{} in flight", self.in_flight)?;
        self.waiting.map_or(Ok(()), |waiting| write!(f, ", {waiting:.0} waiting"))?;
        self.uncached_tokens.map_or(Ok(()), |tokens| write!(f, ", {tokens} tokens to compute"))?;
        self.cost.map_or(Ok(()), |cost| write!(f, ", cost {cost:.0}"))?;
        self.score.map_or(Ok(()), |score| write!(f, ", score {score:.3}"))
    }
}
