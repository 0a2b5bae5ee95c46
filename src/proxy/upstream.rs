//! Owns the connection to an upstream: its parameters, its TLS material and the headers of its requests.
//!
//! Chooses nothing: the pool and the endpoint were picked before.

use super::attempt::{AttemptLimits, Attempts};
use super::exchange::{BegunAttempt, Exchange};
use super::header_changes::{apply_changes, change_request, rewritten, rewritten_host, set};
use super::headers::{DATA_PARALLEL_RANK, X_REQUEST_ID, is_credential, is_forwarded, names_of, without_keys};
use super::load_report::{JSON, LOAD_REPORT_FORMAT};
use super::routing::asked_host;
use super::upgrade_request::{path_segment, prepare_upgrade, with_model};
use crate::balance::Endpoint;
use crate::openai::{Api, Rejection};
use crate::policy::{Alpn, ClientCert, HostRule, Identity, PoolApi, PoolSpec, Transport};
use crate::snapshot::Snapshot;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
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
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Streams that share one HTTP/2 connection to an upstream.
const H2_STREAMS: usize = 100;

/// Where Anthropic's clients show their key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// How long an idle connection to an upstream is kept.
pub(super) const KEEP_IDLE: Duration = Duration::from_secs(60);

/// How long an upstream may take no byte of a request over HTTP/2, beside what sending it takes at a mebibyte a second.
///
/// While it takes none, nothing is seen but the client's leaving.
const STALL: Duration = Duration::from_secs(5);

/// A header of up to so many bytes is taken by a socket whatever its peer does: nothing else waits there.
const SHORT_HEADER: usize = 4 << 10;

/// Certificates and keys of upstreams, parsed once for each content.
#[derive(Default)]
pub(super) struct UpstreamTls {
    /// By the hash of the pool's transport; cleared when it is full.
    parsed: RwLock<HashMap<u64, TlsMaterial>>,
}

#[derive(Clone, Default)]
struct TlsMaterial {
    ca: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
}

impl UpstreamTls {
    /// The most transports remembered; a policy has far fewer pools.
    const LIMIT: usize = 4096;

