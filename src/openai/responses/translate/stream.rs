//! A stream of Chat Completions as the events of a response: items that open and close one after the other, and at last
//! everything once more.
//!
//! Holds the texts that the last event repeats, within a bound. Refuses to know how events are found, and whole answers.

use crate::json::escaped;
use crate::json::object::Object;
use crate::sse::named_event;
use crate::translate::chat::{ChatAnswer, ChatToolCall, ChatUsage};

use super::frame::{
    ResponseEnd, ResponseFrame, ToolCall, custom_input, logged_part, message_item, reasoning_item, text_part,
    usage,
};

/// The longest answer whose end can be written, in bytes of its texts.
const MAX_TEXTS: usize = 16 << 20;

/// A response as far as it is written.
#[derive(Debug, Default)]
pub(super) struct ResponseStream {
    id: String,
    created: u64,
    /// The number of the next event.
    number: u64,
    has_begun: bool,
    open: Option<OpenItem>,
    /// The items that are closed.
    output: Vec<Vec<u8>>,
    /// What was said while a call was open, which is an item of its own after it.
    aside: String,
    /// The index of the last call, in the chat.
    last_call: Option<u32>,
    end: Option<ResponseEnd>,
    usage: Option<ChatUsage>,
    /// How long all texts are.
    held: usize,
}

/// The item that is being written.
#[derive(Debug)]
enum OpenItem {
    Text {
        kind: TextKind,
        item_id: String,
        text: String,
        /// How probable its tokens were, as the inside of a list.
        logprobs: String,
    },
    /// A call, with its index in the chat.
    Call(u32, ToolCall),
}

/// Which kind of text an item has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Reasoning,
    Output,
    Refusal,
}

impl TextKind {
    /// The kind of the item's part, which its events are named after.
    fn part(self) -> &'static str {
        match self {
            Self::Reasoning => "reasoning_text",
            Self::Output => "output_text",
            Self::Refusal => "refusal",
        }
    }

    /// The item as it begins.
    fn begun(self, id: &str) -> Vec<u8> {
        match self {
            Self::Reasoning => reasoning_item(id, None),
            Self::Output | Self::Refusal => message_item(id, &[], "in_progress"),
        }
    }
}

impl ResponseStream {
    /// Writes what an event says; nothing if it goes on with a call after another has begun, or there is too much.
    pub(super) fn event(
        &mut self,
        event: &ChatAnswer<'_>,
        frame: &ResponseFrame,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        self.usage = event.usage.or(self.usage);
        let Some(choice) = event.choice() else { return Some(()) };
        self.begin(event, frame, out);
        if let Some(message) = &choice.message {
            let texts = [
                (TextKind::Reasoning, message.reasoning()),
                (TextKind::Output, message.content()),
                (TextKind::Refusal, message.refusal()),
            ];
            for (kind, text) in texts {
                if let Some(text) = text {
                    let logged = if kind == TextKind::Output { choice.logprobs() } else { "" };
                    self.text(kind, text, logged, out)?;
                }
            }
            for call in message.tool_calls.iter().flatten() {
                self.call(call, frame, out)?;
            }
        }
        if let Some(reason) = choice.finish_reason.as_deref() {
            self.end = Some(ResponseEnd::of(reason));
        }
        Some(())
    }

    /// Writes the end; nothing if the answer has not said why it ends.
    pub(super) fn end(&mut self, frame: &ResponseFrame, out: &mut Vec<u8>) -> Option<()> {
        let end = self.end.take()?;
        if self.open.is_none() && self.output.is_empty() {
            self.open_text(TextKind::Output, out);
        }
        self.close(end.status(), out)?;
        let usage = self.usage.map(usage);
        let response = frame.response(&self.id, self.created);
        let response = response.end(Some(end), &self.output, usage.as_deref());
        let name = format!("response.{}", end.status());
        self.send(&name, |event| event.raw("response", &response), out);
        Some(())
    }

