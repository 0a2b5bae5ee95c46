//! Each pool is connected to as its policy says: protocol, TLS, names, paths and credentials.

use crate::harness::*;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Version};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use signalbox::sim::tls::Authority;
use signalbox::sim::{Sim, SimOptions};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

const NAME: &str = "models.example.com";

async fn tls_sim(config: Arc<ServerConfig>) -> Sim {
    let options = SimOptions { models: vec!["m".to_owned()], default_max_tokens: 4, ..SimOptions::default() };
    Sim::start(options, TcpListener::bind("127.0.0.1:0").await.unwrap(), Some(config)).await
}

/// A gateway with one pool over TLS, and files for it.
async fn over_tls(address: SocketAddr, tls: &str, files: &[(&str, &str)]) -> Gateway {
    let more =
        format!("    ejection: {{consecutive_failures: 0}}\n    tls: {{{tls}}}\nretry: {{attempts: 1}}\n");
    let launch = Launch::new(policy_of(&[address], &more));
    for (name, text) in files {
        std::fs::write(launch.folder().join(name), text).unwrap();
    }
    launch.start().await
}

/// A server's configuration that wants certificates of this authority from its clients.
fn mutual(server: &Authority, clients: &Authority) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.ca_pem().as_bytes()).unwrap()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let (certificate, key) = server.cert_pem(&[NAME]);
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_client_cert_verifier(verifier.unwrap()).with_single_cert(chain, key).unwrap())
}

/// Checks that an answer says no more than that no connection could be made.
fn unreachable(gateway: &Gateway, answer: &Answer, upstream: &Sim) {
    assert_eq!(answer.status, 502, "{}\n{}", answer.text, gateway.stderr());
    assert_eq!(answer.json()["error"]["type"], "server_error");
    let port = upstream.addr().port().to_string();
    for inside in
        ["127.0.0.1", port.as_str(), NAME, "certificate", "CERT", "TLS", "tls", "UnknownIssuer", "alert"]
    {
        assert!(!answer.text.contains(inside), "{inside} in {}", answer.text);
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_pool_is_trusted_by_its_own_authority_and_its_servers_name() {
    let authority = Authority::new("right");
    let sim = tls_sim(authority.server_config(&[NAME])).await;
    let tls = format!("server_name: {NAME}, ca_file: ca.pem");
    let gateway = over_tls(sim.addr(), &tls, &[("ca.pem", &authority.ca_pem())]).await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text, gateway.stderr());
    let seen = asked(&sim).pop().unwrap();
    assert_eq!(seen.version, Version::HTTP_2, "h2 is offered and preferred");
    let host = seen.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or(NAME);
    assert_eq!(host, NAME, "what the upstream is called by");
}

#[tokio::test]
async fn http1_alone_can_be_offered_over_tls() {
    let authority = Authority::new("right");
    let sim = tls_sim(authority.server_config(&[NAME])).await;
    let tls = format!("server_name: {NAME}, ca_file: ca.pem, alpn: [http/1.1]");
    let gateway = over_tls(sim.addr(), &tls, &[("ca.pem", &authority.ca_pem())]).await;
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    let seen = asked(&sim).pop().unwrap();
    assert_eq!((seen.version, &seen.headers["host"]), (Version::HTTP_11, &NAME.parse().unwrap()));
}

#[tokio::test]
async fn an_upstream_of_another_authority_or_another_name_is_not_talked_to() {
    let (right, wrong) = (Authority::new("right"), Authority::new("wrong"));
    let sim = tls_sim(right.server_config(&[NAME])).await;
    let named = format!("server_name: {NAME}, ca_file: ca.pem");
    let gateway = over_tls(sim.addr(), &named, &[("ca.pem", &wrong.ca_pem())]).await;
    unreachable(&gateway, &gateway.chat("m", "hi").await, &sim);
    let other = "server_name: other.example.com, ca_file: ca.pem";
    let gateway = over_tls(sim.addr(), other, &[("ca.pem", &right.ca_pem())]).await;
    unreachable(&gateway, &gateway.chat("m", "hi").await, &sim);
    // Without an authority of its own, a pool trusts the system's, which do not know this one.
    let gateway = over_tls(sim.addr(), &format!("server_name: {NAME}"), &[]).await;
    unreachable(&gateway, &gateway.chat("m", "hi").await, &sim);
    // Neither is a plaintext server under TLS, nor a TLS server in plaintext.
    let plain = crate::harness::sim("m").await;
    let gateway = over_tls(plain.addr(), &named, &[("ca.pem", &right.ca_pem())]).await;
    unreachable(&gateway, &gateway.chat("m", "hi").await, &plain);
    let more = "retry: {attempts: 1}\n";
    let gateway = Launch::new(policy_of(&[sim.addr()], more)).start().await;
    unreachable(&gateway, &gateway.chat("m", "hi").await, &sim);
}

#[tokio::test]
async fn an_authority_is_trusted_by_its_own_pool_alone() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let sim = tls_sim(ours.server_config(&[NAME])).await;
    let address = sim.addr();
    let pool = |ca: &str| {
        format!(
            "{{endpoints: [\"{address}\"], tls: {{server_name: {NAME}, ca_file: {ca}}}, \
             ejection: {{consecutive_failures: 0}}}}"
        )
    };
    let policy = format!(
        "version: 1\nmodels: {{m: {{pools: [a]}}, n: {{pools: [b], upstream_model: m}}}}\n\
         pools:\n  a: {}\n  b: {}\nretry: {{attempts: 1}}\n",
        pool("ours.pem"),
        pool("theirs.pem")
    );
    let launch = Launch::new(policy);
    std::fs::write(launch.folder().join("ours.pem"), ours.ca_pem()).unwrap();
    std::fs::write(launch.folder().join("theirs.pem"), theirs.ca_pem()).unwrap();
    let gateway = launch.start().await;
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
    // The connection that `a` has made and keeps is not `b`'s to use.
    assert_eq!(gateway.chat("n", "hi").await.status, 502);
    assert_eq!(asked(&sim).len(), 1);
}

