//! Endpoints that Kubernetes names: found, followed, and kept while its API does not answer.

use crate::any_kube_api::AnyKubeApi;
use crate::cluster::{SERVER, follows};
use crate::harness::*;
use crate::kube_api::*;
use http::Version;
use serde_json::{Value, json};
use signalbox::sim::{Sim, SimOptions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// A policy whose pool has this.
fn policy(pool: &str) -> String {
    format!(
        "version: 1\nmodels: {{m: {{pools: [main]}}}}\npools:\n  main: {{health: {{enabled: false}}, {pool}}}\n"
    )
}

const BY_PODS: &str = "pods: {app: m}, port: http";

/// Starts a gateway that asks this server.
async fn gateway(api: &KubeApi, policy: String) -> Gateway {
    let launch = Launch::new(policy);
    let kubeconfig = api.kubeconfig(launch.folder());
    launch.variable("KUBECONFIG", kubeconfig.to_str().unwrap()).start().await
}

/// The same of whichever server.
async fn gateway_of(api: &AnyKubeApi, policy: String) -> Gateway {
    let launch = Launch::new(policy);
    let kubeconfig = api.kubeconfig(launch.folder());
    launch.variable("KUBECONFIG", kubeconfig.to_str().unwrap()).start().await
}

async fn readyz(gateway: &Gateway) -> Value {
    gateway.admin("/readyz").await.json()
}

/// Waits until the pool has so many endpoints.
async fn endpoints(gateway: &Gateway, count: usize) {
    let there = async || (readyz(gateway).await["pools"][0]["endpoints"] == count).then_some(());
    until(&format!("{count} endpoints"), there).await;
}

/// Waits until a source has a fault, or none.
async fn fault(gateway: &Gateway, is_there: bool) -> Value {
    let state = async || {
        let source = readyz(gateway).await["sources"][0].clone();
        (source.is_object() && source["fault"].is_string() == is_there).then_some(source)
    };
    until(&format!("a fault of the source: {is_there}"), state).await
}

/// Asks until a simulated engine was asked.
async fn served_by(gateway: &Gateway, sim: &Sim) {
    until("a request at the endpoint", async || {
        assert_eq!(gateway.chat("m", "hello").await.status, 200);
        (!asked(sim).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_scaled_up_pod_takes_requests_within_a_second_of_ready() {
    let (api, old, new) = (AnyKubeApi::start().await, sim("m").await, sim("m").await);
    api.put(PODS, NAMESPACE, pod("old", old.addr(), true)).await;
    let gateway = gateway_of(&api, policy(BY_PODS)).await;
    assert_eq!(gateway.chat("m", "hello").await.status, 200, "the first answer is awaited before the start");
    api.put(PODS, NAMESPACE, pod("new", new.addr(), false)).await;
    api.put(PODS, "elsewhere", pod("other", new.addr(), true)).await;
    for _ in 0..10 {
        assert_eq!(gateway.chat("m", "hello").await.status, 200);
    }
    assert_eq!(asked(&new).len(), 0, "it is not ready, or in another namespace");
    let began = Instant::now();
    api.put(PODS, NAMESPACE, pod("new", new.addr(), true)).await;
    served_by(&gateway, &new).await;
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_terminating_pod_gets_none() {
    let (api, stays, leaves) = (AnyKubeApi::start().await, sim("m").await, sim("m").await);
    api.put(PODS, NAMESPACE, pod("stays", stays.addr(), true)).await;
    api.put(PODS, NAMESPACE, pod("leaves", leaves.addr(), true)).await;
    let gateway = gateway_of(&api, policy(BY_PODS)).await;
    served_by(&gateway, &leaves).await;
    api.terminate(NAMESPACE, "leaves").await;
    endpoints(&gateway, 1).await;
    let before = asked(&leaves).len();
    for _ in 0..20 {
        assert_eq!(gateway.chat("m", "hello").await.status, 200);
    }
    assert_eq!(asked(&leaves).len(), before);
    api.delete(PODS, NAMESPACE, "stays").await;
    endpoints(&gateway, 0).await;
    assert_eq!(gateway.chat("m", "hello").await.status, 503, "an empty answer is an answer");
}

#[tokio::test]
async fn the_data_plane_serves_on_without_the_api_server() {
    let (mut api, first, second) = (KubeApi::start().await, sim("m").await, sim("m").await);
    api.put(PODS, NAMESPACE, pod("first", first.addr(), true));
    let gateway = gateway(&api, policy(BY_PODS)).await;
    let labels = ["source=\"pods app=m:http\""];
    assert_eq!(gateway.metric("signalbox_discovery_current", &labels).await, 1.0);
    api.stop().await;
    let source = fault(&gateway, true).await;
    assert_eq!((&source["source"], &source["endpoints"]), (&json!("pods app=m:http"), &json!(1)));
    for _ in 0..10 {
        assert_eq!(gateway.chat("m", "hello").await.status, 200);
    }
    assert_eq!(gateway.metric("signalbox_discovery_current", &labels).await, 0.0);
    assert_eq!(gateway.metric("signalbox_discovery_endpoints", &labels).await, 1.0);
    // A reload does not wait for it either, and keeps what is known.
    gateway.rewrite(&policy(&format!("{BY_PODS}, timeouts: {{connect: 1s}}")));
    gateway.counts("signalbox_policy_reloads_total", &["result=\"success\""], 1.0).await;
    assert_eq!(gateway.chat("m", "hello").await.status, 200);
    // What happened meanwhile is learnt although the version is gone.
    api.put(PODS, NAMESPACE, pod("second", second.addr(), true));
    api.delete(PODS, NAMESPACE, "first");
    api.expire();
    api.resume().await;
    served_by(&gateway, &second).await;
    let seen = asked(&first).len();
    fault(&gateway, false).await;
    assert_eq!(gateway.chat("m", "hello").await.status, 200);
    assert_eq!(asked(&first).len(), seen);
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was_and_says_so() {
    let (mut api, sim) = (KubeApi::start().await, sim("m").await);
    api.put(PODS, NAMESPACE, pod("first", sim.addr(), true));
    let gateway = gateway(&api, policy(BY_PODS)).await;
    let lists = |api: &KubeApi| api.asked().iter().filter(|asked| !asked.contains("watch=")).count();
    let last = |api: &KubeApi| api.asked().last().cloned().unwrap();
    until("a watch", async || last(&api).contains("watch=").then_some(())).await;
    let listed = lists(&api);
    api.bookmark();
    // The next change comes on the same watch, so the bookmark before it has been read by then.
    api.put(PODS, NAMESPACE, pod("other", SocketAddr::from(([127, 0, 0, 9], 9)), true));
    endpoints(&gateway, 2).await;
    api.delete(PODS, NAMESPACE, "other");
    endpoints(&gateway, 1).await;
    api.bookmark();
    let version = 105; // 100 and one for each of the five changes.
    api.stop().await;
    fault(&gateway, true).await;
    api.resume().await;
    fault(&gateway, false).await;
    assert_eq!(lists(&api), listed, "nothing is listed again");
    assert!(last(&api).contains(&format!("resourceVersion={version}")), "{}", last(&api));
    let asked = api.asked();
    let selected = |asked: &String| {
        asked.starts_with("/api/v1/namespaces/llm/pods?")
            && asked.contains("labelSelector=app%3Dm")
            && asked.contains("fieldSelector=status.phase%3DRunning")
    };
    assert!(asked.iter().all(selected), "the server selects: {asked:#?}");
    assert!(
        asked.iter().all(|asked| !asked.contains("watch=") || asked.contains("allowWatchBookmarks=true"))
    );
}

#[tokio::test]
async fn a_gateway_starts_without_the_api_server_and_finds_its_endpoints_later() {
    let (mut api, sim) = (KubeApi::start().await, sim("m").await);
    api.put(PODS, NAMESPACE, pod("first", sim.addr(), true));
    api.stop().await;
    let gateway = gateway(&api, policy(BY_PODS)).await;
    let source = fault(&gateway, true).await;
    assert!(source.get("endpoints").is_none(), "nothing is known: {source}");
    assert_eq!(readyz(&gateway).await["ready"], true);
    assert_eq!(gateway.chat("m", "hello").await.status, 503);
    api.resume().await;
    endpoints(&gateway, 1).await;
    assert_eq!(gateway.chat("m", "hello").await.status, 200);
}

#[tokio::test]
async fn a_service_names_its_endpoints_through_slices_with_their_protocol() {
    let (api, http1, h2c) = (KubeApi::start().await, sim("m").await, sim("m").await);
    let slice = |name: &str, addr: SocketAddr, protocol: Option<&str>, ready: bool| {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "llama"}},
            "addressType": "IPv4",
            "ports": [{"name": "metrics", "port": 9}, {"name": "http", "port": addr.port(), "appProtocol": protocol}],
            "endpoints": [{"addresses": [addr.ip().to_string()], "conditions": {"ready": ready, "terminating": !ready}}],
        })
    };
    api.put(SLICES, "models", slice("a", http1.addr(), None, true));
    let gateway = gateway(&api, policy("service: llama, port: http, namespace: models")).await;
    assert_eq!(gateway.chat("m", "hello").await.status, 200);
    assert_eq!(asked(&http1)[0].version, Version::HTTP_11);
    api.put(SLICES, "models", slice("b", h2c.addr(), Some("kubernetes.io/h2c"), true));
    served_by(&gateway, &h2c).await;
    assert_eq!(asked(&h2c)[0].version, Version::HTTP_2);
    // The same address with another protocol.
    api.put(SLICES, "models", slice("b", h2c.addr(), None, true));
    let is_http1 = |sim: &Sim| asked(sim).last().is_some_and(|asked| asked.version == Version::HTTP_11);
    until("HTTP/1.1 there", async || {
        assert_eq!(gateway.chat("m", "hello").await.status, 200);
        is_http1(&h2c).then_some(())
    })
    .await;
    api.put(SLICES, "models", slice("a", http1.addr(), None, false));
    endpoints(&gateway, 1).await;
    let selector = "labelSelector=kubernetes.io%2Fservice-name%3Dllama";
    assert!(
        api.asked().iter().all(|asked| asked.contains("/namespaces/models/") && asked.contains(selector))
    );
}

#[tokio::test]
async fn that_requests_to_endpoints_found_to_speak_h2c_are_not_hedged_is_said() {
    let api = KubeApi::start().await;
    let late = |options: &mut SimOptions| options.latency.ttft = Duration::from_millis(300);
    let sims = [sim_with("m", late).await, sim_with("m", late).await];
    for (name, sim) in ["a", "b"].into_iter().zip(&sims) {
        let slice = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "llama"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": sim.addr().port(), "appProtocol": "kubernetes.io/h2c"}],
            "endpoints": [{"addresses": [sim.addr().ip().to_string()], "conditions": {"ready": true}}],
        });
        api.put(SLICES, "models", slice);
    }
    let pool = "service: llama, port: http, namespace: models, hedge: {after: 50ms, share: 1}";
    let gateway = gateway(&api, policy(pool)).await;
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    for _ in 0..2 {
        assert_eq!(gateway.post("/v1/chat/completions", body.to_string()).await.status, 200);
    }
    assert_eq!(sims.iter().map(|sim| asked(sim).len()).sum::<usize>(), 2);
    gateway.counts("signalbox_hedges_total", &["pool=\"main\"", "result=\"h2c\""], 2.0).await;
    assert_eq!(gateway.stderr().matches("over h2c are not hedged").count(), 1, "{}", gateway.stderr());
}

/// Simulated engines on one port of several addresses, as pods have it.
async fn pods_on_one_port(count: u8) -> Vec<Sim> {
    'ports: loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for last in 2..=count {
            let Ok(listener) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).await else {
                continue 'ports;
            };
            listeners.push(listener);
        }
        let mut sims = Vec::new();
        for listener in listeners {
            let options = SimOptions { models: vec!["m".to_owned()], ..SimOptions::default() };
            sims.push(Sim::start(options, listener, None).await);
        }
        return sims;
    }
}

