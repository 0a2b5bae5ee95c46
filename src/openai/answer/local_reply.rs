//! An answer of our own in place of a model's: a fixed text, or why there is none.
//!
//! Owns the shapes in which the APIs' clients expect an answer, whole and as a stream, and vLLM Semantic Router's
//! wording for what it blocks. Refuses to know why somebody answers, and to read a clock: the time comes in.

use bytes::Bytes;

use crate::Api;
use crate::json::object::Object;

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// All is said.
    Stop,
    /// As much is said as was allowed.
    Length,
    /// What would follow may not be said.
    ContentFilter,
}

/// An answer of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The answer's name.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Who is said to have answered.
    pub model: String,
    /// What is said.
    pub text: String,
    /// Why it ends.
    pub finish: FinishReason,
    /// How chat clients get it.
    pub shape: ReplyShape,
}

/// How a chat client gets an answer of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplyShape {
    /// As a model answers: a role, texts, an end.
    Model,
    /// As vLLM Semantic Router tells of a block: with its zeros, and a stream of one chunk.
    Router,
}

impl FinishReason {
    /// Returns the word in `finish_reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
        }
    }
}

impl LocalReply {
    /// Makes a policy's fixed answer.
    pub fn fast(text: &str, model: &str, now: u64) -> Self {
        Self {
            id: format!("chatcmpl-fast-{now}"),
            created: now,
            model: model.to_owned(),
            text: text.to_owned(),
            finish: FinishReason::Stop,
            shape: ReplyShape::Model,
        }
    }

    /// Makes the router's answer to what looks like an attack; `kind` is the classifier's word for it.
    pub fn jailbreak(kind: &str, confidence: f32, now: u64) -> Self {
        let text = format!(
            "I cannot process this request as it appears to contain a potential jailbreak attempt (type: {kind}, \
             confidence: {confidence:.3}). Please rephrase your request in a way that complies with our usage policies."
        );
        let id = format!("chatcmpl-jailbreak-blocked-{now}");
        Self::blocked(id, "security-filter".to_owned(), text, now)
    }

    /// Makes the router's answer to personal data that `model` may not see.
    pub fn pii<S: AsRef<str>>(types: &[S], model: &str, now: u64) -> Self {
        let types: Vec<&str> = types.iter().map(AsRef::as_ref).collect();
        let types = types.join(" ");
        let text = format!(
            "I cannot process this request as it contains personally identifiable information ([{types}]) that is \
             not allowed for the '{model}' model according to the configured privacy policy. Please remove any \
             sensitive information and try again."
        );
        Self::blocked(format!("chatcmpl-pii-violation-{now}"), model.to_owned(), text, now)
    }

    fn blocked(id: String, model: String, text: String, now: u64) -> Self {
        Self { id, created: now, model, text, finish: FinishReason::ContentFilter, shape: ReplyShape::Router }
    }

    /// Writes the whole answer; APIs that do not generate get a chat answer.
    pub fn json(&self, api: Api) -> Bytes {
        Bytes::from(api.answers().local_reply(self))
    }

    /// Writes the answer as the body of a stream.
    pub fn events(&self, api: Api, include_usage: bool) -> Bytes {
        Bytes::from(api.answers().local_reply_stream(self, include_usage))
    }

