//! A cluster of the loopback as guides would leave it: their manifests, and a gateway that follows them.

use crate::harness::*;
use crate::kube_api::*;
use serde_json::{Value, json};
use signalbox::sim::Sim;
use std::net::SocketAddr;
use std::path::Path;

pub(crate) const LINUX: &str = "Linux is said to be an open source kernel because ";
pub(crate) const SERVER: &str =
    "drain: {delay: 0s, timeout: 10s}\nlisteners: [{address: \"127.0.0.1:0\", public_port: 80}]\n";
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// The paths of the kinds that a manifest may have.
pub(crate) const KINDS: [(&str, &str); 14] = [
    ("GatewayClass", CLASSES),
    ("Gateway", GATEWAYS),
    ("HTTPRoute", ROUTES),
    ("ReferenceGrant", GRANTS),
    ("BackendTLSPolicy", TLS_POLICIES),
    ("Service", SERVICES),
    ("Secret", SECRETS),
    ("ConfigMap", CONFIG_MAPS),
    ("InferencePool", POOLS),
    ("InferenceObjective", OBJECTIVES),
    ("InferenceModelRewrite", REWRITES),
    ("ServiceEntry", SERVICE_ENTRIES),
    ("DestinationRule", DESTINATION_RULES),
    ("Pod", PODS),
];

pub(crate) fn fixture(name: &str) -> Vec<Value> {
    manifests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway").join(name))
}

pub(crate) fn manifests(file: &Path) -> Vec<Value> {
    signalbox::policy::manifests(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Applies objects as `kubectl apply` does, those that nobody here reads left out.
pub(crate) fn apply(api: &KubeApi, objects: impl IntoIterator<Item = Value>) {
    for object in objects {
        let Some((kind, path)) = KINDS.iter().find(|(kind, _)| object["kind"] == *kind) else { continue };
        let namespace = match *kind {
            "GatewayClass" => "",
            _ => object["metadata"]["namespace"].as_str().unwrap_or("default"),
        };
        let namespace = namespace.to_owned();
        api.put(path, &namespace, object);
    }
}

/// The slice that names a Service's only endpoint.
pub(crate) fn slice(service: &str, addr: SocketAddr) -> Value {
    json!({
        "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": addr.port()}],
        "endpoints": [{"addresses": [addr.ip().to_string()], "conditions": {"ready": true}}],
    })
}

/// A gateway with a shipped policy, whose own pools lead nowhere, that follows what the API server has.
pub(crate) async fn gateway(api: &KubeApi) -> Gateway {
    follows(launch(api)).await
}

pub(crate) fn launch(api: &KubeApi) -> Launch {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/quickstart.yaml");
    let launch = Launch::new(std::fs::read_to_string(policy).unwrap())
        .variable("LLAMA_A", "127.0.0.1:1")
        .variable("LLAMA_B", "127.0.0.1:2")
        .variable("PHI", "127.0.0.1:3");
    let kubeconfig = api.kubeconfig(launch.folder()).display().to_string();
    launch.server(SERVER).variable("KUBECONFIG", kubeconfig).argument("--gateway-api")
}

/// Starts it and waits until it follows the cluster.
pub(crate) async fn follows(launch: Launch) -> Gateway {
    let gateway = launch.start().await;
    let from = async || (routes(&gateway).await["from"] == "cluster").then_some(());
    until("routes of the cluster", from).await;
    gateway
}

pub(crate) async fn routes(gateway: &Gateway) -> Value {
    gateway.admin("/readyz").await.json()["routes"].clone()
}

/// Waits for a condition of an object's state, found by its pointer.
pub(crate) async fn condition(
    api: &KubeApi,
    object: (&str, &str, &str),
    pointer: &str,
    kind: &str,
    reason: &str,
) -> Value {
    let (path, namespace, name) = object;
    let found = async || {
        let object = api.get(path, namespace, name);
        let conditions = object.pointer(pointer)?.as_array()?.clone();
        conditions.into_iter().find(|one| one["type"] == kind && one["reason"] == reason)
    };
    until(&format!("{kind}/{reason} of {name} at {pointer}"), found).await
}

/// Waits until a chat has this status.
pub(crate) async fn answers(gateway: &Gateway, model: &str, status: u16) {
    let answered = async || (gateway.chat(model, "2+2 is  ").await.status == status).then_some(());
    until(&format!("{status} for {model}"), answered).await;
}

pub(crate) const ROUTE: (&str, &str, &str) = (ROUTES, "default", "vsr-llama8b");
pub(crate) const OF_PARENT: &str = "/status/parents/0/conditions";

/// The two upstreams of `services.yaml`, with their slices.
pub(crate) async fn services(api: &KubeApi) -> [Sim; 2] {
    let sims = [sim("llama3-8b").await, sim("phi4-mini").await];
    apply(api, fixture("gateway.yaml"));
    apply(api, fixture("services.yaml"));
    api.put(SLICES, "default", slice("llama-8b", sims[0].addr()));
    api.put(SLICES, "default", slice("phi4-mini", sims[1].addr()));
    sims
}

/// The pools of `pools.yaml` without pickers of their own, and this one pod of theirs.
pub(crate) fn pool_of(api: &KubeApi, addr: SocketAddr) {
    apply(api, fixture("gateway.yaml"));
    for mut object in fixture("pools.yaml") {
        if object["kind"] == "InferencePool" {
            object["spec"]["targetPorts"] = json!([{"number": addr.port()}]);
            object["spec"].as_object_mut().unwrap().remove("endpointPickerRef");
        }
        apply(api, [object]);
    }
    let mut pod = pod("phi", addr, true);
    pod["metadata"]["labels"]["app"] = "phi4-mini".into();
    api.put(PODS, "default", pod);
}