#[tokio::test]
async fn an_inference_pool_of_either_group_names_its_pods_and_ports() {
    let (api, sims, second_port) = (KubeApi::start().await, pods_on_one_port(2).await, sim("m").await);
    let port = sims[0].addr().port();
    let older = json!({
        "metadata": {"name": "llama"},
        "spec": {"selector": {"app": "m"}, "targetPortNumber": port, "extensionRef": {"name": "epp"}},
    });
    api.put(OLDER_POOLS, NAMESPACE, older);
    api.hide(POOLS);
    for sim in &sims {
        api.put(PODS, NAMESPACE, pod(&format!("pod-{}", sim.addr().ip()), sim.addr(), true));
    }
    let mut other = pod("other", sims[0].addr(), true);
    other["metadata"]["labels"]["app"] = "x".into();
    api.put(PODS, NAMESPACE, other);
    let older_only = gateway(&api, policy("inference_pool: llama")).await;
    endpoints(&older_only, 2).await;
    served_by(&older_only, &sims[1]).await;
    drop(older_only);

    let api = KubeApi::start().await;
    let pool = |labels: &Value, ports: &[u16]| {
        let ports: Vec<Value> = ports.iter().map(|number| json!({"number": number})).collect();
        let spec = json!({"selector": {"matchLabels": labels}, "targetPorts": ports});
        json!({"metadata": {"name": "llama"}, "spec": spec})
    };
    let ports = [port, second_port.addr().port()];
    api.hide(OLDER_POOLS);
    api.put(POOLS, NAMESPACE, pool(&json!({"app": "m"}), &ports));
    api.put(PODS, NAMESPACE, pod("first", sims[0].addr(), true));
    let mut second = pod("second", sims[1].addr(), true);
    second["metadata"]["annotations"]["llm-d.ai/active-ports"] = port.to_string().into();
    api.put(PODS, NAMESPACE, second.clone());
    let gateway = gateway(&api, policy("inference_pool: llama")).await;
    // Two ports of the first, one of the second.
    endpoints(&gateway, 3).await;
    served_by(&gateway, &second_port).await;
    // Another selector, another set of pods; another port list, other endpoints.
    second["metadata"]["labels"]["app"] = "n".into();
    api.put(PODS, NAMESPACE, second);
    endpoints(&gateway, 2).await;
    api.put(POOLS, NAMESPACE, pool(&json!({"app": "n"}), &ports));
    endpoints(&gateway, 1).await;
    api.delete(POOLS, NAMESPACE, "llama");
    let source = fault(&gateway, true).await;
    assert_eq!(source["fault"], "there is no such InferencePool");
    endpoints(&gateway, 0).await;
}

