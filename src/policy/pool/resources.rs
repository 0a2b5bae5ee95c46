//! Owns which families of paths a pool has beside its models. Refuses to know the paths.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a pool's server keeps beside models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServedResource {
    /// `/v1/files`.
    Files,
    /// `/v1/batches`.
    Batches,
    /// `/v1/uploads`.
    Uploads,
    /// `/v1/fine_tuning`.
    FineTuning,
    /// `/v1/vector_stores`.
    VectorStores,
    /// `/v1/conversations`.
    Conversations,
    /// `/v1/containers`.
    Containers,
    /// `/v1/evals`.
    Evals,
    /// `/v1/assistants` and `/v1/threads`.
    Assistants,
    /// `/v1/videos`.
    Videos,
    /// `/v1/messages/batches`.
    MessageBatches,
    /// `/v1/realtime`, its WebSocket included.
    Realtime,
}

impl ServedResource {
    /// Its name in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Batches => "batches",
            Self::Uploads => "uploads",
            Self::FineTuning => "fine_tuning",
            Self::VectorStores => "vector_stores",
            Self::Conversations => "conversations",
            Self::Containers => "containers",
            Self::Evals => "evals",
            Self::Assistants => "assistants",
            Self::Videos => "videos",
            Self::MessageBatches => "message_batches",
            Self::Realtime => "realtime",
        }
    }
}
