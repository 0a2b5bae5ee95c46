//! Owns the upstreams of the canonical dialect: models with references to what serves them become pools. Refuses to
//! know decisions.

use super::draft::{EndpointDraft, PolicyDraft, PoolDraft, ascii, dns_label, pool_name, variable};
use super::globals;
use super::source_node::SourceNode;
use super::yaml_writer::{YamlMapping, YamlValue};

/// Reads the models of `providers`.
pub(super) fn read(providers: Option<&SourceNode<'_>>, draft: &mut PolicyDraft) {
    for model in providers.map(|own| own.list("models")).unwrap_or_default() {
        let Some(name) = model.take("name", "models") else { continue };
        draft.model(&name);
        globals::family(&model, &name, draft);
        globals::price(&model, &name, draft);
        globals::loras(&model, &name, draft);
        let upstream = model.take("provider_model_id", &format!("models.{name}.upstream_model"));
        draft.model(&name).upstream = upstream.filter(|upstream| !upstream.is_empty());
        if let Some(format) = model.get("api_format") {
            match format.text() {
                Some("openai") => format.mapped("pools"),
                _ => format.unsupported("every upstream is spoken to in OpenAI's format"),
            }
        }
        if let Some(key) = model.get("access_key") {
            key.broken("a key in plain text", "not taken over; name its variable in the pool's `credential`");
        }
        let shared = reliability(&model, draft);
        backends(&model, &name, &shared, draft);
    }
}

/// Reads how a model's upstreams are balanced, checked and left out.
fn reliability(model: &SourceNode<'_>, draft: &mut PolicyDraft) -> YamlMapping {
    let mut pool = YamlMapping::default();
    let Some(node) = model.get("reliability") else { return pool };
    if let Some(policy) = node.take("lb_policy", "pools.*.balance.strategy") {
        let known = ["least_request", "round_robin"].contains(&policy.as_str());
        pool.maybe("balance", known.then(|| YamlValue::of("strategy", policy)));
    }
    let mut health = YamlMapping::default();
    let path = node.take("health_check_path", "pools.*.health.path").filter(|path| path.starts_with('/'));
    health.maybe("path", path);
    for (key, own) in [("health_check_interval", "interval"), ("health_check_timeout", "timeout")] {
        health.maybe(own, duration_at(&node, key, &format!("pools.*.health.{own}")));
    }
    pool.filled("health", health);
    let mut ejection = YamlMapping::default();
    let failures = node.whole("consecutive_5xx", "pools.*.ejection.consecutive_failures");
    ejection.maybe("consecutive_failures", failures.map(|failures| failures.min(10_000)));
    ejection.maybe("base", duration_at(&node, "base_ejection_time", "pools.*.ejection.base"));
    let share = node.number("max_ejection_percent", "pools.*.ejection.max_share");
    ejection.maybe("max_share", share.map(|percent| (percent / 100.0).clamp(0.0, 1.0)));
    pool.filled("ejection", ejection);
    if let Some(retries) = node.whole("retry_count", "retry.attempts: the greatest of all models, and one") {
        draft.attempts = draft.attempts.max(retries.saturating_add(1));
    }
    if let Some(on) = node.get("retry_on") {
        on.ignored("tried again is what failed before the first byte of an answer");
    }
    pool
}

/// Reads a duration such as `300s` or `1m30s` at a key.
pub(super) fn duration_at(node: &SourceNode<'_>, key: &str, to: &str) -> Option<YamlValue> {
    let text = node.take(key, to)?;
    let millis = humantime::parse_duration(text.trim()).ok()?.as_millis();
    let millis = u64::try_from(millis).ok().filter(|millis| *millis > 0 && *millis < 86_400_000)?;
    Some(YamlValue::Plain(duration(millis)))
}

