//! What manifests come to.

use super::*;
use crate::http_route::{ModelHeaders, RouteQuery};
use crate::policy::manifests;
use http::{HeaderMap, Method};
use serde_json::Value;

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: signalbox}
spec: {controllerName: us.example/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: infra, generation: 3}
spec:
  gatewayClassName: signalbox
  listeners:
    - {name: http, protocol: HTTP, port: 80, hostname: '*.example.com', allowedRoutes: {namespaces: {from: All}}}
    - {name: own, protocol: HTTP, port: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: apps}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: grpc, port: 81, appProtocol: kubernetes.io/h2c}]}
";

/// A route in the namespace `apps` with this rest.
fn route(rest: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: apps}}\nspec:\n  \
         parentRefs: [{{name: g, namespace: infra}}]\n{rest}"
    )
}

const TO_SERVICE: &str = "  rules: [{backendRefs: [{name: s, port: 80}]}]\n";

fn objects(text: &str) -> RawObjects {
    let mut raw = RawObjects::new();
    for object in manifests(text).unwrap() {
        let kind = ObjectKind::of_manifest(&object).unwrap();
        let name = super::super::watches::name_of(&object).unwrap();
        raw.entry(kind).or_default().insert(name, object);
    }
    raw
}

fn settings() -> GatewaySettings {
    GatewaySettings {
        controller: "us.example/gateway".to_owned(),
        ports: vec![(80, false), (443, true), (8080, false)],
        service: None,
        external_names: false,
    }
}

fn translated(more: &str) -> TranslatedCluster {
    translate(&objects(&format!("{GATEWAY}{more}")), &settings())
}

/// What is said of an object, as `about type=status/reason`.
fn told(translated: &TranslatedCluster, kind: ObjectKind, name: &str) -> Vec<String> {
    let status = translated.statuses.iter().find(|status| status.kind == kind && status.name.name == name);
    let text = |told: &ToldCondition| {
        let ObjectCondition { kind, is_true, reason, .. } = &told.condition;
        format!("{} {kind}={is_true}/{reason}", told.about).trim_start().to_owned()
    };
    status.unwrap().told.iter().map(text).collect()
}

/// The rule and the first backend's pool of a request.
fn found(translated: &TranslatedCluster, port: u16, host: &str, path: &str) -> Option<String> {
    let headers = HeaderMap::new();
    let model = Some(ModelHeaders { selected: "m", asked: "m" });
    let query = RouteQuery { port, host, method: &Method::POST, path, query: None, headers: &headers, model };
    Some(translated.traffic.table.find(&query)?.rule.source.to_string())
}

#[test]
fn a_route_attaches_to_the_listeners_that_take_it_and_meets_their_hosts() {
    let own = translated(&route(TO_SERVICE));
    assert_eq!(
        told(&own, ObjectKind::HttpRoute, "r"),
        ["Gateway infra/g Accepted=true/Accepted", "Gateway infra/g ResolvedRefs=true/ResolvedRefs"]
    );
    assert_eq!(found(&own, 80, "a.example.com", "/x").as_deref(), Some("apps/r#0"));
    assert_eq!(found(&own, 80, "example.org", "/x"), None);
    assert_eq!(
        found(&own, 8080, "a.example.com", "/x"),
        None,
        "that listener takes its own namespace's alone"
    );
    for (rest, reason) in [("  hostnames: [example.org]\n", "NoMatchingListenerHostname"), ("", "Accepted")] {
        let told = told(&translated(&route(&format!("{rest}{TO_SERVICE}"))), ObjectKind::HttpRoute, "r");
        assert!(told[0].ends_with(reason), "{told:?}");
    }
    let at = |section: &str| {
        let route =
            route(TO_SERVICE).replace("namespace: infra}]", &format!("namespace: infra, {section}}}]"));
        told(&translated(&route), ObjectKind::HttpRoute, "r")[0].clone()
    };
    assert!(at("sectionName: none").ends_with("NoMatchingParent"));
    assert!(at("port: 8080").ends_with("NotAllowedByListeners"));
    assert!(at("sectionName: http, port: 80").ends_with("Accepted"));
}

