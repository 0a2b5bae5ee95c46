//! Owns which rules the requests of inference APIs can come to at all, model by model. Refuses to know single requests.

use super::host::HostPattern;
use super::index::RouteEntry;
use super::matching::{PathMatch, RouteMatch};
use super::query::{ModelHeaders, RouteQuery, is_model_header};
use super::rule::RouteRule;
use super::table::RouteTable;
use crate::openai::Api;
use http::{HeaderMap, Method};
use std::collections::HashSet;
use std::sync::Arc;

/// The matches that requests of inference APIs can have.
#[derive(Debug)]
pub struct ApiRoutes<'a> {
    /// Listener by listener, each in the order of precedence.
    listeners: Vec<Vec<ApiEntry<'a>>>,
}

#[derive(Debug)]
struct ApiEntry<'a> {
    entry: &'a RouteEntry,
    /// Which of the paths of APIs it matches, a bit each.
    paths: u128,
    /// Whether it holds for every host of its listener.
    covers_host: bool,
}

/// Every path of an API, as it is and with a slash at its end: fewer than the bits of a number, which a test sees to.
fn api_paths() -> Vec<String> {
    Api::paths().flat_map(|path| [path.to_owned(), format!("{path}/")]).collect()
}

impl<'a> ApiRoutes<'a> {
    /// Finds the matches in a table.
    pub fn of(table: &'a RouteTable) -> Self {
        let paths = api_paths();
        let matched = |path: &PathMatch| {
            let bits = paths.iter().enumerate().filter(|(_, one)| path.matches(one)).map(|(bit, _)| 1 << bit);
            bits.fold(0_u128, std::ops::BitOr::bitor)
        };
        let listener = |(host, entries): (&HostPattern, &'a [RouteEntry])| {
            let covers = |entry: &RouteEntry| entry.host == *host || entry.host == HostPattern::Any;
            let entries = entries.iter().map(|entry| ApiEntry {
                entry,
                paths: matched(&entry.request.path),
                covers_host: covers(entry),
            });
            entries.filter(|entry| entry.paths != 0).collect()
        };
        Self { listeners: table.listeners().map(listener).collect() }
    }

    /// The rules that a model's requests may come to, each once: not those behind another that takes all of them.
    pub fn rules_for(&self, model: ModelHeaders<'_>) -> Vec<&'a Arc<RouteRule>> {
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
        let (mut found, mut known) = (Vec::new(), HashSet::new());
        for entries in &self.listeners {
            let mut open = u128::MAX;
            for one in entries.iter().filter(|one| is_for(&one.entry.request, &query)) {
                if one.paths & open == 0 {
                    continue;
                }
                if known.insert(Arc::as_ptr(&one.entry.rule)) {
                    found.push(&one.entry.rule);
                }
                if one.covers_host && takes_all(&one.entry.request) {
                    open &= !one.paths;
                }
            }
        }
        found
    }
}

/// Whether a match is one for the model that a query is of, whatever else it wants.
fn is_for(request: &RouteMatch, query: &RouteQuery<'_>) -> bool {
    let of_model = request.headers.iter().filter(|(name, _)| is_model_header(name));
    let is_posted = request.method.as_ref().is_none_or(|method| *method == Method::POST);
    is_posted && RouteMatch { headers: of_model.cloned().collect(), ..RouteMatch::any() }.matches(query)
}

/// Whether a match that is for a model wants nothing else.
fn takes_all(request: &RouteMatch) -> bool {
    request.query.is_empty() && request.headers.iter().all(|(name, _)| is_model_header(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_route::{RouteTableBuilder, ValueMatch};
    use http::HeaderName;

    fn entry(name: &str, path: PathMatch, headers: &[(&'static str, &str)]) -> RouteEntry {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), ValueMatch::Exact((*value).to_owned())));
        let request = RouteMatch { path, headers: headers.collect(), ..RouteMatch::any() };
        let rule = RouteRule { source: name.into(), ..RouteRule::default() };
        RouteEntry { host: HostPattern::Any, request, rule: Arc::new(rule) }
    }

    fn rules(entries: Vec<RouteEntry>, model: &str) -> Vec<String> {
        let mut table = RouteTableBuilder::default();
        table.add_listener(80, HostPattern::Any);
        table.add_entries(80, &HostPattern::Any, entries);
        let table = table.build();
        let found = ApiRoutes::of(&table).rules_for(ModelHeaders { selected: model, asked: model });
        found.iter().map(|rule| rule.source.to_string()).collect()
    }

    #[test]
    fn every_path_has_a_bit() {
        assert!(api_paths().len() <= 128);
    }

    #[test]
    fn a_model_comes_to_what_no_other_rule_has_taken_before() {
        let entries = || {
            vec![
                entry("phi", PathMatch::prefix("/"), &[("x-selected-model", "phi")]),
                entry("some", PathMatch::prefix("/"), &[("x-tier", "gold")]),
                entry("web", PathMatch::prefix("/web"), &[]),
                entry("rest", PathMatch::prefix("/"), &[]),
            ]
        };
        // Among as many headers the older one comes first.
        assert_eq!(rules(entries(), "phi"), ["phi"]);
        assert_eq!(rules(entries(), "llama"), ["some", "rest"]);
        let chat = entry("chat", PathMatch::Exact("/v1/chat/completions".to_owned()), &[]);
        assert_eq!(rules([entries(), vec![chat]].concat(), "phi"), ["chat", "phi"]);
        let all = entry("all", PathMatch::prefix("/v1"), &[]);
        assert_eq!(
            rules([entries(), vec![all]].concat(), "llama"),
            ["all", "some", "rest"],
            "/tokenize is there too"
        );
    }
}
