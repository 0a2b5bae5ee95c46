//! Owns whether a request is what one match of a rule asks for, and which of two matches comes first.

use super::query::{RouteQuery, is_model_header};
use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder};
use std::cmp::{Ordering, Reverse};
use std::fmt;

/// How large a regular expression may become.
const REGEX_BYTES: usize = 1 << 20;

/// What a request must have, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// Its path.
    pub path: PathMatch,
    /// Its method, if that matters.
    pub method: Option<Method>,
    /// Headers, each name once.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Parameters of the query, each name once.
    pub query: Vec<(String, ValueMatch)>,
}

/// What a path must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// This.
    Exact(String),
    /// This, or below it; without a slash at its end, so that the root is empty.
    Prefix(String),
    /// What a regular expression describes as a whole.
    Regex(RouteRegex),
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// This.
    Exact(String),
    /// What a regular expression describes as a whole.
    Regex(RouteRegex),
}

/// A regular expression that describes a whole text.
#[derive(Clone)]
pub struct RouteRegex {
    source: String,
    regex: Regex,
}

/// A regular expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{source_text}` is not a regular expression that can be used")]
pub struct RegexError {
    source_text: String,
}

impl RouteRegex {
    /// Compiles an expression.
    pub fn new(source: &str) -> Result<Self, RegexError> {
        let whole = format!("^(?:{source})$");
        let regex = RegexBuilder::new(&whole).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).build();
        let regex = regex.map_err(|_invalid| RegexError { source_text: source.to_owned() })?;
        Ok(Self { source: source.to_owned(), regex })
    }
}

impl PartialEq for RouteRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for RouteRegex {}

impl fmt::Debug for RouteRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl ValueMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == value,
            Self::Regex(wanted) => wanted.regex.is_match(value),
        }
    }
}

impl PathMatch {
    /// Makes a prefix match of a path, with or without a slash at its end.
    pub fn prefix(path: &str) -> Self {
        Self::Prefix(path.trim_end_matches('/').to_owned())
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == path,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(wanted) => wanted.regex.is_match(path),
        }
    }

    /// Exact paths first, then regular expressions, whose place the Gateway API leaves open, then prefixes; of equals the
    /// longer.
    fn rank(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Exact(path) => (0, Reverse(path.len())),
            Self::Regex(regex) => (1, Reverse(regex.source.len())),
            Self::Prefix(path) => (2, Reverse(path.len())),
        }
    }
}

impl RouteMatch {
    /// A match of every request.
    pub fn any() -> Self {
        Self { path: PathMatch::prefix("/"), method: None, headers: Vec::new(), query: Vec::new() }
    }

    /// Whether a request is what is asked for.
    pub fn matches(&self, query: &RouteQuery<'_>) -> bool {
        self.matches_but(query, |_| false)
    }

    /// The same of a request whose model is not known: any will do.
    pub(super) fn matches_any_model(&self, query: &RouteQuery<'_>) -> bool {
        self.matches_but(query, is_model_header)
    }

    fn matches_but(&self, query: &RouteQuery<'_>, is_left_out: fn(&HeaderName) -> bool) -> bool {
        let has_header = |(name, wanted): &(HeaderName, ValueMatch)| {
            is_left_out(name) || query.header(name).is_some_and(|value| wanted.matches(&value))
        };
        let has_parameter = |(name, wanted): &(String, ValueMatch)| {
            query.parameter(name).is_some_and(|value| wanted.matches(&value))
        };
        self.method.as_ref().is_none_or(|method| method == query.method)
            && self.path.matches(query.path)
            && self.headers.iter().all(has_header)
            && self.query.iter().all(has_parameter)
    }

    /// Which of two matches of one host comes first: by its path, its method, its headers, its query.
    pub fn by_precedence(&self, other: &Self) -> Ordering {
        let rank = |one: &Self| {
            (one.path.rank(), one.method.is_none(), Reverse(one.headers.len()), Reverse(one.query.len()))
        };
        rank(self).cmp(&rank(other))
    }
}