#[test]
fn a_listener_that_the_process_does_not_have_is_refused_with_its_reason() {
    let more = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: h, namespace: infra}\nspec:\n  \
                gatewayClassName: signalbox\n  listeners:\n    - {name: a, protocol: HTTP, port: 81}\n    \
                - {name: b, protocol: TCP, port: 80}\n    - {name: c, protocol: HTTPS, port: 80}\n    \
                - {name: d, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: none}]}}\n    \
                - {name: e, protocol: HTTP, port: 80, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}\n";
    let translated = translated(more);
    let told = told(&translated, ObjectKind::Gateway, "h");
    for expected in [
        "Accepted=false/ListenersNotValid",
        "Programmed=false/Invalid",
        "listener a Accepted=false/PortUnavailable",
        "listener b Accepted=false/UnsupportedProtocol",
        "listener c Accepted=false/PortUnavailable",
        "listener d ResolvedRefs=false/InvalidCertificateRef",
        "listener e ResolvedRefs=false/InvalidRouteKinds",
    ] {
        assert!(told.iter().any(|told| told == expected), "{expected}: {told:#?}");
    }
    let secret = ObjectName { namespace: "infra".to_owned(), name: "none".to_owned() };
    assert!(translated.referred.contains(&(ObjectKind::Secret, secret)), "it is looked for");
    assert!(!translated.traffic.table.has_port(443) && !translated.traffic.table.has_port(81));
}

#[test]
fn what_another_namespace_has_needs_a_grant() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: other}\nspec: {ports: [{port: 80}]}\n";
    let rules = "  rules: [{backendRefs: [{name: s, namespace: other, port: 80}]}]\n";
    let refused = translated(&format!("{service}{}", route(rules)));
    assert!(told(&refused, ObjectKind::HttpRoute, "r")[1].ends_with("ResolvedRefs=false/RefNotPermitted"));
    let grant = |from: &str, to: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: x, namespace: other}}\n\
             spec:\n  from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {from}}}]\n  \
             to: [{{group: '', kind: Service{to}}}]\n"
        )
    };
    for (from, to, reason) in [
        ("apps", "", "ResolvedRefs=true/ResolvedRefs"),
        ("apps", ", name: s", "ResolvedRefs=true/ResolvedRefs"),
        ("apps", ", name: t", "ResolvedRefs=false/RefNotPermitted"),
        ("else", "", "ResolvedRefs=false/RefNotPermitted"),
    ] {
        let translated = translated(&format!("{service}{}{}", grant(from, to), route(rules)));
        let told = told(&translated, ObjectKind::HttpRoute, "r");
        assert!(told[1].ends_with(reason), "{from} {to}: {told:?}");
    }
}

#[test]
fn a_backend_that_is_not_there_keeps_its_share_and_says_why() {
    for (backend, reason) in [
        ("{name: none, port: 80}", "BackendNotFound"),
        ("{name: s, port: 90}", "BackendNotFound"),
        ("{name: s}", "UnsupportedValue"),
        ("{name: s, kind: Bucket, port: 1}", "InvalidKind"),
        ("{group: inference.networking.k8s.io, kind: InferencePool, name: p}", "BackendNotFound"),
    ] {
        let rules = format!("  rules: [{{backendRefs: [{{name: s, port: 80}}, {backend}]}}]\n");
        let translated = translated(&route(&rules));
        let told = told(&translated, ObjectKind::HttpRoute, "r");
        assert_eq!(told[1], format!("Gateway infra/g ResolvedRefs=false/{reason}"), "{backend}");
        assert_eq!(translated.traffic.backends.len(), 1);
    }
    let own =
        translated(&route("  rules: [{backendRefs: [{group: signalbox.dev, kind: Pool, name: openai}]}]\n"));
    assert_eq!(own.traffic.backends, [crate::http_route::BackendPool::OfPolicy("openai".to_owned())]);
}

#[test]
fn a_rule_that_cannot_be_done_is_told_and_leads_nowhere() {
    let bad =
        "{matches: [{path: {type: RegularExpression, value: '('}}], backendRefs: [{name: s, port: 80}]}";
    let filter =
        "{filters: [{type: ExtensionRef, extensionRef: {name: x}}], backendRefs: [{name: s, port: 80}]}";
    let good = "{matches: [{path: {value: /good}}], backendRefs: [{name: s, port: 80}]}";
    let only_bad = translated(&route(&format!("  rules: [{bad}]\n")));
    assert!(told(&only_bad, ObjectKind::HttpRoute, "r")[0].ends_with("Accepted=false/UnsupportedValue"));
    let partly = translated(&route(&format!("  rules: [{bad}, {filter}, {good}]\n")));
    let said = told(&partly, ObjectKind::HttpRoute, "r");
    assert!(
        said[0].ends_with("Accepted=true/Accepted")
            && said[2].ends_with("PartiallyInvalid=true/UnsupportedValue")
    );
    assert_eq!(found(&partly, 80, "a.example.com", "/good").as_deref(), Some("apps/r#2"));
    assert_eq!(
        found(&partly, 80, "a.example.com", "/x").as_deref(),
        Some("apps/r#1"),
        "answered with 500, not passed over"
    );
}

