//! Signalbox as the controller of Gateways: manifests of the shape that guides have drive it, against a Kubernetes API of the
//! loopback.

use crate::cluster::*;
use crate::endpoint_picker::*;
use crate::harness::*;
use crate::kube_api::*;
use base64::Engine as _;
use serde_json::{Value, json};
use signalbox::sim::{Flavour, Sim, SimOptions, tls::Authority};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

#[tokio::test]
async fn the_guides_routes_send_each_decided_model_to_its_service() {
    let (api, llama, phi) = (KubeApi::start().await, sim("llama3-8b").await, sim("phi4-mini").await);
    apply(&api, fixture("gateway.yaml"));
    apply(&api, fixture("services.yaml"));
    api.put(SLICES, "default", slice("llama-8b", llama.addr()));
    api.put(SLICES, "default", slice("phi4-mini", phi.addr()));
    let gateway = gateway(&api).await;
    for (model, prompt, chosen) in [
        ("auto", LINUX, "llama3-8b"),
        ("auto", "2+2 is  ", "phi4-mini"),
        ("llama3-8b", "2+2 is  ", "llama3-8b"),
        ("phi4-mini", LINUX, "phi4-mini"),
    ] {
        let answer = gateway.chat(model, prompt).await;
        assert_eq!((answer.status, answer.header("x-vsr-selected-model")), (200, chosen), "{}", answer.text);
    }
    assert_eq!((asked(&llama).len(), asked(&phi).len()), (2, 2));
    // What a client says was selected is nobody's decision.
    let body = r#"{"model":"phi4-mini","messages":[{"role":"user","content":"hello"}],"max_tokens":4}"#;
    let forged = client().post(gateway.url(CHAT)).header("x-selected-model", "llama3-8b").body(body);
    assert_eq!(forged.send().await.unwrap().status(), 200);
    assert_eq!((asked(&llama).len(), asked(&phi).len()), (2, 3));
    let lost = gateway.chat("gpt-4o-mini", "hello").await;
    assert_eq!(
        (lost.status, lost.json()["error"]["code"].as_str()),
        (404, Some("no_route")),
        "{}",
        lost.text
    );
    for kind in ["Accepted", "ResolvedRefs"] {
        condition(&api, ROUTE, OF_PARENT, kind, kind).await;
    }
    let parent = api.get(ROUTES, "default", "vsr-llama8b")["status"]["parents"][0].clone();
    assert_eq!(parent["controllerName"], "signalbox.dev/gateway-controller");
    let written =
        json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "inference-gateway"});
    assert_eq!(parent["parentRef"], written);
    let of_gateway = (GATEWAYS, "default", "inference-gateway");
    condition(&api, of_gateway, "/status/conditions", "Programmed", "Programmed").await;
    condition(&api, of_gateway, "/status/listeners/0/conditions", "Accepted", "Accepted").await;
    condition(&api, (CLASSES, "", "istio"), "/status/conditions", "Accepted", "Accepted").await;
    let attached = async || {
        (api.get(GATEWAYS, "default", "inference-gateway")["status"]["listeners"][0]["attachedRoutes"] == 2)
            .then_some(())
    };
    until("two routes at the listener", attached).await;
}

