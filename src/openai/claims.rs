//! What an answer claims, and what it is to be borne out by: the results of tools and the documents in its request.
//!
//! Refuses to judge. What else a prompt or a system prompt tells a model is not told apart from what it asks.

use super::message::Role;
use super::rewrite::{AnswerRewriter, Channel, RewriteLimits};
use super::{Api, ChatRequest, Format, json, prompt};

/// The members of a document that say what stands in it, as `transformers` and the servers after it have them.
const SAYS: [&str; 4] = ["title", "text", "content", "contents"];

impl ChatRequest {
    /// Returns what tools and documents told the model, at most 1 MiB of it, joined by line ends; empty if they told
    /// nothing.
    pub fn grounds(&self) -> String {
        let results = self.spoken().into_iter().filter(|said| said.role == Role::Tool);
        let results: Vec<&[u8]> = results.flat_map(|said| said.strings).collect();
        let documents = self.member("documents").into_iter().flat_map(json::array).flat_map(|document| {
            let says = |key: &[u8]| SAYS.iter().any(|name| *name.as_bytes() == *key);
            let members = json::object(document).filter(move |(key, _)| says(key));
            json::string(document).into_iter().chain(members.filter_map(|(_, value)| json::string(value)))
        });
        prompt::joined(documents.chain(results)).into_owned()
    }
}

/// Returns what a whole answer says to its client, each choice by itself; empty choices are left out.
pub fn claims(api: Api, whole: &[u8]) -> Vec<String> {
    let mut rewriter = AnswerRewriter::new(Format::Json, api, RewriteLimits { max_held: usize::MAX });
    rewriter.feed(whole);
    rewriter.end();
    let mut claims: Vec<(u32, String)> = Vec::new();
    for pending in rewriter.pending().filter(|pending| pending.place.channel == Channel::Content) {
        // The items of a response are one answer.
        let choice = if api == Api::Responses { 0 } else { pending.place.choice };
        match claims.iter_mut().find(|(known, _)| *known == choice) {
            Some((_, said)) => {
                said.push('\n');
                said.push_str(pending.text);
            }
            None => claims.push((choice, pending.text.to_owned())),
        }
    }
    claims.into_iter().map(|(_, said)| said).filter(|said| !said.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn grounds(body: &serde_json::Value) -> String {
        ChatRequest::parse(Bytes::from(body.to_string())).unwrap().grounds()
    }

    #[test]
    fn what_tools_and_documents_tell_is_ground_whatever_the_api() {
        let chat = json!({"model": "m", "documents": ["one", {"title": "two", "text": "three", "id": "no"}], "messages": [
            {"role": "system", "content": "no"}, {"role": "user", "content": "no"},
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "no"}}]},
            {"role": "tool", "content": "four"}, {"role": "tool", "content": [{"type": "text", "text": "fünf"}]},
            {"role": "assistant", "content": "no"}]});
        assert_eq!(grounds(&chat), "one\ntwo\nthree\nfour\nfünf");
        let anthropic = json!({"model": "m", "messages": [{"role": "user", "content": [
            {"type": "tool_result", "content": [{"type": "text", "text": "six"}]}, {"type": "text", "text": "no"}]}]});
        assert_eq!(grounds(&anthropic), "six");
        let responses = json!({"model": "m", "input": [{"role": "user", "content": "no"},
            {"type": "function_call_output", "output": "seven"}]});
        assert_eq!(grounds(&responses), "seven");
        assert_eq!(grounds(&json!({"model": "m", "messages": [{"role": "user", "content": "no"}]})), "");
    }

    #[test]
    fn each_choice_claims_what_it_says_and_not_what_it_thinks() {
        let chat = json!({"choices": [
            {"index": 0, "message": {"role": "assistant", "content": "one", "reasoning_content": "no"}},
            {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": [{"function": {"arguments": "no"}}]}},
            {"index": 2, "message": {"role": "assistant", "content": "zwei"}}]});
        assert_eq!(claims(Api::Chat, chat.to_string().as_bytes()), ["one", "zwei"]);
        let message = json!({"content": [{"type": "thinking", "thinking": "no"}, {"type": "text", "text": "a"},
            {"type": "tool_use", "input": {}}, {"type": "text", "text": "b"}]});
        assert_eq!(claims(Api::Messages, message.to_string().as_bytes()), ["a\nb"]);
        let response = json!({"output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": "c"}]}, {"type": "message", "content": [{"type": "output_text", "text": "d"}]}]});
        assert_eq!(claims(Api::Responses, response.to_string().as_bytes()), ["c\nd"]);
        assert_eq!(claims(Api::Chat, b"no JSON"), [""; 0]);
    }
}
