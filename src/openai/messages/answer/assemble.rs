//! A stream of `/v1/messages`: a message that starts empty, blocks that grow, and a last word.
//!
//! Refuses to know other dialects.

use crate::json;
use crate::json::object::{Object, array, entries, non_null_member, number_member, string_member};

use crate::answer::dialect::StreamAssembler;
use crate::answer::merged::{ByteBudget, MergedObject, NotMergeable, indexed};

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct MessageAssembler {
    /// The members beside `content` and `usage`.
    top: MergedObject,
    usage: MergedObject,
    /// The blocks by index.
    blocks: Vec<(u64, MergedObject)>,
    /// The tools' inputs as they were written, by the same index.
    inputs: Vec<(u64, String)>,
    has_begun: bool,
    is_done: bool,
    budget: ByteBudget,
}

impl MessageAssembler {
    fn start(&mut self, message: &[u8]) -> Result<(), NotMergeable> {
        self.has_begun = true;
        self.top.last("content", b"[]", &mut self.budget)?;
        for (key, value) in entries(message).filter(|(key, _)| key != "usage" && key != "content") {
            self.top.last(&key, value, &mut self.budget)?;
        }
        self.usage(message)
    }

    fn usage(&mut self, of: &[u8]) -> Result<(), NotMergeable> {
        for (key, value) in non_null_member(of, "usage").into_iter().flat_map(entries) {
            self.usage.last(&key, value, &mut self.budget)?;
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: &[u8]) -> Result<(), NotMergeable> {
        let budget = &mut self.budget;
        let block = indexed(&mut self.blocks, index, budget)?;
        let grown = |key| string_member(delta, key).unwrap_or_default();
        match string_member(delta, "type").as_deref() {
            Some("text_delta") => block.append("text", &grown("text"), budget),
            Some("thinking_delta") => block.append("thinking", &grown("thinking"), budget),
            Some("signature_delta") => block.append("signature", &grown("signature"), budget),
            Some("citations_delta") => {
                let citation = non_null_member(delta, "citation").ok_or(NotMergeable)?;
                block.extend("citations", &array([citation]), budget)
            }
            Some("input_json_delta") => {
                let more = grown("partial_json");
                budget.take(more.len())?;
                match self.inputs.iter_mut().find(|(of, _)| *of == index) {
                    Some((_, input)) => input.push_str(&more),
                    None => self.inputs.push((index, more.into_owned())),
                }
                Ok(())
            }
            // What is not understood cannot be put together.
            _ => Err(NotMergeable),
        }
    }
}

impl StreamAssembler for MessageAssembler {
    fn merge(&mut self, data: &[u8], max_bytes: usize) -> Result<(), NotMergeable> {
        self.budget.max = max_bytes;
        match string_member(data, "type").as_deref() {
            Some("message_start") => self.start(non_null_member(data, "message").ok_or(NotMergeable)?),
            Some("content_block_start") => {
                let block = non_null_member(data, "content_block").ok_or(NotMergeable)?;
                let merged = indexed(&mut self.blocks, index_of(data)?, &mut self.budget)?;
                merge_block(merged, block, &mut self.budget)
            }
            Some("content_block_delta") => {
                self.delta(index_of(data)?, non_null_member(data, "delta").ok_or(NotMergeable)?)
            }
            Some("message_delta") => {
                for (key, value) in non_null_member(data, "delta").into_iter().flat_map(entries) {
                    self.top.last(&key, value, &mut self.budget)?;
                }
                self.usage(data)
            }
            Some("message_stop") => {
                self.is_done = true;
                Ok(())
            }
            Some("error") => Err(NotMergeable),
            _ => Ok(()),
        }
    }

    fn whole(&mut self) -> Option<Vec<u8>> {
        if !self.has_begun || !self.is_done {
            return None;
        }
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (index, block) in &self.blocks {
            let input = self.inputs.iter().find(|(of, _)| of == index).map(|(_, input)| input.as_str());
            blocks.push(whole_block(block, input)?);
        }
        let mut message = Object::default();
        for (key, value) in self.top.written() {
            message = match key {
                "content" => message.raw("content", &array(&blocks)),
                key => message.raw(key, &value),
            };
        }
        Some(message.raw("usage", &Object::default().all(self.usage.written()).end()).end())
    }
}

/// Takes a block as it starts; its texts may grow.
fn merge_block(merged: &mut MergedObject, block: &[u8], budget: &mut ByteBudget) -> Result<(), NotMergeable> {
    for (key, value) in entries(block) {
        match &*key {
            "text" | "thinking" | "signature" => {
                merged.append(&key, &string_member(block, &key).unwrap_or_default(), budget)?;
            }
            "citations" if value.starts_with(b"[") => merged.extend(&key, value, budget)?,
            key => merged.last(key, value, budget)?,
        }
    }
    Ok(())
}

fn whole_block(block: &MergedObject, input: Option<&str>) -> Option<Vec<u8>> {
    let input = input.filter(|input| !input.is_empty());
    if input.is_some_and(|input| json::document(input.as_bytes()).is_err()) {
        return None;
    }
    let mut written = Object::default();
    for (key, value) in block.written() {
        written = match (key, input) {
            ("input", Some(input)) => written.raw("input", input.as_bytes()),
            (key, _) => written.raw(key, &value),
        };
    }
    Some(written.end())
}

fn index_of(data: &[u8]) -> Result<u64, NotMergeable> {
    number_member(data, "index").ok_or(NotMergeable)
}
