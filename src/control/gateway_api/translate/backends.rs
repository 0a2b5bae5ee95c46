//! Owns what routes send requests to: Services, `InferencePool`s and pools of the policy, each made a pool once, and what
//! is said of those that have a state.

use super::super::cluster::{Cluster, PoolObject, Referred, Referrer, UsedObject};
use super::super::conditions::{ObjectCondition, ObjectStatus, ToldCondition, WantedStatus, values};
use super::super::kinds::ObjectKind;
use super::super::objects::{ApiObject, ObjectRef, PickerRef, ServiceSpec};
use super::gateways::GATEWAY_GROUP;
use super::tls::{self, BackendTls};
use super::{GatewaySettings, is_group};
use crate::http_route::{BackendId, BackendPool};
use crate::policy::{ObjectName, PoolSpec, routed_pool};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The groups of `InferencePool`.
const POOL_GROUPS: [&str; 2] = ["inference.networking.k8s.io", "inference.networking.x-k8s.io"];

/// The group of what is Signalbox's own: `Pool` names a pool of the policy.
const OWN_GROUP: &str = "signalbox.dev";

/// The port of an endpoint picker that names none.
const PICKER_PORT: u16 = 9002;

/// The backends of all routes.
pub(super) struct Backends<'a> {
    cluster: &'a Cluster<'a>,
    settings: &'a GatewaySettings,
    pools: Vec<BackendPool>,
    /// By the names of their pools.
    known: BTreeMap<String, BackendId>,
    /// By which Gateways.
    used: BTreeMap<UsedObject, BTreeSet<ObjectName>>,
    pub(super) referred: BTreeSet<(ObjectKind, ObjectName)>,
}

/// A backend, or why requests can't be sent there.
pub(super) struct ResolvedBackend {
    pub(super) id: Result<BackendId, ObjectCondition>,
    /// What it goes by.
    pub(super) used: Option<UsedObject>,
}

fn fault(reason: &'static str, message: String) -> ObjectCondition {
    ObjectCondition::fails("ResolvedRefs", reason, message)
}

impl<'a> Backends<'a> {
    pub(super) fn new(cluster: &'a Cluster<'a>, settings: &'a GatewaySettings) -> Self {
        Self {
            cluster,
            settings,
            pools: Vec::new(),
            known: BTreeMap::new(),
            used: BTreeMap::new(),
            referred: BTreeSet::new(),
        }
    }

    /// Finds what a route in `namespace` refers to.
    pub(super) fn resolve(&mut self, namespace: &str, reference: &ObjectRef) -> ResolvedBackend {
        self.found(namespace, reference)
            .unwrap_or_else(|fault| ResolvedBackend { id: Err(fault), used: None })
    }

    fn found(&mut self, namespace: &str, reference: &ObjectRef) -> Result<ResolvedBackend, ObjectCondition> {
        let kind = reference.kind.as_deref().unwrap_or("Service");
        let group = reference.group.as_deref().unwrap_or_default();
        let name = reference.object(namespace);
        if group == OWN_GROUP && kind == "Pool" {
            let id =
                self.add(format!("policy {}", name.name), || Ok(BackendPool::OfPolicy(name.name.clone())));
            return Ok(ResolvedBackend { id, used: None });
        }
        let is_service = group.is_empty() && kind == "Service";
        let is_pool = POOL_GROUPS.contains(&group) && kind == "InferencePool";
        if !is_service && !is_pool {
            return Err(fault(
                "InvalidKind",
                format!("a backend is a Service or an InferencePool, not a {group}/{kind}"),
            ));
        }
        let from = Referrer { kind: "HTTPRoute", namespace };
        if !self.cluster.is_granted(&from, &Referred { group, kind, name: &name }) {
            return Err(fault(
                "RefNotPermitted",
                format!("no ReferenceGrant lets the route use the {kind} {name}"),
            ));
        }
        if is_service { self.service(&name, reference.port) } else { self.inference_pool(&name) }
    }

