//! Other systems' configurations: what `signalbox import` says, with which exit code it ends, and that the policy
//! decides as the original did.

use signalbox::classify::Label;
use signalbox::decide::{DecisionOutcome, decide};
use signalbox::policy::import::{ImportSource, import};
use signalbox::policy::{Fixed, Policy, load};
use signalbox::signals::{Audience, Signals};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_signalbox"))
        .args(arguments)
        .current_dir(repository("tests/import"))
        .env_remove("OPENAI_API_KEY")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_policy_goes_to_standard_output_and_the_account_of_it_beside() {
    let files = ["import", "decisions.yaml", "manifests.yaml", "cloud.yaml", "cloud.template", "tools.json"];
    let plain = run(&files);
    assert_eq!(plain.status.code(), Some(0), "{}", text(&plain.stderr));
    assert!(text(&plain.stdout).contains("\nversion: 1\n"));
    assert_eq!(text(&plain.stderr).lines().count(), 1, "{}", text(&plain.stderr));

    let explained = run(&[&files[..], &["--explain"]].concat());
    assert_eq!(explained.stdout, plain.stdout);
    let said = text(&explained.stderr);
    assert!(said.contains("decisions.yaml:4 ") && said.contains("  broken  "), "{said}");

    let told = run(&[&files[..], &["--json"]].concat());
    let told: serde_json::Value = serde_json::from_slice(&told.stderr).unwrap();
    let keys = told["keys"].as_array().unwrap();
    assert!(
        keys.iter()
            .any(|key| key["fate"] == "mapped" && key["path"] == "default_model" && key["line"].is_u64())
    );
}

#[test]
fn an_imported_policy_passes_the_check_and_so_does_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("policy.yaml");
    let imported = run(&["import", "values.yaml", "manifests.yaml", "--output", output.to_str().unwrap()]);
    assert_eq!((imported.status.code(), imported.stdout.len()), (Some(0), 0), "{}", text(&imported.stderr));
    for file in [output.to_str().unwrap(), "values.yaml"] {
        let checked = run(&["check", file]);
        assert_eq!(checked.status.code(), Some(0), "{file}: {}", text(&checked.stderr));
    }
}

#[test]
fn what_is_no_configuration_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let none = run(&["import", folder.path().to_str().unwrap()]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
    assert!(text(&none.stderr).contains("is a configuration"));
    assert_eq!(run(&["import", "cloud.yaml"]).status.code(), Some(2));
    let several = run(&["import", "."]);
    assert_eq!(several.status.code(), Some(2));
    assert!(text(&several.stderr).contains("decisions.yaml"), "{}", text(&several.stderr));
    assert_eq!(run(&["import", "no-such-file.yaml"]).status.code(), Some(1));
}

fn policy(folder: &Path, files: &[&str]) -> Policy {
    let sources: Vec<ImportSource> = files
        .iter()
        .map(|file| ImportSource {
            name: (*file).to_owned(),
            text: std::fs::read_to_string(folder.join(file)).unwrap(),
        })
        .collect();
    let imported = import(&sources).unwrap();
    load(&imported.policy, Path::new("."), &Fixed::default(), None).unwrap()
}

/// The model that a prompt of a domain gets, however unsure the classifier is.
fn model(policy: &Policy, domain: &str) -> String {
    let label = Label {
        name: domain.into(),
        confidence: 0.2,
        probabilities: [0.2].into(),
        coverage: 1.0,
        latency: Duration::ZERO,
    };
    let recipe = policy.recipe("auto").unwrap();
    let model = match decide(recipe, Audience::Open, &Signals::from_domain(policy, &Ok(label))) {
        DecisionOutcome::Decision(decision, _) => decision.models.first().map(|first| first.model),
        DecisionOutcome::Nothing(_) | DecisionOutcome::Refused(..) => None,
    };
    policy[model.or(recipe.default_model).unwrap()].name.clone()
}

#[test]
fn prompts_go_where_the_guides_send_them() {
    let folder = repository("../shared/configs");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not here", folder.display());
        return;
    }
    let istio = policy(&folder, &["vsr-istio/config.yaml", "vsr-istio/httproute-phi4-mini.yaml"]);
    assert_eq!(model(&istio, "math"), "phi4-mini");
    assert_eq!(model(&istio, "computer science"), "llama3-8b");
    let cloud = policy(
        &folder,
        &[
            "vsr-openai/config.yaml.openai",
            "vsr-openai/httproute-openai.template",
            "vsr-openai/svc-openai.yaml",
        ],
    );
    assert_eq!(model(&cloud, "math"), "gpt-4o-mini");
    assert_eq!(model(&cloud, "computer science"), "llama3-8b");
    for domain in ["business", "law", "physics", "other"] {
        assert_eq!(model(&istio, domain), "llama3-8b");
        assert_eq!(model(&cloud, domain), "llama3-8b");
    }
}
