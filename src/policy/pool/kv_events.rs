//! Owns whether and how a pool's engines are listened to for what their KV caches hold. Refuses to know what they say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;

/// How the engines behind a pool's endpoints are listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEventsSpec {
    /// Where they publish; `None` where they are asked.
    pub ports: Option<KvEventPorts>,
    /// What the topics of events begin with.
    pub topic: String,
}

/// Where engines publish what their KV caches hold, at their endpoints' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvEventPorts {
    /// The port of the events; a data-parallel rank's is that much higher.
    pub events: u16,
    /// The port on which events are repeated that were missed, counted the same way.
    pub replays: Option<u16>,
    /// Data-parallel ranks behind one address.
    pub ranks: u16,
}

/// How engines are listened to for what their KV caches hold: vLLM's `--kv-events-config` with the publisher `zmq`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KvEvents")]
pub(super) struct RawKvEvents {
    /// The port on which each endpoint publishes its events; when absent, each engine is asked at `/kv_event_sources`, and
    /// it is 5557 for one that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1, max = 65_535))]
    port: Option<u16>,
    /// The port on which each endpoint repeats events that were missed; without it only an engine that is listened to
    /// since its start, or that has cleared its cache, is known well enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1, max = 65_535))]
    replay_port: Option<u16>,
    /// Data-parallel ranks behind each address, each on ports of its own: that much higher than the first's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1, max = 64))]
    data_parallel_size: Option<u16>,
    /// What the topics of events begin with; all of them when empty.
    #[serde(default)]
    #[schemars(length(max = 200))]
    topic: String,
}

/// Where an engine publishes that does not tell.
const USUAL_PORT: u16 = 5557;

impl KvEventPorts {
    /// Those of an engine that does not tell.
    pub const USUAL: Self = Self { events: USUAL_PORT, replays: None, ranks: 1 };
}

impl RawKvEvents {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> KvEventsSpec {
        let Self { port, replay_port, data_parallel_size, topic } = self;
        let is_asked = port.is_none() && replay_port.is_none() && data_parallel_size.is_none();
        let ports = KvEventPorts {
            events: port.unwrap_or(USUAL_PORT),
            replays: replay_port,
            ranks: data_parallel_size.unwrap_or(1),
        };
        let last = |first: u16| u32::from(first) + u32::from(ports.ranks) - 1;
        for (key, first) in [("port", Some(ports.events)), ("replay_port", replay_port)] {
            if first.is_some_and(|first| last(first) > u32::from(u16::MAX)) {
                checker.issue(&path.key(key), "leaves no ports for all ranks");
            }
        }
        let ends = replay_port.map(|replays| ports.events.abs_diff(replays));
        if ends.is_some_and(|apart| apart < ports.ranks) {
            checker.issue(&path.key("replay_port"), "must be another port than `port`, for every rank");
        }
        KvEventsSpec { ports: (!is_asked).then_some(ports), topic }
    }
}
