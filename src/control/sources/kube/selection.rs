//! Owns what is watched for one selection of the policy, and what its watches together say. Refuses to know the other
//! selections.

use super::api::KubeApi;
use super::endpoints::{of_inference_pool, of_pods, of_slices};
use super::object_watch::{ObjectQuery, ObjectWatch, Observation, WatchFault};
use super::objects::{
    EndpointSlice, PoolSelection, ReadyPod, endpoint_slice, inference_pool, older_inference_pool, ready_pod,
    resource,
};
use crate::policy::{KubeObject, KubeSelection, PortRef};
use crate::snapshot::DiscoveredEndpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// What is known of a selection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SelectionState {
    /// Nothing before the first answer.
    pub(super) endpoints: Option<Arc<BTreeSet<DiscoveredEndpoint>>>,
    /// Why that may be out of date, or is not known.
    pub(super) fault: Option<String>,
}

impl SelectionState {
    /// Whether there is anything to wait for no longer.
    pub(super) fn is_told(&self) -> bool {
        self.endpoints.is_some() || self.fault.is_some()
    }
}

/// A selection that is followed until this is dropped.
pub(super) struct Followed {
    pub(super) states: watch::Receiver<SelectionState>,
    task: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    /// Follows a selection; `changed` is notified of each change of its endpoints.
    pub(super) fn start(selection: KubeSelection, api: Arc<KubeApi>, changed: Arc<Notify>) -> Self {
        let (sender, states) = watch::channel(SelectionState::default());
        let name = selection.to_string();
        let report = SelectionReport { name, sender, changed };
        let watches = Watches { namespace: selection.namespace, api };
        let task = tokio::spawn(async move {
            match selection.object {
                KubeObject::Service { name, port } => follow_service(watches, &name, port, report).await,
                KubeObject::Pods { labels, ports } => follow_pods(watches, &labels, ports, report).await,
                KubeObject::InferencePool { name } => follow_inference_pool(watches, &name, report).await,
            }
        });
        Self { states, task: task.abort_handle() }
    }
}

/// Where what is known of a selection goes.
struct SelectionReport {
    name: String,
    sender: watch::Sender<SelectionState>,
    changed: Arc<Notify>,
}

impl SelectionReport {
    /// Takes in what is known now; without endpoints, those that were known stay.
    fn tell(&self, endpoints: Option<BTreeSet<DiscoveredEndpoint>>, fault: Option<String>) {
        let mut is_changed = false;
        self.sender.send_if_modified(|state| {
            is_changed = endpoints.as_ref().is_some_and(|found| state.endpoints.as_deref() != Some(found));
            let is_other_fault = state.fault != fault;
            if is_other_fault {
                if let Some(fault) = &fault {
                    tracing::warn!(
                        source = self.name,
                        fault,
                        "Kubernetes does not say which endpoints there are"
                    );
                } else {
                    tracing::info!(source = self.name, "Kubernetes says which endpoints there are");
                }
                state.fault = fault;
            }
            if is_changed {
                state.endpoints = endpoints.map(Arc::new);
            }
            is_changed || is_other_fault
        });
        if is_changed {
            self.changed.notify_one();
        }
    }
}

/// Where watches are started.
struct Watches {
    namespace: Option<String>,
    api: Arc<KubeApi>,
}

impl Watches {
    fn slices(&self, service: &str) -> ObjectWatch<EndpointSlice> {
        let query = ObjectQuery {
            resource: resource("discovery.k8s.io", "v1", "EndpointSlice"),
            scope: self.namespace.clone().into(),
            labels: Some(format!("kubernetes.io/service-name={service}")),
            fields: None,
        };
        ObjectWatch::start(query, Arc::clone(&self.api), endpoint_slice)
    }