#[tokio::test]
async fn an_upstream_that_wants_a_client_certificate_gets_it() {
    let (server, clients) = (Authority::new("server"), Authority::new("clients"));
    let sim = tls_sim(mutual(&server, &clients)).await;
    let (certificate, key) = clients.cert_pem(&["gateway.example.com"]);
    let ca = server.ca_pem();
    let files = [("ca.pem", ca.as_str()), ("client.pem", &certificate), ("client.key", &key)];
    let with = format!(
        "server_name: {NAME}, ca_file: ca.pem, client_cert_file: client.pem, client_key_file: client.key"
    );
    let gateway = over_tls(sim.addr(), &with, &files).await;
    let answer = gateway.chat("m", "hi").await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text, gateway.stderr());
    assert_eq!(asked(&sim).len(), 1);
    drop(gateway);

    let sim = tls_sim(mutual(&server, &clients)).await;
    let without = format!("server_name: {NAME}, ca_file: ca.pem");
    let gateway = over_tls(sim.addr(), &without, &files).await;
    unreachable(&gateway, &gateway.chat("m", "hi").await, &sim);
    let (certificate, key) = server.cert_pem(&["gateway.example.com"]);
    let foreign = [("ca.pem", ca.as_str()), ("client.pem", &certificate), ("client.key", &key)];
    let gateway = over_tls(sim.addr(), &with, &foreign).await;
    unreachable(&gateway, &gateway.chat("m", "hi").await, &sim);
}

#[tokio::test]
async fn a_pool_without_tls_uses_http1_or_h2c_as_configured() {
    for (more, version) in [("", Version::HTTP_11), ("    protocol: h2c\n", Version::HTTP_2)] {
        let sim = sim("m").await;
        let gateway = Launch::new(policy_of(&[sim.addr()], more)).start().await;
        let long = "a body of more than one frame ".repeat(5_000);
        for text in ["hi", &long] {
            let answer = gateway.post("/v1/completions", completion(text)).await;
            assert!([200, 400].contains(&answer.status), "{}", answer.text);
            let seen = asked(&sim).pop().unwrap();
            assert_eq!(seen.version, version);
            assert_eq!(seen.body, completion(text), "every byte arrives");
            assert_eq!(seen.headers["content-length"], completion(text).len().to_string().as_str());
        }
    }
}

fn completion(text: &str) -> String {
    serde_json::json!({"model": "m", "prompt": text, "max_tokens": 2}).to_string()
}

/// What an upstream was asked.
struct Call {
    target: String,
    headers: HeaderMap,
}

