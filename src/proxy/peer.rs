//! Owns how an upstream is spoken to: the connection's parameters and the request's headers.
//!
//! Chooses nothing: the pool and the address were picked before.

use super::exchange::Exchange;
use super::identity::is_of_identity;
use crate::openai::Rejection;
use crate::policy::{Alpn, ClientCert, HeaderChanges, HostRule, PoolSpec, Transport};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{ALPN, HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// Streams that share one HTTP/2 connection to an upstream.
const H2_STREAMS: usize = 100;

/// How long an unused connection to an upstream is kept.
pub(super) const KEEP_IDLE: std::time::Duration = std::time::Duration::from_secs(60);

/// By what a request is known here and upstream.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that carry a client's own credentials.
const CLIENT_CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "cookie"];

/// TLS material in the form that connections take, parsed once for each content.
#[derive(Default)]
pub(super) struct Wardrobe {
    /// By the hash of the pool's transport; cleared when it outgrows any policy.
    parsed: RwLock<HashMap<u64, Material>>,
}

#[derive(Clone, Default)]
struct Material {
    ca: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
}

impl Wardrobe {
    /// The most transports remembered; a policy has far fewer pools.
    const LIMIT: usize = 4096;

    /// The peer for one attempt.
    pub(super) fn peer(&self, spec: &PoolSpec, address: SocketAddr) -> HttpPeer {
        let mut peer = match &spec.transport {
            Transport::Plain { .. } => HttpPeer::new(address, false, String::new()),
            Transport::Tls { server_name, .. } => HttpPeer::new(address, true, server_name.clone()),
        };
        let options = &mut peer.options;
        options.connection_timeout = Some(spec.timeouts.connect);
        options.total_connection_timeout = Some(spec.timeouts.connect);
        options.idle_timeout = Some(KEEP_IDLE);
        options.max_h2_streams = H2_STREAMS;
        match &spec.transport {
            Transport::Plain { h2c: true } => options.set_http_version(2, 2),
            Transport::Plain { h2c: false } => options.set_http_version(1, 1),
            Transport::Tls { server_name, alpn, ca, client } => {
                options.alpn = match alpn {
                    Alpn::Both => ALPN::H2H1,
                    Alpn::H2 => ALPN::H2,
                    Alpn::Http1 => ALPN::H1,
                };
                let key = fingerprint(server_name, *alpn, ca.as_deref(), client.as_ref());
                let material = self.material(key, ca.as_deref(), client.as_ref());
                options.ca = material.ca;
                peer.client_cert_key = material.client;
                // Connections are pooled by address and name; what else sets them apart goes in here.
                peer.group_key = key;
            }
        }
        peer
    }

    fn material(&self, key: u64, ca: Option<&[u8]>, client: Option<&ClientCert>) -> Material {
        if ca.is_none() && client.is_none() {
            return Material::default();
        }
        if let Some(known) = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let material = Material {
            ca: ca.map(|pem| {
                certificates(pem).into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect()
            }),
            client: client.and_then(|client| {
                let key = PrivateKeyDer::from_pem_slice(client.key.expose().as_bytes()).ok()?;
                Some(Arc::new(CertKey::new(certificates(&client.cert), key.secret_der().to_vec())))
            }),
        };
        let mut parsed = self.parsed.write().unwrap_or_else(PoisonError::into_inner);
        if parsed.len() >= Self::LIMIT {
            parsed.clear();
        }
        parsed.insert(key, material.clone());
        material
    }
}

/// Keeps a peer off the kept connections, of which others may be stale too; its own is not kept either.
pub(super) fn unpooled(peer: &mut HttpPeer) {
    // They are found by a hash over this.
    peer.group_key ^= rand::random::<u64>() | 1;
    peer.options.idle_timeout = Some(std::time::Duration::ZERO);
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).filter_map(|der| Some(der.ok()?.to_vec())).collect()
}

fn fingerprint(server_name: &str, alpn: Alpn, ca: Option<&[u8]>, client: Option<&ClientCert>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (server_name, alpn, ca).hash(&mut hasher);
    client.map(|client| (&client.cert, client.key.expose())).hash(&mut hasher);
    hasher.finish()
}

/// Lets a request keep what Pingora would look for in it before [`dress`] does, unless its `Connection` names fields.
pub(super) fn plain(peer: &mut HttpPeer, headers: &HeaderMap) {
    let names_none = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
    };
    if headers.get_all(CONNECTION).iter().all(names_none) {
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    }
}

