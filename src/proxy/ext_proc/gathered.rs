//! Owns what an endpoint picker has said of a request, as far as it has come: pickers answer in one message or several,
//! the header before or after the body.
//!
//! Decides nothing of it.

use super::messages::{
    CommonResponse, HeaderField, HeaderMutation, ImmediateResponse, NewBody, ProcessingResponse, ResponsePart,
};
use super::{DESTINATION, PickerChanges, PickerFailure};
use crate::proxy::headers::may_be_set;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::net::SocketAddr;
use std::time::Duration;

/// How much longer a picker may make a body.
const MAX_GROWTH: usize = 1 << 20;

/// The most endpoints that are taken from one answer.
const MAX_ENDPOINTS: usize = 16;

/// The most characters of a refusal's text that the client gets.
const MAX_TEXT: usize = 500;

/// What a picker has said of a request.
#[derive(Debug, Default)]
pub(super) struct GatheredReply {
    most_bytes: usize,
    has_body: bool,
    /// As the metadata names them, which precede those of the header.
    endpoints: Vec<SocketAddr>,
    changes: PickerChanges,
    body: BytesMut,
    has_header: bool,
    body_state: BodyState,
}

/// What has come of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BodyState {
    #[default]
    Awaited,
    /// It goes on as it was sent.
    Kept,
    /// Pieces of another.
    Begun,
    /// All of another.
    Replaced,
}

impl GatheredReply {
    /// Waits for the reply to a request whose body has so many bytes.
    pub(super) fn of(body_len: usize) -> Self {
        Self { most_bytes: body_len + MAX_GROWTH, has_body: body_len > 0, ..Self::default() }
    }

    /// Whether nothing that concerns the request is still to come.
    pub(super) fn is_whole(&self) -> bool {
        let is_body_whole = matches!(self.body_state, BodyState::Kept | BodyState::Replaced);
        self.has_header && (is_body_whole || !self.has_body)
    }

    /// Takes one message of the picker.
    pub(super) fn add(&mut self, response: ProcessingResponse) -> Result<(), PickerFailure> {
        if let Some(named) = response.dynamic_metadata.as_ref().and_then(named_in) {
            self.endpoints = addresses(named);
        }
        match response.response {
            Some(ResponsePart::RequestHeaders(reply)) => {
                self.has_header = true;
                self.take_header(reply.response.unwrap_or_default());
                Ok(())
            }
            Some(ResponsePart::RequestBody(reply)) => self.take_body(reply.response.unwrap_or_default()),
            Some(ResponsePart::ImmediateResponse(refusal)) => Err(refused(&refusal)),
            Some(ResponsePart::ResponseHeaders(_) | ResponsePart::ResponseBody(_)) | None => Ok(()),
        }
    }

    fn take_header(&mut self, reply: CommonResponse) {
        let Some(mutation) = reply.header_mutation else { return };
        if self.endpoints.is_empty() {
            let is_destination = |field: &&HeaderField| field.key.eq_ignore_ascii_case(DESTINATION);
            let mut set = mutation.set_headers.iter().filter_map(|option| option.header.as_ref());
            let named = set.find(is_destination).map(value_of);
            self.endpoints = named
                .and_then(|value| addresses(std::str::from_utf8(value).ok()?).into())
                .unwrap_or_default();
        }
        self.changes = changes(&mutation);
    }

    fn take_body(&mut self, reply: CommonResponse) -> Result<(), PickerFailure> {
        let mutation = reply.body_mutation.and_then(|mutation| mutation.mutation);
        let (piece, is_last) = match mutation {
            Some(NewBody::StreamedResponse(piece)) => (piece.body, piece.end_of_stream),
            Some(NewBody::Body(body)) => (body, true),
            Some(NewBody::ClearBody(_)) => (Bytes::new(), true),
            // The body goes on as it is; such a message comes for each piece that a picker only has read.
            None => {
                if self.has_header && self.body_state == BodyState::Awaited {
                    self.body_state = BodyState::Kept;
                }
                return Ok(());
            }
        };
        if self.body.len() + piece.len() > self.most_bytes {
            return Err(PickerFailure::Unavailable("too_large"));
        }
        self.body_state = if is_last { BodyState::Replaced } else { BodyState::Begun };
        self.body.extend_from_slice(&piece);
        Ok(())
    }

