//! Owns reading Kubernetes objects: which names and labels mean which addresses and models. Refuses to know routes.

use std::collections::BTreeMap;

use super::source_node::SourceNode;

/// Labels, in the order of their names.
pub(super) type Labels = BTreeMap<String, String>;

/// The given objects by kind.
#[derive(Default)]
pub(super) struct KubernetesObjects<'a> {
    pub(super) services: Vec<KubernetesService<'a>>,
    pub(super) pools: Vec<InferencePool<'a>>,
    pub(super) servers: Vec<ModelServer>,
    pub(super) backends: Vec<GatewayBackend>,
    pub(super) tls_rules: Vec<TlsRule>,
    pub(super) routes: Vec<SourceNode<'a>>,
}

pub(super) struct KubernetesService<'a> {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Labels,
    pub(super) ports: Vec<u64>,
    pub(super) external: Option<String>,
    pub(super) node: SourceNode<'a>,
}

/// An `InferencePool` of either version.
pub(super) struct InferencePool<'a> {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Labels,
    pub(super) port: u64,
    pub(super) node: SourceNode<'a>,
}

/// Pods that serve a model.
pub(super) struct ModelServer {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) served: Vec<String>,
    pub(super) loras: Vec<String>,
}

/// A backend of Envoy AI Gateway: addresses, or a reference to another backend.
pub(super) struct GatewayBackend {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) refers_to: Option<String>,
}

/// Whether a host is reached over TLS.
pub(super) struct TlsRule {
    pub(super) host: String,
    pub(super) tls: HostTls,
}

/// TLS to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostTls {
    On,
    Off,
}

pub(super) fn collect<'a>(object: &SourceNode<'a>, objects: &mut KubernetesObjects<'a>) {
    let kind = object.peek("kind").unwrap_or_default();
    match kind {
        "Service" => objects.services.extend(service(object)),
        "InferencePool" => objects.pools.extend(inference_pool(object)),
        "Deployment" | "StatefulSet" | "LeaderWorkerSet" | "DaemonSet" | "Pod" => {
            objects.servers.extend(server(object));
        }
        "DestinationRule" => destination_rule(object, objects),
        "ServiceEntry" => service_entry(object, objects),
        "Backend" | "AIServiceBackend" => objects.backends.extend(backend(object)),
        "HTTPRoute" | "AIGatewayRoute" => objects.routes.push(object.clone()),
        "EnvoyFilter" => envoy_filter(object),
        _ => {}
    }
}

/// Gives an object's name and namespace.
pub(super) fn identity(object: &SourceNode<'_>) -> Option<(String, String)> {
    let name = object.at(&["metadata"])?.peek("name")?.to_owned();
    let namespace = object.at(&["metadata"])?.peek("namespace").unwrap_or("default").to_owned();
    Some((name, namespace))
}

fn labels(node: Option<&SourceNode<'_>>) -> Labels {
    let pairs = node.map(SourceNode::entries).unwrap_or_default();
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.text()?.to_owned()))).collect()
}

/// Whether a selector selects pods with these labels.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn service<'a>(object: &SourceNode<'a>) -> Option<KubernetesService<'a>> {
    let (name, namespace) = identity(object)?;
    let spec = object.get("spec")?;
    let selector = spec.get("selector");
    let ports = spec.list("ports");
    let ports = ports.iter().filter_map(|port| port.peek("port")?.parse().ok()).collect();
    Some(KubernetesService {
        selector: labels(selector.as_ref()),
        external: spec.peek("externalName").map(str::to_owned),
        name,
        namespace,
        ports,
        node: spec,
    })
}

fn inference_pool<'a>(object: &SourceNode<'a>) -> Option<InferencePool<'a>> {
    let (name, namespace) = identity(object)?;
    let spec = object.get("spec")?;
    let selector = spec.get("selector")?;
    let to = "pools.*.endpoints";
    let first = spec.list("targetPorts").into_iter().next();
    let port = match first {
        Some(port) => port.whole("number", to),
        None => spec.whole("targetPortNumber", to),
    };
    selector.mapped(to);
    if let Some(picker) = spec.get("endpointPickerRef").or_else(|| spec.get("extensionRef")) {
        picker.ignored("endpoints are picked in this process");
    }
    // The older version has the labels at the top of the selector.
    let inner = selector.get("matchLabels").unwrap_or(selector);
    Some(InferencePool {
        selector: labels(Some(&inner)),
        port: port.unwrap_or(8000),
        name,
        namespace,
        node: spec,
    })
}

/// Reads which model pods serve, from the arguments of vLLM.
fn server(object: &SourceNode<'_>) -> Option<ModelServer> {
    let (_, namespace) = identity(object)?;
    let spec = object.get("spec")?;
    let template = spec.get("template").or_else(|| spec.at(&["leaderWorkerTemplate", "workerTemplate"]));
    let pod = template.unwrap_or_else(|| object.clone());
    let own = labels(pod.at(&["metadata", "labels"]).as_ref());
    for container in pod.get("spec").map(|spec| spec.list("containers")).unwrap_or_default() {
        let mut words = Vec::new();
        for key in ["command", "args"] {
            words.extend(container.get(key).map(|node| node.texts()).unwrap_or_default());
        }
        let variables = container.list("env");
        let variable =
            |node: &SourceNode<'_>| Some((node.peek("name")?.to_owned(), node.peek("value")?.to_owned()));
        let variables: Vec<_> = variables.iter().filter_map(variable).collect();
        let arguments = VllmArguments::of(&words, &variables);
        if arguments.served.is_empty() {
            continue;
        }
        for key in ["command", "args"] {
            if let Some(node) = container.get(key) {
                node.mapped("models: the names that the server goes by");
            }
        }
        return Some(ModelServer {
            namespace,
            labels: own,
            served: arguments.served,
            loras: arguments.loras,
        });
    }
    None
}