    fn pods(&self, labels: &BTreeMap<String, String>) -> ObjectWatch<ReadyPod> {
        let query = ObjectQuery {
            resource: resource("", "v1", "Pod"),
            scope: self.namespace.clone().into(),
            labels: Some(KubeObject::label_selector(labels)),
            // One that has ended, or waits for a node, takes no requests.
            fields: Some("status.phase=Running".to_owned()),
        };
        ObjectWatch::start(query, Arc::clone(&self.api), ready_pod)
    }

    fn inference_pools(&self, group: PoolGroup, name: &str) -> ObjectWatch<PoolSelection> {
        let (resource, read): (_, fn(_) -> _) = match group {
            PoolGroup::V1 => (resource("inference.networking.k8s.io", "v1", "InferencePool"), inference_pool),
            PoolGroup::Older => {
                (resource("inference.networking.x-k8s.io", "v1alpha2", "InferencePool"), older_inference_pool)
            }
        };
        let query = ObjectQuery {
            resource,
            scope: self.namespace.clone().into(),
            labels: None,
            fields: Some(format!("metadata.name={name}")),
        };
        ObjectWatch::start(query, Arc::clone(&self.api), read)
    }
}

/// The groups that have an `InferencePool`.
#[derive(Debug, Clone, Copy)]
enum PoolGroup {
    V1,
    Older,
}

async fn follow_service(watches: Watches, name: &str, port: Option<PortRef>, report: SelectionReport) {
    let mut watch = watches.slices(name);
    while watch.seen.changed().await.is_ok() {
        let seen = watch.seen.borrow_and_update().clone();
        report
            .tell(seen.objects.as_deref().map(|slices| of_slices(slices, port.as_ref())), seen.fault_text());
    }
}

async fn follow_pods(
    watches: Watches,
    labels: &BTreeMap<String, String>,
    ports: Vec<PortRef>,
    report: SelectionReport,
) {
    let mut watch = watches.pods(labels);
    while watch.seen.changed().await.is_ok() {
        let seen = watch.seen.borrow_and_update().clone();
        report.tell(seen.objects.as_deref().map(|pods| of_pods(pods, &ports)), seen.fault_text());
    }
}

/// Follows the pool of that name in both groups, and the pods that it selects; where both have one, the newer holds.
async fn follow_inference_pool(watches: Watches, name: &str, report: SelectionReport) {
    let mut newer = watches.inference_pools(PoolGroup::V1, name);
    let mut older = watches.inference_pools(PoolGroup::Older, name);
    let mut selected: Option<SelectedPods> = None;
    loop {
        let is_over = tokio::select! {
            changed = newer.seen.changed() => changed.is_err(),
            changed = older.seen.changed() => changed.is_err(),
            changed = pods_changed(selected.as_mut()) => changed.is_err(),
        };
        if is_over {
            return;
        }
        let (newer, older) = (newer.seen.borrow_and_update().clone(), older.seen.borrow_and_update().clone());
        match pool_of(&newer, &older) {
            PoolAnswer::Pool(pool, fault) => {
                let known = selected.take().filter(|known| known.labels == pool.labels);
                let known = selected.insert(known.unwrap_or_else(|| SelectedPods {
                    labels: pool.labels.clone(),
                    watch: watches.pods(&pool.labels),
                }));
                let seen = known.watch.seen.borrow_and_update().clone();
                let endpoints = seen.objects.as_deref().map(|pods| of_inference_pool(&pool, pods));
                report.tell(endpoints, fault.or(seen.fault_text()));
            }
            PoolAnswer::None => {
                selected = None;
                report.tell(Some(BTreeSet::new()), Some("there is no such InferencePool".to_owned()));
            }
            PoolAnswer::Unknown(fault) => report.tell(None, fault),
        }
    }
}

/// The pods that an `InferencePool` selects.
struct SelectedPods {
    labels: BTreeMap<String, String>,
    watch: ObjectWatch<ReadyPod>,
}

async fn pods_changed(selected: Option<&mut SelectedPods>) -> Result<(), watch::error::RecvError> {
    match selected {
        Some(selected) => selected.watch.seen.changed().await,
        None => std::future::pending().await,
    }
}

