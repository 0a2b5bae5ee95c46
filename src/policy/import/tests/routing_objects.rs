//! Tests of vSR's objects of Kubernetes, alone and beside a configuration, and of the values of charts.

use super::*;
use crate::pool::EndpointSpec;

const BASE: &str = "config_source: kubernetes\nreasoning_families: {own: {type: reasoning_effort}}\n\
                    prompt_guard: {enabled: true, threshold: 0.7}\n";

fn with(text: &str) -> Vec<ImportSource> {
    let base = ImportSource { name: "config.yaml".to_owned(), text: text.to_owned() };
    [vec![base], own(&["intelligent.yaml"])].concat()
}

#[test]
fn a_pool_and_a_route_are_a_configuration() {
    let (imported, policy) = loaded(&own(&["intelligent.yaml"]));
    let recipe = policy.recipe("auto").unwrap();
    assert_eq!(policy[recipe.default_model.unwrap()].name, "small");
    assert!(
        imported.policy.starts_with("# Imported from IntelligentPool and IntelligentRoute of"),
        "{}",
        imported.policy
    );
    let names: Vec<&str> = recipe.decisions.iter().map(|decision| decision.name.as_str()).collect();
    assert_eq!(names, ["numbers", "reads"], "{}", imported.policy);
    let numbers = &recipe.decisions[0];
    assert_eq!(numbers.models[0].lora.as_deref(), Some("sql"));
    assert!(imported.policy.contains("reasoning: high"), "{}", imported.policy);
    assert_eq!(numbers.plugins.system_prompt.as_ref().unwrap().text, "Be exact.");
    assert!(imported.policy.contains("case_sensitive: true"), "{}", imported.policy);
    assert!(imported.policy.contains("price: {prompt: 2, completion: 4.5}"), "{}", imported.policy);
    let at = |path: &str| note(&imported, path).as_str();
    let route = |path: &str| format!("IntelligentRoute/routes spec.{path}");
    assert_eq!(at("IntelligentPool/models spec.models[1].pricing.inputTokenPrice"), "broken");
    assert_eq!(at(&route("signals.embeddings[0].threshold")), "unsupported");
    assert_eq!(at(&route("signals.contextRules[0].minTokens")), "unsupported");
    assert_eq!(at(&route("decisions[1].modelRefs[0].use_reasoning")), "broken");
    assert_eq!(at(&route("decisions[2]")), "unsupported");
    assert_eq!(at(&route("decisions[3]")), "broken", "the classifier has no such domain");
}

#[test]
fn a_configuration_that_leaves_its_decisions_to_objects_gets_them() {
    let canonical = "version: v0.3\nproviders: {models: [{name: large, backend_refs: [{name: a, endpoint: '10.0.0.1:80'}]}]}\n\
                     routing: {}\nglobal: {router: {config_source: kubernetes, auto_model_name: pick}}\n";
    for (text, model) in [(BASE, "auto"), (canonical, "pick")] {
        let (imported, policy) = loaded(&with(text));
        let decisions = &policy.recipe(model).unwrap_or_else(|| panic!("{}", imported.policy)).decisions;
        assert_eq!(decisions.len(), 2, "{}", imported.policy);
        assert!(policy.model("default").is_none(), "{}", imported.policy);
        let alone = ImportSource { name: "config.yaml".to_owned(), text: text.to_owned() };
        assert_eq!(import(&[alone]), Err(ImportError::NoRoutes("config.yaml".to_owned())));
    }
    let (_, policy) = loaded(&with(canonical));
    let pool = policy[policy.model("large").unwrap()].routes[0].pool;
    assert_eq!(policy[pool].endpoints[0].authority(), "10.0.0.1:80");
    // One that decides itself does not read them, and says so.
    let (imported, _) = loaded(&[own(&["decisions.yaml"]), own(&["intelligent.yaml"])].concat());
    for object in ["IntelligentPool/models", "IntelligentRoute/routes"] {
        assert!(is_broken(&imported, object), "{:?}", note(&imported, object));
    }
}

#[test]
fn objects_come_as_lists_too_but_one_pool_and_one_route_is_meant() {
    let objects = own(&["intelligent.yaml"]).remove(0).text;
    let items: Vec<String> = objects
        .split("---\n")
        .map(|item| {
            let indented: Vec<String> = item.lines().map(|line| format!("    {line}\n")).collect();
            indented.concat().replacen("    ", "  - ", 1)
        })
        .collect();
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{}", items.concat());
    let source = |text: &str| ImportSource { name: "o".to_owned(), text: text.to_owned() };
    let policy = import(&[source(&list)]).unwrap().policy;
    assert_eq!(policy, import(&[source(&objects)]).unwrap().policy);
    assert_eq!(alone("o", &list).unwrap(), policy);
    let twice = import(&[source(&objects), source(&objects)]);
    let both = ["o IntelligentPool/models", "o IntelligentPool/models"].map(str::to_owned);
    assert_eq!(twice, Err(ImportError::Several(both.to_vec())));
    let ours = source("version: 1\nmodels: {}\n");
    assert!(
        matches!(import(&[ours, source(&objects)]), Err(ImportError::Several(several)) if several.len() == 3)
    );
}

