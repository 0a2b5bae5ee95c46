//! Owns what of Kubernetes names a pool's endpoints: a Service, pods by their labels, or an `InferencePool`. Refuses to ask
//! Kubernetes.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;

/// The most ports of a pod that take requests, as for an `InferencePool`.
const MAX_PORTS: usize = 8;

/// Endpoints that Kubernetes names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DiscoverySpec {
    /// Which ones.
    pub selection: KubeSelection,
    /// The share of each relative to the pool's other endpoints; 0 takes no requests.
    pub weight: u32,
}

/// What is looked up in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KubeSelection {
    /// Where; the process's own namespace when absent.
    pub namespace: Option<String>,
    /// What.
    pub object: KubeObject,
}

/// What names endpoints in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KubeObject {
    /// The `EndpointSlice`s of a Service.
    Service {
        /// Its name.
        name: String,
        /// Which of its ports; without one it has a single port.
        port: Option<PortRef>,
    },
    /// Pods.
    Pods {
        /// The labels that they all have; at least one.
        labels: BTreeMap<String, String>,
        /// Their ports, from one to eight, each an endpoint.
        ports: Vec<PortRef>,
    },
    /// The pods of an `InferencePool`.
    InferencePool {
        /// Its name.
        name: String,
    },
}

/// A port of pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PortRef {
    /// Its number, never 0.
    Number(u16),
    /// The name that the Service's or the container's port has.
    Name(String),
}

impl KubeObject {
    /// The labels that select pods or slices, as the API takes them.
    pub fn label_selector(labels: &BTreeMap<String, String>) -> String {
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }
}

/// As `/readyz` and the metrics name it, such as `service llm/llama-8b:http`.
impl fmt::Display for KubeSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        match &self.object {
            KubeObject::Service { name, port: None } => write!(f, "service {namespace}{name}"),
            KubeObject::Service { name, port: Some(port) } => write!(f, "service {namespace}{name}:{port}"),
            KubeObject::Pods { labels, ports } => {
                let ports: Vec<String> = ports.iter().map(PortRef::to_string).collect();
                write!(f, "pods {namespace}{}:{}", KubeObject::label_selector(labels), ports.join(","))
            }
            KubeObject::InferencePool { name } => write!(f, "inference_pool {namespace}{name}"),
        }
    }
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// What of Kubernetes names endpoints: one of `service`, `pods` and `inference_pool`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct RawDiscovery {
    /// A Service, whose `EndpointSlice`s name the endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    service: Option<String>,
    /// The labels of pods, each of which is an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeMap<String, String>", extend("minProperties" = 1, "maxProperties" = 32))]
    pods: Option<BTreeMap<String, String>>,
    /// An `InferencePool` of the Gateway API inference extension, whose pods and ports are the endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    inference_pool: Option<String>,
    /// The port of the pods, by number or by name; for `pods` also a list of up to eight, each an endpoint. A Service with a
    /// single port needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawPorts")]
    port: Option<RawPorts>,
    /// Their namespace; the process's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    namespace: Option<String>,
}

/// One port or several.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Ports")]
enum RawPorts {
    /// One.
    One(RawPort),
    /// Several.
    Many(#[schemars(length(min = 1, max = 8))] Vec<RawPort>),
}

/// A port.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Port")]
enum RawPort {
    /// Its number.
    Number(#[schemars(range(min = 1))] u16),
    /// Its name.
    Name(String),
}

impl RawDiscovery {
    /// Whether anything of Kubernetes is asked for.
    pub(super) fn is_used(&self) -> bool {
        self.service.is_some() || self.pods.is_some() || self.inference_pool.is_some()
    }

    /// The keys that say nothing by themselves.
    pub(super) fn stray_key(&self) -> Option<&'static str> {
        let port = self.port.as_ref().map(|_| "port");
        port.or(self.namespace.as_ref().map(|_| "namespace")).filter(|_| !self.is_used())
    }

