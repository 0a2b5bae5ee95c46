//! Owns what becomes of a request whose prompt one engine computes and from which another goes on: the bodies of both,
//! and what is handed over between them.
//!
//! Puts vLLM's `kv_transfer_params` and `SGLang`'s bootstrap rooms where they belong. Refuses to know what a connector says in
//! them, engines and pools.

use bytes::Bytes;

use super::change::{remove_members, set_member};
use super::json::object::non_null_member;
use super::{Api, BootstrapRoom, ChatRequest, json, splice};

/// The member that says whence and whither the KV cache of a prompt goes.
const TRANSFER: &str = "kv_transfer_params";

/// Members that are wrong in a request that is answered with one token, at once; the first unless something is kept.
const NOT_FOR_ONE_TOKEN: [&str; 3] = [TRANSFER, "stream_options", "min_tokens"];

/// Where `SGLang`'s engines take a data-parallel rank from; the room says which it has to be.
const SGLANG_RANKS: [&str; 3] = ["routed_dp_rank", "data_parallel_rank", "disagg_prefill_dp_rank"];

/// Why one engine has to do all of a request, whatever its length.
///
/// What is handed over is one prompt's, and once: several choices would each fetch it, and only the first finds it.
const WHOLE: [&str; 3] = ["prompt_logprobs", "prompt_embeds", "truncate_prompt_tokens"];

impl ChatRequest {
    /// Says whether the prompt can be computed by one engine and answered by another.
    pub fn can_hand_over_prefill(&self) -> bool {
        let is_one = |name: &str| self.member(name).is_none_or(|value| matches!(value, b"1" | b"null"));
        let is_off = |name: &str| self.member(name).is_none_or(|value| matches!(value, b"false" | b"null"));
        self.dialect().hands_over_prefill
            && ["n", "best_of"].into_iter().all(is_one)
            && ["echo", "use_beam_search"].into_iter().all(is_off)
            && WHOLE.iter().all(|name| self.member(name).is_none_or(|value| value == b"null"))
            && self.member("prompt").is_none_or(is_one_prompt)
    }

    /// Says whether two of `SGLang`'s engines can meet over the request: over a prompt that can be handed over, in an API of
    /// theirs that has a place for the room.
    pub fn can_name_bootstrap_room(&self) -> bool {
        self.api() != Api::Messages && self.can_hand_over_prefill()
    }

    /// Says whether the prompt is one text, or one conversation.
    pub fn is_one_text_prompt(&self) -> bool {
        let is_text = |prompt: &[u8]| prompt.starts_with(b"\"");
        self.api() == Api::Chat
            || (self.api() == Api::Completions && self.member("prompt").is_some_and(is_text))
    }

    /// Says whether the client has written where a KV cache comes from: an engine would fetch it from there.
    pub fn names_kv_transfer(&self) -> bool {
        self.member(TRANSFER).is_some()
    }

    /// Returns the body with which an engine computes the prompt alone; with `keep` it holds the result for another.
    pub fn prefill_body(&self, keep: Option<&[u8]>) -> Bytes {
        let limits = self.dialect().token_limits;
        let set = |name: &str| self.member(name).is_some() || name == "max_tokens";
        // In one go: each takes a comma with it, and two neighbours would take the same.
        let gone = if keep.is_some() { &NOT_FOR_ONE_TOKEN[1..] } else { &NOT_FOR_ONE_TOKEN[..] };
        let mut edits = remove_members(self, gone);
        for name in limits.iter().filter(|name| set(name)) {
            edits.extend(set_member(self, name, b"1"));
        }
        if self.stream() {
            edits.extend(set_member(self, "stream", b"false"));
        }
        if let Some(keep) = keep {
            edits.extend(set_member(self, TRANSFER, keep));
        }
        edits.sort_by_key(|edit| edit.span.start);
        splice(self.body(), &edits)
    }

    /// Returns the body for the engine that answers: with what it is to fetch, or without a word of a transfer. All else is
    /// as the client wrote it.
    pub fn decode_body(&self, transfer: Option<&[u8]>) -> Bytes {
        let edits = match transfer {
            Some(transfer) => set_member(self, TRANSFER, transfer),
            None => remove_members(self, &[TRANSFER]),
        };
        splice(self.body(), &edits)
    }

    /// Returns the body for both of `SGLang`'s engines, which meet in this room. All else is as the client wrote it.
    pub fn bootstrap_body(&self, BootstrapRoom { server, room }: BootstrapRoom) -> Bytes {
        let mut edits = remove_members(self, &SGLANG_RANKS);
        let host = json::quoted(&server.ip().to_string());
        edits.extend(set_member(self, "bootstrap_host", &host));
        edits.extend(set_member(self, "bootstrap_port", server.port().to_string().as_bytes()));
        edits.extend(set_member(self, "bootstrap_room", room.to_string().as_bytes()));
        edits.sort_by_key(|edit| edit.span.start);
        splice(self.body(), &edits)
    }
}

/// Says whether a prompt of Completions is one: a text, or the ids of its tokens.
fn is_one_prompt(prompt: &[u8]) -> bool {
    match prompt.first() {
        Some(b'[') => json::array(prompt).next().is_some_and(|first| first[0].is_ascii_digit()),
        first => first == Some(&b'"'),
    }
}

