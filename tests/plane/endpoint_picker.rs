//! An endpoint picker as the Gateway API inference extension describes it, over Envoy's `ext_proc`: a script of its
//! answers, and a record of what it was told. Its messages are written after the public proto files, apart from the
//! gateway's own.

use futures::Stream;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// A picker that runs until it is dropped.
pub struct EndpointPicker {
    pub addr: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: tokio::task::JoinHandle<()>,
}

/// How a picker answers.
#[derive(Clone)]
pub enum Script {
    /// As the light picker of the conformance suite: nothing until the body is whole, the body left alone, the served
    /// endpoint in a header of the answer.
    Light(Vec<SocketAddr>),
    /// The same, but it names only the first of those.
    First(Vec<SocketAddr>),
    /// As llm-d's picker: at once, the body sent back in pieces with this in place of that.
    Full(Vec<SocketAddr>, (&'static str, &'static str)),
    /// An answer of its own in an endpoint's place.
    Refuse(i32, &'static str),
    /// An error of the protocol.
    Fail,
    /// The stream ends without a word.
    Close,
    Silent,
}

/// What a picker was told of one request.
#[derive(Clone, Default, Debug)]
pub struct Heard {
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub pieces: usize,
    /// The endpoints that it is to choose among, if it was told some.
    pub subset: Option<Vec<String>>,
    pub served: Option<String>,
    pub status: Option<String>,
    pub answer: Vec<u8>,
    /// Whether it was told that the answer is whole.
    pub is_whole: bool,
    /// Whether the stream is over.
    pub is_over: bool,
}

impl EndpointPicker {
    pub async fn start(script: Script) -> Self {
        Self::start_with(script, None).await
    }

    /// With TLS where there is a configuration of it.
    pub async fn start_with(script: Script, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), script, tls)
    }

    /// The same where it is to listen.
    pub fn start_on(listener: TcpListener, script: Script, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let (addr, heard) = (listener.local_addr().unwrap(), Arc::default());
        let service = Picker { script, heard: Arc::clone(&heard) };
        let incoming = futures::stream::unfold((listener, tls), |(listener, tls)| async {
            loop {
                let Ok((socket, _)) = listener.accept().await else { return None };
                let socket: Box<dyn Socket> = match &tls {
                    None => Box::new(socket),
                    Some(tls) => {
                        match tokio_rustls::TlsAcceptor::from(Arc::clone(tls)).accept(socket).await {
                            Ok(socket) => Box::new(socket),
                            Err(_) => continue,
                        }
                    }
                };
                return Some((Ok::<_, std::io::Error>(Connection(socket)), (listener, tls)));
            }
        });
        let task = tokio::spawn(async move {
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        Self { addr, heard, task }
    }

    /// What it was told so far, of each request.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for EndpointPicker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

struct Connection(Box<dyn Socket>);

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[derive(Clone)]
struct Picker {
    script: Script,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl NamedService for Picker {
    const NAME: &'static str = "envoy.service.ext_proc.v3.ExternalProcessor";
}

impl tower::Service<http::Request<Body>> for Picker {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let process = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).streaming(process, request).await) })
    }
}

impl StreamingService<ToPicker> for Picker {
    type Response = FromPicker;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<FromPicker, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<ToPicker>>) -> Self::Future {
        let at = {
            let mut heard = self.heard.lock().unwrap();
            heard.push(Heard::default());
            heard.len() - 1
        };
        let (send, receive) = tokio::sync::mpsc::channel(64);
        tokio::spawn(process(self.script.clone(), Arc::clone(&self.heard), at, request.into_inner(), send));
        let replies =
            futures::stream::unfold(receive, async |mut receive| Some((receive.recv().await?, receive)));
        ready(Ok(Response::new(Box::pin(replies))))
    }
}

type Replies = tokio::sync::mpsc::Sender<Result<FromPicker, Status>>;