    /// The peer for one attempt.
    pub(super) fn peer(&self, spec: &PoolSpec, endpoint: &Endpoint) -> HttpPeer {
        let address = endpoint.addr();
        let mut peer = match &spec.transport {
            Transport::Plain { .. } => HttpPeer::new(address, false, String::new()),
            Transport::Tls { server_name, .. } => HttpPeer::new(address, true, server_name.clone()),
        };
        let options = &mut peer.options;
        options.connection_timeout = Some(spec.timeouts.connect);
        options.total_connection_timeout = Some(spec.timeouts.connect);
        options.idle_timeout = Some(KEEP_IDLE);
        options.max_h2_streams = H2_STREAMS;
        options.h2_ping_interval = Some(spec.timeouts.ping);
        match &spec.transport {
            Transport::Plain { h2c } if h2c.unwrap_or(endpoint.speaks_h2c()) => {
                options.set_http_version(2, 2);
            }
            Transport::Plain { .. } => options.set_http_version(1, 1),
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
                // Pingora pools connections by address and server name; this keeps those with other certificates apart.
                peer.group_key = key;
            }
        }
        peer
    }

    fn material(&self, key: u64, ca: Option<&[u8]>, client: Option<&ClientCert>) -> TlsMaterial {
        if ca.is_none() && client.is_none() {
            return TlsMaterial::default();
        }
        if let Some(known) = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let material = TlsMaterial {
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

/// Has Pingora connect for one attempt: within its limits, over a connection that it may use.
pub(super) fn connect_as(peer: &mut HttpPeer, attempt: &BegunAttempt<'_>, headers: &HeaderMap) {
    use_connections_of(peer, attempt.mark.connections);
    limit_waits(peer, attempt.limits, attempt.header_bytes);
    keep_headers_in_place(peer, headers);
    if let Some(hedge) = attempt.hedge {
        hedge.install(peer);
    }
    if attempt.is_reconnect || attempt.hedge.is_some() {
        avoid_pooled_connections(peer);
    }
}

/// Has Pingora open a new connection, since other pooled ones may be stale too; the new one is not pooled either.
pub(super) fn avoid_pooled_connections(peer: &mut HttpPeer) {
    // Pooled connections are found by a hash over this key.
    peer.group_key ^= rand::random::<u64>() | 1;
    peer.options.idle_timeout = Some(Duration::ZERO);
}

/// Keeps a connection pooled apart from those of another count.
pub(super) fn use_connections_of(peer: &mut HttpPeer, count: u64) {
    peer.group_key ^= count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
}

/// Whether the connection may turn out to be HTTP/2.
pub(super) fn may_be_h2(peer: &HttpPeer) -> bool {
    peer.options.alpn.get_max_http_version() == 2
}

/// Bounds what Pingora itself waits for, where nothing else is seen meanwhile.
fn limit_waits(peer: &mut HttpPeer, limits: AttemptLimits, header_bytes: usize) {
    let AttemptLimits { rest, first_byte, idle, body_len } = limits;
    let is_h2 = may_be_h2(peer);
    let options = &mut peer.options;
    for timeout in [&mut options.connection_timeout, &mut options.total_connection_timeout] {
        *timeout = timeout.map(|timeout| timeout.min(rest));
    }
    // Over HTTP/1.1 the whole body is one write, beside which the client and the deadline are watched; before it the header
    // is written, which a socket takes at once unless it is long. A timeout costs each write something, used or not.
    options.write_timeout = (header_bytes > SHORT_HEADER).then_some(rest);
    if is_h2 {
        let sending = Duration::from_micros(body_len as u64);
        options.write_timeout = Some((STALL + sending).min(first_byte).min(rest));
        // The wait for an answer's header goes on while the body is sent; its end ends that too. Once the body is sent
        // the deadline comes first.
        options.read_timeout = Some((first_byte.max(idle) + Duration::from_secs(1)).min(rest));
    }
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

/// Has Pingora skip its own pass over the hop-by-hop headers, which [`prepare_request`] removes anyway, unless the
/// request's `Connection` header names others.
pub(super) fn keep_headers_in_place(peer: &mut HttpPeer, headers: &HeaderMap) {
    let names_none = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
    };
    if headers.get_all(CONNECTION).iter().all(names_none) {
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    }
}

/// Where a request goes, and how long its body is.
#[derive(Clone, Copy)]
pub(super) struct UpstreamTarget<'a> {
    pub(super) spec: &'a PoolSpec,
    /// The endpoint's host and port, as the policy writes them.
    pub(super) authority: &'a str,
    pub(super) length: usize,
    /// The data-parallel rank that it is to go to, where it matters which.
    pub(super) rank: Option<u16>,
}

/// Turns the client's request into that of the current attempt.
pub(super) fn prepare_request(request: &mut RequestHeader, exchange: &Exchange) -> Result<(), Rejection> {
    let attempts = exchange.attempts.as_ref().ok_or(Rejection::Internal)?;
    let target = UpstreamTarget {
        spec: attempts.spec(&exchange.live),
        authority: attempts.authority().unwrap_or_default(),
        length: attempts.body().len(),
        rank: attempts.rank(),
    };
    prepare_for(request, exchange, target)?;
    if attempts.hedge().is_some() {
        // A connection that may have turned to another endpoint serves no second request.
        request.insert_header(CONNECTION, "close").map_err(|_invalid| Rejection::Internal)?;
    }
    if exchange.asks_for_load() {
        request.insert_header(LOAD_REPORT_FORMAT, JSON).map_err(|_invalid| Rejection::Internal)?;
    }
    Ok(())
}

/// Turns the client's request into an upstream's: its host, path and credential, without steering headers.
///
/// Goes through `http::request::Parts`: that drops Pingora's second map of header names in their original case. Names
/// go out in lower case, the commonest ones excepted.
pub(super) fn prepare_for(
    request: &mut RequestHeader,
    exchange: &Exchange,
    UpstreamTarget { spec, authority, length, rank }: UpstreamTarget<'_>,
) -> Result<(), Rejection> {
    let attempts = exchange.attempts.as_ref().ok_or(Rejection::Internal)?;
    let identity = &exchange.live.policy.identity;
    let raw_path = (!request.raw_path_is_utf8()).then(|| request.raw_path().to_vec());
    let blank = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = Parts::from(std::mem::replace(request, blank));
    keep_forwarded(&mut parts.headers, attempts, spec, identity)?;
    if let Some(answer) = attempts.picker_answer() {
        for name in &answer.changes.remove {
            parts.headers.remove(name);
        }
        parts.headers.extend(answer.changes.set.iter().cloned());
    }
    let public = without_keys(&parts.uri, spec);
    let trimmed = (!attempts.request.api.is_unread())
        .then(|| without_slashes(public.as_ref().unwrap_or(&parts.uri)))
        .flatten();
    let public = trimmed.or(public);
    let translation = attempts.translation(&exchange.live);
    let model = attempts.target().upstream_model(&exchange.live.policy);
    let via = attempts.target().via.as_deref();
    let rerouted = via.and_then(|via| rewritten(public.as_ref().unwrap_or(&parts.uri), via));
    let public = rerouted.or(public);
    let keeps_path = public.is_none() && translation.is_none() && is_plain(&spec.api);
    let raw_path = raw_path.filter(|_| keeps_path);
    let asked = via.and_then(|_| asked_host(&parts));
    parts.uri = public.unwrap_or(parts.uri);
    if let Some(translation) = translation {
        parts.uri = Uri::from_static(translation.upstream().path());
        translate_headers(&mut parts.headers, translation.upstream());
    }
    if !is_plain(&spec.api) || parts.uri.authority().is_some() {
        parts.uri = upstream_uri(&parts.uri, &spec.api, model).ok_or(Rejection::Internal)?;
    }
    let host = match &spec.host {
        HostRule::Fixed(host) => host.as_str(),
        // What a route leads to knows the host that its clients ask for.
        HostRule::Endpoint => asked.as_deref().unwrap_or(authority),
    };
    set(&mut parts.headers, HOST, via.and_then(rewritten_host).unwrap_or(host))?;
    parts.headers.insert(CONTENT_LENGTH, length.into());
    // What was compressed was read, and goes on plain.
    parts.headers.remove(CONTENT_ENCODING);
    // Guards and usage are read from the chunks as they pass, which needs them uncompressed; a server may compress for
    // a client that names no encoding.
    parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    set(&mut parts.headers, X_REQUEST_ID, exchange.record.own_id())?;
    if let Some(rank) = rank {
        parts.headers.insert(DATA_PARALLEL_RANK, rank.into());
    }
    authorize(&mut parts.headers, spec)?;
    if let Some(via) = via {
        change_request(&mut parts.headers, via)?;
    }
    if exchange.answer.tunnel.is_some() {
        prepare_upgrade(&mut parts.headers, spec.forward_authorization);
        parts.uri = with_model(&parts.uri, model).unwrap_or(parts.uri);
    }
    *request = parts.into();
    if let Some(raw_path) = raw_path {
        request.set_raw_path(&raw_path).map_err(|_invalid| Rejection::Internal)?;
    }
    Ok(())
}

/// Leaves those of a client's headers that a pool gets, as the decision's plugins change them.
fn keep_forwarded(
    headers: &mut HeaderMap,
    attempts: &Attempts,
    spec: &PoolSpec,
    identity: &Identity,
) -> Result<(), Rejection> {
    for name in names_of(headers, |name| !is_forwarded(name, spec, identity)) {
        headers.remove(&name);
    }
    match &attempts.request.plan.effects {
        Some(effects) => apply_changes(headers, &effects.headers),
        None => Ok(()),
    }
}

/// Makes the headers those of the upstream's API: the key where all take it, and the version that requests are written for.
fn translate_headers(headers: &mut HeaderMap, upstream: Api) {
    for name in ["anthropic-version", "anthropic-beta"] {
        headers.remove(name);
    }
    let key = headers.remove(X_API_KEY).filter(|_| !headers.contains_key(AUTHORIZATION));
    let bearer = key.and_then(|key| HeaderValue::from_bytes(&[b"Bearer ", key.as_bytes()].concat()).ok());
    if let Some(mut bearer) = bearer {
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    if upstream == Api::Messages {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// The headers that the external picker of the current attempt's pool sees: those that its endpoints get, but for the
/// pool's credential.
pub(super) fn picker_headers(
    client: &HeaderMap,
    attempts: &Attempts,
    live: &Snapshot,
    request_id: &str,
) -> Result<HeaderMap, Rejection> {
    let mut headers = client.clone();
    keep_forwarded(&mut headers, attempts, attempts.spec(live), &live.policy.identity)?;
    for name in names_of(&headers, is_credential) {
        headers.remove(&name);
    }
    headers.insert(CONTENT_LENGTH, attempts.body().len().into());
    set(&mut headers, X_REQUEST_ID, request_id)?;
    Ok(headers)
}

/// Builds the request of a shadow copy, which has no client's header to start from.
pub(super) fn new_request(
    spec: &PoolSpec,
    authority: &str,
    path: &str,
    length: usize,
    request_id: &str,
) -> Result<RequestHeader, Rejection> {
    let request = http::Request::post(path).body(()).map_err(|_invalid| Rejection::Internal)?;
    let mut parts = request.into_parts().0;
    let host = match &spec.host {
        HostRule::Fixed(host) => host.as_str(),
        HostRule::Endpoint => authority,
    };
    set(&mut parts.headers, HOST, host)?;
    set(&mut parts.headers, CONTENT_TYPE, "application/json")?;
    parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    parts.headers.insert(CONTENT_LENGTH, length.into());
    set(&mut parts.headers, X_REQUEST_ID, request_id)?;
    authorize(&mut parts.headers, spec)?;
    Ok(parts.into())
}

fn authorize(headers: &mut HeaderMap, spec: &PoolSpec) -> Result<(), Rejection> {
    if let Some(credential) = &spec.credential {
        let name = HeaderName::from_bytes(credential.header.as_bytes()).unwrap_or(AUTHORIZATION);
        set(headers, name, credential.value.expose())?;
    }
    Ok(())
}

/// When an upstream wants to be asked again: in whole seconds, or in milliseconds as OpenAI and Azure say it too.
///
/// A date is not read: it goes by a clock that may not be ours.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let millis = number("retry-after-ms").map(Duration::from_millis);
    millis.or_else(|| number("retry-after").map(Duration::from_secs))
}

/// The upstream's request target, in origin form: Pingora would send an absolute one as it came.
fn upstream_uri(uri: &Uri, api: &PoolApi, model: &str) -> Option<Uri> {
    upstream_path(uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str), api, model).parse().ok()
}

/// The path without slashes at its end, which engines redirect or do not know; nothing where it has none.
fn without_slashes(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{trimmed}{query}").parse().ok()
}

/// Whether a pool's paths are the clients'.
fn is_plain(api: &PoolApi) -> bool {
    api.path_prefix.is_empty() && api.base_path.is_none() && api.api_version.is_none()
}

/// A path and its query as a pool has them, for the name that the pool knows the model by.
pub(super) fn upstream_path(path: &str, api: &PoolApi, model: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut written = match &api.base_path {
        Some(base) => {
            let below = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
            format!("{}{below}", base.replace("{model}", &path_segment(model)))
        }
        None => format!("{}{path}", api.path_prefix),
    };
    let is_own = |pair: &&str| api.api_version.is_none() || !pair.starts_with("api-version=");
    let kept = query.into_iter().flat_map(|query| query.split('&')).filter(is_own);
    let version = api.api_version.iter().map(|version| format!("api-version={version}"));
    let pairs: Vec<String> = kept.map(str::to_owned).chain(version).collect();
    if !pairs.is_empty() {
        written.push('?');
        written.push_str(&pairs.join("&"));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_request_target_never_names_the_upstream() {
        let uri: Uri = "http://evil.example/v1/chat/completions?x=1".parse().unwrap();
        let at = |api: &PoolApi| upstream_uri(&uri, api, "m").unwrap().to_string();
        assert_eq!(at(&api("", None, None)), "/v1/chat/completions?x=1");
        assert_eq!(at(&api("/openai", None, None)), "/openai/v1/chat/completions?x=1");
    }

    fn api(prefix: &str, base: Option<&str>, version: Option<&str>) -> PoolApi {
        PoolApi {
            path_prefix: prefix.to_owned(),
            base_path: base.map(str::to_owned),
            api_version: version.map(str::to_owned),
            serves: Vec::new(),
            speaks: vec![crate::policy::SpokenApi::Chat],
            stream_usage: crate::policy::StreamUsageMode::Needed,
            provider: crate::policy::Provider::Other,
        }
    }

    #[test]
    fn providers_have_paths_of_their_own() {
        let azure = api("", Some("/openai/deployments/{model}"), Some("2024-10-21"));
        let path = "/v1/chat/completions?api-version=old&x=1";
        assert_eq!(
            upstream_path(path, &azure, "gpt 4/o"),
            "/openai/deployments/gpt%204%2Fo/chat/completions?x=1&api-version=2024-10-21"
        );
        let gemini = api("", Some("/v1beta/openai"), None);
        assert_eq!(upstream_path("/v1/embeddings", &gemini, "m"), "/v1beta/openai/embeddings");
        assert_eq!(upstream_path("/v2/rerank", &gemini, "m"), "/v1beta/openai/v2/rerank");
        assert_eq!(upstream_path("/v1/embeddings?a=b&c", &api("", None, None), "m"), "/v1/embeddings?a=b&c");
    }
}
