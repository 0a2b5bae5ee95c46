//! Owns the shape of who clients are, of where answers are kept, and of what models cost and how they reason. Refuses to
//! know what the values mean together.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::RawDuration;
use super::raw_pool::RawSecret;

/// Who clients are: what is believed of them, and on what grounds.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Identity")]
pub(super) struct RawIdentity {
    /// Whether a request of nobody known is refused with 401.
    pub(super) required: bool,
    /// Keys that clients show as `Authorization: Bearer KEY`, and whose they are.
    #[schemars(length(max = 10_000))]
    pub(super) keys: Vec<RawKey>,
    /// The networks of peers whose identity headers are believed, such as `10.0.0.0/8`.
    #[schemars(length(max = 256))]
    pub(super) trusted_peers: Vec<String>,
    /// The groups whose members, like trusted peers, see with `x-vsr-debug: true` which signals matched.
    #[schemars(length(max = 256))]
    pub(super) debug_groups: Vec<String>,
    /// The names of these headers.
    pub(super) headers: RawIdentityHeaders,
}

/// One key and whose it is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Key")]
pub(super) struct RawKey {
    /// Where the key is, never the key itself.
    pub(super) value: RawSecret,
    /// The user.
    #[schemars(length(min = 1, max = 256))]
    pub(super) user: String,
    /// The user's groups.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub(super) groups: Vec<String>,
    /// The user's tenant.
    #[serde(default)]
    pub(super) tenant: Option<String>,
}

/// The names of the headers that say who a client is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "IdentityHeaders")]
pub(super) struct RawIdentityHeaders {
    /// The user.
    pub(super) user: String,
    /// The groups, with commas between them.
    pub(super) groups: String,
    /// The tenant.
    pub(super) tenant: String,
}

impl Default for RawIdentityHeaders {
    fn default() -> Self {
        Self {
            user: "x-authz-user-id".to_owned(),
            groups: "x-authz-user-groups".to_owned(),
            tenant: "x-authz-tenant-id".to_owned(),
        }
    }
}

/// Where answers are kept that are given again.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cache")]
pub(super) struct RawCache {
    /// Where.
    pub(super) store: RawStore,
    /// How many answers at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_entries: usize,
    /// How many bytes at most, embeddings included.
    #[schemars(range(min = 1_024))]
    pub(super) max_bytes: usize,
    /// The longest answer that is kept, in bytes.
    #[schemars(range(min = 1, max = 67_108_864))]
    pub(super) max_answer_bytes: usize,
    /// For `memory`: a file that keeps the answers over a restart; without one they are lost.
    pub(super) persist: Option<String>,
    /// For `redis`: the server.
    #[schemars(with = "RawRedis")]
    pub(super) redis: Option<RawRedis>,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            store: RawStore::Memory,
            max_entries: 10_000,
            max_bytes: 256 << 20,
            max_answer_bytes: 1 << 20,
            persist: None,
            redis: None,
        }
    }
}

/// Where answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Store")]
pub(super) enum RawStore {
    /// In this process.
    Memory,
    /// In a Redis or Valkey server, which several processes may share.
    Redis,
}

/// A Redis or Valkey server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redis")]
pub(super) struct RawRedis {
    /// Its address, such as `redis://127.0.0.1:6379/0`, without a password.
    pub(super) address: String,
    /// Where the password is; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawSecret")]
    pub(super) password: Option<RawSecret>,
    /// Put before each key.
    #[serde(default = "prefix")]
    #[schemars(length(max = 128))]
    pub(super) prefix: String,
    /// How long a command may take; beyond that there is no kept answer.
    #[serde(default = "tenth_of_a_second")]
    pub(super) timeout: RawDuration,
}

fn prefix() -> String {
    "signalbox:".to_owned()
}

fn tenth_of_a_second() -> RawDuration {
    RawDuration(Duration::from_millis(100))
}

/// How a family of models is told to reason or not to.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReasoningFamily")]
pub(super) struct RawReasoningFamily {
    /// Where it is said.
    pub(super) kind: RawReasoningKind,
    /// The name of the parameter; that of the kind when absent.
    #[serde(default)]
    pub(super) parameter: Option<String>,
}

/// Where a model is told to reason or not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ReasoningKind")]
pub(super) enum RawReasoningKind {
    /// `true` or `false` in `chat_template_kwargs`.
    ChatTemplateKwargs,
    /// `low`, `medium` or `high` at the top level.
    ReasoningEffort,
    /// `{"type": "enabled"}` or `{"type": "disabled"}` at the top level.
    Thinking,
}

/// The families, by name.
pub(super) type RawReasoningFamilies = IndexMap<String, RawReasoningFamily>;

/// What a model costs for a million tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Price")]
pub(super) struct RawPrice {
    /// The currency, for metrics and the log.
    #[serde(default = "usd")]
    #[schemars(length(min = 1, max = 16))]
    pub(super) currency: String,
    /// For tokens of the prompt.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub(super) prompt: f64,
    /// For tokens of the answer.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub(super) completion: f64,
    /// For tokens of the prompt that the upstream had cached; `prompt` when absent.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub(super) cached: Option<f64>,
}

fn usd() -> String {
    "USD".to_owned()
}
