//! The command line: what each subcommand says, and with which exit code it ends.

use crate::harness::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn signalbox() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    signalbox().args(arguments).output().unwrap()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_shipped_policy_and_server_file_is_right() {
    let mut policies = vec![repository("k8s/base/config/policy.yaml")];
    let mut servers = vec![repository("k8s/base/config/server.yaml")];
    for entry in std::fs::read_dir(repository("conf")).unwrap() {
        let path = entry.unwrap().path();
        let file = if path.ends_with("server.yaml") { &mut servers } else { &mut policies };
        file.push(path);
    }
    assert!(policies.len() >= 4 && servers.len() == 2);
    for policy in policies {
        let output = signalbox().arg("check").arg(&policy).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(said.contains(": ok (") && said.contains(" models, "), "{said}");
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    }
    for server in servers {
        let output = signalbox().arg("check").arg("--server").arg(&server).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let both = run(&["check", "conf/quickstart.yaml", "--server", "conf/server.yaml"]);
    assert_eq!((both.status.code(), text(&both.stdout).lines().count()), (Some(0), 2));
}

/// A policy whose pool has a key that anybody spends who reaches it, with this before its models.
fn with_a_key(more: &str) -> String {
    format!(
        "version: 1\n{more}models: {{m: {{pools: [cloud]}}}}\npools:\n  cloud: {{endpoints: [\"127.0.0.1:9\"], \
         credential: {{value: {{env: SIGNALBOX_TEST_KEY}}}}}}\n"
    )
}

#[test]
fn a_key_behind_a_public_listener_without_identity_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, server) = (folder.path().join("policy.yaml"), folder.path().join("server.yaml"));
    let identity = "identity: {required: true, keys: [{value: {env: SIGNALBOX_TEST_KEY}, user: u}]}\n";
    for (more, listener, warned) in
        [("", "0.0.0.0:8080", true), ("", "127.0.0.1:8080", false), (identity, "0.0.0.0:8080", false)]
    {
        std::fs::write(&policy, with_a_key(more)).unwrap();
        std::fs::write(&server, format!("listeners: [{{address: \"{listener}\"}}]\n")).unwrap();
        let mut check = signalbox();
        check.arg("check").arg(&policy).arg("--server").arg(&server).env("SIGNALBOX_TEST_KEY", "sk");
        let output = check.output().unwrap();
        let said = text(&output.stdout).to_owned() + text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("warning: whoever reaches 0.0.0.0:8080 spends"), warned, "{said}");
    }
}

#[tokio::test]
async fn a_running_gateway_says_what_its_policy_may_not_do_as_expected() {
    let launch = Launch::new(with_a_key("identity: {trusted_peers: [0.0.0.0/0]}\n"));
    let gateway = launch.variable("SIGNALBOX_TEST_KEY", "sk").start().await;
    let warning = "everybody's identity headers are believed";
    until("the warning is printed", async || gateway.stderr().contains(warning).then_some(())).await;
    let warnings = gateway.admin("/readyz").await.json()["warnings"].to_string();
    assert!(warnings.contains(warning), "{warnings}");
}

#[test]
fn a_key_that_would_go_in_clear_to_port_443_is_an_issue() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    for (more, code) in [("", 1), (", tls: {}", 0)] {
        let text_of = with_a_key("").replace("127.0.0.1:9", "api.example.com:443");
        std::fs::write(&file, text_of.replace(", credential", &format!("{more}, credential"))).unwrap();
        let output = signalbox().arg("check").arg(&file).env("SIGNALBOX_TEST_KEY", "sk").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let issue = "pools.cloud.endpoints[0] (line 4): is port 443 without `tls`";
        assert_eq!(text(&output.stderr).contains(issue), code == 1, "{}", text(&output.stderr));
    }
}

