//! Owns what prompts are told apart by where their beginnings may be cached: a chain of hashes over blocks of the texts
//! that the model is shown, in the order in which templates put them.
//! Refuses to know who has what cached.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::segment::{Segment, SegmentKind, Unread, UnreadKind};
use super::{Api, ChatRequest};

/// What is taken for a token; text in English has 4 to 5 bytes a token, other scripts 2 to 4.
const BYTES_PER_TOKEN: usize = 4;

/// Tokens of a block at a prompt's beginning, four of the blocks that vLLM's cache is made of.
pub const SHORT_BLOCK: u32 = 64;

/// Tokens of the blocks that follow.
pub const LONG_BLOCK: u32 = 256;

/// How many blocks of a prompt are short: beginnings are told apart finely, and a long prompt has few blocks.
pub const SHORT_BLOCKS: usize = 32;

/// Bytes of the first blocks.
const BLOCK: usize = SHORT_BLOCK as usize * BYTES_PER_TOKEN;

/// Bytes of the blocks that follow.
const NEXT_BLOCK: usize = LONG_BLOCK as usize * BYTES_PER_TOKEN;

/// For how many bytes of text an image or another file is taken, whatever its size: 256 tokens.
const OPAQUE_BYTES: usize = 1_024;

/// The most blocks that are hashed: four megabytes of text. Prompts that differ only behind that are equal here.
const MAX_BLOCKS: usize = 4_096;

/// How the text begins with which Claude Code says what a request is billed to: it changes with each request and no
/// self-hosted model is shown it (see the Anthropic client's documentation of its attribution header).
const BILLING: &[u8] = b"x-anthropic-billing-header";

/// The blocks of a prompt, each hashed with all before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptPrefix {
    blocks: Vec<u64>,
    tokens: u32,
}

impl PromptPrefix {
    /// Reads a prompt: tools first, as templates show them, then system prompts and messages in their order.
    ///
    /// Left out is what the model is not shown or what changes without changing the prompt: cache marks, ids, metadata,
    /// schemas of answers, the billing text of Claude Code. A last block that is not full has no hash.
    pub fn of(request: &ChatRequest) -> Self {
        let mut hasher = BlockHasher::new(request.body().len());
        if let Some(salt) = request.field("cache_salt") {
            hasher.chain = xxh3_64(salt.as_bytes());
        }
        for segment in request.segments().filter(is_beside) {
            hasher.push(segment.bytes());
        }
        let unread = request.unread();
        let mut unread = unread.iter().peekable();
        let mut last = None;
        for (at, segment) in request.segments().enumerate() {
            while let Some(other) = unread.next_if(|other| other.is_before(at)) {
                hasher.push_unread(other, &request.body()[other.span.clone()]);
            }
            if !is_in_conversation(&segment) || segment.bytes().starts_with(BILLING) {
                continue;
            }
            if last != Some((segment.message, segment.role)) {
                last = Some((segment.message, segment.role));
                hasher.push(&[0, segment.role as u8]);
            }
            hasher.push(segment.bytes());
        }
        for other in unread {
            hasher.push_unread(other, &request.body()[other.span.clone()]);
        }
        hasher.finish()
    }

    /// About how many tokens the prompt has.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// How many whole blocks it has.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether it is too short for a block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The hashes of its blocks, in order.
    pub fn blocks(&self) -> &[u64] {
        &self.blocks
    }
}

impl ChatRequest {
    /// The prompt's blocks, hashed when they are first asked for.
    pub fn prefix(&self) -> &PromptPrefix {
        self.prefix.get_or_init(|| Arc::new(PromptPrefix::of(self)))
    }

    /// The token ids of a prompt that is one list of them, and nothing else.
    pub fn prompt_token_ids(&self) -> Option<Vec<u64>> {
        let prompt = self.member("prompt").filter(|_| self.api() == Api::Completions)?;
        Some(token_ids(prompt)?.map(u64::from).collect())
    }
}

/// Reads a flat list of token ids; nothing where it is anything else.
fn token_ids(list: &[u8]) -> Option<impl Iterator<Item = u32>> {
    let inside = list.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let id = |text: &[u8]| std::str::from_utf8(text.trim_ascii()).ok()?.parse::<u32>().ok();
    let ids = || inside.split(|byte| *byte == b',').map(id);
    ids().all(|id| id.is_some()).then(|| ids().flatten())
}