async fn process(
    script: Script,
    heard: Arc<Mutex<Vec<Heard>>>,
    at: usize,
    mut messages: Streaming<ToPicker>,
    replies: Replies,
) {
    let reply = async |reply: FromPicker| drop(replies.send(Ok(reply)).await);
    while let Ok(Some(message)) = messages.message().await {
        let now = {
            let mut heard = heard.lock().unwrap();
            heard[at].take(&message);
            heard[at].clone()
        };
        match (&script, message.part) {
            (Script::Close, _) => return,
            (Script::Fail, _) => {
                let _ = replies.send(Err(Status::internal("no endpoints available"))).await;
                return;
            }
            (Script::Refuse(code, text), _) => {
                let status = Some(HttpStatus { code: *code });
                let headers = Some(Mutation { set: vec![option("retry-after", "7")], remove: Vec::new() });
                let refusal = Immediate { status, headers, body: text.as_bytes().to_vec() };
                reply(FromPicker { part: Some(Told::Immediate(refusal)), metadata: None }).await;
                return;
            }
            (Script::Light(endpoints) | Script::First(endpoints), Some(Part::RequestBody(piece))) => {
                if piece.end_of_stream {
                    let mut named = now.among(endpoints);
                    if matches!(script, Script::First(_)) {
                        named.truncate(1);
                    }
                    reply(chosen(&named)).await;
                }
                reply(FromPicker { part: Some(Told::RequestBody(Reply::default())), metadata: None }).await;
            }
            (Script::Light(_), Some(Part::ResponseHeaders(_))) => {
                let served = now.served.clone().unwrap_or_default();
                let set = vec![option("x-conformance-test-served-endpoint", &served)];
                let reply_part = Told::ResponseHeaders(Reply::of(Mutation {
                    set,
                    remove: vec!["x-inference-pod".to_owned()],
                }));
                reply(FromPicker { part: Some(reply_part), metadata: None }).await;
            }
            // No body follows.
            (Script::Light(endpoints), Some(Part::RequestHeaders(header))) if header.end_of_stream => {
                reply(chosen(&now.among(endpoints))).await;
            }
            (Script::Full(endpoints, _), Some(Part::RequestHeaders(_))) => {
                reply(chosen(&now.among(endpoints))).await;
            }
            (Script::Full(_, (old, new)), Some(Part::RequestBody(piece))) if piece.end_of_stream => {
                let body = String::from_utf8(now.body.clone()).unwrap().replace(old, new);
                let pieces: Vec<_> = body.as_bytes().chunks(62_000).collect();
                for (number, piece) in pieces.iter().enumerate() {
                    let body = Piece { body: piece.to_vec(), end_of_stream: number + 1 == pieces.len() };
                    let common = Common { mutation: None, body: Some(BodyMutation { streamed: Some(body) }) };
                    let told = Told::RequestBody(Reply { response: Some(common) });
                    reply(FromPicker { part: Some(told), metadata: None }).await;
                }
            }
            _ => {}
        }
    }
    heard.lock().unwrap()[at].is_over = true;
}

impl Heard {
    fn take(&mut self, message: &ToPicker) {
        let text = |field: &Field| (field.key.clone(), String::from_utf8(field.raw_value.clone()).unwrap());
        match message.part.clone().unwrap() {
            Part::RequestHeaders(header) => {
                self.headers = header.headers.unwrap().headers.iter().map(text).collect();
                self.subset = metadata(
                    message,
                    "envoy.lb.subset_hint",
                    "x-gateway-destination-endpoint-subset",
                )
                .map(|kind| match kind {
                    Kind::ListValue(ListValue { values }) => values.into_iter().filter_map(string).collect(),
                    other => panic!("{other:?}"),
                });
            }
            Part::RequestBody(piece) => {
                self.pieces += 1;
                self.body.extend(piece.body);
            }
            Part::ResponseHeaders(header) => {
                let fields: HashMap<_, _> = header.headers.unwrap().headers.iter().map(text).collect();
                self.status = fields.get(":status").cloned();
                self.served = metadata(message, "envoy.lb", "x-gateway-destination-endpoint-served")
                    .and_then(|kind| string(Value { kind: Some(kind) }));
            }
            Part::ResponseBody(piece) => {
                self.answer.extend(piece.body);
                self.is_whole |= piece.end_of_stream;
            }
        }
    }

    /// Those of the endpoints that it may choose among.
    fn among(&self, endpoints: &[SocketAddr]) -> Vec<String> {
        let all = endpoints.iter().map(ToString::to_string);
        all.filter(|one| self.subset.as_ref().is_none_or(|subset| subset.contains(one))).collect()
    }
}

