//! Models from the hub: each file is fetched once and kept where the hub's own clients keep it, so that they share it.
//!
//! What is kept is never asked for again: a revision is what it was when it was first fetched, and a gateway whose
//! cache is full starts without a network. Knows nothing of what is in the files.

#[cfg(test)]
mod tests;
mod transfer;

use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use hf_hub::{Cache, Repo, RepoType};

use super::spec::HubSpec;
use transfer::{Found, Transfer};

/// The hub did not give a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// There is no such file.
    #[error("{repo}@{revision} has no {file}")]
    Absent {
        /// The repository.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
        /// The file.
        file: String,
    },
    /// There is no such repository or revision.
    #[error("the hub has no {repo}@{revision}, or shows it only to those with another token")]
    Unknown {
        /// The repository.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
    },
    /// The hub wants a token, or another one.
    #[error("the hub refuses {repo}: {file} with status {status}; it wants a token with access (hub.token)")]
    Refused {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// The HTTP status.
        status: u16,
    },
    /// The file could not be fetched.
    #[error("cannot fetch {repo}: {file}: {reason}")]
    Failed {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// What went wrong, last of all attempts.
        reason: String,
    },
    /// The file could not be kept.
    #[error("cannot keep {} in the hub's cache: {source}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A repository or revision has no name that the hub could have given it.
    #[error("`{name}` is no name of a repository, revision or file of the hub")]
    Name {
        /// The name.
        name: String,
    },
}

/// The files of one revision of a repository.
pub(super) struct Snapshot {
    repo: Repo,
    name: String,
    cache: Cache,
    transfer: Transfer,
    /// The commit that the revision stands for, once known.
    commit: OnceLock<String>,
}

impl Snapshot {
    /// Takes up a revision; asks the hub for nothing yet.
    pub(super) fn open(spec: &HubSpec, name: &str, revision: &str) -> Result<Self, HubError> {
        let is_repo = name.split('/').count() <= 2 && name.split('/').all(is_plain);
        if !is_repo || !revision.split('/').all(is_plain) {
            return Err(HubError::Name { name: format!("{name}@{revision}") });
        }
        let repo = Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned());
        let cache = Cache::new(spec.cache.clone().or_else(cache_of_clients).ok_or_else(|| {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no home folder; set hub.cache");
            HubError::Cache { path: PathBuf::from("~/.cache/huggingface/hub"), source }
        })?);
        let commit = OnceLock::new();
        let kept = cache.path().join(repo.folder_name()).join("refs").join(revision);
        if is_commit(revision) {
            let _ = commit.set(revision.to_owned());
        } else if let Ok(kept) = std::fs::read_to_string(&kept)
            && is_plain(kept.trim())
        {
            let _ = commit.set(kept.trim().to_owned());
        }
        Ok(Self { transfer: Transfer::new(spec), repo, name: name.to_owned(), cache, commit })
    }

    /// Returns where a file lies, after fetching it where need be; none where the repository does not have it.
    pub(super) fn get(&self, file: &str) -> Result<Option<PathBuf>, HubError> {
        if !file.split('/').all(is_plain) {
            return Err(HubError::Name { name: file.to_owned() });
        }
        if let Some(commit) = self.commit.get() {
            let kept = self.place("snapshots", commit).join(file);
            if kept.exists() {
                return Ok(Some(kept));
            }
            if self.place(".no_exist", commit).join(file).exists() {
                return Ok(None);
            }
        }
        let revision = self.commit.get().map_or(self.repo.revision(), String::as_str);
        match self.transfer.find(&self.name, revision, file)? {
            Found::Nothing { commit } => {
                if let Some(commit) = commit.filter(|commit| is_plain(commit)) {
                    self.settle(&commit)?;
                    let mark = self.place(".no_exist", &commit).join(file);
                    parent(&mark)?;
                    File::create(&mark).map_err(|source| HubError::Cache { path: mark, source })?;
                }
                Ok(None)
            }
            Found::File(found) => {
                if !is_plain(&found.commit) || !is_plain(&found.etag) {
                    let name = format!("{} {}", found.commit, found.etag);
                    return Err(HubError::Name { name });
                }
                let blob = self.folder().join("blobs").join(&found.etag);
                parent(&blob)?;
                let lock = lock(&blob)?;
                if !blob.exists() {
                    self.transfer.fetch(&self.name, file, &found, &blob)?;
                }
                drop(lock);
                let pointer = self.place("snapshots", &found.commit).join(file);
                link(&blob, &pointer, file)?;
                self.settle(&found.commit)?;
                Ok(Some(pointer))
            }
        }
    }

    /// Says that the repository does not have a file.
    pub(super) fn absent(&self, file: &str) -> HubError {
        HubError::Absent {
            repo: self.name.clone(),
            revision: self.repo.revision().to_owned(),
            file: file.to_owned(),
        }
    }

    /// Returns what errors call a file.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("hf://{}@{}", self.name, self.repo.revision())).join(file)
    }

    /// Notes which commit the revision stands for, so that all files are of one and the same.
    fn settle(&self, commit: &str) -> Result<(), HubError> {
        if self.commit.set(commit.to_owned()).is_err() || commit == self.repo.revision() {
            return Ok(());
        }
        let kept = self.cache.repo(self.repo.clone());
        let path = self.folder().join("refs").join(self.repo.revision());
        kept.create_ref(commit).map_err(|source| HubError::Cache { path, source })
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join(self.repo.folder_name())
    }

    fn place(&self, kind: &str, commit: &str) -> PathBuf {
        self.folder().join(kind).join(commit)
    }
}

/// Finds the cache of the hub's own clients by their rules.
fn cache_of_clients() -> Option<PathBuf> {
    if let Some(cache) = std::env::var_os("HF_HUB_CACHE") {
        return Some(cache.into());
    }
    // The library's own rule ends the process where there is no home.
    let has_home = std::env::var_os("HF_HOME").is_some() || std::env::home_dir().is_some();
    has_home.then(|| Cache::from_env().path().clone())
}

/// Says whether a name can be one part of a path, and cannot lead out of its folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    is_one && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-+=".contains(c))
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn parent(path: &Path) -> Result<(), HubError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| HubError::Cache { path: folder.to_owned(), source })
}

/// Holds off other processes that fetch the same file into the same cache.
fn lock(blob: &Path) -> Result<File, HubError> {
    let path = blob.with_extension("lock");
    let fault = |source| HubError::Cache { path: path.clone(), source };
    let file = File::create(&path).map_err(fault)?;
    file.lock().map_err(fault)?;
    Ok(file)
}

/// Points from a snapshot to a blob, relatively, so that the cache can be moved.
fn link(blob: &Path, pointer: &Path, file: &str) -> Result<(), HubError> {
    parent(pointer)?;
    let up = "../".repeat(2 + file.matches('/').count());
    let name = blob.file_name().unwrap_or_default();
    let target = Path::new(&up).join("blobs").join(name);
    match std::os::unix::fs::symlink(target, pointer) {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(HubError::Cache { path: pointer.to_owned(), source })
        }
        _ => Ok(()),
    }
}
