//! Owns what is read of Kubernetes' objects: slices of endpoints, pods and inference pools, each the few fields that count.
//!
//! Own types instead of `k8s-openapi`'s: a field that is missing or of another kind makes an object that names no endpoint,
//! not an error that hides all others. Refuses to know how objects get here.

use kube::api::{ApiResource, DynamicObject};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The annotations that say which of a pod's ports are active, the newer one first.
const ACTIVE_PORTS: [&str; 2] = ["llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports"];

/// The most ports of an `InferencePool`.
const MAX_PORTS: usize = 8;

/// What a port's `appProtocol` is where it takes HTTP/2 with prior knowledge.
const H2C: &str = "kubernetes.io/h2c";

/// A kind of the Kubernetes API.
pub(super) fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

/// Part of a Service's endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EndpointSlice {
    pub(super) address_type: String,
    pub(super) endpoints: Option<Vec<SliceEndpoint>>,
    pub(super) ports: Option<Vec<SlicePort>>,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct SliceEndpoint {
    pub(super) addresses: Vec<String>,
    pub(super) conditions: Option<SliceConditions>,
}

/// How an endpoint of a slice is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct SliceConditions {
    pub(super) ready: Option<bool>,
    pub(super) terminating: Option<bool>,
}

/// A port of a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SlicePort {
    pub(super) name: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) app_protocol: Option<String>,
}

impl SliceEndpoint {
    /// Its address, where it takes requests: it is ready, or its state is not known, and does not terminate.
    pub(super) fn serving(&self) -> Option<IpAddr> {
        let conditions = self.conditions.unwrap_or_default();
        let serves = conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false);
        // All addresses of an endpoint are the same one; consumers take the first.
        self.addresses.first().filter(|_| serves)?.parse().ok()
    }
}

impl SlicePort {
    pub(super) fn is_h2c(&self) -> bool {
        self.app_protocol.as_deref() == Some(H2C)
    }
}

/// Reads a slice.
pub(super) fn endpoint_slice(object: DynamicObject) -> Option<EndpointSlice> {
    serde_json::from_value(object.data).ok()
}

/// A pod that takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadyPod {
    pub(super) ip: IpAddr,
    /// The ports of its containers that have a name.
    pub(super) named_ports: BTreeMap<String, u16>,
    /// Those of its ports that take requests; all where nothing is said.
    pub(super) active_ports: Option<Vec<u16>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pod {
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    containers: Vec<Container>,
    /// Sidecars among them.
    init_containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Vec<ContainerPort>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Vec<PodCondition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// Reads a pod, where it is ready and does not terminate.
pub(super) fn ready_pod(object: DynamicObject) -> Option<ReadyPod> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let pod: Pod = serde_json::from_value(object.data).ok()?;
    let is_ready = |condition: &PodCondition| condition.kind == "Ready" && condition.status == "True";
    if !pod.status.conditions.iter().any(is_ready) {
        return None;
    }
    let ip = pod.status.pod_ip?.parse().ok()?;
    let containers = pod.spec.containers.into_iter().chain(pod.spec.init_containers);
    let ports = containers.flat_map(|container| container.ports);
    let named_ports = ports.filter_map(|port| Some((port.name?, port.container_port))).collect();
    let annotations = object.metadata.annotations.unwrap_or_default();
    let active = ACTIVE_PORTS.iter().find_map(|name| annotations.get(*name));
    let active_ports =
        active.map(|list| list.split(',').filter_map(|port| port.trim().parse().ok()).collect());
    Some(ReadyPod { ip, named_ports, active_ports })
}