    fn service(&mut self, name: &ObjectName, port: Option<u16>) -> Result<ResolvedBackend, ObjectCondition> {
        let cluster = self.cluster;
        let service = cluster.services.get(name);
        let service =
            service.ok_or_else(|| fault("BackendNotFound", format!("there is no Service {name}")))?;
        let number =
            port.ok_or_else(|| fault("UnsupportedValue", format!("which port of the Service {name}?")))?;
        let found = service.spec.ports.iter().find(|port| port.port == number);
        if service.spec.kind.as_deref() == Some("ExternalName") {
            if !self.settings.external_names {
                let message = format!(
                    "the Service {name} leads out of the cluster, which `external_names` does not allow"
                );
                return Err(fault("UnsupportedProtocol", message));
            }
            let id = self.add(format!("service {name}:{number}"), || external(cluster, service, number));
            return Ok(ResolvedBackend { id, used: None });
        }
        let found = found
            .ok_or_else(|| fault("BackendNotFound", format!("the Service {name} has no port {number}")))?;
        let (port_name, protocol) =
            (found.name.as_deref().filter(|name| !name.is_empty()), found.app_protocol.as_deref());
        if protocol
            .is_some_and(|protocol| protocol.starts_with("kubernetes.io/") && protocol != "kubernetes.io/h2c")
        {
            let message =
                format!("port {number} of the Service {name} speaks {}", protocol.unwrap_or_default());
            return Err(fault("UnsupportedProtocol", message));
        }
        let policy = tls::of_service(cluster, name, port_name, &mut self.referred);
        let (used, tls) = policy.map(|policy| (policy.object, policy.tls)).unzip();
        let id = self.add(format!("service {name}:{number}"), || {
            let mut written =
                json!({"service": name.name, "namespace": name.namespace, "health": {"enabled": false}});
            if let Some(port) = port_name {
                written["port"] = port.into();
            }
            made(&format!("service {name}:{number}"), written, tls.transpose()?)
        });
        Ok(ResolvedBackend { id, used })
    }

    fn inference_pool(&mut self, name: &ObjectName) -> Result<ResolvedBackend, ObjectCondition> {
        let cluster = self.cluster;
        let pool = cluster.pools.get(name);
        let pool =
            pool.ok_or_else(|| fault("BackendNotFound", format!("there is no InferencePool {name}")))?;
        let id = self.add(format!("inference_pool {name}"), || {
            let mut written =
                json!({"inference_pool": name.name, "namespace": name.namespace, "health": {"enabled": false}});
            if let Some(picker) = picker_of(pool) {
                written["balance"] = json!({"strategy": "external", "external": external_picker(cluster, name, picker)});
            }
            made(&format!("inference_pool {name}"), written, None)
        });
        Ok(ResolvedBackend { id, used: Some(UsedObject { kind: pool.kind, name: name.clone() }) })
    }

    /// Adds a backend, unless it is known.
    fn add(
        &mut self,
        name: String,
        make: impl FnOnce() -> Result<BackendPool, ObjectCondition>,
    ) -> Result<BackendId, ObjectCondition> {
        if let Some(known) = self.known.get(&name) {
            return Ok(*known);
        }
        let id = BackendId(self.pools.len());
        self.pools.push(make()?);
        self.known.insert(name, id);
        Ok(id)
    }

    /// Finds the backend that an `InferencePool` is, if any route leads there.
    pub(super) fn of_pool(&self, name: &ObjectName) -> Option<BackendId> {
        self.known.get(&format!("inference_pool {name}")).copied()
    }

    /// Notes that Gateways send requests by an object.
    pub(super) fn use_pool(&mut self, object: &UsedObject, gateways: &[ObjectName]) {
        self.used.entry(object.clone()).or_default().extend(gateways.iter().cloned());
    }

    fn users(&self, object: &UsedObject) -> impl Iterator<Item = &ObjectName> {
        self.used.get(object).into_iter().flatten()
    }

    /// What is said of the `InferencePool`s, those that no route leads to included.
    pub(super) fn pool_statuses(&self) -> Vec<ObjectStatus> {
        let status = |(name, pool): (&ObjectName, &PoolObject)| {
            let conditions =
                [ObjectCondition::holds("Accepted", "Accepted"), self.picker_condition(name, pool)];
            let object = UsedObject { kind: pool.kind, name: name.clone() };
            let entry = |gateway: &ObjectName| {
                self.entry("parentRef", gateway, &conditions, pool.object.meta.generation)
            };
            let entries: Vec<Value> = self.users(&object).map(entry).collect();
            let told = |gateway: &ObjectName| {
                let about = format!("Gateway {gateway}");
                conditions.clone().map(|condition| ToldCondition { about: about.clone(), condition })
            };
            ObjectStatus {
                kind: pool.kind,
                name: name.clone(),
                told: self.users(&object).flat_map(told).collect(),
                wanted: WantedStatus::Entries { list: parents_key(pool.kind), parent: "parentRef", entries },
            }
        };
        self.cluster.pools.iter().map(status).collect()
    }

    fn picker_condition(&self, name: &ObjectName, pool: &PoolObject) -> ObjectCondition {
        let Some(picker) = picker_of(pool) else {
            return ObjectCondition::holds("ResolvedRefs", "ResolvedRefs");
        };
        let kind = picker.kind.as_deref().unwrap_or("Service");
        if kind != "Service" || !is_group(picker.group.as_deref(), "", "") {
            return fault("InvalidExtensionRef", format!("an endpoint picker is a Service, not a {kind}"));
        }
        let service = ObjectName { namespace: name.namespace.clone(), name: picker.name.clone() };
        match self.cluster.services.get(&service) {
            Some(service) if service.spec.kind.as_deref() != Some("ExternalName") => {
                ObjectCondition::holds("ResolvedRefs", "ResolvedRefs")
            }
            Some(_) => {
                fault("InvalidExtensionRef", format!("the Service {service} leads out of the cluster"))
            }
            None => fault("InvalidExtensionRef", format!("there is no Service {service}")),
        }
    }

