//! How far a stream of choices has gone out, and how it ends early: a last chunk for each choice that is open.

use crate::answer::content::{AnswerStep, Channel, TextId};
use crate::answer::ending::{CutAnswer, StreamEnding, follow};
use crate::json::object::{Object, array};
use crate::sse::{DONE, unnamed_event};

/// What the client has seen of a stream of choices.
#[derive(Debug)]
pub(crate) struct ChoicesEnding {
    is_chat: bool,
    /// The choices that went out, and whether their end did.
    sent: Vec<(u32, bool)>,
}

impl ChoicesEnding {
    /// Starts to follow an answer of `/v1/chat/completions`.
    pub(crate) fn of_chat() -> Self {
        Self { is_chat: true, sent: Vec::new() }
    }

    /// Starts to follow an answer of `/v1/completions`.
    pub(crate) fn of_completions() -> Self {
        Self { is_chat: false, sent: Vec::new() }
    }

    fn last_delta(&self, cut: &CutAnswer<'_>, index: u32, content: &str) -> Vec<u8> {
        let mut delta = Object::default();
        if !self.sent.iter().any(|(sent, _)| *sent == index) {
            delta = delta.text("role", "assistant");
        }
        for (key, channel, part) in [
            ("reasoning_content", Channel::Reasoning, 0),
            ("reasoning", Channel::Reasoning, 1),
            ("refusal", Channel::Refusal, 0),
        ] {
            let unsent = cut.unsent(TextId { choice: index, channel, part });
            if !unsent.is_empty() {
                delta = delta.text(key, &unsent);
            }
        }
        if content.is_empty() { delta.end() } else { delta.text("content", content).end() }
    }
}

impl StreamEnding for ChoicesEnding {
    fn sent(&mut self, step: &AnswerStep) {
        if let AnswerStep::Choice { index, is_over } = step {
            follow(&mut self.sent, *index, |closed| closed || *is_over);
        }
    }

    fn write(&self, cut: &CutAnswer<'_>, out: &mut Vec<u8>) {
        let mut open = self.sent.clone();
        for step in &cut.unsent_steps {
            if let AnswerStep::Choice { index, .. } = step {
                follow(&mut open, *index, |closed| closed);
            }
        }
        if open.is_empty() {
            open.push((0, false));
        }
        let object = if self.is_chat { "chat.completion.chunk" } else { "text_completion" };
        for (index, _) in open.iter().filter(|(_, closed)| !closed) {
            let text = cut.unsent(TextId { choice: *index, channel: Channel::Content, part: 0 })
                + cut.note.unwrap_or_default();
            let mut choice = Object::default().number("index", u64::from(*index));
            choice = if self.is_chat {
                choice.raw("delta", &self.last_delta(cut, *index, &text))
            } else {
                choice.text("text", &text)
            };
            choice = choice.raw("logprobs", b"null").text("finish_reason", cut.finish.name());
            let chunk = cut.head().text("object", object).raw("choices", &array([choice.end()]));
            unnamed_event(out, &chunk.end());
        }
        out.extend_from_slice(DONE);
    }
}