/// What both groups together say of a pool.
enum PoolAnswer {
    /// It is there, though that may be out of date.
    Pool(PoolSelection, Option<String>),
    /// It is in neither.
    None,
    /// One has not answered, and the other has none.
    Unknown(Option<String>),
}

fn pool_of(newer: &Observation<PoolSelection>, older: &Observation<PoolSelection>) -> PoolAnswer {
    let both = [newer, older];
    for seen in both {
        if let Some(pool) = seen.objects.as_deref().and_then(|pools| pools.values().next()) {
            return PoolAnswer::Pool(pool.clone(), seen.fault_text());
        }
        if !seen.is_settled() {
            return PoolAnswer::Unknown(seen.fault_text());
        }
    }
    if both.iter().any(|seen| seen.objects.is_some()) {
        return PoolAnswer::None;
    }
    PoolAnswer::Unknown(both.iter().find_map(|seen| seen.fault_text()))
}

impl<T> Observation<T> {
    /// Whether the server has said what there is: also that it has no such kind, or hides the kind from us.
    pub(in crate::control) fn is_settled(&self) -> bool {
        let is_refused = matches!(self.fault, Some(WatchFault::NoSuchKind | WatchFault::Forbidden(_)));
        self.objects.is_some() || is_refused
    }

    /// Whether the server has no such kind.
    pub(in crate::control) fn lacks_kind(&self) -> bool {
        self.fault == Some(WatchFault::NoSuchKind)
    }

    pub(in crate::control) fn fault_text(&self) -> Option<String> {
        Some(match self.fault.as_ref()? {
            WatchFault::NoSuchKind => "the API server has no such kind".to_owned(),
            WatchFault::Forbidden(message) | WatchFault::Failed(message) => message.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(objects: Option<&[&str]>, fault: Option<WatchFault>) -> Observation<PoolSelection> {
        let pool = |label: &&str| {
            let labels = BTreeMap::from([("app".to_owned(), (*label).to_owned())]);
            ("p".to_owned(), PoolSelection { labels, ports: vec![8000], h2c: false })
        };
        Observation { objects: objects.map(|labels| Arc::new(labels.iter().map(pool).collect())), fault }
    }

    fn answer(newer: &Observation<PoolSelection>, older: &Observation<PoolSelection>) -> String {
        let or_none = |fault: Option<String>| fault.unwrap_or_default();
        match pool_of(newer, older) {
            PoolAnswer::Pool(pool, fault) => format!("{} {}", pool.labels["app"], or_none(fault)),
            PoolAnswer::None => "none".to_owned(),
            PoolAnswer::Unknown(fault) => format!("unknown {}", or_none(fault)),
        }
    }

    #[test]
    fn the_newer_group_holds_and_the_older_stands_in() {
        let no_kind = || Some(WatchFault::NoSuchKind);
        let hidden = || Some(WatchFault::Forbidden("hidden".to_owned()));
        let away = || Some(WatchFault::Failed("away".to_owned()));
        for (newer, older, expected) in [
            (seen(Some(&["new"]), None), seen(Some(&["old"]), None), "new "),
            (seen(Some(&["new"]), away()), seen(None, away()), "new away"),
            (seen(Some(&[]), None), seen(Some(&["old"]), None), "old "),
            (seen(None, no_kind()), seen(Some(&["old"]), None), "old "),
            (seen(None, hidden()), seen(Some(&["old"]), None), "old "),
            (seen(Some(&[]), None), seen(None, no_kind()), "none"),
            (seen(Some(&[]), None), seen(None, hidden()), "none"),
            (seen(Some(&[]), None), seen(None, None), "unknown "),
            (seen(None, None), seen(Some(&["old"]), None), "unknown "),
            (seen(None, away()), seen(Some(&["old"]), None), "unknown away"),
            (seen(None, hidden()), seen(None, no_kind()), "unknown hidden"),
        ] {
            assert_eq!(answer(&newer, &older), expected, "{newer:?} {older:?}");
        }
    }
}
