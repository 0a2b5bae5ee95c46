//! The simulated server's other dialects: Anthropic's Messages, the counting of their tokens, and OpenAI's Responses, each by way
//! of Chat Completions, as vLLM has the first.
//! It refuses to know how answers are generated.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;

use crate::openai::{
    AnswerTranslator, Api, ChatRequest, Format, Rejection, TranslatedAnswer, Translation, UpstreamKind,
};

/// A request of another dialect, and what it is in Chat's.
pub(super) struct TranslatedRequest {
    translation: Translation,
    request: ChatRequest,
    /// The body in Chat's dialect.
    pub(super) body: Bytes,
}

impl TranslatedRequest {
    /// Reads a request; gives the response where it cannot be served.
    pub(super) fn read(api: Api, body: Bytes) -> Result<Self, Box<Response>> {
        let refuse = |rejection: &Rejection| {
            let mut response = Response::new(Body::from(api.error_body(rejection, "sim")));
            *response.status_mut() = api.error_status(rejection);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Box::new(response)
        };
        let translation = Translation::between(api, |api| matches!(api, Api::Chat | Api::Tokenize))
            .ok_or_else(|| refuse(&Rejection::Internal))?;
        let request = ChatRequest::of(api, body).map_err(|rejection| refuse(&rejection))?;
        let translated = translation.request(&request, UpstreamKind::Engine);
        let body = translated.map_err(|rejection| refuse(&rejection))?.body().clone();
        Ok(Self { translation, request, body })
    }

    /// Writes an answer of Chat's in the client's dialect, as it comes.
    pub(super) fn answer(&self, answer: Response, now: u64) -> Response {
        let (mut parts, body) = answer.into_parts();
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let format = Format::of(content_type);
        let told = TranslatedAnswer { model: self.request.model(), request_id: "sim", kept_as: None, now };
        let status = parts.status;
        let Some(translator) = self.translation.answer(&self.request, status, format, told) else {
            parts.status = StatusCode::NOT_IMPLEMENTED;
            return Response::from_parts(parts, Body::empty());
        };
        parts.status = self.translation.status(status);
        parts.headers.remove(CONTENT_LENGTH);
        let pieces = futures::stream::unfold(Some((body.into_data_stream(), translator)), next_piece);
        Response::from_parts(parts, Body::from_stream(pieces))
    }
}

type Pieces = Option<(axum::body::BodyDataStream, AnswerTranslator)>;

/// The next piece of a translated answer; nothing once it is over.
async fn next_piece(pieces: Pieces) -> Option<(Result<Bytes, axum::Error>, Pieces)> {
    let (mut body, mut translator) = pieces?;
    let (piece, is_last) = match body.next().await {
        Some(Ok(piece)) => (piece, false),
        Some(Err(broken)) => return Some((Err(broken), None)),
        None => (Bytes::new(), true),
    };
    match translator.pass(&piece, is_last) {
        Ok(piece) => Some((Ok(piece.into()), (!is_last).then_some((body, translator)))),
        Err(rejection) => Some((Err(axum::Error::new(rejection)), None)),
    }
}
