//! Tests of whole policies: the valid and the invalid ones under `tests/policies`, and the shipped ones.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod guards;
mod near_policies;
mod server_file;

const DOMAINS: [&str; 14] = [
    "biology",
    "business",
    "chemistry",
    "computer science",
    "economics",
    "engineering",
    "health",
    "history",
    "law",
    "math",
    "other",
    "philosophy",
    "physics",
    "psychology",
];

fn environment() -> Fixed {
    let vars = [("PORT", "8001"), ("HOST", "vllm.example.com"), ("KEY", "sk-secret"), ("EMPTY", "")];
    let files = [
        ("/run/secrets/key", "sk-secret\n"),
        ("/etc/signalbox/ca.pem", "-----BEGIN CERTIFICATE-----\nca\n"),
        ("/etc/signalbox/client.pem", "-----BEGIN CERTIFICATE-----\nclient\n"),
        ("/etc/signalbox/client.key", "-----BEGIN PRIVATE KEY-----\nsk-secret\n"),
        ("/etc/signalbox/empty", "\n"),
        ("/etc/signalbox/two-lines", "sk-secret\nsk-secret\n"),
    ];
    Fixed {
        vars: vars.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        files: files.map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).into(),
    }
}

fn loaded(text: &str) -> Result<Policy, Issues> {
    load(text, FilePath::new("/etc/signalbox"), &environment(), Some(&DOMAINS))
}

fn root(path: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap()
}

fn policies(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root("tests/policies").join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn domain_of<'a>(policy: &'a Policy, decision: &Decision) -> &'a str {
    let Rule::Signal { id, .. } = decision.when.rule else { panic!("one signal") };
    let SignalKind::Domain(domain) = &policy[id].kind else { panic!("a domain") };
    &domain.any[0]
}

fn pool_named<'a>(policy: &'a Policy, name: &str) -> &'a PoolSpec {
    policy.pools.iter().find(|pool| pool.name == name).unwrap()
}

fn fixture(name: &str) -> Policy {
    loaded(&text(&format!("tests/policies/valid/{name}.yaml"))).unwrap()
}

#[test]
fn every_valid_policy_loads() {
    for path in policies("valid") {
        let result = loaded(&fs::read_to_string(&path).unwrap());
        assert!(result.is_ok(), "{}:\n{}", path.display(), result.unwrap_err());
    }
}

/// The sibling `.expect` holds one issue a line; `UPDATE_EXPECT=1` writes it anew.
#[test]
fn every_invalid_policy_has_exactly_the_expected_issues() {
    for path in policies("invalid") {
        let issues = loaded(&fs::read_to_string(&path).unwrap()).unwrap_err();
        let expect = path.with_extension("expect");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expect, format!("{issues}\n")).unwrap();
        }
        assert_eq!(format!("{issues}\n"), fs::read_to_string(expect).unwrap(), "{}", path.display());
        assert!(!issues.to_string().contains("sk-secret"), "{}", path.display());
    }
}

#[test]
fn the_shipped_policies_load_in_an_empty_environment() {
    let none = Fixed::default();
    for name in ["policy", "quickstart", "openai"] {
        let result = load(&text(&format!("conf/{name}.yaml")), FilePath::new("/"), &none, Some(&DOMAINS));
        assert!(result.is_ok(), "{name}:\n{}", result.unwrap_err());
    }
    assert_eq!(
        load_server(&text("conf/server.yaml"), FilePath::new("/"), &none),
        load_server("", FilePath::new("/"), &none)
    );
}

