//! What the client wrote and what is answered: bytes in, bytes out, pure.
//!
//! One room a dialect, each with what is particular to it; `Api::dialect` has the only `match` on them. Around them is what all
//! share: the scanner of JSON, the reading and rewriting of requests and answers, usage, rejections. Refuses to know
//! sockets, policies, pools and time.

mod api;
pub mod assemble;
pub mod change;
mod chat;
mod completions;
pub mod conversation;
mod dialect;
mod embeddings;
pub mod fingerprint;
pub mod groundedness;
mod images;
mod json;
mod message;
pub mod message_text;
mod messages;
mod operation;
mod redact;
pub mod rejection;
pub mod replay_stream;
pub mod reply;
pub mod request;
mod rerank;
mod responses;
pub mod rewrite;
pub mod segment;
mod speech;
pub mod splice;
pub mod sse;
mod tail;
mod tokenize;
pub mod tools;
pub mod usage;

pub use api::Api;
pub use assemble::Assembler;
pub use change::{Change, SystemMode};
pub use conversation::MessageCounts;
pub use fingerprint::Fingerprint;
pub use groundedness::choice_texts;
pub use json::is_plain;
pub use message::Role;
pub use message_text::MessageText;
pub use operation::Operation;
pub use redact::Replacement;
pub use rejection::Rejection;
pub use replay_stream::stream_of;
pub use reply::{FinishReason, LocalReply};
pub use request::ChatRequest;
pub use rewrite::{AnswerRewriter, Channel, PendingText, RewriteLimits, TextId};
pub use segment::{Segment, SegmentKind, Unread, UnreadKind};
pub use splice::{Edit, splice};
pub use tools::Tool;
pub use usage::{Format, TokenUsage, UsageReader};