    fn begin(&mut self, event: &ChatAnswer<'_>, frame: &ResponseFrame, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        event.bare_id().clone_into(&mut self.id);
        self.created = event.created.unwrap_or(frame.now());
        let response = frame.response(&self.id, self.created).end(None, &[], None);
        for name in ["response.created", "response.in_progress"] {
            self.send(name, |event| event.raw("response", &response), out);
        }
    }

    fn text(&mut self, kind: TextKind, more: &str, logged: &str, out: &mut Vec<u8>) -> Option<()> {
        self.hold(more)?;
        self.hold(logged)?;
        if kind == TextKind::Output && matches!(self.open, Some(OpenItem::Call(..))) {
            self.aside.push_str(more);
            return Some(());
        }
        if !matches!(&self.open, Some(OpenItem::Text { kind: open, .. }) if *open == kind) {
            self.close("completed", out)?;
            self.open_text(kind, out);
        }
        let (index, number) = (self.output.len(), self.number);
        let Some(OpenItem::Text { item_id, text, logprobs, .. }) = &mut self.open else { return None };
        text.push_str(more);
        if !logged.is_empty() {
            logprobs.push_str(if logprobs.is_empty() { "" } else { "," });
            logprobs.push_str(logged);
        }
        self.number += 1;
        delta(&format!("response.{}.delta", kind.part()), DeltaPlace { item_id, index, number }, more, out);
        // Reopened as JSON: the place of the part, and what texts of answers have beside.
        match kind {
            TextKind::Output => {
                out.extend_from_slice(b",\"content_index\":0,\"logprobs\":[");
                out.extend_from_slice(logged.as_bytes());
                out.extend_from_slice(b"]}\n\n");
            }
            TextKind::Reasoning | TextKind::Refusal => out.extend_from_slice(b",\"content_index\":0}\n\n"),
        }
        Some(())
    }

    fn open_text(&mut self, kind: TextKind, out: &mut Vec<u8>) {
        let index = self.output.len();
        let prefix = if kind == TextKind::Reasoning { "rs" } else { "msg" };
        let item_id = if index == 0 {
            format!("{prefix}_{}", self.id)
        } else {
            format!("{prefix}_{}_{index}", self.id)
        };
        self.added(&kind.begun(&item_id), out);
        let part = text_part(kind.part(), "");
        let about = |event: Object| about(event, &item_id, index).number("content_index", 0);
        self.send("response.content_part.added", |event| about(event).raw("part", &part), out);
        self.open = Some(OpenItem::Text { kind, item_id, text: String::new(), logprobs: String::new() });
    }

    fn call(&mut self, call: &ChatToolCall<'_>, frame: &ResponseFrame, out: &mut Vec<u8>) -> Option<()> {
        self.hold(call.arguments())?;
        let next = self.last_call.map_or(0, |last| last.saturating_add(1));
        let index = call.index.unwrap_or(match &self.open {
            Some(OpenItem::Call(open, _)) if call.name().is_none() => *open,
            _ => next,
        });
        if !matches!(&self.open, Some(OpenItem::Call(open, _)) if *open == index) {
            if index < next {
                return None;
            }
            self.close("completed", out)?;
            let mut begun = frame.call(call, &self.id, index);
            begun.arguments.clear();
            self.added(&begun.item(None, "in_progress"), out);
            self.open = Some(OpenItem::Call(index, begun));
            self.last_call = Some(index);
        }
        let (place, number) = (self.output.len(), self.number);
        let Some(OpenItem::Call(_, open)) = &mut self.open else { return None };
        open.arguments.push_str(call.arguments());
        // What a custom tool gets can be told from its wrapper once that is whole.
        if !open.is_custom && !call.arguments().is_empty() {
            self.number += 1;
            let place = DeltaPlace { item_id: &open.item_id, index: place, number };
            delta("response.function_call_arguments.delta", place, call.arguments(), out);
            out.extend_from_slice(b"}\n\n");
        }
        Some(())
    }

