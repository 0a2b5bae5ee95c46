//! Owns what requests a rule matches.

use super::super::route_objects::{HttpMatch, NamedValue, TypedValue};
use crate::http_route::{PathMatch, RouteMatch, RouteRegex, ValueMatch};
use http::{HeaderName, Method};

/// Reads the matches of a rule; one without any matches everything. Says what can't be matched.
pub(super) fn read(matches: &[HttpMatch]) -> Result<Vec<RouteMatch>, String> {
    if matches.is_empty() {
        return Ok(vec![RouteMatch::any()]);
    }
    matches.iter().map(read_match).collect()
}

fn read_match(one: &HttpMatch) -> Result<RouteMatch, String> {
    let mut headers: Vec<(HeaderName, ValueMatch)> = Vec::new();
    for header in &one.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let name = name.map_err(|_invalid| format!("`{}` is not the name of a header", header.name))?;
        // Of equal names the first counts.
        if !headers.iter().any(|(known, _)| *known == name) {
            headers.push((name, read_value(header)?));
        }
    }
    let mut query: Vec<(String, ValueMatch)> = Vec::new();
    for parameter in &one.query_params {
        if !query.iter().any(|(known, _)| *known == parameter.name) {
            query.push((parameter.name.clone(), read_value(parameter)?));
        }
    }
    let method = one.method.as_deref().map(|method| Method::from_bytes(method.as_bytes()));
    let method = method.transpose().map_err(|_invalid| "the method is none".to_owned())?;
    Ok(RouteMatch { path: read_path(one.path.as_ref())?, method, headers, query })
}

fn read_path(path: Option<&TypedValue>) -> Result<PathMatch, String> {
    let value = path.and_then(|path| path.value.as_deref()).unwrap_or("/");
    match path.and_then(|path| path.kind.as_deref()).unwrap_or("PathPrefix") {
        "PathPrefix" => Ok(PathMatch::prefix(value)),
        "Exact" => Ok(PathMatch::Exact(value.to_owned())),
        "RegularExpression" => read_regex(value).map(PathMatch::Regex),
        other => Err(format!("paths are not matched by {other}")),
    }
}

fn read_value(named: &NamedValue) -> Result<ValueMatch, String> {
    match named.kind.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(ValueMatch::Exact(named.value.clone())),
        "RegularExpression" => read_regex(&named.value).map(ValueMatch::Regex),
        other => Err(format!("`{}` is not matched by {other}", named.name)),
    }
}

fn read_regex(source: &str) -> Result<RouteRegex, String> {
    RouteRegex::new(source).map_err(|error| error.to_string())
}
