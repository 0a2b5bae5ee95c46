//! A stream of `/v1/messages`: a message that starts empty, blocks that grow, and a last word.
//!
//! Refuses to know other APIs' streams.

use crate::openai::json;
use crate::openai::object::{Object, array, entries, given, number_in, said_in};

use super::Unfit;
use super::gathered::{Gathered, Room, indexed};

/// The message so far.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// The members beside `content` and `usage`.
    top: Gathered,
    usage: Gathered,
    /// The blocks by index.
    blocks: Vec<(u64, Gathered)>,
    /// The tools' inputs as they were written, by the same index.
    inputs: Vec<(u64, String)>,
    has_begun: bool,
    is_done: bool,
    room: Room,
}

impl Message {
    /// Merges one event.
    pub(super) fn take(&mut self, data: &[u8], max_bytes: usize) -> Result<(), Unfit> {
        self.room.max = max_bytes;
        match said_in(data, "type").as_deref() {
            Some("message_start") => self.start(given(data, "message").ok_or(Unfit)?),
            Some("content_block_start") => {
                let block = given(data, "content_block").ok_or(Unfit)?;
                let gathered = indexed(&mut self.blocks, index_of(data)?, &mut self.room)?;
                gathered.merge_block(block, &mut self.room)
            }
            Some("content_block_delta") => self.delta(index_of(data)?, given(data, "delta").ok_or(Unfit)?),
            Some("message_delta") => {
                for (key, value) in given(data, "delta").into_iter().flat_map(entries) {
                    self.top.last(&key, value, &mut self.room)?;
                }
                self.usage(data)
            }
            Some("message_stop") => {
                self.is_done = true;
                Ok(())
            }
            Some("error") => Err(Unfit),
            _ => Ok(()),
        }
    }

    /// Writes the whole message; nothing if it did not come to its end.
    pub(super) fn whole(&self) -> Option<Vec<u8>> {
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

    fn start(&mut self, message: &[u8]) -> Result<(), Unfit> {
        self.has_begun = true;
        self.top.last("content", b"[]", &mut self.room)?;
        for (key, value) in entries(message).filter(|(key, _)| key != "usage" && key != "content") {
            self.top.last(&key, value, &mut self.room)?;
        }
        self.usage(message)
    }

    fn usage(&mut self, of: &[u8]) -> Result<(), Unfit> {
        for (key, value) in given(of, "usage").into_iter().flat_map(entries) {
            self.usage.last(&key, value, &mut self.room)?;
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: &[u8]) -> Result<(), Unfit> {
        let room = &mut self.room;
        let block = indexed(&mut self.blocks, index, room)?;
        let grown = |key| said_in(delta, key).unwrap_or_default();
        match said_in(delta, "type").as_deref() {
            Some("text_delta") => block.append("text", &grown("text"), room),
            Some("thinking_delta") => block.append("thinking", &grown("thinking"), room),
            Some("signature_delta") => block.append("signature", &grown("signature"), room),
            Some("citations_delta") => {
                let citation = given(delta, "citation").ok_or(Unfit)?;
                block.extend("citations", &array([citation]), room)
            }
            Some("input_json_delta") => {
                let more = grown("partial_json");
                room.take(more.len())?;
                match self.inputs.iter_mut().find(|(of, _)| *of == index) {
                    Some((_, input)) => input.push_str(&more),
                    None => self.inputs.push((index, more.into_owned())),
                }
                Ok(())
            }
            // What is not understood cannot be put together.
            _ => Err(Unfit),
        }
    }
}

impl Gathered {
    /// Takes a block as it starts; its texts may grow.
    fn merge_block(&mut self, block: &[u8], room: &mut Room) -> Result<(), Unfit> {
        for (key, value) in entries(block) {
            match &*key {
                "text" | "thinking" | "signature" => {
                    self.append(&key, &said_in(block, &key).unwrap_or_default(), room)?;
                }
                "citations" if value.starts_with(b"[") => self.extend(&key, value, room)?,
                key => self.last(key, value, room)?,
            }
        }
        Ok(())
    }
}

fn whole_block(block: &Gathered, input: Option<&str>) -> Option<Vec<u8>> {
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

fn index_of(data: &[u8]) -> Result<u64, Unfit> {
    number_in(data, "index").ok_or(Unfit)
}
