//! Requests of Completions: one prompt or several, as text or token ids.

use super::super::dialect::RequestDialect;

pub(super) const REQUEST: RequestDialect = RequestDialect {
    token_limits: &["max_tokens"],
    usage_is_opt_in: true,
    generates_text: true,
    ..RequestDialect::of_prompt("prompt")
};
