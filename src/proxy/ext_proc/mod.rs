//! Owns the asking of external endpoint pickers: the Gateway API inference extension's endpoint-picker protocol over
//! Envoy's `ext_proc`, with bodies sent in full duplex.
//!
//! Knows nothing of pools and leases: it is told which endpoints there are, and says which were named.
//!
//! Source: proposal 004 of the Gateway API inference extension (endpoint picker protocol).

mod connector;
mod gathered;
mod messages;
mod session;

pub(super) use session::PickerSession;

use crate::policy::ExternalPicker;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use gathered::GatheredReply;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use lru::LruCache;
use messages::{
    FULL_DUPLEX_STREAMED, HeaderField, HeaderList, HttpBody, HttpHeaders, Metadata, ProcessingRequest,
    ProcessingResponse, ProtocolConfiguration, RequestPart,
};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// The most pickers whose connections are kept; the one that was not asked for the longest time is let go.
const MAX_CHANNELS: NonZeroUsize = NonZeroUsize::new(1024).expect("not 0");

/// A body goes in pieces of so many bytes, as Envoy sends it: the usual limit of a message is 4 MiB.
const BODY_PIECE: usize = 64 << 10;

/// The longest message that a picker may send.
const MAX_MESSAGE: usize = 4 << 20;

/// Messages about an answer that wait for the picker to take them.
const MAX_WAITING: usize = 256;

/// Names the endpoint that a picker has chosen, or several in the order in which they are to be tried.
const DESTINATION: &str = "x-gateway-destination-endpoint";

/// The connections to all pickers.
pub(super) struct EndpointPickers {
    channels: Mutex<LruCache<ExternalPicker, Channel>>,
}

impl Default for EndpointPickers {
    fn default() -> Self {
        Self { channels: Mutex::new(LruCache::new(MAX_CHANNELS)) }
    }
}

/// What a picker is asked.
pub(super) struct PickerQuestion<'a> {
    pub(super) path: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: &'a Bytes,
    /// The endpoints to choose among, where not all of the pool's are meant.
    pub(super) subset: Option<&'a [SocketAddr]>,
    pub(super) timeout: Duration,
}

/// What a picker has said.
pub(super) struct PickerAnswer {
    /// The endpoints to try, in order.
    pub(super) endpoints: Vec<SocketAddr>,
    pub(super) changes: PickerChanges,
    /// The request's body where it is another than was sent.
    pub(super) body: Option<Bytes>,
    /// Tells the picker of the answer.
    pub(super) session: PickerSession,
}

/// What a picker changes of the headers of a request or an answer.
#[derive(Debug, Default)]
pub(super) struct PickerChanges {
    pub(super) set: Vec<(HeaderName, HeaderValue)>,
    pub(super) remove: Vec<HeaderName>,
}

/// Why a picker has named no endpoint.
#[derive(Debug)]
pub(super) enum PickerFailure {
    /// It answers the request itself: none is ready, or it sheds load.
    Refused { status: StatusCode, text: String, retry_after: Option<Duration> },
    /// It could not be asked, or its answer names nothing; a fixed word says why.
    Unavailable(&'static str),
}

impl PickerFailure {
    /// The failure as the metrics have it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Unavailable(reason) => reason,
        }
    }
}

impl EndpointPickers {
    /// Asks where a request is to go.
    pub(super) async fn ask(
        &self,
        picker: &ExternalPicker,
        question: PickerQuestion<'_>,
    ) -> Result<PickerAnswer, PickerFailure> {
        let channel = self.channel(picker)?;
        let (timeout, sent) = (question.timeout, question.body.clone());
        let (report, reports) = mpsc::channel(MAX_WAITING);
        let messages = question.into_messages().chain(stream::unfold(reports, next));
        let answered = tokio::time::timeout(timeout, gather(channel, messages, &sent)).await;
        let (gathered, responses) = answered.map_err(|_elapsed| PickerFailure::Unavailable("timeout"))??;
        let (endpoints, changes, body) = gathered.into_parts(&sent);
        if endpoints.is_empty() {
            return Err(PickerFailure::Unavailable("no_endpoint"));
        }
        let session = PickerSession::new(report, responses);
        Ok(PickerAnswer { endpoints, changes, body, session })
    }

