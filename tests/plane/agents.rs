//! Claude Code and Codex, as `tests/clients/replay.py` replays them, before upstreams of each dialect.

use crate::harness::{Launch, policy_of, sim};
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_and_codex_work_whatever_the_upstream_speaks() {
    let engine = sim("m").await;
    for speaks in ["[chat]", "[chat, messages, responses]", "[messages]", "[responses]"] {
        let gateway =
            Launch::new(policy_of(&[engine.addr()], &format!("    speaks: {speaks}\n"))).start().await;
        let mut script = Command::new("python3");
        script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/replay.py"));
        script.arg(gateway.url("")).arg("m").env("no_proxy", "*");
        let output = tokio::task::spawn_blocking(move || script.output().unwrap()).await.unwrap();
        let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (printed(&output.stdout), printed(&output.stderr));
        assert!(output.status.success(), "before {speaks}: {out}{err}{}", gateway.stderr());
        assert_eq!(out.matches("ok ").count(), 13, "{out}");
    }
}
