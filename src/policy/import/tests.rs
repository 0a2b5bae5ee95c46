//! Tests of the import as a whole.

use std::collections::HashSet;
use std::fs;
use std::path::{Path as FilePath, PathBuf};

use proptest::prelude::*;

use super::super::issue::YamlPath;
use super::super::yaml::YamlKind;
use super::super::{
    AppliesTo, BasisPoints, Fixed, HallucinationAction, ModelSource, Policy, Rule, Transport, load,
};
use super::*;

mod properties;
mod routing_objects;
mod single_texts;

fn repository(path: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn source(path: &FilePath) -> ImportSource {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    ImportSource { name, text: fs::read_to_string(path).unwrap() }
}

/// Imports texts and loads what came of them, without any variable set.
fn loaded(sources: &[ImportSource]) -> (ImportOutput, Policy) {
    let imported = import(sources).unwrap_or_else(|error| panic!("{error}"));
    let environment = ToolFiles(sources.to_vec());
    let policy = load(&imported.policy, FilePath::new("."), &environment, Some(&conditions::DOMAINS));
    let policy = policy.unwrap_or_else(|issues| panic!("{issues}\n{}", imported.policy));
    (imported, policy)
}

/// An environment without variables, whose files are the sources.
struct ToolFiles(Vec<ImportSource>);

impl super::super::Environment for ToolFiles {
    fn var(&self, name: &str) -> Option<String> {
        Fixed::default().var(name)
    }

    fn read(&self, path: &FilePath) -> std::io::Result<Vec<u8>> {
        let found = self.0.iter().find(|source| path.ends_with(&source.name));
        found
            .map(|source| source.text.clone().into_bytes())
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

/// Other systems' own files, where they lie beside the repository.
fn given(paths: &[&str]) -> Option<Vec<ImportSource>> {
    let folder = repository("../shared/configs");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not here", folder.display());
        return None;
    }
    Some(paths.iter().map(|path| source(&folder.join(path))).collect())
}

/// What the files of other systems are given to one import together: each list is one.
const GROUPS: [&[&str]; 10] = [
    &[
        "vsr-istio/config.yaml",
        "vsr-istio/vPhi4.yaml",
        "vsr-istio/vLlama3.yaml",
        "vsr-istio/httproute-phi4-mini.yaml",
        "vsr-istio/httproute-llama3-8b.yaml",
        "vsr-istio/gateway.yaml",
        "vsr-istio/envoyfilter.yaml",
        "vsr-istio/destinationrule.yaml",
        "vsr-istio/tools_db.json",
    ],
    &[
        "vsr-istio/config.yaml",
        "vsr-llmd/dest-rule-epp-llama.yaml",
        "vsr-llmd/dest-rule-epp-phi4.yaml",
        "vsr-llmd/httproute-llama-pool.yaml",
        "vsr-llmd/httproute-phi4-pool.yaml",
        "vsr-llmd/inferencepool-llama.yaml",
        "vsr-llmd/inferencepool-phi4.yaml",
    ],
    &[
        "vsr-openai/config.yaml.openai",
        "vsr-openai/dest-rule-openai.yaml",
        "vsr-openai/httproute-openai.template",
        "vsr-openai/svc-entry-openai.yaml",
        "vsr-openai/svc-openai.yaml",
        "vsr-llmd/inferencepool-llama.yaml",
        "vsr-llmd/httproute-llama-pool.yaml",
    ],
    &["vsr-openai/config.yaml.local"],
    &["vsr-ai-gateway/values.yaml", "vsr-ai-gateway/base-model.yaml", "vsr-ai-gateway/gwapi-resources.yaml"],
    &["vsr-ai-gateway/base-model.yaml", "vsr-ai-gateway/gwapi-resources.yaml"],
    &["vsr-canonical/config-2026-08-22.yaml"],
    &["vsr-canonical/per-category-2025-10-24.yaml"],
    &["production-stack/values-23-SR.yaml"],
    &["vsr-llmd/httproute-llama-pool.yaml", "vsr-llmd/inferencepool-llama.yaml"],
];

/// Our own files of the same shapes, and what is given together.
const OWN: [&[&str]; 11] = [
    &["decisions.yaml", "tools.json", "manifests.yaml", "cloud.yaml", "cloud.template"],
    &["decisions.yaml"],
    &["categories.yaml"],
    &["values.yaml"],
    &["commandline.yaml"],
    &["canonical.yaml"],
    &["manifests.yaml", "cloud.yaml", "cloud.template"],
    &["literal-key.yaml"],
    &["stack.yaml"],
    &["intelligent.yaml", "manifests.yaml"],
    &["router-chart.yaml"],
];

fn own(paths: &[&str]) -> Vec<ImportSource> {
    paths.iter().map(|path| source(&repository("tests/import").join(path))).collect()
}

/// Imports a text with nothing beside it.
fn alone<'a>(name: &str, text: &'a str) -> Result<std::borrow::Cow<'a, str>, ImportError> {
    native(name, text, &ImportContext { objects: "", read: &|_| None })
}