/// What templates put before the conversation.
fn is_beside(segment: &Segment<'_>) -> bool {
    matches!(segment.kind, SegmentKind::ToolDescription | SegmentKind::Template)
}

fn is_in_conversation(segment: &Segment<'_>) -> bool {
    match segment.kind {
        SegmentKind::Message
        | SegmentKind::SystemPrompt
        | SegmentKind::ToolCall
        | SegmentKind::ToolResult
        | SegmentKind::Document
        | SegmentKind::Reasoning => true,
        SegmentKind::ToolDescription
        | SegmentKind::Template
        | SegmentKind::Name
        | SegmentKind::Schema
        | SegmentKind::Prediction
        | SegmentKind::Identifier
        | SegmentKind::Metadata
        | SegmentKind::Other => false,
    }
}

/// Cuts what it is given into blocks and chains their hashes.
struct BlockHasher {
    unfinished: Vec<u8>,
    chain: u64,
    blocks: Vec<u64>,
    bytes: usize,
}

impl BlockHasher {
    fn new(body: usize) -> Self {
        Self {
            unfinished: Vec::with_capacity(BLOCK),
            chain: 0,
            blocks: Vec::with_capacity((SHORT_BLOCKS + body / NEXT_BLOCK).min(body / BLOCK).min(MAX_BLOCKS)),
            bytes: 0,
        }
    }

    /// How long the next block is.
    fn next(&self) -> usize {
        if self.blocks.len() < SHORT_BLOCKS { BLOCK } else { NEXT_BLOCK }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        if !self.unfinished.is_empty() {
            let (first, rest) = bytes.split_at(bytes.len().min(self.next() - self.unfinished.len()));
            self.unfinished.extend_from_slice(first);
            bytes = rest;
            if self.unfinished.len() < self.next() {
                return;
            }
            let block = std::mem::take(&mut self.unfinished);
            self.block(&block);
            self.unfinished = block;
            self.unfinished.clear();
        }
        while let Some((block, rest)) = bytes.split_at_checked(self.next()) {
            self.block(block);
            bytes = rest;
        }
        self.unfinished.extend_from_slice(bytes);
    }

    /// Takes what is not read as text: token ids one by one, so that prompts share their beginnings.
    fn push_unread(&mut self, unread: &Unread, bytes: &[u8]) {
        match token_ids(bytes).filter(|_| unread.kind == UnreadKind::TokenIds) {
            Some(ids) => ids.for_each(|id| self.push(&id.to_le_bytes())),
            None => self.push_opaque(bytes),
        }
    }

    /// Takes what is no text, such as an image: it is told apart by its hash, and takes the place of some text.
    fn push_opaque(&mut self, bytes: &[u8]) {
        let hash = xxh3_64(bytes).to_le_bytes();
        (0..OPAQUE_BYTES / hash.len()).for_each(|_| self.push(&hash));
    }

    fn block(&mut self, block: &[u8]) {
        if self.blocks.len() < MAX_BLOCKS {
            let mut link = [0; 16];
            link[..8].copy_from_slice(&self.chain.to_le_bytes());
            link[8..].copy_from_slice(&xxh3_64(block).to_le_bytes());
            self.chain = xxh3_64(&link);
            self.blocks.push(self.chain);
        }
    }