fn metadata(message: &ToPicker, namespace: &str, key: &str) -> Option<Kind> {
    message.metadata.as_ref()?.filter.get(namespace)?.fields.get(key)?.kind.clone()
}

fn string(value: Value) -> Option<String> {
    match value.kind? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn option(key: &str, value: &str) -> HeaderOption {
    let raw_value = value.as_bytes().to_vec();
    HeaderOption { header: Some(Field { key: key.to_owned(), value: String::new(), raw_value }) }
}

/// Names endpoints in the header and in the metadata.
fn chosen(endpoints: &[String]) -> FromPicker {
    let named = endpoints.join(",");
    let set = vec![option("x-gateway-destination-endpoint", &named), option("x-picked-by", "a test")];
    let fields = |key: &str, kind| Struct { fields: [(key.to_owned(), Value { kind: Some(kind) })].into() };
    let lb = fields("x-gateway-destination-endpoint", Kind::StringValue(named));
    FromPicker {
        part: Some(Told::RequestHeaders(Reply::of(Mutation { set, remove: vec!["x-dropped".to_owned()] }))),
        metadata: Some(fields("envoy.lb", Kind::StructValue(lb))),
    }
}

#[derive(Clone, PartialEq, Message)]
struct ToPicker {
    #[prost(oneof = "Part", tags = "2, 3, 4, 5")]
    part: Option<Part>,
    #[prost(message, optional, tag = "8")]
    metadata: Option<FilterMetadata>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Part {
    #[prost(message, tag = "2")]
    RequestHeaders(Headers),
    #[prost(message, tag = "3")]
    ResponseHeaders(Headers),
    #[prost(message, tag = "4")]
    RequestBody(Piece),
    #[prost(message, tag = "5")]
    ResponseBody(Piece),
}

#[derive(Clone, PartialEq, Message)]
struct FilterMetadata {
    #[prost(map = "string, message", tag = "1")]
    filter: HashMap<String, Struct>,
}

#[derive(Clone, PartialEq, Message)]
struct Headers {
    #[prost(message, optional, tag = "1")]
    headers: Option<Fields>,
    #[prost(bool, tag = "3")]
    end_of_stream: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<Field>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(bytes = "vec", tag = "3")]
    raw_value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(bytes = "vec", tag = "1")]
    body: Vec<u8>,
    #[prost(bool, tag = "2")]
    end_of_stream: bool,
}

#[derive(Clone, PartialEq, Message)]
struct FromPicker {
    #[prost(oneof = "Told", tags = "1, 2, 3, 7")]
    part: Option<Told>,
    #[prost(message, optional, tag = "8")]
    metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Told {
    #[prost(message, tag = "1")]
    RequestHeaders(Reply),
    #[prost(message, tag = "2")]
    ResponseHeaders(Reply),
    #[prost(message, tag = "3")]
    RequestBody(Reply),
    #[prost(message, tag = "7")]
    Immediate(Immediate),
}

#[derive(Clone, PartialEq, Message)]
struct Reply {
    #[prost(message, optional, tag = "1")]
    response: Option<Common>,
}

impl Reply {
    fn of(mutation: Mutation) -> Self {
        Self { response: Some(Common { mutation: Some(mutation), body: None }) }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Common {
    #[prost(message, optional, tag = "2")]
    mutation: Option<Mutation>,
    #[prost(message, optional, tag = "3")]
    body: Option<BodyMutation>,
}

#[derive(Clone, PartialEq, Message)]
struct Mutation {
    #[prost(message, repeated, tag = "1")]
    set: Vec<HeaderOption>,
    #[prost(string, repeated, tag = "2")]
    remove: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    header: Option<Field>,
}

#[derive(Clone, PartialEq, Message)]
struct BodyMutation {
    #[prost(message, optional, tag = "3")]
    streamed: Option<Piece>,
}

#[derive(Clone, PartialEq, Message)]
struct Immediate {
    #[prost(message, optional, tag = "1")]
    status: Option<HttpStatus>,
    #[prost(message, optional, tag = "2")]
    headers: Option<Mutation>,
    #[prost(bytes = "vec", tag = "3")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}
