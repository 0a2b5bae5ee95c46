//! Request bodies of every size and framing reach every kind of upstream with only the model's name changed,
//! on the first attempt and on later ones, and what they may cost is bounded.

use crate::harness::*;
use crate::raw::*;
use bytes::Bytes;
use signalbox::sim::tls::Authority;
use signalbox::sim::{RecordedRequest, Sim, SimOptions};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;

const CHAT: &str = "/v1/chat/completions";
const SIZES: [usize; 3] = [300, 70_000, 5 << 20];
/// The upstreams' own name for the model; neither longer nor shorter by chance.
const SERVED: &str = "org/served-under-a-longer-name";

/// A kind of upstream: its settings in a pool, and the protocol that it then sees.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Http1,
    H2c,
    Tls,
}

const KINDS: [Kind; 3] = [Kind::Http1, Kind::H2c, Kind::Tls];

impl Kind {
    fn settings(self) -> &'static str {
        match self {
            Kind::Http1 => "protocol: http1",
            Kind::H2c => "protocol: h2c",
            Kind::Tls => "tls: {server_name: upstream.test, alpn: [h2, http/1.1], ca_file: ca.pem}",
        }
    }

    fn version(self) -> http::Version {
        if self == Kind::Http1 { http::Version::HTTP_11 } else { http::Version::HTTP_2 }
    }

    async fn start(self, authority: &Authority) -> Sim {
        let options =
            SimOptions { models: vec![SERVED.to_owned()], default_max_tokens: 2, ..SimOptions::default() };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let tls = (self == Kind::Tls).then(|| authority.server_config(&["upstream.test"]));
        Sim::start(options, listener, tls).await
    }
}

/// How a client frames its body.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
    Expect,
    H2,
    H2WithoutLength,
}

const FRAMINGS: [Framing; 5] =
    [Framing::Length, Framing::Chunked, Framing::Expect, Framing::H2, Framing::H2WithoutLength];

impl Framing {
    /// Posts a chat and gives the answer's status and text.
    async fn post(self, gateway: &Gateway, id: &str, body: &str) -> (u16, String) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        if matches!(self, Framing::Expect) {
            return expecting(gateway.addr, id, &body).await;
        }
        let client = match self {
            Framing::H2 | Framing::H2WithoutLength => h2_client(),
            _ => client(),
        };
        let payload = match self {
            Framing::Chunked | Framing::H2WithoutLength => pieces(&body),
            _ => body.into(),
        };
        let request =
            client.post(gateway.url(CHAT)).header("x-request-id", id).header("x-test-id", id).body(payload);
        let answer = Answer::of(request.send().await.unwrap()).await;
        (answer.status, answer.text)
    }
}

fn h2_client() -> reqwest::Client {
    let _ = client();
    reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap()
}

/// A body that comes in pieces, so that its length is not known beforehand.
fn pieces(body: &Bytes) -> reqwest::Body {
    let starts = (0..body.len()).step_by(10_007);
    let pieces: Vec<_> =
        starts.map(|at| Ok::<_, std::io::Error>(body.slice(at..body.len().min(at + 10_007)))).collect();
    reqwest::Body::wrap_stream(futures::stream::iter(pieces))
}

async fn expecting(addr: SocketAddr, id: &str, body: &[u8]) -> (u16, String) {
    let mut wire = Wire::open(addr).await;
    wire.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-test-id: {id}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    let first = wire.answer().await.unwrap();
    assert_eq!(first.status(), 100);
    wire.send(body).await;
    let answer = wire.answer().await.unwrap();
    (answer.status(), String::from_utf8(answer.body).unwrap())
}

/// A body with all that a parser would tidy up: order, white space, escapes, numbers, unknown fields.
fn body(model: &str, length: usize) -> String {
    let mut pad = String::new();
    while pad.len() < length {
        write!(pad, "{}é\\n\",\"", pad.len()).unwrap();
        pad.push_str(&"x".repeat(length.saturating_sub(pad.len()).min(9_000)));
    }
    let head =
        r#"{ "temperature" : 1.00e0,"unknown":{"b":-0, "a":[2.50,12345678901234567890123, "\u00e9\/"]},"#;
    let tail = r#""messages":[{"role":"user","content":"model"}]"#;
    format!("{head}\n\t\"model\"  :\"{model}\" , \"max_tokens\":2,{tail},\"pad\":[\"{pad}\"] }}\r\n")
}