#[test]
fn the_quickstart_sends_math_to_phi_and_all_else_to_llama() {
    let mut environment = Fixed::default();
    let quickstart = text("conf/quickstart.yaml");
    let policy = load(&quickstart, FilePath::new("/"), &environment, Some(&DOMAINS)).unwrap();
    let mut covered: Vec<&str> = policy.decisions().map(|decision| domain_of(&policy, decision)).collect();
    covered.sort_unstable();
    assert_eq!(covered, DOMAINS);
    for decision in policy.decisions() {
        let model = if domain_of(&policy, decision) == "math" { "phi4-mini" } else { "llama3-8b" };
        assert_eq!(policy[decision.models[0].model].name, model);
    }
    assert_eq!(policy.decisions().last().map(|decision| &*decision.name), Some("other_decision"));
    let route = &policy[policy.model("TheBloke/Llama-2-13B-chat-GPTQ").unwrap()].routes[0];
    assert_eq!((&*policy[route.pool].name, &*route.upstream_model), ("llama", "llama3-8b"));
    let openai = pool_named(&policy, "openai");
    assert_eq!(openai.credential, None);
    environment.vars.insert("OPENAI_API_KEY".to_owned(), "sk-1".to_owned());
    let keyed = load(&quickstart, FilePath::new("/"), &environment, Some(&DOMAINS)).unwrap();
    let openai = pool_named(&keyed, "openai");
    let credential = openai.credential.as_ref().unwrap();
    assert_eq!(
        (&*credential.header, &credential.value),
        ("authorization", &Secret::new("Bearer sk-1".to_owned()))
    );
    assert_ne!(policy, keyed);
    assert!(!format!("{keyed:?}").contains("sk-1"));
}

#[test]
fn the_commented_policy_shows_every_key_and_its_default() {
    let policy = text("conf/policy.yaml");
    let server = text("conf/server.yaml");
    for (schema, text) in [(schema(), policy.as_str()), (server_schema(), server.as_str())] {
        let types = schema["$defs"].as_object().into_iter().flat_map(|types| types.values());
        for shape in types.chain([&schema]) {
            for key in shape["properties"].as_object().into_iter().flat_map(|keys| keys.keys()) {
                let shown = text
                    .match_indices(&format!("{key}:"))
                    .any(|(at, _)| text[..at].ends_with([' ', '{', '\n']));
                assert!(shown, "`{key}` is not shown");
            }
        }
    }
    let policy = loaded(&policy).unwrap();
    let minimal = fixture("minimal");
    assert_eq!((&policy.classifier, &policy.retry), (&minimal.classifier, &minimal.retry));
    assert_eq!(policy.classifier, ClassifierPolicy::default());
    let (openai, llama) = (pool_named(&policy, "openai"), pool_named(&policy, "llama"));
    assert_eq!(openai.timeouts, Timeouts::default());
    assert_eq!(llama.limits.ejection, Some(Ejection::default()));
    assert_eq!(llama.balance, Balance::Auto);
    assert_eq!(llama.probes.health, Some(Health::default()));
    let metrics = |pool: &PoolSpec| {
        let shown = pool.probes.metrics.clone().unwrap();
        MetricsScrape { condition: ScrapeCondition::Always, paths: Vec::new(), ..shown }
    };
    assert_eq!(metrics(llama), metrics(&minimal.pools[0]));
    assert_eq!(llama.probes.resolve_interval, openai.probes.resolve_interval);
}

#[test]
fn every_key_is_described_in_the_schema() {
    for schema in [schema(), server_schema()] {
        let types = schema["$defs"].as_object().into_iter().flat_map(|types| types.values());
        for shape in types.chain([&schema]) {
            for (key, property) in shape["properties"].as_object().into_iter().flatten() {
                assert!(property["description"].is_string(), "`{key}` has no description");
            }
        }
    }
}

#[test]
fn variables_take_the_type_of_their_place() {
    let policy = fixture("variables");
    assert_eq!(policy.recipes[0].decisions[0].name, "$money");
    assert_eq!(policy.recipes[0].decisions[0].priority, 7);
    assert_eq!(policy.models[0].routes[0].upstream_model, "8");
    let pool = &policy.pools[0];
    assert_eq!(pool.endpoints[0].authority(), "vllm.example.com:8001");
    assert_eq!(pool.endpoints[0].weight, 3);
    assert_eq!(pool.host, HostRule::Endpoint);
    assert!(pool.forward_authorization);
}

