//! The policy and the files that it names are followed while the process serves.

use crate::harness::*;
use crate::streaming::{ask, leased, read};
use crate::upstream::Upstream;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Far less than the slow poll of 15 s: only the files' events are as quick.
const SOON: Duration = Duration::from_secs(6);

async fn readyz(gateway: &Gateway) -> Value {
    gateway.admin("/readyz").await.json()
}

async fn generation(gateway: &Gateway, wanted: u64) {
    let began = Instant::now();
    let there = async || (readyz(gateway).await["policy_generation"] == wanted).then_some(());
    until(&format!("generation {wanted}"), there).await;
    assert!(began.elapsed() < SOON, "the poll noticed it, not an event");
}

/// The reason why the policy on disk is not in force.
async fn fault(gateway: &Gateway) -> String {
    let began = Instant::now();
    let there = async || readyz(gateway).await["policy_fault"].as_str().map(str::to_owned);
    let fault = until("the policy's fault", there).await;
    assert!(began.elapsed() < SOON, "the poll noticed it, not an event");
    fault
}

async fn no_fault(gateway: &Gateway) {
    until("an end of the fault", async || readyz(gateway).await.get("policy_fault").is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn a_policy_is_followed_however_it_is_replaced() {
    let sim = sim("m").await;
    let named = |name: &str| {
        policy_of(&[sim.addr()], "").replace("  m: {", &format!("  {name}: {{upstream_model: m, "))
    };
    let gateway = Launch::new(named("m")).start().await;
    for (at, name) in (2..).zip(["first", "second", "third", "fourth"]) {
        if at % 2 == 0 {
            gateway.rewrite(&named(name));
        } else {
            fs::write(&gateway.policy, named(name)).unwrap();
        }
        generation(&gateway, at).await;
        assert_eq!(gateway.chat(name, "hello").await.status, 200);
        assert_eq!(gateway.chat("m", "hello").await.status, 404);
    }
    assert_eq!(gateway.metric("signalbox_policy_reloads_total", &["result=\"success\""]).await, 4.0);
    assert_eq!(gateway.metric("signalbox_policy_reloads_total", &["result=\"failure\""]).await, 0.0);
}

#[tokio::test]
async fn a_config_map_is_followed_through_its_symlinks() {
    let sim = sim("m").await;
    let named = |name: &str| {
        policy_of(&[sim.addr()], "").replace("  m: {", &format!("  {name}: {{upstream_model: m, "))
    };
    let launch = Launch::new(named("m"));
    let mount = launch.folder().to_owned();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, mount.join(name)).unwrap();
    fs::create_dir(mount.join("..2026_1")).unwrap();
    link("..2026_1", "..data");
    link("..data/policy.yaml", "policy.yaml");
    let gateway = launch.start().await;
    assert!(mount.join("..2026_1/policy.yaml").is_file(), "the policy stands behind the links");
    for at in 2..5 {
        let (old, new) = (format!("..2026_{}", at - 1), format!("..2026_{at}"));
        fs::create_dir(mount.join(&new)).unwrap();
        fs::write(mount.join(&new).join("policy.yaml"), named(&format!("m{at}"))).unwrap();
        link(&new, "..data_tmp");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        fs::remove_dir_all(mount.join(&old)).unwrap();
        generation(&gateway, at).await;
        assert_eq!(gateway.chat(&format!("m{at}"), "hello").await.status, 200);
    }
    assert_eq!(gateway.metric("signalbox_policy_reloads_total", &["result=\"failure\""]).await, 0.0);
}

#[tokio::test]
async fn a_broken_policy_changes_nothing_and_is_reported_until_it_is_repaired() {
    let sim = sim("m").await;
    let good = policy_of(&[sim.addr()], "");
    let gateway = Launch::new(good.clone()).start().await;
    let failures = async || gateway.metric("signalbox_policy_reloads_total", &["result=\"failure\""]).await;
    gateway.rewrite(&good.replace("{pools: [main]}", "{poolz: [main]}"));
    let said = fault(&gateway).await;
    for part in ["models.m.poolz", "line 3", "pools"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(failures().await, 1.0);
    let log = gateway.stderr();
    let log = log
        .lines()
        .find(|line| line.contains("policy refused"))
        .unwrap_or_else(|| panic!("no line in {log}"));
    assert!(log.contains("models.m.poolz") && log.contains("line 3") && log.contains("\"ERROR\""), "{log}");
    assert_eq!(gateway.admin("/readyz").await.status, 200, "what is in force serves on");
    assert_eq!(gateway.chat("m", "hello").await.status, 200);

    gateway.rewrite("version: 1\nmodels: [\n");
    until("the second fault", async || (failures().await == 2.0).then_some(())).await;
    assert!(!fault(&gateway).await.contains("poolz"));
    assert_eq!(readyz(&gateway).await["policy_generation"], 1);

    // The policy in force, written otherwise: nothing is published.
    gateway.rewrite(&format!("# repaired\n\n{good}"));
    no_fault(&gateway).await;
    assert_eq!(readyz(&gateway).await["policy_generation"], 1);
    assert_eq!(gateway.metric("signalbox_policy_generation", &[]).await, 1.0);
    assert_eq!(gateway.metric("signalbox_policy_reloads_total", &["result=\"success\""]).await, 0.0);

    gateway.rewrite("models: {}\n");
    fault(&gateway).await;
    gateway.rewrite(&good.replace("  m: {", "  n: {upstream_model: m, "));
    generation(&gateway, 2).await;
    no_fault(&gateway).await;
    assert_eq!(gateway.chat("n", "hello").await.status, 200);
    assert_eq!(failures().await, 3.0);
}

#[tokio::test]
async fn a_policy_that_vanishes_changes_nothing() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    fs::remove_file(&gateway.policy).unwrap();
    assert!(fault(&gateway).await.contains("policy.yaml"));
    assert_eq!(gateway.chat("m", "hello").await.status, 200);
    gateway.rewrite(&policy_of(&[sim.addr()], ""));
    no_fault(&gateway).await;
}

#[tokio::test]
async fn a_request_finishes_on_the_policy_it_started_with() {
    let (upstream, sim) = (Upstream::start().await, sim("n").await);
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    let asker = client();
    let (mut sent, mut got) = tokio::join!(upstream.stream(), ask(&asker, &gateway, "old", true));
    sent.chunk(b"data: 1\n\n").await;
    assert!(got.chunk().await.unwrap().is_some());
    // Neither its model nor its pool nor its endpoint is left, and a new stream may not pause.
    let other = policy_of(&[sim.addr()], "    timeouts: {idle: 50ms}\n")
        .replace("  m:", "  n:")
        .replace("main", "other");
    gateway.rewrite(&other);
    generation(&gateway, 2).await;
    assert_eq!(gateway.chat("m", "hello").await.status, 404);
    assert_eq!(gateway.chat("n", "hello").await.status, 200);
    sent.chunk(b"data: 2\n\n").await;
    sent.end().await;
    assert_eq!(read(&mut got).await, ("data: 2\n\n".to_owned(), true));
    let line = gateway.line("old").await;
    assert_eq!((&line["model"], &line["pool"]), (&json!("m"), &json!("main")), "{line}");
    assert_eq!(line["endpoint"], upstream.addr().to_string());
}

#[tokio::test]
async fn an_endpoint_that_stays_keeps_its_connections_and_what_is_in_flight() {
    let upstream = Upstream::start().await;
    let gateway = Launch::new(policy_of(&[upstream.addr()], "")).start().await;
    let asker = client();
    let answering = async {
        let mut call = upstream.call().await;
        call.answer().await;
        call
    };
    let (mut kept, first) = tokio::join!(answering, ask(&asker, &gateway, "first", false));
    assert_eq!(first.text().await.unwrap(), "{}");
    let (mut sent, mut got) = tokio::join!(
        async {
            // The kept connection serves again, so a second one is only made while it is busy.
            kept.again().await;
            kept.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            )
            .await;
            kept
        },
        ask(&asker, &gateway, "stream", true)
    );
    sent.chunk(b"data: 1\n\n").await;
    assert!(got.chunk().await.unwrap().is_some());

    let more = "    balance: {strategy: round_robin}\n    timeouts: {idle: 30s}\n";
    gateway.rewrite(&policy_of(&[upstream.addr()], more));
    generation(&gateway, 2).await;
    assert_eq!(leased(&gateway).await, 1.0, "the stream still counts");
    sent.end().await;
    assert!(read(&mut got).await.1);
    until("the end of the lease", async || (leased(&gateway).await == 0.0).then_some(())).await;
    let again = async {
        sent.again().await;
        sent.answer().await;
    };
    let ((), last) = tokio::join!(again, ask(&asker, &gateway, "last", false));
    assert_eq!(last.status(), 200, "over the connection that the first request made");
}

