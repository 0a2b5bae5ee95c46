//! Owns the last known state on disk, for a start without the API server: the objects, and the endpoints that they led to.
//! Refuses to judge either.

use super::cluster::RawObjects;
use super::kinds::ObjectKind;
use super::watches::name_of;
use crate::policy::KubeSelection;
use crate::snapshot::{DiscoveredEndpoint, EndpointSlots, KubeSlot};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the file is written as.
const VERSION: u32 = 1;

/// The largest state that is written or read.
const MAX_BYTES: usize = 64 << 20;

/// What is known at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct KnownState {
    pub(super) objects: RawObjects,
    pub(super) endpoints: KubeSlot,
}

#[derive(Serialize, Deserialize)]
struct WrittenState {
    version: u32,
    objects: Vec<WrittenObjects>,
    endpoints: Vec<WrittenEndpoints>,
}

#[derive(Serialize, Deserialize)]
struct WrittenObjects {
    kind: ObjectKind,
    objects: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
struct WrittenEndpoints {
    selection: KubeSelection,
    endpoints: Vec<DiscoveredEndpoint>,
}

/// The file, and what was written to it last.
pub(super) struct StateFile {
    path: PathBuf,
    /// A hash of it.
    written: Option<u64>,
}

impl StateFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, written: None }
    }

    /// Reads what an earlier run has known; nothing where there is none that can be read, which is logged.
    pub(super) fn load(&self) -> Option<KnownState> {
        match read(&self.path) {
            Ok(state) => Some(state),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "the last known routes cannot be read");
                None
            }
        }
    }

    /// Writes what is known, unless it is what was written last; blocks on the disk.
    pub(super) fn save(&mut self, objects: &RawObjects, slots: &EndpointSlots) {
        let of_kind = |(kind, objects): (&ObjectKind, &std::collections::BTreeMap<_, Value>)| {
            WrittenObjects { kind: *kind, objects: objects.values().cloned().collect() }
        };
        let of_selection = |(selection, endpoints): (&KubeSelection, &Arc<std::collections::BTreeSet<_>>)| {
            WrittenEndpoints { selection: selection.clone(), endpoints: endpoints.iter().copied().collect() }
        };
        let state = WrittenState {
            version: VERSION,
            objects: objects.iter().map(of_kind).collect(),
            endpoints: slots.kube().iter().map(of_selection).collect(),
        };
        let bytes = serde_json::to_vec(&state).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = hasher.finish();
        if self.written == Some(hash) || bytes.len() > MAX_BYTES {
            return;
        }
        match replace(&self.path, &bytes) {
            Ok(()) => self.written = Some(hash),
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "the known routes are not written");
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<KnownState> {
    let invalid = |text: &'static str| std::io::Error::new(std::io::ErrorKind::InvalidData, text);
    if std::fs::metadata(path)?.len() > MAX_BYTES as u64 {
        return Err(invalid("it is too large"));
    }
    let state: WrittenState = serde_json::from_slice(&std::fs::read(path)?)?;
    if state.version != VERSION {
        return Err(invalid("another version has written it"));
    }
    let mut known = KnownState::default();
    for WrittenObjects { kind, objects } in state.objects {
        let named = objects.into_iter().filter_map(|object| Some((name_of(&object)?, object)));
        known.objects.insert(kind, named.collect());
    }
    for WrittenEndpoints { selection, endpoints } in state.endpoints {
        known.endpoints.insert(selection, Arc::new(endpoints.into_iter().collect()));
    }
    Ok(known)
}

/// Puts a file in the place of another at once; secrets are in it, so nobody else may read it.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    // One that was left there may have other rights.
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::KubeObject;
    use serde_json::json;
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut file = StateFile::new(path.clone());
        assert_eq!(file.load(), None);
        let object = json!({"metadata": {"name": "tls", "namespace": "a"}, "data": {"tls.key": "x"}});
        let name = name_of(&object).unwrap();
        let objects = RawObjects::from([(ObjectKind::Secret, [(name, object)].into())]);
        let pool = KubeSelection {
            namespace: Some("a".to_owned()),
            object: KubeObject::InferencePool { name: "p".to_owned() },
        };
        let endpoint = DiscoveredEndpoint { address: ([10, 0, 0, 1], 8000).into(), h2c: true };
        let endpoints = KubeSlot::from([(pool, Arc::new(BTreeSet::from([endpoint])))]);
        let mut slots = EndpointSlots::default();
        slots.refresh_kube(endpoints.clone());
        file.save(&objects, &slots);
        assert_eq!(file.load(), Some(KnownState { objects: objects.clone(), endpoints }));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "{").unwrap();
        file.save(&objects, &slots);
        assert_eq!(file.load(), None, "what has not changed is not written again, and half a file is none");
    }
}
