//! Requests of Completions: one prompt or several, as text or token ids.

use super::super::dialect::RequestDialect;
use super::super::segment::SegmentKind;
use super::super::segment::rule::ReadRule;

pub(super) const REQUEST: RequestDialect = RequestDialect {
    token_limits: &["max_tokens"],
    usage_is_opt_in: true,
    generates_text: true,
    hands_over_prefill: true,
    member: |name| (name == "suffix").then_some(ReadRule::Strings(SegmentKind::Message)),
    ..RequestDialect::of_prompt("prompt")
};
