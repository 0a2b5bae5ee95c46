//! Owns changes of a request's headers and path on its way to an upstream, and of its answer's headers on the way back: those
//! of decisions and those of routes. Refuses to know who asked for them.

use crate::openai::Rejection;
use crate::policy::HeaderChanges;
use crate::route::FollowedRule;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use pingora::http::ResponseHeader;

/// Sets a header in place of all those of its name.
pub(super) fn set(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: impl AsRef<[u8]>,
) -> Result<(), Rejection> {
    let value = HeaderValue::from_bytes(value.as_ref()).map_err(|_invalid| Rejection::Internal)?;
    headers.insert(name, value);
    Ok(())
}

/// Applies changes of headers: of a decision's plugins, or of a route.
pub(super) fn apply_changes(headers: &mut HeaderMap, changes: &HeaderChanges) -> Result<(), Rejection> {
    let known = |name: &str| HeaderName::from_bytes(name.as_bytes()).map_err(|_invalid| Rejection::Internal);
    for name in &changes.remove {
        headers.remove(name.as_str());
    }
    for (name, value) in &changes.set {
        set(headers, known(name)?, value)?;
    }
    for (name, value) in &changes.add {
        let value = HeaderValue::from_str(value).map_err(|_invalid| Rejection::Internal)?;
        headers.append(known(name)?, value);
    }
    Ok(())
}

/// What the path of a request becomes, where its rule changes it.
pub(super) fn rewritten(uri: &Uri, via: &FollowedRule) -> Option<Uri> {
    let path = via.rewritten_path(uri.path())?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{path}{query}").parse().ok()
}

/// The host that a rule has its backend asked for.
pub(super) fn rewritten_host(via: &FollowedRule) -> Option<&str> {
    via.rule.filters.rewrite.as_ref()?.host.as_deref()
}

/// Changes the headers of a request on its way to the backend: as the rule says, then as the backend's own filters do.
pub(super) fn change_request(headers: &mut HeaderMap, via: &FollowedRule) -> Result<(), Rejection> {
    apply_changes(headers, &via.rule.filters.headers.request)?;
    apply_changes(headers, &via.backend_headers().request)
}

/// Changes the headers of an answer on its way to the client.
pub(super) fn change_response(response: &mut ResponseHeader, via: &FollowedRule) -> pingora::Result<()> {
    for changes in [&via.rule.filters.headers.response, &via.backend_headers().response] {
        for name in &changes.remove {
            response.remove_header(name.as_str());
        }
        for (name, value) in &changes.set {
            response.insert_header(name.clone(), value.as_str())?;
        }
        for (name, value) in &changes.add {
            response.append_header(name.clone(), value.as_str())?;
        }
    }
    Ok(())
}
