//! Owns what is read of the objects, as the API writes them. Refuses to judge them.
//!
//! A field that is not listed is not honoured; reading names such fields, for those who ask what is taken.

use crate::policy::ObjectName;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// Labels.
pub(super) type LabelMap = BTreeMap<String, String>;

/// An object with its specification.
#[derive(Debug, Clone)]
pub(super) struct ApiObject<S> {
    pub(super) name: ObjectName,
    pub(super) meta: ObjectMeta,
    pub(super) spec: S,
}

/// What an object says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectMeta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) generation: i64,
    pub(super) creation_timestamp: String,
    pub(super) labels: LabelMap,
}

/// A part of an object that is not honoured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IgnoredField {
    pub(super) path: String,
}

impl<S: DeserializeOwned> ApiObject<S> {
    /// Reads an object; fields of its specification that are not known go to `ignored`.
    pub(super) fn read(object: &Value, ignored: &mut Vec<IgnoredField>) -> Result<Self, String> {
        let meta: ObjectMeta =
            serde_json::from_value(object["metadata"].clone()).map_err(|error| error.to_string())?;
        let spec = if object["spec"].is_null() {
            Value::Object(serde_json::Map::new())
        } else {
            object["spec"].clone()
        };
        let mut note = |path: serde_ignored::Path<'_>| {
            // An option adds a `?` to the path of what is in it.
            let path = path.to_string().replace(".?", "");
            ignored.push(IgnoredField { path: format!("spec.{path}") });
        };
        let spec = serde_ignored::deserialize(spec, &mut note).map_err(|error| error.to_string())?;
        let name = ObjectName { namespace: meta.namespace.clone(), name: meta.name.clone() };
        Ok(Self { name, meta, spec })
    }

    /// What objects of equal precedence are ordered by: the older first, then by name.
    pub(super) fn seniority(&self) -> (&str, &ObjectName) {
        (&self.meta.creation_timestamp, &self.name)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GatewayClassSpec {
    pub(super) controller_name: String,
    pub(super) description: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GatewaySpec {
    pub(super) gateway_class_name: String,
    pub(super) listeners: Vec<GatewayListener>,
    pub(super) addresses: Vec<GatewayAddress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GatewayAddress {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) value: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GatewayListener {
    pub(super) name: String,
    pub(super) hostname: Option<String>,
    pub(super) port: u16,
    pub(super) protocol: String,
    pub(super) tls: Option<GatewayTls>,
    pub(super) allowed_routes: AllowedRoutes,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GatewayTls {
    pub(super) mode: Option<String>,
    pub(super) certificate_refs: Vec<ObjectRef>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AllowedRoutes {
    pub(super) namespaces: AllowedNamespaces,
    pub(super) kinds: Vec<RouteKind>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AllowedNamespaces {
    pub(super) from: Option<String>,
    pub(super) selector: Option<LabelSelector>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LabelSelector {
    match_labels: LabelMap,
    match_expressions: Vec<LabelExpression>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LabelExpression {
    key: String,
    operator: String,
    values: Vec<String>,
}

impl LabelSelector {
    /// Whether labels are selected; an operator that is not known selects nothing.
    pub(super) fn selects(&self, labels: &LabelMap) -> bool {
        let holds = |one: &LabelExpression| {
            let value = labels.get(&one.key);
            let is_listed = value.is_some_and(|value| one.values.contains(value));
            match one.operator.as_str() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        };
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(holds)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RouteKind {
    pub(super) group: Option<String>,
    pub(super) kind: String,
}

/// A reference to an object, of a route to its parent, of a listener to its certificate, or to anything else.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectRef {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) section_name: Option<String>,
    pub(super) port: Option<u16>,
}

impl ObjectRef {
    /// What is referred to from an object in `namespace`.
    pub(super) fn object(&self, namespace: &str) -> ObjectName {
        let namespace = self.namespace.as_deref().unwrap_or(namespace).to_owned();
        ObjectName { namespace, name: self.name.clone() }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReferenceGrantSpec {
    pub(super) from: Vec<GrantFrom>,
    pub(super) to: Vec<GrantTo>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrantFrom {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) namespace: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrantTo {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) external_name: Option<String>,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Option<String>,
    #[serde(rename = "externalIPs")]
    pub(super) external_ips: Vec<String>,
    pub(super) ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServicePort {
    pub(super) name: Option<String>,
    pub(super) port: u16,
    pub(super) app_protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PoolPickerSpec {
    pub(super) endpoint_picker_ref: Option<PickerRef>,
    pub(super) extension_ref: Option<PickerRef>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PickerRef {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: String,
    pub(super) port: Option<PickerPort>,
    pub(super) port_number: Option<u16>,
    pub(super) failure_mode: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct PickerPort {
    pub(super) number: u16,
}

/// Istio's, of which only whether and how a host has TLS counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DestinationRuleSpec {
    pub(super) host: String,
    pub(super) traffic_policy: TrafficPolicy,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TrafficPolicy {
    pub(super) tls: Option<ClientTls>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClientTls {
    pub(super) mode: String,
    pub(super) sni: Option<String>,
    pub(super) insecure_skip_verify: bool,
}

/// Istio's, of which only whether a host's port has TLS counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceEntrySpec {
    pub(super) hosts: Vec<String>,
    pub(super) ports: Vec<EntryPort>,
    pub(super) resolution: Option<String>,
    pub(super) location: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EntryPort {
    pub(super) number: u16,
    pub(super) name: Option<String>,
    pub(super) protocol: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectiveSpec {
    pub(super) priority: Option<i32>,
    pub(super) pool_ref: ObjectRef,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ModelRewriteSpec {
    pub(super) pool_ref: ObjectRef,
    pub(super) rules: Vec<RewriteRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RewriteRule {
    pub(super) matches: Vec<RewriteMatch>,
    pub(super) targets: Vec<RewriteTarget>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RewriteMatch {
    pub(super) model: Option<RewriteModel>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RewriteModel {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) value: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RewriteTarget {
    pub(super) weight: Option<u32>,
    pub(super) model_rewrite: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BackendTlsPolicySpec {
    pub(super) target_refs: Vec<ObjectRef>,
    pub(super) validation: TlsValidation,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TlsValidation {
    pub(super) ca_certificate_refs: Vec<ObjectRef>,
    pub(super) well_known_ca_certificates: Option<String>,
    pub(super) hostname: String,
}
