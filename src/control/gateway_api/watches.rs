//! Owns the watches of a cluster's objects, and what they together know. Refuses to know what the objects say.

use super::cluster::RawObjects;
use super::kinds::ObjectKind;
use crate::control::sources::{ClusterApi, ObjectWatch, Observation, WatchScope};
use crate::policy::ObjectName;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// One watch, which ends when this is dropped.
struct WatchedObjects {
    seen: watch::Receiver<Observation<Value>>,
    _watch: ObjectWatch<Value>,
    task: AbortHandle,
}

impl Drop for WatchedObjects {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The watches of all objects.
pub(super) struct ClusterWatches {
    api: ClusterApi,
    /// Whole kinds, one for each namespace.
    whole: Vec<(ObjectKind, WatchedObjects)>,
    /// Single objects that others refer to.
    named: BTreeMap<(ObjectKind, ObjectName), WatchedObjects>,
    changed: Arc<Notify>,
}

/// What may be said of a kind that is not up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KindFault {
    pub(super) kind: &'static str,
    pub(super) fault: String,
}

impl ClusterWatches {
    /// Watches all kinds, in these namespaces or in all.
    pub(super) fn start(api: ClusterApi, namespaces: &[String]) -> Self {
        let mut watches = Self { api, whole: Vec::new(), named: BTreeMap::new(), changed: Arc::default() };
        for kind in ObjectKind::WATCHED {
            let scopes = if namespaces.is_empty() || kind.is_cluster_wide() {
                vec![WatchScope::Cluster]
            } else {
                namespaces.iter().cloned().map(WatchScope::Namespace).collect()
            };
            for scope in scopes {
                let objects = watches.watch(kind, scope, None);
                watches.whole.push((kind, objects));
            }
        }
        watches
    }

    fn watch(&self, kind: ObjectKind, scope: WatchScope, name: Option<&str>) -> WatchedObjects {
        let watch = self.api.watch(kind.kube(), scope, name);
        let (seen, mut followed, changed) =
            (watch.seen.clone(), watch.seen.clone(), Arc::clone(&self.changed));
        let task = tokio::spawn(async move {
            while followed.changed().await.is_ok() {
                changed.notify_one();
            }
        });
        WatchedObjects { seen, _watch: watch, task: task.abort_handle() }
    }

    /// Waits for any change.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Watches the single objects that are referred to, and no others.
    pub(super) fn follow(&mut self, referred: &BTreeSet<(ObjectKind, ObjectName)>) {
        self.named.retain(|key, _| referred.contains(key));
        for (kind, name) in referred {
            let key = (*kind, name.clone());
            if !self.named.contains_key(&key) {
                let scope = WatchScope::Namespace(name.namespace.clone());
                let watched = self.watch(*kind, scope, Some(&name.name));
                self.named.insert(key, watched);
            }
        }
    }

    /// Whether the server has said of every kind what there is.
    pub(super) fn is_settled(&self) -> bool {
        self.whole.iter().all(|(_, watched)| watched.seen.borrow().is_settled())
    }

    /// Whether it has said, or failed to say, what every object is that others refer to.
    pub(super) fn is_told(&self) -> bool {
        let is_told = |seen: &Observation<Value>| seen.objects.is_some() || seen.fault.is_some();
        self.named.values().all(|watched| is_told(&watched.seen.borrow()))
    }

    /// All objects that are known.
    pub(super) fn objects(&self) -> RawObjects {
        let whole = self.whole.iter().map(|(kind, watched)| (*kind, watched));
        let named = self.named.iter().map(|((kind, _), watched)| (*kind, watched));
        let mut objects = RawObjects::new();
        for (kind, watched) in whole.chain(named) {
            let seen = watched.seen.borrow();
            let known = objects.entry(kind).or_default();
            for object in seen.objects.iter().flat_map(|objects| objects.values()) {
                known.extend(name_of(object).map(|name| (name, object.clone())));
            }
        }
        objects
    }

    /// Why what is known may be out of date; that a server lacks a kind is no fault.
    pub(super) fn faults(&self) -> Vec<KindFault> {
        let whole = self.whole.iter().map(|(kind, watched)| (*kind, watched));
        let named = self.named.iter().map(|((kind, _), watched)| (*kind, watched));
        let fault = |(kind, watched): (ObjectKind, &WatchedObjects)| {
            let seen = watched.seen.borrow();
            let fault = seen.fault_text().filter(|_| !seen.lacks_kind())?;
            Some(KindFault { kind: kind.kube().plural, fault })
        };
        let mut faults: Vec<KindFault> = whole.chain(named).filter_map(fault).collect();
        faults.dedup();
        faults
    }
}

/// An object's name.
pub(super) fn name_of(object: &Value) -> Option<ObjectName> {
    let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
    Some(ObjectName { namespace: text("namespace").unwrap_or_default(), name: text("name")? })
}
