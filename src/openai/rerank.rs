//! Reranking as Jina, Cohere and vLLM have it, and vLLM's scores.

use super::dialect::{Dialect, RequestDialect};

pub(super) const RERANK: Dialect = Dialect {
    name: "rerank",
    paths: &["/v1/rerank", "/v2/rerank", "/rerank"],
    request: RequestDialect::of_prompt("query"),
};

pub(super) const SCORE: Dialect =
    Dialect { name: "score", paths: &["/v1/score", "/score"], request: RequestDialect::of_prompt("text_1") };
