//! Owns whether and how backends are reached over TLS: by `BackendTLSPolicy`, and by Istio's rules for hosts outside the
//! cluster and for endpoint pickers.

use super::super::cluster::{Cluster, UsedObject};
use super::super::conditions::ObjectCondition;
use super::super::kinds::ObjectKind;
use super::super::objects::{ApiObject, BackendTlsPolicySpec, ObjectRef};
use super::super::secrets::decoded;
use super::is_group;
use crate::policy::{ObjectName, PoolSpec, Transport};
use std::collections::BTreeSet;

/// How a backend is reached over TLS.
pub(super) struct BackendTls {
    pub(super) server_name: String,
    /// Whom to trust, as PEM, instead of the system's authorities.
    authorities: Option<Vec<u8>>,
}

/// A policy that a Service has.
pub(super) struct ServicePolicy {
    pub(super) object: UsedObject,
    /// Nothing is trusted where its authorities are not there.
    pub(super) tls: Result<BackendTls, ObjectCondition>,
}

impl BackendTls {
    /// Gives a pool these authorities.
    pub(super) fn apply(self, mut pool: PoolSpec) -> PoolSpec {
        if let Transport::Tls { ca, .. } = &mut pool.transport {
            *ca = self.authorities;
        }
        pool
    }
}

/// The policy of a Service's port: one that names the port before one that does not, then the oldest.
pub(super) fn of_service(
    cluster: &Cluster<'_>,
    service: &ObjectName,
    port: Option<&str>,
    referred: &mut BTreeSet<(ObjectKind, ObjectName)>,
) -> Option<ServicePolicy> {
    let targets = |policy: &ApiObject<BackendTlsPolicySpec>, section: Option<&str>| {
        let is_it = |target: &ObjectRef| {
            is_group(target.group.as_deref(), "", "")
                && target.kind.as_deref() == Some("Service")
                && target.name == service.name
                && target.section_name.as_deref() == section
        };
        policy.name.namespace == service.namespace && policy.spec.target_refs.iter().any(is_it)
    };
    let of = |section| cluster.tls.policies.iter().find(|policy| targets(policy, section));
    let policy = port.and_then(|port| of(Some(port))).or_else(|| of(None))?;
    for reference in &policy.spec.validation.ca_certificate_refs {
        referred.extend(authority_object(policy, reference));
    }
    let object = UsedObject { kind: ObjectKind::BackendTlsPolicy, name: policy.name.clone() };
    let server_name = policy.spec.validation.hostname.clone();
    let tls = authorities(cluster, policy).map(|authorities| BackendTls { server_name, authorities });
    Some(ServicePolicy { object, tls })
}

/// The older policy that has the place of one: of several for the same port of a Service the oldest holds.
pub(super) fn rival<'a>(
    cluster: &'a Cluster<'_>,
    policy: &ApiObject<BackendTlsPolicySpec>,
) -> Option<&'a ApiObject<BackendTlsPolicySpec>> {
    let older = cluster.tls.policies.iter().take_while(|other| other.name != policy.name);
    let mut of_namespace = older.filter(|other| other.name.namespace == policy.name.namespace);
    let is_same = |a: &ObjectRef, b: &ObjectRef| {
        (&a.group, &a.kind, &a.name, &a.section_name) == (&b.group, &b.kind, &b.name, &b.section_name)
    };
    of_namespace.find(|other| {
        let mut targets = policy.spec.target_refs.iter();
        targets.any(|target| other.spec.target_refs.iter().any(|known| is_same(known, target)))
    })
}

fn authority_object(
    policy: &ApiObject<BackendTlsPolicySpec>,
    reference: &ObjectRef,
) -> Option<(ObjectKind, ObjectName)> {
    let kind = match reference.kind.as_deref() {
        Some("ConfigMap") => ObjectKind::ConfigMap,
        Some("Secret") => ObjectKind::Secret,
        _ => return None,
    };
    is_group(reference.group.as_deref(), "", "").then(|| (kind, reference.object(&policy.name.namespace)))
}

