//! Owns the signal `secrets` and which kinds of findings are secrets. Refuses to know how they are found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PiiKinds, PlainFields, Scope};

/// Says whether a kind of finding is a secret; secrets count as personal data too, where nothing asks for them alone.
pub fn is_secret(kind: &str) -> bool {
    SecretKind::ALL.iter().any(|secret| secret.as_str() == kind)
}

/// Keys, tokens and passwords.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsSignal {
    /// The kinds that do not count.
    #[schemars(length(max = 5))]
    pub except: Vec<SecretKind>,
    /// Which texts are looked at.
    pub scope: Scope,
}

/// A kind of secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SecretKind {
    /// A service's key or token, or a token that says what it allows.
    AccessToken,
    /// A key of a cloud provider's account.
    CloudKey,
    /// A server's address with the password in it.
    ConnectionString,
    /// What its own text calls a password or a secret.
    Password,
    /// A private key in text form.
    PrivateKey,
}

impl SecretKind {
    const ALL: [Self; 5] =
        [Self::AccessToken, Self::CloudKey, Self::ConnectionString, Self::Password, Self::PrivateKey];

    /// The kind's name, as findings have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "ACCESS_TOKEN",
            Self::CloudKey => "CLOUD_KEY",
            Self::ConnectionString => "CONNECTION_STRING",
            Self::Password => "PASSWORD",
            Self::PrivateKey => "PRIVATE_KEY",
        }
    }
}

/// The kinds of secrets without some, as a choice among all kinds of findings.
pub(crate) fn secret_kinds(except: &[SecretKind]) -> PiiKinds {
    let names = |kinds: &[SecretKind]| kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
    PiiKinds { only: names(&SecretKind::ALL), except: names(except) }
}

impl SecretsSignal {
    /// The kinds that count.
    pub fn kinds(&self) -> PiiKinds {
        secret_kinds(&self.except)
    }
}

impl PlainFields for SecretsSignal {}
