//! Pools whose endpoints another process picks, by the endpoint-picker protocol of the Gateway API inference extension.

use crate::endpoint_picker::*;
use crate::harness::*;
use crate::raw::*;
use serde_json::json;
use signalbox::sim::{Sim, SimOptions};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const NOTHING: (&str, &str) = ("\u{0}", "");

async fn replicas() -> [Sim; 3] {
    [0, 1, 2]
        .map(|number| sim_with("m", move |options| options.pod = format!("pod-{number}")))
        .into_iter()
        .collect::<futures::future::JoinAll<_>>()
        .await
        .try_into()
        .ok()
        .unwrap()
}

fn addresses(sims: &[Sim]) -> Vec<SocketAddr> {
    sims.iter().map(Sim::addr).collect()
}

/// A policy of one pool over these endpoints, whose picker is at `picker`.
fn policy(endpoints: &[SocketAddr], picker: SocketAddr, more: &str) -> String {
    let external = format!("{{address: \"{picker}\"{more}}}");
    policy_of(endpoints, &format!("    balance: {{strategy: external, external: {external}}}\n"))
}

async fn gateway(endpoints: &[SocketAddr], picker: &EndpointPicker, more: &str) -> Gateway {
    Launch::new(policy(endpoints, picker.addr, more)).start().await
}

/// Waits until the picker's record of its only request satisfies the condition.
async fn heard(picker: &EndpointPicker, what: &str, condition: impl Fn(&Heard) -> bool) -> Heard {
    until(what, async || picker.heard().into_iter().next().filter(|heard| condition(heard))).await
}

#[tokio::test]
async fn the_endpoint_that_a_picker_names_gets_the_request_and_the_picker_hears_of_the_answer() {
    let sims = replicas().await;
    let all = addresses(&sims);
    for (at, sim) in sims.iter().enumerate() {
        for script in [Script::Light(vec![all[at]]), Script::Full(vec![all[at]], NOTHING)] {
            let before = asked(sim).len();
            let picker = EndpointPicker::start(script.clone()).await;
            let gateway = gateway(&all, &picker, "").await;
            let body = r#"{"model":"m","messages":[{"role":"user","content":"hello"}],"odd": 1.50e+1}"#;
            let mut request = client().post(gateway.url(CHAT)).body(body);
            for (name, value) in [
                ("x-kept", "1"),
                ("x-dropped", "1"),
                ("authorization", "Bearer secret"),
                ("x-gateway-destination-endpoint", "10.0.0.1:80"),
                ("x-gateway-inference-objective", "first"),
            ] {
                request = request.header(name, value);
            }
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let requests = asked(sim);
            assert_eq!(requests.len(), before + 1);
            let seen = requests.last().unwrap();
            assert_eq!(seen.body, body.as_bytes());
            assert_eq!(seen.headers["x-picked-by"], "a test");
            assert_eq!(seen.headers["x-kept"], "1");
            assert!(!seen.headers.contains_key("x-dropped"), "the picker removes it");
            let told = heard(&picker, "the end of the answer", |heard| heard.is_whole).await;
            assert_eq!((told.body.as_slice(), told.subset.as_ref()), (body.as_bytes(), None));
            assert_eq!(told.served.as_deref(), Some(all[at].to_string().as_str()));
            assert_eq!(
                (told.status.as_deref(), told.answer.as_slice()),
                (Some("200"), answer.text.as_bytes())
            );
            assert_eq!((told.headers[":path"].as_str(), told.headers[":method"].as_str()), (CHAT, "POST"));
            assert_eq!(told.headers["x-request-id"], answer.header("x-request-id"));
            for hidden in ["authorization", "x-gateway-destination-endpoint", "x-gateway-inference-objective"]
            {
                assert!(!told.headers.contains_key(hidden), "{hidden}");
            }
            if matches!(script, Script::Light(_)) {
                assert_eq!(answer.header("x-conformance-test-served-endpoint"), all[at].to_string());
                assert_eq!(answer.header("x-inference-pod"), "", "the picker removes it");
            }
            assert_eq!(answer.header("x-endpoint-reason"), "external");
            assert_eq!(gateway.line(answer.header("x-request-id")).await["endpoint_reason"], "external");
            let labels = ["pool=\"main\"", "result=\"picked\""];
            gateway.counts("signalbox_external_pick_seconds_count", &labels, 1.0).await;
        }
    }
}