/// An upstream that notes what it is asked.
async fn noting() -> (SocketAddr, Arc<Mutex<Vec<Call>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&calls);
    let answer = move |request: Request| async move {
        kept.lock()
            .unwrap()
            .push(Call { target: request.uri().to_string(), headers: request.headers().clone() });
        "{}"
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, calls)
}

#[tokio::test]
async fn host_path_and_credential_are_the_pools_own() {
    let (address, calls) = noting().await;
    let pool = "    host: models.example.com\n    path_prefix: /openai/deployments/x/\n    \
                credential: {header: x-api-key, prefix: \"Key \", value: {file: key.txt}}\n";
    let launch = Launch::new(policy_of(&[address], pool));
    std::fs::write(launch.folder().join("key.txt"), "sk-file\n").unwrap();
    let gateway = launch.start().await;
    let url = gateway.url("/v1/chat/completions?api-version=2024-10-21&x=%2F");
    let body = r#"{"model": "m", "messages": []}"#;
    let answer = client().post(url).header("x-api-key", "sk-client").body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let call = calls.lock().unwrap().pop().unwrap();
    assert_eq!(call.target, "/openai/deployments/x/v1/chat/completions?api-version=2024-10-21&x=%2F");
    assert_eq!(call.headers["host"], NAME);
    assert_eq!(call.headers["x-api-key"], "Key sk-file");
    assert_eq!(call.headers.get_all("x-api-key").iter().count(), 1);
    assert!(!call.headers.contains_key("authorization"));

    let gateway = Launch::new(policy_of(&[address], "")).start().await;
    assert_eq!(gateway.post("/v1/chat/completions", body).await.status, 200);
    let call = calls.lock().unwrap().pop().unwrap();
    assert_eq!(call.target, "/v1/chat/completions");
    assert_eq!(call.headers["host"], address.to_string().as_str(), "without a rule, the endpoint's address");
}

#[tokio::test]
async fn a_clients_key_in_the_query_stays_here_unless_the_pool_is_to_have_it() {
    let (address, calls) = noting().await;
    let query = "?key=sk-client&api-version=1&api_key=sk-client&access_token=sk-client&%6bey=sk-client&api%5fkey=sk-client";
    let forwards = "    forward_authorization: true\n";
    for (more, target) in [("", "?api-version=1"), (forwards, query)] {
        let gateway = Launch::new(policy_of(&[address], more)).start().await;
        let answer = gateway.post(&format!("/v1/chat/completions{query}"), r#"{"model": "m"}"#).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(calls.lock().unwrap().pop().unwrap().target, format!("/v1/chat/completions{target}"));
    }
}

#[tokio::test]
async fn a_pool_whose_optional_key_is_missing_sends_none() {
    let (address, calls) = noting().await;
    let pool = "    credential: {value: {env: SIGNALBOX_TEST_NO_SUCH_KEY}, optional: true}\n";
    let gateway = Launch::new(policy_of(&[address], pool)).start().await;
    assert_eq!(gateway.post("/v1/chat/completions", r#"{"model": "m"}"#).await.status, 200);
    assert!(!calls.lock().unwrap().pop().unwrap().headers.contains_key("authorization"));
}

#[tokio::test]
async fn health_is_checked_over_the_pools_own_tls() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let sim = tls_sim(mutual(&servers, &clients)).await;
    let (certificate, key) = clients.cert_pem(&["gateway"]);
    let more = format!(
        "    tls: {{server_name: {NAME}, ca_file: ca.pem, client_cert_file: me.pem, client_key_file: me.key}}\n"
    );
    let checked = "enabled: true, path: /health, interval: 50ms, unhealthy_after: 1";
    let launch = Launch::new(policy_of(&[sim.addr()], &more).replace("enabled: false", checked));
    for (name, text) in [("ca.pem", servers.ca_pem()), ("me.pem", certificate), ("me.key", key)] {
        std::fs::write(launch.folder().join(name), text).unwrap();
    }
    let gateway = launch.start().await;
    until("two checks", async || {
        (sim.requests().iter().filter(|seen| seen.path == "/health").count() >= 2).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("signalbox_endpoint_up", &["pool=\"main\""]).await, 1.0);
    assert_eq!(gateway.chat("m", "hi").await.status, 200);
}
