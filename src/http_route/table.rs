//! Owns the look-up of a request's rule: by port, host and match, the most specific first.

use super::host::HostPattern;
use super::matching::{PathMatch, RouteMatch};
use super::query::{ModelHeaders, RouteQuery, is_model_header};
use super::rule::RouteRule;
use http::{HeaderMap, Method};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    pub fn add_entries(
        &mut self,
        port: u16,
        host: &HostPattern,
        entries: impl IntoIterator<Item = RouteEntry>,
    ) {
        let listeners = self.ports.get_mut(&port).map(|port| &mut port.listeners);
        let Some(listener) = listeners.into_iter().flatten().find(|listener| listener.host == *host) else {
            return;
        };
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

    /// The rules that a model's requests may match, whatever else they have beside the path of an API, each once.
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
            only.matches(&query) && entry.request.path.may_be_of_api()
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

/// A host in lower case without its port.
fn bare_host(host: &str) -> String {
    let is_port = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.ends_with(':') => name,
        _ => host,
    };
    bare.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
