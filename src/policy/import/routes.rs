//! Owns Kubernetes routes to models and pools: which upstream a header with a model's name selects. Refuses to know
//! decisions.

use super::draft::{EndpointDraft, PolicyDraft, PoolDraft, ascii, dns_label, variable};
use super::objects::{GatewayBackend, HostTls, KubernetesObjects, KubernetesService, ModelServer, selects};
use super::providers::{duration_at, secret};
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// The headers that carry a model's name to a route.
const HEADERS: [&str; 3] = ["x-selected-model", "x-ai-eg-model", "x-gateway-model-name"];

/// Adds what routes and servers say to a policy.
pub(super) fn read(objects: &KubernetesObjects<'_>, draft: &mut PolicyDraft) {
    for route in &objects.routes {
        let namespace = super::objects::identity(route).map_or_else(|| "default".to_owned(), |(_, own)| own);
        let Some(spec) = route.get("spec") else { continue };
        for rule in spec.list("rules") {
            read_rule(&rule, &namespace, objects, draft);
        }
    }
    unrouted(objects, draft);
}

fn read_rule(
    rule: &SourceNode<'_>,
    namespace: &str,
    objects: &KubernetesObjects<'_>,
    draft: &mut PolicyDraft,
) {
    let mut names = Vec::new();
    for matched in rule.list("matches") {
        if let Some(path) = matched.get("path") {
            match path.peek("value") {
                None | Some("/" | "/v1" | "/v1/") => {
                    path.ignored("requests go by their model, whatever their path");
                }
                Some(_) => path.unsupported("requests go by their model, whatever their path"),
            }
        }
        for header in matched.list("headers") {
            let name = header.peek("name").unwrap_or_default().to_ascii_lowercase();
            let is_exact = header.peek("type").is_none_or(|kind| kind == "Exact");
            if HEADERS.contains(&name.as_str()) && is_exact {
                for key in ["name", "type"] {
                    if let Some(node) = header.get(key) {
                        node.ignored("no header carries the model: it is known where it is decided");
                    }
                }
                names.extend(header.take("value", "models"));
            } else {
                header.unsupported("requests go by their model, not by headers");
            }
        }
    }
    if names.is_empty() {
        if let Some(refs) = rule.get("backendRefs") {
            refs.unsupported("this rule names no model, and requests go by their model");
        }
        return;
    }
    let Some((pool, served)) = pool(rule, namespace, objects, draft) else { return };
    for name in names {
        attach(&name, &pool, &served, draft);
    }
}

/// Has a model served by a pool; an adapter's model is its base.
fn attach(name: &str, pool: &str, served: &ServedModels, draft: &mut PolicyDraft) {
    let base = if draft.models.contains_key(name) { None } else { draft.base_of(name) };
    let is_adapter = base.is_some() || served.loras.iter().any(|lora| lora == name);
    let owner = match base {
        Some(base) => base,
        None if is_adapter && !draft.models.contains_key(name) => {
            let base = served.names.first().cloned().unwrap_or_else(|| name.to_owned());
            let loras = &mut draft.model(&base).loras;
            if !loras.iter().any(|lora| lora == name) {
                loras.push(name.to_owned());
            }
            base
        }
        None => name.to_owned(),
    };
    let model = draft.model(&owner);
    if !model.pools.iter().any(|known| known == pool) {
        model.pools.push(pool.to_owned());
    }
    if is_adapter || served.names.is_empty() {
        return;
    }
    if !served.names.contains(&owner) && model.upstream.is_none() {
        model.upstream = served.names.first().cloned();
    }
    model.aliases.extend(served.names.iter().filter(|other| **other != owner).cloned());
    model.aliases.dedup();
}

/// What the servers behind a pool go by.
#[derive(Debug, Default, Clone)]
struct ServedModels {
    names: Vec<String>,
    loras: Vec<String>,
}

/// What backends become while they are put together.
#[derive(Default)]
struct RouteBackends {
    name: String,
    endpoints: Vec<EndpointDraft>,
    host: Option<String>,
    is_tls: bool,
    served: ServedModels,
    remarks: Vec<String>,
}

