//! How far a stream of `/v1/responses` has gone out, and how it ends early: what is open is closed, and the last event
//! says everything once more.

use crate::answer::content::{AnswerStep, Channel, TextId};
use crate::answer::ending::{CutAnswer, MOST_FOLLOWED, StreamEnding};
use crate::json::object::{Object, array, entries, string_member};

use super::stream::{EventSequence, EventSubject};
use super::{incomplete_details, status};

/// What the client has seen of a response.
#[derive(Debug, Default)]
pub(super) struct ResponseEnding {
    /// The response as it described itself at its start.
    begun: Vec<u8>,
    items: Vec<OutputItem>,
    /// The number of the next event.
    next: u64,
}

#[derive(Debug)]
struct OutputItem {
    index: u32,
    /// The item as it described itself at its start.
    begun: Vec<u8>,
    is_open: bool,
    /// The text parts that are open.
    open: Vec<u32>,
}

impl StreamEnding for ResponseEnding {
    fn sent(&mut self, step: &AnswerStep) {
        match step {
            AnswerStep::Begun(response) => self.begun.clone_from(response),
            AnswerStep::Number(number) => self.next = number.saturating_add(1),
            AnswerStep::ItemOpen(index, begun) if self.items.len() < MOST_FOLLOWED => {
                let is_short = begun.len() <= LONGEST_ITEM;
                let begun = if is_short { begun.clone() } else { b"{}".to_vec() };
                self.items.push(OutputItem { index: *index, begun, is_open: true, open: Vec::new() });
            }
            AnswerStep::ItemClosed(index) => self.items_at(*index).for_each(|item| item.is_open = false),
            AnswerStep::PartOpen(index, part) => self
                .items_at(*index)
                .filter(|item| item.open.len() < MOST_FOLLOWED)
                .for_each(|item| item.open.push(*part)),
            AnswerStep::PartClosed(index, part) => {
                self.items_at(*index).for_each(|item| item.open.retain(|open| open != part));
            }
            _ => {}
        }
    }

    fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    fn write(&self, cut: &CutAnswer<'_>, out: &mut Vec<u8>) {
        let mut sequence = EventSequence { out: std::mem::take(out), next: self.next };
        let mut output = Vec::with_capacity(self.items.len() + 1);
        let mut note = cut.note.filter(|note| !note.is_empty());
        for item in &self.items {
            output.push(item.end(&mut sequence, cut, &mut note));
        }
        if let Some(note) = note {
            let part = text_part("output_text", note);
            let item =
                Object::default().text("type", "message").text("id", "msg_cut").text("status", "completed");
            let item = item.text("role", "assistant").raw("content", &array([part])).end();
            let index = self.items.iter().map(|item| u64::from(item.index) + 1).max().unwrap_or(0);
            sequence.item(index, &item);
            output.push(item);
        }
        let mut response = Object::default();
        for (key, value) in entries(&self.begun).filter(|(key, _)| !ENDS.contains(&&**key)) {
            response = response.raw(&key, value);
        }
        let response = response
            .text("status", status(cut.finish))
            .raw("incomplete_details", &incomplete_details(cut.finish))
            .raw("output", &array(output))
            .end();
        let last = format!("response.{}", status(cut.finish));
        sequence.send(&last, |event| event.raw("response", &response));
        *out = sequence.out;
    }
}

impl ResponseEnding {
    fn items_at(&mut self, index: u32) -> impl Iterator<Item = &mut OutputItem> {
        self.items.iter_mut().filter(move |item| item.index == index)
    }
}

/// The longest item that is kept as it described itself, in bytes; at its start it has no text yet.
const LONGEST_ITEM: usize = 16 * 1024;

/// The members of a response that its end says anew.
const ENDS: [&str; 3] = ["status", "incomplete_details", "output"];

impl OutputItem {
    /// Closes the item if it is open, with the note in its last open text, and returns it whole.
    fn end(&self, sequence: &mut EventSequence, cut: &CutAnswer<'_>, note: &mut Option<&str>) -> Vec<u8> {
        let item_id = string_member(&self.begun, "id").unwrap_or_default();
        let about = |part: u32| EventSubject {
            id: &item_id,
            output: u64::from(self.index),
            part: Some(("content_index", u64::from(part))),
        };
        let mut made: Vec<(TextId, String)> = cut
            .released
            .iter()
            .filter(|(id, _)| id.choice == self.index)
            .map(|(id, made)| (*id, (*made).to_owned()))
            .collect();
        made.sort_by_key(|(id, _)| id.part);
        for (id, made) in &mut made {
            let (kind, key) = match id.channel {
                Channel::Content => ("output_text", "text"),
                Channel::Refusal => ("refusal", "refusal"),
                _ => continue,
            };
            if !self.open.contains(&id.part) {
                continue;
            }
            let mut more = cut.unsent(*id);
            if id.channel == Channel::Content
                && let Some(note) = note.take()
            {
                more.push_str(note);
                made.push_str(note);
            }
            let about = about(id.part);
            let logged = |event: Object| if key == "text" { event.raw("logprobs", b"[]") } else { event };
            if !more.is_empty() {
                let name = format!("response.{kind}.delta");
                sequence.send(&name, |event| logged(about.write(event).text("delta", &more)));
            }
            let name = format!("response.{kind}.done");
            sequence.send(&name, |event| logged(about.write(event).text(key, made)));
            let part = text_part(kind, made);
            sequence.send("response.content_part.done", |event| about.write(event).raw("part", &part));
        }
        let item = self.whole(&made);
        if self.is_open {
            let index = u64::from(self.index);
            sequence.send("response.output_item.done", |event| {
                event.number("output_index", index).raw("item", &item)
            });
        }
        item
    }

    fn whole(&self, made: &[(TextId, String)]) -> Vec<u8> {
        let mut content = Vec::new();
        let mut summary = Vec::new();
        let mut arguments = None;
        for (id, made) in made {
            match id.channel {
                Channel::Content => content.push(text_part("output_text", made)),
                Channel::Refusal => content.push(text_part("refusal", made)),
                Channel::Reasoning => content.push(text_part("reasoning_text", made)),
                Channel::Summary => summary.push(text_part("summary_text", made)),
                Channel::Arguments | Channel::Input => arguments = Some(made),
                Channel::Other | Channel::Whole | Channel::Raw => {}
            }
        }
        let mut whole = Object::default();
        for (key, value) in entries(&self.begun) {
            whole = match (&*key, arguments) {
                ("status", _) => whole.text("status", if self.is_open { "incomplete" } else { "completed" }),
                ("content", _) => whole.raw("content", &array(&content)),
                ("summary", _) => whole.raw("summary", &array(&summary)),
                ("arguments" | "input", Some(made)) => whole.text(&key, made),
                (key, _) => whole.raw(key, value),
            };
        }
        whole.end()
    }
}

fn text_part(kind: &str, text: &str) -> Vec<u8> {
    let part = Object::default().text("type", kind);
    match kind {
        "refusal" => part.text("refusal", text).end(),
        "output_text" => part.text("text", text).raw("annotations", b"[]").raw("logprobs", b"[]").end(),
        _ => part.text("text", text).end(),
    }
}
