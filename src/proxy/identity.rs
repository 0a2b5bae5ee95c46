//! Owns the identity of a client: by its API key, or by the headers of a trusted peer.
//!
//! Any other client has none, whatever its headers say. Decides nothing.

use super::headers::KEY_HEADERS;
use super::upgrade_request::protocol_key;
use crate::policy::{Identity, Principal};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use std::net::IpAddr;

/// The longest list of groups that is read from a header.
const MAX_GROUPS: usize = 256;

/// Asks for the matched signals in the response headers.
const X_VSR_DEBUG: HeaderName = HeaderName::from_static("x-vsr-debug");

pub(super) fn principal(identity: &Identity, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<Principal> {
    if !identity.is_used() {
        return None;
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let bearer = text(AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '));
    let bearer =
        bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
    // Anthropic's clients show their key in the one header, Azure's in the other.
    let mut keys =
        bearer.into_iter().chain(KEY_HEADERS.into_iter().filter_map(text)).chain(protocol_key(headers));
    if let Some(owner) = keys.find_map(|key| identity.owner(key)) {
        return Some(owner.clone());
    }
    peer.filter(|peer| identity.trusts(*peer))?;
    let user = text(&identity.headers.user).filter(|user| !user.is_empty())?;
    let groups = text(&identity.headers.groups).into_iter().flat_map(|groups| groups.split(','));
    let groups = groups.map(|group| group.trim().to_owned()).filter(|group| !group.is_empty());
    Some(Principal {
        user: user.to_owned(),
        groups: groups.take(MAX_GROUPS).collect(),
        tenant: text(&identity.headers.tenant).filter(|tenant| !tenant.is_empty()).map(str::to_owned),
    })
}

/// Whether the client asks for the matched signals and may see them: from a trusted peer, or in a debug group.
pub(super) fn may_debug(
    identity: &Identity,
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    principal: Option<&Principal>,
) -> bool {
    let asks = headers.get(X_VSR_DEBUG).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let groups = principal.map(|principal| principal.groups.as_slice()).unwrap_or_default();
    asks && (peer.is_some_and(|peer| identity.trusts(peer))
        || groups.iter().any(|group| identity.debug_groups.contains(group)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Fixed, load};
    use std::path::Path;

    fn identity() -> Identity {
        let text = "version: 1\nidentity:\n  trusted_peers: [10.0.0.0/8]\n  keys: [{value: {env: K}, user: alice, tenant: acme}]\n\
                    models: {m: {pools: [p]}}\npools: {p: {endpoints: [\"127.0.0.1:1\"]}}\n";
        let mut environment = Fixed::default();
        environment.vars.insert("K".to_owned(), "sk-alice".to_owned());
        load(text, Path::new("."), &environment, None).unwrap().identity
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_names_its_owner_whatever_the_headers_say() {
        let sent = headers(&[("authorization", "bearer sk-alice"), ("x-authz-user-id", "root")]);
        let principal = principal(&identity(), &sent, "192.0.2.1".parse().ok()).unwrap();
        assert_eq!((principal.user.as_str(), principal.tenant.as_deref()), ("alice", Some("acme")));
    }

    #[test]
    fn a_key_is_read_from_each_header_that_clients_show_one_in() {
        for header in ["x-api-key", "api-key"] {
            let principal = |value: &str| principal(&identity(), &headers(&[(header, value)]), None);
            assert_eq!(principal("sk-alice").unwrap().user, "alice", "{header}");
            assert_eq!(principal("sk-other"), None, "{header}");
        }
    }

    #[test]
    fn headers_are_believed_of_trusted_peers_alone() {
        let sent = headers(&[
            ("x-authz-user-id", "bob"),
            ("x-authz-user-groups", "a, b,,"),
            ("authorization", "Bearer x"),
        ]);
        assert_eq!(principal(&identity(), &sent, "192.0.2.1".parse().ok()), None);
        assert_eq!(principal(&identity(), &sent, None), None);
        let believed = principal(&identity(), &sent, "::ffff:10.1.2.3".parse().ok()).unwrap();
        assert_eq!(
            (believed.user.as_str(), believed.groups.as_slice()),
            ("bob", ["a".to_owned(), "b".to_owned()].as_slice())
        );
    }
}
