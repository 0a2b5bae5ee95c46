//! Owns following vLLM Semantic Router's objects in the cluster, its `IntelligentPool` and `IntelligentRoute`, where a policy
//! file leaves its models and decisions to them. Refuses to know what they say.

use super::sources::{KubeKind, KubeSources, ObjectWatch, Observation, WatchScope};
use futures::future::select_all;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The kinds, which are looked for in the process's own namespace.
const KINDS: [KubeKind; 2] = [
    KubeKind { group: "vllm.ai", version: "v1alpha1", kind: "IntelligentPool", plural: "intelligentpools" },
    KubeKind { group: "vllm.ai", version: "v1alpha1", kind: "IntelligentRoute", plural: "intelligentroutes" },
];

/// How long a policy waits for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// The objects, followed from when a policy file leaves its decisions to them.
pub struct RoutingObjectWatches {
    kube: Arc<KubeSources>,
    watches: Vec<ObjectWatch<Value>>,
}

/// Why the objects are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy's models and decisions are in the cluster, whose {kind} cannot be read: {fault}")]
pub struct RoutingObjectFault {
    kind: &'static str,
    fault: String,
}

impl RoutingObjectWatches {
    /// Follows nothing yet.
    pub fn new(kube: Arc<KubeSources>) -> Self {
        Self { kube, watches: Vec::new() }
    }

    /// The objects as manifests, none where they are not `wanted` any more: where the policy's file leaves nothing to them. What
    /// was known stays while the API server is away.
    pub async fn manifests(&mut self, wanted: bool) -> Result<String, RoutingObjectFault> {
        if !wanted {
            self.watches.clear();
            return Ok(String::new());
        }
        if self.watches.is_empty() {
            let cluster = self.kube.cluster();
            self.watches = KINDS.map(|kind| cluster.watch(kind, WatchScope::Own, None)).into();
        }
        let until = Instant::now() + FIRST_ANSWER;
        let mut text = String::new();
        for (watch, kind) in self.watches.iter_mut().zip(KINDS) {
            // An error means that the task is gone, which is as good as no answer.
            let _ = tokio::time::timeout_at(until, watch.seen.wait_for(Observation::is_settled)).await;
            let seen = watch.seen.borrow_and_update().clone();
            let Some(objects) = seen.objects.clone() else {
                let fault = seen.fault_text().unwrap_or_else(|| "no answer in time".to_owned());
                return Err(RoutingObjectFault { kind: kind.kind, fault });
            };
            for object in objects.values() {
                let mut object = object.clone();
                // Those of a list do not say what they are.
                object["apiVersion"] = format!("{}/{}", kind.group, kind.version).into();
                object["kind"] = kind.kind.into();
                text.push_str("---\n");
                text.push_str(&object.to_string());
                text.push('\n');
            }
        }
        Ok(text)
    }

    /// Waits until an object changes; for ever where none is followed.
    pub async fn changed(&mut self) {
        if self.watches.is_empty() {
            return std::future::pending().await;
        }
        let changes = self.watches.iter_mut().map(|watch| {
            Box::pin(async {
                // An error means that the task is gone: nothing changes any more.
                if watch.seen.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        select_all(changes).await;
    }
}
