//! Owns vLLM Semantic Router's canonical dialect and the short-lived one of its command line before it. Refuses to know
//! upstreams, signals and plugins.

use super::conditions::Conditions;
use super::decision_defaults::DecisionDefaults;
use super::decisions::{self, DecisionList};
use super::detector;
use super::draft::{LostDecisions, PolicyDraft, ascii};
use super::globals;
use super::intelligent::RoutingObjects;
use super::keywords;
use super::providers;
use super::shapes::shapes;
use super::signals::{self, SignalBuilder, SignalThresholds};
use super::source_node::SourceNode;
use super::tool_files::ToolFiles;
use super::yaml_writer::{YamlMapping, YamlValue};

/// Reads a configuration of either dialect, with the objects that it leaves models and decisions to.
pub(super) fn read(
    root: &SourceNode<'_>,
    objects: &RoutingObjects<'_>,
    files: &ToolFiles<'_>,
    draft: &mut PolicyDraft,
) {
    let providers = root.get("providers");
    let defaults = providers.as_ref().map(|own| own.get("defaults").unwrap_or_else(|| own.clone()));
    if let Some(defaults) = &defaults {
        globals::families(defaults.get("reasoning_families").as_ref(), draft);
        globals::effort(defaults, draft);
    }
    providers::read(providers.as_ref(), draft);
    objects.models(draft);
    // The older dialect has at the top level what the newer has in `routing`.
    let own = root.get("routing").unwrap_or_else(|| root.clone());
    let routing = objects.routing().unwrap_or_else(|| own.clone());
    cards(&routing.list("modelCards"), draft);
    let default = objects
        .default_model()
        .or_else(|| defaults.and_then(|defaults| defaults.take("default_model", "default_model")))
        .or_else(|| root.take("default_model", "default_model"));
    names(root, default, draft);
    let global = root.get("global");
    let at = |keys: &[&str]| global.as_ref().and_then(|global| global.at(keys));
    let cache = globals::cache(at(&["stores", "response_cache"]).as_ref(), draft);
    let tools = globals::tools(at(&["integrations", "tools"]).as_ref(), files);
    if let Some(authz) = at(&["services", "authz"]) {
        super::identity::read(&authz, draft);
    }
    let modules = at(&["model_catalog", "modules"]);
    let thresholds = modules.as_ref().map(|modules| modules_of(modules, draft)).unwrap_or_default();
    let detector = at(&["model_catalog"]).and_then(|catalog| detector::canonical(&catalog));
    let defaults = DecisionDefaults {
        is_canonical: true,
        cache,
        caches_all: false,
        tools,
        prompt_min: None,
        pii_min: None,
        has_detector: detector.is_some(),
        files,
    };
    let strategy =
        globals::strategy(&own).or_else(|| at(&["router"]).and_then(|router| globals::strategy(&router)));
    draft.routing.strategy = strategy.filter(|strategy| strategy != "priority");
    let conditions = conditions(&routing, &Conditions::default(), thresholds, draft);
    let items = routing.list("decisions");
    let list = DecisionList { items: &items, recipe: None };
    draft.routing.decisions = decisions::read(&list, &conditions, &defaults, draft);
    recipes(root, &conditions, thresholds, &defaults, draft);
    detector::put(detector, draft);
}