/// Checks that a request came as its client wrote it, but for the model.
fn check(seen: &[RecordedRequest], kind: Kind, length: usize, what: &str) {
    let [seen] = seen else { panic!("{what}: {} requests", seen.len()) };
    assert_eq!(seen.version, kind.version(), "{what}");
    let expected = body(SERVED, length);
    assert!(seen.body == expected.as_bytes(), "{what}: {} bytes of {}", seen.body.len(), expected.len());
    assert_eq!(seen.headers["content-length"], expected.len().to_string(), "{what}");
    for name in ["transfer-encoding", "expect"] {
        assert!(!seen.headers.contains_key(name), "{what}: {name}");
    }
}

fn with_id(sim: &Sim, id: &str) -> Vec<RecordedRequest> {
    asked(sim).into_iter().filter(|seen| seen.headers["x-test-id"] == id).collect()
}

#[tokio::test]
async fn every_size_and_framing_reaches_every_kind_of_upstream_with_only_the_model_changed() {
    let authority = Authority::new("bodies");
    let (mut sims, mut models, mut pools) = (Vec::new(), String::new(), String::new());
    for kind in KINDS {
        let sim = kind.start(&authority).await;
        let settings = kind.settings();
        writeln!(models, "  {kind:?}: {{pools: [{kind:?}], upstream_model: {SERVED}}}").unwrap();
        writeln!(
            pools,
            "  {kind:?}: {{endpoints: [\"{}\"], health: {{enabled: false}}, {settings}}}",
            sim.addr()
        )
        .unwrap();
        sims.push((kind, sim));
    }
    let launch = Launch::new(format!("version: 1\nmodels:\n{models}pools:\n{pools}"));
    std::fs::write(launch.folder().join("ca.pem"), authority.ca_pem()).unwrap();
    let gateway = launch.start().await;
    for (kind, sim) in &sims {
        for framing in FRAMINGS {
            for length in SIZES {
                let id = format!("{framing:?}-{kind:?}-{length}");
                let (status, text) = framing.post(&gateway, &id, &body(&format!("{kind:?}"), length)).await;
                assert_eq!(status, 200, "{id}: {text}");
                check(&with_id(sim, &id), *kind, length, &id);
            }
        }
    }
}

/// The upstreams of one kind: one that serves and three that fail, each in its own way.
struct Replicas {
    kind: Kind,
    good: Sim,
    refusing: Refusing,
    unavailable: Sim,
    resetting: Sim,
}

impl Replicas {
    async fn start(kind: Kind, authority: &Authority) -> Self {
        let all = Self {
            kind,
            good: kind.start(authority).await,
            refusing: Refusing::new(),
            unavailable: kind.start(authority).await,
            resetting: kind.start(authority).await,
        };
        all.unavailable.set_faults(faults(|faults| faults.status = Some(503)));
        all.resetting.set_faults(faults(|faults| faults.reset_before_headers = 1.0));
        all
    }

