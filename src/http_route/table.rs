//! Owns the look-up of a request's rule: by port, host and match, the most specific first.

use super::cors::RouteCors;
use super::host::HostPattern;
use super::index::{RouteEntry, RouteIndex};
use super::matching::PathMatch;
use super::query::RouteQuery;
use super::rule::RouteRule;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rules of all ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    ports: BTreeMap<u16, Vec<ListenerRoutes>>,
}

/// The rules of the listeners of one host; of a port those of the most specific host come first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListenerRoutes {
    host: HostPattern,
    /// In the order of precedence.
    entries: Vec<RouteEntry>,
    index: RouteIndex,
    /// Whether any rule says which pages in browsers may ask.
    has_cors: bool,
}

/// A table as it is put together.
#[derive(Debug, Default)]
pub struct RouteTableBuilder {
    ports: BTreeMap<u16, Vec<(HostPattern, Vec<RouteEntry>)>>,
}

/// The rule of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundRoute<'a> {
    /// The rule.
    pub rule: &'a Arc<RouteRule>,
    /// The part of the path that was matched, where it was by its beginning.
    pub prefix: Option<&'a str>,
}

impl RouteTableBuilder {
    /// Puts a listener in place, without any rule yet; further ones of its port and host add to it.
    pub fn add_listener(&mut self, port: u16, host: HostPattern) {
        let listeners = self.ports.entry(port).or_default();
        if listeners.iter().all(|(known, _)| *known != host) {
            listeners.push((host, Vec::new()));
        }
    }

    /// Adds matches of rules to a listener. Of equal precedence those that were added first come first.
    pub fn add_entries(
        &mut self,
        port: u16,
        host: &HostPattern,
        entries: impl IntoIterator<Item = RouteEntry>,
    ) {
        let listeners = self.ports.get_mut(&port).into_iter().flatten();
        if let Some((_, known)) = listeners.into_iter().find(|(known, _)| known == host) {
            known.extend(entries);
        }
    }

    /// Puts everything in the order of precedence.
    pub fn build(self) -> RouteTable {
        let listener = |(host, mut entries): (HostPattern, Vec<RouteEntry>)| {
            entries.sort_by(|a, b| {
                a.host.by_precedence(&b.host).then_with(|| a.request.by_precedence(&b.request))
            });
            let has_cors = entries.iter().any(|entry| entry.rule.filters.cors.is_some());
            ListenerRoutes { host, index: RouteIndex::of(&entries), entries, has_cors }
        };
        let port = |(port, listeners): (u16, Vec<_>)| {
            let mut listeners: Vec<ListenerRoutes> = listeners.into_iter().map(listener).collect();
            listeners.sort_by(|a, b| a.host.by_precedence(&b.host));
            (port, listeners)
        };
        RouteTable { ports: self.ports.into_iter().map(port).collect() }
    }
}

impl RouteTable {
    /// Whether a port has a listener.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// Whether a connection that was made for a name belongs to another listener than the host that is asked for on it.
    pub fn is_misdirected(&self, port: u16, server_name: &str, host: &str) -> bool {
        let listeners = self.ports.get(&port).map(Vec::as_slice).unwrap_or_default();
        let of = |host: &str| listeners.iter().position(|listener| listener.host.matches(host));
        let asked = of(&bare_host(host));
        asked.is_some() && asked != of(&bare_host(server_name))
    }

    /// Finds the rule of a request. It has one listener alone: the most specific one of its host.
    pub fn find(&self, query: &RouteQuery<'_>) -> Option<FoundRoute<'_>> {
        let host = bare_host(query.host);
        let listeners = self.ports.get(&query.port)?;
        let listener = listeners.iter().find(|listener| listener.host.matches(&host))?;
        let entry = &listener.entries[listener.index.find(&listener.entries, query, &host)?];
        let prefix = match &entry.request.path {
            PathMatch::Prefix(prefix) => Some(prefix.as_str()),
            PathMatch::Exact(_) | PathMatch::Regex(_) => None,
        };
        Some(FoundRoute { rule: &entry.rule, prefix })
    }

    /// What the rule of a page's request says of who may ask; its model is not known, and any will do.
    pub fn cors(&self, query: &RouteQuery<'_>) -> Option<&Arc<RouteCors>> {
        let host = bare_host(query.host);
        let listener = self.ports.get(&query.port)?.iter().find(|listener| listener.host.matches(&host))?;
        let mut entries = listener.entries.iter().filter(|_| listener.has_cors);
        let found =
            entries.find(|entry| entry.host.matches(&host) && entry.request.matches_any_model(query))?;
        found.rule.filters.cors.as_ref()
    }

    /// The matches that requests of inference APIs may have, listener by listener.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&HostPattern, &[RouteEntry])> {
        self.ports.values().flatten().map(|listener| (&listener.host, &*listener.entries))
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