/// Reads what else is known of models.
fn cards(list: &[SourceNode<'_>], draft: &mut PolicyDraft) {
    for card in list {
        let Some(name) = card.take("name", "models") else { continue };
        draft.model(&name);
        globals::loras(card, &name, draft);
        draft.model(&name).quality = card.share("quality_score", &format!("models.{name}.quality"));
        signals::note_text(card);
    }
}

/// Reads the default model and the names that ask for a decision.
fn names(root: &SourceNode<'_>, default: Option<String>, draft: &mut PolicyDraft) {
    let default = default.unwrap_or_else(|| {
        let first = draft.models.keys().next().cloned().unwrap_or_else(|| "default".to_owned());
        draft.head.push(format!("The original names no default model; the first one, `{first}`, is taken."));
        first
    });
    draft.promote(&default);
    draft.model(&default);
    draft.routing.default_model = Some(default);
    let router = root.at(&["global", "router"]);
    let mut names = Vec::new();
    if let Some(router) = &router {
        names = router.take_list("auto_model_names", "virtual_models");
        names.extend(router.take("auto_model_name", "virtual_models"));
    }
    if names.is_empty() {
        names = ["auto", "MoM", "vllm-sr/auto"].map(str::to_owned).to_vec();
    }
    for entry in root.list("entrypoints") {
        if entry.peek("recipe").is_none_or(|recipe| recipe == "default") {
            entry.take("recipe", "virtual_models");
            names.extend(entry.take_list("model_names", "virtual_models"));
        }
    }
    for name in names {
        let name = ascii(&name);
        if !draft.routing.virtual_models.contains(&name) && draft.routing.virtual_models.len() < 64 {
            draft.routing.virtual_models.push(name);
        }
    }
}

/// Reads the classifier's thresholds.
fn modules_of(modules: &SourceNode<'_>, draft: &mut PolicyDraft) -> SignalThresholds {
    let share = |keys: &[&str], to: &str| modules.at(keys).and_then(|module| module.share("threshold", to));
    draft.classifier.maybe("min_confidence", share(&["classifier", "domain"], "classifier.min_confidence"));
    let mut least = YamlMapping::default();
    least.maybe("jailbreak", share(&["prompt_guard"], "classifier.thresholds.jailbreak"));
    least.maybe("pii", share(&["classifier", "pii"], "classifier.thresholds.pii"));
    draft.classifier.filled("thresholds", least);
    SignalThresholds {
        fact_check: share(&["hallucination_mitigation", "fact_check"], "signals.*.fact_check.min_score"),
        feedback: share(&["feedback_detector"], "signals.*.feedback.min_score"),
    }
}

/// Reads the signals of one list of decisions, beside those of the list around it.
pub(super) fn conditions(
    routing: &SourceNode<'_>,
    outer: &Conditions,
    thresholds: SignalThresholds,
    draft: &mut PolicyDraft,
) -> Conditions {
    let mut conditions = outer.clone();
    conditions.empty_holds = true;
    let Some(signals) = routing.get("signals") else { return conditions };
    let mut builder = SignalBuilder { draft, conditions: &mut conditions, thresholds };
    signals::domains(&signals.list("domains"), &mut builder);
    keywords::keywords(&signals.list("keywords"), &mut builder);
    signals::similar("embedding", &signals.list("embeddings"), &mut builder);
    signals::similar("preference", &signals.list("preferences"), &mut builder);
    // Objects of Kubernetes have it under the second name.
    for key in ["fact_check", "fact_check_rules"] {
        signals::fact_checks(&signals.list(key), &mut builder);
    }
    signals::reactions(&signals, &mut builder);
    signals::threats(&signals, &mut builder);
    shapes(&signals, &mut builder);
    let refused = [
        ("kb", "kb", "there are no knowledge bases"),
        ("events", "event", "requests carry no events"),
        ("classifiers", "classifier", "there is one classifier, with its own questions"),
    ];
    for (list, kind, why) in refused {
        for item in signals.list(list) {
            if let Some(name) = item.peek("name") {
                builder.refuse(kind, name, why);
            }
            item.unsupported(why);
        }
    }
    if let Some(projections) = routing.get("projections") {
        let why = "signals are not weighed into scores and bands";
        for mapping in projections.list("mappings") {
            for output in mapping.list("outputs") {
                if let Some(name) = output.peek("name") {
                    builder.refuse("projection", name, why);
                }
            }
        }
        projections.unsupported(why);
    }
    conditions
}

/// Reads further lists of decisions, behind the names that their entry points give them.
fn recipes(
    root: &SourceNode<'_>,
    outer: &Conditions,
    thresholds: SignalThresholds,
    defaults: &DecisionDefaults,
    draft: &mut PolicyDraft,
) {
    let mut unreached = Vec::new();
    for recipe in root.list("recipes") {
        let Some(name) = recipe.take("name", "recipes") else { continue };
        let mut names = Vec::new();
        for entry in root.list("entrypoints") {
            if entry.peek("recipe") == Some(name.as_str()) {
                entry.take("recipe", &format!("recipes.{name}"));
                names.extend(entry.take_list("model_names", &format!("recipes.{name}.virtual_models")));
            }
        }
        names.retain(|name| !draft.routing.virtual_models.contains(name) && !draft.models.contains_key(name));
        signals::note_text(&recipe);
        let Some(routing) = recipe.get("routing") else { continue };
        if names.is_empty() {
            recipe.broken("no entry point leads to this recipe", "left out");
            let decisions = routing.list("decisions");
            let decisions = decisions.iter().filter_map(|one| one.peek("name").map(str::to_owned)).collect();
            unreached.push(LostDecisions { recipe: Some(name), decisions });
            continue;
        }
        let mut out = YamlMapping::default();
        out.put("virtual_models", names);
        // A recipe without a strategy has the policy's.
        out.maybe("strategy", globals::strategy(&routing));
        let conditions = conditions(&routing, outer, thresholds, draft);
        let items = routing.list("decisions");
        let list = DecisionList { items: &items, recipe: Some(&name) };
        let decisions = decisions::read(&list, &conditions, defaults, draft);
        out.put("decisions", YamlValue::List(decisions));
        draft.routing.recipes.put(&ascii(&name), out);
    }
    // Without any other, they are what was meant.
    if draft.routing.decisions.is_empty() && draft.routing.recipes.is_empty() {
        draft.routing.lost.extend(unreached);
    }
}
