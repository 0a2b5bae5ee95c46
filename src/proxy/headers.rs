//! Owns which headers pass, a client's on their way to an upstream and an upstream's on their way to a client, and what
//! of a query does.
//!
//! Changes no value, and knows nothing of where a request goes but what its pool's policy says.

use super::load_report::LOAD_REPORT_FORMAT;
use crate::policy::{Identity, PoolSpec};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE,
    EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SERVER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT,
};
use http::{HeaderMap, HeaderName, Uri};
use std::borrow::Cow;

/// Names the data-parallel rank of an engine that a request is for; vLLM goes by it.
pub(super) const DATA_PARALLEL_RANK: HeaderName = HeaderName::from_static("x-data-parallel-rank");

/// The request's id, on the way to the upstream and back to the client.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the two ends of a WebSocket may speak over it.
pub(super) const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");

/// The headers by which a client shows who it is.
pub(super) const KEY_HEADERS: [&str; 2] = ["x-api-key", "api-key"];

/// What a pool that has a credential of its own gets of a client's headers: content negotiation, the client's name and
/// trace, and which version of an API it speaks. All else could pick another account, project or route with our key.
const ALLOWED_WITH_CREDENTIAL: [&str; 19] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "anthropic-beta",
    "anthropic-version",
    "api-version",
    "b3",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "openai-beta",
    "openai-version",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-request-id",
];

/// The same, by how the names begin.
const ALLOWED_PREFIXES: [&str; 3] = ["x-stainless-", "x-b3-", "sec-websocket-"];

/// Headers with which a client could force a decision, here or in a proxy or engine behind, and an upstream fake one; by
/// how they begin after `x-`.
const STEERING: [&str; 11] = [
    "vsr-",
    "gateway-",
    "signalbox-",
    "selected-model",
    "data-parallel-",
    "prefiller-",
    "envoy-",
    "smg-",
    "upstream-request-id",
    "llm-d-",
    "slo-",
];

/// Words in the name of a header that carries something secret.
const SECRET_WORDS: [&str; 12] = [
    "apikey",
    "assertion",
    "auth",
    "authentication",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "password",
    "secret",
    "token",
];

/// Headers that pick an account or a project together with the key beside them.
const ACCOUNT: [&str; 5] = [
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "cf-access-client-id",
    "helicone-user-id",
];

/// Headers of an upstream that are about its own host and account, its load, or its connection.
const ENDS_HERE: [&str; 16] = [
    "alt-svc",
    "anthropic-organization-id",
    "anthropic-workspace-id",
    "clear-site-data",
    "endpoint-load-metrics",
    "endpoint-load-metrics-bin",
    "expect-ct",
    "nel",
    "openai-organization",
    "openai-project",
    "public-key-pins",
    "report-to",
    "reporting-endpoints",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
];

/// What describes a body byte for byte, and is wrong once a stage may change it.
pub(super) const OF_THE_BODY: [&str; 6] =
    ["accept-ranges", "content-digest", "content-md5", "digest", "etag", "repr-digest"];

/// Which headers of an upstream's answer hold its id of the request, in order.
const UPSTREAM_IDS: [&str; 5] =
    ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "x-ms-request-id"];

/// How many layers of percent-encoding are undone.
const MAX_LAYERS: usize = 3;

/// The longest request id taken over.
const MAX_ID: usize = 128;

/// The matching names; allocates nothing for the usual none.
pub(super) fn names_of(headers: &HeaderMap, matches: impl Fn(&HeaderName) -> bool) -> Vec<HeaderName> {
    headers.keys().filter(|name| matches(name)).cloned().collect()
}