#[test]
fn all_issues_of_a_bad_policy_are_listed_with_path_line_and_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let policy = "version: 1\nvirtual_model: [auto]\nmodels:\n  m: {pools: [mian], alias: [x]}\npools:\n  main:\n    \
                  endpoints: [\"nowhere\"]\n    timeouts: {conect: 1s, idle: soon}\n    \
                  balance: {strategy: round_robbin}\nretry: {attempts: 99}\n";
    std::fs::write(&file, policy).unwrap();
    let output = signalbox().arg("check").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    for issue in [
        "virtual_model (line 2): unknown key; did you mean `virtual_models`? There are `admission`, ",
        "models.m.alias (line 4): unknown key; did you mean `aliases`?",
        "pools.main.timeouts.conect (line 8): unknown key; did you mean `connect`? There are `connect`, `first_byte`",
        "pools.main.timeouts.idle (line 8): ",
        "pools.main.balance.strategy (line 9): ",
        "`round_robin`",
        "retry.attempts (line 10): ",
    ] {
        assert!(said.contains(issue), "{issue} is not in:\n{said}");
    }
    assert!(said.contains(&file.display().to_string()) && output.stdout.is_empty(), "{said}");
    let counted = said.split(" issue(s)").next().unwrap().rsplit(' ').next().unwrap();
    let listed = said.lines().filter(|line| line.contains("(line ")).count();
    assert_eq!(counted.parse(), Ok(listed), "{said}");

    std::fs::write(
        &file,
        "version: 1\nmodels: {m: {pools: [mian]}}\npools: {main: {endpoints: [nowhere]}}\n",
    )
    .unwrap();
    let output = signalbox().arg("check").arg(&file).output().unwrap();
    let said = text(&output.stderr);
    for issue in [
        "models.m.pools[0] (line 2): ",
        "did you mean `main`?",
        "pools.main.endpoints[0] (line 3): `nowhere`",
    ] {
        assert!(said.contains(issue), "{issue} is not in:\n{said}");
    }
}

#[test]
fn several_files_are_checked_at_once_and_one_may_be_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let [first, server] = ["a.yaml", "server.yaml"].map(|name| folder.path().join(name));
    std::fs::write(&first, "version: 1\nmodels: {m: {pools: [p]}}\npools: {p: {endpoints: [\"h:1\"]}, q: {endpoints: [\"h:2\"]}}\n")
        .unwrap();
    std::fs::write(&server, "thread: 4\n").unwrap();
    let mut command = signalbox();
    command.arg("check").arg(&first).arg("-").arg("--server").arg(&server).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let input = "version: 1\nmodels: {m: {pools: [x]}}\npools:\n  p: {endpoints: [\"h:1\"]}\n";
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("a.yaml: ok (1 models, 2 pools, 0 decisions)"), "{said}");
    assert!(said.contains("a.yaml: warning: pool `q` gets no requests: no model names it"), "{said}");
    assert!(
        told.contains("server.yaml has 1 issue(s):\nthread (line 1): unknown key; did you mean `threads`? There are `admin`, "),
        "{told}"
    );
    assert!(told.contains("- has 1 issue(s):\nmodels.m.pools[0] (line 2): unknown pool `x`"), "{told}");
}

#[test]
fn an_issue_is_shown_in_its_line_unless_that_may_hold_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let policy = "version: 1\nmodels: {m: {pools: [p]}}\npools:\n  p:\n    endpoints: [\"h:443\"]\n    tls: {}\n    \
                  wieght: 1\n    credential: {value: sk-never-shown, typo: 1}\n";
    std::fs::write(&file, policy).unwrap();
    let output = signalbox().arg("check").arg(&file).output().unwrap();
    let told = text(&output.stderr);
    assert!(told.contains("\n  7 |     wieght: 1\n    |     ^\n"), "{told}");
    assert!(told.contains("pools.p.credential") && !told.contains("sk-never-shown"), "{told}");
}

#[test]
fn manifests_of_a_folder_or_of_one_file_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  gatewayClassName: ours\n  \
                   listeners: [{name: web, protocol: HTTP, port: 81}]\n";
    std::fs::write(&file, gateway).unwrap();
    let judged =
        |path: &Path| run(&["check", "--cluster", path.to_str().unwrap(), "--gateway-class", "ours"]);
    let (whole, one) = (judged(folder.path()), judged(&file));
    assert_eq!((text(&whole.stdout), one.status.code()), (text(&one.stdout), Some(1)));
    assert!(text(&one.stdout).contains("PortUnavailable"), "{}", text(&one.stdout));
    std::fs::write(&file, b"kind: \xff\n").unwrap();
    let broken = judged(&file);
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stderr).contains("is not UTF-8"), "{}", text(&broken.stderr));
}

#[test]
fn each_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(
            output.status.success() && script.contains("completions") && script.contains("explain"),
            "{shell}"
        );
    }
    assert_eq!(run(&["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn the_recorded_bad_policies_fail_with_the_issues_recorded_for_them() {
    let mut tried = 0;
    for entry in std::fs::read_dir(repository("tests/policies/invalid")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let output = signalbox().arg("check").arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", path.display());
        assert!(text(&output.stderr).contains(" issue(s):\n"), "{}", path.display());
        tried += 1;
    }
    assert!(tried >= 10);
}

#[test]
fn a_domain_that_the_classifier_does_not_know_is_an_issue() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let quickstart = std::fs::read_to_string(repository("conf/quickstart.yaml")).unwrap();
    std::fs::write(&file, quickstart.replace("domains: [math]", "domains: [maths]")).unwrap();
    let output = signalbox().arg("check").arg(&file).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("decisions[9].domains[0] (line ") && said.contains("did you mean `math`?"),
        "{said}"
    );
}

