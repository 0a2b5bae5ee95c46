//! Owns the listeners of our Gateways: which of them are served, by which port, host and certificates, and what is said of
//! them.

use super::super::cluster::{Cluster, Referred, Referrer};
use super::super::conditions::{ObjectCondition, ObjectStatus, ToldCondition, WantedStatus, values};
use super::super::kinds::ObjectKind;
use super::super::objects::{AllowedRoutes, ApiObject, GatewayListener, GatewaySpec, ObjectRef};
use super::{GatewaySettings, is_group};
use crate::http_route::{HostPattern, ServerCertificate};
use crate::policy::ObjectName;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The group of Gateways and routes.
pub(super) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// A listener of one of our Gateways.
pub(super) struct ServedListener {
    pub(super) gateway: ObjectName,
    pub(super) name: String,
    pub(super) port: u16,
    protocol: String,
    pub(super) host: HostPattern,
    pub(super) certificates: Vec<Arc<ServerCertificate>>,
    pub(super) allowed: AllowedRoutes,
    /// How many routes it has.
    pub(super) attached: usize,
    accepted: ObjectCondition,
    resolved: ObjectCondition,
    /// Why it cannot be told from another of its Gateway, where that is so.
    conflict: Option<&'static str>,
    /// Whether routes of our only kind may attach.
    takes_routes: bool,
}

impl ServedListener {
    /// Whether requests reach it.
    pub(super) fn is_programmed(&self) -> bool {
        self.accepted.is_true && self.resolved.is_true
    }

    /// Whether its Gateway lets routes of our kind attach.
    pub(super) fn takes_routes(&self) -> bool {
        self.takes_routes
    }

    fn conditions(&self) -> Vec<ObjectCondition> {
        let programmed = if self.is_programmed() {
            ObjectCondition::holds("Programmed", "Programmed")
        } else {
            ObjectCondition::fails("Programmed", "Invalid", "the listener is not served")
        };
        let conflicted = match self.conflict {
            None => ObjectCondition::fails("Conflicted", "NoConflicts", ""),
            Some(reason) => ObjectCondition {
                is_true: true,
                message: "another listener of the Gateway has the same port".to_owned(),
                ..ObjectCondition::fails("Conflicted", reason, "")
            },
        };
        vec![self.accepted.clone(), programmed, self.resolved.clone(), conflicted]
    }

    fn value(&self, generation: i64) -> Value {
        let kinds = if self.takes_routes {
            vec![json!({"group": GATEWAY_GROUP, "kind": "HTTPRoute"})]
        } else {
            Vec::new()
        };
        json!({
            "name": self.name,
            "supportedKinds": kinds,
            "attachedRoutes": self.attached,
            "conditions": values(&self.conditions(), generation),
        })
    }
}

/// The listeners of the Gateways of our classes; the Secrets that they name go to `referred`.
pub(super) fn listeners(
    cluster: &Cluster<'_>,
    settings: &GatewaySettings,
    classes: &BTreeSet<String>,
    referred: &mut BTreeSet<(ObjectKind, ObjectName)>,
) -> Vec<ServedListener> {
    let ours = cluster.gateways.iter().filter(|gateway| classes.contains(&gateway.spec.gateway_class_name));
    let of_gateway = |gateway: &ApiObject<GatewaySpec>| {
        let listener = |listener| served(cluster, settings, &gateway.name, listener, &mut *referred);
        let mut own: Vec<ServedListener> = gateway.spec.listeners.iter().map(listener).collect();
        mark_conflicts(&mut own);
        own
    };
    ours.flat_map(of_gateway).collect()
}

/// Marks the listeners of one Gateway that no request could be told apart by: none of them is served. What could not be served
/// in any case is in nobody's way.
fn mark_conflicts(own: &mut [ServedListener]) {
    let conflict = |at: usize| {
        let others = own.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other);
        let rivals = others.filter(|other| other.accepted.is_true && other.port == own[at].port);
        let reasons = rivals.filter_map(|other| {
            if other.protocol != own[at].protocol {
                return Some("ProtocolConflict");
            }
            (other.host == own[at].host).then_some("HostnameConflict")
        });
        // By the protocol before by the host.
        reasons.max()
    };
    let conflicts: Vec<Option<&'static str>> =
        (0..own.len()).map(|at| conflict(at).filter(|_| own[at].accepted.is_true)).collect();
    for (listener, conflict) in own.iter_mut().zip(conflicts) {
        listener.conflict = conflict;
        if let Some(reason) = conflict {
            let message = "another listener of the Gateway has the same port, and the protocol differs or the host does not";
            listener.accepted = ObjectCondition::fails("Accepted", reason, message);
        }
    }
}

