//! The generation of images.

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
use super::error_dialect::ErrorDialect;
use super::segment::SegmentKind;
use super::segment::rule::ReadRule;

pub(super) const DIALECT: Dialect = Dialect {
    name: "images",
    paths: &["/v1/images/generations"],
    request: RequestDialect { member, ..RequestDialect::of_prompt("prompt") },
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};

fn member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "negative_prompt" => ReadRule::Strings(SegmentKind::Message),
        "size" | "quality" | "style" | "response_format" | "background" | "moderation" | "output_format" => {
            ReadRule::Words
        }
        _ => return None,
    })
}
