//! Owns whether Signalbox is the controller of Gateways, and whose. Refuses to know the objects.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::issue::YamlPath;

/// What `GatewayClass` objects name as their controller when they mean Signalbox.
const CONTROLLER_NAME: &str = "signalbox.dev/gateway-controller";

/// How Gateways and their routes are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayApiSpec {
    /// The controller that a `GatewayClass` names for its Gateways to be served here.
    pub controller_name: String,
    /// The namespaces whose Gateways and routes count; all when empty.
    pub namespaces: Vec<String>,
    /// The Service whose addresses Gateways have.
    pub service: Option<ObjectName>,
    /// Whether a Service may stand for a name outside the cluster.
    pub external_names: bool,
    /// Where what is known is kept for a start without the API server.
    pub state_file: Option<PathBuf>,
    /// The `Lease` by which replicas agree who writes states.
    pub lease: String,
}

/// An object of Kubernetes within its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// Its namespace; empty for what has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How Gateways and their routes are followed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "GatewayApi")]
pub(super) struct RawGatewayApi {
    /// What a `GatewayClass` names in `controllerName` for its Gateways to be served here.
    #[schemars(length(min = 1, max = 253))]
    controller_name: String,
    /// The namespaces whose Gateways, routes and grants are followed; all of them when empty.
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    namespaces: Vec<String>,
    /// The Service, `namespace/name`, whose addresses Gateways get; none are told when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    service: Option<String>,
    /// Whether a Service of type `ExternalName` is a backend: whoever may write one reaches any host from here.
    external_names: bool,
    /// A file that keeps the last known state, secrets included, for a start without the API server; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    state_file: Option<PathBuf>,
    /// The name of the `Lease`, in the process's own namespace, whose holder writes states.
    #[schemars(length(min = 1, max = 253))]
    lease: String,
}

impl Default for RawGatewayApi {
    fn default() -> Self {
        Self {
            controller_name: CONTROLLER_NAME.to_owned(),
            namespaces: Vec::new(),
            service: None,
            external_names: false,
            state_file: None,
            lease: "signalbox-gateway".to_owned(),
        }
    }
}

impl Default for GatewayApiSpec {
    fn default() -> Self {
        let raw = RawGatewayApi::default();
        Self {
            controller_name: raw.controller_name,
            namespaces: raw.namespaces,
            service: None,
            external_names: raw.external_names,
            state_file: None,
            lease: raw.lease,
        }
    }
}

impl RawGatewayApi {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> GatewayApiSpec {
        let is_name = |name: &str| {
            name.split_once('/').is_some_and(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
        };
        if !is_name(&self.controller_name) {
            let message =
                format!("`{}` is not `domain/path`, such as `{CONTROLLER_NAME}`", self.controller_name);
            checker.issue(&path.key("controller_name"), message);
        }
        let service = self.service.and_then(|text| {
            let name =
                text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
            if name.is_none() {
                checker.issue(&path.key("service"), format!("`{text}` is not `namespace/name`"));
            }
            name.map(|(namespace, name)| ObjectName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        });
        for (index, namespace) in self.namespaces.iter().enumerate() {
            if self.namespaces[..index].contains(namespace) {
                checker.issue(&path.key("namespaces").index(index), "stands twice");
            }
        }
        GatewayApiSpec {
            controller_name: self.controller_name,
            namespaces: self.namespaces,
            service,
            external_names: self.external_names,
            state_file: self.state_file.map(|file| checker.resolve(file)),
            lease: self.lease,
        }
    }
}
