//! When a stream gives its first token: what opens it, a role or a ping, is none.
//!
//! Owns where the APIs have tokens. Holds no more than one event, and nothing once there was one.

use crate::json;
use crate::json::object::{elements, non_null_member};
use crate::sse::{MAX_EVENT, SseFrame, SseSplitter};

/// Members of a choice, or of its delta, that hold what a model says.
const SAID: [&str; 6] = ["content", "reasoning", "reasoning_content", "refusal", "text", "tool_calls"];

/// Looks for the first token of a stream.
#[derive(Debug)]
pub struct FirstToken {
    splitter: SseSplitter,
}

impl Default for FirstToken {
    fn default() -> Self {
        Self { splitter: SseSplitter::new(MAX_EVENT) }
    }
}

impl FirstToken {
    /// Takes the next bytes; says whether there is a token in what has come.
    pub fn feed(&mut self, chunk: &[u8]) -> bool {
        let mut is_there = false;
        // What is too long to be held says something.
        self.splitter.feed(chunk, |frame| is_there |= frame.map_or(true, has_token));
        is_there
    }
}

fn has_token(event: SseFrame<'_>) -> bool {
    let Some(data) = event.data() else { return false };
    if let Some(choices) = non_null_member(&data, "choices") {
        return elements(choices)
            .any(|choice| says(choice) || non_null_member(choice, "delta").is_some_and(says));
    }
    // `content_block_delta`, `response.output_text.delta` and their like; an error ends the wait too.
    let kind = json::member(&data, "type").unwrap_or_default();
    kind.ends_with(b"delta\"") || kind == b"\"error\"" || non_null_member(&data, "error").is_some()
}

fn says(object: &[u8]) -> bool {
    SAID.iter().any(|name| non_null_member(object, name).is_some_and(|said| said.len() > 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_a_stream_is_no_token() {
        for opening in [
            ": ping\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[]}}]}\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[1]}\n\n",
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[]}}\n\n",
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n",
        ] {
            for token in [
                "data: {\"choices\":[{\"delta\":{\"content\":\"H\"}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"reasoning\":\"H\"}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n",
                "data: {\"choices\":[{\"text\":\"H\"}]}\n\n",
                "data: {\"type\":\"content_block_delta\"}\n\n",
                "data: {\"type\":\"response.output_text.delta\"}\n\n",
                "data: {\"error\":{\"code\":1}}\n\n",
            ] {
                let mut first = FirstToken::default();
                assert!(!first.feed(opening.as_bytes()), "{opening}");
                let (one, two) = token.as_bytes().split_at(9);
                assert!(!first.feed(one) && first.feed(two), "{token}");
            }
        }
    }
}