    /// Gives what is looked up; `path` is that of the mapping that holds the keys.
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<KubeSelection> {
        if let Some(namespace) = &self.namespace {
            check_name(namespace, &path.key("namespace"), checker);
        }
        let ports = self.port.map(|ports| ports.check(&path.key("port"), checker)).unwrap_or_default();
        let object = match (self.service, self.pods, self.inference_pool) {
            (Some(name), None, None) => {
                check_name(&name, &path.key("service"), checker);
                if ports.len() > 1 {
                    checker.issue(&path.key("port"), "is one port of the Service");
                }
                KubeObject::Service { name, port: ports.into_iter().next() }
            }
            (None, Some(labels), None) => {
                check_labels(&labels, &path.key("pods"), checker);
                if ports.is_empty() {
                    checker.issue(path, "`pods` needs `port` beside it");
                }
                KubeObject::Pods { labels, ports }
            }
            (None, None, Some(name)) => {
                check_name(&name, &path.key("inference_pool"), checker);
                if !ports.is_empty() {
                    checker.issue(&path.key("port"), "is what the `InferencePool` says itself");
                }
                KubeObject::InferencePool { name }
            }
            _ => {
                checker.issue(path, "needs only one of `service`, `pods` and `inference_pool`");
                return None;
            }
        };
        Some(KubeSelection { namespace: self.namespace, object })
    }
}

impl RawPorts {
    fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Vec<PortRef> {
        let written = match self {
            Self::One(port) => vec![port],
            Self::Many(ports) => ports,
        };
        let mut ports = Vec::new();
        for port in written.into_iter().take(MAX_PORTS) {
            let port = match port {
                RawPort::Number(number) => PortRef::Number(number),
                RawPort::Name(name) => {
                    if !is_dns_name(&name, 63) {
                        checker.issue(path, format!("`{name}` is not the name of a port"));
                    }
                    PortRef::Name(name)
                }
            };
            if ports.contains(&port) {
                checker.issue(path, format!("`{port}` stands twice"));
            } else {
                ports.push(port);
            }
        }
        ports
    }
}

fn check_name(name: &str, path: &YamlPath, checker: &mut Checker<'_>) {
    if !is_dns_name(name, 253) {
        checker.issue(path, format!("`{name}` is not a name of Kubernetes: lower case, digits, `-` and `.`"));
    }
}

fn check_labels(labels: &BTreeMap<String, String>, path: &YamlPath, checker: &mut Checker<'_>) {
    for (key, value) in labels {
        let name = match key.split_once('/') {
            Some((prefix, name)) if is_dns_name(prefix, 253) => name,
            Some(_) => "",
            None => key,
        };
        if !is_label(name) {
            checker.issue(&path.key(key), format!("`{key}` is not the key of a label"));
        }
        if !value.is_empty() && !is_label(value) {
            checker.issue(&path.key(key), format!("`{value}` is not the value of a label"));
        }
    }
}

/// Whether a text is a DNS name in lower case.
fn is_dns_name(text: &str, most: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= most && text.split('.').all(label)
}

/// Whether a text is the name in a label's key, or its value.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = |text: &str| {
        let (first, last) = (text.bytes().next(), text.bytes().next_back());
        [first, last].iter().all(|byte| byte.is_some_and(|byte| byte.is_ascii_alphanumeric()))
    };
    text.len() <= 63 && text.bytes().all(inner) && ends(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_named_as_they_are_written() {
        let labels =
            BTreeMap::from([("app".to_owned(), "llama".to_owned()), ("b/c".to_owned(), String::new())]);
        let ports = vec![PortRef::Number(8000), PortRef::Name("http".to_owned())];
        let name = || "llama".to_owned();
        for (namespace, object, text) in [
            (None, KubeObject::Service { name: name(), port: None }, "service llama"),
            (
                Some("llm"),
                KubeObject::Service { name: name(), port: Some(PortRef::Number(1)) },
                "service llm/llama:1",
            ),
            (None, KubeObject::Pods { labels, ports }, "pods app=llama,b/c=:8000,http"),
            (Some("x"), KubeObject::InferencePool { name: name() }, "inference_pool x/llama"),
        ] {
            let selection = KubeSelection { namespace: namespace.map(str::to_owned), object };
            assert_eq!(selection.to_string(), text);
        }
    }

    #[test]
    fn only_names_that_kubernetes_could_have_are_taken() {
        assert!(["a", "a-b.c", "1"].iter().all(|name| is_dns_name(name, 63)));
        assert!(["", "A", "a_b", "-a", "a-", "a..b", "a,b=c"].iter().all(|name| !is_dns_name(name, 63)));
        assert!(["a", "A_b.c-1"].iter().all(|label| is_label(label)));
        assert!(["", "a,b", "a=b", "-a", "a b"].iter().all(|label| !is_label(label)));
    }
}
