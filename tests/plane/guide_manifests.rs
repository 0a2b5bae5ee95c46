//! The guides' own manifests, unchanged, and vLLM Semantic Router's own configuration as the policy: what each of the guides'
//! requests is answered by.

use crate::cluster::*;
use crate::endpoint_picker::*;
use crate::harness::*;
use crate::kube_api::*;
use serde_json::{Value, json};
use signalbox::sim::{Flavour, Sim, SimOptions, tls::Authority};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;

/// A guide's file, where the guides lie beside the repository.
#[expect(clippy::print_stderr, reason = "what is not tested is to be seen in the test's output")]
fn guide(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/configs").join(name);
    if !file.exists() {
        eprintln!("skipped: {} is not here", file.display());
        return None;
    }
    Some(file)
}

/// The objects of a guide's files, as an API server gives them: with the namespace that `kubectl` adds.
fn objects(names: &[&str]) -> Option<Vec<Value>> {
    let files = names.iter().map(|name| guide(name)).collect::<Option<Vec<_>>>()?;
    Some(files.iter().flat_map(|file| manifests(file)).collect())
}

/// A configuration of vLLM Semantic Router as a ConfigMap holds it, mounted beside the controller.
fn launch_with(api: &KubeApi, config: &str, server: &str) -> Launch {
    let launch = Launch::new(config);
    let tools = guide("vsr-istio/tools_db.json").unwrap();
    std::fs::copy(tools, launch.folder().join("tools_db.json")).unwrap();
    let kubeconfig = api.kubeconfig(launch.folder()).display().to_string();
    launch.server(server).variable("KUBECONFIG", kubeconfig).argument("--gateway-api")
}

fn class() -> Value {
    fixture("gateway.yaml").remove(0)
}

/// An address of the loopback that no other test has: a guide's ports are what they are.
fn own_address() -> IpAddr {
    let [a, b, c] = [(); 3].map(|()| rand::random_range(1..=254));
    Ipv4Addr::new(127, a, b, c).into()
}

async fn sim_at(addr: SocketAddr, model: &str) -> Sim {
    let options =
        SimOptions { models: vec![model.to_owned()], default_max_tokens: 8, ..SimOptions::default() };
    Sim::start(options, TcpListener::bind(addr).await.unwrap(), None).await
}