/// Writes milliseconds as a policy does.
pub(super) fn duration(millis: u64) -> String {
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// One upstream of a model.
struct BackendRef {
    name: String,
    endpoint: EndpointDraft,
    settings: YamlMapping,
}

fn backends(model: &SourceNode<'_>, name: &str, shared: &YamlMapping, draft: &mut PolicyDraft) {
    let key = if model.has("backend_refs") { "backend_refs" } else { "endpoints" };
    let mut backends: Vec<BackendRef> =
        model.list(key).iter().enumerate().filter_map(|(index, item)| backend(item, name, index)).collect();
    // Upstreams of one kind share a pool by weight; those of another kind are tried after them.
    backends.sort_by_key(|backend| std::cmp::Reverse(backend.endpoint.weight.unwrap_or(1)));
    let mut pools: Vec<(String, PoolDraft)> = Vec::new();
    for backend in backends {
        if let Some((_, pool)) = pools.iter_mut().find(|(_, pool)| pool.settings == backend.settings) {
            if pool.endpoints.iter().all(|known| known.address != backend.endpoint.address) {
                pool.endpoints.push(backend.endpoint);
            }
            continue;
        }
        let plain = pool_name(name);
        let candidates = if pools.is_empty() {
            [plain, ascii(name)]
        } else {
            [format!("{plain}-{}", backend.name), format!("{}-{}", ascii(name), backend.name)]
        };
        let is_free = |wanted: &String| {
            !draft.pools.contains_key(wanted) && pools.iter().all(|(name, _)| name != wanted)
        };
        let Some(own) = candidates.into_iter().find(is_free) else { continue };
        let pool =
            PoolDraft { endpoints: vec![backend.endpoint], settings: backend.settings, remarks: Vec::new() };
        pools.push((own, pool));
    }
    if pools.len() > 1
        && let Some((_, second)) = pools.get_mut(1)
    {
        second
            .remarks
            .push(format!("In the original a share of `{name}`; here it is tried when the first fails."));
    }
    for (own, mut pool) in pools {
        if pool.endpoints.len() == 1 {
            pool.endpoints[0].weight = None;
        }
        pool.settings.merge(shared.clone());
        draft.model(name).pools.push(own.clone());
        draft.pools.insert(own, pool);
    }
}

fn backend(item: &SourceNode<'_>, model: &str, index: usize) -> Option<BackendRef> {
    let name = item.take("name", "pools").map_or_else(|| index.to_string(), |name| ascii(&name));
    let target = target(item, model)?;
    let mut settings = YamlMapping::default();
    if target.is_tls {
        settings.put("tls", YamlMapping::default());
    }
    let is_azure = item.get("provider").is_some_and(|node| node.text() == Some("azure-openai"));
    let has_base = matches!(target.path, UrlPath::Base(_));
    match target.path {
        UrlPath::None if is_azure => {
            settings.put("base_path", "/openai/deployments/{model}");
        }
        UrlPath::None => {}
        UrlPath::Prefix(prefix) => {
            settings.put("path_prefix", prefix);
        }
        UrlPath::Base(base) => {
            settings.put("base_path", base);
        }
    }
    settings.maybe("api_version", item.take("api_version", "pools.*.api_version"));
    let variable_prefix = format!("{model}_{name}");
    credential(item, &variable_prefix, &mut settings);
    for key in ["extra_headers", "chat_path"] {
        if let Some(node) = item.get(key) {
            if key == "chat_path" && node.text() == Some("/chat/completions") {
                node.mapped("pools.*.path_prefix");
            } else {
                node.unsupported("a pool changes neither single paths nor further headers");
            }
        }
    }
    if let Some(provider) = item.get("provider") {
        match provider.text() {
            Some("azure-openai") => provider.mapped("pools.*.base_path"),
            Some("gemini") if has_base => provider.mapped("pools.*.base_path"),
            Some("anthropic" | "bedrock" | "gemini" | "vertex-ai") => {
                provider.unsupported("every upstream is spoken to in OpenAI's format");
            }
            _ => provider.mapped("pools"),
        }
    }
    if let Some(kind) = item.get("type") {
        kind.ignored("a pool serves whatever is asked of it");
    }
    let weight = item.whole("weight", "pools.*.endpoints[].weight").map(|weight| weight.min(1000));
    Some(BackendRef { name, endpoint: EndpointDraft { address: target.address, weight }, settings })
}

/// Where an upstream is.
struct UpstreamUrl {
    address: String,
    is_tls: bool,
    path: UrlPath,
}

/// What a URL's path says of the paths of requests.
enum UrlPath {
    /// They are what they are.
    None,
    /// This stands before their `/v1`.
    Prefix(String),
    /// This stands in place of their `/v1`.
    Base(String),
}

impl UrlPath {
    /// Reads the path of a URL to which clients add what follows `/v1`; `is_base` where the URL ends where they begin.
    fn of(path: &str, is_base: bool) -> Self {
        let path = path.trim_end_matches('/');
        let (before, last) = path.rsplit_once('/').unwrap_or(("", path));
        match (last, before) {
            ("", _) | ("v1", "") => Self::None,
            ("v1", before) => Self::Prefix(format!("/{before}")),
            _ if is_base => Self::Base(format!("/{path}")),
            _ => Self::Prefix(format!("/{path}")),
        }
    }
}

fn target(item: &SourceNode<'_>, model: &str) -> Option<UpstreamUrl> {
    let key = if item.has("base_url") { "base_url" } else { "endpoint" };
    let text = item.take(key, "pools.*.endpoints")?;
    let protocol = item.take("protocol", "pools.*.tls");
    let (scheme, rest) = text.split_once("://").unwrap_or((protocol.as_deref().unwrap_or("http"), &text));
    let is_tls = scheme == "https";
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let port = if is_tls { 443 } else { 80 };
    let mut address = with_defaults(host);
    if super::super::pool::parse_address(&address).is_err() && !address.contains("${") {
        address = format!("{address}:{port}");
    }
    if super::super::pool::parse_address(&address).is_err() && !address.contains("${")
        || text.trim_start().starts_with("${")
    {
        if let Some(node) = item.get(key) {
            node.unsupported("no address could be read here; set the variable that stands in the pool");
        }
        address = format!("${{{}:-{}.invalid:{port}}}", variable(model, "ADDRESS"), dns_label(model));
    }
    Some(UpstreamUrl { address, is_tls, path: UrlPath::of(path, key == "base_url") })
}

/// Gives every variable a default, so that the policy can be read where it is not set.
fn with_defaults(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let Some(end) = rest[at..].find('}') else { break };
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..at + end];
        let default = if out.ends_with(':') { "80" } else { "localhost" };
        let said = inner.split_once(":-").or_else(|| inner.split_once('-'));
        let (name, default) = said.unwrap_or((inner, default));
        for part in ["${", name, ":-", default, "}"] {
            out.push_str(part);
        }
        rest = &rest[at + end + 1..];
    }
    out + rest
}

