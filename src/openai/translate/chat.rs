//! What is read of answers of Chat Completions to be written in another dialect.
//!
//! Takes what servers leave out, or set to null. Refuses to know the other dialects.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A whole answer, or an event of a stream.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatAnswer<'a> {
    #[serde(borrow, default)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) created: Option<u64>,
    #[serde(borrow)]
    pub(crate) choices: Vec<ChatChoice<'a>>,
    #[serde(default)]
    pub(crate) usage: Option<ChatUsage>,
}

/// A choice, whose message comes whole or in pieces.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatChoice<'a> {
    #[serde(default)]
    pub(crate) index: u32,
    #[serde(borrow, alias = "delta", default)]
    pub(crate) message: Option<ChatMessage<'a>>,
    #[serde(borrow, default)]
    pub(crate) logprobs: Option<ChatLogprobs<'a>>,
    #[serde(borrow, default)]
    pub(crate) finish_reason: Option<Cow<'a, str>>,
    /// vLLM's: the string or the token that ended the answer.
    #[serde(borrow, default)]
    pub(crate) stop_reason: Option<&'a RawValue>,
}

/// How probable the tokens of a text were.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatLogprobs<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// A message, or a piece of one.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ChatMessage<'a> {
    #[serde(borrow, default)]
    pub(crate) content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) tool_calls: Option<Vec<ChatToolCall<'a>>>,
}

/// A call of a tool, or a piece of one.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatToolCall<'a> {
    #[serde(default)]
    pub(crate) index: Option<u32>,
    #[serde(borrow, default)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) function: Option<ChatFunctionCall<'a>>,
}

/// What is called, and with what.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatFunctionCall<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) arguments: Option<Cow<'a, str>>,
}

/// What an answer cost.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(crate) struct ChatUsage {
    #[serde(default)]
    pub(crate) prompt_tokens: u64,
    #[serde(default)]
    pub(crate) completion_tokens: Option<u64>,
    #[serde(default)]
    pub(crate) prompt_tokens_details: Option<PromptTokenDetails>,
    #[serde(default)]
    pub(crate) completion_tokens_details: Option<CompletionTokenDetails>,
}

/// Classes of a prompt's tokens.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(crate) struct PromptTokenDetails {
    #[serde(default)]
    pub(crate) cached_tokens: Option<u64>,
    /// vLLM's.
    #[serde(default)]
    pub(crate) created_cache_tokens: Option<u64>,
}

/// Classes of an answer's tokens.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(crate) struct CompletionTokenDetails {
    #[serde(default)]
    pub(crate) reasoning_tokens: Option<u64>,
}

impl<'a> ChatAnswer<'a> {
    /// Reads an answer or an event; nothing if it is neither.
    pub(crate) fn read(data: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    /// The id without what servers begin theirs with.
    pub(crate) fn bare_id(&self) -> &str {
        let id = self.id.as_deref().unwrap_or_default();
        id.strip_prefix("chatcmpl-").unwrap_or(id)
    }

    /// The first choice: of several a client of another dialect can have but one.
    pub(crate) fn choice(&self) -> Option<&ChatChoice<'a>> {
        self.choices.iter().find(|choice| choice.index == 0)
    }
}

impl ChatMessage<'_> {
    /// What the model thought, under either of its names; nothing if it is empty.
    pub(crate) fn reasoning(&self) -> Option<&str> {
        let under = |text: &'_ Option<Cow<'_, str>>| text.as_deref().is_some_and(|text| !text.is_empty());
        let text = if under(&self.reasoning) { &self.reasoning } else { &self.reasoning_content };
        text.as_deref().filter(|text| !text.is_empty())
    }

    /// What the model said; nothing if it is empty.
    pub(crate) fn content(&self) -> Option<&str> {
        self.content.as_deref().filter(|text| !text.is_empty())
    }

    /// Why the model does not answer; nothing if it is empty.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref().filter(|text| !text.is_empty())
    }
}

impl ChatChoice<'_> {
    /// How probable the tokens were: the inside of a list, as JSON; empty where that is not said.
    pub(crate) fn logprobs(&self) -> &str {
        let content = self.logprobs.as_ref().and_then(|logprobs| logprobs.content);
        let inside = content.and_then(|list| list.get().strip_prefix('[')?.strip_suffix(']'));
        inside.unwrap_or_default().trim()
    }

    /// The string of the client's that ended the answer.
    pub(crate) fn matched_stop(&self) -> Option<String> {
        serde_json::from_str(self.stop_reason?.get()).ok()
    }
}

impl ChatToolCall<'_> {
    pub(crate) fn name(&self) -> Option<&str> {
        self.function.as_ref()?.name.as_deref().filter(|name| !name.is_empty())
    }

    pub(crate) fn arguments(&self) -> &str {
        self.function.as_ref().and_then(|function| function.arguments.as_deref()).unwrap_or_default()
    }
}

impl ChatUsage {
    /// Tokens of the prompt that were in the upstream's cache; nothing where it does not say.
    pub(crate) fn cached(&self) -> Option<u64> {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens)
    }

    /// Tokens of the prompt that were put there; nothing where it does not say.
    pub(crate) fn created(&self) -> Option<u64> {
        self.prompt_tokens_details.and_then(|details| details.created_cache_tokens)
    }
}
