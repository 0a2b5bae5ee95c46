//! Owns a request as far as its rule goes by it. Refuses to know rules.

use http::{HeaderMap, HeaderName, Method};
use std::borrow::Cow;

/// The headers that name the model which was decided on: only the plan sets them, whatever a client sends.
///
/// vLLM Semantic Router's, the inference extension's body-based routing's, and Envoy AI Gateway's.
const MODEL_HEADERS: [&str; 4] =
    ["x-selected-model", "x-gateway-model-name", "x-gateway-base-model-name", "x-ai-eg-model"];

/// A request, as far as its rule goes by it.
#[derive(Clone, Copy)]
pub struct RouteQuery<'a> {
    /// The port that its client knows.
    pub port: u16,
    /// Its host, with or without the port.
    pub host: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its path, as it was sent.
    pub path: &'a str,
    /// Its query, as it was sent.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// What the plan says of its model; nothing where it has none.
    pub model: Option<ModelHeaders<'a>>,
}

/// What the headers say that name a model.
#[derive(Debug, Clone, Copy)]
pub struct ModelHeaders<'a> {
    /// The model that was decided on.
    pub selected: &'a str,
    /// What its upstream is asked for: the adapter, where one is.
    pub asked: &'a str,
}

impl RouteQuery<'_> {
    /// The value of a header, several joined as one; of those that name a model, what the plan says.
    pub(super) fn header(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        if is_model_header(name) {
            let model = self.model?;
            return Some(Cow::Borrowed(if name == "x-gateway-model-name" {
                model.asked
            } else {
                model.selected
            }));
        }
        let mut values = self.headers.get_all(name).iter().map(http::HeaderValue::to_str);
        let first = values.next()?.ok()?;
        let others: Vec<&str> = values.collect::<Result<_, _>>().ok()?;
        if others.is_empty() {
            return Some(Cow::Borrowed(first));
        }
        Some(Cow::Owned(std::iter::once(first).chain(others).collect::<Vec<_>>().join(",")))
    }

    /// The first value of a parameter of the query, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut decoded = pairs.map(|(key, value)| (decode(key), value));
        decoded.find(|(key, _)| key == name).map(|(_, value)| decode(value))
    }
}

/// Whether a header names the model that was decided on.
pub(super) fn is_model_header(name: &HeaderName) -> bool {
    MODEL_HEADERS.contains(&name.as_str())
}

/// Undoes percent-encoding, and `+` for a space; what is not encoded rightly stays as it is.
pub(super) fn decode(text: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        let escaped = if *byte == b'%' { hex(bytes.get(at)).zip(hex(bytes.get(at + 1))) } else { None };
        match escaped {
            Some((high, low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 2;
            }
            None if *byte == b'+' => decoded.push(b' '),
            None => decoded.push(*byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
