//! Owns what the filters of a rule or of a backend change.

use super::super::objects::ObjectRef;
use super::super::route_objects::{
    CorsFilter, HeaderModifier, HttpFilter, NamedValue, PathModifier, RequestMirror, RequestRedirect,
};
use crate::http_route::{CorsOrigin, HeaderFilters, PathRewrite, Redirect, RouteCors, UrlRewrite};
use crate::policy::HeaderChanges;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;

/// Headers that the connection has, whatever a filter says.
const OF_THE_CONNECTION: [&str; 8] =
    ["content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect", "keep-alive"];

/// What filters say, mirrors by what they refer to.
#[derive(Debug, Default)]
pub(super) struct ReadFilters {
    pub(super) headers: HeaderFilters,
    pub(super) rewrite: Option<UrlRewrite>,
    pub(super) redirect: Option<Redirect>,
    pub(super) mirrors: Vec<ReadMirror>,
    pub(super) cors: Option<Arc<RouteCors>>,
}

/// A mirror whose backend is still to be found.
#[derive(Debug)]
pub(super) struct ReadMirror {
    pub(super) reference: ObjectRef,
    pub(super) numerator: u32,
    pub(super) denominator: u32,
}

/// Reads the filters of a rule; says what can't be done, for a filter must not be skipped.
pub(super) fn read(filters: &[HttpFilter]) -> Result<ReadFilters, String> {
    let mut read = ReadFilters::default();
    for filter in filters {
        read_filter(filter, &mut read)?;
    }
    if read.redirect.is_some() && read.rewrite.is_some() {
        return Err("a redirect and a rewrite go together in no rule".to_owned());
    }
    Ok(read)
}

/// Reads the filters of a backend: headers alone.
pub(super) fn read_of_backend(filters: &[HttpFilter]) -> Result<HeaderFilters, String> {
    let read = read(filters)?;
    if read.redirect.is_some() || read.rewrite.is_some() || !read.mirrors.is_empty() || read.cors.is_some() {
        return Err("a backend has filters of headers alone".to_owned());
    }
    Ok(read.headers)
}

/// The kind of the first object that filters refer to: none is known.
pub(super) fn extension(filters: &[HttpFilter]) -> Option<String> {
    let filter = filters.iter().find(|filter| filter.kind == "ExtensionRef")?;
    let reference = filter.extension_ref.clone().unwrap_or_default();
    Some(format!("{}/{}", reference.group.unwrap_or_default(), reference.kind.unwrap_or_default()))
}

fn read_filter(filter: &HttpFilter, read: &mut ReadFilters) -> Result<(), String> {
    let lacks = || format!("the filter {} says nothing", filter.kind);
    match filter.kind.as_str() {
        "RequestHeaderModifier" => {
            add_changes(filter.request_header_modifier.as_ref().ok_or_else(lacks)?, &mut read.headers.request)
        }
        "ResponseHeaderModifier" => add_changes(
            filter.response_header_modifier.as_ref().ok_or_else(lacks)?,
            &mut read.headers.response,
        ),
        "RequestMirror" => {
            read.mirrors.push(mirror(filter.request_mirror.as_ref().ok_or_else(lacks)?)?);
            Ok(())
        }
        "RequestRedirect" => {
            read.redirect = Some(redirect(filter.request_redirect.as_ref().ok_or_else(lacks)?)?);
            Ok(())
        }
        "URLRewrite" => {
            let rewrite = filter.url_rewrite.as_ref().ok_or_else(lacks)?;
            let path = rewrite.path.as_ref().map(path).transpose()?;
            read.rewrite = Some(UrlRewrite { host: rewrite.hostname.clone(), path });
            Ok(())
        }
        "CORS" => {
            read.cors = Some(Arc::new(cors(filter.cors.as_ref().ok_or_else(lacks)?)?));
            Ok(())
        }
        other => Err(format!("the filter {other} is not known")),
    }
}

fn add_changes(modifier: &HeaderModifier, changes: &mut HeaderChanges) -> Result<(), String> {
    let checked = |header: &NamedValue| {
        let name = name(&header.name)?;
        let value = header.value.trim().to_owned();
        HeaderValue::from_str(&value).map_err(|_invalid| format!("`{name}` is given what is no value"))?;
        Ok::<_, String>((name, value))
    };
    for header in &modifier.set {
        changes.set.push(checked(header)?);
    }
    for header in &modifier.add {
        changes.add.push(checked(header)?);
    }
    for header in &modifier.remove {
        changes.remove.push(name(header)?);
    }
    Ok(())
}

fn name(written: &str) -> Result<String, String> {
    let name = HeaderName::from_bytes(written.as_bytes());
    let name = name.map_err(|_invalid| format!("`{written}` is not the name of a header"))?;
    if OF_THE_CONNECTION.contains(&name.as_str()) {
        return Err(format!("`{name}` is the connection's own"));
    }
    Ok(name.as_str().to_owned())
}

fn path(modifier: &PathModifier) -> Result<PathRewrite, String> {
    let read = match modifier.kind.as_str() {
        "ReplaceFullPath" => modifier.replace_full_path.clone().map(PathRewrite::Full),
        "ReplacePrefixMatch" => modifier.replace_prefix_match.clone().map(PathRewrite::Prefix),
        _ => None,
    };
    read.ok_or_else(|| format!("paths are not changed by `{}` without its value", modifier.kind))
}

fn redirect(filter: &RequestRedirect) -> Result<Redirect, String> {
    let status = filter.status_code.unwrap_or(302);
    if ![301, 302, 303, 307, 308].contains(&status) {
        return Err(format!("{status} is not the status of a redirect"));
    }
    Ok(Redirect {
        scheme: filter.scheme.as_ref().map(|scheme| scheme.to_ascii_lowercase()),
        host: filter.hostname.clone(),
        path: filter.path.as_ref().map(path).transpose()?,
        port: filter.port,
        status,
    })
}

/// For how many seconds a browser remembers what a filter says, where that does not say it.
const CORS_MAX_AGE: u32 = 5;

fn cors(filter: &CorsFilter) -> Result<RouteCors, String> {
    let origin = |text: &String| CorsOrigin::read(text).ok_or_else(|| format!("`{text}` is no origin"));
    let named = |list: &[String]| {
        let is_one = |name: &&String| *name == "*" || HeaderName::from_bytes(name.as_bytes()).is_ok();
        let wrong = list.iter().find(|name| !is_one(name));
        wrong.map_or(Ok(list.to_vec()), |wrong| Err(format!("`{wrong}` is not the name of a header")))
    };
    Ok(RouteCors {
        origins: filter.allow_origins.iter().map(origin).collect::<Result<_, _>>()?,
        credentials: filter.allow_credentials == Some(true),
        // Methods are names of the same letters.
        methods: named(&filter.allow_methods)?,
        headers: named(&filter.allow_headers)?,
        exposed: named(&filter.expose_headers)?,
        max_age: filter.max_age.unwrap_or(CORS_MAX_AGE),
    })
}

fn mirror(filter: &RequestMirror) -> Result<ReadMirror, String> {
    let (numerator, denominator) = match (filter.fraction, filter.percent) {
        (Some(fraction), None) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
        (None, percent) => (percent.unwrap_or(100), 100),
        (Some(_), Some(_)) => return Err("a mirror has a percentage or a fraction, not both".to_owned()),
    };
    if denominator == 0 || numerator > denominator {
        return Err(format!("{numerator} of {denominator} is no share"));
    }
    Ok(ReadMirror { reference: filter.backend_ref.clone(), numerator, denominator })
}
