//! Owns what two engines are told of one prompt's KV cache, which the first computes and the second goes on from: the members
//! of each connector, as vLLM's and `SGLang`'s engines read them.
//!
//! Refuses to know where requests go, and how the cache gets from one to the other.

use std::net::SocketAddr;

use serde::Deserialize;

use super::json;
use super::json::object::{Object, non_null_member};

/// How one engine's KV cache of a prompt is named to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvTransferId(pub String);

/// A data-parallel rank of an engine behind Mooncake's bootstrap server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MooncakeRank {
    /// Its number.
    pub rank: u16,
    /// Its id, as JSON.
    id: Vec<u8>,
}

/// Where two of `SGLang`'s engines meet over one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootstrapRoom {
    /// The bootstrap server of the engine that computes the prompt.
    pub server: SocketAddr,
    /// Drawn anew for each request and attempt: two requests in one room end both engines.
    pub room: u64,
}

/// What vLLM's `NixlConnector` is told to keep a prompt for another engine, which its answer names it to.
pub const KEEP_BY_NIXL: &[u8] = br#"{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}"#;

impl KvTransferId {
    /// What vLLM's `OffloadingConnector` is told to keep a prompt for a peer.
    pub fn keep_by_offloading(&self) -> Vec<u8> {
        Object::default().raw("remote_decoder", &self.peer().end()).end()
    }

    /// What it is told to fetch the prompt from the peer-to-peer tier of another engine.
    pub fn fetch_by_offloading(&self, from: SocketAddr) -> Vec<u8> {
        let peer = self.peer().text("remote_host", &from.ip().to_string());
        let peer = peer.number("remote_port", from.port().into()).end();
        Object::default().raw("remote_prefiller", &peer).end()
    }

    fn peer(&self) -> Object {
        Object::default().text("kv_request_id", &self.0)
    }

    /// What vLLM's `MooncakeConnector` is told to keep a prompt for another engine.
    pub fn keep_by_mooncake(&self) -> Vec<u8> {
        let keep = Object::default().raw("do_remote_decode", b"true").raw("do_remote_prefill", b"false");
        keep.text("transfer_id", &self.0).end()
    }

    /// What it is told to fetch the prompt from a rank behind the bootstrap server at `from`.
    pub fn fetch_by_mooncake(&self, from: SocketAddr, rank: &MooncakeRank) -> Vec<u8> {
        let fetch = Object::default().raw("do_remote_decode", b"false").raw("do_remote_prefill", b"true");
        let fetch =
            fetch.text("transfer_id", &self.0).text("remote_bootstrap_addr", &format!("http://{from}"));
        fetch.raw("remote_engine_id", &rank.id).end()
    }
}

/// Reads which ranks there are behind a bootstrap server of Mooncake's, out of its answer to `/query`.
pub fn mooncake_ranks(answer: &[u8]) -> Vec<MooncakeRank> {
    let answer = answer.trim_ascii();
    if !answer.starts_with(b"{") || json::document(answer).is_err() {
        return Vec::new();
    }
    let ranks = json::members(answer, 0).map_while(Result::ok).filter_map(|member| {
        let id = non_null_member(&answer[member.value.clone()], "engine_id")?;
        let rank = std::str::from_utf8(&answer[member.key]).ok()?.parse().ok()?;
        id.starts_with(b"\"").then(|| MooncakeRank { rank, id: id.to_vec() })
    });
    ranks.collect()
}

/// Says whether an answer ended at its limit of tokens: of one that ended by itself Mooncake's connector keeps nothing.
pub fn is_cut_at_its_limit(answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Ended<'a> {
        #[serde(borrow, default)]
        choices: Vec<EndedChoice<'a>>,
        stop_reason: Option<&'a str>,
    }
    #[derive(Deserialize)]
    struct EndedChoice<'a> {
        finish_reason: Option<&'a str>,
    }
    serde_json::from_slice::<Ended<'_>>(answer).is_ok_and(|ended| {
        ended.stop_reason == Some("max_tokens")
            || ended.choices.first().is_some_and(|choice| choice.finish_reason == Some("length"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connector_has_members_of_its_own() {
        let id = KvTransferId("a1".to_owned());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let v6 = "[fd00::7]:7777".parse().unwrap();
        assert_eq!(text(id.keep_by_offloading()), r#"{"remote_decoder":{"kv_request_id":"a1"}}"#);
        assert_eq!(
            text(id.fetch_by_offloading(v6)),
            r#"{"remote_prefiller":{"kv_request_id":"a1","remote_host":"fd00::7","remote_port":7777}}"#
        );
        assert_eq!(
            text(id.keep_by_mooncake()),
            r#"{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"a1"}"#
        );
        let rank = mooncake_ranks(br#" {"3":{"engine_id":"e\"3","worker_addr":{"0":{"0":"tcp://h:1"}}}}"#);
        assert_eq!((rank.len(), rank[0].rank), (1, 3));
        assert_eq!(
            text(id.fetch_by_mooncake(v6, &rank[0])),
            r#"{"do_remote_decode":false,"do_remote_prefill":true,"transfer_id":"a1","remote_bootstrap_addr":"http://[fd00::7]:7777","remote_engine_id":"e\"3"}"#
        );
    }

    #[test]
    fn an_answer_that_ended_by_itself_is_not_cut() {
        for (answer, is_cut) in [
            (r#"{"choices":[{"finish_reason":"length","message":{"content":"a"}}],"usage":{}}"#, true),
            (r#"{"choices":[{"finish_reason":"stop"}]}"#, false),
            (r#"{"type":"message","stop_reason":"max_tokens"}"#, true),
            (r#"{"type":"message","stop_reason":"end_turn"}"#, false),
            ("{}", false),
        ] {
            assert_eq!(is_cut_at_its_limit(answer.as_bytes()), is_cut, "{answer}");
        }
    }

    #[test]
    fn what_names_no_engine_is_no_rank() {
        for answer in [
            "",
            "[]",
            "{}",
            "{\"0\":",
            r#"{"0":{}}"#,
            r#"{"0":{"engine_id":7}}"#,
            r#"{"x":{"engine_id":"e"}}"#,
        ] {
            assert_eq!(mooncake_ranks(answer.as_bytes()), [], "{answer}");
        }
        assert_eq!(
            mooncake_ranks(br#"{"0":{"engine_id":"a"},"70000":{"engine_id":"b"},"1":{"engine_id":"c"}}"#)
                .len(),
            2
        );
    }
}