/// Whether a pool gets this header of a client's request.
pub(super) fn is_forwarded(name: &HeaderName, spec: &PoolSpec, identity: &Identity) -> bool {
    let is_own = [&identity.headers.user, &identity.headers.groups, &identity.headers.tenant]
        .into_iter()
        .any(|known| known == name.as_str());
    if !is_own && is_common(name) {
        return true;
    }
    let dashed = dashed(name);
    // Whether an engine reports its load is the gateway's to ask.
    let asks_for_load = *dashed == *LOAD_REPORT_FORMAT.as_str();
    if is_own
        || asks_for_load
        || dashed.starts_with("x-authz-")
        || is_steering(&dashed)
        || is_hop_by_hop(name)
    {
        return false;
    }
    if is_secret(&dashed) || ACCOUNT.contains(&&*dashed) {
        return spec.forward_authorization;
    }
    spec.credential.is_none()
        || ALLOWED_WITH_CREDENTIAL.contains(&name.as_str())
        || ALLOWED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// Whether what answers no models gets this header of a client's request: all that is not of the connection but for its
/// framing, steers nothing, and shows no key that is meant for the gateway.
pub(super) fn is_forwarded_plainly(name: &HeaderName, identity: &Identity) -> bool {
    let is_own = [&identity.headers.user, &identity.headers.groups, &identity.headers.tenant]
        .into_iter()
        .any(|known| known == name.as_str());
    let dashed = dashed(name);
    let is_of_connection = is_hop_by_hop(name) && *name != TRANSFER_ENCODING;
    let is_key = identity.is_used() && is_secret(&dashed);
    !(is_own || is_of_connection || is_key || is_steering(&dashed) || dashed.starts_with("x-authz-"))
}

/// The headers that nearly every request has, which every pool gets: told apart by a number, where all other names are
/// compared with lists of words.
fn is_common(name: &HeaderName) -> bool {
    matches!(*name, HOST | ACCEPT | ACCEPT_ENCODING | USER_AGENT | CONTENT_TYPE | CONTENT_LENGTH)
}

/// What a client says of itself, of its connection and of its trace: two requests that differ in nothing else ask the
/// same.
const IMMATERIAL: [&str; 22] = [
    "accept",
    "accept-encoding",
    "b3",
    "cache-control",
    "content-length",
    "content-type",
    "dnt",
    "forwarded",
    "host",
    "idempotency-key",
    "origin",
    "pragma",
    "priority",
    "referer",
    "traceparent",
    "tracestate",
    "user-agent",
    "via",
    "x-client-request-id",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
];

/// The same, by how the names begin.
const IMMATERIAL_PREFIXES: [&str; 4] = ["sec-", "x-b3-", "x-forwarded-", "x-stainless-"];

/// Whether a header that reaches an upstream may change the answer.
pub(super) fn is_material(name: &HeaderName) -> bool {
    let name = name.as_str();
    !IMMATERIAL.contains(&name) && !IMMATERIAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The names of an answer's headers, interim or final, that end here.
pub(super) fn ending_here(headers: &HeaderMap) -> Vec<HeaderName> {
    let nominated = nominated(headers);
    names_of(headers, |name| {
        if nominated.is_empty() && (is_common(name) || matches!(*name, DATE | SERVER | CACHE_CONTROL)) {
            return false;
        }
        ends_with_connection(name, &nominated)
            || ENDS_HERE.contains(&name.as_str())
            || is_steering(&dashed(name))
    })
}

/// The same for an answer that no model gave: what it says of its own host is for the client.
pub(super) fn ending_plainly(headers: &HeaderMap) -> Vec<HeaderName> {
    let nominated = nominated(headers);
    names_of(headers, |name| ends_with_connection(name, &nominated) || is_steering(&dashed(name)))
}

/// The headers that a message's `Connection` header names.
fn nominated(headers: &HeaderMap) -> Vec<String> {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

fn ends_with_connection(name: &HeaderName, nominated: &[String]) -> bool {
    // The framing is made anew by whoever writes the answer.
    let is_hop = is_hop_by_hop(name) && *name != TRANSFER_ENCODING;
    is_hop || (nominated.iter().any(|other| other == name.as_str()) && !is_framing(name))
}

/// A request target whose query does not have the keys that a client shows there; nothing where it can stay as it is.
pub(super) fn without_keys(uri: &Uri, spec: &PoolSpec) -> Option<Uri> {
    let query = uri.query().filter(|_| !spec.forward_authorization)?;
    // Some servers take `;` for a separator too.
    let is_key = |pair: &&str| pair.split(';').any(names_key);
    query.split('&').find(is_key)?;
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", uri.path(), kept.join("&")).parse().ok()
}

/// Whether a part of a query names a key, however that is written: `api_key`, `API.Key`, `api%5Fkey`, `key[0]`.
fn names_key(part: &str) -> bool {
    let name = decoded(part.split('=').next().unwrap_or_default());
    let name = name.split('[').next().unwrap_or_default().trim();
    let dashed = name.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
    dashed == "key" || is_secret(&dashed)
}

/// A name as servers read it in a query: without percent-encoding, of which they undo one layer, or two where another
/// server stands before them, and with a space for `+`.
fn decoded(name: &str) -> String {
    let mut name = name.replace('+', " ");
    for _layer in 0..MAX_LAYERS {
        if !name.contains('%') {
            break;
        }
        name = percent_decoded(&name);
    }
    name
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (first, digit(0), digit(1)) {
            bytes.push((high * 16 + low) as u8);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A request id that a header and a log line can carry.
pub(super) fn sane_id(value: &http::HeaderValue) -> Option<&str> {
    let is_sane =
        |id: &&str| !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    value.to_str().ok().filter(is_sane)
}

/// The id that an upstream has given the request.
pub(super) fn upstream_id(headers: &HeaderMap) -> Option<&str> {
    // One pass over the few headers there are costs less than a look-up for each name.
    let ids = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str();
        let rank = UPSTREAM_IDS.iter().position(|known| *known == name)?;
        Some((rank, sane_id(value)?))
    });
    ids.min_by_key(|(rank, _)| *rank).map(|(_, id)| id)
}

/// The name with dashes alone: many servers take `X_API_KEY` for `X-API-Key`.
fn dashed(name: &HeaderName) -> Cow<'_, str> {
    let name = name.as_str();
    if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) }
}

