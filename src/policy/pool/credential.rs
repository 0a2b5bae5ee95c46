//! Owns the header with which a pool's requests are authorised. Refuses to print its value.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;
use crate::secret::{Secret, SecretSource};

/// A header that carries a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The header's name in lower case; a valid one.
    pub header: String,
    /// The header's whole value, prefix included; a valid one.
    pub value: Secret,
}

/// A header that carries a secret.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Credential")]
pub(super) struct RawCredential {
    /// The header's name.
    #[serde(default = "authorization")]
    #[schemars(length(min = 1, max = 128))]
    header: String,
    /// The text before the secret; `Bearer ` in `authorization`, else nothing.
    #[serde(default)]
    prefix: Option<String>,
    /// Where the secret is.
    value: SecretSource,
    /// Whether requests go out without the header when the secret is missing or empty.
    #[serde(default)]
    optional: bool,
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// Headers that frame the message or name its target; they cannot carry a credential.
const RESERVED_HEADERS: [&str; 8] =
    ["connection", "content-length", "content-type", "expect", "host", "te", "transfer-encoding", "upgrade"];

impl RawCredential {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<Credential> {
        let header = header_name(&self.header, &path.key("header"), checker);
        let (path, secret) = self.value.read(&path.key("value"), checker);
        let secret = match secret {
            Ok(secret) => secret,
            Err(error) => {
                if !(self.optional && error.is_absence()) {
                    checker.issue(&path, error.to_string());
                }
                return None;
            }
        };
        let bearer = if header.as_deref() == Some("authorization") { "Bearer " } else { "" };
        let value = format!("{}{secret}", self.prefix.as_deref().unwrap_or(bearer));
        if http::HeaderValue::from_str(&value).is_err() {
            checker.issue(&path, "the secret has characters that a header cannot carry");
            return None;
        }
        Some(Credential { header: header?, value: Secret::new(value) })
    }
}

fn header_name(raw: &str, path: &YamlPath, checker: &mut Checker<'_>) -> Option<String> {
    match http::HeaderName::from_bytes(raw.as_bytes()) {
        Ok(name) if RESERVED_HEADERS.contains(&name.as_str()) => {
            checker.issue(path, format!("`{name}` is set by the gateway itself"));
        }
        Ok(name) => return Some(name.as_str().to_owned()),
        Err(_) => checker.issue(path, format!("`{raw}` is not a header's name")),
    }
    None
}