#[tokio::test]
async fn an_endpoint_that_stays_keeps_its_ejection_and_its_health() {
    let sims = [sim("m").await, sim("m").await, sim("m").await];
    let [failing, sick, well] = &sims;
    failing.set_faults(faults(|faults| faults.status = Some(500)));
    let more = |idle: &str| {
        format!(
            "    timeouts: {{idle: {idle}}}\n    balance: {{strategy: round_robin}}\n    \
             ejection: {{consecutive_failures: 1, base: 300s, max_share: 1}}\n"
        )
    };
    let health = "health: {enabled: true, interval: 100ms, unhealthy_after: 1, healthy_after: 1}";
    let policy = |sims: &[std::net::SocketAddr], idle: &str| {
        policy_of(sims, &more(idle)).replace("health: {enabled: false}", health)
    };
    let all = [failing.addr(), sick.addr(), well.addr()];
    let gateway = Launch::new(policy(&all, "30s")).start().await;
    sick.set_faults(faults(|faults| faults.unhealthy = true));
    let available = async |wanted: u64| {
        let left = readyz(&gateway).await["pools"][0]["available"].as_u64();
        (left == Some(wanted)).then_some(())
    };
    until("one that is down", async || available(2).await).await;
    until("one that is ejected", async || {
        gateway.chat("m", "hello").await;
        available(1).await
    })
    .await;
    failing.set_faults(faults(|_| {}));

    let fresh = sim("m").await;
    gateway.rewrite(&policy(&[failing.addr(), sick.addr(), well.addr(), fresh.addr()], "20s"));
    generation(&gateway, 2).await;
    let before = asked(failing).len();
    assert!(available(2).await.is_some(), "{}", readyz(&gateway).await);
    for _ in 0..6 {
        assert_eq!(gateway.chat("m", "hello").await.status, 200);
    }
    assert_eq!((asked(failing).len(), asked(sick).len()), (before, asked(sick).len()));
    assert_eq!(asked(&fresh).len(), 3, "the new one takes its turn");
    let up = async |sim: &signalbox::sim::Sim| {
        gateway.metric("signalbox_endpoint_up", &[&format!("endpoint=\"{}\"", sim.addr())]).await
    };
    assert_eq!([up(failing).await, up(sick).await, up(well).await, up(&fresh).await], [0.0, 0.0, 1.0, 1.0]);
    gateway.counts("signalbox_ejections_total", &[], 1.0).await;
}

