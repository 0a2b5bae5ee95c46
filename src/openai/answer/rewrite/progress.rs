//! How far an answer has gone out, and how it is brought to an end before its time.
//!
//! Refuses to know any dialect's last events, and what is held back but for the texts that were released behind
//! something that was not.

use std::collections::VecDeque;

use crate::FinishReason;
use crate::answer::LocalReply;
use crate::answer::content::AnswerStep;
use crate::answer::dialect::AnswerDialect;
use crate::answer::ending::{CutAnswer, MOST_FOLLOWED, StreamEnding};
use crate::json::object::{Object, non_null_member, string_member};

use super::held::HeldFrame;
use super::texts::AnswerTexts;

/// What the client has seen of an answer's progress.
#[derive(Debug)]
pub(super) struct AnswerProgress {
    dialect: &'static dyn AnswerDialect,
    /// What follows a stream; nothing for a whole answer.
    ending: Option<Box<dyn StreamEnding>>,
    /// What the first event says of the whole answer.
    head: Vec<(&'static str, Vec<u8>)>,
    is_over: bool,
}

impl AnswerProgress {
    pub(super) fn new(dialect: &'static dyn AnswerDialect, is_stream: bool) -> Self {
        let ending = is_stream.then(|| dialect.ending());
        Self { dialect, ending, head: Vec::new(), is_over: false }
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
        self.is_over |= *step == AnswerStep::Over;
        if let Some(ending) = &mut self.ending {
            ending.sent(step);
        }
    }

    /// Writes what ends the answer: the last events of a stream; else the document that is held, cut where its texts
    /// are not released, or one of our own if it has not arrived.
    pub(super) fn end(
        &mut self,
        held: &VecDeque<HeldFrame>,
        texts: &AnswerTexts,
        finish: FinishReason,
        note: Option<&str>,
    ) -> Vec<u8> {
        let Some(ending) = &self.ending else { return self.document(held.front(), finish, note) };
        if std::mem::replace(&mut self.is_over, true) {
            return Vec::new();
        }
        if !ending.has_begun() {
            return self.dialect.local_reply_stream(&self.reply(finish, note), false);
        }
        let cut = CutAnswer {
            finish,
            note,
            head: &self.head,
            unsent: held.iter().flat_map(HeldFrame::released_texts).collect(),
            unsent_steps: held.iter().flat_map(|held| &held.steps).collect(),
            released: texts.all_released().collect(),
        };
        let mut out = Vec::new();
        ending.write(&cut, &mut out);
        out
    }

    fn document(&self, held: Option<&HeldFrame>, finish: FinishReason, note: Option<&str>) -> Vec<u8> {
        match held.filter(|held| held.steps.contains(&AnswerStep::Over)) {
            Some(held) => held.write_cut(note, finish),
            None => self.dialect.local_reply(&self.reply(finish, note)),
        }
    }

    fn reply(&self, finish: FinishReason, note: Option<&str>) -> LocalReply {
        let head = Object::default().all(self.head.iter().map(|(key, value)| (*key, value))).end();
        let model = string_member(&head, "model").unwrap_or_default();
        let mut reply = LocalReply::fast(note.unwrap_or_default(), &model, 0);
        "chatcmpl-cut".clone_into(&mut reply.id);
        reply.finish = finish;
        reply
    }
}
