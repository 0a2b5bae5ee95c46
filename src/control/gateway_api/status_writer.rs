//! Owns writing what is said of objects into their states, where this replica is the one that does. Refuses to know what is
//! said.

use super::cluster::RawObjects;
use super::conditions::{EntryOwner, ObjectStatus, merged};
use crate::control::sources::{ClusterApi, WriteFault};
use crate::policy::ObjectName;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// After how long what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is to be said, and of which objects.
#[derive(Default)]
pub(super) struct WantedStatuses {
    pub(super) statuses: Vec<ObjectStatus>,
    pub(super) gateways: Vec<ObjectName>,
    pub(super) raw: Arc<RawObjects>,
}

/// Writes states.
pub(super) struct StatusWriter {
    pub(super) api: ClusterApi,
    pub(super) controller: String,
    pub(super) wanted: watch::Receiver<Arc<WantedStatuses>>,
    /// Whether this replica writes.
    pub(super) holds: watch::Receiver<bool>,
}

impl StatusWriter {
    /// Writes for ever, whenever what is to be said changes or this replica becomes the one that says it.
    pub(super) async fn run(mut self) {
        loop {
            let is_done = !*self.holds.borrow_and_update() || self.write().await;
            let retry = async {
                if is_done {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(RETRY).await;
            };
            let is_over = tokio::select! {
                changed = self.wanted.changed() => changed.is_err(),
                changed = self.holds.changed() => changed.is_err(),
                () = retry => false,
            };
            if is_over {
                return;
            }
        }
    }

    /// Writes what is not right yet; says whether all of it is written.
    async fn write(&mut self) -> bool {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let mut is_done = true;
        for status in &wanted.statuses {
            if !*self.holds.borrow() || self.wanted.has_changed().unwrap_or(true) {
                // What is newer is written instead.
                return true;
            }
            let Some(patch) = self.patch(&wanted, status) else { continue };
            match self.api.patch_status(status.kind.kube(), &status.name, &patch).await {
                // Its newer version comes by the watch, or it is gone.
                Ok(()) | Err(WriteFault::Conflict | WriteFault::NotFound) => {}
                Err(fault) => {
                    tracing::warn!(object = %status.name, kind = ?status.kind, %fault, "its state is not written");
                    is_done = false;
                }
            }
        }
        is_done
    }

    /// The change of an object's state, for the version that was judged; nothing where it is right.
    fn patch(&self, wanted: &WantedStatuses, status: &ObjectStatus) -> Option<Value> {
        let object = wanted.raw.get(&status.kind)?.get(&status.name)?;
        let owner = EntryOwner { controller: &self.controller, gateways: &wanted.gateways };
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let next = merged(&object["status"], &status.wanted, &owner, &status.name.namespace, &now)?;
        Some(json!({"metadata": {"resourceVersion": object["metadata"]["resourceVersion"]}, "status": next}))
    }
}