    fn channel(&self, picker: &ExternalPicker) -> Result<Channel, PickerFailure> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = channels.get(picker) {
            return Ok(known.clone());
        }
        let made = connector::channel(picker).map_err(|_error| PickerFailure::Unavailable("address"))?;
        channels.put(picker.clone(), made.clone());
        Ok(made)
    }
}

async fn next(
    mut reports: mpsc::Receiver<ProcessingRequest>,
) -> Option<(ProcessingRequest, mpsc::Receiver<ProcessingRequest>)> {
    let report = reports.recv().await?;
    Some((report, reports))
}

/// Sends the question and reads until all of the answer that concerns the request is there.
async fn gather(
    channel: Channel,
    messages: impl Stream<Item = ProcessingRequest> + Send + 'static,
    sent: &Bytes,
) -> Result<(GatheredReply, tonic::Streaming<ProcessingResponse>), PickerFailure> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
    grpc.ready().await.map_err(|_error| PickerFailure::Unavailable("unreachable"))?;
    let path = PathAndQuery::from_static("/envoy.service.ext_proc.v3.ExternalProcessor/Process");
    let request = tonic::Request::new(messages);
    let codec = ProstCodec::<ProcessingRequest, ProcessingResponse>::default();
    let failed = |status: tonic::Status| {
        let is_unreachable = status.code() == tonic::Code::Unavailable;
        PickerFailure::Unavailable(if is_unreachable { "unreachable" } else { "failed" })
    };
    let mut responses = grpc.streaming(request, path, codec).await.map_err(failed)?.into_inner();
    let mut gathered = GatheredReply::of(sent.len());
    while !gathered.is_whole() {
        let Some(response) = responses.message().await.map_err(failed)? else { break };
        gathered.add(response)?;
    }
    Ok((gathered, responses))
}

impl PickerQuestion<'_> {
    fn into_messages(self) -> impl Stream<Item = ProcessingRequest> + Send + 'static {
        let pseudo = [(":method", "POST"), (":path", self.path), (":scheme", "http")];
        let pseudo = pseudo.map(|(name, value)| field(name, value.as_bytes()));
        let headers = pseudo.into_iter().chain(fields(&self.headers)).collect();
        let protocol = ProtocolConfiguration {
            request_body_mode: FULL_DUPLEX_STREAMED,
            response_body_mode: FULL_DUPLEX_STREAMED,
            send_body_without_waiting_for_header_response: true,
        };
        let header = ProcessingRequest {
            request: Some(RequestPart::RequestHeaders(HttpHeaders {
                headers: Some(HeaderList { headers }),
                end_of_stream: self.body.is_empty(),
            })),
            metadata_context: self.subset.map(subset_hint),
            protocol_config: Some(protocol),
        };
        let body = self.body.clone();
        let pieces = (0..body.len()).step_by(BODY_PIECE).map(move |from| {
            let to = body.len().min(from + BODY_PIECE);
            let piece = HttpBody { body: body.slice(from..to), end_of_stream: to == body.len() };
            ProcessingRequest {
                request: Some(RequestPart::RequestBody(piece)),
                ..ProcessingRequest::default()
            }
        });
        stream::iter(std::iter::once(header).chain(pieces))
    }
}

fn fields(headers: &HeaderMap) -> impl Iterator<Item = HeaderField> {
    headers.iter().map(|(name, value)| field(name.as_str(), value.as_bytes()))
}

fn field(name: &str, value: &[u8]) -> HeaderField {
    HeaderField { key: name.to_owned(), value: String::new(), raw_value: Bytes::copy_from_slice(value) }
}

fn subset_hint(endpoints: &[SocketAddr]) -> Metadata {
    let values = endpoints.iter().map(|endpoint| text(&endpoint.to_string())).collect();
    let list = Value { kind: Some(Kind::ListValue(ListValue { values })) };
    metadata("envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset", list)
}

fn metadata(namespace: &str, key: &str, value: Value) -> Metadata {
    let fields = [(key.to_owned(), value)].into_iter().collect();
    Metadata { filter_metadata: HashMap::from([(namespace.to_owned(), Struct { fields })]) }
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}
