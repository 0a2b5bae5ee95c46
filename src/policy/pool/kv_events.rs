//! Owns whether and how a pool's engines are listened to for what their KV caches hold. Refuses to know what they say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;

/// How the engines behind a pool's endpoints are listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEventsSpec {
    /// The port on which each endpoint publishes its events.
    pub port: u16,
    /// The port on which each endpoint repeats events that were missed.
    pub replay_port: Option<u16>,
    /// What the topics of events begin with.
    pub topic: String,
}

/// How engines are listened to for what their KV caches hold: vLLM's `--kv-events-config` with the publisher `zmq`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KvEvents")]
pub(super) struct RawKvEvents {
    /// The port on which each endpoint publishes its events.
    #[serde(default = "usual_port")]
    #[schemars(range(min = 1, max = 65_535))]
    port: u16,
    /// The port on which each endpoint repeats events that were missed; without it only an engine that is listened to
    /// since its start, or that has cleared its cache, is known well enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1, max = 65_535))]
    replay_port: Option<u16>,
    /// What the topics of events begin with; all of them when empty.
    #[serde(default)]
    #[schemars(length(max = 200))]
    topic: String,
}

fn usual_port() -> u16 {
    5557
}

impl RawKvEvents {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> KvEventsSpec {
        if self.replay_port == Some(self.port) {
            checker.issue(&path.key("replay_port"), "must be another port than `port`");
        }
        KvEventsSpec { port: self.port, replay_port: self.replay_port, topic: self.topic }
    }
}