fn is_steering(dashed: &str) -> bool {
    let Some(name) = dashed.strip_prefix("x-") else { return false };
    // Most names begin like none of these.
    let first = name.as_bytes().first();
    matches!(first, Some(b'v' | b'g' | b's' | b'd' | b'p' | b'e' | b'u' | b'l'))
        && STEERING.iter().any(|start| name.starts_with(start))
}

/// Whether a header may carry a key, as its name says.
pub(super) fn is_credential(name: &HeaderName) -> bool {
    is_secret(&dashed(name))
}

fn is_secret(dashed: &str) -> bool {
    // That of a WebSocket is a number which the server is to answer.
    let is_key =
        dashed.ends_with("-key") && !dashed.ends_with("idempotency-key") && dashed != "sec-websocket-key";
    is_key || dashed.split('-').any(|word| SECRET_WORDS.contains(&word))
}

/// Whether a header says where the body ends, whatever a `Connection` header names.
fn is_framing(name: &HeaderName) -> bool {
    matches!(name.as_str(), "transfer-encoding" | "content-length" | "content-type" | "content-encoding")
}

/// Whether an endpoint picker may set or remove this header of a request or an answer: not what frames the message, where
/// it goes or how it is encoded.
pub(super) fn may_be_set(name: &HeaderName) -> bool {
    !is_hop_by_hop(name)
        && !matches!(*name, HOST | CONTENT_LENGTH | CONTENT_ENCODING | ACCEPT_ENCODING)
        && !name.as_str().starts_with("x-envoy")
        && name.as_str() != "x-gateway-destination-endpoint"
}

/// Whether a header concerns one connection (RFC 9110, 7.6.1) or its framing, which is made anew.
fn is_hop_by_hop(name: &HeaderName) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steering_headers_are_known_by_name_however_they_are_joined() {
        for name in [
            "x-vsr-selected-model",
            "x-selected-model",
            "x_selected_model",
            "x-gateway_destination-endpoint",
            "x-data-parallel-rank",
            "x_data_parallel_rank",
        ] {
            assert!(is_steering(&dashed(&HeaderName::from_static(name))), "{name}");
        }
        assert!(!is_steering("x-session-id"));
        for start in STEERING {
            assert!(is_steering(&format!("x-{start}")), "{start}");
        }
    }

    #[test]
    fn keys_in_a_query_are_known_however_their_names_are_encoded() {
        for part in [
            "key=a",
            "%6bey=a",
            "%4B%45%59",
            "%256bey",
            "api%5Fkey=",
            "api%2dkey",
            "access+token=a",
            "auth%2Etoken",
            "api_key%5B0%5D=a",
        ] {
            assert!(names_key(part), "{part}");
        }
        for part in ["", "=key", "monkey=1", "api-version=key", "%6be", "key%3D=1"] {
            assert!(!names_key(part), "{part}");
        }
        assert_eq!((decoded("a%zz%4"), decoded("%ff")), ("a%zz%4".to_owned(), "\u{fffd}".to_owned()));
    }

    #[test]
    fn the_first_of_the_names_that_upstreams_use_has_the_id() {
        let headers = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            fields
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_static(value)))
                .collect()
        };
        let both = headers(&[("x-ms-request-id", "a"), ("date", "b"), ("request-id", "c")]);
        assert_eq!(upstream_id(&both), Some("c"));
        assert_eq!(upstream_id(&headers(&[("request-id", "no id"), ("apim-request-id", "d")])), Some("d"));
        assert_eq!(upstream_id(&headers(&[("content-type", "e")])), None);
    }

    #[test]
    fn secrets_are_known_by_the_words_in_their_names() {
        for name in [
            "authorization",
            "x-api-key",
            "x-goog-api-key",
            "helicone-auth",
            "x-amz-security-token",
            "cf-access-client-secret",
            "ocp-apim-subscription-key",
            "x-litellm-api-key",
            "cookie",
            "x-auth-token",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["idempotency-key", "x-kept", "x-max-tokens", "author", "x-session-id"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
