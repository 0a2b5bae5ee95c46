//! Requests and answers of one API as those of another, where a client speaks one and an upstream another.
//!
//! Each room knows ways from its own dialect to others', and back: to Chat Completions, and Chat's to Messages and Responses;
//! what has no way of its own goes by two.
//! What an upstream cannot honour is refused, never left out in silence; what is a hint alone may go. Refuses to know
//! which pool speaks what, and to read a clock.

mod answer;
mod chain;
pub(super) mod chat;
#[cfg(test)]
mod matrix;
pub(super) mod refusal;
#[cfg(test)]
mod vllm;

use std::fmt::Debug;

use super::{Api, ChatRequest, Rejection};
pub use answer::AnswerTranslator;
use chain::ChainedWriter;

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
    /// The API between, where no way leads there at once.
    via: Option<Api>,
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
    /// Finds the way from a client's API to one that an upstream speaks, the shorter first; nothing where there is none.
    pub fn between(client: Api, is_spoken: impl Fn(Api) -> bool) -> Option<Self> {
        let next = |api: Api| api.dialect().translations.iter().map(|way| way.upstream());
        if let Some(upstream) = next(client).find(|api| is_spoken(*api)) {
            return Some(Self { client, via: None, upstream });
        }
        next(client).find_map(|via| {
            let upstream = next(via).find(|api| *api != client && is_spoken(*api))?;
            Some(Self { client, via: Some(via), upstream })
        })
    }

    /// The API that the upstream is asked by.
    pub fn upstream(self) -> Api {
        self.upstream
    }

    /// Writes a client's request for the upstream; its model is the client's still.
    pub fn request(self, request: &ChatRequest, upstream: UpstreamKind) -> Result<ChatRequest, Rejection> {
        let Some(via) = self.via else { return written(self.client, self.upstream, request, upstream) };
        written(via, self.upstream, &self.between_request(request, via)?, upstream)
    }

    /// A client's request in the dialect between, with all that this has.
    fn between_request(self, request: &ChatRequest, via: Api) -> Result<ChatRequest, Rejection> {
        written(self.client, via, request, UpstreamKind::OpenAi)
    }

    /// Starts to write answers to a request.
    fn writer(self, request: &ChatRequest, answer: TranslatedAnswer<'_>) -> Option<Box<dyn DialectWriter>> {
        let Some(via) = self.via else {
            return Some(way(self.client, self.upstream)?.answer(request, answer));
        };
        let between = self.between_request(request, via).ok()?;
        let first = way(via, self.upstream)?.answer(&between, answer);
        Some(Box::new(ChainedWriter::new(first, way(self.client, via)?.answer(request, answer))))
    }
}

/// The way from one API straight to another.
fn way(from: Api, to: Api) -> Option<&'static dyn ApiTranslation> {
    from.dialect().translations.iter().find(|way| way.upstream() == to).copied()
}

fn written(
    from: Api,
    to: Api,
    request: &ChatRequest,
    upstream: UpstreamKind,
) -> Result<ChatRequest, Rejection> {
    let way = way(from, to).ok_or(Rejection::Internal)?;
    ChatRequest::of(to, way.request(request, upstream)?.into())
}