/// What an engine's answer says of the KV cache that it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvTransfer<'a> {
    /// What the next engine is to be told.
    Kept(&'a [u8]),
    /// It keeps nothing: a prompt shorter than a block, or an answer that ended by itself.
    Nothing,
    /// The answer is none.
    Malformed,
}

/// Reads an answer to [`ChatRequest::prefill_body`].
///
/// An engine that is told to fetch nothing from another fails, so that what names no block is nothing.
pub fn transfer_of(answer: &[u8]) -> KvTransfer<'_> {
    if !answer.trim_ascii_start().starts_with(b"{") || json::document(answer).is_err() {
        return KvTransfer::Malformed;
    }
    let start = answer.len() - answer.trim_ascii_start().len();
    let Some(transfer) = non_null_member(&answer[start..], TRANSFER) else { return KvTransfer::Nothing };
    let is_kept = transfer.starts_with(b"{") && json::member(transfer, "do_remote_prefill") == Some(b"true");
    let blocks = json::member(transfer, "remote_block_ids").filter(|_| is_kept);
    let has_blocks = blocks.is_some_and(|blocks| blocks[0] == b'[' && json::array(blocks).next().is_some());
    if has_blocks { KvTransfer::Kept(transfer) } else { KvTransfer::Nothing }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::KEEP_BY_NIXL;
    use super::*;

    fn request(api: Api, body: &str) -> ChatRequest {
        ChatRequest::of(api, Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn chat(body: &str) -> ChatRequest {
        request(Api::Chat, body)
    }

    #[test]
    fn the_first_engine_is_asked_for_one_token_at_once_and_to_keep_what_it_computed() {
        let body = r#"{"stream_options":{"include_usage":true}, "model":"m","stream" : true,"max_completion_tokens":900,"min_tokens":5,"x":1e400}"#;
        assert_eq!(
            chat(body).prefill_body(Some(KEEP_BY_NIXL)),
            format!(
                r#"{{"model":"m","stream" : false,"max_completion_tokens":1,"x":1e400,"max_tokens":1,"kv_transfer_params":{}}}"#,
                String::from_utf8_lossy(KEEP_BY_NIXL)
            )
        );
        let plain = chat(
            r#"{"model":"m","max_tokens":9,"kv_transfer_params":{"remote_host":"evil"},"min_tokens":2}"#,
        );
        assert_eq!(plain.prefill_body(None), r#"{"model":"m","max_tokens":1}"#);
        assert_eq!(
            request(Api::Messages, r#"{"model":"m","max_tokens":9}"#).prefill_body(None),
            r#"{"model":"m","max_tokens":1}"#
        );
    }

    #[test]
    fn the_second_engine_gets_the_clients_bytes_and_what_the_first_one_said() {
        let body = r#"{ "model":"m", "messages":[] , "seed":1.0e0 }"#;
        let with = chat(body).decode_body(Some(br#"{"remote_block_ids":[7]}"#));
        assert_eq!(
            with,
            r#"{ "model":"m", "messages":[] , "seed":1.0e0,"kv_transfer_params":{"remote_block_ids":[7]} }"#
        );
        let request = chat(body);
        assert_eq!(
            request.decode_body(None).as_ptr(),
            request.body().as_ptr(),
            "nothing to change is no copy"
        );
        let evil = chat(r#"{"model":"m","kv_transfer_params":{"remote_host":"10.0.0.1"},"x":1}"#);
        assert!(evil.names_kv_transfer());
        assert_eq!(evil.decode_body(None), r#"{"model":"m","x":1}"#);
        assert_eq!(evil.decode_body(Some(b"{}")), r#"{"model":"m","kv_transfer_params":{},"x":1}"#);
    }

    #[test]
    fn both_engines_are_told_of_their_room_whatever_the_client_says_of_one() {
        let at = |server: &str| BootstrapRoom { server: server.parse().unwrap(), room: u64::MAX >> 1 };
        let body = r#"{"data_parallel_rank":3,"model":"m","bootstrap_host":"evil","stream":true, "bootstrap_room":[7] }"#;
        assert_eq!(
            chat(body).bootstrap_body(at("10.0.0.7:8998")),
            r#"{"model":"m","bootstrap_host":"10.0.0.7","stream":true, "bootstrap_room":9223372036854775807,"bootstrap_port":8998 }"#
        );
        assert_eq!(
            chat(r#"{"model":"m"}"#).bootstrap_body(at("[fd00::7]:1")),
            r#"{"model":"m","bootstrap_host":"fd00::7","bootstrap_port":1,"bootstrap_room":9223372036854775807}"#
        );
        assert!(chat(r#"{"model":"m"}"#).can_name_bootstrap_room());
        assert!(!request(Api::Messages, r#"{"model":"m"}"#).can_name_bootstrap_room());
        assert!(!chat(r#"{"model":"m","n":2}"#).can_name_bootstrap_room());
    }

    #[test]
    fn only_one_choice_of_one_prompt_is_handed_over() {
        for body in [r#"{"model":"m"}"#, r#"{"model":"m","n":1,"best_of":null,"echo":false}"#] {
            assert!(chat(body).can_hand_over_prefill(), "{body}");
        }
        for more in [
            r#""n":2"#,
            r#""n":1.0"#,
            r#""best_of":3"#,
            r#""echo":true"#,
            r#""use_beam_search":true"#,
            r#""prompt_logprobs":0"#,
        ] {
            assert!(!chat(&format!(r#"{{"model":"m",{more}}}"#)).can_hand_over_prefill(), "{more}");
        }
        let prompt = |prompt: &str| {
            request(Api::Completions, &format!(r#"{{"model":"m","prompt":{prompt}}}"#))
                .can_hand_over_prefill()
        };
        assert!(prompt(r#""a""#) && prompt("[1,2]"));
        assert!(!prompt(r#"["a"]"#) && !prompt("[[1]]") && !prompt("[]") && !prompt("null"));
        for api in [Api::Embeddings, Api::Responses, Api::Tokenize] {
            assert!(!request(api, r#"{"model":"m"}"#).can_hand_over_prefill(), "{api:?}");
        }
    }

    #[test]
    fn an_answer_that_names_no_block_hands_nothing_over() {
        let kept = r#"{"do_remote_prefill":true,"remote_block_ids":[[3,4]],"remote_host":"h"}"#;
        let of = |params: &str| format!(r#" {{"choices":[],"kv_transfer_params":{params}}}"#);
        assert_eq!(transfer_of(of(kept).as_bytes()), KvTransfer::Kept(kept.as_bytes()));
        for nothing in [
            "null",
            "{}",
            "[]",
            r#"{"do_remote_prefill":false,"remote_block_ids":[1]}"#,
            r#"{"do_remote_prefill":true,"remote_block_ids":[]}"#,
            r#"{"do_remote_prefill":true,"remote_block_ids":null}"#,
            r#"{"do_remote_prefill":true}"#,
        ] {
            assert_eq!(transfer_of(of(nothing).as_bytes()), KvTransfer::Nothing, "{nothing}");
        }
        assert_eq!(transfer_of(b"{}"), KvTransfer::Nothing);
        for bad in [
            "",
            "[]",
            "data: {}",
            r#"{"kv_transfer_params":{"do_remote_prefill":true,"remote_block_ids":[1]}"#,
        ] {
            assert_eq!(transfer_of(bad.as_bytes()), KvTransfer::Malformed, "{bad}");
        }
    }

    fn member() -> impl Strategy<Value = (String, Value)> {
        let name = prop::sample::select(vec![
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "min_tokens",
            "kv_transfer_params",
            "user",
            "seed",
            "bootstrap_room",
            "data_parallel_rank",
        ]);
        let value =
            prop_oneof![Just(json!(true)), Just(json!(7)), Just(json!({"a": [1]})), Just(json!(null))];
        (name.prop_map(str::to_owned), value)
    }

    proptest! {
        #[test]
        fn what_is_not_about_the_hand_over_stays(members in prop::collection::vec(member(), 0..8), at in 0_usize..9) {
            let mut object = serde_json::Map::new();
            for (place, (name, value)) in members.into_iter().enumerate() {
                if place == at {
                    object.insert("model".to_owned(), json!("m"));
                }
                object.insert(name, value);
            }
            object.entry("model").or_insert(json!("m"));
            let request = chat(&Value::Object(object.clone()).to_string());
            let read = |body: Bytes| serde_json::from_slice::<serde_json::Map<String, Value>>(&body).unwrap();
            let mut decode = object.clone();
            decode["model"] = json!("m");
            decode.remove("kv_transfer_params");
            prop_assert_eq!(read(request.decode_body(None)), decode.clone());
            decode.insert("kv_transfer_params".to_owned(), json!({"x": 1}));
            prop_assert_eq!(read(request.decode_body(Some(br#"{"x":1}"#))), decode.clone());
            for name in ["stream_options", "min_tokens"] {
                decode.remove(name);
            }
            decode.insert("max_tokens".to_owned(), json!(1));
            for name in ["max_completion_tokens", "stream"] {
                let one = if name == "stream" { json!(false) } else { json!(1) };
                if decode.get(name).is_some_and(|value| name != "stream" || *value == json!(true)) {
                    decode.insert(name.to_owned(), one);
                }
            }
            decode["kv_transfer_params"] = serde_json::from_slice(KEEP_BY_NIXL).unwrap();
            prop_assert_eq!(read(request.prefill_body(Some(KEEP_BY_NIXL))), decode.clone());
            decode.remove("kv_transfer_params");
            prop_assert_eq!(read(request.prefill_body(None)), decode);
            let room = BootstrapRoom { server: ([10, 0, 0, 1], 8998).into(), room: 5 };
            let mut both = object.clone();
            both.extend(json!({"bootstrap_host": "10.0.0.1", "bootstrap_port": 8998, "bootstrap_room": 5}).as_object().unwrap().clone());
            both.remove("data_parallel_rank");
            prop_assert_eq!(read(request.bootstrap_body(room)), both);
        }
    }
}
