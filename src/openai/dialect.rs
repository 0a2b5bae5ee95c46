//! The APIs that go upstream, and the one place that finds the room of each.
//!
//! Owns what a room must say about its requests. Refuses to know any of its members itself.

use std::borrow::Cow;

use super::{chat, completions, embeddings, images, messages, rerank, responses, speech, tokenize};

/// The kinds of request that go upstream, each with a JSON body that names its model in `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/messages`, in Anthropic's shape
    Messages,
    /// `/v1/messages/count_tokens`, in Anthropic's shape
    CountTokens,
    /// `/v1/images/generations`
    Images,
    /// `/v1/audio/speech`
    Speech,
    /// `/v1/rerank`, `/v2/rerank` and `/rerank`
    Rerank,
    /// `/v1/score` and `/score`
    Score,
    /// `/classify`
    Classify,
    /// `/pooling`
    Pooling,
    /// `/tokenize`
    Tokenize,
    /// `/detokenize`
    Detokenize,
}

/// What one API's room says about it.
pub(super) struct Dialect {
    /// Its name in logs, metrics and cache keys.
    pub(super) name: &'static str,
    /// Its paths, the usual one first.
    pub(super) paths: &'static [&'static str],
    pub(super) request: RequestDialect,
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
            convert_tool: |raw| Cow::Borrowed(raw),
        }
    }
}

impl Api {
    const ALL: [Self; 14] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Embeddings,
        Self::Messages,
        Self::CountTokens,
        Self::Images,
        Self::Speech,
        Self::Rerank,
        Self::Score,
        Self::Classify,
        Self::Pooling,
        Self::Tokenize,
        Self::Detokenize,
    ];

    /// Returns the room of this API: the only place that tells them apart.
    pub(super) fn dialect(self) -> &'static Dialect {
        match self {
            Self::Chat => &chat::DIALECT,
            Self::Completions => &completions::DIALECT,
            Self::Responses => &responses::DIALECT,
            Self::Embeddings => &embeddings::EMBEDDINGS,
            Self::Messages => &messages::MESSAGES,
            Self::CountTokens => &messages::COUNT_TOKENS,
            Self::Images => &images::DIALECT,
            Self::Speech => &speech::DIALECT,
            Self::Rerank => &rerank::RERANK,
            Self::Score => &rerank::SCORE,
            Self::Classify => &embeddings::CLASSIFY,
            Self::Pooling => &embeddings::POOLING,
            Self::Tokenize => &tokenize::TOKENIZE,
            Self::Detokenize => &tokenize::DETOKENIZE,
        }
    }

    /// Finds the API of a path.
    pub(super) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.dialect().paths.contains(&path))
    }

    /// Returns its path; of several the usual one.
    pub fn path(self) -> &'static str {
        self.dialect().paths[0]
    }

    /// Returns its name in logs, metrics and cache keys.
    pub fn name(self) -> &'static str {
        self.dialect().name
    }

    /// Says whether its answers are generated text.
    pub fn generates_text(self) -> bool {
        self.dialect().request.generates_text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_has_a_name_and_paths_of_its_own() {
        for api in Api::ALL {
            assert!(api.dialect().paths.iter().all(|path| Api::at(path) == Some(api)), "{api:?}");
            assert_eq!(Api::ALL.iter().filter(|other| other.name() == api.name()).count(), 1, "{api:?}");
        }
    }
}
