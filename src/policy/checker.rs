//! Owns what every check needs: where a path stands, the files it reads, the issues it finds. Refuses to know what is
//! checked.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use super::duration::RawDuration;
use super::environment::Environment;
use super::issue::{Issue, MAX_ISSUES, Path, near_miss};
use super::yaml::{Node, Style};

/// The longest name of a model, a pool or a decision.
const MAX_NAME_BYTES: usize = 256;

/// The surroundings and the findings of one check.
pub(super) struct Checker<'a> {
    tree: &'a Node,
    base: &'a FilePath,
    environment: &'a dyn Environment,
    pub(super) issues: Vec<Issue>,
    pub(super) files: Vec<PathBuf>,
}

impl<'a> Checker<'a> {
    /// Starts a check of what stands in `tree`, whose relative files start at `base`.
    pub(super) fn new(tree: &'a Node, base: &'a FilePath, environment: &'a dyn Environment) -> Self {
        Self { tree, base, environment, issues: Vec::new(), files: Vec::new() }
    }

    /// Records that something is wrong.
    pub(super) fn issue(&mut self, path: &Path, message: impl Into<String>) {
        self.record(path, message.into(), None);
    }

    /// Records that a name is unknown, with the known one that was perhaps meant.
    pub(super) fn unknown<'n>(
        &mut self,
        path: &Path,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        self.record(path, format!("unknown {what} `{name}`"), near_miss(name, known));
    }

    /// Takes a duration that must be longer than nothing.
    pub(super) fn positive(&mut self, path: &Path, RawDuration(duration): RawDuration) -> Duration {
        if duration.is_zero() {
            self.issue(path, "must be longer than 0");
        }
        duration
    }

    /// Refuses a name that could not stand in a response header, a log line and a metric's label.
    pub(super) fn name(&mut self, path: &Path, name: &str) {
        if name.trim().is_empty() || name.trim() != name || http::HeaderValue::from_str(name).is_err() {
            self.issue(path, "a name must be ASCII text without white space around it");
        } else if name.len() > MAX_NAME_BYTES {
            self.issue(path, format!("a name must not be longer than {MAX_NAME_BYTES} characters"));
        }
    }

    /// Gives an environment variable.
    pub(super) fn var(&self, name: &str) -> Option<String> {
        self.environment.var(name)
    }

    /// Says whether a value is what a variable expanded to, and nothing else.
    pub(super) fn is_expanded(&self, path: &Path) -> bool {
        self.tree.scalar(path).is_some_and(|scalar| scalar.style == Style::Expanded)
    }

    /// Joins a file reference to the configuration's folder.
    pub(super) fn resolve(&self, file: &str) -> PathBuf {
        self.base.join(file)
    }

    /// Reads a referenced file and remembers it, also when it cannot be read.
    pub(super) fn read(&mut self, file: &str) -> std::io::Result<Vec<u8>> {
        let file = self.resolve(file);
        let bytes = self.environment.read(&file);
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        bytes
    }

    /// Reads a PEM file that must hold at least one block of a kind such as `CERTIFICATE`.
    pub(super) fn pem(&mut self, path: &Path, file: &str, block: &str) -> Option<Vec<u8>> {
        match self.read(file) {
            Ok(bytes) if holds_block(&bytes, block) => return Some(bytes),
            Ok(_) => self.issue(path, format!("`{file}` holds no PEM block of a {}", block.to_lowercase())),
            Err(error) => self.issue(path, format!("cannot read `{file}`: {error}")),
        }
        None
    }

    fn record(&mut self, path: &Path, message: String, suggestion: Option<String>) {
        if self.issues.len() >= MAX_ISSUES {
            return;
        }
        let mark = self.tree.locate(path);
        self.issues.push(Issue {
            path: path.to_string(),
            line: mark.line,
            column: mark.column,
            message,
            suggestion,
        });
    }
}

/// Whether a PEM text has a header whose kind ends in `block`, as `EC PRIVATE KEY` does in `PRIVATE KEY`.
fn holds_block(bytes: &[u8], block: &str) -> bool {
    String::from_utf8_lossy(bytes).lines().any(|line| {
        let kind = line.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        kind.is_some_and(|kind| kind.ends_with(block))
    })
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressFault {
    #[error("has no port; write `host:port`")]
    NoPort,
    #[error("has no valid port; write `host:port` with a port from 1 to 65535")]
    Port,
    #[error("is not an address; write `host:port`, without a scheme or a path")]
    Host,
    #[error("is an IPv6 address without brackets; write `[address]:port`")]
    Brackets,
}

/// Splits `host:port`; the host is a DNS name or an IP address, IPv6 without its brackets.
pub(super) fn parse_address(text: &str) -> Result<(String, u16), AddressFault> {
    if text.contains('/') {
        return Err(AddressFault::Host);
    }
    let port = |port: &str| match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(AddressFault::Port),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressFault::Host)?;
        let address: std::net::Ipv6Addr = host.parse().map_err(|_| AddressFault::Host)?;
        let digits = rest.strip_prefix(':').ok_or(AddressFault::NoPort)?;
        return Ok((address.to_string(), port(digits)?));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(AddressFault::Brackets);
    }
    let (host, digits) = text.rsplit_once(':').ok_or(AddressFault::NoPort)?;
    if !is_host(host) {
        return Err(AddressFault::Host);
    }
    Ok((host.to_owned(), port(digits)?))
}

/// Whether a text is an IPv4 address or has the form of a DNS name.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_into_host_and_port() {
        let parsed = |text| parse_address(text).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parsed("127.0.0.1:8001").as_deref(), Ok("127.0.0.1 8001"));
        assert_eq!(
            parsed("vllm-0.llm.svc.cluster.local:80").as_deref(),
            Ok("vllm-0.llm.svc.cluster.local 80")
        );
        assert_eq!(parsed("[::1]:8001").as_deref(), Ok("::1 8001"));
        assert_eq!(parsed("localhost"), Err(AddressFault::NoPort));
        assert_eq!(parsed("[::1]"), Err(AddressFault::NoPort));
        assert_eq!(parsed("::1"), Err(AddressFault::Brackets));
        assert_eq!(parsed("host:0"), Err(AddressFault::Port));
        assert_eq!(parsed("host:+80"), Err(AddressFault::Port));
        assert_eq!(parsed("host:65536"), Err(AddressFault::Port));
        assert_eq!(parsed("http://host:80"), Err(AddressFault::Host));
        assert_eq!(parsed("ho st:80"), Err(AddressFault::Host));
        assert_eq!(parsed(":80"), Err(AddressFault::Host));
    }

    #[test]
    fn a_pem_block_is_known_by_its_header() {
        assert!(holds_block(b"x\n-----BEGIN EC PRIVATE KEY-----\n", "PRIVATE KEY"));
        assert!(!holds_block(b"-----BEGIN CERTIFICATE-----", "PRIVATE KEY"));
        assert!(!holds_block(b"CERTIFICATE", "CERTIFICATE"));
    }
}