/// What vLLM's command line says of its models.
#[derive(Debug, Default, PartialEq)]
pub(super) struct VllmArguments {
    /// The served model names, the first one in responses.
    pub(super) served: Vec<String>,
    pub(super) loras: Vec<String>,
}

impl VllmArguments {
    /// Reads a command line, be it one text or many, in which these variables are named as Kubernetes or a shell would.
    pub(super) fn of(words: &[String], variables: &[(String, String)]) -> Self {
        let words: Vec<String> = words.iter().flat_map(|word| split(&expanded(word, variables))).collect();
        let mut arguments = Self::default();
        let mut model = None;
        let mut option = "";
        for (index, word) in words.iter().enumerate() {
            if let Some(name) = word.strip_prefix("--") {
                let (name, value) =
                    name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
                option = name;
                if let Some(value) = value {
                    arguments.value(option, value, &mut model);
                }
            } else if index > 0 && words[index - 1] == "serve" && option.is_empty() {
                model = Some(word.clone());
            } else {
                arguments.value(option, word, &mut model);
            }
        }
        if arguments.served.is_empty() {
            arguments.served.extend(model);
        }
        arguments
    }

    fn value(&mut self, option: &str, value: &str, model: &mut Option<String>) {
        match option {
            "served-model-name" => self.served.push(value.to_owned()),
            "model" if model.is_none() => *model = Some(value.to_owned()),
            "lora-modules" => {
                let json = serde_json::from_str::<serde_json::Value>(value).ok();
                let name = json.as_ref().and_then(|json| json.get("name")?.as_str());
                let name = name.or_else(|| value.split_once('=').map(|(name, _)| name));
                self.loras.extend(name.map(str::to_owned));
            }
            _ => {}
        }
    }
}

/// Puts variables in their places, those of longer names first.
fn expanded(text: &str, variables: &[(String, String)]) -> String {
    let mut variables: Vec<_> = variables.iter().collect();
    variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    variables.into_iter().fold(text.to_owned(), |text, (name, value)| {
        [format!("$({name})"), format!("${{{name}}}"), format!("${name}")]
            .iter()
            .fold(text, |text, written| text.replace(written, value))
    })
}

/// Splits a text at white space, but keeps JSON together.
fn split(text: &str) -> Vec<String> {
    if text.trim_start().starts_with('{') {
        return vec![text.to_owned()];
    }
    text.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect()
}

fn destination_rule<'a>(object: &SourceNode<'a>, objects: &mut KubernetesObjects<'a>) {
    let Some(spec) = object.get("spec") else { return };
    let Some(host) = spec.peek("host").map(str::to_owned) else { return };
    let Some(tls) = spec.at(&["trafficPolicy", "tls"]) else { return };
    if tls.peek("insecureSkipVerify") == Some("true")
        && let Some(view) = tls.get("insecureSkipVerify")
    {
        view.broken("TLS without a look at the certificate", "certificates are always verified");
    }
    let tls = if tls.peek("mode") == Some("DISABLE") { HostTls::Off } else { HostTls::On };
    objects.tls_rules.push(TlsRule { host, tls });
}

fn service_entry<'a>(object: &SourceNode<'a>, objects: &mut KubernetesObjects<'a>) {
    let Some(spec) = object.get("spec") else { return };
    let is_tls = spec.list("ports").iter().any(|port| {
        port.peek("protocol").is_some_and(|protocol| ["HTTPS", "TLS"].contains(&protocol))
            || port.peek("number") == Some("443")
    });
    let Some(hosts) = spec.get("hosts") else { return };
    hosts.mapped("pools.*.tls");
    if is_tls {
        let rule = |host| TlsRule { host, tls: HostTls::On };
        objects.tls_rules.extend(hosts.texts().into_iter().map(rule));
    }
}

fn backend(object: &SourceNode<'_>) -> Option<GatewayBackend> {
    let (name, _) = identity(object)?;
    let spec = object.get("spec")?;
    let mut addresses = Vec::new();
    for endpoint in spec.list("endpoints") {
        let at = endpoint.get("fqdn").or_else(|| endpoint.get("ip"));
        let Some(at) = at else { continue };
        let to = "pools.*.endpoints";
        let host = at.take("hostname", to).or_else(|| at.take("address", to));
        let port = at.whole("port", to);
        addresses.extend(host.zip(port).map(|(host, port)| format!("{host}:{port}")));
    }
    let refers_to = spec.get("backendRef").and_then(|view| view.take("name", "pools"));
    Some(GatewayBackend { name, addresses, refers_to })
}

fn envoy_filter(object: &SourceNode<'_>) {
    let Some(spec) = object.get("spec") else { return };
    for patch in spec.list("configPatches") {
        let allow =
            patch.at(&["patch", "value", "typed_config"]).and_then(|own| own.get("failure_mode_allow"));
        if let Some(view) = allow.filter(|view| view.text() == Some("true")) {
            view.broken(
                "while the router is down, requests pass unjudged, with whatever x-selected-model they bring",
                "there is no second process that could be down, and clients' steering headers are dropped",
            );
        }
        patch.ignored("no filter is needed: the decision is made in the gateway itself");
    }
    if !spec.has("workloadSelector") {
        object.broken(
            "without a workloadSelector it patches every proxy in the namespace, not the gateway alone",
            "nothing is patched",
        );
    }
}
