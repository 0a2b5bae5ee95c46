//! Owns what a request for a WebSocket has beside that of others: the headers of its handshake, the keys that pages show in
//! them, and the model in its query.
//!
//! Decides nothing.

use super::headers::WEBSOCKET_PROTOCOL;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, HeaderValue, Uri};
use std::fmt::Write as _;

/// Makes a request for a WebSocket the upstream's, once all other headers are.
pub(super) fn prepare_upgrade(headers: &mut HeaderMap, may_show_keys: bool) {
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_ENCODING);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if may_show_keys {
        return;
    }
    // Pages in browsers can set no other header than this one, and show their key there.
    let protocols = headers.get_all(WEBSOCKET_PROTOCOL);
    let protocols: Vec<&str> = protocols
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty() && !names_account(protocol))
        .collect();
    let kept = HeaderValue::from_str(&protocols.join(", ")).ok().filter(|kept| !kept.is_empty());
    headers.remove(WEBSOCKET_PROTOCOL);
    if let Some(kept) = kept {
        headers.insert(WEBSOCKET_PROTOCOL, kept);
    }
}

/// How OpenAI's pages show their key.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// A request target whose query names the model as the upstream does; nothing where it names none.
pub(super) fn with_model(uri: &Uri, model: &str) -> Option<Uri> {
    let query = uri.query()?;
    let names_model = |pair: &&str| pair.starts_with("model=") && pair.len() > "model=".len();
    query.split('&').find(names_model)?;
    let named = format!("model={}", path_segment(model));
    let pairs = query.split('&').map(|pair| if names_model(&pair) { &*named } else { pair });
    format!("{}?{}", uri.path(), pairs.collect::<Vec<_>>().join("&")).parse().ok()
}

fn names_account(protocol: &str) -> bool {
    [KEY_PROTOCOL, "openai-organization.", "openai-project."].iter().any(|start| protocol.starts_with(start))
}

/// The key that a page in a browser shows among its protocols.
pub(super) fn protocol_key(headers: &HeaderMap) -> Option<&str> {
    let protocols = headers.get_all(WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    protocols
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(KEY_PROTOCOL))
}

/// A name as one segment of a path.
pub(super) fn path_segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_among_the_protocols_is_read_and_goes_no_further() {
        let shown = "realtime, openai-insecure-api-key.sk-1,openai-organization.org, openai-beta.realtime-v1";
        let mut sent = headers(&[("sec-websocket-protocol", shown), ("content-length", "0")]);
        assert_eq!(protocol_key(&sent), Some("sk-1"));
        let mut kept = sent.clone();
        prepare_upgrade(&mut kept, true);
        assert_eq!(kept[WEBSOCKET_PROTOCOL], shown);
        prepare_upgrade(&mut sent, false);
        assert_eq!(sent[WEBSOCKET_PROTOCOL], "realtime, openai-beta.realtime-v1");
        assert!(!sent.contains_key("content-length"));
    }
}
