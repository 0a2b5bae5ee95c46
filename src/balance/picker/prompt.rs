//! Owns the prompt of one request as pickers see it.
//! Refuses to know how its blocks are hashed, and which endpoint has what.

use crate::openai::{ChatRequest, PromptPrefix};
use std::borrow::Cow;

/// The prompt of one request, which is read and hashed when a picker first asks for it.
#[derive(Debug)]
pub struct PickPrompt<'a> {
    request: &'a ChatRequest,
}

impl<'a> PickPrompt<'a> {
    /// Takes the request as it goes upstream; reads nothing yet.
    pub fn new(request: &'a ChatRequest) -> Self {
        Self { request }
    }

    /// About how many tokens the prompt has.
    pub fn tokens(&self) -> u32 {
        self.prefix().tokens()
    }

    /// The hashes of the prompt's blocks.
    pub(in crate::balance) fn prefix(&self) -> &'a PromptPrefix {
        self.request.prefix()
    }

    /// The tokens themselves, where the client has sent them in place of a text.
    pub(in crate::balance) fn token_ids(&self) -> Option<Vec<u64>> {
        self.request.prompt_token_ids()
    }

    /// What tells its blocks apart from those of another client.
    pub(in crate::balance) fn salt(&self) -> Option<Cow<'a, str>> {
        self.request.field("cache_salt")
    }
}
