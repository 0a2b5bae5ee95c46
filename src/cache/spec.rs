//! Owns what the operator wants of the cache, as plain values that compare: an equal spec keeps the cache it has.
//! Refuses to know where these values were written.

use std::path::PathBuf;
use std::time::Duration;

use crate::policy::Secret;

/// Where answers are kept and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Where answers are kept.
    pub store: Store,
    /// The most answers that this process holds; with Redis, the most texts that it holds for comparison.
    pub max_entries: usize,
    /// The most bytes that those may take together, texts and embeddings included.
    pub max_bytes: usize,
    /// The most bytes of one answer; a longer one is not kept.
    pub max_answer_bytes: usize,
}

/// Where answers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In this process.
    Memory {
        /// The file that carries them over a restart.
        persist: Option<PathBuf>,
    },
    /// In a Redis or Valkey server, shared with other processes.
    Redis {
        /// A `redis://` address without a password.
        address: String,
        /// The server's password.
        password: Option<Secret>,
        /// What every key begins with.
        prefix: String,
        /// The longest that one command may take.
        timeout: Duration,
    },
}

/// A cache cannot be what its spec asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The server's address is none, or asks for what this build cannot do.
    #[error("the address of the cache's server is not of the form redis://host:port/database")]
    Address,
    /// The server's address carries a password, which logs would show.
    #[error("the address of the cache's server carries a password, which belongs into `password`")]
    PasswordInAddress,
    /// The file of the cache cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The server did not answer, or not in time.
    #[error("the cache's server is away")]
    Away,
}
