//! Owns the look-up of a request's rule: by port, host and match, the most specific first.

use super::host::HostPattern;
use super::matching::{PathMatch, RouteMatch};
use super::rule::RouteRule;
use http::{HeaderMap, HeaderName, Method};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The headers that name the model which was decided on: only the plan sets them, whatever a client sends.
///
/// vLLM Semantic Router's, the inference extension's body-based routing's, and Envoy AI Gateway's.
const MODEL_HEADERS: [&str; 4] =
    ["x-selected-model", "x-gateway-model-name", "x-gateway-base-model-name", "x-ai-eg-model"];

/// The rules of all ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    ports: BTreeMap<u16, PortRoutes>,
}

/// The rules of one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortRoutes {
    /// The most specific first.
    listeners: Vec<ListenerRoutes>,
}

/// The rules of the listeners of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListenerRoutes {
    host: HostPattern,
    /// In the order of precedence.
    entries: Vec<RouteEntry>,
}

/// One match of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    /// The hosts that it holds for, within the listener's.
    pub host: HostPattern,
    /// What a request must have.
    pub request: RouteMatch,
    /// What becomes of it.
    pub rule: Arc<RouteRule>,
}

/// A request, as far as its rule goes by it.
#[derive(Clone, Copy)]
pub struct RouteQuery<'a> {
    /// The port that its client knows.
    pub port: u16,
    /// Its host, with or without the port.
    pub host: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its path, as it was sent.
    pub path: &'a str,
    /// Its query, as it was sent.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// What the plan says of its model; nothing where it has none.
    pub model: Option<ModelHeaders<'a>>,
}

/// What the headers say that name a model.
#[derive(Debug, Clone, Copy)]
pub struct ModelHeaders<'a> {
    /// The model that was decided on.
    pub selected: &'a str,
    /// What its upstream is asked for: the adapter, where one is.
    pub asked: &'a str,
}

/// The rule of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundRoute<'a> {
    /// The rule.
    pub rule: &'a Arc<RouteRule>,
    /// The part of the path that was matched, where it was by its beginning.
    pub prefix: Option<&'a str>,
}

impl RouteTable {
    /// Puts a listener in place, without any rule yet; further ones of its port and host add to it.
    pub fn add_listener(&mut self, port: u16, host: HostPattern) {
        let listeners = &mut self.ports.entry(port).or_default().listeners;
        if listeners.iter().any(|known| known.host == host) {
            return;
        }
        listeners.push(ListenerRoutes { host, entries: Vec::new() });
        listeners.sort_by(|a, b| a.host.by_precedence(&b.host));
    }

    /// Adds matches of rules to a listener. Of equal precedence those that were added first come first.
    pub fn add_entries(&mut self, port: u16, host: &HostPattern, entries: impl IntoIterator<Item = RouteEntry>) {
        let listeners = self.ports.get_mut(&port).map(|port| &mut port.listeners);
        let Some(listener) = listeners.into_iter().flatten().find(|listener| listener.host == *host) else { return };
        listener.entries.extend(entries);
        listener
            .entries
            .sort_by(|a, b| a.host.by_precedence(&b.host).then_with(|| a.request.by_precedence(&b.request)));
    }

    /// Whether a port has a listener.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// Finds the rule of a request. It has one listener alone: the most specific one of its host.
    pub fn find(&self, query: &RouteQuery<'_>) -> Option<FoundRoute<'_>> {
        let host = bare_host(query.host);
        let port = self.ports.get(&query.port)?;
        let listener = port.listeners.iter().find(|listener| listener.host.matches(&host))?;
        let is_it = |entry: &&RouteEntry| entry.host.matches(&host) && entry.request.matches(query);
        let entry = listener.entries.iter().find(is_it)?;
        let prefix = match &entry.request.path {
            PathMatch::Prefix(prefix) => Some(prefix.as_str()),
            PathMatch::Exact(_) | PathMatch::Regex(_) => None,
        };
        Some(FoundRoute { rule: &entry.rule, prefix })
    }

    /// The rules that a model's requests may match, whatever else they have, each once.
    pub fn rules_for(&self, model: ModelHeaders<'_>) -> Vec<&Arc<RouteRule>> {
        let headers = HeaderMap::new();
        let query = RouteQuery {
            port: 0,
            host: "",
            method: &Method::POST,
            path: "/",
            query: None,
            headers: &headers,
            model: Some(model),
        };
        let is_for_it = |entry: &&RouteEntry| {
            let of_model = entry.request.headers.iter().filter(|(name, _)| is_model_header(name));
            let only = RouteMatch { headers: of_model.cloned().collect(), ..RouteMatch::any() };
            only.matches(&query)
        };
        let mut found: Vec<&Arc<RouteRule>> = Vec::new();
        for entry in self.entries().filter(is_for_it) {
            if !found.iter().any(|known| Arc::ptr_eq(known, &entry.rule)) {
                found.push(&entry.rule);
            }
        }
        found
    }

    /// Every match of every rule.
    fn entries(&self) -> impl Iterator<Item = &RouteEntry> {
        self.ports.values().flat_map(|port| &port.listeners).flat_map(|listener| &listener.entries)
    }
}

fn is_model_header(name: &HeaderName) -> bool {
    MODEL_HEADERS.contains(&name.as_str())
}

/// A host in lower case without its port.
fn bare_host(host: &str) -> String {
    let is_port = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.ends_with(':') => name,
        _ => host,
    };
    bare.trim_end_matches('.').to_ascii_lowercase()
}

impl RouteQuery<'_> {
    /// The value of a header, several joined as one; of those that name a model, what the plan says.
    pub(super) fn header(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        if is_model_header(name) {
            let model = self.model?;
            return Some(Cow::Borrowed(if name == "x-gateway-model-name" { model.asked } else { model.selected }));
        }
        let mut values = self.headers.get_all(name).iter().map(http::HeaderValue::to_str);
        let first = values.next()?.ok()?;
        let others: Vec<&str> = values.collect::<Result<_, _>>().ok()?;
        if others.is_empty() {
            return Some(Cow::Borrowed(first));
        }
        Some(Cow::Owned(std::iter::once(first).chain(others).collect::<Vec<_>>().join(",")))
    }

    /// The first value of a parameter of the query, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut decoded = pairs.map(|(key, value)| (decode(key), value));
        decoded.find(|(key, _)| key == name).map(|(_, value)| decode(value))
    }
}

/// Undoes percent-encoding, and `+` for a space; what is not encoded rightly stays as it is.
fn decode(text: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        let escaped = if *byte == b'%' { hex(bytes.get(at)).zip(hex(bytes.get(at + 1))) } else { None };
        match escaped {
            Some((high, low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 2;
            }
            None if *byte == b'+' => decoded.push(b' '),
            None => decoded.push(*byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests;