#[test]
fn a_tls_pool_is_complete_after_the_check() {
    let policy = fixture("tls");
    assert_eq!(policy.model("openai/gpt-4o-mini"), Some(ModelId(0)));
    let pool = &policy[PoolId(0)];
    let Transport::Tls { server_name, alpn, ca, client } = &pool.transport else { panic!("tls") };
    assert_eq!((&**server_name, *alpn), ("api.example.com", Alpn::H2));
    assert!(ca.is_some() && client.is_some());
    assert_eq!(pool.host, HostRule::Fixed("api.example.com".to_owned()));
    assert_eq!(pool.api.path_prefix, "/openai/v1");
    let credential = pool.credential.as_ref().unwrap();
    assert_eq!((&*credential.header, credential.value.expose()), ("api-key", "sk-secret"));
    assert_eq!(pool.probes.health.as_ref().unwrap().status, [200, 204]);
    assert_eq!(pool.limits.ejection, None);
    assert_eq!(policy.files().len(), 4);
    assert!(!format!("{policy:?}").contains("sk-secret"));
}

#[test]
fn defaults_fill_what_the_operator_left_out() {
    let policy = fixture("minimal");
    let pool = &policy.pools[0];
    assert_eq!(pool.transport, Transport::Plain { h2c: None });
    assert_eq!(pool.balance, Balance::Auto);
    assert_eq!(pool.timeouts.total, Duration::from_secs(600));
    assert_eq!(pool.limits.ejection.unwrap().max_share, BasisPoints(5000));
    let retried = (400..=599).filter(|status| policy.retry.covers_status(*status));
    assert_eq!(retried.collect::<Vec<u16>>(), [429, 502, 503, 504, 529]);
    assert_eq!(policy.models[0].routes[0].upstream_model, "llama3-8b");
    let sessions = fixture("sessions");
    assert_eq!(sessions.pools[0].balance, Balance::Hash(HashKey::Header("x-session-id".to_owned())));
    assert_eq!(sessions.pools[1].balance, Balance::Hash(HashKey::Field("user".to_owned())));
    assert_eq!(sessions.pools[2].balance, sessions.pools[0].balance, "as the vLLM router calls it");
    assert_eq!(sessions.pools[3].balance, Balance::LeastRequest);
}

#[test]
fn engines_are_asked_for_metrics_where_there_is_a_choice_or_the_operator_says_so() {
    let policy = fixture("metrics");
    let asked = |name: &str| {
        let pool = pool_named(&policy, name);
        pool.probes.metrics.as_ref().is_some_and(|metrics| metrics.holds_for(pool.endpoints.len()))
    };
    let names = ["unset", "one", "on", "off", "yes", "no", "tls", "unchecked", "full"];
    assert_eq!(names.map(asked), [true, false, true, false, true, false, false, false, true]);
    let full = pool_named(&policy, "full").probes.metrics.clone().unwrap();
    assert_eq!((full.engine, full.paths), (EngineKind::Trtllm, vec!["/prometheus/metrics".to_owned()]));
    assert_eq!((full.min_interval, full.max_age), (Duration::from_millis(100), Duration::from_secs(3)));
    assert!(full.send_credential);
}

