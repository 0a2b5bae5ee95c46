//! A stream of choices: chat completions, whose deltas grow, and completions, whose texts grow.
//!
//! Refuses to know other dialects.

use crate::json::object::{Object, array, elements, entries, number_member, string_value};

use crate::answer::dialect::StreamAssembler;
use crate::answer::merged::{ByteBudget, MergedObject, NotMergeable, indexed};

/// The choices so far, and what stands beside them.
#[derive(Debug)]
pub(crate) struct ChoicesAssembler {
    object: &'static str,
    /// The members beside `choices`.
    top: MergedObject,
    /// The choices by index: their members beside the message.
    each: Vec<(u64, MergedObject)>,
    /// Their messages, by the same index.
    messages: Vec<(u64, MergedObject)>,
    is_done: bool,
    budget: ByteBudget,
}

impl ChoicesAssembler {
    /// Starts an answer of `/v1/chat/completions`.
    pub(crate) fn of_chat() -> Self {
        Self::of("chat.completion")
    }

    /// Starts an answer of `/v1/completions`.
    pub(crate) fn of_completions() -> Self {
        Self::of("text_completion")
    }

    fn of(object: &'static str) -> Self {
        Self {
            object,
            top: MergedObject::default(),
            each: Vec::new(),
            messages: Vec::new(),
            is_done: false,
            budget: ByteBudget::default(),
        }
    }

    fn choice(&mut self, choice: &[u8]) -> Result<(), NotMergeable> {
        let budget = &mut self.budget;
        let index = number_member(choice, "index").unwrap_or(0);
        let merged = indexed(&mut self.each, index, budget)?;
        for (key, value) in entries(choice) {
            match (&*key, value.first()) {
                ("index", _) => {}
                ("delta", Some(b'{')) => {
                    indexed(&mut self.messages, index, budget)?.merge_delta(value, budget)?;
                }
                ("text", Some(b'"')) => {
                    merged.append("text", &string_value(value).unwrap_or_default(), budget)?;
                }
                ("logprobs", Some(b'{')) => merged.inner("logprobs", budget)?.merge_lists(value, budget)?,
                (key, Some(b'[')) => merged.extend(key, value, budget)?,
                (key, _) => merged.last(key, value, budget)?,
            }
        }
        Ok(())
    }
}

impl StreamAssembler for ChoicesAssembler {
    fn done(&mut self) {
        self.is_done = true;
    }

    fn merge(&mut self, data: &[u8], max_bytes: usize) -> Result<(), NotMergeable> {
        self.budget.max = max_bytes;
        if self.is_done {
            return Ok(());
        }
        for (key, value) in entries(data) {
            match &*key {
                "choices" => elements(value).try_for_each(|choice| self.choice(choice))?,
                // The second only hides how long a chunk is.
                "object" | "obfuscation" => {}
                key => self.top.last(key, value, &mut self.budget)?,
            }
        }
        Ok(())
    }

    fn whole(&mut self) -> Option<Vec<u8>> {
        let is_over = self.each.iter().all(|(_, choice)| choice.has("finish_reason"));
        if !self.is_done || self.each.is_empty() || !is_over {
            return None;
        }
        let choices = self.each.iter().map(|(index, choice)| {
            let written = Object::default().number("index", *index);
            let message = self.messages.iter().find(|(of, _)| of == index);
            let written = match message {
                Some((_, message)) => written.raw("message", &whole_message(message)),
                None if self.object == "chat.completion" => {
                    written.raw("message", &whole_message(&MergedObject::default()))
                }
                None => written,
            };
            written.all(choice.written()).end()
        });
        let mut answer = Object::default();
        let mut usage = None;
        for (key, value) in self.top.written() {
            match key {
                "usage" => usage = Some(value),
                _ => answer = answer.raw(key, &value),
            }
        }
        answer = answer.text("object", self.object).raw("choices", &array(choices));
        Some(answer.all(usage.map(|usage| ("usage", usage))).end())
    }
}

/// Writes a message, with the members that every message has.
fn whole_message(message: &MergedObject) -> Vec<u8> {
    let mut written = Object::default();
    if !message.has("role") {
        written = written.text("role", "assistant");
    }
    let mut has_content = false;
    for (key, value) in message.written() {
        has_content |= key == "content";
        if key != "role" || message.has("role") {
            written = written.raw(key, &value);
        }
    }
    if has_content { written.end() } else { written.raw("content", b"null").end() }
}