    /// The pools: each failing replica before the good one, and all failing ones before the good one.
    fn chains(&self) -> [(&'static str, Vec<SocketAddr>); 4] {
        let (refusing, unavailable, resetting) =
            (self.refusing.addr, self.unavailable.addr(), self.resetting.addr());
        [
            ("refused", vec![refusing]),
            ("unavailable", vec![unavailable]),
            ("reset", vec![resetting]),
            ("all", vec![refusing, unavailable, resetting]),
        ]
    }
}

#[tokio::test]
async fn every_size_survives_a_retry_on_another_endpoint() {
    let authority = Authority::new("bodies");
    let (mut replicas, mut models, mut pools) = (Vec::new(), String::new(), String::new());
    for kind in KINDS {
        let all = Replicas::start(kind, &authority).await;
        for (name, bad) in all.chains() {
            let bad: String = bad.iter().fold(String::new(), |mut list, address| {
                write!(list, "{{address: \"{address}\", weight: 1000}}, ").unwrap();
                list
            });
            writeln!(models, "  {kind:?}-{name}: {{pools: [{kind:?}-{name}], upstream_model: {SERVED}}}")
                .unwrap();
            writeln!(
                pools,
                "  {kind:?}-{name}:\n    endpoints: [{bad}\"{}\"]\n    balance: {{strategy: round_robin}}\n    health: {{enabled: false}}\n    ejection: {{consecutive_failures: 0}}\n    {}",
                all.good.addr(),
                kind.settings()
            )
            .unwrap();
        }
        replicas.push(all);
    }
    let policy = format!("version: 1\nretry: {{attempts: 4}}\nmodels:\n{models}pools:\n{pools}");
    let launch = Launch::new(policy);
    std::fs::write(launch.folder().join("ca.pem"), authority.ca_pem()).unwrap();
    let gateway = launch.start().await;
    for all in &replicas {
        for (name, bad) in all.chains() {
            for (length, framing) in SIZES.into_iter().zip([Framing::Length, Framing::H2, Framing::Chunked]) {
                let (kind, model) = (all.kind, format!("{:?}-{name}", all.kind));
                let id = format!("{model}-{length}");
                let (status, text) = framing.post(&gateway, &id, &body(&model, length)).await;
                assert_eq!(status, 200, "{id}: {text}");
                check(&with_id(&all.good, &id), kind, length, &id);
                for failed in [&all.unavailable, &all.resetting] {
                    if bad.contains(&failed.addr()) {
                        check(&with_id(failed, &id), kind, length, &format!("{id} where it failed"));
                    }
                }
                let line = gateway.line(&format!("\"{id}\"")).await;
                assert_eq!(line["tries"], bad.len() + 1, "{line}");
                assert_eq!(line["endpoint"], all.good.addr().to_string());
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_wait_for_the_body_is_retried_too() {
    let good = sim(SERVED).await;
    let hasty = Scripted::start(|connection, _| match connection % 2 {
        0 => Act::Reset,
        _ => Act::AnswerEarly(answer("503 Service Unavailable", "{}")),
    })
    .await;
    let policy = format!(
        "version: 1\nmodels:\n  m: {{pools: [main], upstream_model: {SERVED}}}\npools:\n  main:\n    endpoints: [{{address: \"{}\", weight: 1000}}, \"{}\"]\n    balance: {{strategy: round_robin}}\n    health: {{enabled: false}}\n    ejection: {{consecutive_failures: 0}}\n",
        hasty.addr,
        good.addr()
    );
    let gateway = Launch::new(policy).start().await;
    for length in SIZES {
        for attempt in ["reset", "early"] {
            let id = format!("{attempt}-{length}");
            let (status, text) = Framing::Length.post(&gateway, &id, &body("m", length)).await;
            assert_eq!(status, 200, "{id}: {text}");
            check(&with_id(&good, &id), Kind::Http1, length, &id);
        }
    }
    gateway.counts("signalbox_retries_total", &["pool=\"main\""], 6.0).await;
}

/// A gateway before one sim, with limits of its own.
async fn limited(limits: &str) -> (Sim, Gateway) {
    let sim = sim("m").await;
    let gateway =
        Launch::new(policy_of(&[sim.addr()], "")).server(format!("limits: {{{limits}}}\n")).start().await;
    (sim, gateway)
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_in_every_framing_and_the_client_reads_why() {
    let (sim, gateway) = limited("max_body_bytes: 100000").await;
    let mut exact = body("m", 90_000);
    exact.push_str(&" ".repeat(100_000 - exact.len()));
    let cases = [Framing::Length, Framing::Chunked, Framing::H2, Framing::H2WithoutLength];
    for framing in cases {
        let (status, text) = framing.post(&gateway, "fits", &exact).await;
        assert_eq!(status, 200, "{framing:?}: {text}");
    }
    assert_eq!(asked(&sim).len(), cases.len());
    for framing in cases {
        for longer in [exact.clone() + " ", exact.clone() + &" ".repeat(3 << 20)] {
            let (status, text) = framing.post(&gateway, "too-long", &longer).await;
            assert_eq!(status, 413, "{framing:?}: {text}");
            assert!(text.contains("request_too_large"), "{framing:?}: {text}");
        }
    }
    assert_eq!(asked(&sim).len(), cases.len(), "what is refused goes nowhere");
}

#[tokio::test]
async fn thirty_two_mebibytes_are_the_limit_by_default_and_holds_before_the_body_is_asked_for() {
    let (_sim, gateway) = limited("").await;
    for (length, expected) in [(32 << 20, 100), ((32 << 20) + 1, 413)] {
        let mut wire = Wire::open(gateway.addr).await;
        wire.send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer().await.unwrap().status(), expected, "{length}");
    }
}

#[tokio::test]
async fn a_client_too_slow_with_its_body_gets_408() {
    let (sim, gateway) = limited("body_timeout: 300ms").await;
    let head = |framing| format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
    let silent = async {
        let mut wire = Wire::open(gateway.addr).await;
        wire.send(head("content-length: 100") + "{").await;
        wire.answer().await.unwrap()
    };
    let dripping = async {
        let mut wire = Wire::open(gateway.addr).await;
        wire.send(head("transfer-encoding: chunked")).await;
        // Each byte comes in time, the whole never does.
        for _ in 0..40 {
            wire.send("1\r\n \r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wire.answer().await.unwrap()
    };
    let over_h2 = async {
        let stalled = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let request = h2_client().post(gateway.url(CHAT)).body(reqwest::Body::wrap_stream(stalled));
        Answer::of(request.send().await.unwrap()).await
    };
    let (silent, dripping, over_h2) = tokio::join!(silent, dripping, over_h2);
    for answer in [silent, dripping] {
        assert_eq!((answer.status(), answer.code().as_str()), (408, "request_timeout"));
    }
    assert_eq!((over_h2.status, &over_h2.json()["error"]["code"]), (408, &"request_timeout".into()));
    assert!(asked(&sim).is_empty());
}

#[tokio::test]
async fn the_bytes_of_all_bodies_together_are_bounded() {
    let (sim, gateway) = limited("max_body_bytes: 100000, max_buffered_bytes: 150000").await;
    sim.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(60))));
    let long = body("m", 80_000);
    let (url, first) = (gateway.url(CHAT), long.clone());
    let held = tokio::spawn(async move { client().post(url).body(first).send().await });
    until("the first body's way", async || (!asked(&sim).is_empty()).then_some(())).await;
    assert!(gateway.metric("signalbox_buffered_bytes", &[]).await >= 80_000.0);
    let refused = gateway.post(CHAT, long.clone()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text);
    assert_eq!(refused.json()["error"]["code"], "overloaded");
    assert_eq!(asked(&sim).len(), 1);
    sim.set_faults(faults(|_| {}));
    assert_eq!(gateway.chat("m", "short").await.status, 200, "what fits passes");
    held.abort();
    until("the bytes of the one who left", async || {
        (gateway.metric("signalbox_buffered_bytes", &[]).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.post(CHAT, long).await.status, 200);
}

#[tokio::test]
async fn more_requests_than_allowed_at_a_time_get_a_retry_after() {
    let (sim, gateway) = limited("max_in_flight: 1").await;
    sim.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(60))));
    let url = gateway.url(CHAT);
    let held = tokio::spawn(async move { client().post(url).body(body("m", 0)).send().await });
    until("the first", async || (!asked(&sim).is_empty()).then_some(())).await;
    let refused = gateway.chat("m", "hi").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text);
    sim.set_faults(faults(|_| {}));
    held.abort();
    until("a place", async || (gateway.chat("m", "hi").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_compressed_body_is_read_and_goes_on_plain() {
    use std::io::Write;
    let (sim, gateway) = limited("max_body_bytes: 100000").await;
    let text = "hi ".repeat(3_000);
    let message = serde_json::json!({"role": "user", "content": text});
    let body = serde_json::json!({"model": "m", "messages": [message], "max_tokens": 1}).to_string();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    let post = async |coding: &str, body: Vec<u8>| {
        let request = client().post(gateway.url(CHAT)).header("content-encoding", coding).body(body);
        Answer::of(request.send().await.unwrap()).await
    };
    let answer = post("gzip", gzip.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let seen = asked(&sim).pop().unwrap();
    assert!(seen.headers.get("content-encoding").is_none());
    assert_eq!(seen.headers["content-length"], body.len().to_string().as_str());
    for (coding, body, status, code) in [
        ("lz4", gzip.clone(), 415, "unsupported_content_encoding"),
        ("zstd", gzip, 400, "invalid_content_encoding"),
    ] {
        let answer = post(coding, body).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)));
    }
}