#[test]
fn the_older_route_wins_among_equals() {
    let at = |name: &str, time: &str| {
        route(TO_SERVICE).replace("{name: r,", &format!("{{name: {name}, creationTimestamp: '{time}',"))
    };
    let both = format!("{}{}", at("a", "2026-02-01T00:00:00Z"), at("b", "2026-01-01T00:00:00Z"));
    assert_eq!(found(&translated(&both), 80, "a.example.com", "/").as_deref(), Some("apps/b#0"));
    let equal = format!("{}{}", at("b", "2026-01-01T00:00:00Z"), at("a", "2026-01-01T00:00:00Z"));
    assert_eq!(found(&translated(&equal), 80, "a.example.com", "/").as_deref(), Some("apps/a#0"));
}

#[test]
fn gateways_have_the_addresses_of_the_service() {
    let service = |status: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: gw, namespace: infra}}\nspec: {{type: LoadBalancer, clusterIP: 10.0.0.9}}\n{status}"
        )
    };
    let of = |more: &str| {
        let settings = GatewaySettings {
            service: Some(ObjectName { namespace: "infra".to_owned(), name: "gw".to_owned() }),
            ..settings()
        };
        let translated = translate(&objects(&format!("{GATEWAY}{more}")), &settings);
        let status =
            translated.statuses.iter().find(|status| status.kind == ObjectKind::Gateway).unwrap().clone();
        let WantedStatus::Keys(keys) = &status.wanted else { unreachable!("a Gateway's state is whole") };
        (keys["addresses"].clone(), told(&translated, ObjectKind::Gateway, "g")[1].clone())
    };
    let (none, waiting) = of(&service(""));
    assert_eq!((none, &*waiting), (Value::Array(Vec::new()), "Programmed=false/AddressNotAssigned"));
    let (given, programmed) =
        of(&service("status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: a.example}]}}\n"));
    assert_eq!(
        given,
        json!([{"type": "IPAddress", "value": "192.0.2.1"}, {"type": "Hostname", "value": "a.example"}])
    );
    assert_eq!(programmed, "Programmed=true/Programmed");
}

#[test]
fn what_is_not_honoured_is_remarked_with_its_path() {
    let rules = "  rules: [{backendRefs: [{name: s, port: 80}], sessionPersistence: {sessionName: x}}]\n";
    let remarks = translated(&route(rules)).remarks;
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert_eq!(remarks[0].text, "`spec.rules.0.sessionPersistence` is not honoured");
}

#[test]
fn objectives_and_rewrites_hold_for_pools_that_are_there() {
    let more = "
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p, namespace: apps}
spec: {selector: {matchLabels: {app: m}}, targetPorts: [{number: 8000}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: batch, namespace: apps}
spec: {priority: -1, poolRef: {name: p}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: lost, namespace: apps}
spec: {priority: 5, poolRef: {name: none}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {name: w, namespace: apps}
spec:
  poolRef: {name: p}
  rules:
    - targets: [{modelRewrite: base}]
    - matches: [{model: {type: Exact, value: food}}]
      targets: [{modelRewrite: food-1, weight: 90}, {modelRewrite: food-2, weight: 10}]
";
    let rules =
        "  rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: p}]}]\n";
    let translated = translated(&format!("{more}{}", route(rules)));
    let inference = &translated.traffic.inference;
    assert_eq!(inference.objectives.clone().into_iter().collect::<Vec<_>>(), [("batch".to_owned(), -1)]);
    let models: Vec<_> = inference.rewrites.iter().map(|rule| rule.models.clone()).collect();
    assert_eq!(models, [vec!["food".to_owned()], Vec::new()], "the one that names a model comes first");
    assert_eq!(inference.rewrites[0].targets, [("food-1".to_owned(), 90), ("food-2".to_owned(), 10)]);
    assert_eq!(
        told(&translated, ObjectKind::OlderInferenceObjective, "lost"),
        ["Accepted=false/TargetNotFound"]
    );
    assert_eq!(told(&translated, ObjectKind::OlderInferenceModelRewrite, "w"), ["Accepted=true/Accepted"]);
    assert_eq!(told(&translated, ObjectKind::InferencePool, "p").len(), 2);
}
