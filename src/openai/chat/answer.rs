//! Answers of `/v1/chat/completions`: choices with a message each.
//!
//! Owns the shape in which vLLM Semantic Router tells chat clients of a block. Refuses to know other dialects.

use crate::answer::content::AnswerContent;
use crate::answer::dialect::{AnswerDialect, StreamAssembler};
use crate::answer::ending::StreamEnding;
use crate::answer::{LocalReply, ReplyShape};
use crate::choices::{self, ChoicesAssembler, ChoicesEnding, NO_TOKENS};
use crate::json::object::{Object, array};
use crate::sse::{DONE, unnamed_event};

/// The dialect of `/v1/chat/completions`.
#[derive(Debug)]
pub(crate) struct ChatAnswers;

impl AnswerDialect for ChatAnswers {
    fn scan_event(&self, data: &[u8]) -> AnswerContent {
        choices::scan(data)
    }

    fn scan_whole(&self, data: &[u8]) -> AnswerContent {
        choices::scan(data).whole()
    }

    fn assembler(&self) -> Option<Box<dyn StreamAssembler>> {
        Some(Box::new(ChoicesAssembler::of_chat()))
    }

    fn stream_of(&self, whole: &[u8], include_usage: bool, now: u64) -> Option<Vec<u8>> {
        choices::chat_stream(whole, include_usage, now)
    }

    fn local_reply(&self, reply: &LocalReply) -> Vec<u8> {
        match reply.shape {
            ReplyShape::Model => completion(reply),
            ReplyShape::Router => router_completion(reply),
        }
    }

    fn local_reply_stream(&self, reply: &LocalReply, include_usage: bool) -> Vec<u8> {
        match reply.shape {
            ReplyShape::Model => self
                .stream_of(&completion(reply), include_usage, reply.created)
                .expect("an answer of our own is well-formed"),
            ReplyShape::Router => router_stream(reply),
        }
    }

    fn ending(&self) -> Box<dyn StreamEnding> {
        Box::new(ChoicesEnding::of_chat())
    }
}

fn completion(reply: &LocalReply) -> Vec<u8> {
    let message = Object::default().text("role", "assistant").text("content", &reply.text);
    let choice = Object::default()
        .number("index", 0)
        .raw("message", &message.raw("refusal", b"null").end())
        .raw("logprobs", b"null")
        .text("finish_reason", reply.finish.name());
    reply.head("chat.completion").raw("choices", &array([choice.end()])).raw("usage", NO_TOKENS).end()
}

/// The members and their order are those of the router's own, as far as they say something.
fn router_completion(reply: &LocalReply) -> Vec<u8> {
    let message =
        Object::default().text("content", &reply.text).text("refusal", "").text("role", "assistant");
    let choice = Object::default()
        .text("finish_reason", reply.finish.name())
        .number("index", 0)
        .raw("logprobs", b"{\"content\":null,\"refusal\":null}")
        .raw("message", &message.end());
    Object::default()
        .text("id", &reply.id)
        .raw("choices", &array([choice.end()]))
        .number("created", reply.created)
        .text("model", &reply.model)
        .text("object", "chat.completion")
        .text("service_tier", "")
        .text("system_fingerprint", "")
        .raw("usage", b"{\"completion_tokens\":0,\"prompt_tokens\":0,\"total_tokens\":0}")
        .end()
}

fn router_stream(reply: &LocalReply) -> Vec<u8> {
    let delta = Object::default().text("content", &reply.text).text("role", "assistant").end();
    let choice =
        Object::default().raw("delta", &delta).text("finish_reason", reply.finish.name()).number("index", 0);
    let chunk = Object::default()
        .raw("choices", &array([choice.end()]))
        .number("created", reply.created)
        .text("id", &reply.id)
        .text("model", &reply.model)
        .text("object", "chat.completion.chunk");
    let mut out = Vec::new();
    unnamed_event(&mut out, &chunk.end());
    out.extend_from_slice(DONE);
    out
}
