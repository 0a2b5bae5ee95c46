//! Owns where the response cache stores answers, and how many. Refuses to open it.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::checker::Checker;
use super::duration::DurationText;
use super::issue::YamlPath;
use super::secret::SecretSource;
use super::size::sized;

/// The response cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Where answers are stored.
    pub store: CacheStore,
    /// How many at most.
    pub max_entries: usize,
    /// How many bytes at most.
    pub max_bytes: usize,
    /// The longest answer that is stored, in bytes.
    pub max_answer_bytes: usize,
}

/// Where answers are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheStore {
    /// In this process.
    Memory {
        /// A file that keeps them over a restart.
        persist: Option<PathBuf>,
    },
    /// In a Redis or Valkey server.
    Redis {
        /// Its address.
        address: String,
        /// What opens it.
        password: Option<Secret>,
        /// Put before each key.
        prefix: String,
        /// How long a command may take.
        timeout: Duration,
    },
}

/// The response cache.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cache")]
pub(super) struct RawCache {
    /// Where.
    store: RawCacheStore,
    /// How many answers at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    max_entries: usize,
    /// How many bytes at most, embeddings included.
    #[schemars(range(min = 1_024), transform = sized)]
    max_bytes: usize,
    /// The longest answer that is stored, in bytes.
    #[schemars(range(min = 1, max = 67_108_864), transform = sized)]
    max_answer_bytes: usize,
    /// For `memory`: a file that keeps the answers over a restart; without one they are lost.
    persist: Option<String>,
    /// For `redis`: the server.
    #[schemars(with = "RawRedis")]
    redis: Option<RawRedis>,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            store: RawCacheStore::Memory,
            max_entries: 10_000,
            max_bytes: 256 << 20,
            max_answer_bytes: 1 << 20,
            persist: None,
            redis: None,
        }
    }
}

/// Where answers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CacheStore")]
enum RawCacheStore {
    /// In this process.
    Memory,
    /// In a Redis or Valkey server, which several processes may share.
    Redis,
}

/// A Redis or Valkey server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redis")]
struct RawRedis {
    /// Its address, such as `redis://127.0.0.1:6379/0`, without a password.
    address: String,
    /// Where the password is; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretSource")]
    password: Option<SecretSource>,
    /// Put before each key.
    #[serde(default = "prefix")]
    #[schemars(length(max = 128))]
    prefix: String,
    /// How long a command may take; beyond that the lookup counts as a miss.
    #[serde(default = "tenth_of_a_second", with = "DurationText")]
    timeout: Duration,
}

fn prefix() -> String {
    "signalbox:".to_owned()
}

fn tenth_of_a_second() -> Duration {
    Duration::from_millis(100)
}

impl RawCache {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> CacheSpec {
        let is_redis = self.store == RawCacheStore::Redis;
        if is_redis && self.persist.is_some() {
            checker.issue(
                &path.key("persist"),
                "only with `store: memory`; a Redis server keeps answers itself",
            );
        }
        if !is_redis && self.redis.is_some() {
            checker.issue(&path.key("redis"), "only with `store: redis`");
        }
        let store = match self.redis {
            Some(raw) if is_redis => raw.check(&path.key("redis"), checker),
            None if is_redis => {
                checker.issue(path, "the key `redis` is missing");
                CacheStore::Memory { persist: None }
            }
            _ => CacheStore::Memory { persist: self.persist.map(|file| checker.resolve(file)) },
        };
        if self.max_answer_bytes > self.max_bytes {
            checker.issue(&path.key("max_answer_bytes"), "must not be more than `max_bytes`");
        }
        CacheSpec {
            store,
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            max_answer_bytes: self.max_answer_bytes,
        }
    }
}

impl RawRedis {
    fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> CacheStore {
        let rest = self.address.strip_prefix("redis://");
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains('@')) {
            let message = "must be `redis://host:port/database`, without a user and a password";
            checker.issue(&path.key("address"), message);
        }
        CacheStore::Redis {
            password: self
                .password
                .and_then(|place| place.check(&path.key("password"), checker))
                .map(Secret::new),
            address: self.address,
            prefix: self.prefix,
            timeout: self.timeout,
        }
    }
}
