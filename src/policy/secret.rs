//! Owns the one type that may hold a secret, and the places in which operators keep one. Never prints it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::issue::YamlPath;

/// A credential that prints as `***` and is readable only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// Gives the credential itself; the only way to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is: exactly one of the keys; the secret itself is never in the policy.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Secret", extend("x-expected" = "`{env: NAME}` or `{file: PATH}`"))]
pub(super) struct SecretSource {
    /// The environment variable that holds it.
    #[serde(default)]
    env: Option<String>,
    /// The file that holds it; relative to the policy's folder.
    #[serde(default)]
    file: Option<String>,
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("needs exactly one of `env` and `file`")]
    Place,
    #[error("the variable `{0}` is not set")]
    Unset(String),
    #[error("cannot read `{file}`: {error}")]
    Unread { file: String, error: std::io::Error },
    #[error("`{0}` is not UTF-8")]
    Encoding(String),
    #[error("the secret is empty")]
    Empty,
}

impl SecretError {
    /// Whether there is no secret, as opposed to one that is out of reach or broken.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Unset(_) | Self::Empty => true,
            Self::Unread { error, .. } => error.kind() == std::io::ErrorKind::NotFound,
            Self::Place | Self::Encoding(_) => false,
        }
    }
}

impl SecretSource {
    /// Reads the secret without the line break at its end; the path is that of whatever may be wrong with it.
    pub(super) fn read(
        &self,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> (YamlPath, Result<String, SecretError>) {
        let (path, secret) = match (&self.env, &self.file) {
            (Some(name), None) => {
                (path.key("env"), checker.var(name).ok_or_else(|| SecretError::Unset(name.clone())))
            }
            (None, Some(file)) => (path.key("file"), secret_file(file, checker)),
            _ => (path.clone(), Err(SecretError::Place)),
        };
        let secret = secret.and_then(|secret| match secret.trim_end_matches(['\r', '\n']) {
            blank if blank.trim().is_empty() => Err(SecretError::Empty),
            secret => Ok(secret.to_owned()),
        });
        (path, secret)
    }

    /// As [`SecretSource::read`]; what is wrong goes to the checker.
    pub(super) fn check(&self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<String> {
        let (path, secret) = self.read(path, checker);
        secret.map_err(|error| checker.issue(&path, error.to_string())).ok()
    }
}

fn secret_file(file: &str, checker: &mut Checker<'_>) -> Result<String, SecretError> {
    let unread = |error| SecretError::Unread { file: file.to_owned(), error };
    let bytes = checker.read(file).map_err(unread)?;
    String::from_utf8(bytes).map_err(|_| SecretError::Encoding(file.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("sk-very-secret".to_owned());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "sk-very-secret");
    }
}
