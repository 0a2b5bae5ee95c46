//! Owns the names of the server's keys. Refuses to know what stands below them.

use std::fmt::Write as _;

use crate::cache::entry::CacheKey;

/// The names below one prefix.
#[derive(Debug)]
pub(super) struct RedisKeys {
    prefix: String,
}

impl RedisKeys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn answer(&self, key: &CacheKey) -> String {
        format!("{}a:{}:{}", self.prefix, hex(&key.scope), hex(&key.exact))
    }

    pub(super) fn stream(&self, scope: &[u8; 32]) -> String {
        format!("{}s:{}", self.prefix, hex(scope))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing into a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
