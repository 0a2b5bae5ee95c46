//! Owns why the import ignores keys that it knows but does not read. Refuses to know those that it reads.

use super::super::issue::PathSegment;
use super::dialect::ConfigDialect;
use super::report::KeyOutcome;

const CLASSIFIER: &str = "one built-in classifier answers every question; `classifier` chooses another";
const TRACES: &str = "metrics are always there, and the server file says where logs go";
const SERVER: &str = "addresses, ports and TLS of listeners stand in the server file";
const NO_STORE: &str = "no answers or conversations are kept for later requests by id";
const ONE_MODEL: &str = "one request is one call of one model";
const LEARNED: &str = "nothing is learned from requests";
const PEOPLE: &str = "for people";

/// Keys of the older dialects.
const LEGACY: &[(&str, &str)] = &[
    ("bert_model", CLASSIFIER),
    ("embedding_models", CLASSIFIER),
    ("classifier.category_model", CLASSIFIER),
    ("classifier.pii_model", CLASSIFIER),
    ("hallucination_mitigation", "no decision asks for it, or another model does it"),
    ("prompt_guard", CLASSIFIER),
    ("router", "chose between two classifiers in vSR; there is one here"),
    ("semantic_cache", "how the cache finds and drops answers is its own business"),
    ("tools", "no tools are picked"),
    ("api", "texts are classified together as they come"),
    ("observability", TRACES),
    ("clear_route_cache", "nothing is routed twice, so no route has to be forgotten"),
    ("include_config_models_in_list", "/v1/models always lists them"),
    ("config_source", "the policy is a file, and objects that it leaves decisions to are read with it"),
    ("batch_classification", "texts are classified together as they come"),
    ("categories.*.model_scores", "decisions name their models in this dialect"),
    ("categories.*.reasoning_description", PEOPLE),
    ("categories.*.reasoning_effort", "stands with a category's model"),
    ("model_config.*.param_size", PEOPLE),
    ("model_config.*.description", PEOPLE),
    ("vllm_endpoints.*.health_check_path", "/health is asked, as vLLM has it"),
];

/// Those of the older dialects that something is missing for.
const LEGACY_LOST: &[(&str, &str)] = &[
    ("classifier.mcp_category_model", "no other process is asked for the domain"),
    ("response_api", NO_STORE),
    ("model_config.*.external_model_ids", "a pool has one name for a model"),
];

/// Keys of the canonical dialects.
const CANONICAL: &[(&str, &str)] = &[
    ("listeners", SERVER),
    ("setup", PEOPLE),
    ("routing.modelCards", PEOPLE),
    ("providers.models.*.param_size", PEOPLE),
    ("providers.models.*.description", PEOPLE),
    ("routing.signals.domains.*.model_scores", "decisions name their models"),
    ("signals.domains.*.model_scores", "decisions name their models"),
    ("routing.decisions.*.output_contract", PEOPLE),
    ("routing.decisions.*.annotations", PEOPLE),
    ("global.router.clear_route_cache", "nothing is routed twice, so no route has to be forgotten"),
    (
        "global.router.config_source",
        "the policy is a file, and objects that it leaves decisions to are read with it",
    ),
    ("global.router.include_config_models_in_list", "/v1/models always lists them"),
    ("global.router.streamed_body", "the server file bounds bodies"),
    ("global.router.strategy", "`routing.strategy` says it"),
    ("global.router.skip_processing", "a request that names its model is not judged but for guards"),
    ("global.router.model_selection.enabled", LEARNED),
    ("global.services.api", "texts are classified together as they come"),
    ("global.services.observability", TRACES),
    ("global.services.management_api", SERVER),
    ("global.services.startup_status", "the admin listener says when it is ready"),
    ("global.services.router_replay", "the log tells what was decided; bodies are not kept"),
    ("global.stores.response_cache", "how the cache finds and drops answers is its own business"),
    ("global.model_catalog.embeddings", CLASSIFIER),
    ("global.model_catalog.system", CLASSIFIER),
    ("global.model_catalog.deployments", CLASSIFIER),
    ("global.model_catalog.modules", CLASSIFIER),
    ("global.integrations.tools", "no tools are picked"),
];

/// Those of the canonical dialects that something is missing for.
const CANONICAL_LOST: &[(&str, &str)] = &[
    ("providers.models.*.external_model_ids", "a pool has one name for a model: `upstream_model`"),
    ("routing.decisions.*.output_contract_spec", ONE_MODEL),
    ("routing.decisions.*.candidateIterations", ONE_MODEL),
    ("routing.decisions.*.emits", "nothing is kept of a conversation but where it went"),
    ("routing.decisions.*.adaptations", LEARNED),
    ("routing.decisions.*.algorithm", ONE_MODEL),
    ("global.router.model_selection", LEARNED),
    ("global.router.learning", "stickiness stands with a decision, as `sticky`; nothing is learned"),
    ("global.services.response_api", NO_STORE),
    ("global.services.authz", "keys and headers of `identity` say who a client is"),
    ("global.services.ratelimit", "requests are bounded as a whole, by the server file"),
    ("global.stores.memory", "no memories are kept of users"),
    ("global.stores.vector_store", "no documents are kept"),
    ("global.integrations.looper", ONE_MODEL),
    ("global.model_catalog.external", "no other model is asked about a request"),
    ("global.model_catalog.kbs", "there are no knowledge bases"),
    ("evaluation", "`signalbox eval` judges the classifier"),
];