/// The leaves of a node that have no note, neither themselves nor what they stand in.
fn unmentioned(node: &YamlNode, path: &YamlPath, known: &HashSet<String>, found: &mut Vec<String>) {
    if known.contains(&path.to_string()) {
        return;
    }
    match &node.kind {
        YamlKind::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                unmentioned(&entry.value, &path.key(&entry.key), known, found);
            }
        }
        YamlKind::List(items) if items.iter().any(|item| !matches!(item.kind, YamlKind::Scalar(_))) => {
            for (index, item) in items.iter().enumerate() {
                unmentioned(item, &path.index(index), known, found);
            }
        }
        _ => found.push(path.to_string()),
    }
}

/// Holds the account of an import to every key of its sources.
fn assert_nothing_is_unmentioned(sources: &[ImportSource], imported: &ImportOutput) {
    for document in documents(sources).unwrap() {
        let file = &sources[document.source].name;
        let notes = imported.notes.iter().filter(|note| note.file == *file);
        let known: HashSet<String> = notes
            .filter_map(|note| match document.label.as_str() {
                "" => Some(note.path.clone()),
                label if note.path == label => Some(String::new()),
                label => Some(note.path.strip_prefix(label)?.strip_prefix(' ')?.to_owned()),
            })
            .collect();
        let mut found = Vec::new();
        unmentioned(&document.root, &YamlPath::default(), &known, &mut found);
        assert!(found.is_empty(), "{file} {}: {found:?}", document.label);
    }
    for note in &imported.notes {
        let lines = sources.iter().find(|source| source.name == note.file).unwrap().text.lines().count();
        assert!((1..=lines).contains(&note.line) && !note.outcome.reason().is_empty(), "{note:?}");
    }
}

fn note<'a>(imported: &'a ImportOutput, path: &str) -> &'a KeyOutcome {
    let found = imported.notes.iter().find(|note| note.path == path);
    &found.unwrap_or_else(|| panic!("no note on {path}: {:#?}", imported.notes)).outcome
}

fn is_broken(imported: &ImportOutput, path: &str) -> bool {
    matches!(note(imported, path), KeyOutcome::Broken { .. })
}

#[test]
fn every_shape_becomes_a_policy_and_nothing_goes_unmentioned() {
    for group in OWN {
        let sources = own(group);
        let (imported, _) = loaded(&sources);
        assert_nothing_is_unmentioned(&sources, &imported);
        let told = format!("{} {:?}", imported.policy, imported.notes);
        assert!(!told.contains("sk-very-secret"), "{told}");
    }
}

#[test]
fn every_file_of_other_systems_becomes_a_policy_and_nothing_goes_unmentioned() {
    for group in GROUPS {
        let Some(sources) = given(group) else { return };
        let (imported, _) = loaded(&sources);
        assert_nothing_is_unmentioned(&sources, &imported);
        for note in &imported.notes {
            assert_ne!(note.outcome.reason(), report::UNKNOWN, "{note:?}");
        }
    }
}

#[test]
fn definitions_of_kinds_are_told_and_change_nothing() {
    let folder = repository("../shared/configs/gie");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not here", folder.display());
        return;
    };
    let plain = loaded(&own(&["decisions.yaml"])).0.policy;
    for entry in entries {
        let definition = source(&entry.unwrap().path());
        assert!(matches!(import(std::slice::from_ref(&definition)), Err(ImportError::Nothing(1))));
        let sources = [own(&["decisions.yaml"]), vec![definition]].concat();
        let (imported, _) = loaded(&sources);
        assert_nothing_is_unmentioned(&sources, &imported);
        assert_eq!(imported.policy, plain);
    }
}