#[test]
fn a_policy_can_be_checked_while_its_hub_is_out_of_reach() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let quickstart = std::fs::read_to_string(repository("conf/quickstart.yaml")).unwrap();
    let classifier =
        "classifier: {model: \"hf://owner/name\", hub: {endpoint: \"http://127.0.0.1:1\", cache: hub}}\n";
    std::fs::write(&file, quickstart.replace("domains: [math]", "domains: [anything]") + classifier).unwrap();
    let output = signalbox().arg("check").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(": ok ("));
}

#[test]
fn all_issues_of_a_bad_server_file_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.yaml");
    std::fs::write(
        &file,
        "listener: []\nlimits: {max_body_bytes: 0}\ndrain: {delay: soon}\nlog: {level: loud}\n",
    )
    .unwrap();
    let output = signalbox().args(["check", "--server"]).arg(&file).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for issue in [
        "listener (line 1): unknown key; did you mean `listeners`?",
        "limits.max_body_bytes (line 2): ",
        "drain.delay (line 3): ",
        "log.level (line 4): ",
    ] {
        assert!(said.contains(issue), "{issue} is not in:\n{said}");
    }
}

#[test]
fn variables_and_their_defaults_stand_for_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let policy = "version: ${V:-1}\nmodels: {m: {pools: [main]}}\npools: {main: {endpoints: [\"${WHERE}:${PORT:-1}\"]}}\n";
    std::fs::write(&file, policy).unwrap();
    let check = |variables: &[(&str, &str)]| {
        let mut command = signalbox();
        command.arg("check").arg(&file).env_remove("WHERE").env_remove("PORT").env_remove("V");
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let unset = check(&[]);
    assert_eq!(unset.status.code(), Some(1));
    assert!(text(&unset.stderr).contains("(line 3): ") && text(&unset.stderr).contains("WHERE"));
    assert_eq!(check(&[("WHERE", "127.0.0.1")]).status.code(), Some(0));
    assert_eq!(check(&[("WHERE", "127.0.0.1"), ("PORT", "no port")]).status.code(), Some(1));
    assert_eq!(check(&[("WHERE", "127.0.0.1"), ("V", "2")]).status.code(), Some(1));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for arguments in [&["check", "/no/such/policy.yaml"][..], &["check", "--server", "/no/such/policy.yaml"]]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains("/no/such/policy.yaml: No such file"),
            "{}",
            text(&output.stderr)
        );
    }
    assert_eq!(run(&["check"]).status.code(), Some(2), "clap's own complaint");
}

/// All names of properties in a JSON Schema.
fn properties(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(own)) = map.get("properties") {
                names.extend(own.keys().cloned());
            }
            map.values().for_each(|value| properties(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| properties(value, names)),
        _ => {}
    }
}

/// The keys of a documented YAML file, those in comments included; names that the operator chooses are left out.
fn keys(file: &str, chosen: &[&str]) -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository(file)).unwrap();
    // A key begins a line or a flow mapping, or follows a comma in one; words in comments do not.
    let parts = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("# ") || line.contains(':'))
        .flat_map(|line| {
            let line = line.trim_start().trim_start_matches(['#', '-']).trim_start();
            line.split(['{', ',']).map(str::trim_start).collect::<Vec<_>>()
        });
    let keys = parts.filter_map(|part| part.split_once(':').map(|(key, _)| key));
    let is_key = |key: &&str| {
        key.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && key.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    };
    keys.filter(is_key).filter(|key| !chosen.contains(key)).map(str::to_owned).collect()
}

