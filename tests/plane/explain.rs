//! `signalbox explain`: the signals, the decisions and the plan of prompts, which the proxy then follows.

use crate::harness::*;
use serde_json::Value;

/// A policy whose first rule is too strict for the label that it wants.
const POLICY: &str = "version: 1\nvirtual_models: [auto]\ndefault_model: general\nclassifier: {deadline: 30s}\n\
    models:\n  general: {pools: [main]}\n  maths: {pools: [main, {pool: spare, upstream_model: maths-2}]}\n\
    pools:\n  main: {endpoints: [\"127.0.0.1:1\"]}\n  spare: {endpoints: [\"127.0.0.1:2\"]}\n\
    decisions:\n  - {name: certain, priority: 9, domains: [math], min_confidence: 1.0, model: general}\n  \
    - {name: laws, priority: 5, domains: [law], model: general}\n  \
    - {name: sums, priority: 1, domains: [math], min_confidence: 0.1, model: maths}\n";

fn with_policy(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    (folder, file)
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    printed(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_prompt_is_explained_with_every_signal_each_decision_the_plan_and_the_time() {
    let (_folder, policy) = with_policy(POLICY);
    let output = command(&["explain", "--policy", &policy, "What is 2+2 * (5-1)?"], "");
    let said = printed(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output.stderr));
    for part in [
        "prompt     \"What is 2+2 * (5-1)?\", for `auto`\n",
        "domain     math 0.",
        "jailbreak  ",
        "pii        ",
        " - certain (priority 9): domain:math no [math 0.",
        ", wants 1]\n",
        " - laws (priority 5): domain:law no [math 0.",
        "=> sums (priority 1): domain:math yes [math 0.",
        "plan       maths by decided (sums); pools: main (as maths), then spare (as maths-2)\n",
        "time       tokenize ",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!said.contains("embedding"), "{said}");
}

#[test]
fn a_prompt_is_shown_in_its_own_letters_but_moves_no_cursor() {
    let (_folder, policy) = with_policy(POLICY);
    let output = command(&["explain", "--policy", &policy, "it's ไม่ต้อง \u{1b}[2J \"so\""], "");
    let said = printed(&output.stdout);
    assert!(said.starts_with(r#"prompt     "it's ไม่ต้อง \u{1b}[2J \"so\"", for"#), "{said}");
}

#[test]
fn json_says_the_same() {
    let (_folder, policy) = with_policy(POLICY);
    let output = command(&["explain", "--json", "--embedding", "--policy", &policy, "2+2 is"], "");
    let explained = json_lines(&output.stdout).remove(0);
    let domain = &explained["signals"]["domain"];
    assert_eq!((&domain["label"], &domain["coverage"]), (&"math".into(), &1.0.into()), "{explained}");
    let probabilities = domain["probabilities"].as_object().unwrap();
    let sum: f64 = probabilities.values().map(|p| p.as_f64().unwrap()).sum();
    assert_eq!((probabilities.len(), &probabilities["math"]), (14, &domain["confidence"]));
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
    for signal in ["jailbreak", "pii", "embedding"] {
        assert!(!explained["signals"][signal].is_null(), "{signal} is missing in {explained}");
    }
    let names: Vec<_> = explained["decisions"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["certain", "laws", "sums"]);
    let chosen = &explained["decisions"][2];
    assert_eq!((&chosen["matched"], &chosen["chosen"]), (&true.into(), &true.into()));
    assert_eq!(explained["plan"]["model"], "maths");
    assert_eq!(explained["plan"]["reason"], "decided");
    assert_eq!(explained["plan"]["pools"][1]["upstream_model"], "maths-2");
    let time = &explained["time"];
    assert!(time["compute_ms"].as_f64().unwrap() > 0.0 && time["tokens"].as_u64().unwrap() > 0, "{time}");
}

#[tokio::test]
async fn the_plan_that_is_explained_is_the_one_that_is_followed() {
    let (general, maths) = (sim("general").await, sim("maths").await);
    let policy = POLICY
        .replace("127.0.0.1:1", &general.addr().to_string())
        .replace("127.0.0.1:2", &maths.addr().to_string());
    let (_folder, file) = with_policy(&policy);
    let gateway = Launch::new(policy).start().await;
    for prompt in ["What is the derivative of x^3?", "When may a tenant end a lease?", "Tell me a joke."] {
        let output = command(&["explain", "--json", "--policy", &file, prompt], "");
        let explained = json_lines(&output.stdout).remove(0);
        let answer = gateway.chat("auto", prompt).await;
        let header = |name: &str| answer.header(&format!("x-vsr-selected-{name}")).to_owned();
        assert_eq!(explained["plan"]["model"], header("model").as_str(), "{prompt}");
        assert_eq!(explained["plan"]["reason"], header("reason").as_str(), "{prompt}");
        assert_eq!(
            explained["plan"]["decision"].as_str().unwrap_or_default(),
            header("decision"),
            "{prompt}"
        );
        assert_eq!(explained["signals"]["domain"]["label"], header("category").as_str(), "{prompt}");
    }
}

#[tokio::test]
async fn a_running_gateway_says_how_each_replica_stands_for_what_is_explained() {
    let sims = [sim("maths").await, sim("maths").await];
    let addresses: Vec<String> = sims.iter().map(|sim| format!("\"{}\"", sim.addr())).collect();
    let policy = POLICY.replace("\"127.0.0.1:1\"", &addresses.join(", "));
    let (_folder, file) = with_policy(&policy);
    let gateway = Launch::new(policy).start().await;
    let prompt = "What is the derivative of x^3 + 2x? ".repeat(100);
    let served = gateway.chat("maths", &prompt).await;
    assert_eq!(served.status, 200, "{}", served.text);
    let admin = gateway.admin.to_string();
    let arguments = ["explain", "--policy", &file, "--model", "maths", "--gateway", &admin];
    let output = command(&[&arguments[..], &["--json", &prompt]].concat(), "");
    let explained = json_lines(&output.stdout).remove(0);
    let replicas = &explained["replicas"];
    assert_eq!((&replicas["model"], &replicas["pool"]), (&"maths".into(), &"main".into()), "{explained}");
    let endpoints = replicas["endpoints"].as_array().unwrap();
    let best: Vec<_> = endpoints.iter().filter(|one| one["best"] == true).collect();
    assert_eq!((endpoints.len(), best.len()), (2, 1), "{replicas}");
    let home = sims.iter().find(|sim| !asked(sim).is_empty()).unwrap();
    assert_eq!(best[0]["host"], home.addr().to_string(), "the one that has it: {replicas}");
    let output = command(&[&arguments[..], &[&prompt]].concat(), "");
    let said = printed(&output.stdout);
    assert!(said.contains("replicas   of main for maths, "), "{said}");
    assert_eq!(said.matches(" tokens to compute, cost ").count(), 2, "{said}");
    drop(gateway);
    let output = command(&[&arguments[..], &[&prompt]].concat(), "");
    assert!(printed(&output.stderr).contains("/api/v1/pick: "), "{}", printed(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn prompts_come_from_lines_and_from_whole_requests() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.jsonl");
    let lines = "{\"text\":\"Solve 3x = 9.\"}\n\n{\"custom_id\":1,\"body\":{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}}\n";
    std::fs::write(&file, lines).unwrap();
    let file = file.display().to_string();
    let output = command(&["explain", "--json", "-", "--file", &file], "What is 2+2?\nWho was Kant?\n");
    assert!(output.status.success(), "{}", printed(&output.stderr));
    assert!(output.stderr.is_empty(), "no bar where nobody looks");
    let all = json_lines(&output.stdout);
    let prompts: Vec<_> =
        all.iter().map(|one| (one["prompt"].as_str().unwrap(), one["line"].as_u64().unwrap())).collect();
    assert_eq!(prompts, [("What is 2+2?", 1), ("Who was Kant?", 2), ("Solve 3x = 9.", 1), ("hi", 3)]);
    // Without a policy it is the quick start's, in which a client names this model.
    assert_eq!(
        (&all[3]["plan"]["model"], &all[3]["plan"]["reason"]),
        (&"gpt-4o-mini".into(), &"named".into())
    );
    assert_eq!(all[3]["decisions"], serde_json::json!([]));
}

#[test]
fn what_is_unknown_is_shown_with_its_reason() {
    let (_folder, policy) = with_policy(POLICY);
    let output = command(&["explain", "--policy", &policy, "  ", "--deadline", "1m"], "");
    let said = printed(&output.stdout);
    assert!(said.contains("domain     unknown: empty\n"), "{said}");
    assert!(said.contains("plan       general by default_no_text; "), "{said}");
    let strict = POLICY.replace("deadline: 30s", "deadline: 30s, on_unknown: reject");
    let (_folder, policy) = with_policy(&strict);
    let long = "word ".repeat(400);
    let output = command(&["explain", "--json", "--policy", &policy, "--deadline", "1us", &long], "");
    let explained = json_lines(&output.stdout).remove(0);
    assert_eq!(explained["signals"]["domain"]["unknown"], "late", "{explained}");
    assert_eq!(
        (&explained["plan"]["status"], &explained["plan"]["rejected"]),
        (&503.into(), &"unclassified".into())
    );
    let unknown = command(&["explain", "--json", "--policy", &policy, "--model", "nobody", "hi"], "");
    assert_eq!(json_lines(&unknown.stdout)[0]["plan"]["status"], 404);
}

#[test]
fn a_bad_policy_or_file_ends_it_with_its_issues() {
    let (_folder, policy) = with_policy("version: 1\nmodel: {}\npools: {}\n");
    let output = command(&["explain", "--policy", &policy, "hi"], "");
    assert_eq!(output.status.code(), Some(1));
    let said = printed(&output.stderr);
    assert!(said.contains("model (line 2): unknown key; did you mean `models`?"), "{said}");
    let output = command(&["explain", "--file", "/no/such.txt"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output.stderr).contains("/no/such.txt: No such file"));
    let output = command(&["explain", "-"], "{\"text\":\"a\"}\n{\"txt\":\"b\"}\n");
    assert!(
        printed(&output.stderr).contains("standard input, line 2: none of"),
        "{}",
        printed(&output.stderr)
    );
    assert_eq!(command(&["explain"], "").status.code(), Some(2), "clap's own complaint");
}

#[test]
fn what_a_pools_gate_goes_by_is_part_of_the_plan() {
    let more = "admission: {objectives: {batch: -1}, queue: {max_wait: 30s}}\n";
    let policy = |objective: &str| {
        POLICY
            .replace("  maths: {", &format!("  maths: {{{objective}"))
            .replace("  main: {", "  main: {max_in_flight: 7, saturation: {queue: 3}, ")
            + more
    };
    let (_folder, file) = with_policy(&policy(""));
    let output = command(&["explain", "--policy", &file, "What is 2+2 * (5-1)?"], "");
    let said = printed(&output.stdout);
    let expected = "admission  priority 0; waits up to 30 s while main has 3 waiting or 80 % of its KV cache in use or 7 requests";
    assert!(said.contains(expected), "{said}{}", printed(&output.stderr));
    let (_folder, file) = with_policy(&policy("objective: batch, "));
    let output = command(&["explain", "--json", "--policy", &file, "What is 2+2 * (5-1)?"], "");
    let explained = json_lines(&output.stdout).remove(0);
    let admission = &explained["plan"]["admission"];
    assert_eq!(
        (&admission["priority"], &admission["when_saturated"]),
        (&(-1).into(), &"refused".into()),
        "{explained}"
    );
    assert_eq!((&admission["pool"], &admission["saturated_from"]["queue"]), (&"main".into(), &3.into()));
}

#[test]
fn that_a_pool_asks_a_second_endpoint_is_part_of_the_plan() {
    let policy = POLICY.replace("  main: {", "  main: {hedge: {after: 250ms}, ");
    let (_folder, file) = with_policy(&policy);
    let output = command(&["explain", "--policy", &file, "What is 2+2 * (5-1)?"], "");
    let said = printed(&output.stdout);
    assert!(said.contains(", sent twice after 250 ms)"), "{said}{}", printed(&output.stderr));
    let output = command(&["explain", "--json", "--policy", &file, "What is 2+2 * (5-1)?"], "");
    let explained = json_lines(&output.stdout).remove(0);
    assert_eq!(explained["plan"]["pools"][0]["hedged_after_ms"], 250.0, "{explained}");
}