fn served(
    cluster: &Cluster<'_>,
    settings: &GatewaySettings,
    gateway: &ObjectName,
    listener: &GatewayListener,
    referred: &mut BTreeSet<(ObjectKind, ObjectName)>,
) -> ServedListener {
    let kinds = &listener.allowed_routes.kinds;
    let is_ours = |kind: &super::super::objects::RouteKind| {
        kind.kind == "HTTPRoute" && is_group(kind.group.as_deref(), GATEWAY_GROUP, GATEWAY_GROUP)
    };
    let mut resolved = ObjectCondition::holds("ResolvedRefs", "ResolvedRefs");
    if let Some(other) = kinds.iter().find(|kind| !is_ours(kind)) {
        let message = format!("routes of kind {} are not served", other.kind);
        resolved = ObjectCondition::fails("ResolvedRefs", "InvalidRouteKinds", message);
    }
    let mut certificates = Vec::new();
    if listener.protocol == "HTTPS" {
        match read_certificates(cluster, gateway, listener, referred) {
            Ok(read) => certificates = read,
            Err(fault) => resolved = fault,
        }
    }
    ServedListener {
        gateway: gateway.clone(),
        name: listener.name.clone(),
        port: listener.port,
        protocol: listener.protocol.clone(),
        conflict: None,
        host: HostPattern::of(listener.hostname.as_deref().unwrap_or_default()),
        certificates,
        allowed: listener.allowed_routes.clone(),
        attached: 0,
        accepted: accepted(settings, listener),
        resolved,
        takes_routes: kinds.is_empty() || kinds.iter().any(is_ours),
    }
}

/// Whether the process can serve such a listener at all.
fn accepted(settings: &GatewaySettings, listener: &GatewayListener) -> ObjectCondition {
    let GatewayListener { port, protocol, .. } = listener;
    let wants_tls = match protocol.as_str() {
        "HTTP" => false,
        "HTTPS" => true,
        other => {
            let message = format!("{other} is not served: HTTP and HTTPS are");
            return ObjectCondition::fails("Accepted", "UnsupportedProtocol", message);
        }
    };
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_deref());
    if mode.is_some_and(|mode| mode != "Terminate") {
        return ObjectCondition::fails(
            "Accepted",
            "UnsupportedValue",
            "TLS ends here: the mode can only be Terminate",
        );
    }
    match settings.ports.iter().find(|(known, _)| known == port) {
        Some((_, has_tls)) if *has_tls == wants_tls => ObjectCondition::holds("Accepted", "Accepted"),
        Some(_) => {
            let which = if wants_tls { "without TLS" } else { "with TLS" };
            ObjectCondition::fails("Accepted", "PortUnavailable", format!("port {port} is served {which}"))
        }
        None => {
            let known: Vec<String> = settings.ports.iter().map(|(port, _)| port.to_string()).collect();
            let message = format!("port {port} is none that the server file has: {}", known.join(", "));
            ObjectCondition::fails("Accepted", "PortUnavailable", message)
        }
    }
}

fn read_certificates(
    cluster: &Cluster<'_>,
    gateway: &ObjectName,
    listener: &GatewayListener,
    referred: &mut BTreeSet<(ObjectKind, ObjectName)>,
) -> Result<Vec<Arc<ServerCertificate>>, ObjectCondition> {
    let refs = listener.tls.as_ref().map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
    if refs.is_empty() {
        let message = "an HTTPS listener needs the certificate of a Secret";
        return Err(ObjectCondition::fails("ResolvedRefs", "InvalidCertificateRef", message));
    }
    refs.iter().map(|reference| read_certificate(cluster, gateway, reference, referred)).collect()
}

fn read_certificate(
    cluster: &Cluster<'_>,
    gateway: &ObjectName,
    reference: &ObjectRef,
    referred: &mut BTreeSet<(ObjectKind, ObjectName)>,
) -> Result<Arc<ServerCertificate>, ObjectCondition> {
    let invalid = |message: String| ObjectCondition::fails("ResolvedRefs", "InvalidCertificateRef", message);
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if kind != "Secret" || !is_group(reference.group.as_deref(), "", "") {
        return Err(invalid(format!("a certificate is a Secret's, not a {kind}'s")));
    }
    let name = reference.object(&gateway.namespace);
    let from = Referrer { kind: "Gateway", namespace: &gateway.namespace };
    if !cluster.is_granted(&from, &Referred { group: "", kind: "Secret", name: &name }) {
        let message = format!("no ReferenceGrant lets the Gateway use the Secret {name}");
        return Err(ObjectCondition::fails("ResolvedRefs", "RefNotPermitted", message));
    }
    referred.insert((ObjectKind::Secret, name.clone()));
    let secret = cluster
        .raw(ObjectKind::Secret, &name)
        .ok_or_else(|| invalid(format!("there is no Secret {name}")))?;
    let part = |key: &str| super::super::secrets::decoded(secret, key);
    let (Some(chain), Some(key)) = (part("tls.crt"), part("tls.key")) else {
        return Err(invalid(format!("the Secret {name} has no `tls.crt` and `tls.key`")));
    };
    let certificate = ServerCertificate::read(&chain, &key);
    certificate.map(Arc::new).map_err(|error| invalid(format!("the Secret {name}: {error}")))
}

