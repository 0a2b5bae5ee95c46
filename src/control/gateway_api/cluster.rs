//! Owns the objects of a cluster as they are read at one moment, and the look-ups among them. Refuses to judge them.

use super::kinds::ObjectKind;
use super::objects::{
    ApiObject, BackendTlsPolicySpec, DestinationRuleSpec, GatewayClassSpec, GatewaySpec, IgnoredField,
    LabelMap, ModelRewriteSpec, ObjectiveSpec, PoolPickerSpec, ReferenceGrantSpec, ServiceEntrySpec,
    ServiceSpec,
};
use super::route_objects::HttpRouteSpec;
use crate::policy::ObjectName;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// Objects as the API gives them, by kind and name.
pub(super) type RawObjects = BTreeMap<ObjectKind, BTreeMap<ObjectName, Value>>;

/// What is said of an object to those who ask what is taken of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remark {
    pub(super) kind: ObjectKind,
    pub(super) name: ObjectName,
    pub(super) text: String,
}

/// The objects of a cluster.
pub(super) struct Cluster<'a> {
    pub(super) classes: Vec<ApiObject<GatewayClassSpec>>,
    /// The oldest first.
    pub(super) gateways: Vec<ApiObject<GatewaySpec>>,
    /// The oldest first.
    pub(super) routes: Vec<ApiObject<HttpRouteSpec>>,
    pub(super) grants: Vec<ApiObject<ReferenceGrantSpec>>,
    pub(super) services: BTreeMap<ObjectName, ApiObject<ServiceSpec>>,
    /// Of both groups; the newer holds.
    pub(super) pools: BTreeMap<ObjectName, PoolObject>,
    pub(super) tls: TlsObjects,
    pub(super) inference: InferenceObjects,
    raw: &'a RawObjects,
    pub(super) remarks: Vec<Remark>,
}

/// What says how backends are reached over TLS.
#[derive(Default)]
pub(super) struct TlsObjects {
    /// The oldest first.
    pub(super) policies: Vec<ApiObject<BackendTlsPolicySpec>>,
    pub(super) rules: Vec<ApiObject<DestinationRuleSpec>>,
    pub(super) entries: Vec<ApiObject<ServiceEntrySpec>>,
}

/// What the inference extension says of requests.
#[derive(Default)]
pub(super) struct InferenceObjects {
    pub(super) objectives: Vec<(ObjectKind, ApiObject<ObjectiveSpec>)>,
    /// The oldest first.
    pub(super) rewrites: Vec<(ObjectKind, ApiObject<ModelRewriteSpec>)>,
}

/// An `InferencePool` of either group.
#[derive(Debug, Clone)]
pub(super) struct PoolObject {
    pub(super) kind: ObjectKind,
    pub(super) object: ApiObject<PoolPickerSpec>,
}

impl<'a> Cluster<'a> {
    /// Reads the objects; what can't be read is remarked and left out.
    pub(super) fn read(raw: &'a RawObjects) -> Self {
        let mut reader = Reader { raw, remarks: Vec::new() };
        let mut pools = BTreeMap::new();
        for kind in [ObjectKind::OlderInferencePool, ObjectKind::InferencePool] {
            for object in reader.all::<PoolPickerSpec>(kind) {
                pools.insert(object.name.clone(), PoolObject { kind, object });
            }
        }
        let services =
            reader.all(ObjectKind::Service).into_iter().map(|service| (service.name.clone(), service));
        let services = services.collect();
        Self {
            classes: reader.all(ObjectKind::GatewayClass),
            gateways: reader.oldest_first(ObjectKind::Gateway),
            routes: reader.oldest_first(ObjectKind::HttpRoute),
            grants: reader.all(ObjectKind::ReferenceGrant),
            services,
            pools,
            tls: TlsObjects {
                policies: reader.oldest_first(ObjectKind::BackendTlsPolicy),
                rules: reader.all(ObjectKind::DestinationRule),
                entries: reader.all(ObjectKind::ServiceEntry),
            },
            inference: InferenceObjects {
                objectives: reader.both(ObjectKind::OlderInferenceObjective, ObjectKind::InferenceObjective),
                rewrites: reader
                    .both(ObjectKind::OlderInferenceModelRewrite, ObjectKind::InferenceModelRewrite),
            },
            remarks: reader.remarks,
            raw,
        }
    }