#[tokio::test]
async fn a_secret_that_is_rotated_or_comes_late_is_used_by_the_next_request() {
    let sim = sim("m").await;
    let credential = "    credential: {value: {file: key}, optional: true}\n";
    let launch = Launch::new(policy_of(&[sim.addr()], credential));
    let key = launch.folder().join("key");
    let gateway = launch.start().await;
    let sent = async || {
        assert_eq!(gateway.chat("m", "hello").await.status, 200);
        let seen = asked(&sim).pop().unwrap();
        seen.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(sent().await, None, "there is no key yet");
    let began = Instant::now();
    for value in ["sk-first", "sk-second\n", "sk-third"] {
        if value == "sk-third" {
            let fresh = gateway.folder.path().join("key.new");
            fs::write(&fresh, value).unwrap();
            fs::rename(&fresh, &key).unwrap();
        } else {
            fs::write(&key, value).unwrap();
        }
        let wanted = Some(format!("Bearer {}", value.trim_end()));
        until(value, async || (sent().await == wanted).then_some(())).await;
    }
    assert!(began.elapsed() < 3 * SOON, "the poll noticed it, not an event");
    let said = gateway.stdout() + &gateway.stderr() + &gateway.admin("/readyz").await.text;
    assert!(!said.contains("sk-"), "no key is ever shown");
}

#[tokio::test]
async fn a_policy_refused_for_a_missing_secret_is_taken_once_the_secret_comes() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    let secrets = gateway.folder.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    for (at, file) in [(2, "key"), (3, "secrets/key")] {
        let credential = format!("    credential: {{value: {{file: {file}}}}}\n");
        gateway.rewrite(&policy_of(&[sim.addr()], &credential));
        let said = fault(&gateway).await;
        assert!(said.contains("pools.main.credential"), "{said}");
        fs::write(gateway.folder.path().join(file), format!("sk-{at}")).unwrap();
        generation(&gateway, at).await;
        no_fault(&gateway).await;
        assert_eq!(gateway.chat("m", "hello").await.status, 200);
        assert_eq!(asked(&sim).pop().unwrap().headers["authorization"], format!("Bearer sk-{at}"));
    }
}

