//! Owns reading a Secret's or a ConfigMap's data. Refuses to know what it is for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The value of a key of a Secret.
pub(super) fn decoded(secret: &Value, key: &str) -> Option<Vec<u8>> {
    if let Some(plain) = secret["stringData"][key].as_str() {
        // In manifests alone: the API gives `data`.
        return Some(plain.as_bytes().to_vec());
    }
    // Manifests may break its lines.
    let text: String = secret["data"][key].as_str()?.split_whitespace().collect();
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_is_decoded_and_nonsense_is_not() {
        let secret = json!({"data": {"a": "aGVs\nbG8=", "b": "aGk=", "c": "", "d": "a", "e": "??"}, "stringData": {"f": "x"}});
        let of = |key: &str| decoded(&secret, key).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(of("a").as_deref(), Some("hello"));
        assert_eq!(of("b").as_deref(), Some("hi"));
        assert_eq!(of("c").as_deref(), Some(""));
        assert_eq!(of("f").as_deref(), Some("x"));
        assert_eq!([of("d"), of("e"), of("g")], [None, None, None]);
    }
}
