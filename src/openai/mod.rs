//! What the client wrote and what is answered: bytes in, bytes out, pure.
//!
//! One room a dialect, each with what is particular to it; `Api::dialect` has the only `match` on them. Around them is what all
//! share: the scanner of JSON, the reading and rewriting of requests and answers, usage, rejections. Refuses to know
//! sockets, policies, pools and time.

#![forbid(unsafe_code)]

pub mod answer;
mod api;
pub mod change;
mod chat;
mod choices;
mod completions;
pub mod conversation;
mod dialect;
mod embeddings;
mod error_dialect;
mod fields;
pub mod fingerprint;
mod form;
pub mod groundedness;
mod images;
mod json;
mod kv_transfer;
mod lenient_path;
mod message;
pub mod message_text;
mod messages;
mod operation;
mod prefill;
mod printable;
mod prompt_prefix;
mod redact;
pub mod rejection;
pub mod request;
mod rerank;
mod resource;
mod responses;
pub mod segment;
mod shed_reason;
mod speech;
pub mod splice;
pub mod sse;
mod tokenize;
pub mod tools;
pub mod translate;
mod uploads;

pub use answer::{
    AnswerPiece, AnswerRewriter, AnswerSplitter, Assembler, Channel, FinishReason, FirstToken, Format,
    LocalReply, ModelRenamer, PendingText, RewriteLimits, TextId, TokenUsage, UsageCounter, UsageReader,
    is_empty_answer, is_usage_chunk, stream_of, without_usage,
};
pub use api::Api;
pub use change::{Change, SystemMode, UsageRequest};
pub use conversation::MessageCounts;
pub use fingerprint::Fingerprint;
pub use groundedness::choice_texts;
pub use json::is_plain;
pub use kv_transfer::{
    BootstrapRoom, KEEP_BY_NIXL, KvTransferId, MooncakeRank, is_cut_at_its_limit, mooncake_ranks,
};
pub use lenient_path::may_name_api;
pub use message::Role;
pub use message_text::MessageText;
pub use operation::{Inventory, Operation, ResponseAction, query_value};
pub use prefill::{KvTransfer, transfer_of};
pub use prompt_prefix::{LONG_BLOCK, PromptPrefix, SHORT_BLOCK, SHORT_BLOCKS};
pub use redact::Replacement;
pub use rejection::Rejection;
pub use request::ChatRequest;
pub use resource::ResourceFamily;
pub use responses::{StoredResponse, response_id};
pub use segment::{Segment, SegmentKind, SegmentPlace, TextBlock, TextPiece, Unread, UnreadKind};
pub use shed_reason::ShedReason;
pub use splice::{Edit, splice};
pub use tools::Tool;
pub use translate::{AnswerTranslator, TranslatedAnswer, Translation, UpstreamKind};