/// Makes the pool of a rule, or finds the one that it names again.
fn pool(
    rule: &SourceNode<'_>,
    namespace: &str,
    objects: &KubernetesObjects<'_>,
    draft: &mut PolicyDraft,
) -> Option<(String, ServedModels)> {
    let mut target = RouteBackends::default();
    for item in rule.list("backendRefs") {
        let Some(name) = item.take("name", "pools") else { continue };
        let own = item.take("namespace", "pools.*.endpoints").unwrap_or_else(|| namespace.to_owned());
        let port = item.whole("port", "pools.*.endpoints");
        let weight = item.whole("weight", "pools.*.endpoints[].weight");
        if let Some(kind) = item.get("kind") {
            kind.mapped("pools");
        }
        if let Some(group) = item.get("group") {
            group.mapped("pools");
        }
        let before = target.endpoints.len();
        if item.peek("kind") == Some("InferencePool") {
            inference_pool(&name, objects, &mut target);
        } else {
            service(&ServiceRef { name: &name, namespace: &own, port }, objects, &mut target);
        }
        for endpoint in &mut target.endpoints[before..] {
            endpoint.weight = weight;
        }
        if target.name.is_empty() {
            target.name = ascii(&name);
        }
    }
    if target.endpoints.is_empty() {
        return None;
    }
    if target.endpoints.len() == 1 {
        target.endpoints[0].weight = None;
    }
    let mut settings = YamlMapping::default();
    filters(rule, &mut target, &mut settings);
    if target.is_tls {
        let name = target.host.as_ref().map(|host| YamlValue::of("server_name", host.clone()));
        settings.put("tls", name.unwrap_or(YamlValue::Map(YamlMapping::default())));
    }
    timeouts(rule, &mut settings);
    let name = target.name.clone();
    let pool = PoolDraft { endpoints: target.endpoints, settings, remarks: target.remarks };
    draft.pools.entry(name.clone()).or_insert(pool);
    Some((name, target.served))
}

fn inference_pool(name: &str, objects: &KubernetesObjects<'_>, target: &mut RouteBackends) {
    let Some(pool) = objects.pools.iter().find(|pool| pool.name == name) else {
        let variable = variable(name, "ADDRESS");
        let address = format!("${{{variable}:-{}.default.svc.cluster.local:8000}}", dns_label(name));
        target.endpoints.push(EndpointDraft { address, weight: None });
        target
            .remarks
            .push(format!("The InferencePool `{name}` was not given: set {variable} to its pods' Service."));
        return;
    };
    for server in objects.servers.iter().filter(|server| selects(&pool.selector, &server.labels)) {
        target.served.names.extend(server.served.iter().cloned());
        target.served.loras.extend(server.loras.iter().cloned());
    }
    let of_pool = |service: &&KubernetesService<'_>| {
        service.namespace == pool.namespace
            && service.external.is_none()
            && selects(&service.selector, &pool.selector)
    };
    if let Some(service) = objects.services.iter().find(of_pool) {
        let port = service.ports.first().copied().unwrap_or(pool.port);
        let address = format!("{}.{}.svc.cluster.local:{port}", service.name, service.namespace);
        target.endpoints.push(EndpointDraft { address, weight: None });
        return;
    }
    let selector: Vec<String> = pool.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let variable = variable(name, "ADDRESS");
    let address =
        format!("${{{variable}:-{}.{}.svc.cluster.local:{}}}", dns_label(name), pool.namespace, pool.port);
    target.endpoints.push(EndpointDraft { address, weight: None });
    target.remarks.push(format!(
        "The InferencePool `{name}` selects pods by {}, and no Service given does. Make a headless Service for them \
         (port {}) of this name, or set {variable}.",
        selector.join(", "),
        pool.port
    ));
    pool.node
        .broken("no Service stands for the pool's pods", "a placeholder for the name of a headless Service");
}

/// A reference to a Service.
struct ServiceRef<'a> {
    name: &'a str,
    namespace: &'a str,
    port: Option<u64>,
}

fn service(reference: &ServiceRef<'_>, objects: &KubernetesObjects<'_>, target: &mut RouteBackends) {
    let ServiceRef { name, namespace, port } = *reference;
    if let Some(addresses) = backend_addresses(name, &objects.backends) {
        target.endpoints.extend(addresses.into_iter().map(|address| EndpointDraft { address, weight: None }));
        let of_name = |service: &&KubernetesService<'_>| service.name == name;
        if let Some(service) = objects.services.iter().find(of_name) {
            served_by(service, objects, target);
        }
        return;
    }
    let found =
        objects.services.iter().find(|service| service.name == name && service.namespace == namespace);
    let port = port.or_else(|| found.and_then(|service| service.ports.first().copied())).unwrap_or(80);
    let external = found.and_then(|service| service.external.as_ref().map(|host| (service, host)));
    let address = if let Some((service, host)) = external {
        if let Some(node) = service.node.get("externalName") {
            node.mapped("pools.*.endpoints");
        }
        let rule = objects.tls_rules.iter().rev().find(|rule| rule.host == *host);
        target.is_tls |= rule.map_or(port == 443, |rule| rule.tls == HostTls::On);
        target.host.get_or_insert_with(|| host.clone());
        format!("${{{}:-{host}:{port}}}", variable(host, "ADDRESS"))
    } else {
        let address = format!("{name}.{namespace}.svc.cluster.local:{port}");
        let applies = |host: &str| host == name || address.starts_with(&format!("{host}:"));
        target.is_tls |= objects.tls_rules.iter().any(|rule| rule.tls == HostTls::On && applies(&rule.host));
        address
    };
    target.endpoints.push(EndpointDraft { address, weight: None });
    if let Some(service) = found {
        served_by(service, objects, target);
    }
}

