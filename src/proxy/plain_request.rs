//! Owns what becomes of the header of a request that passes unread, for its backend or for a mirror.
//!
//! Chooses nothing: the rule and the endpoint were found before.

use super::exchange::Exchange;
use super::header_changes::{apply_changes, change_request, rewritten, rewritten_host, set};
use super::headers::{X_REQUEST_ID, is_forwarded, is_forwarded_plainly, names_of, without_keys};
use super::passthrough::Passthrough;
use super::routing;
use super::upgrade_request::prepare_upgrade;
use crate::openai::{Rejection, may_name_api};
use crate::policy::{HostRule, PoolSpec};
use crate::route::FollowedRule;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use pingora::http::RequestHeader;

impl Exchange {
    /// Whether the answer comes from where no model answers.
    pub(super) fn is_plain(&self) -> bool {
        let answers_models = |pass: &Passthrough| {
            self.live.layers.routed().is_none_or(|routed| routed.answers_models(pass.via().pool))
        };
        self.passthrough.as_deref().is_some_and(|pass| !answers_models(pass))
    }
}

/// Turns the client's request into that of the current attempt.
pub(super) fn prepare_plainly(request: &mut RequestHeader, exchange: &Exchange) -> Result<(), Rejection> {
    let pass = exchange.passthrough.as_ref().ok_or(Rejection::Internal)?;
    let authority = pass.endpoint().map_or("", |endpoint| endpoint.host());
    prepare(request, exchange, BackendTarget { spec: pass.spec(&exchange.live), authority, is_copy: false })
}

/// What a request is made for.
#[derive(Clone, Copy)]
pub(super) struct BackendTarget<'a> {
    pub(super) spec: &'a PoolSpec,
    /// The endpoint's host and port.
    pub(super) authority: &'a str,
    /// Whether it is a mirror's: what is changed for the backend alone is not changed there.
    pub(super) is_copy: bool,
}

/// Turns the client's request into a backend's.
pub(super) fn prepare(
    request: &mut RequestHeader,
    exchange: &Exchange,
    target: BackendTarget<'_>,
) -> Result<(), Rejection> {
    let pass = exchange.passthrough.as_ref().ok_or(Rejection::Internal)?;
    let (via, BackendTarget { spec, authority, is_copy }): (&FollowedRule, _) = (pass.via(), target);
    let (is_plain, identity) = (exchange.is_plain(), &exchange.live.policy.identity);
    let blank = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = Parts::from(std::mem::replace(request, blank));
    let asked = routing::asked_host(&parts);
    let passes = |name: &_| {
        let passes =
            if is_plain { is_forwarded_plainly(name, identity) } else { is_forwarded(name, spec, identity) };
        passes || *name == TRANSFER_ENCODING
    };
    for name in names_of(&parts.headers, |name| !passes(name)) {
        parts.headers.remove(&name);
    }
    if let Some(public) = without_keys(&parts.uri, spec).filter(|_| !is_plain) {
        parts.uri = public;
    }
    let path = rewritten(&parts.uri, via).or_else(|| parts.uri.path_and_query()?.as_str().parse().ok());
    parts.uri = path.ok_or(Rejection::Internal)?;
    // As it was found to be before; said again where it counts.
    if !is_plain && may_name_api(parts.uri.path()) {
        return Err(Rejection::Internal);
    }
    let host = match &spec.host {
        HostRule::Fixed(host) => host.as_str(),
        HostRule::Endpoint => asked.as_deref().unwrap_or(authority),
    };
    set(&mut parts.headers, HOST, rewritten_host(via).unwrap_or(host))?;
    set(&mut parts.headers, X_REQUEST_ID, exchange.record.own_id())?;
    if let Some(length) = pass.length {
        parts.headers.remove(TRANSFER_ENCODING);
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    if let Some(picked) = pass.picked.as_ref().filter(|_| !is_copy) {
        for name in &picked.changes.remove {
            parts.headers.remove(name);
        }
        parts.headers.extend(picked.changes.set.iter().cloned());
    }
    if exchange.answer.tunnel.is_some() && !is_copy {
        prepare_upgrade(&mut parts.headers, !identity.is_used());
    }
    if is_copy {
        apply_changes(&mut parts.headers, &via.rule.filters.headers.request)?;
    } else {
        change_request(&mut parts.headers, via)?;
    }
    *request = parts.into();
    Ok(())
}