#[test]
fn decisions_are_tried_by_priority_and_then_in_the_order_of_the_file() {
    let decision = |name: &str, priority: i32| {
        format!("  - {{name: {name}, domains: [law], model: a, priority: {priority}}}\n")
    };
    let decisions = [("low", -5), ("first", 10), ("second", 10), ("top", 11)];
    let decisions: String = decisions.iter().map(|(name, priority)| decision(name, *priority)).collect();
    let text = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: a\nmodels: {{a: {{pools: [p]}}}}\n\
         pools: {{p: {{endpoints: [\"h:1\"]}}}}\ndecisions:\n{decisions}"
    );
    let policy = loaded(&text).unwrap();
    let names: Vec<&str> = policy.decisions().map(|decision| &*decision.name).collect();
    assert_eq!(names, ["top", "first", "second", "low"]);
}

#[test]
fn a_changed_secret_file_makes_another_policy() {
    let text = text("tests/policies/valid/tls.yaml");
    let mut changed = environment();
    changed.files.insert(PathBuf::from("/run/secrets/key"), b"sk-other".to_vec());
    let changed = load(&text, FilePath::new("/etc/signalbox"), &changed, Some(&DOMAINS)).unwrap();
    assert_eq!(fixture("tls"), fixture("tls"));
    assert_ne!(changed, fixture("tls"));
}

#[test]
fn the_classifier_is_complete_after_the_check() {
    let policy = fixture("classifier");
    let hub = |repo: &str, revision: &str| ModelSource::Hub {
        repo: repo.to_owned(),
        revision: revision.to_owned(),
    };
    let wanted = &policy.classifier.spec;
    assert_eq!(wanted.model, hub("owner/name", "main"));
    let folder = PathBuf::from("/etc/signalbox/./models/intent");
    assert_eq!(wanted.models.domain, Some(ModelSource::Folder(folder)));
    assert_eq!(wanted.models.jailbreak, Some(hub("owner/guard", "refs/pr/1")));
    assert_eq!(wanted.models.pii, Some(ModelSource::Builtin));
    assert_eq!(wanted.models.embedding, None);
    assert_eq!((wanted.device, wanted.precision), (DeviceChoice::Auto, Precision::F16));
    let jailbreak = Some(AttackThreshold::Score(BasisPoints(9500)));
    let thresholds = Thresholds { jailbreak, pii: Some(BasisPoints(0)), hallucination: None };
    assert_eq!(wanted.thresholds, thresholds);
    // Never more than is read at all.
    assert_eq!((wanted.windows.max_tokens, wanted.windows.domain_tokens), (512, 512));
    assert_eq!((wanted.windows.window, wanted.windows.overlap), (128, 64));
    assert_eq!((wanted.batch_tokens, wanted.cache), (1024, 0));
    assert_eq!(wanted.hub.endpoint, "http://127.0.0.1:8080/hf");
    assert_eq!(wanted.hub.cache, Some(PathBuf::from("/etc/signalbox/hub")));
    assert_eq!(wanted.hub.token, Some(Secret::new("sk-secret".to_owned())));
    assert_eq!(policy.files(), [PathBuf::from("/run/secrets/key")]);
    assert!(!format!("{policy:?}").contains("sk-secret"));
}

#[test]
fn the_environment_speaks_for_the_hub_where_the_policy_fetches_and_says_nothing() {
    let mut environment = Fixed::default();
    let with = |classifier: &str, environment: &Fixed| {
        let text = format!(
            "version: 1\nmodels: {{a: {{pools: [p]}}}}\npools: {{p: {{endpoints: [\"h:1\"]}}}}\n\
             classifier: {classifier}\n"
        );
        load(&text, FilePath::new("/"), environment, None).map(|policy| policy.classifier.spec.hub)
    };
    let fetched = "{model: \"hf://a/b\"}";
    let plain = with(fetched, &environment).unwrap();
    assert_eq!((&*plain.endpoint, &plain.cache, &plain.token), ("https://huggingface.co", &None, &None));
    environment.vars.insert("HF_ENDPOINT".to_owned(), "http://mirror/".to_owned());
    environment.vars.insert("HF_TOKEN".to_owned(), "hf_1\n".to_owned());
    let mirrored = with(fetched, &environment).unwrap();
    assert_eq!(mirrored.endpoint, "http://mirror");
    assert_eq!(mirrored.token, Some(Secret::new("hf_1".to_owned())));
    assert_eq!(with("{}", &environment).unwrap(), plain);
    let own = "{model: \"hf://a/b\", hub: {endpoint: \"https://own\", token: \"${T:-hf_2}\"}}";
    let own = with(own, &environment).unwrap();
    assert_eq!((&*own.endpoint, own.token), ("https://own", Some(Secret::new("hf_2".to_owned()))));
}

#[test]
fn an_optional_secret_may_be_absent_but_not_broken() {
    let text = "version: 1\nmodels: {a: {pools: [p]}}\npools:\n  p:\n    endpoints: [\"h:1\"]\n    \
                credential: {optional: true, value: {file: key}}\n";
    let with = |bytes: Option<&[u8]>| {
        let file = bytes.map(|bytes| (PathBuf::from("/key"), bytes.to_vec()));
        let environment = Fixed { files: file.into_iter().collect(), ..Fixed::default() };
        load(text, FilePath::new("/"), &environment, Some(&DOMAINS))
    };
    for absent in [None, Some(&b""[..]), Some(b"\n")] {
        let policy = with(absent).unwrap();
        assert_eq!(policy.pools[0].credential, None);
        assert_eq!(policy.files(), [PathBuf::from("/key")]);
    }
    let issues = with(Some(b"\xff")).unwrap_err();
    assert_eq!(issues.to_string(), "pools.p.credential.value.file (line 6): `key` is not UTF-8");
    assert!(with(Some(b"k\r\n")).unwrap().pools[0].credential.is_some());
}

#[test]
fn a_text_that_is_not_utf_8_is_refused_where_it_stops_being_that() {
    let fault = |bytes: &[u8]| decode(bytes.to_vec()).unwrap_err().to_string();
    assert_eq!(
        fault(b"a: 1\nb: caf\xe9\n"),
        "line 2, column 7: the text is not UTF-8, perhaps Latin-1; save it as UTF-8"
    );
    assert!(fault(b"\xff\xfea\0").contains("UTF-16"));
    assert_eq!(decode("é".into()).as_deref(), Ok("é"));
}

#[test]
fn models_are_asked_once_and_a_faulty_section_asks_none() {
    let facts = |domains: &[&str], faults| {
        let domains = Some(domains.iter().map(|&name| name.to_owned()).collect());
        ModelFacts { domains, faults }
    };
    let start = "version: 1\nmodels: {m: {pools: [p]}}\npools: {p: {endpoints: [\"127.0.0.1:1\"]}}\nvirtual_models: \
                 [auto]\ndefault_model: m\ndecisions: [{name: d, domains: [law], model: m}]\n";
    let base = FilePath::new("/");
    let found = |text: &str, facts: ModelFacts| {
        let asked = std::cell::Cell::new(0);
        let inspect = |_: &ClassifierSpec| {
            asked.set(asked.get() + 1);
            facts.clone()
        };
        let result = load_with(text, base, &environment(), &inspect);
        (result.map(|_| ()).map_err(|issues| issues.to_string()), asked.get())
    };
    assert_eq!(found(start, facts(&["law"], Vec::new())), (Ok(()), 1));
    let fault = ModelFault { keys: &["classifier", "model"], message: "no such folder".to_owned() };
    let faulty = format!("{start}classifier:\n  model: ./x\n");
    let (result, _) = found(&faulty, facts(&["math"], vec![fault]));
    let fault = result.unwrap_err();
    assert!(
        fault.contains("unknown domain `law`") && fault.contains("classifier.model (line 8): no such"),
        "{fault}"
    );
    let (result, asked) =
        found(&format!("{start}classifier: {{colour: red}}\n"), facts(&["math"], Vec::new()));
    assert!(!result.unwrap_err().contains("unknown domain"));
    assert_eq!(asked, 0);
}

#[test]
fn the_files_that_a_policy_names_are_bounded_together() {
    let tools = format!("[{}]", " ".repeat(1_000_000));
    let environment =
        Fixed { files: [(PathBuf::from("/p/t.json"), tools.into())].into(), ..Fixed::default() };
    let decision = |at: usize| {
        format!(
            "- {{name: d{at}, when: {{domain: math}}, model: m, plugins: {{tools: {{mode: select, file: t.json}}}}}}\n"
        )
    };
    let decisions: String = (0..40).map(decision).collect();
    let text = format!(
        "version: 1\nvirtual_models: [auto]\ndefault_model: m\nmodels: {{m: {{pools: [p]}}}}\n\
         pools: {{p: {{endpoints: [\"127.0.0.1:1\"]}}}}\ndecisions:\n{decisions}"
    );
    let issues = load(&text, FilePath::new("/p"), &environment, None).unwrap_err();
    assert!(issues.to_string().contains("larger than 16 MiB together"), "{issues}");
}
