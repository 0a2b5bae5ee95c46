//! How far a stream of `/v1/messages` has gone out, and how it ends early: its blocks closed, one last reason.

use crate::answer::content::{AnswerStep, Channel, TextId};
use crate::answer::ending::{CutAnswer, StreamEnding, follow};
use crate::json::object::Object;
use crate::sse::named_event;

use super::stop_reason;

/// What the client has seen of a message.
#[derive(Debug, Default)]
pub(super) struct MessageEnding {
    has_begun: bool,
    /// The blocks that went out, and whether they are open.
    blocks: Vec<(u32, bool)>,
}

impl StreamEnding for MessageEnding {
    fn sent(&mut self, step: &AnswerStep) {
        match step {
            AnswerStep::Begun(_) => self.has_begun = true,
            AnswerStep::BlockOpen(index) => follow(&mut self.blocks, *index, |_| true),
            AnswerStep::BlockClosed(index) => follow(&mut self.blocks, *index, |_| false),
            _ => {}
        }
    }

    fn has_begun(&self) -> bool {
        self.has_begun
    }

    fn write(&self, cut: &CutAnswer<'_>, out: &mut Vec<u8>) {
        let mut send = |name: &str, members: Object| named_event(out, name, &members.end());
        let typed = |name: &str| Object::default().text("type", name);
        let delta = |index: u32, kind: &str, key: &str, text: &str| {
            let delta = Object::default().text("type", kind).text(key, text).end();
            typed("content_block_delta").number("index", u64::from(index)).raw("delta", &delta)
        };
        for (index, _) in self.blocks.iter().filter(|(_, is_open)| *is_open) {
            for (channel, kind, key) in
                [(Channel::Content, "text_delta", "text"), (Channel::Reasoning, "thinking_delta", "thinking")]
            {
                let unsent = cut.unsent(TextId { choice: 0, channel, part: *index });
                if !unsent.is_empty() {
                    send("content_block_delta", delta(*index, kind, key, &unsent));
                }
            }
            send("content_block_stop", typed("content_block_stop").number("index", u64::from(*index)));
        }
        if let Some(note) = cut.note {
            let index = self.blocks.iter().map(|(index, _)| index + 1).max().unwrap_or(0);
            let block = Object::default().text("type", "text").text("text", "").end();
            let begun = typed("content_block_start").number("index", u64::from(index));
            send("content_block_start", begun.raw("content_block", &block));
            send("content_block_delta", delta(index, "text_delta", "text", note));
            send("content_block_stop", typed("content_block_stop").number("index", u64::from(index)));
        }
        let stop =
            Object::default().text("stop_reason", stop_reason(cut.finish)).raw("stop_sequence", b"null");
        let last = typed("message_delta").raw("delta", &stop.end());
        send("message_delta", last.raw("usage", b"{\"output_tokens\":0}"));
        send("message_stop", typed("message_stop"));
    }
}
