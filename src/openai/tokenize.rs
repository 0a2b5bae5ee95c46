//! vLLM's tokenizer: a prompt or messages into token ids, and back.

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
use super::error_dialect::ErrorDialect;

pub(super) const TOKENIZE: Dialect = Dialect {
    name: "tokenize",
    paths: &["/tokenize"],
    request: RequestDialect::of_prompt("prompt"),
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};

pub(super) const DETOKENIZE: Dialect = Dialect {
    name: "detokenize",
    paths: &["/detokenize"],
    request: RequestDialect::of_prompt("prompt"),
    answer: &OtherAnswers,
    errors: ErrorDialect::OPENAI,
    translations: &[],
};