/// Keys of the production stack's values.
const STACK: &[(&str, &str)] = &[
    ("servingEngineSpec", "the chart starts the servers; nothing here does"),
    ("routerSpec", "the stack's router is not needed: replicas are chosen here"),
    ("loraController", "the chart starts the servers; nothing here does"),
    ("cacheserverSpec", "the chart starts the servers; nothing here does"),
    ("sharedStorage", "the chart starts the servers; nothing here does"),
];

/// Keys of the vLLM Router's values.
const ROUTER_CHART: &[(&str, &str)] = &[
    ("models", "the chart starts the servers; `deploy/chart` can too"),
    ("router", "the router is not needed: models are found by their names here"),
];

/// Why a key is ignored, if the import knows it.
pub(super) fn why(
    dialect: ConfigDialect,
    wrapped: Option<&str>,
    segments: &[PathSegment],
) -> Option<KeyOutcome> {
    let segments = match (wrapped, segments) {
        (None, segments) => segments,
        (Some(key), [PathSegment::Key(first), rest @ ..]) if first == key => rest,
        (Some(_), [_, ..]) => return Some(ignored("another value of the chart: it has no say in routing")),
        (Some(_), []) => return None,
    };
    let (known, lost) = match dialect {
        ConfigDialect::Categories | ConfigDialect::Decisions => (LEGACY, LEGACY_LOST),
        ConfigDialect::Canonical | ConfigDialect::CommandLine => (CANONICAL, CANONICAL_LOST),
        ConfigDialect::ProductionStack => (STACK, &[][..]),
        ConfigDialect::RouterChart => (ROUTER_CHART, &[][..]),
        ConfigDialect::Tools => return Some(ignored("read when the policy is loaded")),
        ConfigDialect::Unknown => return Some(ignored("no configuration that the import knows")),
        ConfigDialect::Signalbox | ConfigDialect::Manifests | ConfigDialect::RoutingObjects => return None,
    };
    let under = |list: &[(&str, &'static str)]| {
        list.iter().find(|(pattern, _)| lies_under(pattern, segments)).map(|(_, why)| *why)
    };
    if let Some(why) = under(lost) {
        return Some(KeyOutcome::Unsupported { why: why.to_owned() });
    }
    under(known).map(ignored)
}

/// Why a part of a Kubernetes object is ignored.
pub(super) fn of_object(kind: &str, segments: &[PathSegment]) -> Option<KeyOutcome> {
    let [PathSegment::Key(first), rest @ ..] = segments else {
        return whole(kind).map(ignored);
    };
    if ["apiVersion", "kind", "metadata", "status"].contains(&first.as_str()) {
        return Some(ignored("says which object this is"));
    }
    let Some(PathSegment::Key(second)) = rest.first() else { return None };
    match (kind, second.as_str()) {
        (_, "parentRefs" | "hostnames") => Some(ignored(SERVER)),
        ("HTTPRoute" | "AIGatewayRoute", "rules") | ("IntelligentPool" | "IntelligentRoute", _) => None,
        ("Deployment" | "StatefulSet" | "Pod", _) => {
            Some(ignored("how pods are run, not how they are reached"))
        }
        ("Service" | "InferencePool", _) => Some(ignored("the object's DNS name is enough to reach it")),
        ("ServiceEntry" | "DestinationRule", _) => Some(ignored("the pool's `tls` says it all")),
        _ => Some(ignored("not needed to reach the address")),
    }
}

/// Why no object of a kind is read at all.
fn whole(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "HTTPRoute" | "AIGatewayRoute" | "Service" | "InferencePool" | "ServiceEntry" | "DestinationRule"
        | "Deployment" | "StatefulSet" | "DaemonSet" | "LeaderWorkerSet" | "Pod" | "Backend"
        | "AIServiceBackend" | "IntelligentPool" | "IntelligentRoute" => {
            return None;
        }
        "Gateway" | "GatewayClass" | "EnvoyProxy" | "ClientTrafficPolicy" => SERVER,
        "EnvoyFilter" | "EnvoyPatchPolicy" | "EnvoyExtensionPolicy" => {
            "no filter is needed: the decision is made in the gateway itself"
        }
        "CustomResourceDefinition" => "says what objects of a kind look like; none stands here",
        "Secret" => "secrets are named by variable or file, never read by the import",
        "ConfigMap" => "configures another program",
        "ServiceAccount" | "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => {
            "rights of programs that are not needed here"
        }
        "PersistentVolumeClaim" | "PersistentVolume" | "Namespace" | "NetworkPolicy" => {
            "has no say in routing"
        }
        _ => "no object of this kind has a say in routing here",
    })
}

fn ignored(why: &str) -> KeyOutcome {
    KeyOutcome::Ignored { why: why.to_owned() }
}

/// Whether a path matches a pattern or lies under one that does; `*` is any one step.
fn lies_under(pattern: &str, segments: &[PathSegment]) -> bool {
    let mut steps = pattern.split('.');
    let mut path = segments.iter();
    steps.all(|step| match path.next() {
        Some(PathSegment::Key(key)) => step == "*" || step == key,
        Some(PathSegment::Index(_)) => step == "*",
        None => false,
    })
}