#[test]
fn a_route_whose_decisions_all_fall_away_is_named() {
    let text = own(&["intelligent.yaml"]).remove(0).text;
    let (before, _) = text.split_once("    - name: numbers").unwrap();
    let (_, after) = text.split_once("    - name: alarm").unwrap();
    let text = format!("{before}    - name: alarm{after}");
    let decisions = vec!["alarm".to_owned(), "money".to_owned()];
    let lost = LostDecisions { recipe: None, decisions };
    let source = ImportSource { name: "o".to_owned(), text };
    assert_eq!(import(std::slice::from_ref(&source)).unwrap().lost, [lost]);
    assert!(alone("o", &source.text).unwrap_err().to_string().contains("alarm, money"));
}

#[test]
fn models_of_the_router_s_chart_are_their_services() {
    let (imported, policy) = loaded(&own(&["router-chart.yaml"]));
    let pool = |model: &str| &policy[policy[policy.model(model).unwrap()].routes[0].pool];
    let authorities = |model: &str| {
        let endpoints = pool(model).endpoints.iter();
        endpoints.map(EndpointSpec::authority).collect::<Vec<_>>()
    };
    let service = |name: &str| format!("{name}.models.svc.cluster.local:8000");
    assert_eq!(authorities("org/Seven-7B"), [service("seven-b"), service("seven-b-again")]);
    assert_eq!(authorities("short"), [service("named")]);
    assert_eq!(policy.model("org/Named-13B"), policy.model("short"), "{}", imported.policy);
    assert_eq!(alone("v", &own(&["router-chart.yaml"])[0].text).unwrap(), imported.policy);
}

#[test]
fn a_server_is_asked_by_a_name_that_it_answers_to() {
    let stack = "servingEngineSpec:\n  modelSpec:\n    - {name: q, modelURL: org/Q-8B, vllmConfig: {extraArgs: [--served-model-name, q8]}}\n";
    let decisions = "decisions: []\ndefault_model: org/Q-8B\nmodel_config: {org/Q-8B: {}}\n";
    let source = |name: &str, text: &str| ImportSource { name: name.to_owned(), text: text.to_owned() };
    let (imported, policy) = loaded(&[source("config", decisions), source("values", stack)]);
    let model = &policy[policy.model("org/Q-8B").unwrap()];
    assert_eq!(model.name, "org/Q-8B");
    assert!(imported.policy.contains("upstream_model: q8"), "{}", imported.policy);
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {metadata: {labels: {app: d}}, \
                      spec: {containers: [{name: c, args: [--model, $(MODEL)], env: [{name: MODEL, value: org/D}]}]}}}\n---\n\
                      apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: d}, ports: [{port: 80}]}\n";
    let (imported, policy) = loaded(&[source("manifests", deployment)]);
    assert!(policy.model("org/D").is_some(), "{}", imported.policy);
}

#[test]
fn a_configuration_that_is_served_finds_its_tools_and_its_objects() {
    let tools = own(&["tools.json"]).remove(0).text;
    let read = |name: &str| (name == "tools.json").then(|| tools.clone());
    let text = own(&["decisions.yaml"]).remove(0).text;
    let with_tools = native("c", &text, &ImportContext { objects: "", read: &read }).unwrap();
    assert!(with_tools.contains("file: tools.json"), "{with_tools}");
    assert!(!alone("c", &text).unwrap().contains("tools.json"));
    assert!(leaves_routing(BASE) && !leaves_routing(&text));
    let map = format!(
        "kind: ConfigMap\napiVersion: v1\nmetadata: {{name: m}}\ndata:\n  config.yaml: |\n    {}",
        BASE.replace('\n', "\n    ")
    );
    let objects = own(&["intelligent.yaml"]).remove(0).text;
    for text in [BASE, &map] {
        assert!(leaves_routing(text), "{text}");
        let policy = native("c", text, &ImportContext { objects: &objects, read: &read }).unwrap();
        assert!(policy.contains("name: numbers"), "{policy}");
        assert!(matches!(alone("c", text), Err(ImportError::NoRoutes(_))));
    }
}
