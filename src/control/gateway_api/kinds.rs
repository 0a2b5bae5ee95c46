//! Owns which kinds of objects are read, and where they are in the API. Refuses to know what they hold.

use crate::control::sources::KubeKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A kind of object that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum ObjectKind {
    GatewayClass,
    Gateway,
    HttpRoute,
    ReferenceGrant,
    BackendTlsPolicy,
    Namespace,
    Service,
    InferencePool,
    OlderInferencePool,
    InferenceObjective,
    OlderInferenceObjective,
    InferenceModelRewrite,
    OlderInferenceModelRewrite,
    ServiceEntry,
    DestinationRule,
    /// One at a time, by name: those that others refer to.
    Secret,
    /// The same.
    ConfigMap,
}

impl ObjectKind {
    /// Those that are watched whole.
    pub(super) const WATCHED: [Self; 15] = [
        Self::GatewayClass,
        Self::Gateway,
        Self::HttpRoute,
        Self::ReferenceGrant,
        Self::BackendTlsPolicy,
        Self::Namespace,
        Self::Service,
        Self::InferencePool,
        Self::OlderInferencePool,
        Self::InferenceObjective,
        Self::OlderInferenceObjective,
        Self::InferenceModelRewrite,
        Self::OlderInferenceModelRewrite,
        Self::ServiceEntry,
        Self::DestinationRule,
    ];

    const BY_NAME: [Self; 2] = [Self::Secret, Self::ConfigMap];

    /// Where it is in the API.
    pub(super) const fn kube(self) -> KubeKind {
        const GATEWAY: &str = "gateway.networking.k8s.io";
        const INFERENCE: &str = "inference.networking.k8s.io";
        const OLDER: &str = "inference.networking.x-k8s.io";
        const LLM_D: &str = "llm-d.ai";
        const ISTIO: &str = "networking.istio.io";
        let (group, version, kind, plural) = match self {
            Self::GatewayClass => (GATEWAY, "v1", "GatewayClass", "gatewayclasses"),
            Self::Gateway => (GATEWAY, "v1", "Gateway", "gateways"),
            Self::HttpRoute => (GATEWAY, "v1", "HTTPRoute", "httproutes"),
            Self::ReferenceGrant => (GATEWAY, "v1beta1", "ReferenceGrant", "referencegrants"),
            Self::BackendTlsPolicy => (GATEWAY, "v1", "BackendTLSPolicy", "backendtlspolicies"),
            Self::Namespace => ("", "v1", "Namespace", "namespaces"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::InferencePool => (INFERENCE, "v1", "InferencePool", "inferencepools"),
            Self::OlderInferencePool => (OLDER, "v1alpha2", "InferencePool", "inferencepools"),
            Self::InferenceObjective => (LLM_D, "v1alpha2", "InferenceObjective", "inferenceobjectives"),
            Self::OlderInferenceObjective => (OLDER, "v1alpha2", "InferenceObjective", "inferenceobjectives"),
            Self::InferenceModelRewrite => {
                (LLM_D, "v1alpha2", "InferenceModelRewrite", "inferencemodelrewrites")
            }
            Self::OlderInferenceModelRewrite => {
                (OLDER, "v1alpha2", "InferenceModelRewrite", "inferencemodelrewrites")
            }
            Self::ServiceEntry => (ISTIO, "v1", "ServiceEntry", "serviceentries"),
            Self::DestinationRule => (ISTIO, "v1", "DestinationRule", "destinationrules"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
        };
        KubeKind { group, version, kind, plural }
    }

    /// Whether its objects are in no namespace.
    pub(super) fn is_cluster_wide(self) -> bool {
        matches!(self, Self::GatewayClass | Self::Namespace)
    }

    /// Whether a field that is not read is one that is not honoured; of other kinds most fields are for others.
    pub(super) fn is_read_whole(self) -> bool {
        matches!(self, Self::Gateway | Self::HttpRoute | Self::ReferenceGrant | Self::BackendTlsPolicy)
    }

    /// Finds the kind of an object as a manifest writes it.
    pub(super) fn of_manifest(object: &Value) -> Option<Self> {
        let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let is_it = |known: &Self| known.kube().group == group && known.kube().kind == kind;
        Self::WATCHED.into_iter().chain(Self::BY_NAME).find(is_it)
    }
}
