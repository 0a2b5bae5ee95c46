//! The body of an answer on its way from one dialect to another, whole or as a stream.
//!
//! Owns what all pairs of dialects share: the cutting into events, the errors of upstreams, and the bounds. Refuses to know
//! any dialect.

use serde_json::Value;

use super::{Api, ChatRequest, DialectWriter, Rejection, TranslatedAnswer, Translation};
use crate::Format;
use crate::error_dialect::ErrorText;
use crate::json::object::{is_object, non_null_member, string_member};
use crate::sse::{OversizedEvent, SseFrame, SseSplitter};
use http::StatusCode;

/// The longest event that is translated, in bytes.
const MAX_EVENT: usize = 4 << 20;

/// The longest whole answer that is translated, in bytes.
const MAX_DOCUMENT: usize = 64 << 20;

/// The longest text of an error that clients get, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// Translates the body of one answer as it comes.
#[derive(Debug)]
pub struct AnswerTranslator {
    client: Api,
    request_id: String,
    writer: Box<dyn DialectWriter>,
    body: UpstreamBody,
    /// The client has all that it gets.
    is_over: bool,
}

/// What has come of the upstream's body, as far as it is not written yet.
#[derive(Debug)]
enum UpstreamBody {
    Document(Vec<u8>),
    Stream(SseSplitter),
    /// The text of an error.
    Error(StatusCode, Vec<u8>),
}

impl Translation {
    /// Starts to translate an answer with this status and format.
    pub fn answer(
        self,
        request: &ChatRequest,
        status: StatusCode,
        format: Format,
        answer: TranslatedAnswer<'_>,
    ) -> Option<AnswerTranslator> {
        let writer = self.writer(request, answer)?;
        let body = match format {
            _ if !status.is_success() => UpstreamBody::Error(status, Vec::new()),
            Format::EventStream => UpstreamBody::Stream(SseSplitter::new(MAX_EVENT)),
            Format::Json | Format::Opaque => UpstreamBody::Document(Vec::new()),
        };
        let request_id = answer.request_id.to_owned();
        Some(AnswerTranslator { client: self.client, request_id, writer, body, is_over: false })
    }

    /// The status of an upstream's answer as the client's API has it.
    pub fn status(self, status: StatusCode) -> StatusCode {
        (self.client.dialect().errors.status)(status)
    }
}