    /// The labels of a namespace, its name among them as Kubernetes sets it.
    pub(super) fn namespace_labels(&self, namespace: &str) -> LabelMap {
        let name = ObjectName { namespace: String::new(), name: namespace.to_owned() };
        let object = self.raw(ObjectKind::Namespace, &name);
        let labels =
            object.and_then(|object| serde_json::from_value(object["metadata"]["labels"].clone()).ok());
        let mut labels: LabelMap = labels.unwrap_or_default();
        labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| namespace.to_owned());
        labels
    }

    /// An object as the API gave it.
    pub(super) fn raw(&self, kind: ObjectKind, name: &ObjectName) -> Option<&'a Value> {
        self.raw.get(&kind)?.get(name)
    }

    /// Whether a grant lets objects of a kind in one namespace refer to another's object.
    pub(super) fn is_granted(&self, from: &Referrer<'_>, to: &Referred<'_>) -> bool {
        if from.namespace == to.name.namespace {
            return true;
        }
        let is_from = |grant: &ReferenceGrantSpec| {
            let is_it = |one: &super::objects::GrantFrom| {
                one.group == "gateway.networking.k8s.io"
                    && one.kind == from.kind
                    && one.namespace == from.namespace
            };
            grant.from.iter().any(is_it)
        };
        let is_to = |grant: &ReferenceGrantSpec| {
            let is_name = |name: &Option<String>| name.as_ref().is_none_or(|name| *name == to.name.name);
            grant.to.iter().any(|one| one.group == to.group && one.kind == to.kind && is_name(&one.name))
        };
        let mut grants = self.grants.iter().filter(|grant| grant.name.namespace == to.name.namespace);
        grants.any(|grant| is_from(&grant.spec) && is_to(&grant.spec))
    }
}

/// What refers to another object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Referrer<'a> {
    /// Of the Gateway API's group.
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
}

/// What is referred to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Referred<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a ObjectName,
}

/// An object with a state that a backend goes by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UsedObject {
    pub(super) kind: ObjectKind,
    pub(super) name: ObjectName,
}

/// Reads objects, and collects what is to be said of them.
struct Reader<'a> {
    raw: &'a RawObjects,
    remarks: Vec<Remark>,
}

impl Reader<'_> {
    fn all<S: DeserializeOwned>(&mut self, kind: ObjectKind) -> Vec<ApiObject<S>> {
        let mut objects = Vec::new();
        for (name, object) in self.raw.get(&kind).into_iter().flatten() {
            let mut ignored = Vec::new();
            let text = match ApiObject::read(object, &mut ignored) {
                Ok(object) => {
                    objects.push(object);
                    None
                }
                Err(error) => Some(format!("cannot be read: {error}")),
            };
            let unread = ignored.into_iter().filter(|_| kind.is_read_whole());
            let unread = unread.map(|IgnoredField { path }| format!("`{path}` is not honoured"));
            let texts = text.into_iter().chain(unread);
            self.remarks.extend(texts.map(|text| Remark { kind, name: name.clone(), text }));
        }
        objects
    }

    fn oldest_first<S: DeserializeOwned>(&mut self, kind: ObjectKind) -> Vec<ApiObject<S>> {
        let mut objects = self.all::<S>(kind);
        objects.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
        objects
    }

    /// The objects of two groups, the oldest first; of one name the newer group's holds.
    fn both<S: DeserializeOwned>(
        &mut self,
        older: ObjectKind,
        newer: ObjectKind,
    ) -> Vec<(ObjectKind, ApiObject<S>)> {
        let mut by_name = BTreeMap::new();
        for kind in [older, newer] {
            for object in self.all::<S>(kind) {
                by_name.insert(object.name.clone(), (kind, object));
            }
        }
        let mut objects: Vec<_> = by_name.into_values().collect();
        objects.sort_by(|(_, a), (_, b)| a.seniority().cmp(&b.seniority()));
        objects
    }
}
