//! Logs that nobody reads: whatever becomes of a stream, requests are served and the process ends when it is told to.

use crate::harness::*;
use crate::streaming::{ask, read};
use crate::upstream::Upstream;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Far less than a test waits, far more than an end takes.
const SOON: Duration = Duration::from_secs(8);

/// A stream that takes nothing.
#[derive(Debug, Clone, Copy)]
enum Unread {
    /// A full pipe, whose reader does not read.
    Full,
    /// A pipe whose reader has gone.
    Closed,
    /// A device without any room.
    NoRoom,
}

/// The stream, and what keeps it as it is.
fn unread(kind: Unread) -> (Stdio, Option<PipeReader>) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    match kind {
        Unread::Full => {
            writer.write_all(&vec![b'.'; 1 << 16]).unwrap();
            (writer.into(), Some(reader))
        }
        Unread::Closed => (writer.into(), None),
        Unread::NoRoom => (File::into(OpenOptions::new().write(true).open("/dev/full").unwrap()), None),
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_neither_requests_nor_the_end() {
    for kind in [Unread::Full, Unread::Closed, Unread::NoRoom] {
        let upstream = Upstream::start().await;
        let dead = crate::raw::Refusing::new();
        let policy = policy_of(&[upstream.addr()], "")
            + &format!("  dead: {{endpoints: [\"{}\"], health: {{enabled: false}}}}\n", dead.addr);
        let policy = policy.replace("models:\n", "models:\n  dead: {pools: [dead]}\n");
        let ((stdout, _out), (stderr, _err)) = (unread(kind), unread(kind));
        let mut gateway = Launch::new(policy).start_unread(stdout, stderr).await;
        let asker = client();
        let (mut sent, mut got) = tokio::join!(upstream.stream(), ask(&asker, &gateway, "long", true));
        sent.chunk(b"data: 1\n\n").await;
        assert!(got.chunk().await.unwrap().is_some());
        // Each of these is reported on both streams.
        let failing = json!({"model": "dead", "messages": [], "pad": "x".repeat(200)}).to_string();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (client, url, body) =
                (client(), gateway.url("/v1/chat/completions"), bytes::Bytes::from(failing.clone()));
            asking.spawn(async move {
                for _ in 0..50 {
                    let request = client.post(&url).timeout(SOON).body(body.clone());
                    assert!(request.send().await.unwrap().status().is_server_error());
                }
            });
        }
        while let Some(done) = asking.join_next().await {
            done.unwrap();
        }
        if !matches!(kind, Unread::Full) {
            until("the lines that were dropped", async || {
                let dropped =
                    async |stream| gateway.metric("signalbox_log_lines_dropped_total", &[stream]).await;
                let both = dropped("stream=\"access\"").await * dropped("stream=\"process\"").await;
                (both > 0.0).then_some(())
            })
            .await;
        }
        let told = Instant::now();
        gateway.signal("TERM");
        let unready = async || (gateway.admin("/readyz").await.status == 503).then_some(());
        until("a process that drains", unready).await;
        sent.chunk(b"data: 2\n\n").await;
        sent.end().await;
        assert_eq!(read(&mut got).await, ("data: 2\n\n".to_owned(), true), "{kind:?}");
        assert!(gateway.ended().await.success(), "{kind:?}");
        assert!(told.elapsed() < SOON, "{kind:?}");
    }
}

#[tokio::test]
async fn a_command_whose_output_nobody_takes_ends_with_its_own_status() {
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(policy.path(), policy_of(&["127.0.0.1:1".parse().unwrap()], "")).unwrap();
    for (arguments, status) in [
        (vec!["schema"], 0),
        (vec!["check", policy.path().to_str().unwrap()], 0),
        (vec!["serve", "--policy", "/nowhere/policy.yaml"], 1),
    ] {
        for kind in [Unread::Closed, Unread::NoRoom] {
            let ((stdout, _out), (stderr, _err)) = (unread(kind), unread(kind));
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_signalbox"));
            let ended = command.args(&arguments).stdout(stdout).stderr(stderr).status().unwrap();
            assert_eq!(ended.code(), Some(status), "{arguments:?}, {kind:?}");
        }
    }
}

#[tokio::test]
async fn no_level_of_the_log_shows_a_key() {
    let upstream = crate::raw::Scripted::start(|_, _| {
        crate::raw::Act::Answer(crate::raw::answer("200 OK", "{\"from\":\"upstream\"}"))
    })
    .await;
    let policy = policy_of(&[upstream.addr], "    credential: {value: {env: OPERATORS}}\n");
    let launch = Launch::new(policy).variable("OPERATORS", "sk-operators-own").variable("RUST_LOG", "trace");
    let gateway = launch.start().await;
    for (_, client) in crate::streaming::clients() {
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth("sk-clients-own");
        let request = request.body(r#"{"model":"m","messages":[{"role":"user","content":"secret words"}]}"#);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    assert!(upstream.requests()[0].head.contains("sk-operators-own"));
    gateway.counts("signalbox_requests_total", &[], 2.0).await;
    let printed = gateway.stderr() + &gateway.stdout();
    for secret in ["sk-operators-own", "sk-clients-own", "secret words"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[tokio::test]
async fn events_and_requests_have_their_time_by_the_same_name() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    let request = gateway.chat("m", "hi").await;
    gateway.rewrite("version: 1\n");
    let event = async || gateway.stderr().lines().next().map(str::to_owned);
    let event: serde_json::Value = serde_json::from_str(&until("an event", event).await).unwrap();
    for entry in [event, gateway.line(request.header("x-request-id")).await] {
        let is_utc = entry["ts"].as_str().is_some_and(|time| time.ends_with('Z'));
        assert!(is_utc && entry.get("timestamp").is_none(), "{entry}");
    }
}
