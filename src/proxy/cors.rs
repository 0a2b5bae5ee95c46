//! Owns what browsers are told of who may ask, and read answers (the Fetch standard's CORS protocol).
//!
//! Lets nobody in by itself: a page sends a key as all clients do.

use crate::policy::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

/// What a page may read of an answer's header beside what every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "request-id, x-request-id, retry-after, retry-after-ms, x-vsr-selected-model, x-vsr-selected-decision",
);

/// All that browsers are told of what pages may.
const TOLD: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// The longest list of headers that a page may ask for, in bytes.
const MAX_HEADERS: usize = 4 << 10;

/// The origin of a page that may ask.
pub(super) fn allowed_origin(cors: &Cors, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    cors.allows(origin.to_str().ok()?).then(|| origin.clone())
}

/// Whether a browser asks whether it may ask.
pub(super) fn is_preflight(request: &RequestHeader) -> bool {
    request.method == Method::OPTIONS
        && request.headers.contains_key(ORIGIN)
        && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Says who may read an answer, in place of what its upstream says of that.
pub(super) fn mark(headers: &mut HeaderMap, origin: &HeaderValue) {
    for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS] {
        headers.remove(name);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// Says what a page may as its route has it, in place of what the upstream says of that.
pub(super) fn tell(headers: &mut HeaderMap, told: &[(&'static str, String)]) {
    for name in TOLD {
        headers.remove(name);
    }
    for (name, value) in told {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(*name, value);
        }
    }
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// The answer to a browser that asks whether it may ask; one whose page may not is told nothing.
pub(super) fn preflight_header(
    request: &RequestHeader,
    is_allowed: bool,
    cors: &Cors,
) -> pingora::Result<ResponseHeader> {
    let mut header = ResponseHeader::build(StatusCode::NO_CONTENT, Some(8))?;
    if is_allowed {
        header.insert_header(ACCESS_CONTROL_ALLOW_METHODS, METHODS)?;
        header.insert_header(ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs().to_string())?;
        let asked = request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(asked) = asked.filter(|asked| asked.len() <= MAX_HEADERS) {
            header.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone())?;
        }
    }
    Ok(header)
}