/// The authorities that a policy trusts; `None` stands for the system's.
fn authorities(
    cluster: &Cluster<'_>,
    policy: &ApiObject<BackendTlsPolicySpec>,
) -> Result<Option<Vec<u8>>, ObjectCondition> {
    let validation = &policy.spec.validation;
    let invalid = |reason, message: String| ObjectCondition::fails("ResolvedRefs", reason, message);
    if validation.ca_certificate_refs.is_empty() {
        return match validation.well_known_ca_certificates.as_deref() {
            Some("System") => Ok(None),
            _ => Err(invalid("InvalidCACertificateRef", "no authority is named".to_owned())),
        };
    }
    let mut pem = Vec::new();
    for reference in &validation.ca_certificate_refs {
        let (kind, name) = authority_object(policy, reference).ok_or_else(|| {
            let kind = reference.kind.as_deref().unwrap_or_default();
            invalid("InvalidKind", format!("authorities are a ConfigMap's or a Secret's, not a {kind}'s"))
        })?;
        let object = cluster.raw(kind, &name);
        let text = object.and_then(|object| match kind {
            ObjectKind::ConfigMap => object["data"]["ca.crt"].as_str().map(|text| text.as_bytes().to_vec()),
            _ => decoded(object, "ca.crt"),
        });
        let text = text.filter(|text| String::from_utf8_lossy(text).contains("-----BEGIN CERTIFICATE-----"));
        let text = text.ok_or_else(|| {
            invalid("InvalidCACertificateRef", format!("{name} has no PEM certificate under `ca.crt`"))
        })?;
        pem.extend_from_slice(&text);
        pem.push(b'\n');
    }
    Ok(Some(pem))
}

/// What is said of a policy.
pub(super) fn conditions(
    cluster: &Cluster<'_>,
    policy: &ApiObject<BackendTlsPolicySpec>,
) -> [ObjectCondition; 2] {
    let authorities = authorities(cluster, policy);
    if let Some(rival) = rival(cluster, policy) {
        let message = format!("the older policy {} is for the same", rival.name);
        let resolved = authorities.err();
        return [
            ObjectCondition::fails("Accepted", "Conflicted", message),
            resolved.unwrap_or_else(|| ObjectCondition::holds("ResolvedRefs", "ResolvedRefs")),
        ];
    }
    match authorities {
        Ok(_) => [
            ObjectCondition::holds("Accepted", "Accepted"),
            ObjectCondition::holds("ResolvedRefs", "ResolvedRefs"),
        ],
        Err(fault) => {
            let accepted = ObjectCondition::fails("Accepted", "NoValidCACertificate", fault.message.clone());
            [accepted, fault]
        }
    }
}

/// Whether a host outside the cluster has TLS on a port: as Istio's rule for it says, else as its entry does, else where
/// the port is HTTPS's own.
pub(super) fn is_outside_tls(cluster: &Cluster<'_>, host: &str, port: u16) -> bool {
    let rule = cluster.tls.rules.iter().find(|rule| rule.spec.host == host);
    let mode = rule.and_then(|rule| rule.spec.traffic_policy.tls.as_ref()).map(|tls| tls.mode.as_str());
    match mode {
        Some("DISABLE") => return false,
        Some("SIMPLE") => return true,
        _ => {}
    }
    let entry = cluster.tls.entries.iter().find(|entry| entry.spec.hosts.iter().any(|name| name == host));
    let of_port = entry.and_then(|entry| entry.spec.ports.iter().find(|known| known.number == port));
    of_port.map_or(port == 443, |port| matches!(port.protocol.to_ascii_uppercase().as_str(), "HTTPS" | "TLS"))
}

/// Whether an endpoint picker has TLS: it has unless Istio's rule for its Service says otherwise.
pub(super) fn picker_has_tls(cluster: &Cluster<'_>, service: &ObjectName) -> bool {
    let is_it = |host: &str, namespace: &str| {
        let ObjectName { namespace: own, name } = service;
        let full = format!("{name}.{own}.svc.cluster.local");
        (host == name && namespace == own)
            || host == full
            || host == format!("{name}.{own}")
            || host == format!("{name}.{own}.svc")
    };
    let rule = cluster.tls.rules.iter().find(|rule| is_it(&rule.spec.host, &rule.name.namespace));
    let mode = rule.and_then(|rule| rule.spec.traffic_policy.tls.as_ref()).map(|tls| tls.mode.as_str());
    mode != Some("DISABLE")
}