#[test]
fn dialects_are_told_by_their_keys() {
    let told = |file: &str| recognise(&own(&[file])[0].text);
    assert_eq!(told("decisions.yaml"), ConfigDialect::Decisions);
    assert_eq!(told("categories.yaml"), ConfigDialect::Categories);
    assert_eq!(told("values.yaml"), ConfigDialect::Decisions);
    assert_eq!(told("commandline.yaml"), ConfigDialect::CommandLine);
    assert_eq!(told("canonical.yaml"), ConfigDialect::Canonical);
    assert_eq!(told("manifests.yaml"), ConfigDialect::Manifests);
    assert_eq!(told("cloud.template"), ConfigDialect::Manifests);
    assert_eq!(told("stack.yaml"), ConfigDialect::ProductionStack);
    assert_eq!(told("tools.json"), ConfigDialect::Tools);
    assert_eq!(told("intelligent.yaml"), ConfigDialect::RoutingObjects);
    assert_eq!(told("router-chart.yaml"), ConfigDialect::RouterChart);
    assert_eq!(recognise("config_source: kubernetes\nprompt_guard: {}\n"), ConfigDialect::Decisions);
    assert_eq!(recognise("version: 1\nmodels: {}\n"), ConfigDialect::Signalbox);
    assert_eq!(recognise("a: [1"), ConfigDialect::Unknown);
    assert_eq!(recognise("just text"), ConfigDialect::Unknown);
}

#[test]
fn the_shipped_typo_is_read_as_what_it_means_and_flagged() {
    let (imported, policy) = loaded(&own(&["decisions.yaml"]));
    assert!(is_broken(&imported, "keyword_rules[0].category"));
    assert!(is_broken(&imported, "decisions[0].rules.conditions[0].rule_name"));
    let decision = &policy.recipes[0].decisions[0];
    assert_eq!(decision.name, "urgent_decision");
    let Rule::Signal { id, .. } = decision.when.rule else { panic!("{:?}", decision.when.rule) };
    assert_eq!(policy.signals[id.0].name, "urgent");
}

#[test]
fn what_did_nothing_in_the_original_is_flagged() {
    let (imported, _) = loaded(&own(&["decisions.yaml"]));
    for path in [
        "model_config.small.allow_by_default",
        "vllm_endpoints[0].address",
        "decisions[2].modelRefs[0].use_reasoning",
        "decisions[2].rules.conditions[0].name",
        "decisions[4]",
        "classifier.category_model.threshold",
    ] {
        assert!(is_broken(&imported, path), "{path}: {:?}", note(&imported, path));
    }
    assert_eq!(note(&imported, "made_up_key").reason(), report::UNKNOWN);
    assert!(matches!(note(&imported, "tools.tools_db_path"), KeyOutcome::Unsupported { .. }));
    let (imported, _) = loaded(&own(&["manifests.yaml"]));
    assert!(is_broken(&imported, "EnvoyFilter/router"));
    assert!(is_broken(&imported, "DestinationRule/epp spec.trafficPolicy.tls.insecureSkipVerify"));
}

#[test]
fn guards_of_the_older_dialects_hold_for_requests_that_name_a_model_too() {
    let (_, policy) = loaded(&own(&["decisions.yaml"]));
    let find =
        |name: &str| policy.recipes[0].decisions.iter().find(|decision| decision.name == name).unwrap();
    assert_eq!(find("math_decision").when.applies_to, AppliesTo::All);
    assert_eq!(find("code_decision").when.applies_to, AppliesTo::Auto);
    assert_eq!(find("math_decision").plugins.system_prompt.as_ref().unwrap().text, "Costs $5 or ${NOTHING}.");
    assert_eq!(policy.recipes[0].virtual_models, ["auto", "pick"]);
    let (_, policy) = loaded(&own(&["canonical.yaml"]));
    assert_eq!(
        policy.recipes[0].decisions.iter().find(|own| own.name == "guard").unwrap().when.applies_to,
        AppliesTo::Auto
    );
}

