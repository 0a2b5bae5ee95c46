//! Owns how the match of a request is found among many: by its host, its path and its model first, so that what is tried
//! one by one is little. Refuses to know what becomes of the request.

use super::host::HostPattern;
use super::matching::{PathMatch, RouteMatch, ValueMatch};
use super::query::{RouteQuery, is_model_header};
use super::rule::RouteRule;
use std::collections::HashMap;
use std::sync::Arc;

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

/// The places of entries that are in the order of precedence, by what a request must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RouteIndex {
    exact: HashMap<String, PathIndex>,
    /// By the host that theirs are below.
    below: HashMap<String, PathIndex>,
    any: PathIndex,
}

/// Those of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PathIndex {
    exact: HashMap<String, ModelIndex>,
    regexes: ModelIndex,
    prefixes: HashMap<String, ModelIndex>,
}

/// Those of one path, each list in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ModelIndex {
    /// Those for one model alone, by its name.
    by_model: HashMap<String, Vec<usize>>,
    others: Vec<usize>,
}

impl RouteIndex {
    pub(super) fn of(entries: &[RouteEntry]) -> Self {
        let mut index = Self::default();
        for (place, entry) in entries.iter().enumerate() {
            let paths = match &entry.host {
                HostPattern::Exact(host) => index.exact.entry(host.clone()).or_default(),
                HostPattern::Below(parent) => index.below.entry(parent.clone()).or_default(),
                HostPattern::Any => &mut index.any,
            };
            paths.add(place, &entry.request);
        }
        index
    }

    /// The place of the first entry that a request matches; `host` is its own, in lower case and without its port.
    pub(super) fn find(&self, entries: &[RouteEntry], query: &RouteQuery<'_>, host: &str) -> Option<usize> {
        // As precedence has it: the host itself, what it lies below with the nearest first, and every host.
        let parents = host.match_indices('.').filter(|(at, _)| *at > 0);
        let below = parents.filter_map(|(at, _)| self.below.get(&host[at + 1..]));
        let mut hosts = self.exact.get(host).into_iter().chain(below).chain([&self.any]);
        hosts.find_map(|paths| paths.find(entries, query))
    }
}

impl PathIndex {
    fn add(&mut self, place: usize, request: &RouteMatch) {
        let models = match &request.path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathMatch::Regex(_) => &mut self.regexes,
            PathMatch::Prefix(prefix) => self.prefixes.entry(prefix.clone()).or_default(),
        };
        models.add(place, request);
    }

    fn find(&self, entries: &[RouteEntry], query: &RouteQuery<'_>) -> Option<usize> {
        let path = query.path;
        // The whole path, then what is before each of its slashes, the longest first; the root's prefix is empty.
        let cuts = path.rmatch_indices('/').map(|(at, _)| at);
        let prefixes =
            std::iter::once(path.len()).chain(cuts).filter_map(|at| self.prefixes.get(&path[..at]));
        let mut models = self.exact.get(path).into_iter().chain([&self.regexes]).chain(prefixes);
        models.find_map(|models| models.find(entries, query))
    }
}

impl ModelIndex {
    fn add(&mut self, place: usize, request: &RouteMatch) {
        let model = request.headers.iter().find_map(|(name, value)| match value {
            ValueMatch::Exact(value) if is_model_header(name) => Some(value),
            _ => None,
        });
        match model {
            Some(model) => self.by_model.entry(model.clone()).or_default().push(place),
            None => self.others.push(place),
        }
    }

    fn find(&self, entries: &[RouteEntry], query: &RouteQuery<'_>) -> Option<usize> {
        let names = query.model.iter().flat_map(|model| [model.selected, model.asked]);
        let lists = names.filter_map(|name| self.by_model.get(name)).chain([&self.others]);
        let first =
            |list: &Vec<usize>| list.iter().copied().find(|place| entries[*place].request.matches(query));
        lists.filter_map(first).min()
    }
}
