//! Owns what becomes of a request that a rule matches. Refuses to know which do.

use super::BackendId;
use super::cors::RouteCors;
use crate::policy::HeaderChanges;
use std::sync::Arc;
use std::time::Duration;

/// What becomes of the requests that a rule matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteRule {
    /// The rule's name in the log, such as `default/llama#0`.
    pub source: Arc<str>,
    /// Where they go, by weight; a rule without any answers itself, or with 500.
    pub backends: Vec<RouteBackend>,
    /// What is changed on the way.
    pub filters: RouteFilters,
    /// How long that may take.
    pub timeouts: RouteTimeouts,
    /// When they are tried again; as the policy has it when absent.
    pub retry: Option<RouteRetry>,
}

/// One of a rule's backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteBackend {
    /// Where its requests go; its share is answered with 500 where that cannot be known.
    pub backend: Option<BackendId>,
    /// Its share among the rule's.
    pub weight: u32,
    /// What is changed of headers for it alone.
    pub headers: HeaderFilters,
}

/// What is changed of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderFilters {
    /// Of requests.
    pub request: HeaderChanges,
    /// Of answers.
    pub response: HeaderChanges,
}

/// What a rule does beside sending requests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteFilters {
    /// Changes of headers.
    pub headers: HeaderFilters,
    /// Another host or path.
    pub rewrite: Option<UrlRewrite>,
    /// Where clients are sent instead.
    pub redirect: Option<Redirect>,
    /// Who gets copies.
    pub mirrors: Vec<RouteMirror>,
    /// Which pages in browsers may ask.
    pub cors: Option<Arc<RouteCors>>,
}

/// Another host or path for the backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlRewrite {
    /// The host.
    pub host: Option<String>,
    /// The path.
    pub path: Option<PathRewrite>,
}

/// What a path becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// This.
    Full(String),
    /// The same, with this in place of the prefix that was matched.
    Prefix(String),
}

/// Where clients are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; the request's own when absent.
    pub scheme: Option<String>,
    /// The host; the request's own when absent.
    pub host: Option<String>,
    /// The path; the request's own when absent.
    pub path: Option<PathRewrite>,
    /// The port; that of the scheme where that is given, else the listener's.
    pub port: Option<u16>,
    /// The status, one of 301, 302, 303, 307 and 308.
    pub status: u16,
}

/// A backend that gets copies of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteMirror {
    /// Which.
    pub backend: BackendId,
    /// The share of requests that are copied: so many of so many.
    pub numerator: u32,
    /// See above; never 0.
    pub denominator: u32,
}

/// How long things may take; what is absent is the pool's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// Everything, retries included.
    pub request: Option<Duration>,
    /// One attempt, to the end of its answer.
    pub attempt: Option<Duration>,
}

/// When a request is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRetry {
    /// How often in all.
    pub attempts: u32,
    /// The statuses that are worth it.
    pub codes: Vec<u16>,
    /// How long each further attempt waits at least.
    pub backoff: Option<Duration>,
}

impl PathRewrite {
    /// What a path becomes of which a rule matched `prefix`, `None` where it did not match by a prefix.
    pub fn apply(&self, path: &str, prefix: Option<&str>) -> String {
        match self {
            Self::Full(full) => full.clone(),
            Self::Prefix(new) => {
                let rest = path.strip_prefix(prefix.unwrap_or_default()).unwrap_or_default();
                let joined = format!("{}/{}", new.trim_end_matches('/'), rest.trim_start_matches('/'));
                // A prefix alone stays as it is written, without a slash that neither has.
                if rest.is_empty() && !new.is_empty() { new.clone() } else { joined }
            }
        }
    }
}

impl RouteRule {
    /// The backends of which requests may go to one, the first chosen by weight with a number from 0 to 1, the others
    /// after it by weight: where the first has nobody, they stand in.
    ///
    /// Nothing where the number falls on a backend that is not known.
    pub fn choose(&self, random: f64) -> Option<Vec<&RouteBackend>> {
        let total: u64 = self.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let mut left = (random.clamp(0.0, 1.0) * total as f64) as u64;
        let mut falls_on = |backend: &&RouteBackend| {
            let weight = u64::from(backend.weight);
            let is_it = left < weight;
            left = left.saturating_sub(weight);
            is_it
        };
        let mut weighted = self.backends.iter().filter(|backend| backend.weight > 0);
        let first = weighted.clone().find(&mut falls_on).or_else(|| weighted.next_back())?;
        first.backend?;
        let mut others: Vec<&RouteBackend> = self
            .backends
            .iter()
            .filter(|backend| {
                backend.weight > 0 && backend.backend.is_some() && !std::ptr::eq(*backend, first)
            })
            .collect();
        others.sort_by_key(|backend| std::cmp::Reverse(backend.weight));
        Some(std::iter::once(first).chain(others).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_by_whole_segments() {
        let rewritten = |new: &str, path: &str, prefix: &str| {
            PathRewrite::Prefix(new.to_owned()).apply(path, Some(prefix))
        };
        // The table of the Gateway API's own documentation.
        for (path, prefix, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo", "/foo", "/", "/"),
        ] {
            assert_eq!(rewritten(new, path, prefix), expected, "{path} {prefix} {new}");
        }
        assert_eq!(PathRewrite::Full("/one".to_owned()).apply("/x/y", None), "/one");
    }

    #[test]
    fn backends_have_their_shares_and_one_that_is_not_known_keeps_its_own() {
        let backend = |id: Option<usize>, weight| RouteBackend {
            backend: id.map(BackendId),
            weight,
            headers: HeaderFilters::default(),
        };
        let rule = RouteRule {
            backends: vec![backend(Some(0), 3), backend(Some(1), 0), backend(None, 1), backend(Some(2), 4)],
            ..RouteRule::default()
        };
        let chosen = |random| {
            let ids = |chosen: Vec<&RouteBackend>| {
                chosen.iter().filter_map(|one| one.backend).map(|BackendId(id)| id).collect::<Vec<_>>()
            };
            rule.choose(random).map(ids)
        };
        assert_eq!(chosen(0.0), Some(vec![0, 2]));
        assert_eq!(chosen(0.37), Some(vec![0, 2]));
        assert_eq!(chosen(0.4), None);
        assert_eq!(chosen(0.5), Some(vec![2, 0]));
        assert_eq!(chosen(1.0), Some(vec![2, 0]));
        assert_eq!(RouteRule::default().choose(0.5), None);
    }
}
