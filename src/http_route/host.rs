//! Owns which hosts a name stands for: itself, or all below it.

use std::cmp::Ordering;
use std::fmt;

/// Hosts, as listeners and routes name them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One host, in lower case.
    Exact(String),
    /// Every host below this one, in lower case: `*.example.com` is `example.com` here.
    Below(String),
    /// Every host.
    Any,
}

impl HostPattern {
    /// Reads a host as the Gateway API writes it; an empty one is every host.
    pub fn of(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            _ if text.is_empty() || text == "*" => Self::Any,
            Some(rest) => Self::Below(rest.to_owned()),
            None => Self::Exact(text),
        }
    }

    /// Whether a host, in lower case and without its port, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(parent) => {
                host.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Self::Any => true,
        }
    }

    /// The hosts that both mean, if there are any.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let narrow = match (self, other) {
            (Self::Any, narrow) | (narrow, Self::Any) => narrow,
            (Self::Exact(name), wide) if wide.matches(name) => self,
            (wide, Self::Exact(name)) if wide.matches(name) => other,
            (Self::Below(a), Self::Below(b)) if a == b || self.is_below(b) => self,
            (Self::Below(a), Self::Below(_)) if other.is_below(a) => other,
            _ => return None,
        };
        Some(narrow.clone())
    }

    /// Whether all that is meant lies below a host.
    fn is_below(&self, parent: &str) -> bool {
        let (Self::Exact(name) | Self::Below(name)) = self else { return false };
        name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
    }

    /// Puts the more specific one first: a host before what lies below one, the longer before the shorter.
    pub fn by_precedence(&self, other: &Self) -> Ordering {
        let rank = |pattern: &Self| match pattern {
            Self::Exact(name) => (0, usize::MAX - name.len()),
            Self::Below(parent) => (1, usize::MAX - parent.len()),
            Self::Any => (2, 0),
        };
        rank(self).cmp(&rank(other)).then_with(|| self.to_string().cmp(&other.to_string()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_means_what_lies_below_and_not_the_host_itself() {
        let below = HostPattern::of("*.Example.com");
        for (host, is_meant) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("aexample.com", false),
        ] {
            assert_eq!(below.matches(host), is_meant, "{host}");
        }
        assert!(HostPattern::of("").matches("x") && HostPattern::of("X").matches("x"));
    }

    #[test]
    fn hosts_of_a_route_and_a_listener_meet_in_the_narrower_one() {
        let meet = |a: &str, b: &str| {
            let (a, b) = (HostPattern::of(a), HostPattern::of(b));
            let met = a.intersection(&b);
            assert_eq!(met, b.intersection(&a));
            met.map(|met| met.to_string())
        };
        assert_eq!(meet("*.example.com", "a.example.com").as_deref(), Some("a.example.com"));
        assert_eq!(meet("*.example.com", "*.b.example.com").as_deref(), Some("*.b.example.com"));
        assert_eq!(meet("", "*.b.example.com").as_deref(), Some("*.b.example.com"));
        assert_eq!(meet("*.example.com", "example.com"), None);
        assert_eq!(meet("a.com", "b.com"), None);
        assert_eq!(meet("*.a.com", "*.ba.com"), None);
    }

    #[test]
    fn the_more_specific_host_comes_first() {
        let mut hosts = ["", "*.com", "*.b.com", "b.com", "longer.b.com"].map(HostPattern::of);
        hosts.sort_by(HostPattern::by_precedence);
        let texts = hosts.map(|host| host.to_string());
        assert_eq!(texts, ["longer.b.com", "b.com", "*.b.com", "*.com", "*"]);
    }
}
