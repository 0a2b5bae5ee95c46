//! Owns what the rules of one route come to, and what is wrong with them.

use super::super::cluster::{Remark, UsedObject};
use super::super::conditions::ObjectCondition;
use super::super::kinds::ObjectKind;
use super::super::objects::ApiObject;
use super::super::route_objects::{
    HttpBackendRef, HttpFilter, HttpRetry, HttpRouteRule, HttpRouteSpec, HttpTimeouts,
};
use super::backends::Backends;
use super::{filters, matches};
use crate::http_route::{
    HeaderFilters, RouteBackend, RouteFilters, RouteMatch, RouteMirror, RouteRetry, RouteRule, RouteTimeouts,
};
use crate::policy::ObjectName;
use std::sync::Arc;
use std::time::Duration;

/// The most attempts of a request.
const MAX_ATTEMPTS: u32 = 10;

/// The most matches of one route, as the API has it.
const MAX_MATCHES: usize = 128;

/// What a route comes to.
pub(super) struct TranslatedRoute {
    pub(super) rules: Vec<(Vec<RouteMatch>, Arc<RouteRule>)>,
    /// Whether its references lead somewhere.
    pub(super) resolved: ObjectCondition,
    /// What of it can't be done; its requests are answered with 500.
    pub(super) faults: Vec<String>,
    /// Whether that is so for every rule.
    pub(super) is_useless: bool,
    /// The objects that its backends go by.
    pub(super) pools: Vec<UsedObject>,
    pub(super) remarks: Vec<Remark>,
}

/// What is found out while the rules of a route are read.
struct RouteReader<'r, 'a> {
    name: &'r ObjectName,
    backends: &'r mut Backends<'a>,
    resolved: ObjectCondition,
    pools: Vec<UsedObject>,
    remarks: Vec<Remark>,
}

/// Translates the rules of a route.
pub(super) fn translate(route: &ApiObject<HttpRouteSpec>, backends: &mut Backends<'_>) -> TranslatedRoute {
    let mut reader = RouteReader {
        name: &route.name,
        backends,
        resolved: ObjectCondition::holds("ResolvedRefs", "ResolvedRefs"),
        pools: Vec::new(),
        remarks: Vec::new(),
    };
    let (mut rules, mut faults, mut count) = (Vec::new(), Vec::new(), 0);
    // A route without rules matches everything, and leads nowhere.
    let nothing = [HttpRouteRule::default()];
    let written = if route.spec.rules.is_empty() { &nothing[..] } else { &route.spec.rules };
    for (index, rule) in written.iter().enumerate() {
        let name = rule.name.clone().unwrap_or_else(|| index.to_string());
        let fault = |text: String| format!("rules[{index}]: {text}");
        let read = match matches::read(&rule.matches) {
            Ok(read) => read,
            Err(text) => {
                faults.push(fault(text));
                continue;
            }
        };
        count += read.len();
        if count > MAX_MATCHES {
            faults.push(fault(format!("the route has more than {MAX_MATCHES} matches")));
            break;
        }
        let source: Arc<str> = format!("{}#{name}", route.name).into();
        let made = reader.rule(rule, Arc::clone(&source)).unwrap_or_else(|text| {
            faults.push(fault(text));
            RouteRule { source, ..RouteRule::default() }
        });
        rules.push((read, Arc::new(made)));
    }
    TranslatedRoute {
        is_useless: faults.len() >= written.len(),
        rules,
        faults,
        resolved: reader.resolved,
        pools: reader.pools,
        remarks: reader.remarks,
    }
}