/// The decisions of the guides, with a detector and its plugin as given.
fn with_detector(mitigation: &str, plugin: &str) -> (ImportOutput, Policy) {
    let mut sources = own(&["decisions.yaml"]);
    let text = sources[0].text.replace("{enabled: true, use_nli: false}", plugin);
    sources[0].text = format!("{text}\nhallucination_mitigation: {mitigation}\n");
    loaded(&sources)
}

#[test]
fn a_detector_that_a_decision_asks_for_becomes_a_model_of_the_classifier() {
    let detector = "{enabled: true, hallucination_model: {model_id: models/mine, threshold: 0.7, use_cpu: true}, \
                    nli_model: {model_id: models/nli}}";
    let plugin = "{enabled: true, use_nli: true, hallucination_action: body, unverified_factual_action: header, \
                  include_hallucination_details: true}";
    let (imported, policy) = with_detector(detector, plugin);
    let folder = ModelSource::Folder(PathBuf::from("./models/mine"));
    assert_eq!(policy.classifier.spec.models.hallucination, Some(folder));
    assert_eq!(policy.classifier.spec.thresholds.hallucination, Some(BasisPoints(7000)));
    let decision = policy.recipes[0].decisions.iter().find(|own| own.name == "code_decision").unwrap();
    let guard = decision.plugins.guards.answer.as_ref().unwrap().hallucination;
    assert_eq!((guard.action, guard.spans, guard.unverified), (HallucinationAction::Header, true, true));
    assert_eq!(decision.when.applies_to, AppliesTo::Auto);
    for (path, is_supported) in [
        ("hallucination_mitigation.hallucination_model.model_id", true),
        ("hallucination_mitigation.nli_model", false),
        ("decisions[2].plugins[1].configuration.hallucination_action", false),
        ("decisions[2].plugins[1].configuration.use_nli", false),
        ("decisions[2].plugins[1].configuration.unverified_factual_action", true),
    ] {
        let outcome = note(&imported, path);
        assert_eq!(matches!(outcome, KeyOutcome::Unsupported { .. }), !is_supported, "{path}: {outcome:?}");
    }
}

#[test]
fn vsrs_own_detector_and_repositories_come_from_the_hub_and_what_is_off_stays_off() {
    let model = |mitigation: &str, plugin: &str| {
        with_detector(mitigation, plugin).1.classifier.spec.models.hallucination
    };
    let hub = |repo: &str| ModelSource::Hub { repo: repo.to_owned(), revision: "main".to_owned() };
    let of = |id: &str| format!("{{enabled: true, hallucination_model: {{model_id: {id}}}}}");
    let on = "{enabled: true}";
    let own = "KRLabsOrg/lettucedect-base-modernbert-en-v1";
    assert_eq!(model(&of("models/mom-halugate-detector"), on), Some(hub(own)));
    assert_eq!(model(&of("owner/name"), on), Some(hub("owner/name")));
    assert_eq!(model(&of("owner/name"), "{enabled: false}"), None);
    assert_eq!(model(&of("owner/name").replace("true", "false"), on), None);
    let (imported, policy) = loaded(&own_canonical());
    assert_eq!(policy.classifier.spec.models.hallucination, Some(hub(own)));
    assert_eq!(policy.classifier.spec.thresholds.hallucination, Some(BasisPoints(8200)));
    let find =
        |name: &str| policy.recipes[0].decisions.iter().find(|decision| decision.name == name).unwrap();
    let guard = find("tree").plugins.guards.answer.as_ref().unwrap();
    assert_eq!((guard.hallucination.action, guard.cuts_jailbreak), (HallucinationAction::Log, true));
    let path = "global.model_catalog.modules.hallucination_mitigation.detector.min_span_length";
    assert!(matches!(note(&imported, path), KeyOutcome::Unsupported { .. }));
}

/// The canonical configuration with a detector whose path is among the system's models.
fn own_canonical() -> Vec<ImportSource> {
    let mut sources = own(&["canonical.yaml"]);
    let plugin =
        "- {type: hallucination, configuration: {enabled: true, hallucination_action: none}}\n        ";
    let module = "system: {hallucination_detector: models/mom-halugate-detector}, modules: {hallucination_mitigation: \
                  {enabled: true, detector: {threshold: 0.82, min_span_length: 2, endpoint: \"\"}}, ";
    let text = sources[0].text.replace("- {type: rag,", &format!("{plugin}- {{type: rag,"));
    sources[0].text = text.replace("modules: {", module);
    sources
}