#[tokio::test]
async fn kubernetes_is_mixed_with_addresses_and_joins_at_a_reload_without_a_failed_request() {
    let (api, pods, fixed) = (KubeApi::start().await, sim("m").await, sim("m").await);
    api.put(PODS, NAMESPACE, pod("first", pods.addr(), true));
    let gateway = Arc::new(gateway(&api, policy(&format!("endpoints: [\"{}\"]", fixed.addr()))).await);
    assert!(api.asked().is_empty(), "nobody asks where the policy names nothing of Kubernetes");
    assert!(readyz(&gateway).await.get("sources").is_none());
    let (is_over, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let (gateway, is_over, failed) = (Arc::clone(&gateway), Arc::clone(&is_over), Arc::clone(&failed));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                let status = gateway.chat("m", "hello").await.status;
                failed.fetch_add(usize::from(status != 200), Ordering::Relaxed);
            }
        }
    });
    gateway.rewrite(&policy(&format!("endpoints: [\"{}\", {{{BY_PODS}, weight: 3}}]", fixed.addr())));
    endpoints(&gateway, 2).await;
    served_by(&gateway, &pods).await;
    gateway.rewrite(&policy(BY_PODS));
    endpoints(&gateway, 1).await;
    served_by(&gateway, &pods).await;
    is_over.store(true, Ordering::Relaxed);
    load.await.unwrap();
    assert_eq!(failed.load(Ordering::Relaxed), 0);
}