#[tokio::test]
async fn the_classifier_stays_loaded_unless_it_is_to_be_another() {
    let sim = sim("m").await;
    let policy = |idle: &str, threads: usize| {
        policy_of(&[sim.addr()], &format!("    timeouts: {{idle: {idle}}}\n"))
            + &format!(
                "virtual_models: [auto]\ndefault_model: m\nclassifier: {{threads: {threads}}}\n\
                        decisions: [{{name: sums, domains: [math], model: m}}]\n"
            )
    };
    let gateway = Launch::new(policy("10s", 1)).start().await;
    let threads = || classifier_threads(gateway.pid());
    let first = threads();
    assert_eq!(first.len(), 1);
    gateway.rewrite(&policy("20s", 1));
    generation(&gateway, 2).await;
    assert_eq!(threads(), first, "the same threads hold the same weights");
    assert_eq!(gateway.chat("auto", "What is 2+2?").await.header("x-vsr-selected-category"), "math");
    gateway.rewrite(&policy("20s", 2));
    generation(&gateway, 3).await;
    until("the new classifier alone", async || {
        let now = threads();
        (now.len() == 2 && now.is_disjoint(&first)).then_some(())
    })
    .await;
    assert_eq!(gateway.chat("auto", "What is 2+2?").await.header("x-vsr-selected-category"), "math");
}

/// The ids of the threads that classify.
fn classifier_threads(pid: u32) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let named =
        |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("classify"));
    tasks
        .filter(|task| named(task))
        .map(|task| task.file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn files_that_nobody_changes_are_not_read_again_and_again() {
    use notify::{EventKind, RecursiveMode, Watcher};
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    // A first change makes sure that the process watches by now.
    gateway.rewrite(&policy_of(&[sim.addr()], "    timeouts: {idle: 20s}\n"));
    generation(&gateway, 2).await;
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let event = event.unwrap();
        if matches!(event.kind, EventKind::Access(_))
            && event.paths.iter().any(|path| path.ends_with("policy.yaml"))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .unwrap();
    watcher.watch(gateway.folder.path(), RecursiveMode::NonRecursive).unwrap();
    // Nothing can be waited for where nothing is to happen: this is how long it must not.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let seen = reads.load(Ordering::Relaxed);
    assert!(seen <= 4, "{seen} events of reading in a second and a half without a change");
}
