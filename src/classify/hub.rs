//! Models from the hub: their files are fetched once and kept as the hub's own clients keep them.
//!
//! Knows nothing of what is in the files.

use std::path::PathBuf;

use super::spec::HubSpec;

/// The hub did not give a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// There is no such file, or no such repository.
    #[error("{repo} at {revision} has no {file}")]
    Absent {
        /// The repository.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
        /// The file.
        file: String,
    },
}

/// The files of one revision of a repository.
pub(super) struct Snapshot {
    repo: String,
    revision: String,
}

impl Snapshot {
    pub(super) fn open(_hub: &HubSpec, repo: &str, revision: &str) -> Result<Self, HubError> {
        Ok(Self { repo: repo.to_owned(), revision: revision.to_owned() })
    }

    pub(super) fn get(&self, file: &str) -> Result<Option<PathBuf>, HubError> {
        Err(self.absent(file))
    }

    pub(super) fn absent(&self, file: &str) -> HubError {
        HubError::Absent { repo: self.repo.clone(), revision: self.revision.clone(), file: file.to_owned() }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(&self.repo).join(file)
    }
}
