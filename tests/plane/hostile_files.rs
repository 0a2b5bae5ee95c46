//! Policies and models that would exhaust the process if they were believed: refused, and the snapshot in force stays.

use crate::harness::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// More than the process needs with its own model, and far less than what these files ask for.
const MOST_MEBIBYTES: u64 = 400;

/// The most memory that a process has had so far, in mebibytes.
fn peak_mebibytes(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// Puts a policy there and waits until it is refused for that reason; what is in force serves on.
async fn refused(gateway: &Gateway, policy: &str, reason: &str) {
    gateway.rewrite(policy);
    let fault = async || {
        let readyz = gateway.admin("/readyz").await.json();
        readyz["policy_fault"].as_str().filter(|fault| fault.contains(reason)).map(|_| ())
    };
    until(&format!("a fault with `{reason}`"), fault).await;
    assert_eq!(gateway.chat("m", "hello").await.status, 200);
    assert_eq!(gateway.admin("/readyz").await.json()["policy_generation"], 1);
    let peak = peak_mebibytes(gateway);
    assert!(peak < MOST_MEBIBYTES, "{peak} MiB for `{reason}`");
}

#[tokio::test]
async fn a_policy_that_expands_without_bound_changes_nothing() {
    let sim = sim("m").await;
    let good = policy_of(&[sim.addr()], "");
    let gateway = Launch::new(good.clone()).variable("BIG", "x".repeat(60_000)).start().await;
    let long = "x".repeat(400_000);
    let aliases = format!("{good}x: &x {long}\ny: [{}]\n", vec!["*x"; 20_000].join(","));
    refused(&gateway, &aliases, "bytes with what its aliases copy").await;
    let keys = format!("{good}x:\n  ? {long}\n  : [{}]\n", vec!["1"; 5_000].join(","));
    refused(&gateway, &keys, "a key is longer than").await;
    let variables = format!("{good}x: [{}]\n", vec!["\"${BIG}\""; 20_000].join(","));
    refused(&gateway, &variables, "bytes together").await;
    let deep = format!("{good}x: {}\n", "[".repeat(100_000));
    refused(&gateway, &deep, "line ").await;
    let below = |level: usize| vec![format!("*a{}", level - 1); 10].join(",");
    let laughs: Vec<String> =
        (1..9).map(|level| format!("a{level}: &a{level} [{}]\n", below(level))).collect();
    refused(&gateway, &format!("{good}a0: &a0 [x]\n{}", laughs.concat()), "more than 100000 nodes").await;
    let unknown = format!("{good}decisions: [{}]\n", vec!["{name: d, model: nobody}"; 9_000].join(","));
    refused(&gateway, &unknown, "decisions (line").await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn a_model_whose_numbers_are_not_those_of_its_tensors_changes_nothing() {
    let sim = sim("m").await;
    let good = policy_of(&[sim.addr()], "");
    let gateway = Launch::new(good.clone()).start().await;
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    let huge = json!(1_u64 << 40);
    for (at, (model, key, value)) in [
        ("bert-domain", "hidden_size", huge.clone()),
        ("bert-domain", "vocab_size", json!(1_u64 << 31)),
        ("bert-domain", "num_attention_heads", json!(0)),
        ("modernbert-domain", "num_hidden_layers", huge.clone()),
        ("modernbert-domain", "intermediate_size", huge.clone()),
        ("modernbert-domain", "max_position_embeddings", huge),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = gateway.folder.path().join(format!("hostile-{at}"));
        copy(&models.join(model), &folder);
        let config = folder.join("config.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        json[key] = value;
        fs::write(&config, json.to_string()).unwrap();
        refused(
            &gateway,
            &format!("{good}classifier: {{model: ./hostile-{at}}}\n"),
            &format!("hostile-{at}/"),
        )
        .await;
    }
}

#[tokio::test]
async fn a_tokenizer_whose_patterns_grow_without_bound_changes_nothing() {
    let sim = sim("m").await;
    let good = policy_of(&[sim.addr()], "");
    let gateway = Launch::new(good.clone()).start().await;
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    for (at, (pattern, reason)) in [
        ("(?:(?=a)(?:(?=b)b{1000}){1000}){1000}".to_owned(), "repeats a part"),
        ("(a|aa)*(?=c)".repeat(10_000), "a pattern has"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = gateway.folder.path().join(format!("patterns-{at}"));
        copy(&models.join("bert-domain"), &folder);
        let file = folder.join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        json["pre_tokenizer"] = json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
        });
        fs::write(&file, json.to_string()).unwrap();
        refused(&gateway, &format!("{good}classifier: {{model: ./patterns-{at}}}\n"), reason).await;
    }
}

#[tokio::test]
async fn a_tokenizer_whose_patterns_never_end_leaves_a_text_unjudged_and_nothing_waits() {
    let sim = sim("m").await;
    let gateway = Launch::new(policy_of(&[sim.addr()], "")).start().await;
    let folder = gateway.folder.path().join("slow");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/distilbert-guard"), &folder);
    let file = folder.join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    json["pre_tokenizer"] = json!({
        "type": "Split", "pattern": {"Regex": "(a|aa)+(?!b)c|."}, "behavior": "Isolated", "invert": false
    });
    fs::write(&file, json.to_string()).unwrap();
    let guarded = "classifier: {model: ./slow, threads: 1}\nguards: {prompt: {action: block}}\n";
    gateway.rewrite(&policy_of(&[sim.addr()], guarded));
    until("the policy", async || {
        (gateway.admin("/readyz").await.json()["policy_generation"] == 2).then_some(())
    })
    .await;
    assert_eq!(gateway.chat("m", "aac").await.status, 200);
    let began = std::time::Instant::now();
    let slow = "a".repeat(4_000);
    let asked = (0..20).map(|_| gateway.chat("m", &slow));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(!answer.header("retry-after").is_empty());
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(gateway.chat("m", "aac").await.status, 200, "the classifier is free again");
}
