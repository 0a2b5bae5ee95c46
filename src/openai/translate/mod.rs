//! Requests and answers of one API as those of another, where a client speaks one and an upstream another.
//!
//! Each room knows one way from its own dialect to another's, and back: to Chat Completions, and Chat's to Messages.
//! What an upstream cannot honour is refused, never left out in silence; what is a hint alone may go. Refuses to know
//! which pool speaks what, and to read a clock.

mod answer;
pub(super) mod chat;
pub(super) mod refusal;

use std::fmt::Debug;

use super::{Api, ChatRequest, Rejection};
pub use answer::AnswerTranslator;

/// What is known of an upstream that is spoken to in Chat's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamKind {
    /// An inference engine, which has the members that engines have beside OpenAI's and ignores others.
    Engine,
    /// OpenAI's own API, or Azure's.
    OpenAi,
    /// Another provider, of which nothing beyond OpenAI's older members is expected.
    Other,
}

impl UpstreamKind {
    /// The member of a chat that bounds the answer's tokens.
    pub(super) fn token_limit(self) -> &'static str {
        match self {
            // Its newer models refuse the older name.
            Self::OpenAi => "max_completion_tokens",
            Self::Engine | Self::Other => "max_tokens",
        }
    }
}

/// What a translated answer says of itself that the upstream's does not.
#[derive(Debug, Clone, Copy)]
pub struct TranslatedAnswer<'a> {
    /// The model that the client is told of.
    pub model: &'a str,
    /// The request's id, in errors.
    pub request_id: &'a str,
    /// What the id of a response ends with that is kept, unlike those of upstreams never given twice; nothing where none is.
    pub kept_as: Option<&'a str>,
    /// When the request came, in seconds since 1970.
    pub now: u64,
}

/// The way from a client's API to an upstream's, and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    client: Api,
    upstream: Api,
}

/// How a room's requests become another API's, and its answers the room's.
pub(super) trait ApiTranslation: Debug + Sync {
    /// The API that requests are written for.
    fn upstream(&self) -> Api {
        Api::Chat
    }

    /// Writes a request for that API.
    fn request(&self, request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection>;

    /// Starts to write an answer.
    fn answer(&self, request: &ChatRequest, answer: TranslatedAnswer<'_>) -> Box<dyn DialectWriter>;
}

/// Writes an upstream's answers in a client's dialect.
pub(super) trait DialectWriter: Debug + Send + Sync {
    /// Writes a whole answer, a JSON object without an `error`; nothing if it is no answer of the upstream's API.
    fn whole(&mut self, answer: &[u8]) -> Option<Vec<u8>>;

    /// Writes what an event says; nothing if it is none of the upstream's API.
    fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Option<()>;

    /// Writes the end of a stream; nothing if that has not come to one.
    fn end(&mut self, out: &mut Vec<u8>) -> Option<()>;
}

impl Translation {
    /// Finds the way from a client's API; nothing where there is none.
    pub fn from(client: Api) -> Option<Self> {
        let upstream = client.dialect().translation?.upstream();
        Some(Self { client, upstream })
    }

    /// The API that the upstream is asked by.
    pub fn upstream(self) -> Api {
        self.upstream
    }

    /// Writes a client's request for the upstream; its model is the client's still.
    pub fn request(self, request: &ChatRequest, upstream: UpstreamKind) -> Result<ChatRequest, Rejection> {
        let translation = self.client.dialect().translation.ok_or(Rejection::Internal)?;
        ChatRequest::of(self.upstream, translation.request(request, upstream)?.into())
    }
}
