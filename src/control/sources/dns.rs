//! Owns the look-up of names in DNS, without blocking a thread.
//!
//! Knows nothing of when a name is looked up, nor of what becomes of a name that does not resolve.

use crate::snapshot::HostPort;
use async_trait::async_trait;
use pingora::{Error, ErrorType, OrErr};
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// How long one look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// One name and port, each of whose addresses is an endpoint.
pub(super) struct DnsName(pub(super) HostPort);

#[async_trait]
impl ServiceDiscovery for DnsName {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let HostPort { host, port } = &self.0;
        let lookup = tokio::net::lookup_host((host.as_str(), *port));
        let addresses = match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                tracing::warn!(host, %error, "name does not resolve");
                return Err(error).or_err(ErrorType::InternalError, "name does not resolve");
            }
            Err(_elapsed) => {
                tracing::warn!(host, "name does not resolve in time");
                return Error::e_explain(ErrorType::InternalError, "name does not resolve in time");
            }
        };
        let backends: pingora::Result<BTreeSet<Backend>> =
            addresses.map(|address| Backend::new(&address.to_string())).collect();
        Ok((backends?, HashMap::new()))
    }
}