/// What an `InferencePool` selects, of either group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PoolSelection {
    pub(super) labels: BTreeMap<String, String>,
    /// At most eight.
    pub(super) ports: Vec<u16>,
    pub(super) h2c: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InferencePoolSpec {
    selector: PoolSelector,
    #[serde(default)]
    target_ports: Vec<TargetPort>,
    app_protocol: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoolSelector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TargetPort {
    number: u16,
}

/// Reads an `InferencePool` of `inference.networking.k8s.io/v1`.
pub(super) fn inference_pool(mut object: DynamicObject) -> Option<PoolSelection> {
    let spec: InferencePoolSpec = serde_json::from_value(object.data.get_mut("spec")?.take()).ok()?;
    let ports = spec.target_ports.iter().map(|port| port.number).take(MAX_PORTS).collect();
    let h2c = spec.app_protocol.as_deref() == Some(H2C);
    Some(PoolSelection { labels: spec.selector.match_labels, ports, h2c })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OlderPoolSpec {
    selector: BTreeMap<String, String>,
    target_port_number: u16,
}

/// Reads an `InferencePool` of `inference.networking.x-k8s.io/v1alpha2`.
pub(super) fn older_inference_pool(mut object: DynamicObject) -> Option<PoolSelection> {
    let spec: OlderPoolSpec = serde_json::from_value(object.data.get_mut("spec")?.take()).ok()?;
    Some(PoolSelection { labels: spec.selector, ports: vec![spec.target_port_number], h2c: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn pod(metadata: &Value, ready: &str) -> DynamicObject {
        object(json!({
            "metadata": metadata,
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8000}, {"containerPort": 9}]}]},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
        }))
    }

    #[test]
    fn a_pod_counts_while_it_is_ready_and_stays() {
        let found = ready_pod(pod(&json!({"name": "p"}), "True")).unwrap();
        assert_eq!(found.named_ports, BTreeMap::from([("http".to_owned(), 8000)]));
        assert_eq!(found.active_ports, None);
        assert_eq!(ready_pod(pod(&json!({"name": "p"}), "False")), None);
        let terminating = json!({"name": "p", "deletionTimestamp": "2026-11-30T12:00:00Z"});
        assert_eq!(ready_pod(pod(&terminating, "True")), None);
        assert_eq!(ready_pod(object(json!({"metadata": {"name": "p"}, "status": {"podIP": 5}}))), None);
    }

    #[test]
    fn the_newer_annotation_of_active_ports_wins() {
        let active = |annotations: Value| {
            ready_pod(pod(&json!({"name": "p", "annotations": annotations}), "True")).unwrap().active_ports
        };
        let (new, old) = (ACTIVE_PORTS[0], ACTIVE_PORTS[1]);
        assert_eq!(active(json!({old: "8000"})), Some(vec![8000]));
        assert_eq!(active(json!({old: "8000", new: "8001, 8002,x"})), Some(vec![8001, 8002]));
        assert_eq!(active(json!({new: ""})), Some(Vec::new()));
    }

    #[test]
    fn pools_of_both_groups_are_read() {
        let labels = || BTreeMap::from([("app".to_owned(), "m".to_owned())]);
        let newer = json!({"spec": {"selector": {"matchLabels": {"app": "m"}},
            "targetPorts": [{"number": 8000}, {"number": 8001}], "appProtocol": "kubernetes.io/h2c"}});
        let older = json!({"spec": {"selector": {"app": "m"}, "targetPortNumber": 8000,
            "extensionRef": {"name": "epp"}}});
        assert_eq!(
            inference_pool(object(newer)),
            Some(PoolSelection { labels: labels(), ports: vec![8000, 8001], h2c: true })
        );
        assert_eq!(
            older_inference_pool(object(older)),
            Some(PoolSelection { labels: labels(), ports: vec![8000], h2c: false })
        );
        assert_eq!(inference_pool(object(json!({"spec": {}}))), None);
    }

    #[test]
    fn kinds_have_the_paths_of_the_api() {
        let slices = resource("discovery.k8s.io", "v1", "EndpointSlice");
        assert_eq!(
            (slices.plural.as_str(), slices.api_version.as_str()),
            ("endpointslices", "discovery.k8s.io/v1")
        );
        assert_eq!(resource("", "v1", "Pod").api_version, "v1");
    }
}
