//! The progress of a Responses stream, whose end says everything once more.
//!
//! Refuses to know other APIs' streams.

use std::collections::VecDeque;

use crate::openai::FinishReason;
use crate::openai::json::object::{Object, array, entries, string_member};
use crate::openai::replay_stream::{EventSequence, EventSubject};

use super::super::held::HeldFrame;
use super::super::reading::AnswerStep;
use super::super::texts::AnswerTexts;
use super::super::{Channel, TextId};
use super::{MOST_FOLLOWED, details, left};

/// What the client has seen of a response.
#[derive(Debug, Default)]
pub(super) struct ResponseProgress {
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

impl ResponseProgress {
    /// Notes what has gone out.
    pub(super) fn sent(&mut self, step: &AnswerStep) {
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

    /// Closes what is open and writes the last event.
    pub(super) fn end(
        &self,
        out: &mut Vec<u8>,
        held: &VecDeque<HeldFrame>,
        texts: &AnswerTexts,
        (finish, note): (FinishReason, Option<&str>),
    ) {
        let mut sequence = EventSequence { out: std::mem::take(out), next: self.next };
        let mut output = Vec::with_capacity(self.items.len() + 1);
        let mut note = note.filter(|note| !note.is_empty());
        for item in &self.items {
            output.push(item.end(&mut sequence, held, texts, &mut note));
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
        let is_incomplete = finish.incomplete().is_some();
        let mut response = Object::default();
        for (key, value) in entries(&self.begun).filter(|(key, _)| !ENDS.contains(&&**key)) {
            response = response.raw(&key, value);
        }
        let response = response
            .text("status", if is_incomplete { "incomplete" } else { "completed" })
            .raw("incomplete_details", &details(finish))
            .raw("output", &array(output))
            .end();
        let last = if is_incomplete { "response.incomplete" } else { "response.completed" };
        sequence.send(last, |event| event.raw("response", &response));
        *out = sequence.out;
    }

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
    fn end(
        &self,
        sequence: &mut EventSequence,
        held: &VecDeque<HeldFrame>,
        texts: &AnswerTexts,
        note: &mut Option<&str>,
    ) -> Vec<u8> {
        let id = string_member(&self.begun, "id").unwrap_or_default();
        let about = |part: u32| EventSubject {
            id: &id,
            output: u64::from(self.index),
            part: Some(("content_index", u64::from(part))),
        };
        let mut made: Vec<(TextId, String)> = texts
            .made()
            .filter(|(place, _)| place.choice == self.index)
            .map(|(place, made)| (place, made.to_owned()))
            .collect();
        made.sort_by_key(|(place, _)| place.part);
        for (place, made) in &mut made {
            let (kind, key) = match place.channel {
                Channel::Content => ("output_text", "text"),
                Channel::Refusal => ("refusal", "refusal"),
                _ => continue,
            };
            if !self.open.contains(&place.part) {
                continue;
            }
            let mut more = left(held, *place);
            if place.channel == Channel::Content
                && let Some(note) = note.take()
            {
                more.push_str(note);
                made.push_str(note);
            }
            let about = about(place.part);
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
        for (place, made) in made {
            match place.channel {
                Channel::Content => content.push(text_part("output_text", made)),
                Channel::Refusal => content.push(text_part("refusal", made)),
                Channel::Reasoning => content.push(text_part("reasoning_text", made)),
                Channel::Summary => summary.push(text_part("summary_text", made)),
                Channel::Arguments => arguments = Some(made),
                Channel::Other | Channel::Raw => {}
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

fn text_part(kind: &str, said: &str) -> Vec<u8> {
    let part = Object::default().text("type", kind);
    match kind {
        "refusal" => part.text("refusal", said).end(),
        "output_text" => part.text("text", said).raw("annotations", b"[]").raw("logprobs", b"[]").end(),
        _ => part.text("text", said).end(),
    }
}