/// Sends what the guides tell their readers to type, and holds the answer to who is to give it.
async fn curl(gateway: &Gateway, model: &str, prompt: &str, chosen: &str) {
    let body = json!({"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 100, "temperature": 0});
    let answer = gateway.post(CHAT, body.to_string()).await;
    assert_eq!(answer.status, 200, "{} {}", answer.text, gateway.stderr());
    assert_eq!(answer.header("x-vsr-selected-model"), chosen, "{model}: {prompt}");
}

#[tokio::test]
async fn the_istio_guides_files_and_its_config_map_answer_its_curls() {
    let Some(objects) = objects(&[
        "vsr-istio/gateway.yaml",
        "vsr-istio/destinationrule.yaml",
        "vsr-istio/envoyfilter.yaml",
        "vsr-istio/httproute-llama3-8b.yaml",
        "vsr-istio/httproute-phi4-mini.yaml",
        "vsr-istio/vLlama3.yaml",
        "vsr-istio/vPhi4.yaml",
    ]) else {
        return;
    };
    let api = KubeApi::start().await;
    let (llama, phi) = (sim("llama3-8b").await, sim("phi4-mini").await);
    apply(&api, objects.into_iter().chain([class()]));
    for (service, port, addr) in
        [("llama-8b", "http-llama-8b", llama.addr()), ("phi4-mini", "http-phi4-mini", phi.addr())]
    {
        let mut slice = slice(service, addr);
        slice["ports"][0]["name"] = port.into();
        api.put(SLICES, "default", slice);
    }
    let config = std::fs::read_to_string(guide("vsr-istio/config.yaml").unwrap()).unwrap();
    let gateway = follows(launch_with(&api, &config, SERVER)).await;
    curl(&gateway, "llama3-8b", LINUX, "llama3-8b").await;
    curl(&gateway, "auto", LINUX, "llama3-8b").await;
    curl(&gateway, "phi4-mini", "2+2 is  ", "phi4-mini").await;
    curl(&gateway, "auto", "2+2 is  ", "phi4-mini").await;
    assert_eq!((asked(&llama).len(), asked(&phi).len()), (2, 2));
    for route in ["vsr-llama8b", "vsr-phi4-mini"] {
        for kind in ["Accepted", "ResolvedRefs"] {
            condition(&api, (ROUTES, "default", route), OF_PARENT, kind, kind).await;
        }
    }
    // The kubelet swaps a ConfigMap's file; the routes stay as they are.
    gateway.rewrite(&config.replace("- model: phi4-mini", "- model: llama3-8b"));
    let turned = async || {
        let answer = gateway.chat("auto", "2+2 is  ").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        (answer.header("x-vsr-selected-model") == "llama3-8b").then_some(())
    };
    until("the other decision", turned).await;
}

#[tokio::test]
async fn the_guide_with_llm_d_and_openai_answers_by_its_pickers_and_its_key() {
    let Some(objects) = objects(&[
        "vsr-istio/gateway.yaml",
        "vsr-llmd/inferencepool-llama.yaml",
        "vsr-llmd/httproute-llama-pool.yaml",
        "vsr-llmd/dest-rule-epp-llama.yaml",
        "vsr-openai/svc-openai.yaml",
        "vsr-openai/svc-entry-openai.yaml",
        "vsr-openai/dest-rule-openai.yaml",
    ]) else {
        return;
    };
    let api = KubeApi::start().await;
    let [first, second] = [own_address(), own_address()].map(|ip| SocketAddr::new(ip, 8000));
    let llamas = [sim_at(first, "llama3-8b").await, sim_at(second, "llama3-8b").await];
    let picker_address = SocketAddr::new(own_address(), 9002);
    let tls = Authority::new("epp").server_config(&["epp"]);
    let mut tls = rustls::ServerConfig::clone(&tls);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind(picker_address).await.unwrap();
    let picker = EndpointPicker::start_on(listener, Script::Light(vec![second]), Some(tls.into()));
    let authority = Authority::new("test");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let options = SimOptions {
        models: vec!["gpt-4o-mini".to_owned()],
        api_key: Some("sk-right".to_owned()),
        flavour: Flavour::OpenAi,
        ..SimOptions::default()
    };
    let openai = Sim::start(options, listener, Some(authority.server_config(&["localhost"]))).await;
    // The guide's template, as its `sed` fills it in; and of OpenAI another address, for the internet is not here.
    let template = std::fs::read_to_string(guide("vsr-openai/httproute-openai.template").unwrap()).unwrap();
    let route = signalbox::policy::manifests(&template.replace("{{OPENAI_API_KEY}}", "sk-right")).unwrap();
    let elsewhere = |object: Value| {
        let (host, port) = ("localhost", openai.addr().port().to_string());
        let text = object.to_string().replace("\"host\":\"api.openai.com\"", &format!("\"host\":\"{host}\""));
        let text = text.replace("\"hosts\":[\"api.openai.com\"]", &format!("\"hosts\":[\"{host}\"]"));
        let text =
            text.replace("\"externalName\":\"api.openai.com\"", &format!("\"externalName\":\"{host}\""));
        serde_json::from_str::<Value>(&text.replace(":443", &format!(":{port}"))).unwrap()
    };
    let mut objects: Vec<Value> = objects.into_iter().chain(route).map(elsewhere).chain([class()]).collect();
    for object in &mut objects {
        if object["kind"] == "Service" && object["metadata"]["name"] == "vllm-llama3-8b-instruct-epp" {
            // As the API server gives it.
            object["spec"]["clusterIP"] = picker_address.ip().to_string().into();
        }
    }
    apply(&api, objects);
    for (name, addr) in [("llama-a", first), ("llama-b", second)] {
        let mut pod = pod(name, addr, true);
        pod["metadata"]["labels"]["app"] = "vllm-llama3-8b-instruct".into();
        api.put(PODS, "default", pod);
    }
    let config = std::fs::read_to_string(guide("vsr-openai/config.yaml.openai").unwrap()).unwrap();
    let server = format!("{SERVER}gateway_api: {{external_names: true}}\n");
    let launch = launch_with(&api, &config, &server);
    let ca = launch.folder().join("ca.pem");
    std::fs::write(&ca, authority.ca_pem()).unwrap();
    let gateway = follows(launch.variable("SSL_CERT_FILE", ca.display().to_string())).await;
    curl(&gateway, "llama3-8b", LINUX, "llama3-8b").await;
    curl(&gateway, "auto", LINUX, "llama3-8b").await;
    curl(&gateway, "gpt-4o-mini", "2+2 is  ", "gpt-4o-mini").await;
    curl(&gateway, "auto", "2+2 is  ", "gpt-4o-mini").await;
    assert_eq!((asked(&llamas[0]).len(), asked(&llamas[1]).len()), (0, 2), "those that the picker named");
    assert_eq!(picker.heard().len(), 2);
    assert_eq!(asked(&openai).len(), 2);
    assert!(asked(&openai).iter().all(|seen| seen.headers["authorization"] == "Bearer sk-right"));
    for kind in ["Accepted", "ResolvedRefs"] {
        condition(&api, (POOLS, "default", "vllm-llama3-8b-instruct"), OF_PARENT, kind, kind).await;
        condition(&api, (ROUTES, "default", "vsr-openai-g4"), OF_PARENT, kind, kind).await;
    }
}

#[tokio::test]
async fn what_would_be_taken_of_a_guides_folder_is_said_before_anything_is_applied() {
    let Some(gateway) = guide("vsr-istio/gateway.yaml") else { return };
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "gateway",
        "destinationrule",
        "envoyfilter",
        "httproute-llama3-8b",
        "httproute-phi4-mini",
        "vLlama3",
        "vPhi4",
    ] {
        let from = gateway.with_file_name(format!("{file}.yaml"));
        std::fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    let config = gateway.with_file_name("config.yaml");
    let map = std::fs::read_to_string(&config).unwrap().replace('\n', "\n    ");
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: semantic-router-config}}\ndata:\n  config.yaml: |\n    {map}"
    );
    std::fs::write(folder.path().join("configmap.yaml"), map).unwrap();
    std::fs::copy("tests/import/intelligent.yaml", folder.path().join("objects.yaml")).unwrap();
    let path = folder.path().to_str().unwrap();
    let judged =
        command(&["check", config.to_str().unwrap(), "--cluster", path, "--gateway-class", "istio"], "");
    let said = printed(&judged.stdout);
    assert!(judged.status.success(), "{said}{}", printed(&judged.stderr));
    for line in [
        "Gateway default/inference-gateway: Accepted",
        "HTTPRoute default/vsr-llama8b: Gateway default/inference-gateway: Accepted",
        "HTTPRoute default/vsr-phi4-mini: Gateway default/inference-gateway: ResolvedRefs",
        "EnvoyFilter semantic-router: not read",
        "ConfigMap semantic-router-config data.config.yaml: a policy",
        "IntelligentRoute routes: a policy",
        "config.yaml: ok (2 models",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
}