#[tokio::test]
async fn an_inference_pool_without_a_picker_has_the_embedded_one_and_one_with_a_picker_is_asked() {
    let (api, llama, phi) = (KubeApi::start().await, sim("llama3-8b").await, sim("phi4-mini").await);
    let other = sim("llama3-8b").await;
    let picker = EndpointPicker::start(Script::Light(vec![llama.addr()])).await;
    apply(&api, fixture("gateway.yaml"));
    for mut object in fixture("pools.yaml") {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        match (object["kind"].as_str().unwrap(), &*name) {
            ("InferencePool", "vllm-llama3-8b-instruct") => {
                object["spec"]["targetPorts"] =
                    json!([{"number": llama.addr().port()}, {"number": other.addr().port()}]);
                object["spec"]["endpointPickerRef"]["port"]["number"] = picker.addr.port().into();
            }
            ("InferencePool", _) => object["spec"]["targetPorts"][0]["number"] = phi.addr().port().into(),
            ("Service", _) => object["spec"]["clusterIP"] = "127.0.0.1".into(),
            _ => {}
        }
        apply(&api, [object]);
    }
    // The tests' picker has no TLS; Istio's rule for it says so.
    let rule = json!({"kind": "DestinationRule", "metadata": {"name": "epp"}, "spec": {
        "host": "vllm-llama3-8b-instruct-epp", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}});
    apply(&api, [rule]);
    let with_label = |name: &str, label: &str, addr: SocketAddr| {
        let mut pod = pod(name, addr, true);
        pod["metadata"]["labels"]["app"] = label.into();
        pod
    };
    api.put(PODS, "default", with_label("llama", "vllm-llama3-8b-instruct", llama.addr()));
    api.put(PODS, "default", with_label("phi", "phi4-mini", phi.addr()));
    let gateway = gateway(&api).await;
    for _ in 0..3 {
        assert_eq!(gateway.chat("llama3-8b", LINUX).await.status, 200);
    }
    assert_eq!((asked(&llama).len(), asked(&other).len(), picker.heard().len()), (3, 0, 3));
    assert_eq!(gateway.chat("phi4-mini", LINUX).await.status, 200);
    assert_eq!((asked(&phi).len(), picker.heard().len()), (1, 3));
    for name in ["vllm-llama3-8b-instruct", "vllm-phi4-mini"] {
        for kind in ["Accepted", "ResolvedRefs"] {
            condition(&api, (POOLS, "default", name), OF_PARENT, kind, kind).await;
        }
    }
    let parent = &api.get(POOLS, "default", "vllm-phi4-mini")["status"]["parents"][0]["parentRef"].clone();
    assert_eq!((&parent["namespace"], &parent["name"]), (&json!("default"), &json!("inference-gateway")));
    // A pool that no route leads to has no parent any more.
    api.delete(ROUTES, "default", "vsr-phi4-mini");
    let is_left = async || {
        let parents = api.get(POOLS, "default", "vllm-phi4-mini")["status"]["parents"].clone();
        parents.as_array().is_some_and(Vec::is_empty).then_some(())
    };
    until("a pool without parents", is_left).await;
    answers(&gateway, "phi4-mini", 404).await;
    // Without its Service the picker cannot be found, and the pool fails closed.
    drop(picker);
    api.delete(SERVICES, "default", "vllm-llama3-8b-instruct-epp");
    let of_llama = (POOLS, "default", "vllm-llama3-8b-instruct");
    condition(&api, of_llama, OF_PARENT, "ResolvedRefs", "InvalidExtensionRef").await;
    let refused = gateway.chat("llama3-8b", LINUX).await.status;
    assert!((500..=503).contains(&refused), "{refused}");
}

