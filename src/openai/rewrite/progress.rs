//! How far an answer has gone out, and how it is brought to an end before its time.
//!
//! Refuses to know what is held back, but for the texts that were released behind something that was not.

mod response;

use std::collections::VecDeque;

use crate::openai::json::object::{DONE, Object, array, event, named_event, non_null_member, string_member};
use crate::openai::json::quoted;
use crate::openai::{Api, FinishReason, LocalReply};

use super::held::HeldFrame;
use super::reading::{AnswerStep, EndMember};
use super::texts::AnswerTexts;
use super::{Channel, TextId};
use response::ResponseProgress;

/// The most choices and blocks whose progress is followed; an answer with more is ended without them.
const MOST_FOLLOWED: usize = 1024;

/// What the client has seen of an answer's progress.
#[derive(Debug)]
pub(super) struct AnswerProgress {
    api: Api,
    is_stream: bool,
    /// What the first event says of the whole answer.
    head: Vec<(&'static str, Vec<u8>)>,
    /// The choices that went out, and whether their end did.
    choices: Vec<(u32, bool)>,
    has_begun: bool,
    /// The blocks that went out, and whether they are open.
    blocks: Vec<(u32, bool)>,
    response: ResponseProgress,
    is_over: bool,
}

impl AnswerProgress {
    pub(super) fn new(api: Api, is_stream: bool) -> Self {
        Self {
            api,
            is_stream,
            head: Vec::new(),
            choices: Vec::new(),
            has_begun: false,
            blocks: Vec::new(),
            response: ResponseProgress::default(),
            is_over: false,
        }
    }

    /// Says whether the answer is a stream of events.
    pub(super) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Notes what an event that has arrived says of the whole answer.
    pub(super) fn seen(&mut self, data: &[u8]) {
        if self.head.is_empty() {
            for key in ["id", "created", "model", "system_fingerprint"] {
                // A name is short; what is not is no name.
                let value = non_null_member(data, key).filter(|value| value.len() <= MOST_FOLLOWED);
                self.head.extend(value.map(|value| (key, value.to_vec())));
            }
        }
    }

    /// Notes what has gone out.
    pub(super) fn sent(&mut self, step: &AnswerStep) {
        match step {
            AnswerStep::Choice { index, is_over } => {
                follow(&mut self.choices, *index, |closed| closed || *is_over)
            }
            AnswerStep::Begun(_) => self.has_begun = true,
            AnswerStep::BlockOpen(index) => follow(&mut self.blocks, *index, |_| true),
            AnswerStep::BlockClosed(index) => follow(&mut self.blocks, *index, |_| false),
            AnswerStep::Over => self.is_over = true,
            _ => {}
        }
        self.response.sent(step);
    }

    /// Writes the end of a stream.
    pub(super) fn end(
        &mut self,
        out: &mut Vec<u8>,
        held: &VecDeque<HeldFrame>,
        texts: &AnswerTexts,
        (finish, note): (FinishReason, Option<&str>),
    ) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        match self.api {
            Api::Messages | Api::Responses if !self.has_begun => {
                out.extend_from_slice(&self.reply(finish, note).events(self.api, false));
            }
            Api::Messages => self.end_message(out, held, finish, note),
            Api::Responses => self.response.end(out, held, texts, (finish, note)),
            _ => self.end_choices(out, held, finish, note),
        }
    }

    /// Writes a whole answer that ends where its texts are not released; one of our own if it has not arrived.
    pub(super) fn document(
        &self,
        held: Option<&HeldFrame>,
        finish: FinishReason,
        note: Option<&str>,
    ) -> Vec<u8> {
        let Some(held) = held.filter(|held| held.steps.contains(&AnswerStep::Over)) else {
            return self.reply(finish, note).json(self.api).to_vec();
        };
        let incomplete = finish.incomplete();
        held.write_cut(note, |end| match end {
            EndMember::FinishReason => quoted(finish.name()),
            EndMember::StopReason => quoted(finish.stop_reason()),
            EndMember::Status => quoted(if incomplete.is_some() { "incomplete" } else { "completed" }),
            EndMember::Details => details(finish),
        })
    }

    fn reply(&self, finish: FinishReason, note: Option<&str>) -> LocalReply {
        let head = Object::default().all(self.head.iter().map(|(key, value)| (*key, value))).end();
        let model = string_member(&head, "model").unwrap_or_default();
        let mut reply = LocalReply::fast(note.unwrap_or_default(), &model, 0);
        "chatcmpl-cut".clone_into(&mut reply.id);
        reply.finish = finish;
        reply
    }

