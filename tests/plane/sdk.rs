//! The official OpenAI SDK for Python against the running binary; the calls stand in `tests/sdk/test_sdk.py`.

use crate::harness::*;
use signalbox::sim::{Sim, SimOutcome};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tokio::net::TcpSocket;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A Python with the SDK in a virtual environment of its own, made once for each content of the requirements.
fn python() -> PathBuf {
    let requirements = repository("tests/sdk/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
    let (folder, done) = (target.join("sdk-venv"), target.join("sdk-venv/requirements.done"));
    // Two test runs at once must not build it at once.
    let lock = File::create(target.join("sdk-venv.lock")).unwrap();
    lock.lock().unwrap();
    let python = folder.join("bin/python");
    let is_done = std::fs::read_to_string(&done).is_ok_and(|made_of| made_of == wanted);
    if is_done && Command::new(&python).arg("--version").output().is_ok_and(|output| output.status.success())
    {
        return python;
    }
    let missing = "install the Debian package python3-venv (with python3) to run this test";
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output();
    let made = made.unwrap_or_else(|error| panic!("python3 cannot be run ({error}): {missing}"));
    assert!(made.status.success(), "no virtual environment was made: {missing}\n{}", printed(&made));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
    let installed = pip.output().unwrap_or_else(|error| panic!("pip cannot be run ({error}): {missing}"));
    assert!(installed.status.success(), "pip cannot install the SDK:\n{}", printed(&installed));
    std::fs::write(done, wanted).unwrap();
    python
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A simulated vLLM that never is in a hurry.
async fn endless() -> Sim {
    sim_with("endless", |options| {
        options.latency.ttft = Duration::from_millis(1);
        options.latency.itl = Duration::from_millis(20);
        options.default_max_tokens = 4000;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_sdk_works_as_with_openai_itself() {
    let python = tokio::task::spawn_blocking(python).await.unwrap();
    let (llama, phi, endless) = (sim("llama3-8b").await, sim("phi4-mini").await, endless().await);
    let (slow, breaks, down) = (sim("slow").await, sim("breaks").await, sim("down").await);
    slow.set_faults(faults(|faults| faults.stall_before_headers = Some(Duration::from_secs(60))));
    breaks.set_faults(faults(|faults| faults.reset_mid_stream = Some(3)));
    down.set_faults(faults(|faults| faults.unhealthy = true));
    let refused = TcpSocket::new_v4().unwrap();
    refused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let pool = |address: std::net::SocketAddr, more: &str| format!("{{endpoints: [\"{address}\"]{more}}}");
    let calm = ", health: {enabled: false}, ejection: {consecutive_failures: 0}";
    let impatient = format!("{calm}, timeouts: {{first_byte: 300ms}}");
    let policy = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: llama3-8b\n\
         classifier: {{deadline: 10s}}\n\
         decisions:\n  - {{name: math, domains: [math], model: phi4-mini}}\n\
         models:\n  llama3-8b: {{pools: [llama]}}\n  phi4-mini: {{pools: [phi]}}\n\
         \x20 org/family/model: {{pools: [llama], upstream_model: llama3-8b, owned_by: org}}\n\
         \x20 endless: {{pools: [endless]}}\n  slow: {{pools: [slow]}}\n  breaks: {{pools: [breaks]}}\n\
         \x20 down: {{pools: [down]}}\n  refused: {{pools: [refused]}}\n\
         pools:\n  llama: {}\n  phi: {}\n  endless: {}\n  slow: {}\n  breaks: {}\n  down: {}\n  refused: {}\n\
         retry: {{attempts: 1}}\n",
        pool(llama.addr(), calm),
        pool(phi.addr(), calm),
        pool(endless.addr(), calm),
        pool(slow.addr(), &impatient),
        pool(breaks.addr(), calm),
        pool(down.addr(), ", health: {interval: 50ms, unhealthy_after: 1}"),
        pool(refused.local_addr().unwrap(), calm),
    );
    let server = "limits: {max_body_bytes: 65536}\ndrain: {delay: 0s}\n";
    let gateway = Launch::new(policy).server(server).start().await;
    let is_down = async || (gateway.chat("down", "hi").await.status == 503).then_some(());
    until("the failed health check", is_down).await;

    let mut script = Command::new(python);
    script
        .arg(repository("tests/sdk/test_sdk.py"))
        .env("SIGNALBOX_URL", gateway.url(""))
        .env("ENDLESS_URL", format!("http://{}", endless.addr()))
        .env("no_proxy", "*");
    let output = tokio::task::spawn_blocking(move || script.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}\n{}", printed(&output), gateway.stderr());
    assert_eq!(printed(&output).matches("ok ").count(), 10, "{}", printed(&output));

    let left = async || {
        let outcomes: Vec<SimOutcome> = asked(&endless).iter().map(|seen| seen.outcome).collect();
        (outcomes == [SimOutcome::Aborted, SimOutcome::Aborted]).then_some(())
    };
    until("both requests that were left to end upstream", left).await;
    assert_eq!(endless.running(), 0);
    let free = async || (gateway.metric("signalbox_requests_in_flight", &[]).await == 0.0).then_some(());
    until("nothing to be in flight", free).await;
    let mine = llama
        .requests()
        .into_iter()
        .chain(phi.requests())
        .any(|seen| format!("{:?}", seen.headers).contains("sk-mine"));
    assert!(!mine, "the SDK's key stays here");
}