/// An object of the fixture with vLLM Semantic Router's kinds.
fn routing_objects() -> [Value; 2] {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/intelligent.yaml");
    manifests(&file).try_into().unwrap()
}

#[tokio::test]
async fn a_pool_and_a_route_of_vllm_semantic_router_are_followed_hot() {
    let small = sim_with("small", |options| options.models.push("sql".to_owned())).await;
    let large = sim("large").await;
    let mut api = KubeApi::start().await;
    let [pool, mut route] = routing_objects();
    api.put(INTELLIGENT_POOLS, NAMESPACE, pool);
    api.put(INTELLIGENT_ROUTES, NAMESPACE, route.clone());
    let config = format!(
        "version: v0.3\nproviders:\n  models:\n    - {{name: small, backend_refs: [{{name: a, endpoint: \"{}\"}}]}}\n    \
         - {{name: large, backend_refs: [{{name: a, endpoint: \"{}\"}}]}}\nrouting: {{}}\nglobal: {{router: {{config_source: kubernetes}}}}\n",
        small.addr(),
        large.addr()
    );
    let launch = Launch::new(config);
    let kubeconfig = api.kubeconfig(launch.folder()).display().to_string();
    let gateway = launch.variable("KUBECONFIG", kubeconfig).start().await;
    let urgent = "Urgent now: what is the derivative of x^3 + 2x^2?";
    let answer = gateway.chat("auto", urgent).await;
    assert_eq!(
        (answer.status, answer.header("x-vsr-selected-decision")),
        (200, "numbers"),
        "{}",
        answer.text
    );
    assert_eq!(gateway.chat("auto", "hello").await.header("x-vsr-selected-model"), "small", "the default");
    // An edit of the route holds at once, one that cannot be changes nothing and is told.
    route["spec"]["decisions"][0]["modelRefs"] = json!([{"model": "large"}]);
    api.put(INTELLIGENT_ROUTES, NAMESPACE, route.clone());
    let at_large =
        async || (gateway.chat("auto", urgent).await.header("x-vsr-selected-model") == "large").then_some(());
    until("the route's other model", at_large).await;
    let mut second = route.clone();
    second["metadata"]["name"] = "second".into();
    api.put(INTELLIGENT_ROUTES, NAMESPACE, second);
    gateway.counts("signalbox_policy_reloads_total", &["result=\"failure\""], 1.0).await;
    assert!(gateway.stderr().contains("more than one configuration"), "{}", gateway.stderr());
    assert_eq!(gateway.chat("auto", urgent).await.header("x-vsr-selected-model"), "large");
    api.delete(INTELLIGENT_ROUTES, NAMESPACE, "second");
    gateway.counts("signalbox_policy_reloads_total", &["result=\"success\""], 1.0).await;
    // What is known stays while the API server is away.
    api.stop().await;
    assert_eq!(gateway.chat("auto", urgent).await.header("x-vsr-selected-model"), "large");
    let config = std::fs::read_to_string(&gateway.policy).unwrap();
    gateway.rewrite(&config.replace("routing: {}", "routing: {strategy: confidence}"));
    gateway.counts("signalbox_policy_reloads_total", &["result=\"success\""], 2.0).await;
    assert_eq!(gateway.chat("auto", urgent).await.header("x-vsr-selected-model"), "large");
}

#[tokio::test]
async fn without_their_objects_a_configuration_that_leaves_its_decisions_to_them_does_not_start() {
    let api = KubeApi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, "config_source: kubernetes\nprompt_guard: {enabled: false}\n").unwrap();
    let kubeconfig = api.kubeconfig(folder.path());
    let run = move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_signalbox"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--policy"]).arg(policy);
        command.env("KUBECONFIG", kubeconfig).output().unwrap()
    };
    let ended = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        printed(&ended.stderr).contains("an IntelligentPool and an IntelligentRoute"),
        "{}",
        printed(&ended.stderr)
    );
}
