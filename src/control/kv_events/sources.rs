//! Owns finding out where an engine publishes what its KV cache holds: by the policy, or by asking it at vLLM's
//! `/kv_event_sources`.
//! Refuses to know what is published there.

use crate::balance::Endpoint;
use crate::control::endpoint_client::{EndpointClient, GetLimits, PeerOf, peer, request};
use crate::policy::{KvEventPorts, KvEventsSpec, PoolSpec};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorType, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where vLLM tells.
const PATH: &str = "/kv_event_sources";

/// How long an engine may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// The most bytes of an answer: some hundreds for each rank.
const MAX_ANSWER: usize = 64 << 10;

/// The most ranks that are listened to.
const MAX_RANKS: u16 = 64;

/// Where one data-parallel rank of an engine publishes, at its endpoint's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KvEventSource {
    pub(super) rank: u16,
    pub(super) port: u16,
    pub(super) replay_port: Option<u16>,
    pub(super) topic: String,
}

/// Finds where one endpoint's engine publishes.
pub(super) struct SourceFinder {
    client: Arc<EndpointClient>,
    peer: HttpPeer,
    request: Option<RequestHeader>,
    spec: KvEventsSpec,
}

impl SourceFinder {
    pub(super) fn new(
        client: Arc<EndpointClient>,
        peer_of: &PeerOf,
        pool: &PoolSpec,
        endpoint: &Endpoint,
        spec: KvEventsSpec,
    ) -> Self {
        let request = request(pool, PATH, endpoint);
        Self { client, peer: peer(peer_of, pool, endpoint, ANSWER_TIME), request, spec }
    }

    /// Whether the engine is asked, and may say something else another time.
    pub(super) fn asks(&self) -> bool {
        self.spec.ports.is_none()
    }

    /// Finds the sources; none where the engine publishes nothing.
    pub(super) async fn find(&mut self) -> Result<Vec<KvEventSource>> {
        let (ports, request) = match (self.spec.ports, &self.request) {
            (Some(ports), _) => (ports, None),
            (None, request) => (KvEventPorts::USUAL, request.as_ref()),
        };
        let Some(request) = request else { return Ok(by_policy(ports, &self.spec.topic)) };
        let limits = GetLimits { time: ANSWER_TIME, bytes: MAX_ANSWER, statuses: &[200] };
        let mut text = Vec::new();
        match self.client.get(&mut self.peer, request, limits, |piece| text.extend_from_slice(piece)).await {
            Ok(()) => Ok(told(&text, &self.spec.topic)),
            // An older engine.
            Err(error) if matches!(error.etype(), ErrorType::HTTPStatus(400..=499 | 501)) => {
                Ok(by_policy(ports, &self.spec.topic))
            }
            Err(error) => Err(error),
        }
    }
}

fn by_policy(ports: KvEventPorts, topic: &str) -> Vec<KvEventSource> {
    let KvEventPorts { events, replays, ranks } = ports;
    let source = |rank| KvEventSource {
        rank,
        port: events.saturating_add(rank),
        replay_port: replays.map(|first| first.saturating_add(rank)),
        topic: topic.to_owned(),
    };
    (0..ranks).map(source).collect()
}

/// What an engine says of one rank.
#[derive(Deserialize)]
struct ToldSource {
    #[serde(default)]
    enable_kv_cache_events: bool,
    #[serde(default)]
    publisher: String,
    endpoint: Option<String>,
    replay_endpoint: Option<String>,
    #[serde(default)]
    topic: String,
}

/// Reads an engine's answer; a rank that is not published where it could be listened to leaves none, since without all of
/// them the account is not whole.
fn told(text: &[u8], topic: &str) -> Vec<KvEventSource> {
    let Ok(told) = serde_json::from_slice::<BTreeMap<String, ToldSource>>(text) else { return Vec::new() };
    let source = |(rank, told): (String, ToldSource)| {
        let rank = rank.parse::<u16>().ok().filter(|rank| *rank < MAX_RANKS)?;
        let is_published = told.enable_kv_cache_events && told.publisher == "zmq";
        Some(KvEventSource {
            rank,
            port: port(told.endpoint.as_deref()).filter(|_| is_published)?,
            replay_port: port(told.replay_endpoint.as_deref()),
            topic: if topic.is_empty() { told.topic } else { topic.to_owned() },
        })
    };
    let sources: Option<Vec<_>> = told.into_iter().map(source).collect();
    let mut sources = sources.unwrap_or_default();
    sources.sort_by_key(|source| source.rank);
    let is_whole = sources.iter().enumerate().all(|(at, source)| usize::from(source.rank) == at);
    if is_whole { sources } else { Vec::new() }
}

/// The port of an address that an engine listens on, at all of its own addresses; with a certain host it would connect
/// there instead.
fn port(address: Option<&str>) -> Option<u16> {
    let (host, port) = address?.strip_prefix("tcp://")?.rsplit_once(':')?;
    let is_any = matches!(host, "*" | "0.0.0.0" | "::" | "[::]");
    port.parse().ok().filter(|port| is_any && *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(endpoint: &str, replay: &str, publisher: &str) -> String {
        format!(
            r#"{{"enable_kv_cache_events":true,"publisher":"{publisher}","endpoint":"{endpoint}","replay_endpoint":{replay},
            "buffer_steps":10000,"hwm":100000,"max_queue_size":100000,"topic":"kv"}}"#
        )
    }

    fn source(rank: u16, port: u16, replay_port: Option<u16>, topic: &str) -> KvEventSource {
        KvEventSource { rank, port, replay_port, topic: topic.to_owned() }
    }

    #[test]
    fn an_engine_says_where_each_of_its_ranks_publishes() {
        let (one, other) =
            (rank("tcp://*:5557", "\"tcp://*:5667\"", "zmq"), rank("tcp://[::]:5558", "null", "zmq"));
        let both = format!(r#"{{"1":{other},"0":{one}}}"#);
        let expected = [source(0, 5557, Some(5667), "kv"), source(1, 5558, None, "kv")];
        assert_eq!(told(both.as_bytes(), ""), expected);
        assert_eq!(told(both.as_bytes(), "kv@")[1].topic, "kv@", "the policy's own comes first");
        assert_eq!(told(format!(r#"{{"1":{other}}}"#).as_bytes(), ""), [], "a rank is missing");
    }

    #[test]
    fn what_cannot_be_listened_to_is_no_source() {
        let one = |text: &str| told(format!(r#"{{"0":{text}}}"#).as_bytes(), "");
        for address in ["tcp://10.0.0.1:5557", "ipc:///tmp/x", "tcp://*:0", "tcp://*:x", "tcp://*:99999", ""]
        {
            assert_eq!(one(&rank(address, "null", "zmq")), [], "{address}");
        }
        assert_eq!(one(&rank("tcp://*:5557", "null", "null")), [], "another publisher");
        assert_eq!(one(r#"{"enable_kv_cache_events":false,"publisher":"zmq","endpoint":"tcp://*:1"}"#), []);
        for text in ["", "{}", "[]", "<html>", r#"{"0":5}"#] {
            assert_eq!(told(text.as_bytes(), ""), [], "{text}");
        }
    }

    #[test]
    fn the_ports_of_ranks_follow_each_other() {
        let ports = KvEventPorts { events: 5557, replays: Some(6557), ranks: 2 };
        let expected = [source(0, 5557, Some(6557), "t"), source(1, 5558, Some(6558), "t")];
        assert_eq!(by_policy(ports, "t"), expected);
        assert_eq!(by_policy(KvEventPorts::USUAL, ""), [source(0, 5557, None, "")]);
    }
}
