//! Owns what Kubernetes knows of endpoints: each selection of the policy is followed by watches of its own, whose last
//! answer stays in force while the API server is away.
//!
//! Knows nothing of pools; nothing is looked up while a policy selects nothing.

mod api;
mod backoff;
mod cluster;
mod endpoints;
mod object_watch;
mod objects;
mod selection;

pub(in crate::control) use api::WatchScope;
pub(in crate::control) use cluster::{ClusterApi, KubeKind, WriteFault};
pub(in crate::control) use object_watch::{ObjectWatch, Observation};

use crate::policy::{KubeSelection, Policy};
use crate::snapshot::{KubeSlot, Live};
use api::KubeApi;
use selection::{Followed, SelectionState};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a policy waits for the first answer about what it selects anew.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// How long changes are gathered before they are published: a rollout changes many endpoints at once.
const GATHER: Duration = Duration::from_millis(25);

/// The selections of the policy, each with what is known of it.
#[derive(Default)]
pub struct KubeSources {
    followed: Mutex<BTreeMap<KubeSelection, Followed>>,
    api: Arc<KubeApi>,
    changed: Arc<Notify>,
}

/// What is known of one selection, for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceState {
    /// The selection as text.
    pub source: String,
    /// How many endpoints it names; nothing where there was no answer yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<usize>,
    /// Why what is known may be out of date, or is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl KubeSources {
    /// The API behind it, for objects that name no endpoints.
    pub(in crate::control) fn cluster(&self) -> ClusterApi {
        ClusterApi::new(Arc::clone(&self.api))
    }

    /// Follows what `policy` selects, and gives what is known of it; waits a little for what is not known yet.
    pub(super) async fn find(&self, policy: &Policy) -> KubeSlot {
        let wanted = selections(policy);
        let until = Instant::now() + FIRST_ANSWER;
        let mut states = {
            let mut followed = self.followed();
            let follow = |selection: &KubeSelection| {
                let known = followed.entry(selection.clone());
                known.or_insert_with(|| self.follow(selection)).states.clone()
            };
            wanted.iter().map(follow).collect::<Vec<_>>()
        };
        for state in &mut states {
            // An error means that the task is gone, which is as good as no answer.
            let _ = tokio::time::timeout_at(until, state.wait_for(SelectionState::is_told)).await;
        }
        self.known(&wanted)
    }

    fn follow(&self, selection: &KubeSelection) -> Followed {
        Followed::start(selection.clone(), Arc::clone(&self.api), Arc::clone(&self.changed))
    }

    fn known(&self, wanted: &BTreeSet<KubeSelection>) -> KubeSlot {
        let followed = self.followed();
        let known = wanted.iter().filter_map(|selection| {
            let endpoints = followed.get(selection)?.states.borrow().endpoints.clone()?;
            Some((selection.clone(), endpoints))
        });
        known.collect()
    }

    /// Publishes what the watches see, for ever.
    pub async fn run(self: Arc<Self>, live: Arc<Live>) {
        let mut generations = live.changes();
        let mut policy = Arc::clone(&live.load().policy);
        loop {
            tokio::select! {
                () = self.changed.notified() => {
                    tokio::time::sleep(GATHER).await;
                    let current = Arc::clone(&live.load().policy);
                    super::publish_kube(&live, self.known(&selections(&current)));
                }
                changed = generations.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let current = Arc::clone(&live.load().policy);
                    // What changes the policy has begun to follow what that selects.
                    if !Arc::ptr_eq(&current, &policy) {
                        let wanted = selections(&current);
                        let mut followed = self.followed();
                        followed.retain(|selection, _| wanted.contains(selection));
                        // Two writers may look at once; what one of them began to follow must not end with the other's.
                        for selection in &wanted {
                            followed.entry(selection.clone()).or_insert_with(|| self.follow(selection));
                        }
                        drop(followed);
                        policy = current;
                        // What was learnt between the reload's look and its publishing.
                        self.changed.notify_one();
                    }
                }
            }
        }
    }

    /// What is known of each selection that is followed.
    pub fn states(&self) -> Vec<SourceState> {
        let followed = self.followed();
        let state = |(selection, followed): (&KubeSelection, &Followed)| {
            let state = followed.states.borrow();
            SourceState {
                source: selection.to_string(),
                endpoints: state.endpoints.as_ref().map(|endpoints| endpoints.len()),
                fault: state.fault.clone(),
            }
        };
        followed.iter().map(state).collect()
    }

    fn followed(&self) -> std::sync::MutexGuard<'_, BTreeMap<KubeSelection, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn selections(policy: &Policy) -> BTreeSet<KubeSelection> {
    let discovered = policy.pools.iter().flat_map(|pool| &pool.probes.discovered);
    discovered.map(|discovery| discovery.selection.clone()).collect()
}
