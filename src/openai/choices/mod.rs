//! What the answers of `/v1/chat/completions` and `/v1/completions` have in common: choices.
//!
//! Refuses to know other dialects.

mod assemble;
mod ending;
mod scan;
mod stream;

pub(super) use assemble::ChoicesAssembler;
pub(super) use ending::ChoicesEnding;
pub(super) use scan::scan;
pub(super) use stream::{chat_stream, completion_stream};

/// What a whole answer of our own counts.
pub(super) const NO_TOKENS: &[u8] = b"{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}";
