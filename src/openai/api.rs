//! The APIs that go upstream, and the one place that finds the room of each.

use bytes::Bytes;
use http::StatusCode;

use super::answer::dialect::AnswerDialect;
use super::dialect::Dialect;
use super::{
    Rejection, chat, completions, embeddings, images, messages, rerank, responses, speech, tokenize, uploads,
};

/// The kinds of request that go upstream, each with a JSON body that names its model in `model`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/v1/chat/completions`
    #[default]
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/responses/input_tokens`
    InputTokens,
    /// `/v1/responses/compact`
    Compact,
    /// `/v1/responses/{id}` and what is below it: their requests have no body, and the model is the response's
    StoredResponse,
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
    /// `/v1/audio/transcriptions`
    Transcriptions,
    /// `/v1/audio/translations`
    Translations,
    /// `/v1/images/edits`
    ImageEdits,
    /// `/v1/images/variations`
    ImageVariations,
    /// `/v1/moderations`
    Moderations,
    /// `/v1/chat/completions/render`: vLLM's, as the other three
    RenderChat,
    /// `/v1/completions/render`
    RenderCompletions,
    /// `/v1/messages/render`
    RenderMessages,
    /// `/v1/responses/render`
    RenderResponses,
    /// What servers keep beside models, such as files: passed on unread
    Resource,
    /// `/v1/realtime`, a WebSocket: passed on unread
    Realtime,
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

impl Api {
    const ALL: [Self; 28] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::InputTokens,
        Self::Compact,
        Self::StoredResponse,
        Self::Embeddings,
        Self::Messages,
        Self::CountTokens,
        Self::Images,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
        Self::ImageEdits,
        Self::ImageVariations,
        Self::Moderations,
        Self::RenderChat,
        Self::RenderCompletions,
        Self::RenderMessages,
        Self::RenderResponses,
        Self::Resource,
        Self::Realtime,
        Self::Rerank,
        Self::Score,
        Self::Classify,
        Self::Pooling,
        Self::Tokenize,
        Self::Detokenize,
    ];

    /// Returns the room of this API: the only `match` on APIs.
    pub(super) fn dialect(self) -> &'static Dialect {
        match self {
            Self::Chat => &chat::DIALECT,
            Self::Completions => &completions::DIALECT,
            Self::Responses => &responses::DIALECT,
            Self::InputTokens => &responses::INPUT_TOKENS,
            Self::Compact => &responses::COMPACT,
            Self::StoredResponse => &responses::STORED,
            Self::Embeddings => &embeddings::EMBEDDINGS,
            Self::Messages => &messages::MESSAGES,
            Self::CountTokens => &messages::COUNT_TOKENS,
            Self::Images => &images::DIALECT,
            Self::Speech => &speech::DIALECT,
            Self::Transcriptions => &uploads::TRANSCRIPTIONS,
            Self::Translations => &uploads::TRANSLATIONS,
            Self::ImageEdits => &uploads::IMAGE_EDITS,
            Self::ImageVariations => &uploads::IMAGE_VARIATIONS,
            Self::Moderations => &embeddings::MODERATIONS,
            Self::RenderChat => &chat::RENDER,
            Self::RenderCompletions => &completions::RENDER,
            Self::RenderMessages => &messages::RENDER,
            Self::RenderResponses => &responses::RENDER,
            Self::Resource => &embeddings::RESOURCE,
            Self::Realtime => &embeddings::REALTIME,
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

    /// Returns the paths of all APIs; of one that has several, each.
    pub fn paths() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().flat_map(|api| api.dialect().paths.iter().copied())
    }

    /// Returns its path; of several the usual one.
    pub fn path(self) -> &'static str {
        self.dialect().paths[0]
    }

    /// Returns its name in logs, metrics and cache keys.
    pub fn name(self) -> &'static str {
        self.dialect().name
    }

    /// Returns how its answers are read and written.
    pub(super) fn answers(self) -> &'static dyn AnswerDialect {
        self.dialect().answer
    }

    /// Finds the API in whose shape errors on a path are told, served or not; what clients of several APIs ask for is told
    /// in Anthropic's where the client says that it is one of theirs.
    pub fn of_errors(path: &str, is_anthropic: bool) -> Self {
        let is_shared = path.starts_with("/v1/models");
        if path.contains("/v1/messages") || (is_shared && is_anthropic) { Self::Messages } else { Self::Chat }
    }

    /// Returns the status of an error as this API's clients know it.
    pub fn error_status(self, rejection: &Rejection) -> StatusCode {
        self.dialect().errors.status_of(rejection)
    }

    /// Returns the body of an error.
    pub fn error_body(self, rejection: &Rejection, request_id: &str) -> Bytes {
        Bytes::from(self.dialect().errors.body_of(rejection, request_id))
    }

    /// Returns the event that ends a stream of this API before its time.
    pub fn error_event(self, rejection: &Rejection, request_id: &str) -> Bytes {
        Bytes::from(self.dialect().errors.event_of(rejection, request_id))
    }

    /// Says whether its clients look for the request's id in the header `request-id`.
    pub fn has_request_id(self) -> bool {
        self.dialect().errors.has_request_id
    }

    /// Returns what keeps a silent stream of this API open: an event, or a comment.
    pub fn keep_alive(self) -> &'static str {
        self.dialect().errors.keep_alive
    }

    /// Says whether its requests are conversations, which can have a system prompt and tools.
    pub fn is_conversation(self) -> bool {
        self.dialect().request.system_prompt.is_some()
    }

    /// Says whether its requests may be forms with files.
    pub fn takes_forms(self) -> bool {
        matches!(self, Self::Transcriptions | Self::Translations | Self::ImageEdits | Self::ImageVariations)
    }

    /// Says whether it passes unread in both directions, so that nothing in it can be changed.
    pub fn is_unread(self) -> bool {
        matches!(self, Self::Resource | Self::Realtime)
    }

    /// Says whether one server alone has what is asked for, which was paid for when it was made: no other can answer, and
    /// nothing counts.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::StoredResponse | Self::Resource)
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
    fn a_broken_stream_ends_with_one_event_in_the_words_of_its_api() {
        let event =
            |api: Api| String::from_utf8(api.error_event(&Rejection::UpstreamReset, "r").to_vec()).unwrap();
        let chat = event(Api::Chat);
        let data = chat.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        let value: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(value["error"]["code"], "upstream_reset");
        for api in [Api::Responses, Api::Messages] {
            let text = event(api);
            let data = text.strip_prefix("event: error\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
            let value: serde_json::Value = serde_json::from_str(data.unwrap()).unwrap();
            assert_eq!(value["type"], "error", "{api:?}");
            assert!(text.contains(&Rejection::UpstreamReset.to_string()), "{text}");
        }
    }

    #[test]
    fn every_api_has_a_name_and_paths_of_its_own() {
        for api in Api::ALL {
            assert!(api.dialect().paths.iter().all(|path| Api::at(path) == Some(api)), "{api:?}");
            assert_eq!(Api::ALL.iter().filter(|other| other.name() == api.name()).count(), 1, "{api:?}");
        }
    }
}
