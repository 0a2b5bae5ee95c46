//! What the groundedness check reads: the texts of an answer, and the tool results and documents of its request.
//!
//! Refuses to judge. Facts in a prompt or a system prompt are no context: they cannot be separated from the question.

use std::borrow::Cow;

use super::json::string::decode;
use super::message::Role;
use super::message_text::{MAX_TEXT, joined};
use super::{AnswerPiece, AnswerRewriter, Api, Channel, ChatRequest, Format, RewriteLimits, json};

/// The members of a document that hold its text, as `transformers` and the servers after it have them.
const DOCUMENT_TEXTS: [&str; 4] = ["title", "text", "content", "contents"];

impl ChatRequest {
    /// Returns the texts of documents and tool results, at most 1 MiB, joined by line ends; empty if there are
    /// none.
    pub fn groundedness_context(&self) -> String {
        let documents = self.member("documents").into_iter().flat_map(json::array).flat_map(|document| {
            let is_text = |key: &[u8]| DOCUMENT_TEXTS.iter().any(|name| *name.as_bytes() == *key);
            let members = json::object(document).filter(move |(key, _)| is_text(key));
            json::string(document).into_iter().chain(members.filter_map(|(_, value)| json::string(value)))
        });
        let documents = documents.map(|inside| decode(inside, MAX_TEXT));
        let is_result = |message: &usize| self.texts().messages[*message].role == Role::Tool;
        let results = self.text_messages().into_iter().filter(is_result);
        let results = results.flat_map(|message| self.message_segments(message));
        joined(documents.chain(results.map(|segment| Cow::Borrowed(segment.text())))).into_owned()
    }
}

/// Returns the text of each choice of a whole answer, without reasoning and tool calls; empty choices are left out.
pub fn choice_texts(api: Api, whole: &[u8]) -> Vec<String> {
    let mut rewriter = AnswerRewriter::new(Format::Json, api, RewriteLimits { max_held: usize::MAX });
    rewriter.hold(AnswerPiece::Bytes(whole));
    rewriter.end();
    let mut texts: Vec<(u32, String)> = Vec::new();
    for pending in rewriter.pending().filter(|pending| pending.id.channel == Channel::Content) {
        let choice = api.answers().choice_of(pending.id);
        match texts.iter_mut().find(|(known, _)| *known == choice) {
            Some((_, text)) => {
                text.push('\n');
                text.push_str(pending.text);
            }
            None => texts.push((choice, pending.text.to_owned())),
        }
    }
    texts.into_iter().map(|(_, text)| text).filter(|text| !text.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn context(body: &serde_json::Value) -> String {
        ChatRequest::parse(Bytes::from(body.to_string())).unwrap().groundedness_context()
    }

    #[test]
    fn tool_results_and_documents_are_context_in_every_api() {
        let chat = json!({"model": "m", "documents": ["one", {"title": "two", "text": "three", "id": "no"}], "messages": [
            {"role": "system", "content": "no"}, {"role": "user", "content": "no"},
            {"role": "assistant", "tool_calls": [{"function": {"arguments": "no"}}]},
            {"role": "tool", "content": "four"}, {"role": "tool", "content": [{"type": "text", "text": "fünf"}]},
            {"role": "assistant", "content": "no"}]});
        assert_eq!(context(&chat), "one\ntwo\nthree\nfour\nfünf");
        let anthropic = json!({"model": "m", "messages": [{"role": "user", "content": [
            {"type": "tool_result", "content": [{"type": "text", "text": "six"}]}, {"type": "text", "text": "no"}]}]});
        assert_eq!(context(&anthropic), "six");
        let responses = json!({"model": "m", "input": [{"role": "user", "content": "no"},
            {"type": "function_call_output", "output": "seven"}]});
        assert_eq!(context(&responses), "seven");
        assert_eq!(context(&json!({"model": "m", "messages": [{"role": "user", "content": "no"}]})), "");
    }

    #[test]
    fn each_choice_gives_its_content_and_no_reasoning() {
        let chat = json!({"choices": [
            {"index": 0, "message": {"role": "assistant", "content": "one", "reasoning_content": "no"}},
            {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": [{"function": {"arguments": "no"}}]}},
            {"index": 2, "message": {"role": "assistant", "content": "zwei"}}]});
        assert_eq!(choice_texts(Api::Chat, chat.to_string().as_bytes()), ["one", "zwei"]);
        let message = json!({"content": [{"type": "thinking", "thinking": "no"}, {"type": "text", "text": "a"},
            {"type": "tool_use", "input": {}}, {"type": "text", "text": "b"}]});
        assert_eq!(choice_texts(Api::Messages, message.to_string().as_bytes()), ["a\nb"]);
        let response = json!({"output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": "c"}]}, {"type": "message", "content": [{"type": "output_text", "text": "d"}]}]});
        assert_eq!(choice_texts(Api::Responses, response.to_string().as_bytes()), ["c\nd"]);
        assert_eq!(choice_texts(Api::Chat, b"no JSON"), [""; 0]);
    }
}
