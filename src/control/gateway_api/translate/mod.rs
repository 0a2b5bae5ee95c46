//! Owns the way from a cluster's objects to what routes say and to what is said of the objects: pure, so that a folder of
//! manifests is judged as a cluster is.
//!
//! Refuses to know where objects come from and how states are written.

mod backends;
mod filters;
mod gateways;
mod inference;
mod matches;
mod parents;
mod rules;
mod tls;

use super::cluster::{Cluster, RawObjects, Remark};
use super::conditions::{ObjectCondition, ObjectStatus, ToldCondition, WantedStatus, values};
use super::kinds::ObjectKind;
use crate::http_route::{RouteTableBuilder, RoutedTraffic};
use crate::policy::{GatewayApiSpec, ObjectName};
use backends::Backends;
use serde_json::json;
use std::collections::BTreeSet;

/// What the process itself has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GatewaySettings {
    /// What classes name as their controller.
    pub(super) controller: String,
    /// The ports that clients know, and whether each has TLS.
    pub(super) ports: Vec<(u16, bool)>,
    /// Whose addresses Gateways have.
    pub(super) service: Option<ObjectName>,
    /// Whether a Service may stand for a name outside the cluster.
    pub(super) external_names: bool,
}

impl GatewaySettings {
    /// What a server file says, with the ports that clients know.
    pub(super) fn of(spec: &GatewayApiSpec, ports: Vec<(u16, bool)>) -> Self {
        Self {
            controller: spec.controller_name.clone(),
            ports,
            service: spec.service.clone(),
            external_names: spec.external_names,
        }
    }
}

/// What the objects come to.
pub(super) struct TranslatedCluster {
    pub(super) traffic: RoutedTraffic,
    pub(super) statuses: Vec<ObjectStatus>,
    /// Our Gateways.
    pub(super) gateways: Vec<ObjectName>,
    /// The objects that are looked at one by one, there or not.
    pub(super) referred: BTreeSet<(ObjectKind, ObjectName)>,
    /// What is not honoured.
    pub(super) remarks: Vec<Remark>,
}

/// Translates the objects of a cluster.
pub(super) fn translate(raw: &RawObjects, settings: &GatewaySettings) -> TranslatedCluster {
    let mut cluster = Cluster::read(raw);
    let mut statuses = Vec::new();
    let (mut traffic, mut table) = (RoutedTraffic::default(), RouteTableBuilder::default());
    let classes = classes(&cluster, settings, &mut statuses);
    let mut referred = BTreeSet::new();
    let mut listeners = gateways::listeners(&cluster, settings, &classes, &mut referred);
    for listener in listeners.iter().filter(|listener| listener.is_programmed()) {
        table.add_listener(listener.port, listener.host.clone());
        for certificate in &listener.certificates {
            traffic.certificates.add(listener.port, listener.host.clone(), certificate.clone());
        }
    }
    let mut backends = Backends::new(&cluster, settings);
    let mut remarks = Vec::new();
    for route in &cluster.routes {
        let mut told = rules::translate(route, &mut backends);
        remarks.append(&mut told.remarks);
        let parents = parents::attach(&cluster, settings, route, &mut listeners, &told, &mut table);
        let pools = told.pools.iter().filter(|_| !parents.gateways.is_empty());
        pools.for_each(|pool| backends.use_pool(pool, &parents.gateways));
        statuses.push(parents.status);
    }
    let ours: Vec<ObjectName> = cluster
        .gateways
        .iter()
        .filter(|gateway| classes.contains(&gateway.spec.gateway_class_name))
        .map(|gateway| gateway.name.clone())
        .collect();
    statuses.extend(gateways::statuses(&cluster, settings, &classes, &listeners));
    statuses.extend(backends.pool_statuses());
    statuses.extend(backends.tls_statuses());
    referred.append(&mut backends.referred);
    let (rules, of_inference) = inference::translate(&cluster, &backends);
    statuses.extend(of_inference);
    traffic.table = table.build();
    traffic.inference = rules;
    traffic.backends = backends.into_pools();
    remarks.append(&mut cluster.remarks);
    remarks.sort();
    TranslatedCluster { traffic, statuses, gateways: ours, referred, remarks }
}

/// The names of our classes.
fn classes(
    cluster: &Cluster<'_>,
    settings: &GatewaySettings,
    statuses: &mut Vec<ObjectStatus>,
) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for class in cluster.classes.iter().filter(|class| class.spec.controller_name == settings.controller) {
        names.insert(class.name.name.clone());
        let accepted = ObjectCondition::holds("Accepted", "Accepted");
        let features: Vec<_> = FEATURES.iter().map(|name| json!({ "name": name })).collect();
        let keys = json!({
            "conditions": values(std::slice::from_ref(&accepted), class.meta.generation),
            "supportedFeatures": features,
        });
        statuses.push(ObjectStatus {
            kind: ObjectKind::GatewayClass,
            name: class.name.clone(),
            wanted: WantedStatus::Keys(keys),
            told: vec![ToldCondition { about: String::new(), condition: accepted }],
        });
    }
    names
}

/// What is supported of the Gateway API and its inference extension, in the order in which the API wants it.
const FEATURES: [&str; 26] = [
    "BackendTLSPolicy",
    "Gateway",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "InferencePool",
    "ReferenceGrant",
];

/// Whether a reference's group is the one that is meant; an absent one is `default`.
fn is_group(group: Option<&str>, default: &str, wanted: &str) -> bool {
    group.unwrap_or(default) == wanted
}

#[cfg(test)]
mod tests;