impl RouteReader<'_, '_> {
    fn rule(&mut self, rule: &HttpRouteRule, source: Arc<str>) -> Result<RouteRule, String> {
        if self.has_extension(&rule.filters) {
            // What it would do nobody knows: its requests are answered with 500.
            return Ok(RouteRule { source, ..RouteRule::default() });
        }
        let read = filters::read(&rule.filters)?;
        let mut mirrors = Vec::new();
        for mirror in read.mirrors {
            let resolved = self.backends.resolve(&self.name.namespace, &mirror.reference);
            self.pools.extend(resolved.used);
            match resolved.id {
                Ok(backend) => mirrors.push(RouteMirror {
                    backend,
                    numerator: mirror.numerator,
                    denominator: mirror.denominator,
                }),
                Err(fault) => self.unresolved(fault),
            }
        }
        let filters = RouteFilters {
            headers: read.headers,
            rewrite: read.rewrite,
            redirect: read.redirect,
            mirrors,
            cors: read.cors,
        };
        Ok(RouteRule {
            source,
            filters,
            timeouts: timeouts(&rule.timeouts)?,
            retry: rule.retry.as_ref().map(|retry| self.retry(retry)).transpose()?,
            backends: rule
                .backend_refs
                .iter()
                .map(|backend| self.backend(backend))
                .collect::<Result<_, _>>()?,
        })
    }

    fn backend(&mut self, written: &HttpBackendRef) -> Result<RouteBackend, String> {
        let weight = written.weight.unwrap_or(1);
        if self.has_extension(&written.filters) {
            return Ok(RouteBackend { backend: None, weight, headers: HeaderFilters::default() });
        }
        let headers: HeaderFilters = filters::read_of_backend(&written.filters)?;
        let resolved = self.backends.resolve(&self.name.namespace, &written.reference());
        self.pools.extend(resolved.used);
        let backend = resolved.id.map_err(|fault| self.unresolved(fault)).ok();
        Ok(RouteBackend { backend, weight, headers })
    }

    /// Whether filters refer to an object, none of whose kinds is known; says so.
    fn has_extension(&mut self, filters: &[HttpFilter]) -> bool {
        let Some(kind) = filters::extension(filters) else { return false };
        let message = format!("no filter of kind {kind} is known");
        self.unresolved(ObjectCondition::fails("ResolvedRefs", "InvalidKind", message));
        true
    }

    /// The first fault is told, the others are remarked.
    fn unresolved(&mut self, fault: ObjectCondition) {
        if self.resolved.is_true {
            self.resolved = fault;
        } else if fault.message != self.resolved.message {
            self.remark(fault.message);
        }
    }

    fn remark(&mut self, text: String) {
        self.remarks.push(Remark { kind: ObjectKind::HttpRoute, name: self.name.clone(), text });
    }

    fn retry(&mut self, retry: &HttpRetry) -> Result<RouteRetry, String> {
        let wanted = retry.attempts.unwrap_or(1);
        if wanted >= MAX_ATTEMPTS {
            self.remark(format!("{wanted} further attempts are {} here", MAX_ATTEMPTS - 1));
        }
        let backoff = retry.backoff.as_deref().map(duration).transpose()?.filter(|time| !time.is_zero());
        let attempts = wanted.saturating_add(1).min(MAX_ATTEMPTS);
        Ok(RouteRetry { attempts, codes: retry.codes.clone(), backoff })
    }
}

fn timeouts(written: &HttpTimeouts) -> Result<RouteTimeouts, String> {
    let read = |text: Option<&String>| text.map(|text| duration(text)).transpose();
    // None is 0, which the API means by 0.
    let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    Ok(RouteTimeouts {
        request: some(read(written.request.as_ref())?),
        attempt: some(read(written.backend_request.as_ref())?),
    })
}

/// Reads a duration of GEP-2257: whole numbers of `h`, `m`, `s` and `ms`, one after the other.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is not a duration such as 300s");
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_invalid| invalid())?;
        rest = &rest[digits..];
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let factor = match &rest[..unit] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return Err(invalid()),
        };
        total += Duration::from_millis(number.saturating_mul(factor));
        rest = &rest[unit..];
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_api_writes_them() {
        let millis = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(millis("300s"), Ok(300_000));
        assert_eq!(millis("1h1m1s1ms"), Ok(3_661_001));
        assert_eq!(millis("0s"), Ok(0));
        for text in ["", "5", "s", "1.5s", "1d", "-1s", "1s x"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
