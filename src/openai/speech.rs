//! Text to speech.

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
use super::error_dialect::ErrorDialect;
use super::segment::rule::ReadRule;
use super::segment::{SegmentKind, UnreadKind};

pub(super) const DIALECT: Dialect = Dialect {
    name: "speech",
    paths: &["/v1/audio/speech"],
    request: RequestDialect { member, ..RequestDialect::of_prompt("input") },
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};

fn member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "ref_text" => ReadRule::Strings(SegmentKind::Message),
        "ref_audio" => ReadRule::Unread(UnreadKind::Audio),
        "voice" | "response_format" | "stream_format" | "language" | "task_type" => ReadRule::Words,
        _ => return None,
    })
}
