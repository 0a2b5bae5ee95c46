//! Owns one upstream as the policy describes it: its endpoints and how requests get there. Refuses to know the other
//! pools, the models, and which endpoints are up.

mod api;
mod balance;
mod credential;
mod discovery;
mod endpoint;
mod endpoint_picker;
mod external_picker;
mod health;
mod hedge;
mod kv_events;
mod limits;
mod metrics;
mod prefill;
mod resources;
mod scorers;
mod transport;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::duration::DurationText;
use super::issue::YamlPath;
pub use api::{PoolApi, Provider, SpokenApi, StreamUsageMode};
use api::{PoolFacts, RawPoolApi};
use balance::RawBalance;
pub use balance::{Balance, Ejection, HashKey};
pub use credential::Credential;
use credential::RawCredential;
use discovery::RawDiscovery;
pub use discovery::{DiscoverySpec, KubeObject, KubeSelection, PortRef};
pub use endpoint::EndpointSpec;
pub(super) use endpoint::parse_address;
use endpoint::{PoolEndpoints, RawEndpoint};
pub use external_picker::{ExternalPicker, FailureMode, PickerTls, PickerTrust};
pub use health::Health;
use health::RawHealth;
pub use hedge::Hedge;
use hedge::HedgeContext;
use kv_events::RawKvEvents;
pub use kv_events::{KvEventPorts, KvEventsSpec};
use limits::RawPoolLimits;
pub use limits::{PoolLimits, Saturation};
pub use metrics::{EngineKind, MetricsScrape, ScrapeCondition};
use metrics::{MetricsContext, RawMetrics};
pub(super) use prefill::PoolNames;
use prefill::RawPrefill;
pub use prefill::{KvConnector, PrefillSpec};
pub use resources::ServedResource;
pub use scorers::{Scorer, Scorers};
pub use transport::{Alpn, ClientCert, HostRule, Transport};
use transport::{RawProtocol, RawTls, host_rule, transport};

/// One upstream: its endpoints and how requests get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// The name that logs and metrics show.
    pub name: String,
    /// The addresses that the policy writes, each once; those that Kubernetes names are among the probes.
    pub endpoints: Vec<EndpointSpec>,
    /// The protocol, with or without TLS.
    pub transport: Transport,
    /// The Host header.
    pub host: HostRule,
    /// How its API differs from the clients'.
    pub api: PoolApi,
    /// The header that carries this pool's secret.
    pub credential: Option<Credential>,
    /// Whether the client's own credentials go on.
    pub forward_authorization: bool,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// Which endpoint takes the next request.
    pub balance: Balance,
    /// Where long prompts are computed, if that is not where their answers are.
    pub prefill: Option<PrefillSpec>,
    /// What is asked about endpoints beside requests.
    pub probes: PoolProbes,
    /// When an endpoint is left out, or has enough to do.
    pub limits: PoolLimits,
}

impl PoolSpec {
    /// Has its saturation judged, or not: where it is, an engine that stands alone is asked for its figures too.
    pub(super) fn set_admission(&mut self, is_on: bool) {
        self.limits.saturation = self.limits.saturation.filter(|_| is_on);
        if let Some(metrics) = self.probes.metrics.as_mut().filter(|_| is_on) {
            metrics.condition = ScrapeCondition::Always;
        }
    }
}

/// What is asked about a pool's endpoints beside requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolProbes {
    /// Active health checks, if there are any.
    pub health: Option<Health>,
    /// How their engines' figures are read, if they are.
    pub metrics: Option<MetricsScrape>,
    /// How their engines' accounts of their KV caches are listened to, if they are.
    pub kv_events: Option<KvEventsSpec>,
    /// How often DNS names are resolved again.
    pub resolve_interval: Duration,
    /// What of Kubernetes names further endpoints; of all together at least one has a weight.
    pub discovered: Vec<DiscoverySpec>,
}

/// One upstream: its endpoints and how requests get there.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Pool", deny_unknown_fields)]
pub(super) struct RawPool {
    /// The addresses; a DNS name stands for each address it resolves to.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1024))]
    endpoints: Vec<RawEndpoint>,
    /// The plaintext protocol, `http1` when absent; a pool with `tls` has `tls.alpn` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawProtocol")]
    protocol: Option<RawProtocol>,
    /// TLS and its settings; present, even as `{}`, means TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawTls")]
    tls: Option<RawTls>,
    /// The Host header; `tls.server_name` with TLS, else each endpoint's address as written.
    #[serde(default)]
    host: Option<String>,
    #[serde(flatten)]
    api: RawPoolApi,
    /// The credential that this pool's requests carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawCredential")]
    credential: Option<RawCredential>,
    /// Whether the client's own credentials (Authorization, x-api-key, api-key, cookies, other providers' keys and
    /// accounts) go on to this pool.
    #[serde(default)]
    forward_authorization: bool,
    /// How long each step may take.
    #[serde(default)]
    timeouts: Timeouts,
    /// Which endpoint takes the next request.
    #[serde(default)]
    balance: RawBalance,
    /// Where long prompts are computed, if that is not where their answers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawPrefill")]
    prefill: Option<RawPrefill>,
    #[serde(flatten)]
    probes: RawPoolProbes,
    #[serde(flatten)]
    limits: RawPoolLimits,
}