    /// What is said of the `BackendTLSPolicy` objects.
    pub(super) fn tls_statuses(&self) -> Vec<ObjectStatus> {
        let status = |policy: &ApiObject<super::super::objects::BackendTlsPolicySpec>| {
            let object = UsedObject { kind: ObjectKind::BackendTlsPolicy, name: policy.name.clone() };
            // One that another stands before is told so for the same Gateways.
            let holder = tls::rival(self.cluster, policy).unwrap_or(policy);
            let holder = UsedObject { kind: ObjectKind::BackendTlsPolicy, name: holder.name.clone() };
            let conditions = tls::conditions(self.cluster, policy);
            let entry = |gateway: &ObjectName| {
                self.entry("ancestorRef", gateway, &conditions, policy.meta.generation)
            };
            let entries: Vec<Value> = self.users(&holder).map(entry).collect();
            let told = |condition: &ObjectCondition| ToldCondition {
                about: String::new(),
                condition: condition.clone(),
            };
            ObjectStatus {
                kind: object.kind,
                name: object.name.clone(),
                told: conditions.iter().filter(|_| !entries.is_empty()).map(told).collect(),
                wanted: WantedStatus::Entries { list: "ancestors", parent: "ancestorRef", entries },
            }
        };
        self.cluster.tls.policies.iter().map(status).collect()
    }

    fn entry(
        &self,
        parent: &str,
        gateway: &ObjectName,
        conditions: &[ObjectCondition],
        generation: i64,
    ) -> Value {
        json!({
            parent: {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": gateway.namespace, "name": gateway.name},
            "controllerName": self.settings.controller,
            "conditions": values(conditions, generation),
        })
    }

    pub(super) fn into_pools(self) -> Vec<BackendPool> {
        self.pools
    }
}

/// The key of the list of parents in a pool's state.
fn parents_key(kind: ObjectKind) -> &'static str {
    if kind == ObjectKind::OlderInferencePool { "parent" } else { "parents" }
}

/// Makes a pool of what a policy would say.
fn made(name: &str, written: Value, tls: Option<BackendTls>) -> Result<BackendPool, ObjectCondition> {
    let with_tls = tls.as_ref().map(|tls| tls.server_name.clone());
    let mut written = written;
    if let Some(server_name) = with_tls {
        written["tls"] = json!({ "server_name": server_name });
    }
    let pool = routed_pool(name, written).map_err(|issues| fault("UnsupportedValue", issues.to_string()))?;
    let pool = tls.into_iter().fold(pool, |pool: PoolSpec, tls| tls.apply(pool));
    Ok(BackendPool::Own(Arc::new(pool)))
}

/// The pool of a name outside the cluster.
fn external(
    cluster: &Cluster<'_>,
    service: &ApiObject<ServiceSpec>,
    port: u16,
) -> Result<BackendPool, ObjectCondition> {
    let host = service.spec.external_name.as_deref().unwrap_or_default();
    let mut written = json!({"endpoints": [format!("{host}:{port}")], "health": {"enabled": false}});
    if tls::is_outside_tls(cluster, host, port) {
        written["tls"] = json!({ "server_name": host });
    } else {
        written["host"] = host.into();
    }
    made(&format!("service {}:{port}", service.name), written, None)
}

fn picker_of(pool: &PoolObject) -> Option<&PickerRef> {
    let spec = &pool.object.spec;
    spec.endpoint_picker_ref.as_ref().or(spec.extension_ref.as_ref())
}

/// How a pool's endpoint picker is asked, as a policy would say it.
fn external_picker(cluster: &Cluster<'_>, pool: &ObjectName, picker: &PickerRef) -> Value {
    let service = ObjectName { namespace: pool.namespace.clone(), name: picker.name.clone() };
    let port = picker.port.map(|port| port.number).or(picker.port_number).unwrap_or(PICKER_PORT);
    let name = format!("{}.{}.svc", service.name, service.namespace);
    let cluster_ip = cluster.services.get(&service).and_then(|service| service.spec.cluster_ip.as_deref());
    // What needs no DNS, where there is any.
    let host = cluster_ip.filter(|ip| !ip.is_empty() && *ip != "None").unwrap_or(&name);
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let is_open = picker.failure_mode.as_deref() == Some("FailOpen");
    let mut written =
        json!({"address": address, "failure_mode": if is_open { "fail_open" } else { "fail_close" }});
    // Pickers make a certificate of their own at start, which the extension's clients take unseen.
    if tls::picker_has_tls(cluster, &service) {
        written["tls"] = json!({"server_name": name, "insecure_skip_verify": true});
    }
    written
}