/// What is said of our Gateways.
pub(super) fn statuses(
    cluster: &Cluster<'_>,
    settings: &GatewaySettings,
    classes: &BTreeSet<String>,
    listeners: &[ServedListener],
) -> Vec<ObjectStatus> {
    let addresses = settings.service.as_ref().map(|service| addresses(cluster, service));
    let ours = cluster.gateways.iter().filter(|gateway| classes.contains(&gateway.spec.gateway_class_name));
    ours.map(|gateway| status(gateway, listeners, addresses.as_deref())).collect()
}

fn status(
    gateway: &ApiObject<GatewaySpec>,
    listeners: &[ServedListener],
    addresses: Option<&[Value]>,
) -> ObjectStatus {
    let generation = gateway.meta.generation;
    let own: Vec<&ServedListener> =
        listeners.iter().filter(|listener| listener.gateway == gateway.name).collect();
    let (all, any) = (
        own.iter().all(|listener| listener.is_programmed()),
        own.iter().any(|listener| listener.is_programmed()),
    );
    let wanted_address =
        gateway.spec.addresses.iter().find(|wanted| {
            !addresses.unwrap_or_default().iter().any(|known| known["value"] == *wanted.value)
        });
    let accepted = match (all, any) {
        (true, _) => ObjectCondition::holds("Accepted", "Accepted"),
        // Those that can be are served all the same.
        (false, is_true) => ObjectCondition {
            kind: "Accepted",
            is_true,
            reason: "ListenersNotValid",
            message: "not every listener is served".to_owned(),
        },
    };
    let programmed = if let Some(wanted) = wanted_address {
        let kind = wanted.kind.as_deref().unwrap_or("IPAddress");
        ObjectCondition::fails(
            "Programmed",
            "AddressNotUsable",
            format!("{kind} `{}` is not the Service's", wanted.value),
        )
    } else if !any {
        ObjectCondition::fails("Programmed", "Invalid", "no listener is served")
    } else if addresses.is_some_and(<[Value]>::is_empty) {
        ObjectCondition::fails("Programmed", "AddressNotAssigned", "the Service has no address yet")
    } else {
        ObjectCondition::holds("Programmed", "Programmed")
    };
    let conditions = [accepted, programmed];
    let keys = json!({
        "addresses": addresses.unwrap_or_default(),
        "conditions": values(&conditions, generation),
        "listeners": own.iter().map(|listener| listener.value(generation)).collect::<Vec<_>>(),
    });
    let of_listener = |listener: &&ServedListener| {
        let about = format!("listener {}", listener.name);
        let told = |condition| ToldCondition { about: about.clone(), condition };
        listener
            .conditions()
            .into_iter()
            .filter(|one| one.kind != "Conflicted" || one.is_true)
            .map(told)
            .collect::<Vec<_>>()
    };
    let told = conditions.into_iter().map(|condition| ToldCondition { about: String::new(), condition });
    ObjectStatus {
        kind: ObjectKind::Gateway,
        name: gateway.name.clone(),
        wanted: WantedStatus::Keys(keys),
        told: told.chain(own.iter().flat_map(of_listener)).collect(),
    }
}

/// The addresses of the Service in front of the process.
fn addresses(cluster: &Cluster<'_>, service: &ObjectName) -> Vec<Value> {
    let ip = |value: &str| json!({"type": "IPAddress", "value": value});
    let raw = cluster.raw(ObjectKind::Service, service);
    let ingress = raw.and_then(|raw| raw["status"]["loadBalancer"]["ingress"].as_array()).cloned();
    let given = ingress.unwrap_or_default().into_iter().filter_map(|one| {
        let host = || Some(json!({"type": "Hostname", "value": one["hostname"].as_str()?}));
        one["ip"].as_str().map(ip).or_else(host)
    });
    let mut found: Vec<Value> = given.collect();
    let Some(spec) = cluster.services.get(service).map(|service| &service.spec) else { return found };
    if found.is_empty() {
        found.extend(spec.external_ips.iter().map(|address| ip(address)));
    }
    let is_load_balancer = spec.kind.as_deref() == Some("LoadBalancer");
    if found.is_empty() && !is_load_balancer {
        found.extend(spec.cluster_ip.iter().filter(|address| *address != "None").map(|address| ip(address)));
    }
    found
}