#[tokio::test]
async fn a_long_body_goes_to_the_picker_in_pieces_and_comes_back_as_the_picker_changes_it() {
    let roomy = |options: &mut SimOptions| options.capacity.max_model_len = 1 << 20;
    let sims = [sim_with("m", roomy).await, sim_with("m", roomy).await];
    let all = addresses(&sims);
    let text = "0123456789abcdef".repeat(40_000);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string();
    for (change, expected) in [(NOTHING, body.clone()), (("abcdef", "ABC"), body.replace("abcdef", "ABC"))] {
        let picker = EndpointPicker::start(Script::Full(vec![all[1]], change)).await;
        let gateway = gateway(&all, &picker, "").await;
        assert_eq!(gateway.post(CHAT, body.clone()).await.status, 200);
        assert_eq!(asked(&sims[1]).last().unwrap().body, expected.as_bytes());
        let told = &picker.heard()[0];
        assert_eq!((told.body.len(), told.pieces), (body.len(), body.len().div_ceil(64 << 10)));
    }
}

#[tokio::test]
async fn a_body_of_the_pickers_own_counts_among_the_bytes_that_are_held() {
    let roomy = sim_with("m", |options| options.capacity.max_model_len = 1 << 20).await;
    let text = "0123456789abcdef".repeat(40_000);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string();
    for (change, status) in [(NOTHING, 200), (("abcdef", "ABC"), 503)] {
        let picker = EndpointPicker::start(Script::Full(vec![roomy.addr()], change)).await;
        let limits = "limits: {max_body_bytes: 1000000, max_buffered_bytes: 1000000}\ndrain: {delay: 0s}\n";
        let gateway = Launch::new(policy(&[roomy.addr()], picker.addr, "")).server(limits).start().await;
        let answer = gateway.post(CHAT, body.clone()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        gateway.counts("signalbox_buffered_bytes", &[], 0.0).await;
    }
}

#[tokio::test]
async fn a_picker_hears_a_stream_as_it_passes_and_of_a_client_that_leaves() {
    let slow = sim_with("m", |options| {
        options.latency.itl = Duration::from_millis(20);
        options.default_max_tokens = 2_000;
    })
    .await;
    let picker = EndpointPicker::start(Script::Light(vec![slow.addr()])).await;
    let gateway = gateway(&[slow.addr()], &picker, "").await;
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let mut answer = client().post(gateway.url(CHAT)).body(body.to_string()).send().await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    heard(&picker, "pieces of the stream", |heard| heard.answer.len() > 500).await;
    drop(answer);
    let told = heard(&picker, "the end of the stream", |heard| heard.is_over).await;
    assert!(!told.is_whole);
    gateway.counts("signalbox_requests_in_flight", &[], 0.0).await;
}

#[tokio::test]
async fn the_endpoints_that_a_picker_names_are_tried_in_order() {
    let sims = replicas().await;
    let gone = Refusing::new();
    let all: Vec<_> = std::iter::once(gone.addr).chain(addresses(&sims)).collect();
    let named = vec![all[0], all[1]];
    let picker = EndpointPicker::start(Script::Full(named, ("hello", "HELLO"))).await;
    let gateway = gateway(&all, &picker, "").await;
    let answer = gateway.chat("m", "hello").await;
    assert_eq!((answer.status, asked(&sims[0]).len(), picker.heard().len()), (200, 1, 1), "{}", answer.text);
    assert!(String::from_utf8_lossy(&asked(&sims[0])[0].body).contains("HELLO"), "as the picker changed it");
}

#[tokio::test]
async fn a_picker_is_asked_again_without_the_endpoint_that_failed() {
    let sims = replicas().await;
    let gone = Refusing::new();
    let all: Vec<_> = std::iter::once(gone.addr).chain(addresses(&sims[..1])).collect();
    // Names the first of those that it may choose among.
    let picker = EndpointPicker::start(Script::First(all.clone())).await;
    let gateway = gateway(&all, &picker, "").await;
    let answer = gateway.chat("m", "hello").await;
    assert_eq!((answer.status, asked(&sims[0]).len()), (200, 1), "{}", answer.text);
    let told = picker.heard();
    assert_eq!((told.len(), told[0].subset.as_ref()), (2, None));
    assert_eq!(told[1].subset.as_deref(), Some(&[all[1].to_string()][..]));
    until("the end of the first stream", async || picker.heard()[0].is_over.then_some(())).await;
    assert!(!picker.heard()[0].is_whole);
}

#[tokio::test]
async fn what_a_picker_refuses_is_refused_and_the_connection_stays() {
    let sims = replicas().await;
    for (code, status) in [(429, 429), (503, 503), (400, 400), (200, 503)] {
        let picker =
            EndpointPicker::start(Script::Refuse(code, "inference error: ResourceExhausted - shed")).await;
        let gateway = gateway(&addresses(&sims), &picker, ", failure_mode: fail_open").await;
        let mut raw = Wire::open(gateway.addr).await;
        for _ in 0..2 {
            raw.send(post(CHAT, r#"{"model":"m","messages":[]}"#)).await;
            let answer = raw.answer().await.unwrap();
            assert_eq!((answer.status(), answer.header("retry-after")), (status, "7"));
            assert_eq!(answer.code(), "endpoint_picker_refused");
            assert!(String::from_utf8_lossy(&answer.body).contains("ResourceExhausted - shed"));
        }
        gateway.counts("signalbox_requests_in_flight", &[], 0.0).await;
    }
    assert!(sims.iter().all(|sim| asked(sim).is_empty()));
}

#[tokio::test]
async fn without_a_usable_answer_of_the_picker_the_failure_mode_decides() {
    let sims = replicas().await;
    let all = addresses(&sims);
    let gone = Refusing::new();
    let stranger: SocketAddr = "10.1.2.3:8000".parse().unwrap();
    let scripts = [
        (Some(Script::Silent), "timeout"),
        (Some(Script::Fail), "failed"),
        (Some(Script::Close), "no_endpoint"),
        (Some(Script::Light(Vec::new())), "no_endpoint"),
        (Some(Script::Light(vec![stranger])), "unknown_endpoint"),
        (None, "unreachable"),
    ];
    for (script, result) in scripts {
        let picker = match script {
            Some(script) => Some(EndpointPicker::start(script).await),
            None => None,
        };
        let address = picker.as_ref().map_or(gone.addr, |picker| picker.addr);
        for (mode, status) in [("fail_close", 503), ("fail_open", 200)] {
            let more = format!(", timeout: 300ms, failure_mode: {mode}");
            let gateway = Launch::new(policy(&all, address, &more)).start().await;
            let answer = gateway.chat("m", "hello").await;
            assert_eq!(answer.status, status, "{result} {mode}: {}", answer.text);
            let labels = ["pool=\"main\"", &format!("result=\"{result}\"")];
            gateway.counts("signalbox_external_pick_seconds_count", &labels, 1.0).await;
            if status == 503 {
                assert_eq!(answer.json()["error"]["code"], "endpoint_picker_unavailable");
                assert_eq!(answer.header("retry-after"), "1");
            } else {
                assert_eq!(answer.header("x-endpoint-reason"), "external_failed");
            }
            gateway.counts("signalbox_requests_in_flight", &[], 0.0).await;
        }
    }
}

#[tokio::test]
async fn each_pool_has_its_own_picker_and_a_fall_back_asks_that_of_its_pool() {
    let sims = replicas().await;
    let all = addresses(&sims);
    let first = EndpointPicker::start(Script::Refuse(503, "none is ready")).await;
    let second = EndpointPicker::start(Script::Light(vec![all[1], all[2]])).await;
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels:\n  m: {{pools: [a]}}\n  n: {{pools: [b], upstream_model: m}}\n\
         decisions:\n- {{name: all, model: m, fallback: [n], applies_to: all}}\npools:\n\
         \x20 a: {{endpoints: [\"{}\"], health: {{enabled: false}}, balance: {{strategy: external, external: {{address: \"{}\"}}}}}}\n\
         \x20 b: {{endpoints: [\"{}\", \"{}\"], health: {{enabled: false}}, balance: {{strategy: external, external: {{address: \"{}\"}}}}}}\n",
        all[0], first.addr, all[1], all[2], second.addr,
    );
    let gateway = Launch::new(policy).start().await;
    let answer = gateway.chat("auto", "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((first.heard().len(), second.heard().len()), (1, 1));
    assert_eq!((asked(&sims[0]).len(), asked(&sims[1]).len()), (0, 1));
    let line = gateway.line(answer.header("x-request-id")).await;
    assert_eq!((&line["pool"], &line["tries"]), (&json!("b"), &json!(1)));
}

#[tokio::test]
async fn a_client_that_leaves_while_the_picker_thinks_frees_what_it_held() {
    let sims = replicas().await;
    let picker = EndpointPicker::start(Script::Silent).await;
    let gateway = gateway(&addresses(&sims), &picker, "").await;
    let mut raw = Wire::open(gateway.addr).await;
    raw.send(post(CHAT, r#"{"model":"m","messages":[]}"#)).await;
    heard(&picker, "the question", |heard| heard.pieces == 1).await;
    drop(raw);
    heard(&picker, "the end of the stream", |heard| heard.is_over).await;
    gateway.counts("signalbox_requests_in_flight", &[], 0.0).await;
}

#[tokio::test]
async fn a_pickers_certificate_is_verified_unless_the_policy_says_otherwise() {
    let sims = replicas().await;
    let all = addresses(&sims);
    let made = rcgen::generate_simple_self_signed(vec!["picker.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let picker = EndpointPicker::start_with(Script::Light(vec![all[2]]), Some(config)).await;
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, made.cert.pem()).unwrap();
    let authority = authority.display();
    for (tls, status) in [
        ("{insecure_skip_verify: true}".to_owned(), 200),
        (format!("{{server_name: picker.test, ca_file: \"{authority}\"}}"), 200),
        (format!("{{server_name: other.test, ca_file: \"{authority}\"}}"), 503),
        ("{}".to_owned(), 503),
    ] {
        let gateway = gateway(&all, &picker, &format!(", tls: {tls}")).await;
        assert_eq!(gateway.chat("m", "hello").await.status, status, "{tls}");
    }
}

#[tokio::test]
async fn a_shadow_copy_goes_where_its_pools_picker_says_and_nowhere_without_an_answer() {
    let own = sim("own").await;
    let sims = replicas().await;
    let all = addresses(&sims);
    for (script, named) in [(Script::Light(vec![all[2]]), Some(&sims[2])), (Script::Fail, None)] {
        let picker = EndpointPicker::start(script).await;
        let endpoints: Vec<_> = all.iter().map(|address| format!("\"{address}\"")).collect();
        let policy = format!(
            "version: 1\nvirtual_models: [auto]\ndefault_model: own\nmodels: {{own: {{pools: [own]}}, m: {{pools: [picked]}}}}\n\
             pools:\n  own: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n  picked:\n    endpoints: [{}]\n    health: {{enabled: false}}\n    \
             balance: {{strategy: external, external: {{address: \"{}\"}}}}\n\
             decisions: [{{name: d, model: own, shadow: {{model: m}}}}]\n",
            own.addr(),
            endpoints.join(", "),
            picker.addr
        );
        let gateway = Launch::new(policy).start().await;
        assert_eq!(gateway.chat("auto", "hello").await.status, 200);
        let result = if named.is_some() { "result=\"ok\"" } else { "result=\"failed\"" };
        gateway.counts("signalbox_shadow_requests_total", &["model=\"m\"", result], 1.0).await;
        let heard = heard(&picker, "the copy", |_| true).await;
        assert_eq!(heard.headers[":path"], CHAT);
        if let Some(named) = named {
            assert_eq!(asked(named).last().unwrap().headers["x-picked-by"], "a test");
            let told = self::heard(&picker, "the end of the copy", |heard| heard.is_whole).await;
            assert_eq!((told.served, told.status.as_deref()), (Some(all[2].to_string()), Some("200")));
        }
        assert_eq!(sims.iter().map(|sim| asked(sim).len()).sum::<usize>(), 1, "one copy in all");
    }
}