    /// Starts an answer of OpenAI's older APIs.
    pub(crate) fn head(&self, object: &str) -> Object {
        Object::default()
            .text("id", &self.id)
            .text("object", object)
            .number("created", self.created)
            .text("model", &self.model)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn a_jailbreak_is_answered_in_the_routers_words() {
        let reply = LocalReply::jailbreak("jailbreak", 0.98712, 17);
        let said = "I cannot process this request as it appears to contain a potential jailbreak attempt (type: \
            jailbreak, confidence: 0.987). Please rephrase your request in a way that complies with our usage policies.";
        let whole = String::from_utf8(reply.json(Api::Chat).to_vec()).unwrap();
        assert!(whole.starts_with(
            "{\"id\":\"chatcmpl-jailbreak-blocked-17\",\"choices\":[{\"finish_reason\":\"content_filter\",\"index\":0,\
             \"logprobs\":{\"content\":null,\"refusal\":null},\"message\":{\"content\":\"I cannot"
        ));
        let whole = parsed(whole.as_bytes());
        assert_eq!(whole["choices"][0]["message"]["content"], said);
        assert_eq!((&whole["model"], &whole["created"]), (&json!("security-filter"), &json!(17)));
        let stream = String::from_utf8(reply.events(Api::Chat, true).to_vec()).unwrap();
        assert_eq!(
            stream,
            format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{said}\",\"role\":\"assistant\"}},\"finish_reason\":\
                 \"content_filter\",\"index\":0}}],\"created\":17,\"id\":\"chatcmpl-jailbreak-blocked-17\",\"model\":\
                 \"security-filter\",\"object\":\"chat.completion.chunk\"}}\n\ndata: [DONE]\n\n"
            )
        );
    }

    #[test]
    fn personal_data_is_answered_in_the_routers_words() {
        let reply = LocalReply::pii(&["PERSON", "EMAIL_ADDRESS"], "phi4", 9);
        assert_eq!((reply.id.as_str(), reply.model.as_str()), ("chatcmpl-pii-violation-9", "phi4"));
        assert_eq!(
            reply.text,
            "I cannot process this request as it contains personally identifiable information ([PERSON \
             EMAIL_ADDRESS]) that is not allowed for the 'phi4' model according to the configured privacy policy. \
             Please remove any sensitive information and try again."
        );
        let blocked = parsed(&reply.json(Api::Responses));
        assert_eq!(blocked["incomplete_details"], json!({"reason": "content_filter"}));
        assert_eq!(parsed(&reply.json(Api::Messages))["stop_reason"], "refusal");
        assert_eq!(parsed(&reply.json(Api::Completions))["choices"][0]["finish_reason"], "content_filter");
    }

    #[test]
    fn a_fixed_answer_streams_a_role_a_text_an_end_and_usage() {
        let reply = LocalReply::fast("We are \"closed\".\n", "router", 5);
        let stream = String::from_utf8(reply.events(Api::Chat, true).to_vec()).unwrap();
        let data: Vec<_> = stream.split_terminator("\n\n").map(|event| &event["data: ".len()..]).collect();
        assert_eq!(data.last(), Some(&"[DONE]"));
        let chunks: Vec<_> = data[..data.len() - 1].iter().map(|data| parsed(data.as_bytes())).collect();
        assert!(chunks.iter().all(|chunk| chunk["id"] == "chatcmpl-fast-5" && chunk["created"] == 5));
        assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let end = &chunks[chunks.len() - 2]["choices"][0];
        assert_eq!((&end["finish_reason"], &end["delta"]), (&json!("stop"), &json!({})));
        let usage = &chunks[chunks.len() - 1];
        assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(0)));
        let without = reply.events(Api::Chat, false);
        assert!(!String::from_utf8(without.to_vec()).unwrap().contains("usage"));
    }

    #[test]
    fn responses_and_messages_stream_from_their_first_to_their_last_event() {
        let reply = LocalReply::fast("Hello there.", "router", 5);
        let names = |api| -> Vec<String> {
            let stream = String::from_utf8(reply.events(api, true).to_vec()).unwrap();
            stream.lines().filter_map(|line| line.strip_prefix("event: ")).map(str::to_owned).collect()
        };
        let responses = names(Api::Responses);
        assert_eq!(responses.first().map(String::as_str), Some("response.created"));
        assert_eq!(responses.last().map(String::as_str), Some("response.completed"));
        assert!(responses.contains(&"response.output_text.delta".to_owned()));
        assert_eq!(
            names(Api::Messages),
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop"
            ]
        );
    }
}