    /// Closes the item that is open, and whose end has this status; nothing if there is too much.
    fn close(&mut self, status: &str, out: &mut Vec<u8>) -> Option<()> {
        let index = self.output.len();
        let item = match self.open.take() {
            None => return Some(()),
            Some(OpenItem::Text { kind, item_id, text, logprobs }) => {
                let about = |event: Object| about(event, &item_id, index).number("content_index", 0);
                let key = if kind == TextKind::Refusal { "refusal" } else { "text" };
                let logged = |event: Object| {
                    if kind != TextKind::Output {
                        return event;
                    }
                    event.raw("logprobs", format!("[{logprobs}]").as_bytes())
                };
                let done = format!("response.{}.done", kind.part());
                self.send(&done, |event| logged(about(event).text(key, &text)), out);
                let part = logged_part(kind.part(), &text, &logprobs);
                self.send("response.content_part.done", |event| about(event).raw("part", &part), out);
                match kind {
                    TextKind::Reasoning => reasoning_item(&item_id, Some(&text)),
                    TextKind::Output | TextKind::Refusal => message_item(&item_id, &[part], status),
                }
            }
            Some(OpenItem::Call(_, call)) => {
                let about = |event: Object| about(event, &call.item_id, index);
                if call.is_custom {
                    let input = custom_input(&call.arguments);
                    let name = "response.custom_tool_call_input";
                    self.send(&format!("{name}.delta"), |event| about(event).text("delta", &input), out);
                    self.send(&format!("{name}.done"), |event| about(event).text("input", &input), out);
                } else {
                    let name = "response.function_call_arguments.done";
                    let called = |event| about(event).text("name", &call.name);
                    self.send(name, |event| called(event).text("arguments", &call.arguments), out);
                }
                call.item(Some(&call.arguments), status)
            }
        };
        let done = |event: Object| event.number("output_index", index as u64).raw("item", &item);
        self.send("response.output_item.done", done, out);
        self.output.push(item);
        let aside = std::mem::take(&mut self.aside);
        if !aside.trim().is_empty() {
            self.text(TextKind::Output, &aside, "", out)?;
            self.close(status, out)?;
        }
        Some(())
    }

    fn added(&mut self, item: &[u8], out: &mut Vec<u8>) {
        let index = self.output.len() as u64;
        self.send(
            "response.output_item.added",
            |event| event.number("output_index", index).raw("item", item),
            out,
        );
    }

    /// Counts a text that is held to the end; nothing if that is too much.
    fn hold(&mut self, text: &str) -> Option<()> {
        self.held += text.len();
        (self.held <= MAX_TEXTS).then_some(())
    }

    fn send(&mut self, name: &str, members: impl FnOnce(Object) -> Object, out: &mut Vec<u8>) {
        let event = Object::default().text("type", name).number("sequence_number", self.number);
        self.number += 1;
        named_event(out, name, &members(event).end());
    }
}

/// Where a piece of text belongs, and the number of its event.
#[derive(Clone, Copy)]
struct DeltaPlace<'a> {
    item_id: &'a str,
    index: usize,
    number: u64,
}

/// Writes the event of a piece of text, up to the end of its members: there is one for each token.
fn delta(name: &str, place: DeltaPlace<'_>, text: &str, out: &mut Vec<u8>) {
    let DeltaPlace { item_id, index, number } = place;
    for part in ["event: ", name, "\ndata: {\"type\":\"", name, "\",\"sequence_number\":"] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b",\"item_id\":\"");
    out.extend_from_slice(&escaped(item_id));
    out.extend_from_slice(b"\",\"output_index\":");
    out.extend_from_slice(index.to_string().as_bytes());
    out.extend_from_slice(b",\"delta\":\"");
    out.extend_from_slice(&escaped(text));
    out.push(b'"');
}

fn about(event: Object, item_id: &str, index: usize) -> Object {
    event.text("item_id", item_id).number("output_index", index as u64)
}
