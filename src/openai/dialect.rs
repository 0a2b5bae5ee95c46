//! What the room of an API says about it.
//!
//! Refuses to know any API: each room fills in its own, `Api::dialect` finds it.

use std::borrow::Cow;

use super::answer::dialect::AnswerDialect;
use super::error_dialect::ErrorDialect;
use super::segment::rule::ReadRule;
use super::translate::ApiTranslation;

/// What one API's room says about it.
pub(super) struct Dialect {
    /// Its name in logs, metrics and cache keys.
    pub(super) name: &'static str,
    /// Its paths, the usual one first.
    pub(super) paths: &'static [&'static str],
    pub(super) request: RequestDialect,
    pub(super) answer: &'static dyn AnswerDialect,
    pub(super) errors: ErrorDialect,
    /// The ways to other dialects, for upstreams that do not speak this one; the better first.
    pub(super) translations: &'static [&'static dyn ApiTranslation],
}

/// Where an API's requests have what is read and changed.
pub(super) struct RequestDialect {
    /// The member that holds the prompt.
    pub(super) prompt_member: &'static str,
    /// Where a system prompt goes; nothing if the API has none.
    pub(super) system_prompt: Option<SystemPromptPlace>,
    /// The names of the limit of generated tokens, the one to add first; empty if the API has none.
    pub(super) token_limits: &'static [&'static str],
    /// Whether a stream ends with usage only if `stream_options` asks for it.
    pub(super) usage_is_opt_in: bool,
    /// Whether the answer is generated text.
    pub(super) generates_text: bool,
    /// Whether engines that can hand over the KV cache of a prompt do so for this API.
    pub(super) hands_over_prefill: bool,
    /// How members of the top level are read that are particular to the API and hold no messages; nothing for others.
    pub(super) member: fn(&str) -> Option<ReadRule>,
    /// Rewrites a tool of Chat's shape for this API; any other shape stays as it is.
    pub(super) convert_tool: fn(&[u8]) -> Cow<'_, [u8]>,
}

/// Where a system prompt is in a request.
#[derive(Clone, Copy)]
pub(super) struct SystemPromptPlace {
    /// Its own member of the top level; nothing if it is the first message.
    pub(super) member: Option<&'static str>,
    /// The member that holds the messages, which can be of the system too.
    pub(super) messages: &'static str,
}

impl RequestDialect {
    /// An API that generates nothing and has no system prompt and no tools.
    pub(super) const fn of_prompt(prompt_member: &'static str) -> Self {
        Self {
            prompt_member,
            system_prompt: None,
            token_limits: &[],
            usage_is_opt_in: false,
            generates_text: false,
            hands_over_prefill: false,
            member: |_| None,
            convert_tool: |raw| Cow::Borrowed(raw),
        }
    }
}
