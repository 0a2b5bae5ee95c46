//! Owns which replica writes: the one that holds the Lease, as Kubernetes' own controllers agree on it. Refuses to know what
//! is written.
//!
//! Clocks need not agree: a holder is given up when nothing of its Lease has changed for its time, by the clock here.

use crate::control::sources::{ClusterApi, KubeKind, WriteFault};
use crate::policy::ObjectName;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

const LEASE: KubeKind =
    KubeKind { group: "coordination.k8s.io", version: "v1", kind: "Lease", plural: "leases" };

/// How long a holder that says nothing keeps the Lease.
const LEASE_TIME: Duration = Duration::from_secs(15);

/// How long a holder that cannot renew still counts as one: less, so that there are never two.
const RENEW_LIMIT: Duration = Duration::from_secs(10);

/// How often the Lease is looked at, or renewed.
const PERIOD: Duration = Duration::from_secs(2);

/// Takes part in who writes.
pub(super) struct LeaseHolder {
    api: ClusterApi,
    /// The Lease's name, in the process's own namespace.
    lease: String,
    identity: String,
    holds: watch::Sender<bool>,
    /// What another holder has last said, and since when.
    observed: Option<(Value, Instant)>,
    renewed: Option<Instant>,
}

impl LeaseHolder {
    pub(super) fn new(api: ClusterApi, lease: String, identity: String) -> Self {
        Self { api, lease, identity, holds: watch::Sender::new(false), observed: None, renewed: None }
    }

    /// Says whether this process is the holder.
    pub(super) fn holds(&self) -> watch::Receiver<bool> {
        self.holds.subscribe()
    }

    /// Takes part for ever.
    pub(super) async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(true) => self.renewed = Some(Instant::now()),
                // At a conflict another was quicker.
                Ok(false) | Err(WriteFault::Conflict) => self.renewed = None,
                Err(fault) => tracing::debug!(lease = self.lease, %fault, "the Lease is out of reach"),
            }
            let holds = self.renewed.is_some_and(|renewed| renewed.elapsed() < RENEW_LIMIT);
            self.holds.send_if_modified(|held| {
                let is_new = *held != holds;
                if is_new {
                    tracing::info!(lease = self.lease, holds, "who writes the states of routes has changed");
                }
                *held = holds;
                is_new
            });
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Looks at the Lease, and takes or renews it if that may be; says whether this process holds it now.
    async fn turn(&mut self) -> Result<bool, WriteFault> {
        let name = ObjectName { namespace: self.api.own_namespace().await?, name: self.lease.clone() };
        let current = match self.api.read(LEASE, &name).await {
            Ok(current) => current,
            Err(WriteFault::NotFound) => {
                self.api.write(LEASE, &name, self.wanted(&name, &Value::Null)).await?;
                return Ok(true);
            }
            Err(fault) => return Err(fault),
        };
        if !self.may_take(&current["spec"], Instant::now()) {
            return Ok(false);
        }
        self.api.write(LEASE, &name, self.wanted(&name, &current)).await?;
        Ok(true)
    }

    /// Whether the Lease is ours, or nobody's any more.
    fn may_take(&mut self, spec: &Value, now: Instant) -> bool {
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            self.observed = None;
            return true;
        }
        let time = spec["leaseDurationSeconds"].as_u64().map_or(LEASE_TIME, Duration::from_secs);
        match &self.observed {
            Some((known, since)) if known == spec => now.saturating_duration_since(*since) >= time,
            _ => {
                self.observed = Some((spec.clone(), now));
                false
            }
        }
    }

    /// The Lease as it is to be: ours.
    fn wanted(&self, name: &ObjectName, current: &Value) -> Value {
        let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let spec = &current["spec"];
        let is_ours = spec["holderIdentity"] == *self.identity;
        let acquired = spec["acquireTime"].as_str().filter(|_| is_ours).unwrap_or(&now).to_owned();
        let changes =
            spec["leaseTransitions"].as_u64().unwrap_or(0) + u64::from(!current.is_null() && !is_ours);
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name.name, "namespace": name.namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": LEASE_TIME.as_secs(),
                "acquireTime": acquired,
                "renewTime": now,
                "leaseTransitions": changes,
            },
        });
        if let Some(version) = current["metadata"]["resourceVersion"].as_str() {
            lease["metadata"]["resourceVersion"] = version.into();
        }
        lease
    }
}