/// Sources that come and go by the hundred while requests are answered.
#[tokio::test]
async fn a_thousand_endpoints_flap_under_load_without_a_failed_request() {
    const POOLS: usize = 50;
    const PODS_OF_ONE: usize = 20;
    let (api, sim) = (KubeApi::start().await, sim("m").await);
    let of_pool = |pool: usize, index: usize, addr: SocketAddr, is_ready: bool| {
        let mut pod = pod(&format!("pod-{pool}-{index}"), addr, is_ready);
        pod["metadata"]["labels"]["app"] = format!("p{pool}").into();
        pod
    };
    // Where nothing answers.
    let away = |pool: usize, index: usize| {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, pool as u8, index as u8)), 9)
    };
    let mut text = "version: 1\nmodels: {m: {pools: [p0]}}\npools:\n".to_owned();
    for pool in 0..POOLS {
        api.put(PODS, NAMESPACE, of_pool(pool, 0, sim.addr(), true));
        let endpoints = format!("[{{pods: {{app: p{pool}}}, port: http}}]");
        text = format!("{text}  p{pool}: {{health: {{enabled: false}}, endpoints: {endpoints}}}\n");
    }
    let gateway = gateway(&api, text).await;
    let total = async || {
        let pools = readyz(&gateway).await["pools"].clone();
        pools
            .as_array()
            .unwrap()
            .iter()
            .map(|pool| pool["endpoints"].as_u64().unwrap() as usize)
            .sum::<usize>()
    };
    let reach = async |wanted: usize| {
        until(&format!("{wanted} endpoints"), async || {
            assert_eq!(gateway.chat("m", "hello").await.status, 200);
            (total().await == wanted).then_some(())
        })
        .await;
    };
    reach(POOLS).await;
    for _ in 0..2 {
        for is_ready in [true, false] {
            // Not those of the pool that is asked: nothing listens there.
            for pool in 1..POOLS {
                for index in 1..=PODS_OF_ONE {
                    api.put(PODS, NAMESPACE, of_pool(pool, index, away(pool, index), is_ready));
                }
            }
            reach(POOLS + if is_ready { (POOLS - 1) * PODS_OF_ONE } else { 0 }).await;
        }
    }
}

