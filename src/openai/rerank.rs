//! Reranking as Jina, Cohere and vLLM have it, and vLLM's scores.

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
use super::error_dialect::ErrorDialect;
use super::segment::SegmentKind;
use super::segment::rule::ReadRule;

pub(super) const RERANK: Dialect = Dialect {
    name: "rerank",
    paths: &["/v1/rerank", "/v2/rerank", "/rerank"],
    request: RequestDialect { member, ..RequestDialect::of_prompt("query") },
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};

pub(super) const SCORE: Dialect = Dialect {
    name: "score",
    paths: &["/v1/score", "/score"],
    request: RequestDialect { member, ..RequestDialect::of_prompt("text_1") },
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};

/// Texts, and objects with parts of a content, in vLLM's multimodal forms.
fn member(name: &str) -> Option<ReadRule> {
    Some(match name {
        "query" | "queries" | "documents" | "text_1" | "text_2" | "data_1" | "data_2" | "items" => {
            ReadRule::Parts(SegmentKind::Document)
        }
        "rank_fields" => ReadRule::Words,
        _ => return None,
    })
}
