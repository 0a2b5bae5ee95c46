//! Owns what identities, the answer cache, prices and reasoning families mean together. Refuses to know requests.

use std::collections::HashMap;

use super::check_plugins::header_name;
use super::check_secret::secret;
use super::checker::Checker;
use super::identity::digest;
use super::issue::Path;
use super::raw_identity::{
    RawCache, RawIdentity, RawKey, RawPrice, RawReasoningFamilies, RawReasoningKind, RawRedis, RawStore,
};
use super::{CacheSpec, CacheStore, Identity, Price, Principal, ReasoningFamily, ReasoningKind, Secret};

/// The families that are known without a word.
const FAMILIES: [(&str, ReasoningKind, &str); 4] = [
    ("qwen3", ReasoningKind::ChatTemplateKwargs, "enable_thinking"),
    ("deepseek", ReasoningKind::ChatTemplateKwargs, "thinking"),
    ("gpt-oss", ReasoningKind::ReasoningEffort, "reasoning_effort"),
    ("gpt", ReasoningKind::ReasoningEffort, "reasoning_effort"),
];

/// Turns the raw identity into the final one.
pub(super) fn identity(raw: &RawIdentity, path: &Path, checker: &mut Checker<'_>) -> Identity {
    let mut keys = HashMap::with_capacity(raw.keys.len());
    for (index, raw) in raw.keys.iter().enumerate() {
        let path = path.key("keys").index(index);
        let Some((key, owner)) = key(raw, &path, checker) else { continue };
        if keys.insert(digest(&key), owner).is_some() {
            checker.issue(&path.key("value"), "another key has the same value");
        }
    }
    let mut trusted_peers = Vec::with_capacity(raw.trusted_peers.len());
    for (index, text) in raw.trusted_peers.iter().enumerate() {
        let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
        if let Ok(network) = network {
            trusted_peers.push(network);
        } else {
            let message = format!("`{text}` is neither a network such as `10.0.0.0/8` nor an address");
            checker.issue(&path.key("trusted_peers").index(index), message);
        }
    }
    if raw.required && raw.keys.is_empty() && raw.trusted_peers.is_empty() {
        checker.issue(
            &path.key("required"),
            "without `keys` and `trusted_peers` every request would be refused",
        );
    }
    let path = path.key("headers");
    let mut header = |key: &str, name: &str| header_name(name, &path.key(key), checker);
    Identity {
        required: raw.required,
        keys,
        trusted_peers,
        debug_groups: raw.debug_groups.clone(),
        user_header: header("user", &raw.headers.user),
        groups_header: header("groups", &raw.headers.groups),
        tenant_header: header("tenant", &raw.headers.tenant),
    }
}

fn key(raw: &RawKey, path: &Path, checker: &mut Checker<'_>) -> Option<(String, Principal)> {
    let (at, value) = secret(&raw.value, &path.key("value"), checker);
    let owner = Principal { user: raw.user.clone(), groups: raw.groups.clone(), tenant: raw.tenant.clone() };
    match value {
        Ok(value) => Some((value, owner)),
        Err(fault) => {
            checker.issue(&at, fault.to_string());
            None
        }
    }
}

/// Turns the raw cache into the final one.
pub(super) fn cache(raw: &RawCache, path: &Path, checker: &mut Checker<'_>) -> CacheSpec {
    let is_redis = raw.store == RawStore::Redis;
    if is_redis && raw.persist.is_some() {
        checker.issue(&path.key("persist"), "only with `store: memory`; a Redis server keeps answers itself");
    }
    if !is_redis && raw.redis.is_some() {
        checker.issue(&path.key("redis"), "only with `store: redis`");
    }
    let store = match &raw.redis {
        Some(raw) if is_redis => redis(raw, &path.key("redis"), checker),
        None if is_redis => {
            checker.issue(path, "the key `redis` is missing");
            CacheStore::Memory { persist: None }
        }
        _ => CacheStore::Memory { persist: raw.persist.as_ref().map(|file| checker.resolve(file)) },
    };
    if raw.max_answer_bytes > raw.max_bytes {
        checker.issue(&path.key("max_answer_bytes"), "must not be more than `max_bytes`");
    }
    CacheSpec {
        store,
        max_entries: raw.max_entries,
        max_bytes: raw.max_bytes,
        max_answer_bytes: raw.max_answer_bytes,
    }
}

fn redis(raw: &RawRedis, path: &Path, checker: &mut Checker<'_>) -> CacheStore {
    let rest = raw.address.strip_prefix("redis://");
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains('@')) {
        let message = "must be `redis://host:port/database`, without a user and a password";
        checker.issue(&path.key("address"), message);
    }
    let password = raw.password.as_ref().and_then(|raw| {
        let (at, value) = secret(raw, &path.key("password"), checker);
        value.map_err(|fault| checker.issue(&at, fault.to_string())).ok()
    });
    CacheStore::Redis {
        address: raw.address.clone(),
        password: password.map(Secret::new),
        prefix: raw.prefix.clone(),
        timeout: checker.positive(&path.key("timeout"), raw.timeout),
    }
}

/// Turns a raw price into the final one.
pub(super) fn price(raw: &RawPrice) -> Price {
    let micros = |price: f64| (price * 1e6).round() as u64;
    Price {
        currency: raw.currency.clone(),
        prompt_micros: micros(raw.prompt),
        completion_micros: micros(raw.completion),
        cached_micros: micros(raw.cached.unwrap_or(raw.prompt)),
    }
}

/// Finds a family of models by its name: the operator's own, or a known one.
pub(super) fn family(
    name: &str,
    own: &RawReasoningFamilies,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<ReasoningFamily> {
    if let Some(raw) = own.get(name) {
        let (kind, parameter) = match raw.kind {
            RawReasoningKind::ChatTemplateKwargs => (ReasoningKind::ChatTemplateKwargs, "enable_thinking"),
            RawReasoningKind::ReasoningEffort => (ReasoningKind::ReasoningEffort, "reasoning_effort"),
            RawReasoningKind::Thinking => (ReasoningKind::Thinking, "thinking"),
        };
        let parameter = raw.parameter.clone().unwrap_or_else(|| parameter.to_owned());
        return Some(ReasoningFamily { name: name.to_owned(), kind, parameter });
    }
    let known = FAMILIES.iter().find(|(known, _, _)| *known == name);
    if known.is_none() {
        let names = own.keys().map(String::as_str).chain(FAMILIES.iter().map(|(name, _, _)| *name));
        checker.unknown(path, "reasoning family", name, names);
    }
    let (_, kind, parameter) = known?;
    Some(ReasoningFamily { name: name.to_owned(), kind: *kind, parameter: (*parameter).to_owned() })
}
