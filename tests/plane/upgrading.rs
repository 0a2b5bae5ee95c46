//! What is replaced while the process serves: its certificate, and the process itself.

use crate::harness::*;
use crate::raw::Wire;
use crate::streaming::{ask, read};
use crate::upstream::Upstream;
use reqwest::Version;
use signalbox::sim::tls::Authority;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

const NAME: &str = "gateway.test";
const QUICK: &str =
    r#"{"model": "quick", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}"#;

/// A client that trusts one authority alone.
fn trusting(authority: &Authority, address: SocketAddr) -> reqwest::ClientBuilder {
    drop(client());
    let certificate = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes()).unwrap();
    let builder = reqwest::Client::builder().tls_certs_only([certificate]).no_proxy();
    builder.resolve(NAME, address).timeout(Duration::from_secs(10))
}

/// Asks over a new connection.
async fn models(client: reqwest::ClientBuilder, address: SocketAddr) -> reqwest::Result<Version> {
    let client = client.build().unwrap();
    let response = client.get(format!("https://{NAME}:{}/v1/models", address.port())).send().await?;
    assert_eq!(response.status(), 200);
    Ok(response.version())
}

#[tokio::test]
async fn a_tls_listener_speaks_both_protocols_and_follows_its_certificate() {
    let sim = sim("m").await;
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let launch = Launch::new(policy_of(&[sim.addr()], "")).server(
        "listeners:\n  - address: 127.0.0.1:0\n    tls: {cert_file: tls.crt, key_file: tls.key}\n  \
         - address: 127.0.0.1:0\ndrain: {delay: 0s}\n",
    );
    let (cert_file, key_file) = (launch.folder().join("tls.crt"), launch.folder().join("tls.key"));
    let (cert, key) = old.cert_pem(&[NAME]);
    std::fs::write(&cert_file, cert).unwrap();
    std::fs::write(&key_file, key).unwrap();
    let gateway = launch.start().await;
    let address = gateway.addr;

    assert_eq!(models(trusting(&old, address), address).await.unwrap(), Version::HTTP_2, "chosen by ALPN");
    let h1 = trusting(&old, address).http1_only();
    assert_eq!(models(h1, address).await.unwrap(), Version::HTTP_11);
    models(trusting(&new, address), address).await.unwrap_err();
    let body = r#"{"model": "m", "messages": [{"role": "user", "content": "hello"}]}"#;
    for client in [trusting(&old, address), trusting(&old, address).http1_only()] {
        let url = format!("https://{NAME}:{}/v1/chat/completions", address.port());
        let answer = Answer::of(client.build().unwrap().post(url).body(body).send().await.unwrap()).await;
        assert_eq!((answer.status, answer.header("x-vsr-selected-model")), (200, "m"));
    }

    let (cert, key) = new.cert_pem(&[NAME]);
    // A certificate without its key is no pair: the old one stays until both are there.
    std::fs::write(&cert_file, cert).unwrap();
    let refused =
        async || gateway.stderr().contains("certificate refused; the one in force stays").then_some(());
    until("the refusal of half a pair", refused).await;
    models(trusting(&old, address), address).await.unwrap();
    std::fs::write(&key_file, key).unwrap();
    until("the new certificate", async || models(trusting(&new, address), address).await.ok()).await;
    models(trusting(&old, address), address).await.unwrap_err();
}

