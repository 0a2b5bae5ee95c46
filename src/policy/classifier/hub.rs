//! Owns where models with a name come from. Refuses to reach it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::checker::Checker;
use crate::issue::YamlPath;
use crate::secret::SecretSource;

const HUB_ENDPOINT: &str = "https://huggingface.co";

/// Where models with a name come from, and where they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSpec {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The folder of fetched files; that of the hub's own clients when there is none.
    pub cache: Option<PathBuf>,
    /// What opens repositories that are not public.
    pub token: Option<Secret>,
    /// How many attempts in a row may bring nothing.
    pub attempts: u32,
}

impl HubSpec {
    /// So many attempts are made where a model has to be there.
    pub const ATTEMPTS: u32 = 5;
}

impl Default for HubSpec {
    fn default() -> Self {
        Self { endpoint: HUB_ENDPOINT.to_owned(), cache: None, token: None, attempts: Self::ATTEMPTS }
    }
}

/// Where models with a name come from, and where they are stored.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Hub")]
pub(super) struct RawHub {
    /// The hub's address; the variable `HF_ENDPOINT` or `https://huggingface.co` when absent.
    endpoint: Option<String>,
    /// The folder of fetched files, relative to the policy's; that of the hub's own clients when absent.
    cache: Option<String>,
    /// What opens repositories that are not public; the variable `HF_TOKEN` when absent.
    token: Option<RawHubToken>,
}

/// A token: `${NAME}`, or where it is.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Token")]
enum RawHubToken {
    /// What a variable expanded to.
    Text(String),
    /// Where it is.
    Place(SecretSource),
}

impl RawHub {
    /// Completes the hub's settings, with the environment's where a model is fetched and the policy has none.
    pub(super) fn check(self, is_fetched: bool, path: &YamlPath, checker: &mut Checker<'_>) -> HubSpec {
        let set = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let from = |name: &str, checker: &Checker<'_>| set(checker.var(name).filter(|_| is_fetched));
        let endpoint = set(self.endpoint).or_else(|| from("HF_ENDPOINT", checker));
        let endpoint = endpoint.as_deref().unwrap_or(HUB_ENDPOINT).trim_end_matches('/');
        if !is_endpoint(endpoint) {
            checker.issue(
                &path.key("endpoint"),
                "must be `http://host` or `https://host`, without a user or a query",
            );
        }
        let token = match self.token {
            Some(token) => token.check(&path.key("token"), checker),
            None => from("HF_TOKEN", checker),
        };
        let token = token.map(|token| token.trim().to_owned());
        if token.as_ref().is_some_and(|token| http::HeaderValue::from_str(token).is_err()) {
            checker.issue(&path.key("token"), "the secret has characters that a header cannot carry");
        }
        HubSpec {
            endpoint: endpoint.to_owned(),
            cache: set(self.cache).map(|folder| checker.resolve(folder)),
            token: token.map(Secret::new),
            attempts: HubSpec::ATTEMPTS,
        }
    }
}

impl RawHubToken {
    fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<String> {
        match self {
            Self::Text(_) if !checker.is_expanded(path) => {
                checker.issue(path, "a secret must not stand in a policy; write `${NAME}` or `{file: PATH}`");
                None
            }
            Self::Text(text) => Some(text).filter(|text| !text.trim().is_empty()),
            Self::Place(place) => place.check(path, checker),
        }
    }
}

fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let is_web = uri.scheme_str().is_some_and(|scheme| matches!(scheme, "http" | "https"));
    let has_host = uri
        .authority()
        .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    is_web && has_host && uri.query().is_none() && !text.contains('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_place_without_a_secret_in_it() {
        for endpoint in
            ["https://huggingface.co", "http://127.0.0.1:8080", "https://mirror.example/hf", "http://[::1]:1"]
        {
            assert!(is_endpoint(endpoint), "{endpoint}");
        }
        for endpoint in [
            "huggingface.co",
            "ftp://a",
            "https://",
            "https://user:pw@a",
            "https://a?b=c",
            "https://a#b",
            "/x",
        ] {
            assert!(!is_endpoint(endpoint), "{endpoint}");
        }
    }
}
