//! Owns what a pool knows of prompts' tokens: which beginnings it knows, and whether it is worth to learn another.
//! Refuses to know how tokens are learnt.

use super::{Pool, PoolMember};
use crate::balance::picker::PickRequest;
use crate::balance::prompt_tokens::{KnownTokens, LearntTokens};

impl Pool {
    /// The tokens of the prompt's beginning, where any engine is listened to.
    pub(super) fn known_tokens(&self, request: &PickRequest<'_>) -> Option<KnownTokens> {
        // First what costs nothing: a choice that does not go by the prompt looks at few members.
        request.prompt?;
        let (size, prompt, blocks) = (self.block_tokens()?, request.prompt?, request.blocks()?.blocks);
        match prompt.token_ids() {
            Some(tokens) => {
                let salt = prompt.salt();
                let own = LearntTokens { tokens: &tokens, adapter: request.adapter, salt: salt.as_deref() };
                KnownTokens::of(blocks.len(), prompt.tokens(), size, own)
            }
            None => self.tokens.find(blocks),
        }
    }

    /// Tokens in a block of its engines' KV caches; `None` where none of them has said yet what it holds.
    pub fn block_tokens(&self) -> Option<u32> {
        let of = |member: &PoolMember| Some(member.endpoint.engine().kv.get()?.block_tokens());
        self.members.iter().filter_map(of).find(|tokens| *tokens > 0)
    }

    /// Whether it is worth to learn the tokens of a prompt: an engine says what it holds, and more of the prompt is new than
    /// a block or two.
    pub fn needs_tokens(&self, request: &PickRequest<'_>) -> bool {
        let Some(lookup) = request.blocks().filter(|_| self.reads_prompt() && self.block_tokens().is_some())
        else {
            return false;
        };
        let known = self.tokens.find(lookup.blocks).map_or(0, |known| known.beginning());
        lookup.blocks.len() >= 2 && lookup.blocks.len() > known + known / 16 + 1
    }

    /// Learns the tokens of a prompt, as an engine of the pool has them.
    pub fn learn_tokens(&self, request: &PickRequest<'_>, learnt: LearntTokens<'_>) {
        if let (Some(prompt), Some(lookup), Some(size)) =
            (request.prompt, request.blocks(), self.block_tokens())
        {
            self.tokens.learn(lookup.blocks, prompt.tokens(), size, learnt);
        }
    }
}