#[tokio::test]
async fn routes_are_followed_hot_through_lost_watches_and_expired_versions() {
    let (mut api, first, second) = (KubeApi::start().await, sim("llama3-8b").await, sim("llama3-8b").await);
    apply(&api, fixture("gateway.yaml"));
    apply(&api, fixture("services.yaml"));
    api.put(SLICES, "default", slice("llama-8b", first.addr()));
    let gateway = gateway(&api).await;
    assert_eq!(gateway.chat("llama3-8b", LINUX).await.status, 200);
    api.put(SLICES, "default", slice("phi4-mini", second.addr()));
    // Which of two watches hears first is anybody's guess.
    let is_known = async || {
        let pools = gateway.admin("/readyz").await.json()["pools"].take();
        let is_it = |pool: &&Value| pool["name"].as_str().is_some_and(|name| name.contains("phi4-mini"));
        pools.as_array().unwrap().iter().find(is_it).filter(|pool| pool["endpoints"] == 1).map(|_| ())
    };
    until("the other Service's endpoint", is_known).await;
    let mut route = fixture("services.yaml").remove(2);
    route["spec"]["rules"][0]["backendRefs"][0]["name"] = "phi4-mini".into();
    apply(&api, [route.clone()]);
    let at_second = async || {
        assert_eq!(gateway.chat("llama3-8b", LINUX).await.status, 200);
        (!asked(&second).is_empty()).then_some(())
    };
    until("requests at the other Service", at_second).await;
    // The data plane serves on without the API server, and learns what happened meanwhile.
    api.stop().await;
    let is_faulty = async || (!routes(&gateway).await["faults"].is_null()).then_some(());
    until("a fault of the watches", is_faulty).await;
    assert_eq!(gateway.chat("llama3-8b", LINUX).await.status, 200);
    route["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] = "nobody".into();
    apply(&api, [route]);
    api.expire();
    api.resume().await;
    answers(&gateway, "llama3-8b", 404).await;
    // Edits of the policy leave the routes as they are.
    let policy = std::fs::read_to_string(&gateway.policy).unwrap();
    gateway.rewrite(&format!("{policy}\n# edited\n"));
    gateway.rewrite(&policy.replace("version: 1", "version: 1\nretry: {attempts: 2}"));
    gateway.counts("signalbox_policy_reloads_total", &["result=\"success\""], 1.0).await;
    assert_eq!(gateway.chat("llama3-8b", LINUX).await.status, 404);
    apply(&api, fixture("services.yaml"));
    answers(&gateway, "llama3-8b", 200).await;
}

#[tokio::test]
async fn a_model_outside_the_cluster_gets_the_host_and_the_key_that_its_route_sets() {
    let api = KubeApi::start().await;
    let authority = Authority::new("test");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let options = SimOptions {
        models: vec!["gpt-4o-mini".to_owned()],
        api_key: Some("sk-from-the-route".to_owned()),
        flavour: Flavour::OpenAi,
        ..SimOptions::default()
    };
    let openai = Sim::start(options, listener, Some(authority.server_config(&["localhost"]))).await;
    apply(&api, fixture("gateway.yaml"));
    for mut object in fixture("openai.yaml") {
        let port = openai.addr().port();
        match object["kind"].as_str().unwrap() {
            "Service" => {
                object["spec"]["externalName"] = "localhost".into();
                object["spec"]["ports"][0]["port"] = port.into();
            }
            "ServiceEntry" => object["spec"]["hosts"][0] = "localhost".into(),
            "DestinationRule" => object["spec"]["host"] = "localhost".into(),
            _ => object["spec"]["rules"][0]["backendRefs"][0]["port"] = port.into(),
        }
        apply(&api, [object]);
    }
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.ca_pem()).unwrap();
    let launch = launch(&api).variable("SSL_CERT_FILE", ca.display().to_string());
    let closed = follows(launch).await;
    let refused = closed.chat("gpt-4o-mini", "hello").await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (500, Some("invalid_backend")));
    let of_route = (ROUTES, "default", "vsr-openai-g4");
    condition(&api, of_route, OF_PARENT, "ResolvedRefs", "UnsupportedProtocol").await;
    drop(closed);
    let launch =
        crate::cluster::launch(&api).server(format!("{SERVER}gateway_api: {{external_names: true}}\n"));
    let gateway = follows(launch.variable("SSL_CERT_FILE", ca.display().to_string())).await;
    let answer = gateway.chat("gpt-4o-mini", "hello").await;
    assert_eq!(answer.status, 200, "{} {}", answer.text, gateway.stderr());
    let seen = &asked(&openai)[0];
    assert_eq!(seen.headers["authorization"], "Bearer sk-from-the-route");
    assert!(!(gateway.stdout() + &gateway.stderr()).contains("sk-from-the-route"));
    condition(&api, of_route, OF_PARENT, "ResolvedRefs", "ResolvedRefs").await;
}

/// The route of the first model, changed.
fn route_with(change: impl FnOnce(&mut Value)) -> Value {
    let mut route = fixture("services.yaml").remove(2);
    change(&mut route["spec"]["rules"][0]);
    route
}