#[test]
fn a_default_that_is_an_adapter_becomes_a_model() {
    let (_, policy) = loaded(&own(&["values.yaml"]));
    let recipe = &policy.recipes[0];
    let default = recipe.default_model.unwrap();
    assert_eq!(policy[default].name, "general");
    let of = |name: &str| &recipe.decisions.iter().find(|decision| decision.name == name).unwrap().models[0];
    assert_eq!((of("rest").model, &of("rest").lora), (default, &None));
    assert_eq!(of("numbers").lora.as_deref(), Some("numbers"));
    assert_eq!(policy[default].routes[0].pool, policy[policy.model("base").unwrap()].routes[0].pool);
}

#[test]
fn signals_of_equal_names_stand_apart() {
    let (imported, policy) = loaded(&own(&["canonical.yaml"]));
    let names: Vec<&str> = policy.signals.iter().map(|signal| signal.name.as_str()).collect();
    assert!(names.contains(&"steps") && names.contains(&"structure_steps"), "{names:?}");
    assert!(matches!(note(&imported, "routing.decisions[2]"), KeyOutcome::Unsupported { .. }));
    assert!(is_broken(&imported, "recipes[1]"), "{:?}", note(&imported, "recipes[1]"));
}

#[test]
fn routes_and_services_become_pools() {
    let (_, policy) = loaded(&own(&["decisions.yaml", "manifests.yaml", "cloud.yaml", "cloud.template"]));
    let pool = |name: &str| policy.pools.iter().find(|pool| pool.name == name).unwrap();
    let authority = |name: &str| pool(name).endpoints[0].authority();
    assert_eq!(authority("small-svc"), "small-svc.llm.svc.cluster.local:80");
    assert_eq!(pool("small-svc").timeouts.total.as_secs(), 90);
    assert_eq!(authority("large-pool"), "large-headless.llm.svc.cluster.local:8000");
    assert_eq!(authority("lonely-pool"), "lonely-pool.llm.svc.cluster.local:9000");
    let cloud = pool("cloud-external");
    assert_eq!(authority("cloud-external"), "api.openai.com:443");
    assert!(
        matches!(&cloud.transport, Transport::Tls { server_name, .. } if server_name == "api.openai.com")
    );
    assert_eq!(cloud.timeouts.total.as_secs(), 300);
    let small = policy.model("small").unwrap();
    assert_eq!(policy.model("org/Small-1B"), Some(small));
}

#[test]
fn a_key_is_named_by_its_variable_and_never_taken_over() {
    let imported = import(&own(&["cloud.yaml", "cloud.template"])).unwrap();
    assert!(imported.policy.contains("{env: OPENAI_API_KEY}"), "{}", imported.policy);
    let imported = import(&own(&["literal-key.yaml"])).unwrap();
    assert!(imported.policy.contains("{env: UPSTREAM_API_KEY}"), "{}", imported.policy);
}

#[test]
fn the_production_stack_s_names_become_one_model() {
    let (_, policy) = loaded(&own(&["stack.yaml"]));
    assert_eq!(policy.model("q8"), policy.model("org/Q-8B"));
    assert_eq!(
        policy.pools[0].endpoints[0].authority(),
        "vllm-q-engine-service.default.svc.cluster.local:8080"
    );
}

#[test]
fn one_configuration_is_meant_and_our_own_passes_through() {
    assert!(matches!(import(&[]), Err(ImportError::Nothing(0))));
    let several = import(&own(&["decisions.yaml", "categories.yaml"]));
    assert_eq!(
        several,
        Err(ImportError::Several(vec!["decisions.yaml".to_owned(), "categories.yaml".to_owned()]))
    );
    let ours = source(&repository("tests/policies/valid/everything.yaml"));
    assert_eq!(import(std::slice::from_ref(&ours)).unwrap().policy, ours.text);
    assert_eq!(alone("x", &ours.text).unwrap(), ours.text);
    assert!(alone("x", &own(&["values.yaml"])[0].text).unwrap().starts_with("# Imported from x"));
}