fn served_by(service: &KubernetesService<'_>, objects: &KubernetesObjects<'_>, target: &mut RouteBackends) {
    if let Some(node) = service.node.get("selector") {
        node.mapped("pools.*.endpoints");
    }
    let of_service = |server: &&ModelServer| {
        server.namespace == service.namespace && selects(&service.selector, &server.labels)
    };
    for server in objects.servers.iter().filter(of_service) {
        target.served.names.extend(server.served.iter().cloned());
        target.served.loras.extend(server.loras.iter().cloned());
    }
}

/// Follows the names of an AI gateway's backends to their addresses.
fn backend_addresses(name: &str, backends: &[GatewayBackend]) -> Option<Vec<String>> {
    let found = backends.iter().find(|backend| backend.name == name && !backend.addresses.is_empty());
    let found = found.or_else(|| {
        let other = backends.iter().find(|backend| backend.name == name)?.refers_to.as_deref()?;
        backends.iter().find(|backend| backend.name == other && !backend.addresses.is_empty())
    })?;
    Some(found.addresses.clone())
}

/// Reads what a route changes of headers: a host, and a key that should not stand there.
fn filters(rule: &SourceNode<'_>, target: &mut RouteBackends, settings: &mut YamlMapping) {
    for filter in rule.list("filters") {
        if let Some(kind) = filter.get("type") {
            kind.mapped("pools");
        }
        let Some(modifier) = filter.get("requestHeaderModifier") else {
            filter.unsupported("of filters, only headers of requests are read");
            continue;
        };
        for header in modifier.list("set").into_iter().chain(modifier.list("add")) {
            let name =
                header.take("name", "pools.*.host and credential").unwrap_or_default().to_ascii_lowercase();
            let Some(value) = header.get("value") else { continue };
            match name.as_str() {
                "host" => {
                    let host = value.text().unwrap_or_default().to_owned();
                    value.mapped("pools.*.host");
                    settings.put("host", host.clone());
                    target.host = Some(host);
                }
                "authorization" | "x-api-key" | "api-key" => {
                    let variable = key_variable(value.text().unwrap_or_default(), target.host.as_deref());
                    value.broken(
                        "a key in plain text: whoever may read routes reads it",
                        &format!("not taken over: it is expected in the variable {variable}"),
                    );
                    settings.put("credential", secret(&name, None, &variable));
                }
                _ => header.unsupported("a pool adds no headers; a decision's `plugins.headers` does"),
            }
        }
        if let Some(remove) = modifier.get("remove") {
            remove.unsupported("a pool removes no headers; a decision's `plugins.headers` does");
        }
    }
}

/// Gives the variable that holds a key: the one that a template names, or one named after the host.
fn key_variable(value: &str, host: Option<&str>) -> String {
    let inner = ["{{", "((", "${"].iter().find_map(|open| value.split_once(open)).map(|(_, rest)| {
        rest.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    });
    let named = inner.filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    named.unwrap_or_else(|| {
        let labels: Vec<&str> = host.unwrap_or("upstream").split('.').collect();
        let name = if labels.len() > 1 { labels[labels.len() - 2] } else { labels[0] };
        variable(name, "API_KEY")
    })
}

fn timeouts(rule: &SourceNode<'_>, settings: &mut YamlMapping) {
    let Some(node) = rule.get("timeouts") else { return };
    let total = duration_at(&node, "request", "pools.*.timeouts.total");
    let own = duration_at(&node, "backendRequest", "pools.*.timeouts.first_byte");
    let Some(total) = total.or_else(|| own.clone()) else { return };
    let mut timeouts = YamlMapping::default();
    timeouts.put("first_byte", own.unwrap_or_else(|| total.clone())).put("total", total);
    settings.put("timeouts", timeouts);
}

/// Gives models without a route the Service of the pods that serve them, and adds models that only pods know.
fn unrouted(objects: &KubernetesObjects<'_>, draft: &mut PolicyDraft) {
    let knows_models = !draft.models.is_empty();
    for server in &objects.servers {
        let Some(first) = server.served.first() else { continue };
        let known = server.served.iter().find(|name| draft.models.contains_key(*name)).cloned();
        let name = match known {
            Some(known) => known,
            None if knows_models => continue,
            None => first.clone(),
        };
        if draft.models.get(&name).is_some_and(|model| !model.pools.is_empty()) {
            continue;
        }
        let Some(service) =
            objects.services.iter().find(|service| selects(&service.selector, &server.labels))
        else {
            continue;
        };
        let mut target = RouteBackends::default();
        let reference = ServiceRef { name: &service.name, namespace: &service.namespace, port: None };
        self::service(&reference, objects, &mut target);
        let pool = ascii(&service.name);
        let new = PoolDraft { endpoints: target.endpoints, ..PoolDraft::default() };
        draft.pools.entry(pool.clone()).or_insert(new);
        attach(&name, &pool, &target.served, draft);
        for lora in &server.loras {
            let loras = &mut draft.model(&name).loras;
            if !loras.contains(lora) {
                loras.push(lora.clone());
            }
        }
    }
}