#[tokio::test]
async fn a_gateway_whose_pool_has_a_ready_pod_answers_and_its_objects_say_so() {
    let (api, engine) = (AnyKubeApi::start().await, sim("m").await);
    let class = json!({"kind": "GatewayClass", "metadata": {"name": "c"}, "spec": {"controllerName": "signalbox.dev/gateway-controller"}});
    let listener = json!({"name": "http", "protocol": "HTTP", "port": 80});
    let front = json!({"kind": "Gateway", "metadata": {"name": "g"}, "spec": {"gatewayClassName": "c", "listeners": [listener]}});
    let pool = json!({"kind": "InferencePool", "metadata": {"name": "p"}, "spec": {
        "targetPorts": [{"number": engine.addr().port()}], "selector": {"matchLabels": {"app": "m"}}}});
    let backend = json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "p"});
    let route = json!({"kind": "HTTPRoute", "metadata": {"name": "r"}, "spec": {
        "parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [backend]}]}});
    api.put(CLASSES, "", class).await;
    api.put(GATEWAYS, NAMESPACE, front).await;
    api.put(POOLS, NAMESPACE, pool).await;
    api.put(ROUTES, NAMESPACE, route).await;
    api.put(PODS, NAMESPACE, pod("pod", engine.addr(), true)).await;
    let own = "version: 1\nmodels: {m: {pools: [own]}}\npools: {own: {endpoints: [\"127.0.0.1:1\"], health: {enabled: false}}}\n";
    let launch = Launch::new(own).server(SERVER).argument("--gateway-api");
    let kubeconfig = api.kubeconfig(launch.folder());
    let gateway = follows(launch.variable("KUBECONFIG", kubeconfig.to_str().unwrap())).await;
    let answered = async || (gateway.chat("m", "hello").await.status == 200).then_some(());
    until("an answer of the pool's pod", answered).await;
    assert!(!asked(&engine).is_empty());
    for (kind, name, at, condition) in [
        (GATEWAYS, "g", "/status/conditions", "Programmed"),
        (ROUTES, "r", "/status/parents/0/conditions", "Accepted"),
        (POOLS, "p", "/status/parents/0/conditions", "Accepted"),
    ] {
        let holds = async || {
            let object = api.get(kind, NAMESPACE, name).await;
            let conditions = object.pointer(at)?.as_array()?.clone();
            conditions.iter().any(|one| one["type"] == condition && one["status"] == "True").then_some(())
        };
        until(&format!("{condition} of {name}"), holds).await;
    }
}
