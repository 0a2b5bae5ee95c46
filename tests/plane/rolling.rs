//! Two instances behind one Service, as a rolling update and the kubelet's swaps of mounted files find them: under load, with
//! streams that last longer than the old instances are sent new requests.

use crate::harness::*;
use serde_json::json;
use signalbox::sim::Sim;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many clients stream without a pause.
const CLIENTS: usize = 12;

/// So many tokens, each after this time: longer than an instance that ends still listens.
const TOKENS: usize = 100;
const TOKEN_TIME: Duration = Duration::from_millis(10);

/// The addresses that new requests go to, as a Service has them.
type Ready = Arc<Mutex<Vec<SocketAddr>>>;

/// What became of the requests.
#[derive(Default)]
struct Outcome {
    whole: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

fn policy(sim: &Sim, name: &str) -> String {
    policy_of(&[sim.addr()], "    credential: {header: authorization, value: {file: key}}\n")
        .replace("  m: {", &format!("  {name}: {{aliases: [m], upstream_model: m, "))
}

/// Makes files that a kubelet's mount would have: behind two links, swapped as one.
fn swap(mount: &Path, generation: usize, files: &[(&str, String)]) {
    let fresh = format!("..generation_{generation}");
    fs::create_dir(mount.join(&fresh)).unwrap();
    for (name, text) in files {
        fs::write(mount.join(&fresh).join(name), text).unwrap();
        let link = mount.join(name);
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(format!("..data/{name}"), link).unwrap();
        }
    }
    std::os::unix::fs::symlink(&fresh, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if let Some(old) = generation.checked_sub(1) {
        let _ = fs::remove_dir_all(mount.join(format!("..generation_{old}")));
    }
}

/// Starts an instance whose policy and key stand in a kubelet's mount.
async fn instance(sim: &Sim) -> Gateway {
    let text = policy(sim, "m0");
    let launch = Launch::new(text.clone()).server("drain: {delay: 700ms, timeout: 20s}\n");
    swap(launch.folder(), 0, &[("policy.yaml", text), ("key", "key-0".to_owned())]);
    launch.start().await
}

/// Streams over and over, each time at one of the addresses that are ready then.
async fn stream_on(ready: Ready, outcome: Arc<Outcome>, is_over: Arc<AtomicBool>) {
    let client = client();
    let body = json!({"model": "m", "stream": true, "max_tokens": TOKENS, "messages": [{"role": "user", "content": "hi"}]});
    let body = body.to_string();
    let mut turn = 0;
    while !is_over.load(Ordering::Relaxed) {
        turn += 1;
        let addr = {
            let ready = ready.lock().unwrap();
            ready[turn % ready.len()]
        };
        let request = client.post(format!("http://{addr}/v1/chat/completions"));
        let asked = request.header("content-type", "application/json").body(body.clone()).send().await;
        let text = match asked {
            Ok(answer) if answer.status() == 200 => answer.text().await.map_err(|error| format!("{error:?}")),
            Ok(answer) => Err(format!("{} {:?}", answer.status(), answer.text().await)),
            Err(error) => Err(format!("{error:?}")),
        };
        match text {
            Ok(text) if text.ends_with("data: [DONE]\n\n") => {
                outcome.whole.fetch_add(1, Ordering::Relaxed);
            }
            Ok(text) => outcome
                .failures
                .lock()
                .unwrap()
                .push(format!("cut: {}", &text[text.len().saturating_sub(200)..])),
            Err(text) => outcome.failures.lock().unwrap().push(text),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_and_swapped_files_lose_no_request_and_no_stream() {
    let sim = sim_with("m", |options| {
        options.latency.itl = TOKEN_TIME;
        options.capacity.max_num_seqs = 256;
    })
    .await;
    let mut instances = vec![instance(&sim).await, instance(&sim).await];
    let ready: Ready = Arc::new(Mutex::new(instances.iter().map(|instance| instance.addr).collect()));
    let (outcome, is_over) = (Arc::new(Outcome::default()), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(stream_on(Arc::clone(&ready), Arc::clone(&outcome), Arc::clone(&is_over)));
    }
    let whole = || outcome.whole.load(Ordering::Relaxed);
    until("streams under way", async || (whole() >= CLIENTS).then_some(())).await;

    // The kubelet swaps the ConfigMap and the Secret of both.
    for generation in 1..4 {
        for instance in &instances {
            let files = [
                ("policy.yaml", policy(&sim, &format!("m{generation}"))),
                ("key", format!("key-{generation}")),
            ];
            swap(instance.folder.path(), generation, &files);
        }
        for instance in &instances {
            let is_new = async || {
                let models = Answer::of(client().get(instance.url("/v1/models")).send().await.ok()?).await;
                models.text.contains(&format!("\"m{generation}\"")).then_some(())
            };
            until(&format!("generation {generation}"), is_new).await;
        }
        let key = format!("Bearer key-{generation}");
        let is_used = async || {
            let last = asked(&sim).pop()?;
            (last.headers.get("authorization")?.to_str().ok()? == key).then_some(())
        };
        until(&key, is_used).await;
    }
    let before = whole();

    // A rolling update: one more first, then one less; the Service forgets it once it says that it is not ready.
    for place in &mut instances {
        let fresh = instance(&sim).await;
        ready.lock().unwrap().push(fresh.addr);
        let mut old = std::mem::replace(place, fresh);
        old.signal("TERM");
        let is_unready = async || {
            let answer = client().get(format!("http://{}/readyz", old.admin)).send().await;
            answer.ok().is_none_or(|answer| answer.status() != 200).then_some(())
        };
        until("an instance that says that it ends", is_unready).await;
        ready.lock().unwrap().retain(|addr| *addr != old.addr);
        let began = Instant::now();
        assert!(old.ended().await.success());
        assert!(began.elapsed() < Duration::from_secs(15), "it ends with its last stream");
    }
    let after = whole();
    until("streams of the new instances", async || (whole() >= after + CLIENTS).then_some(())).await;
    is_over.store(true, Ordering::Relaxed);
    while clients.join_next().await.is_some() {}
    let failures = outcome.failures.lock().unwrap();
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), whole() + failures.len());
    assert!(after > before, "streams ended while instances were replaced");
    println!("{} streams of {TOKENS} tokens, none lost", whole());
}
