//! Embeddings, and vLLM's classification and pooling and OpenAI's moderations, which take the same input.

use super::answer::other::OtherAnswers;
use super::dialect::{Dialect, RequestDialect};
use super::error_dialect::ErrorDialect;

pub(super) const EMBEDDINGS: Dialect = dialect("embeddings", &["/v1/embeddings"]);
pub(super) const CLASSIFY: Dialect = dialect("classify", &["/classify"]);
pub(super) const POOLING: Dialect = dialect("pooling", &["/pooling"]);
pub(super) const MODERATIONS: Dialect = dialect("moderations", &["/v1/moderations"]);
/// Bodies that nobody reads; the path stands for those of all families.
pub(super) const RESOURCE: Dialect = dialect("resource", &["/v1/resources/"]);
/// WebSockets; by its own path alone, without the slash, HTTP is asked for.
pub(super) const REALTIME: Dialect = dialect("realtime", &["/v1/realtime/"]);

const fn dialect(name: &'static str, paths: &'static [&'static str]) -> Dialect {
    let (request, errors) = (RequestDialect::of_prompt("input"), ErrorDialect::OPENAI);
    Dialect { name, paths, request, answer: &OtherAnswers, errors, translations: &[] }
}