/// Makes the client's request the upstream's: its host, its path, its credential, and nothing that steers us.
///
/// Names go out in lower case, but for the commonest: Pingora has a second map to keep each as it came.
pub(super) fn dress(request: &mut RequestHeader, exchange: &Exchange) -> Result<(), Rejection> {
    let course = exchange.course.as_ref().ok_or(Rejection::Internal)?;
    let spec = course.spec(&exchange.live);
    let identity = &exchange.live.policy.identity;
    let is_used = identity.is_used();
    let raw_path = (!request.raw_path_is_utf8()).then(|| request.raw_path().to_vec());
    let blank = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = Parts::from(std::mem::replace(request, blank));
    let ends = |name: &HeaderName| {
        stays_here(name, spec.forward_authorization) || (is_used && is_of_identity(identity, name.as_str()))
    };
    for name in named(&parts.headers, ends) {
        parts.headers.remove(&name);
    }
    if let Some(extras) = &course.plan.extras {
        mutate(&mut parts.headers, &extras.headers)?;
    }
    if !spec.path_prefix.is_empty() || parts.uri.authority().is_some() {
        parts.uri = upstream_uri(&parts.uri, &spec.path_prefix).ok_or(Rejection::Internal)?;
    }
    let host = match &spec.host {
        HostRule::Fixed(host) => host.as_str(),
        HostRule::Endpoint => course.authority().unwrap_or_default(),
    };
    set(&mut parts.headers, HOST, host)?;
    parts.headers.insert(CONTENT_LENGTH, course.body.len().into());
    // Usage is read on the way by, and chunks pass as they come: both need them uncompressed.
    if parts.headers.contains_key(ACCEPT_ENCODING) {
        parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    set(&mut parts.headers, X_REQUEST_ID, &exchange.record.request_id)?;
    authorize(&mut parts.headers, spec)?;
    *request = parts.into();
    if let Some(raw_path) = raw_path.filter(|_| spec.path_prefix.is_empty()) {
        request.set_raw_path(&raw_path).map_err(|_invalid| Rejection::Internal)?;
    }
    Ok(())
}

/// Makes a request of our own for an upstream, as [`dress`] makes a client's.
pub(super) fn fresh(
    spec: &PoolSpec,
    authority: &str,
    path: &str,
    length: usize,
    request_id: &str,
) -> Result<RequestHeader, Rejection> {
    let path = format!("{}{path}", spec.path_prefix);
    let request = http::Request::post(path).body(()).map_err(|_invalid| Rejection::Internal)?;
    let mut parts = request.into_parts().0;
    let host = match &spec.host {
        HostRule::Fixed(host) => host.as_str(),
        HostRule::Endpoint => authority,
    };
    set(&mut parts.headers, HOST, host)?;
    set(&mut parts.headers, CONTENT_TYPE, "application/json")?;
    parts.headers.insert(CONTENT_LENGTH, length.into());
    set(&mut parts.headers, X_REQUEST_ID, request_id)?;
    authorize(&mut parts.headers, spec)?;
    Ok(parts.into())
}

/// Sets a header in the place of all that have its name.
fn set(headers: &mut HeaderMap, name: HeaderName, value: impl AsRef<[u8]>) -> Result<(), Rejection> {
    let value = HeaderValue::from_bytes(value.as_ref()).map_err(|_invalid| Rejection::Internal)?;
    headers.insert(name, value);
    Ok(())
}

/// Adds the pool's credential.
fn authorize(headers: &mut HeaderMap, spec: &PoolSpec) -> Result<(), Rejection> {
    if let Some(credential) = &spec.credential {
        let name = HeaderName::from_bytes(credential.header.as_bytes()).unwrap_or(AUTHORIZATION);
        set(headers, name, credential.value.expose())?;
    }
    Ok(())
}

/// Changes headers as a decision's plugins say.
fn mutate(headers: &mut HeaderMap, changes: &HeaderChanges) -> Result<(), Rejection> {
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

/// The headers by which a request pretends to be decided, or an upstream's answer to be ours.
pub(super) fn forged(headers: &HeaderMap) -> Vec<HeaderName> {
    named(headers, is_steering)
}

/// The names that are wanted; no heap for the usual none.
fn named(headers: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) -> Vec<HeaderName> {
    headers.keys().filter(|name| wanted(name)).cloned().collect()
}

/// Tells whether a request's header ends here: it steers, is the client's secret, or concerns this one hop.
fn stays_here(name: &HeaderName, forward_authorization: bool) -> bool {
    is_steering(name)
        || ends_with_the_hop(name)
        || (!forward_authorization && CLIENT_CREDENTIALS.contains(&name.as_str()))
}

/// Tells whether a request's header concerns one connection (RFC 9110, 7.6.1), or frames what is framed anew.
fn ends_with_the_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION
            | EXPECT
            | PROXY_AUTHENTICATE
            | PROXY_AUTHORIZATION
            | TE
            | TRAILER
            | TRANSFER_ENCODING
            | UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Tells whether a header is one that only this gateway may set.
fn is_steering(name: &HeaderName) -> bool {
    let Some(name) = name.as_str().strip_prefix("x-") else { return false };
    name.starts_with("vsr-")
        || name.starts_with("gateway-")
        || name.starts_with("signalbox-")
        || name == "selected-model"
}

/// The path to ask for: origin form, since an absolute one would reach the upstream as it came.
fn upstream_uri(asked: &Uri, prefix: &str) -> Option<Uri> {
    let path = asked.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if prefix.is_empty() { path.parse().ok() } else { format!("{prefix}{path}").parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_request_target_never_names_the_upstream() {
        let asked: Uri = "http://evil.example/v1/chat/completions?x=1".parse().unwrap();
        assert_eq!(upstream_uri(&asked, "").unwrap().to_string(), "/v1/chat/completions?x=1");
        assert_eq!(upstream_uri(&asked, "/openai").unwrap().to_string(), "/openai/v1/chat/completions?x=1");
    }

    #[test]
    fn steering_headers_are_known_by_name() {
        for name in ["x-vsr-selected-model", "x-selected-model", "x-gateway-destination-endpoint"] {
            assert!(is_steering(&HeaderName::from_static(name)), "{name}");
        }
        assert!(!is_steering(&HeaderName::from_static("x-session-id")));
    }
}
