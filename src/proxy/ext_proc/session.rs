//! Owns what an endpoint picker is told of the answer to a request that it chose the endpoint of: who served it, the
//! header, the body as it passes, and its end.
//!
//! The answer waits for the picker only with its header, and that shortly.

use super::gathered::changes;
use super::messages::{
    HeaderList, HttpBody, HttpHeaders, ProcessingRequest, ProcessingResponse, RequestPart, ResponsePart,
};
use super::{PickerChanges, field, fields, metadata, text};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Streaming;

/// How long an answer's header waits for what the picker changes of it: Envoy's default.
const HEADER_TIME: Duration = Duration::from_millis(200);

/// How long a picker may take to read the end of an answer.
const END_TIME: Duration = Duration::from_secs(5);

/// One request's stream to its picker. Dropped, it is reset: the client has left, or another attempt begins.
pub(in crate::proxy) struct PickerSession {
    /// `None` once the picker has been told the end, or was too slow.
    report: Option<mpsc::Sender<ProcessingRequest>>,
    /// `None` once a task reads them.
    responses: Option<Streaming<ProcessingResponse>>,
    /// Reads what the picker still says, so that it is not held up.
    reader: Option<tokio::task::JoinHandle<()>>,
}

impl PickerSession {
    pub(super) fn new(
        report: mpsc::Sender<ProcessingRequest>,
        responses: Streaming<ProcessingResponse>,
    ) -> Self {
        Self { report: Some(report), responses: Some(responses), reader: None }
    }

    /// Tells the picker who served the request and with which header; returns what it changes of that.
    pub(in crate::proxy) async fn report_header(
        &mut self,
        served: SocketAddr,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> PickerChanges {
        let status = field(":status", status.as_str().as_bytes());
        let headers = std::iter::once(status).chain(fields(headers)).collect();
        let header = HttpHeaders { headers: Some(HeaderList { headers }), end_of_stream: false };
        let served = text(&served.to_string());
        self.send(ProcessingRequest {
            request: Some(RequestPart::ResponseHeaders(header)),
            metadata_context: Some(metadata("envoy.lb", "x-gateway-destination-endpoint-served", served)),
            protocol_config: None,
        });
        let Some(mut responses) = self.responses.take() else { return PickerChanges::default() };
        let reply = timeout(HEADER_TIME, header_reply(&mut responses)).await;
        self.reader = Some(tokio::spawn(async move { while let Ok(Some(_)) = responses.message().await {} }));
        reply.ok().flatten().unwrap_or_default()
    }

    /// Tells the picker a piece of the body.
    pub(in crate::proxy) fn report_piece(&mut self, piece: &[u8]) {
        if self.report.is_some() {
            self.send_body(Bytes::copy_from_slice(piece), false);
        }
    }

    /// Tells the picker that the answer is whole.
    pub(in crate::proxy) fn finish(mut self) {
        self.send_body(Bytes::new(), true);
        self.report = None;
        if let Some(reader) = self.reader.take() {
            tokio::spawn(async move {
                let abort = reader.abort_handle();
                if timeout(END_TIME, reader).await.is_err() {
                    abort.abort();
                }
            });
        }
    }

    fn send_body(&mut self, body: Bytes, end_of_stream: bool) {
        let body = RequestPart::ResponseBody(HttpBody { body, end_of_stream });
        self.send(ProcessingRequest { request: Some(body), ..ProcessingRequest::default() });
    }

    /// A picker that does not keep up is told no more, rather than something with a gap.
    fn send(&mut self, message: ProcessingRequest) {
        if self.report.as_ref().is_some_and(|report| report.try_send(message).is_err()) {
            self.report = None;
        }
    }
}

impl Drop for PickerSession {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

/// Waits for what a picker says of an answer's header.
async fn header_reply(responses: &mut Streaming<ProcessingResponse>) -> Option<PickerChanges> {
    while let Some(response) = responses.message().await.ok()? {
        if let Some(ResponsePart::ResponseHeaders(reply)) = response.response {
            return Some(reply.response?.header_mutation.as_ref().map(changes).unwrap_or_default());
        }
    }
    None
}