    fn finish(self) -> PromptPrefix {
        let tokens = u32::try_from(self.bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX);
        PromptPrefix { blocks: self.blocks, tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn prefix(body: &Value) -> PromptPrefix {
        PromptPrefix::of(&ChatRequest::parse(Bytes::from(body.to_string())).expect("a request"))
    }

    fn shared(first: &Value, second: &Value) -> usize {
        let (first, second) = (prefix(first), prefix(second));
        first.blocks.iter().zip(&second.blocks).take_while(|(one, other)| one == other).count()
    }

    fn chat(messages: &[(&str, &str)]) -> Value {
        let messages: Vec<_> =
            messages.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
        json!({"model": "m", "messages": messages})
    }

    fn long(of: &str) -> String {
        of.repeat(4 * BLOCK / of.len())
    }

    #[test]
    fn prompts_share_the_blocks_before_their_first_difference() {
        let system = long("You are kind. ");
        let one = chat(&[("system", &system), ("user", &long("one "))]);
        let other = chat(&[("system", &system), ("user", &long("two "))]);
        let whole = prefix(&one).blocks.len();
        assert_eq!((whole, shared(&one, &one)), (8, 8));
        assert_eq!(shared(&one, &other), 4);
        let turned = chat(&[("user", &system), ("system", &long("one "))]);
        assert_eq!(shared(&one, &turned), 0, "who says a text matters");
        assert!(prefix(&one).tokens().abs_diff(2 * SHORT_BLOCK * 4) < 8);
    }

    #[test]
    fn a_long_prompt_has_longer_blocks_behind_its_first_ones_however_it_is_cut() {
        let text = "What was said, and what was not. ".repeat(1_000);
        let whole = prefix(&chat(&[("user", &text)]));
        assert_eq!(whole.len(), SHORT_BLOCKS + (text.len() + 2 - SHORT_BLOCKS * BLOCK) / NEXT_BLOCK);
        let (first, rest) = text.split_at(9_001);
        let parts = json!([{"type": "text", "text": first}, {"type": "text", "text": rest}]);
        assert_eq!(prefix(&json!({"model": "m", "messages": [{"role": "user", "content": parts}]})), whole);
    }

    #[test]
    fn a_conversation_that_goes_on_begins_as_before() {
        let system = long("You are kind. ");
        let first = chat(&[("system", &system), ("user", &long("hi "))]);
        let next =
            chat(&[("system", &system), ("user", &long("hi ")), ("assistant", &long("ok ")), ("user", "x")]);
        assert_eq!(shared(&first, &next), prefix(&first).blocks.len());
    }

    #[test]
    fn what_changes_each_turn_without_changing_the_prompt_is_left_out() {
        let text = long("A system prompt. ");
        let turn = |hash: &str, mark: bool| {
            let mut block = json!({"type": "text", "text": text});
            if mark {
                block["cache_control"] = json!({"type": "ephemeral"});
            }
            let billing = format!("x-anthropic-billing-header: cc_version=2; cch={hash};");
            let body = json!({"model": "m", "metadata": {"user_id": hash},
                "system": [{"type": "text", "text": billing}, block], "messages": [{"role": "user", "content": text}]});
            let body = Bytes::from(body.to_string());
            PromptPrefix::of(&ChatRequest::of(Api::Messages, body).expect("a request"))
        };
        assert_eq!(turn("a1", true), turn("b2", false));
        assert!(turn("a1", true).blocks.len() >= 7);
    }

    #[test]
    fn tools_salts_and_images_tell_prompts_apart_from_their_place_on() {
        let text = long("hello ");
        let with = |key: &str, value: Value| {
            let mut body = chat(&[("user", &text)]);
            body[key] = value;
            body
        };
        let tool =
            |name: &str| json!([{"type": "function", "function": {"name": name, "description": long(name)}}]);
        assert_eq!(shared(&with("tools", tool("find")), &with("tools", tool("send"))), 0);
        assert_eq!(shared(&with("cache_salt", json!("a")), &with("cache_salt", json!("b"))), 0);
        let image = |data: &str| {
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": text},
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}},
                {"type": "text", "text": text}]}]})
        };
        assert_eq!(shared(&image("AAAA"), &image("AAAA")), 11);
        assert_eq!(shared(&image("AAAA"), &image("BBBB")), 3, "the text before it");
    }

    #[test]
    fn prompts_of_token_ids_share_their_beginnings_as_texts_do() {
        let completion = |ids: &[u32]| {
            let body = Bytes::from(json!({"model": "m", "prompt": ids}).to_string());
            ChatRequest::of(Api::Completions, body).expect("a request")
        };
        let ids: Vec<u32> = (0..1_000).map(|at| at * 7).collect();
        let (whole, other) = (completion(&ids), completion(&[&ids[..300], &[1; 200]].concat()));
        assert_eq!((whole.prefix().tokens(), whole.prefix().len()), (1_000, 15));
        let pairs = whole.prefix().blocks.iter().zip(&other.prefix().blocks);
        assert_eq!(pairs.take_while(|(one, other)| one == other).count(), 4);
        let read: Vec<u64> = ids.iter().map(|id| u64::from(*id)).collect();
        assert_eq!(whole.prompt_token_ids(), Some(read));
        for prompt in ["[[1,2],[3]]", "[1,-2]", "[1.5]", "[]", "[1,\"a\"]", "\"text\""] {
            let body = Bytes::from(format!("{{\"model\":\"m\",\"prompt\":{prompt}}}"));
            let request = ChatRequest::of(Api::Completions, body).expect("a request");
            assert_eq!(request.prompt_token_ids(), None, "{prompt}");
        }
    }
}
