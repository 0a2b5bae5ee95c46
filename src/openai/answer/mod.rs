//! Answers as they pass: split once into pieces, read for usage, held back and rewritten, put together, written.
//!
//! Owns what all dialects share. Which member carries what is known by each dialect alone, behind `dialect`.

pub mod assemble;
pub(super) mod content;
pub(super) mod dialect;
pub(super) mod ending;
pub mod first_token;
pub mod local_reply;
pub(super) mod merged;
pub mod model_name;
pub(super) mod other;
pub mod piece;
pub mod replay_stream;
pub mod rewrite;
mod tail;
pub mod usage;

pub use assemble::{Assembler, is_empty_answer};
pub use content::{Channel, TextId};
pub use first_token::FirstToken;
pub use local_reply::{FinishReason, LocalReply, ReplyShape};
pub use model_name::ModelRenamer;
pub use piece::{AnswerPiece, AnswerSplitter, Format};
pub use replay_stream::stream_of;
pub use rewrite::{AnswerRewriter, PendingText, RewriteLimits};
pub use usage::{TokenUsage, UsageCounter, UsageReader, is_usage_chunk, without_usage};
