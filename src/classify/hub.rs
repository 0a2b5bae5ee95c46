//! Models from the hub: each file is downloaded once, into the cache of the hub's own clients, which share it.
//!
//! What is in the cache is never asked for again: a revision is the commit that it was when it was first downloaded, and
//! a gateway with all files in its cache starts without a network. Knows nothing of what is in the files.
//!
//! Of the crate `hf-hub` this uses the names of the cache's folders, not the downloader: version 0.5 sends the token to
//! the host that a download is redirected to, 1.0 starts a broken download over, and neither checks the hash of what it
//! downloaded nor answers from the cache without a request to the hub.

mod client;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use hf_hub::{Cache, Repo, RepoType};

use client::{FileLookup, HubClient};
use signalbox_policy::HubSpec;

/// A file could not be had from the hub.
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
    /// The file could not be downloaded.
    #[error("cannot fetch {repo}: {file}: {reason}")]
    Failed {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// What went wrong, last of all attempts.
        reason: String,
    },
    /// The file could not be stored.
    #[error("cannot keep {} in the hub's cache: {source}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
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
pub(super) struct RepoSnapshot {
    repo: Repo,
    name: String,
    cache: Cache,
    client: HubClient,
    /// The revision's commit, once known.
    commit: OnceLock<String>,
}

impl RepoSnapshot {
    /// Opens a revision; sends no request yet.
    pub(super) fn open(spec: &HubSpec, name: &str, revision: &str) -> Result<Self, HubError> {
        let is_repo = name.split('/').count() <= 2 && name.split('/').all(is_plain);
        if !is_repo || !revision.split('/').all(is_plain) {
            return Err(HubError::Name { name: format!("{name}@{revision}") });
        }
        let repo = Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned());
        let cache = Cache::new(spec.cache.clone().or_else(default_cache).ok_or_else(|| {
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
        Ok(Self { client: HubClient::new(spec), repo, name: name.to_owned(), cache, commit })
    }

    /// Returns a file's path in the cache, after downloading it if it is not there; none if the repository lacks it.
    pub(super) fn get(&self, file: &str) -> Result<Option<PathBuf>, HubError> {
        if !file.split('/').all(is_plain) {
            return Err(HubError::Name { name: file.to_owned() });
        }
        if let Some(commit) = self.commit.get() {
            let kept = self.path_in_cache("snapshots", commit).join(file);
            if kept.exists() {
                return Ok(Some(kept));
            }
            if self.path_in_cache(".no_exist", commit).join(file).exists() {
                return Ok(None);
            }
        }
        let revision = self.commit.get().map_or(self.repo.revision(), String::as_str);
        match self.client.look_up(&self.name, revision, file)? {
            FileLookup::Missing { commit } => {
                if let Some(commit) = commit.filter(|commit| is_plain(commit)) {
                    self.pin(&commit)?;
                    let mark = self.path_in_cache(".no_exist", &commit).join(file);
                    create_parent(&mark)?;
                    File::create(&mark).map_err(|source| HubError::Cache { path: mark, source })?;
                }
                Ok(None)
            }
            FileLookup::File(found) => {
                if !is_plain(&found.commit) || !is_plain(&found.etag) {
                    let name = format!("{} {}", found.commit, found.etag);
                    return Err(HubError::Name { name });
                }
                let blob = self.folder().join("blobs").join(&found.etag);
                create_parent(&blob)?;
                let lock = lock(&blob)?;
                if !blob.exists() {
                    self.client.download(&self.name, file, &found, &blob)?;
                }
                drop(lock);
                let pointer = self.path_in_cache("snapshots", &found.commit).join(file);
                link(&blob, &pointer, file)?;
                self.pin(&found.commit)?;
                Ok(Some(pointer))
            }
        }
    }

    /// Makes the error for a file that the repository lacks.
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

    /// Pins the revision to a commit, so that all files are of the same one.
    fn pin(&self, commit: &str) -> Result<(), HubError> {
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

    fn path_in_cache(&self, kind: &str, commit: &str) -> PathBuf {
        self.folder().join(kind).join(commit)
    }
}

/// Finds the cache of the hub's own clients by their rules.
fn default_cache() -> Option<PathBuf> {
    if let Some(cache) = std::env::var_os("HF_HUB_CACHE") {
        return Some(cache.into());
    }
    // `Cache::from_env` panics where there is no home.
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

fn create_parent(path: &Path) -> Result<(), HubError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| HubError::Cache { path: folder.to_owned(), source })
}

/// Keeps other processes from downloading the same file into the same cache meanwhile.
fn lock(blob: &Path) -> Result<File, HubError> {
    let path = blob.with_extension("lock");
    let fault = |source| HubError::Cache { path: path.clone(), source };
    let file = File::create(&path).map_err(fault)?;
    file.lock().map_err(fault)?;
    Ok(file)
}

/// Points from a snapshot to a blob, relatively, so that the cache can be moved.
fn link(blob: &Path, pointer: &Path, file: &str) -> Result<(), HubError> {
    create_parent(pointer)?;
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