/// Posts a chat for the first model and gives the answer with its status, redirects not followed.
async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let body = r#"{"model":"llama3-8b","messages":[{"role":"user","content":"hello"}],"max_tokens":4}"#;
    let request = client.post(gateway.url(path)).header("content-type", "application/json").body(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn filters_change_requests_and_answers_and_redirects_are_answered_here() {
    let api = KubeApi::start().await;
    let [llama, _phi] = services(&api).await;
    apply(
        &api,
        [route_with(|rule| {
            rule["filters"] = json!([
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "set": [{"name": "X-Set", "value": "new"}], "add": [{"name": "X-Add", "value": "more"}], "remove": ["x-gone"]}},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {
                    "set": [{"name": "X-Answer", "value": "set"}], "remove": ["x-inference-pod"]}},
                {"type": "URLRewrite", "urlRewrite": {"hostname": "inner.example"}},
            ]);
            rule["backendRefs"][0]["filters"] = json!([{"type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": "x-backend", "value": "llama"}]}}]);
        })],
    );
    let gateway = gateway(&api).await;
    let answer = post(&gateway, CHAT, &[("x-set", "old"), ("x-add", "one"), ("x-gone", "1")]).await;
    assert_eq!(
        (answer.status, answer.header("x-answer"), answer.header("x-inference-pod")),
        (200, "set", "")
    );
    let seen = &asked(&llama)[0].headers;
    assert_eq!(
        (&seen["x-set"], &seen["host"], &seen["x-backend"]),
        (&"new".parse().unwrap(), &"inner.example".parse().unwrap(), &"llama".parse().unwrap())
    );
    let added: Vec<_> = seen.get_all("x-add").iter().collect();
    assert_eq!(added, ["one", "more"]);
    assert!(!seen.contains_key("x-gone"));
    // Another match decides by the method, the query and a header, and the most specific wins.
    apply(
        &api,
        [route_with(|rule| {
            let mut special = rule["matches"][0].clone();
            special["headers"] = json!([special["headers"][0], {"name": "x-tier", "type": "RegularExpression", "value": "gold|silver"}]);
            special["queryParams"] = json!([{"name": "v", "value": "2"}]);
            special["method"] = "POST".into();
            rule["matches"] = json!([special]);
            rule["backendRefs"] = json!([]);
            rule["filters"] = json!([{"type": "RequestRedirect", "requestRedirect": {
                "hostname": "other.example", "scheme": "https", "statusCode": 307,
                "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}}}]);
        })],
    );
    let redirected = async || {
        let answer = post(&gateway, &format!("{CHAT}?v=2"), &[("x-tier", "gold")]).await;
        (answer.status == 307).then_some(answer)
    };
    let answer = until("a redirect", redirected).await;
    assert_eq!(answer.header("location"), "https://other.example/new/v1/chat/completions?v=2");
    for (path, tier) in
        [(CHAT, "gold"), ("/v1/chat/completions?v=2", "bronze"), ("/v1/chat/completions?v=3", "gold")]
    {
        assert_eq!(post(&gateway, path, &[("x-tier", tier)]).await.status, 404, "{path} {tier}");
    }
}

#[tokio::test]
async fn backends_share_by_weight_and_timeouts_end_what_takes_too_long() {
    let api = KubeApi::start().await;
    let [llama, _phi] = services(&api).await;
    let canary = sim("llama3-8b").await;
    api.put(SLICES, "default", slice("phi4-mini", canary.addr()));
    apply(
        &api,
        [route_with(|rule| {
            rule["backendRefs"] = json!([
                {"name": "llama-8b", "port": 80, "weight": 3},
                {"name": "phi4-mini", "port": 80, "weight": 1},
                {"name": "none", "port": 80, "weight": 0},
            ]);
        })],
    );
    let gateway = gateway(&api).await;
    for _ in 0..80 {
        assert_eq!(post(&gateway, CHAT, &[]).await.status, 200);
    }
    let (most, least) = (asked(&llama).len(), asked(&canary).len());
    // Of 80 about 60: so far off once in a million runs.
    assert!(most + least == 80 && (38..=77).contains(&most), "{most} {least}");
    condition(&api, ROUTE, OF_PARENT, "ResolvedRefs", "BackendNotFound").await;
    let slow =
        sim_with("llama3-8b", |options| options.latency.ttft = std::time::Duration::from_secs(30)).await;
    api.put(SLICES, "default", slice("llama-8b", slow.addr()));
    apply(&api, [route_with(|rule| rule["timeouts"] = json!({"request": "300ms"}))]);
    condition(&api, ROUTE, OF_PARENT, "ResolvedRefs", "ResolvedRefs").await;
    let late = async || (post(&gateway, CHAT, &[]).await.status == 504).then_some(());
    until("a timeout", late).await;
}

#[tokio::test]
async fn one_replica_writes_states_and_another_takes_over() {
    let api = KubeApi::start().await;
    let _sims = services(&api).await;
    let first = gateway(&api).await;
    let writes = async |gateway: &Gateway| (routes(gateway).await["writes_status"] == true).then_some(());
    until("the first replica to write", async || writes(&first).await).await;
    let holder = api.get(LEASES, NAMESPACE, "signalbox-gateway")["spec"]["holderIdentity"].clone();
    let second = gateway(&api).await;
    condition(&api, ROUTE, OF_PARENT, "Accepted", "Accepted").await;
    assert_eq!(routes(&second).await["writes_status"], false);
    assert_eq!(second.chat("llama3-8b", LINUX).await.status, 200, "every replica routes");
    // States that are right are not written again, whatever else changes.
    let states = || api.writes().iter().filter(|(_, path, _)| path.ends_with("/status")).count();
    let before = states();
    api.put(SLICES, "default", slice("other", ([127, 0, 0, 1], 9).into()));
    drop(first);
    until("the second replica to write", async || writes(&second).await).await;
    assert_ne!(api.get(LEASES, NAMESPACE, "signalbox-gateway")["spec"]["holderIdentity"], holder);
    assert_eq!(states(), before);
    apply(&api, [route_with(|rule| rule["backendRefs"][0]["name"] = "none".into())]);
    condition(&api, ROUTE, OF_PARENT, "ResolvedRefs", "BackendNotFound").await;
}

#[tokio::test]
async fn mirrors_get_copies_and_what_a_route_lists_is_tried_again() {
    let api = KubeApi::start().await;
    let [llama, _phi] = services(&api).await;
    let mirror = sim("llama3-8b").await;
    api.put(SLICES, "default", slice("phi4-mini", mirror.addr()));
    apply(
        &api,
        [route_with(|rule| {
            rule["filters"] = json!([{"type": "RequestMirror", "requestMirror": {
                "backendRef": {"name": "phi4-mini", "port": 80}, "percent": 100}},
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-set", "value": "new"}]}}]);
            rule["backendRefs"][0]["filters"] = json!([{"type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": "x-backend", "value": "own"}]}}]);
        })],
    );
    let gateway = gateway(&api).await;
    let headers = [("x-client", "mine"), ("authorization", "Bearer sk-mine"), ("x-selected-model", "forged")];
    assert_eq!(post(&gateway, CHAT, &headers).await.status, 200);
    until("a copy at the mirror", async || (asked(&mirror).len() == 1).then_some(())).await;
    let copy = &asked(&mirror)[0].headers;
    for (name, value) in [("x-client", "mine"), ("x-set", "new")] {
        assert_eq!(copy[name], value, "{copy:?}");
    }
    for name in ["authorization", "x-selected-model", "x-backend"] {
        assert!(!copy.contains_key(name), "{name}: {copy:?}");
    }
    assert_eq!(asked(&llama).len(), 1, "the answer is the backend's");
    // 418 is worth another try to nobody but this route.
    let teapot =
        sim_with("llama3-8b", |options| options.faults = faults(|faults| faults.status = Some(418))).await;
    api.put(SLICES, "default", slice("llama-8b", teapot.addr()));
    apply(
        &api,
        [route_with(|rule| {
            rule["backendRefs"] = json!([
                {"name": "llama-8b", "port": 80, "weight": 1_000_000}, {"name": "phi4-mini", "port": 80, "weight": 1}]);
        })],
    );
    let is_teapot = async || (post(&gateway, CHAT, &[]).await.status == 418).then_some(());
    until("the backend's own error", is_teapot).await;
    apply(
        &api,
        [route_with(|rule| {
            rule["backendRefs"] = json!([
                {"name": "llama-8b", "port": 80, "weight": 1_000_000}, {"name": "phi4-mini", "port": 80, "weight": 1}]);
            rule["retry"] = json!({"codes": [418], "attempts": 1});
        })],
    );
    let before = asked(&teapot).len();
    let is_retried = async || (post(&gateway, CHAT, &[]).await.status == 200).then_some(());
    until("an answer of the other backend", is_retried).await;
    assert!(asked(&teapot).len() > before);
}

#[tokio::test]
async fn the_names_of_models_in_a_pool_are_rewritten_as_its_objects_say() {
    let (api, base) = (KubeApi::start().await, sim("base").await);
    pool_of(&api, base.addr());
    let rewrite = json!({"kind": "InferenceModelRewrite", "metadata": {"name": "w"}, "spec": {
        "poolRef": {"name": "vllm-phi4-mini"},
        "rules": [{"matches": [{"model": {"type": "Exact", "value": "phi4-mini"}}], "targets": [{"modelRewrite": "base"}]}]}});
    apply(&api, [rewrite]);
    let gateway = gateway(&api).await;
    let answer = gateway.chat("phi4-mini", "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body: Value = serde_json::from_slice(&asked(&base)[0].body).unwrap();
    assert_eq!(body["model"], "base");
    condition(&api, (REWRITES, "default", "w"), "/status/conditions", "Accepted", "Accepted").await;
}

#[tokio::test]
async fn listeners_with_tls_have_the_certificates_of_secrets_by_name_and_hot() {
    let api = KubeApi::start().await;
    let _sims = services(&api).await;
    let (first, second, own) = (Authority::new("first"), Authority::new("second"), Authority::new("own"));
    let secret = |authority: &Authority, name: &str| {
        let (cert, key) = authority.cert_pem(&[name]);
        let encoded = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
        json!({"metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "data": {"tls.crt": encoded(cert), "tls.key": encoded(key)}})
    };
    let mut gateway_object = fixture("gateway.yaml").remove(1);
    gateway_object["spec"]["listeners"].as_array_mut().unwrap().push(json!({
        "name": "https", "protocol": "HTTPS", "port": 443, "hostname": "a.example",
        "tls": {"certificateRefs": [{"name": "tls"}]}, "allowedRoutes": {"namespaces": {"from": "All"}}}));
    apply(&api, [gateway_object]);
    let launch = launch(&api);
    let (cert, key) = own.cert_pem(&["b.example"]);
    std::fs::write(launch.folder().join("cert.pem"), cert).unwrap();
    std::fs::write(launch.folder().join("key.pem"), key).unwrap();
    let server = "drain: {delay: 0s, timeout: 10s}\nlisteners:\n  - {address: \"127.0.0.1:0\", public_port: 443, \
                  tls: {cert_file: cert.pem, key_file: key.pem}}\n  - {address: \"127.0.0.1:0\", public_port: 80}\n";
    let gateway = follows(launch.server(server)).await;
    let of_gateway = (GATEWAYS, "default", "inference-gateway");
    let at = "/status/listeners/1/conditions";
    condition(&api, of_gateway, at, "ResolvedRefs", "InvalidCertificateRef").await;
    let get = async |authority: &Authority, host: &str| {
        let ca = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy();
        let client = client.resolve(host, gateway.addr).build().unwrap();
        let body = r#"{"model":"llama3-8b","messages":[{"role":"user","content":"hello"}],"max_tokens":4}"#;
        let url = format!("https://{host}:{}{CHAT}", gateway.addr.port());
        client.post(url).body(body).send().await.ok().map(|answer| answer.status().as_u16())
    };
    for authority in [&first, &second] {
        api.put(SECRETS, "default", secret(authority, "a.example"));
        let is_new = async || (get(authority, "a.example").await == Some(200)).then_some(());
        until("the Secret's certificate", is_new).await;
    }
    assert_eq!(get(&first, "a.example").await, None, "the one before is shown no more");
    assert_eq!(
        get(&own, "b.example").await,
        Some(404),
        "the file's certificate, and no listener of that host"
    );
    condition(&api, of_gateway, at, "Programmed", "Programmed").await;
    let asked = api.asked();
    let one_secret =
        |asked: &String| !asked.contains("/secrets") || asked.contains("fieldSelector=metadata.name%3Dtls");
    assert!(asked.iter().all(one_secret), "of Secrets only the one that is named is read");
}

#[tokio::test]
async fn a_replica_starts_from_its_last_known_state_without_the_api_server() {
    let mut api = KubeApi::start().await;
    let [llama, _phi] = services(&api).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.json");
    let server = format!("{SERVER}gateway_api: {{state_file: {}}}\n", file.display());
    let first = follows(launch(&api).server(server.clone())).await;
    assert_eq!(first.chat("llama3-8b", LINUX).await.status, 200);
    let is_written = async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.contains(&llama.addr().to_string()).then_some(())
    };
    until("the state on disk", is_written).await;
    drop(first);
    api.stop().await;
    let lost = launch(&api).start().await;
    let answer = lost.admin("/readyz").await;
    assert_eq!(
        (answer.status, &answer.json()["routes"]["from"]),
        (503, &json!("nowhere")),
        "it knows no routes"
    );
    assert_eq!(lost.chat("llama3-8b", LINUX).await.status, 404);
    drop(lost);
    let second = launch(&api).server(server).start().await;
    let is_there = async || (routes(&second).await["from"] == "state_file").then_some(());
    until("the routes of the file", is_there).await;
    let is_told = async || routes(&second).await["faults"].is_array().then_some(());
    until("what may be out of date", is_told).await;
    assert_eq!(second.admin("/readyz").await.status, 200);
    assert_eq!(second.chat("llama3-8b", LINUX).await.status, 200);
    api.delete(ROUTES, "default", "vsr-llama8b");
    api.resume().await;
    let is_current = async || (routes(&second).await["from"] == "cluster").then_some(());
    until("the routes of the cluster", is_current).await;
    answers(&second, "llama3-8b", 404).await;
}