    /// Gives the endpoints, the changes of the header, and the body where it is not the one that was sent.
    pub(super) fn into_parts(self, sent: &Bytes) -> (Vec<SocketAddr>, PickerChanges, Option<Bytes>) {
        let is_new = self.body_state == BodyState::Replaced && self.body != *sent;
        (self.endpoints, self.changes, is_new.then(|| self.body.freeze()))
    }
}

/// What the metadata of `envoy.lb` names as the destination.
fn named_in(metadata: &Struct) -> Option<&str> {
    let Some(Kind::StructValue(lb)) = &metadata.fields.get("envoy.lb")?.kind else { return None };
    match lb.fields.get(DESTINATION) {
        Some(Value { kind: Some(Kind::StringValue(named)) }) => Some(named),
        _ => None,
    }
}

/// Reads `ip:port[,ip:port…]`; what is no address is left out.
fn addresses(named: &str) -> Vec<SocketAddr> {
    let addresses = named.split(',').filter_map(|address| address.trim().parse().ok());
    addresses.take(MAX_ENDPOINTS).collect()
}

/// The changes of headers that a picker may make; others are left out.
pub(super) fn changes(mutation: &HeaderMutation) -> PickerChanges {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok().filter(may_be_set);
    let set = mutation.set_headers.iter().filter_map(|option| option.header.as_ref());
    let set =
        set.filter_map(|field| Some((name(&field.key)?, HeaderValue::from_bytes(value_of(field)).ok()?)));
    PickerChanges {
        set: set.collect(),
        remove: mutation.remove_headers.iter().filter_map(|key| name(key)).collect(),
    }
}

/// The value of a header, which servers write into one of two fields.
fn value_of(field: &HeaderField) -> &[u8] {
    if field.raw_value.is_empty() { field.value.as_bytes() } else { &field.raw_value }
}

