//! Owns what of Kubernetes objects matters here: which names and labels stand for which addresses and models. Refuses
//! to know routes.

use std::collections::BTreeMap;

use super::view::View;

/// Labels, in the order of their names.
pub(super) type Labels = BTreeMap<String, String>;

/// Everything that was given, by kind.
#[derive(Default)]
pub(super) struct Objects<'a> {
    pub(super) services: Vec<Service<'a>>,
    pub(super) pools: Vec<InferencePool<'a>>,
    pub(super) servers: Vec<Server>,
    pub(super) backends: Vec<Backend>,
    pub(super) rules: Vec<(String, Tls)>,
    pub(super) routes: Vec<View<'a>>,
}

/// A Service.
pub(super) struct Service<'a> {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Labels,
    pub(super) ports: Vec<u64>,
    pub(super) external: Option<String>,
    pub(super) view: View<'a>,
}

/// An `InferencePool` of either version.
pub(super) struct InferencePool<'a> {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Labels,
    pub(super) port: u64,
    pub(super) view: View<'a>,
}

/// Pods that serve a model.
pub(super) struct Server {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) served: Vec<String>,
    pub(super) loras: Vec<String>,
}

/// A backend of Envoy's AI gateway: an address, or another name for one.
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) refers_to: Option<String>,
}

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    On,
    Off,
}

/// Sorts one object in.
pub(super) fn collect<'a>(object: &View<'a>, objects: &mut Objects<'a>) {
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
pub(super) fn identity(object: &View<'_>) -> Option<(String, String)> {
    let name = object.at(&["metadata"])?.peek("name")?.to_owned();
    let namespace = object.at(&["metadata"])?.peek("namespace").unwrap_or("default").to_owned();
    Some((name, namespace))
}

fn labels(view: Option<&View<'_>>) -> Labels {
    let pairs = view.map(View::entries).unwrap_or_default();
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.text()?.to_owned()))).collect()
}

/// Says whether a selector takes pods with these labels.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn service<'a>(object: &View<'a>) -> Option<Service<'a>> {
    let (name, namespace) = identity(object)?;
    let spec = object.get("spec")?;
    let selector = spec.get("selector");
    let ports = spec.list("ports");
    let ports = ports.iter().filter_map(|port| port.peek("port")?.parse().ok()).collect();
    Some(Service {
        selector: labels(selector.as_ref()),
        external: spec.peek("externalName").map(str::to_owned),
        name,
        namespace,
        ports,
        view: spec,
    })
}

fn inference_pool<'a>(object: &View<'a>) -> Option<InferencePool<'a>> {
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
        view: spec,
    })
}

/// Reads which model pods serve, from the arguments of vLLM.
fn server(object: &View<'_>) -> Option<Server> {
    let (_, namespace) = identity(object)?;
    let spec = object.get("spec")?;
    let template = spec.get("template").or_else(|| spec.at(&["leaderWorkerTemplate", "workerTemplate"]));
    let pod = template.unwrap_or_else(|| object.clone());
    let own = labels(pod.at(&["metadata", "labels"]).as_ref());
    for container in pod.get("spec").map(|spec| spec.list("containers")).unwrap_or_default() {
        let mut words = Vec::new();
        for key in ["command", "args"] {
            words.extend(container.get(key).map(|view| view.texts()).unwrap_or_default());
        }
        let arguments = Arguments::of(&words);
        if arguments.served.is_empty() {
            continue;
        }
        for key in ["command", "args"] {
            if let Some(view) = container.get(key) {
                view.mapped("models: the names that the server goes by");
            }
        }
        return Some(Server { namespace, labels: own, served: arguments.served, loras: arguments.loras });
    }
    None
}

/// What vLLM is told.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arguments {
    /// The names that it answers to, the first one in its answers.
    pub(super) served: Vec<String>,
    pub(super) loras: Vec<String>,
}

impl Arguments {
    /// Reads a command line, be it one text or many.
    pub(super) fn of(words: &[String]) -> Self {
        let words: Vec<String> = words.iter().flat_map(|word| split(word)).collect();
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

/// Splits a text at white space, but keeps JSON together.
fn split(text: &str) -> Vec<String> {
    if text.trim_start().starts_with('{') {
        return vec![text.to_owned()];
    }
    text.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect()
}

fn destination_rule<'a>(object: &View<'a>, objects: &mut Objects<'a>) {
    let Some(spec) = object.get("spec") else { return };
    let Some(host) = spec.peek("host").map(str::to_owned) else { return };
    let Some(tls) = spec.at(&["trafficPolicy", "tls"]) else { return };
    if tls.peek("insecureSkipVerify") == Some("true")
        && let Some(view) = tls.get("insecureSkipVerify")
    {
        view.broken("TLS without a look at the certificate", "certificates are always verified");
    }
    let mode = if tls.peek("mode") == Some("DISABLE") { Tls::Off } else { Tls::On };
    objects.rules.push((host, mode));
}

fn service_entry<'a>(object: &View<'a>, objects: &mut Objects<'a>) {
    let Some(spec) = object.get("spec") else { return };
    let is_tls = spec.list("ports").iter().any(|port| {
        port.peek("protocol").is_some_and(|protocol| ["HTTPS", "TLS"].contains(&protocol))
            || port.peek("number") == Some("443")
    });
    let Some(hosts) = spec.get("hosts") else { return };
    hosts.mapped("pools.*.tls");
    if is_tls {
        objects.rules.extend(hosts.texts().into_iter().map(|host| (host, Tls::On)));
    }
}

fn backend(object: &View<'_>) -> Option<Backend> {
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
    Some(Backend { name, addresses, refers_to })
}

fn envoy_filter(object: &View<'_>) {
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
