//! Owns the socket over which a process hands its listeners to its successor: where it may be, and who waits at it.
//!
//! What goes over it is Pingora's. Whoever could put a socket there, or connect to it, would get the listeners or give
//! away others.

use super::ServeError;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a successor looks whether its socket is there yet.
const STEP: Duration = Duration::from_millis(2);

/// The sockets of this machine, as Linux lists them.
const UNIX_SOCKETS: &str = "/proc/net/unix";

/// What `UNIX_SOCKETS` says of one that takes connections (`SO_ACCEPTCON`).
const LISTENING: &str = "00010000";

/// The socket of a successor while it waits at it; nothing to do for any other process.
pub(super) struct SuccessorSocket {
    is_over: Arc<AtomicBool>,
}

/// Makes the socket's folder, private to this user, and keeps a successor's socket so.
pub(super) fn socket(path: &Path, is_successor: bool) -> Result<SuccessorSocket, ServeError> {
    let is_over = Arc::new(AtomicBool::new(!is_successor));
    match ensure_private(path) {
        Err(reason) if is_successor => {
            return Err(ServeError::Upgrade { socket: path.to_owned(), reason });
        }
        Err(reason) => {
            tracing::info!(socket = %path.display(), reason, "the listeners will not be handed over");
        }
        Ok(()) if is_successor => {
            let (path, is_over) = (path.to_owned(), Arc::clone(&is_over));
            std::thread::Builder::new()
                .name("upgrade-socket".to_owned())
                .spawn(move || close_to_others(&path, &is_over))?;
        }
        Ok(()) => {}
    }
    Ok(SuccessorSocket { is_over })
}

impl Drop for SuccessorSocket {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Whether a successor waits at the socket, in a folder that only this user writes to.
pub(super) fn is_awaited(path: &Path) -> bool {
    if ensure_private(path).is_err() {
        return false;
    }
    match std::fs::read_to_string(UNIX_SOCKETS) {
        Ok(sockets) => is_listed(&sockets, path),
        Err(_) => path.exists(),
    }
}

fn is_listed(sockets: &str, path: &Path) -> bool {
    sockets.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(3);
        columns.next() == Some(LISTENING) && columns.nth(3).is_some_and(|found| Path::new(found) == path)
    })
}

/// Makes the folder if it is not there; says what is wrong where others could put a socket there.
fn ensure_private(path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let found = std::fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    match own_user() {
        Some(user) if found.uid() != user && found.uid() != 0 => {
            Err(format!("its folder {} belongs to another user", folder.display()))
        }
        _ if found.permissions().mode() & 0o022 != 0 => {
            Err(format!("others may write to its folder {}; give it a folder of its own", folder.display()))
        }
        _ => Ok(()),
    }
}

fn own_user() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().as_ref().map(Metadata::uid)
}

/// Takes from others what Pingora gives them as soon as the socket is there, and until it has gone.
fn close_to_others(path: &PathBuf, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let mode = std::fs::metadata(path).map(|found| found.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o777 != 0o600) {
            // It may have gone meanwhile; the folder keeps others away in any case.
            let _ = std::fs::set_permissions(path, Permissions::from_mode(0o600));
        }
        std::thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_is_awaited_while_somebody_listens_at_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own").join("upgrade.sock");
        assert!(!is_awaited(&path));
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_awaited(&path));
        std::fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
        assert!(!is_awaited(&path), "anybody could have put it there");
        std::fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
        drop(listener);
        assert!(path.exists() && !is_awaited(&path), "what was left behind");
    }

    #[test]
    fn a_successors_socket_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade.sock");
        let kept = socket(&path, true).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        while std::fs::metadata(&path).unwrap().permissions().mode() & 0o777 != 0o600 {
            std::thread::yield_now();
        }
        drop(kept);
    }
}