fn refused(refusal: &ImmediateResponse) -> PickerFailure {
    let code = refusal.status.as_ref().and_then(|status| u16::try_from(status.code).ok());
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    let is_error = |status: &StatusCode| status.is_client_error() || status.is_server_error();
    let set = refusal.headers.as_ref().map(|headers| headers.set_headers.as_slice()).unwrap_or_default();
    let mut set = set.iter().filter_map(|option| option.header.as_ref());
    let retry_after = set.find(|field| field.key.eq_ignore_ascii_case("retry-after")).map(value_of);
    PickerFailure::Refused {
        status: status.filter(is_error).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        text: String::from_utf8_lossy(&refusal.body).chars().take(MAX_TEXT).collect(),
        retry_after: retry_after
            .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok())
            .map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{BodyMutation, HeaderOption, HttpBody, HttpStatus, Reply};
    use super::*;

    const SENT: Bytes = Bytes::from_static(b"0123456789");

    fn header(named: &str, in_metadata: Option<&str>) -> ProcessingResponse {
        let field = |key: &str, value: &str| HeaderOption {
            header: Some(HeaderField {
                key: key.to_owned(),
                value: value.to_owned(),
                raw_value: Bytes::new(),
            }),
        };
        let set_headers =
            vec![field(DESTINATION, named), field("host", "x"), field("x-a", "1"), field("x b", "1")];
        let remove_headers = vec!["x-c".to_owned(), "content-length".to_owned()];
        let mutation = HeaderMutation { set_headers, remove_headers };
        let common = CommonResponse { header_mutation: Some(mutation), body_mutation: None };
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let of = |key: &str, value| Struct { fields: [(key.to_owned(), value)].into() };
        let lb = |named| Value { kind: Some(Kind::StructValue(of(DESTINATION, text(named)))) };
        ProcessingResponse {
            response: Some(ResponsePart::RequestHeaders(Reply { response: Some(common) })),
            dynamic_metadata: in_metadata.map(|named| of("envoy.lb", lb(named))),
        }
    }

    fn body(mutation: Option<NewBody>) -> ProcessingResponse {
        let body_mutation = mutation.map(|mutation| BodyMutation { mutation: Some(mutation) });
        let reply = Reply { response: Some(CommonResponse { header_mutation: None, body_mutation }) };
        ProcessingResponse { response: Some(ResponsePart::RequestBody(reply)), dynamic_metadata: None }
    }

    fn piece(body: &'static [u8], end_of_stream: bool) -> NewBody {
        NewBody::StreamedResponse(HttpBody { body: Bytes::from_static(body), end_of_stream })
    }

    fn gathered(messages: impl IntoIterator<Item = ProcessingResponse>) -> GatheredReply {
        let mut gathered = GatheredReply::of(SENT.len());
        for message in messages {
            assert!(!gathered.is_whole(), "more was to come");
            gathered.add(message).unwrap();
        }
        gathered
    }

    #[test]
    fn the_metadata_names_the_endpoints_before_the_header_does_and_no_framing_is_changed() {
        for (message, named) in [
            (header("10.0.0.1:80, [::1]:81,pod:82", None), vec!["10.0.0.1:80", "[::1]:81"]),
            (header("10.0.0.1:80", Some("10.0.0.2:80")), vec!["10.0.0.2:80"]),
            (header("", None), vec![]),
        ] {
            let (endpoints, changes, _) = gathered([message]).into_parts(&SENT);
            assert_eq!(endpoints, named.iter().map(|one| one.parse().unwrap()).collect::<Vec<SocketAddr>>());
            let set: Vec<_> =
                changes.set.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            assert_eq!(
                (set, changes.remove),
                (vec![("x-a", b"1".as_slice())], vec![HeaderName::from_static("x-c")])
            );
        }
    }

    #[test]
    fn a_body_is_whole_with_its_last_piece_or_once_it_goes_on_as_it_is() {
        let named = || header("10.0.0.1:80", None);
        let cases = [
            (vec![named(), body(None)], true, None),
            (vec![body(None), body(None), named(), body(None)], true, None),
            (
                vec![named(), body(Some(piece(b"01234", false))), body(Some(piece(b"56789", true)))],
                true,
                None,
            ),
            (
                vec![named(), body(Some(piece(b"01234", false))), body(Some(piece(b"x", true)))],
                true,
                Some("01234x"),
            ),
            (vec![body(Some(piece(b"new", true))), named()], true, Some("new")),
            (vec![named(), body(Some(NewBody::Body(Bytes::from_static(b"new"))))], true, Some("new")),
            (vec![named(), body(Some(NewBody::ClearBody(true)))], true, Some("")),
            (vec![named(), body(Some(piece(b"01234", false))), body(None)], false, None),
            (vec![body(None)], false, None),
        ];
        for (messages, is_whole, expected) in cases {
            let gathered = gathered(messages.clone());
            assert_eq!(gathered.is_whole(), is_whole, "{messages:?}");
            assert_eq!(gathered.into_parts(&SENT).2.as_deref(), expected.map(str::as_bytes), "{messages:?}");
        }
        assert!(GatheredReply { has_body: false, has_header: true, ..GatheredReply::default() }.is_whole());
    }

    #[test]
    fn a_body_that_grows_beyond_the_limit_is_not_taken() {
        let mut gathered = GatheredReply::of(0);
        let half = Bytes::from(vec![b'x'; MAX_GROWTH / 2 + 1]);
        let half =
            || body(Some(NewBody::StreamedResponse(HttpBody { body: half.clone(), end_of_stream: false })));
        assert!(gathered.add(half()).is_ok());
        assert!(matches!(gathered.add(half()), Err(PickerFailure::Unavailable("too_large"))));
    }

    #[test]
    fn a_refusal_has_an_errors_status_whatever_it_says() {
        for (code, expected) in [(429, 429), (503, 503), (200, 503), (0, 503), (-1, 503), (70_000, 503)] {
            let refusal = ImmediateResponse {
                status: Some(HttpStatus { code }),
                headers: None,
                body: Bytes::from_static(b"\xff no"),
            };
            let PickerFailure::Refused { status, text, retry_after } = refused(&refusal) else {
                unreachable!()
            };
            assert_eq!((status.as_u16(), text.as_str(), retry_after), (expected, "\u{fffd} no", None));
        }
    }
}