/// Reads a credential; a key without a variable of its own is expected in one that starts with `variable_prefix`.
fn credential(item: &SourceNode<'_>, variable_prefix: &str, settings: &mut YamlMapping) {
    let own = item.take("api_key_env", "pools.*.credential.value.env");
    if let Some(key) = item.get("api_key") {
        let variable = variable(variable_prefix, "API_KEY");
        key.broken("a key in plain text", &format!("not taken over: it is expected in {variable}"));
    }
    if own.is_none() && !item.has("api_key") && !item.has("auth_header") {
        return;
    }
    let own = own.unwrap_or_else(|| variable(variable_prefix, "API_KEY"));
    let to = "pools.*.credential";
    let header = item.take("auth_header", to).unwrap_or_else(|| "authorization".to_owned());
    let prefix = item.take("auth_prefix", to);
    settings.put("credential", secret(&header, prefix.as_deref(), &own));
}

/// Makes a credential whose secret a variable holds.
pub(super) fn secret(header: &str, prefix: Option<&str>, variable: &str) -> YamlMapping {
    let mut credential = YamlMapping::default();
    let header = header.to_ascii_lowercase();
    let is_known = http::HeaderName::from_bytes(header.as_bytes()).is_ok();
    credential.put("header", if is_known { header } else { "authorization".to_owned() });
    if let Some(prefix) = prefix.map(str::trim).filter(|prefix| !prefix.is_empty() && *prefix != "Bearer") {
        credential.put("prefix", format!("{prefix} "));
    }
    credential.put("value", YamlValue::of("env", variable)).put("optional", true);
    credential
}