    fn end_choices(
        &self,
        out: &mut Vec<u8>,
        held: &VecDeque<HeldFrame>,
        finish: FinishReason,
        note: Option<&str>,
    ) {
        let mut open = self.choices.clone();
        for step in held.iter().flat_map(|held| &held.steps) {
            if let AnswerStep::Choice { index, .. } = step {
                follow(&mut open, *index, |closed| closed);
            }
        }
        if open.is_empty() {
            open.push((0, false));
        }
        let is_chat = self.api != Api::Completions;
        let object = if is_chat { "chat.completion.chunk" } else { "text_completion" };
        for (index, _) in open.iter().filter(|(_, closed)| !closed) {
            let text = left(held, TextId { choice: *index, channel: Channel::Content, part: 0 })
                + note.unwrap_or_default();
            let mut choice = Object::default().number("index", u64::from(*index));
            choice = if is_chat {
                choice.raw("delta", &self.last_delta(held, *index, &text))
            } else {
                choice.text("text", &text)
            };
            choice = choice.raw("logprobs", b"null").text("finish_reason", finish.name());
            let chunk = Object::default().all(self.head.iter().map(|(key, value)| (*key, value)));
            event(out, &chunk.text("object", object).raw("choices", &array([choice.end()])).end());
        }
        out.extend_from_slice(DONE);
    }

    fn last_delta(&self, held: &VecDeque<HeldFrame>, index: u32, content: &str) -> Vec<u8> {
        let mut delta = Object::default();
        if !self.choices.iter().any(|(sent, _)| *sent == index) {
            delta = delta.text("role", "assistant");
        }
        for (key, channel, part) in [
            ("reasoning_content", Channel::Reasoning, 0),
            ("reasoning", Channel::Reasoning, 1),
            ("refusal", Channel::Refusal, 0),
        ] {
            let left = left(held, TextId { choice: index, channel, part });
            if !left.is_empty() {
                delta = delta.text(key, &left);
            }
        }
        if content.is_empty() { delta.end() } else { delta.text("content", content).end() }
    }

    fn end_message(
        &self,
        out: &mut Vec<u8>,
        held: &VecDeque<HeldFrame>,
        finish: FinishReason,
        note: Option<&str>,
    ) {
        let mut send = |name: &str, members: Object| named_event(out, name, &members.end());
        let typed = |name: &str| Object::default().text("type", name);
        let delta = |index: u32, kind: &str, key: &str, said: &str| {
            let delta = Object::default().text("type", kind).text(key, said).end();
            typed("content_block_delta").number("index", u64::from(index)).raw("delta", &delta)
        };
        for (index, _) in self.blocks.iter().filter(|(_, is_open)| *is_open) {
            for (channel, kind, key) in
                [(Channel::Content, "text_delta", "text"), (Channel::Reasoning, "thinking_delta", "thinking")]
            {
                let left = left(held, TextId { choice: 0, channel, part: *index });
                if !left.is_empty() {
                    send("content_block_delta", delta(*index, kind, key, &left));
                }
            }
            send("content_block_stop", typed("content_block_stop").number("index", u64::from(*index)));
        }
        if let Some(note) = note {
            let index = self.blocks.iter().map(|(index, _)| index + 1).max().unwrap_or(0);
            let block = Object::default().text("type", "text").text("text", "").end();
            let begun = typed("content_block_start").number("index", u64::from(index));
            send("content_block_start", begun.raw("content_block", &block));
            send("content_block_delta", delta(index, "text_delta", "text", note));
            send("content_block_stop", typed("content_block_stop").number("index", u64::from(index)));
        }
        let stop =
            Object::default().text("stop_reason", finish.stop_reason()).raw("stop_sequence", b"null").end();
        let last = typed("message_delta").raw("delta", &stop);
        send("message_delta", last.raw("usage", b"{\"output_tokens\":0}"));
        send("message_stop", typed("message_stop"));
    }
}

/// Returns what was released of a text and has not gone out.
fn left(held: &VecDeque<HeldFrame>, place: TextId) -> String {
    held.iter().flat_map(|held| held.made(place)).collect()
}

/// Writes a response's `incomplete_details`.
fn details(finish: FinishReason) -> Vec<u8> {
    let reason = finish.incomplete().map(|reason| Object::default().text("reason", reason).end());
    reason.unwrap_or_else(|| b"null".to_vec())
}

/// Updates what is known under an index.
fn follow(known: &mut Vec<(u32, bool)>, index: u32, update: impl Fn(bool) -> bool) {
    if let Some((_, state)) = known.iter_mut().find(|(of, _)| *of == index) {
        *state = update(*state);
    } else if known.len() < MOST_FOLLOWED {
        known.push((index, update(false)));
    }
}
