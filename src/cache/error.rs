//! Owns why a cache cannot be what the policy asks for. Refuses to know what is kept.

use std::path::PathBuf;

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
        /// The operating system's reason.
        source: std::io::Error,
    },
}