#[tokio::test]
async fn a_new_process_takes_over_without_a_failed_request() {
    let (upstream, sim) = (Upstream::start().await, sim("quick").await);
    let policy = format!(
        "version: 1\nmodels:\n  m: {{pools: [slow]}}\n  quick: {{pools: [quick]}}\npools:\n  \
         slow: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n  \
         quick: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n",
        upstream.addr(),
        sim.addr()
    );
    let free = free().await;
    let server = format!(
        "listeners: [{{address: \"{}\"}}]\nadmin: {{address: \"{}\"}}\ndrain: {{delay: 0s, timeout: 30s}}\n",
        free[0], free[1]
    );
    let mut old = Launch::new(policy.clone()).server(server.clone()).start().await;
    let client = client();
    let (mut sent, mut got) = tokio::join!(upstream.stream(), ask(&client, &old, "long", true));
    sent.chunk(b"data: 1\n\n").await;
    assert!(got.chunk().await.unwrap().is_some());
    let readyz = format!("http://{}/readyz", old.admin);

    let mut kept = Vec::new();
    for _ in 0..4 {
        let mut wire = Wire::open(old.addr).await;
        wire.post("/v1/chat/completions", QUICK).await;
        assert_eq!(wire.answer().await.unwrap().header("connection"), "keep-alive");
        kept.push(wire);
    }
    let over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(ask_on(old.url("/v1/chat/completions"), Arc::clone(&over)));
    let probes = tokio::spawn(probe(readyz, Arc::clone(&over)));
    let successor = Launch::new(policy).server(server).beside(&old).argument("--upgrade").start();
    let hand_over = async {
        let socket = old.folder.path().join("upgrade.sock");
        let mode = || std::fs::metadata(&socket).map(|found| found.permissions().mode() & 0o777).ok();
        until("the successor's own socket", async || (mode() == Some(0o600)).then_some(())).await;
        old.signal("QUIT");
        // From then on every answer is the last of its connection: none is closed under a request.
        let handing = async || old.stderr().contains("handing the listeners over").then_some(());
        until("the hand-over", handing).await;
        for mut wire in kept {
            wire.post("/v1/chat/completions", QUICK).await;
            let answer = wire.answer().await.unwrap();
            assert_eq!((answer.status(), answer.header("connection")), (200, "close"));
        }
    };
    let (new, ()) = tokio::join!(successor, hand_over);
    assert_eq!((new.addr, new.admin), (old.addr, old.admin));
    let handed_over = async || old.stderr().contains("the listeners are handed over").then_some(());
    until("the old process's drain", handed_over).await;
    let served_by_new = new.stdout().lines().count();
    until("requests of the new process", async || {
        (new.stdout().lines().count() > served_by_new + 5).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 0);
    assert!(probes.await.unwrap() > 0);
    sent.chunk(b"data: 2\n\n").await;
    sent.end().await;
    assert_eq!(read(&mut got).await, ("data: 2\n\n".to_owned(), true), "the old process's stream");
    assert!(old.ended().await.success());
    assert_eq!(old.line("long").await["status"], 200);
    assert_eq!(new.chat("quick", "after").await.status, 200);
    let lines = |gateway: &Gateway| gateway.stdout().matches("\"requested_model\":\"quick\"").count();
    assert!(lines(&old) > 0 && lines(&new) > 1, "{} and {}", lines(&old), lines(&new));
}

/// Two addresses without a listener.
async fn free() -> [SocketAddr; 2] {
    let bound = async || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    [bound().await, bound().await].map(|listener| listener.local_addr().unwrap())
}

/// Asks on new connections, one after the other, until it is over; each must succeed.
async fn ask_on(url: String, over: Arc<AtomicBool>) -> usize {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let mut asked = 0;
    while !over.load(Ordering::Relaxed) {
        let response = client.post(&url).timeout(Duration::from_secs(5)).body(QUICK).send().await;
        let answer = Answer::of(response.unwrap_or_else(|error| panic!("request {asked}: {error:?}"))).await;
        assert_eq!(answer.status, 200, "request {asked}: {}", answer.text);
        asked += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    asked
}

/// Asks the operator's port on new connections until it is over; there is always one that is ready.
async fn probe(url: String, over: Arc<AtomicBool>) -> usize {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let mut asked = 0;
    while !over.load(Ordering::Relaxed) {
        let answer = client.get(&url).timeout(Duration::from_secs(2)).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("probe {asked}: {error:?}"));
        assert_eq!(answer.status(), 200, "probe {asked}");
        asked += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    asked
}