#[test]
fn the_schemas_name_every_documented_key_and_the_documents_every_key_of_the_schemas() {
    let chosen = [
        "llama",
        "openai",
        "sessions",
        "discovered",
        "app",
        "keyed",
        "science",
        "attack",
        "private",
        "urgent",
        "formal",
        "leaks",
        "polite",
        "billing",
        "tricky",
        "french",
        "long",
        "questions",
        "numbers",
        "steps",
        "agentic",
        "factual",
        "unhappy",
        "repeats",
        "picture",
        "gold",
        "tagged",
        "staff",
        "flash",
        "house",
        "scored",
        "interactive",
        "batch",
        "acme",
        "crawlers",
        "picked",
        "disaggregated",
        "prefillers",
        "lruCapacityPerServer",
    ];
    for (which, file) in [("policy", "conf/policy.yaml"), ("server", "conf/server.yaml")] {
        let output = run(&["schema", which]);
        assert_eq!(output.status.code(), Some(0));
        let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(schema["$schema"].as_str().unwrap().starts_with("https://json-schema.org/"), "{which}");
        assert_eq!((&schema["type"], &schema["additionalProperties"]), (&"object".into(), &false.into()));
        let mut named = BTreeSet::new();
        properties(&schema, &mut named);
        assert_eq!(named, keys(file, &chosen), "{which}: left the schema, right {file}");
        let descriptions =
            schema["properties"].as_object().unwrap().values().filter(|one| one["description"].is_string());
        assert_eq!(descriptions.count(), schema["properties"].as_object().unwrap().len(), "{which}");
    }
    assert_eq!(run(&["schema"]).stdout, run(&["schema", "policy"]).stdout);
}

#[test]
fn serving_a_bad_policy_ends_at_once_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, "version: 1\nmodel: {}\npools: {}\n").unwrap();
    let addresses = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let output = signalbox().arg("serve").args(addresses).arg("--policy").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("model (line 2): unknown key; did you mean `models`?"), "{said}");
    assert!(!said.contains("panicked") && output.stdout.is_empty(), "{said}");
    let missing =
        signalbox().arg("serve").args(addresses).args(["--policy", "/no/such.yaml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("/no/such.yaml: No such file"));
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_with_its_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stranger = taken.local_addr().unwrap();
    let sim = sim("m").await;
    let running = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    for (listen, admin, blamed) in [
        (stranger.to_string(), "127.0.0.1:0".to_owned(), stranger),
        ("127.0.0.1:0".to_owned(), stranger.to_string(), stranger),
        (running.addr.to_string(), "127.0.0.1:0".to_owned(), running.addr),
        ("127.0.0.1:0".to_owned(), running.admin.to_string(), running.admin),
    ] {
        let mut command = signalbox();
        command.args(["serve", "--listen", &listen, "--admin", &admin, "--policy"]).arg(&running.policy);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let end = std::time::Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() && std::time::Instant::now() < end {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // One that runs in spite of it must not outlive the test.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{blamed}: {said}");
        assert!(said.contains(&format!("cannot listen on {blamed}: Address already in use")), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        assert!(!text(&output.stdout).contains("listening"), "{}", text(&output.stdout));
    }
    assert_eq!(running.chat("m", "hi").await.status, 200, "the one that runs is not disturbed");
}

#[tokio::test]
async fn the_file_with_the_process_id_is_that_of_the_process_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let server = format!(
        "upgrade: {{socket: {}, pid_file: {}}}\n",
        folder.path().join("upgrade.sock").display(),
        pid_file.display()
    );
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).server(server).start().await;
    let pid = || std::fs::read_to_string(&pid_file).unwrap().trim().parse::<u32>().unwrap();
    assert_eq!(pid(), gateway.pid());
    // A second one that cannot start leaves it alone.
    let mut second = signalbox();
    second.args(["serve", "--admin", "127.0.0.1:0", "--listen", &gateway.addr.to_string(), "--server"]);
    second.arg(gateway.folder.path().join("server.yaml")).arg("--policy").arg(&gateway.policy);
    assert_eq!(second.output().unwrap().status.code(), Some(1));
    assert_eq!(pid(), gateway.pid());
}

#[tokio::test]
async fn a_simulated_vllm_starts_answers_and_ends_on_a_signal() {
    let mut command = signalbox();
    command.args(["sim", "--listen", "127.0.0.1:0", "--model", "some/model", "--pod", "p-1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let at = line.find("127.0.0.1:").unwrap_or_else(|| panic!("no address in {line}"));
    let address = line[at..].trim_end_matches(|c: char| !c.is_ascii_digit());
    let address = address.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').next().unwrap();
    let body = r#"{"model": "some/model", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}"#;
    let request = client()
        .post(format!("http://{address}/v1/chat/completions"))
        .header("content-type", "application/json");
    let answer = Answer::of(request.body(body).send().await.unwrap()).await;
    assert_eq!((answer.status, answer.header("x-inference-pod")), (200, "p-1"), "{}", answer.text);
    assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
    let health = client().get(format!("http://{address}/health")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
}