/// What is asked about endpoints beside requests.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct RawPoolProbes {
    /// Active health checks.
    #[serde(default)]
    health: RawHealth,
    /// Whether and how the engines' own figures are read, by which endpoints are picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawMetrics")]
    metrics: Option<RawMetrics>,
    /// Whether and how the engines are listened to for what their KV caches hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawKvEvents")]
    kv_events: Option<RawKvEvents>,
    /// How often DNS names are resolved again.
    #[serde(default = "thirty_seconds", with = "DurationText")]
    resolve_interval: Duration,
    #[serde(flatten)]
    discovery: RawDiscovery,
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

impl RawPool {
    pub(super) fn check(
        mut self,
        name: &str,
        pools: &PoolNames,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> PoolSpec {
        checker.name(path, name);
        let PoolEndpoints { written: endpoints, discovered } =
            PoolEndpoints::check(self.endpoints, std::mem::take(&mut self.probes.discovery), path, checker);
        let uses_tls = self.tls.is_some();
        let transport = transport(self.protocol, self.tls, &endpoints, path, checker);
        let credential = self.credential.and_then(|raw| raw.check(&path.key("credential"), checker));
        if self.forward_authorization && credential.as_ref().is_some_and(|own| own.header == "authorization")
        {
            let path = path.key("forward_authorization");
            checker.issue(&path, "has no effect beside a credential in `authorization`");
        }
        let has_key = credential.is_some() || self.forward_authorization;
        let has_credential = credential.is_some();
        let is_plain = matches!(transport, Transport::Plain { .. });
        let clear = endpoints.iter().position(|endpoint| endpoint.port == 443);
        if let Some(index) = clear.filter(|_| is_plain && has_key) {
            let path = path.key("endpoints").index(index);
            checker.issue(&path, "is port 443 without `tls`: the key would go in clear");
        }
        let min_uncached = self.balance.min_uncached_tokens();
        let prefill = self.prefill.map(|prefill| prefill.or_min_uncached(min_uncached));
        let host = host_rule(self.host, &transport, &path.key("host"), checker);
        let probes = self.probes.check(uses_tls, has_credential, path, checker);
        let facts = PoolFacts {
            endpoints: &endpoints,
            transport: &transport,
            credential: credential.as_ref(),
            reads_metrics: probes.metrics.is_some(),
        };
        let api = self.api.check(facts, path, checker);
        let role = pools.role(name);
        let balance = self.balance.check(role, &path.key("balance"), checker);
        let hedging = HedgeContext { transport: &transport, balance: &balance, role };
        let limits = self.limits.check(hedging, path, checker);
        PoolSpec {
            name: name.to_owned(),
            host,
            endpoints,
            transport,
            api,
            credential,
            forward_authorization: self.forward_authorization,
            timeouts: self.timeouts,
            balance,
            prefill: prefill.and_then(|prefill| prefill.check(name, pools, &path.key("prefill"), checker)),
            probes: PoolProbes { discovered, ..probes },
            limits,
        }
    }
}

impl RawPoolProbes {
    fn check(
        self,
        uses_tls: bool,
        has_credential: bool,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> PoolProbes {
        let health = self.health.check(uses_tls, &path.key("health"), checker);
        let pool = MetricsContext { uses_tls, has_credential, has_checks: health.is_some() };
        PoolProbes {
            health,
            metrics: RawMetrics::check(self.metrics, pool, &path.key("metrics"), checker),
            kv_events: self.kv_events.map(|raw| raw.check(&path.key("kv_events"), checker)),
            resolve_interval: self.resolve_interval,
            discovered: Vec::new(),
        }
    }
}

/// How long each step of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Until a connection is established, TLS handshake included.
    #[serde(with = "DurationText")]
    pub connect: Duration,
    /// From the request to the answer's first byte; when absent, two minutes for an answer that streams, and `total` for
    /// one that comes whole, whose first byte is as late as its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DurationText")]
    first_byte: Option<DurationText>,
    /// Between two pieces of an answer.
    #[serde(with = "DurationText")]
    pub idle: Duration,
    /// For everything, retries included.
    #[serde(with = "DurationText")]
    pub total: Duration,
    /// How often an HTTP/2 connection is asked whether it still lives; one that stays silent for five seconds after that
    /// is given up.
    #[serde(with = "DurationText")]
    pub ping: Duration,
}

impl Timeouts {
    /// How long the first byte of an answer may take.
    pub fn first_byte(&self, is_stream: bool) -> Duration {
        match self.first_byte {
            Some(DurationText(first_byte)) => first_byte,
            None if is_stream => Duration::from_secs(120),
            None => self.total,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(2),
            first_byte: None,
            idle: seconds(60),
            total: seconds(600),
            ping: seconds(15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_of_an_answer_that_comes_whole_has_the_time_of_all() {
        let seconds =
            |timeouts: Timeouts| [true, false].map(|is_stream| timeouts.first_byte(is_stream).as_secs());
        assert_eq!(seconds(Timeouts::default()), [120, 600]);
        let told = Timeouts { first_byte: Some(DurationText(Duration::from_secs(7))), ..Timeouts::default() };
        assert_eq!(seconds(told), [7, 7]);
    }
}