impl AnswerTranslator {
    /// Takes the next bytes of the upstream's body, and gives those of the client's; `end` with the last. Fails where what
    /// came is no answer, or not a whole one.
    pub fn pass(&mut self, chunk: &[u8], end: bool) -> Result<Vec<u8>, Rejection> {
        let mut out = Vec::new();
        if self.is_over {
            return Ok(out);
        }
        match &mut self.body {
            UpstreamBody::Document(body) => {
                if body.len() + chunk.len() > MAX_DOCUMENT {
                    return Err(Rejection::AnswerUntranslatable);
                }
                body.extend_from_slice(chunk);
                if end {
                    out = self.document()?;
                }
            }
            UpstreamBody::Error(_, text) => {
                text.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR - text.len().min(MAX_ERROR))]);
                if end {
                    out = self.error();
                }
            }
            UpstreamBody::Stream(_) => self.events(chunk, end, &mut out)?,
        }
        self.is_over |= end;
        Ok(out)
    }

    /// Returns how many bytes are held.
    pub fn held(&self) -> usize {
        match &self.body {
            UpstreamBody::Document(body) | UpstreamBody::Error(_, body) => body.len(),
            UpstreamBody::Stream(splitter) => splitter.held(),
        }
    }

    /// Whether what is held goes out in one piece, so that an error may still go out in its place.
    pub fn holds_header(&self) -> bool {
        !self.is_over && matches!(self.body, UpstreamBody::Document(_))
    }

    fn document(&mut self) -> Result<Vec<u8>, Rejection> {
        let UpstreamBody::Document(body) = &self.body else { return Err(Rejection::Internal) };
        if !is_object(body) {
            return Err(Rejection::AnswerUntranslatable);
        }
        if non_null_member(body, "error").is_some() {
            return Ok(self.told(StatusCode::INTERNAL_SERVER_ERROR, body, false));
        }
        self.writer.whole(body).ok_or(Rejection::AnswerUntranslatable)
    }

    fn error(&self) -> Vec<u8> {
        match &self.body {
            UpstreamBody::Error(status, text) => self.told(*status, text, false),
            _ => Vec::new(),
        }
    }

    fn events(&mut self, chunk: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), Rejection> {
        let UpstreamBody::Stream(splitter) = &mut self.body else { return Ok(()) };
        let (writer, client, request_id) = (&mut self.writer, self.client, &self.request_id);
        let (mut is_over, mut failed) = (false, None);
        let mut each = |frame: Result<SseFrame<'_>, OversizedEvent>| {
            if is_over || failed.is_some() {
                return;
            }
            let Ok(frame) = frame else {
                failed = Some(Rejection::AnswerUntranslatable);
                return;
            };
            let Some(data) = frame.data() else { return };
            if *data == *b"[DONE]" {
                is_over = true;
                failed = writer.end(out).is_none().then_some(Rejection::UpstreamReset);
            } else if writer.event(&data, out).is_none() {
                match event_error(&data) {
                    Some(error) => {
                        is_over = true;
                        out.extend(tell(client, request_id, StatusCode::INTERNAL_SERVER_ERROR, error, true));
                    }
                    None => failed = Some(Rejection::AnswerUntranslatable),
                }
            }
        };
        splitter.feed(chunk, &mut each);
        if end {
            splitter.finish(&mut each);
        }
        self.is_over = is_over;
        if let Some(rejection) = failed {
            self.is_over = true;
            return Err(rejection);
        }
        if end && !self.is_over {
            // Some servers end without a last word.
            return self.writer.end(out).ok_or(Rejection::UpstreamReset);
        }
        Ok(())
    }

    fn told(&self, status: StatusCode, text: &[u8], is_event: bool) -> Vec<u8> {
        tell(self.client, &self.request_id, status, text, is_event)
    }
}

/// What an event says is wrong: under `error`, flat as Responses' errors are, or in the response that has failed.
fn event_error(data: &[u8]) -> Option<&[u8]> {
    if !is_object(data) {
        return None;
    }
    if non_null_member(data, "error").is_some() || string_member(data, "type").as_deref() == Some("error") {
        return Some(data);
    }
    non_null_member(data, "response").filter(|response| non_null_member(response, "error").is_some())
}

/// Writes an upstream's error in the client's dialect, with its own words.
fn tell(client: Api, request_id: &str, status: StatusCode, text: &[u8], is_event: bool) -> Vec<u8> {
    let errors = &client.dialect().errors;
    let read: Option<Value> = serde_json::from_slice(text).ok();
    let error = read.as_ref().map(|body| body.get("error").filter(|error| error.is_object()).unwrap_or(body));
    // An error in a stream has its status in its code.
    let told =
        error.and_then(|error| error["code"].as_u64().or_else(|| error["code"].as_str()?.parse().ok()));
    let told = told.and_then(|code| StatusCode::from_u16(code.try_into().ok()?).ok());
    let status =
        told.filter(|told| is_event && (told.is_client_error() || told.is_server_error())).unwrap_or(status);
    let named = Rejection::UpstreamRefused { status, retry_after: None };
    let own = named.to_string();
    let said = error.and_then(|error| {
        let words = [&error["message"], &error["detail"], &error["error"]];
        words.into_iter().find_map(|words| match words {
            Value::String(text) => Some(text.clone()),
            Value::Array(_) | Value::Object(_) => Some(words.to_string()),
            _ => None,
        })
    });
    let message = said.as_deref().unwrap_or(&own);
    let code = error.and_then(|error| error["code"].as_str());
    let json = read.as_ref().map_or_else(|| named.body().to_vec(), |body| body.to_string().into_bytes());
    let text = ErrorText { status, message, code, json: &json };
    let write = if is_event { errors.event } else { errors.body };
    write(&text, request_id)
}
