//! Owns the watch on files: the only door to `notify`.
//!
//! A Kubernetes volume changes by renaming a symlink beside the files, which a watch on a file never sees: so the
//! folders are watched, any event is only a hint, and what counts is whether the contents differ. A slow poll
//! stands in where events are lost.

use crate::policy::{Environment, Process};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long the folders must be quiet: a volume is switched in several steps.
const QUIET: Duration = Duration::from_millis(250);

/// The longest wait for quiet.
const RESTLESS: Duration = Duration::from_secs(2);

/// How often the contents are compared without any event.
const POLL: Duration = Duration::from_secs(15);

/// Watches the folders of a set of files.
pub struct FileWatch {
    hint: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

/// The contents of files at one moment, as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents(u64);

impl Contents {
    /// Reads the files; one that cannot be read counts as such.
    pub fn of(files: &[PathBuf]) -> Self {
        let mut hasher = DefaultHasher::new();
        for file in files {
            // As loading reads them: of one that is larger than is read, that much is known.
            Process.read(file).ok().hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

impl FileWatch {
    /// Starts to watch; without a working event source only the poll is left, which is logged once.
    pub fn new(files: &[PathBuf]) -> Self {
        let hint = Arc::new(Notify::new());
        let waker = Arc::clone(&hint);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, and comparing the contents reads them.
            if event.is_ok_and(|event| may_change(event.kind)) {
                waker.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "no file events; files are polled instead"))
            .ok();
        let mut watch = Self { hint, watcher, folders: BTreeSet::new() };
        watch.follow(files);
        watch
    }

    /// Watches the folders of these files, and no others.
    pub fn follow(&mut self, files: &[PathBuf]) {
        let wanted: BTreeSet<PathBuf> = files.iter().map(|file| folder(file)).collect();
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.folders.difference(&wanted) {
            // A folder that vanished has no watch to remove.
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "folder is polled, not watched");
            }
        }
        self.folders = wanted;
    }

    /// Waits until something may have changed.
    pub async fn changed(&self) {
        let hinted = tokio::time::timeout(POLL, self.hint.notified()).await;
        if hinted.is_ok() {
            let quiet = async { while tokio::time::timeout(QUIET, self.hint.notified()).await.is_ok() {} };
            // A folder that never rests, since a log is written there, is compared all the same.
            let _ = tokio::time::timeout(RESTLESS, quiet).await;
        }
    }
}

fn may_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
