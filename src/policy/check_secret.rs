//! Owns the way from a secret's place to the secret. Refuses to know what it opens, and never says what it is.

use super::checker::Checker;
use super::issue::Path;
use super::raw_pool::RawSecret;

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretFault {
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

impl SecretFault {
    /// Whether there is no secret, as opposed to one that is out of reach or broken.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Unset(_) | Self::Empty => true,
            Self::Unread { error, .. } => error.kind() == std::io::ErrorKind::NotFound,
            Self::Place | Self::Encoding(_) => false,
        }
    }
}

/// Reads a secret without the line break at its end; the path is that of whatever may be wrong with it.
pub(super) fn secret(
    raw: &RawSecret,
    path: &Path,
    checker: &mut Checker<'_>,
) -> (Path, Result<String, SecretFault>) {
    let (path, secret) = match (&raw.env, &raw.file) {
        (Some(name), None) => {
            (path.key("env"), checker.var(name).ok_or_else(|| SecretFault::Unset(name.clone())))
        }
        (None, Some(file)) => (path.key("file"), secret_file(file, checker)),
        _ => (path.clone(), Err(SecretFault::Place)),
    };
    let secret = secret.and_then(|secret| match secret.trim_end_matches(['\r', '\n']) {
        blank if blank.trim().is_empty() => Err(SecretFault::Empty),
        secret => Ok(secret.to_owned()),
    });
    (path, secret)
}

fn secret_file(file: &str, checker: &mut Checker<'_>) -> Result<String, SecretFault> {
    let unread = |error| SecretFault::Unread { file: file.to_owned(), error };
    let bytes = checker.read(file).map_err(unread)?;
    String::from_utf8(bytes).map_err(|_| SecretFault::Encoding(file.to_owned()))
}
