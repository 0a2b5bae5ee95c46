//! Owns WebSockets: which are taken, where they go, and when they open. What is said over them passes unread.
//!
//! Refuses to know frames. The bytes are Pingora's to pass.

use super::deadline::Deadline;
use super::exchange::Exchange;
use super::planned_request::PlannedRequest;
use super::tunnel::Tunnel;
use super::{Gateway, client_connection};
use crate::cache::ResponseScope;
use crate::openai::{Api, ChatRequest, Rejection, query_value};
use crate::policy::Cors;
use crate::route::plan_for_websocket;
use crate::server_state::{ClientConnection, OpenWebSocket};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, ORIGIN, UPGRADE};
use http::{HeaderMap, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Instant;

/// The path of OpenAI's and vLLM's WebSocket.
const REALTIME: &str = "/v1/realtime";

/// Whether a client asks for a WebSocket.
pub(super) fn is_asked_for(header: &RequestHeader) -> bool {
    let upgrade = header.headers.get(UPGRADE);
    header.method == Method::GET
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Finds the model that a WebSocket is for, if its path has one at all: none is named where the client says it later.
pub(super) fn model_asked_for(header: &RequestHeader) -> Result<Option<String>, Rejection> {
    if header.uri.path().trim_end_matches('/') != REALTIME {
        // Said before the method is looked at: 405 would send the client to look for another one.
        return Err(Rejection::NoWebSocket);
    }
    let query = header.uri.query().unwrap_or_default();
    Ok(query_value(query, "model").filter(|model| !model.is_empty()))
}

/// Whether the page that asks may: browsers let any page open a WebSocket to any host, and leave it to the server.
pub(super) fn check_origin(headers: &HeaderMap, cors: Option<&Cors>) -> Result<(), Rejection> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own =
        |origin: &str| origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host));
    let may =
        origin.to_str().is_ok_and(|origin| is_own(origin) || cors.is_some_and(|cors| cors.allows(origin)));
    if may { Ok(()) } else { Err(Rejection::ForeignOrigin) }
}

impl Gateway {
    /// Leases an endpoint for a WebSocket.
    pub(super) fn start_websocket(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        model: Option<&str>,
    ) -> Result<Bytes, Rejection> {
        let header = session.req_header();
        let limits = self.limits.websockets;
        let live = Arc::clone(&exchange.live);
        let plan = plan_for_websocket(&live.policy, model, header.uri.path())?;
        let target = plan.targets.first().ok_or(Rejection::Internal)?;
        let request =
            ChatRequest::unread_body(Api::Realtime, Bytes::new(), target.public_model(&live.policy))?;
        exchange.answer.api = Api::Realtime;
        exchange.record_request(&request);
        exchange.record.routing.model = Some(live.policy[target.model].name.clone());
        let (connection, counted) = opened(session, exchange)?;
        let planned = PlannedRequest { api: Api::Realtime, request, plan, scope: ResponseScope::default() };
        exchange.start(planned, 0, &header.headers, Instant::now())?;
        let Some(attempts) = &exchange.attempts else { return Err(Rejection::Internal) };
        let deadline = Arc::clone(&attempts.deadline);
        deadline.limit(limits.total_timeout);
        exchange.answer.tunnel = Some(Tunnel::new(deadline, connection, limits.idle_timeout, counted));
        Ok(Bytes::new())
    }

    /// Watches over a WebSocket that goes where its route says, to a server that is no model's.
    pub(super) fn start_plain_websocket(
        &self,
        session: &Session,
        exchange: &mut Exchange,
    ) -> Result<(), Rejection> {
        let limits = self.limits.websockets;
        let (connection, counted) = opened(session, exchange)?;
        let deadline = Arc::new(Deadline::new(Instant::now()));
        deadline.limit(limits.total_timeout);
        exchange.answer.tunnel = Some(Tunnel::new(deadline, connection, limits.idle_timeout, counted));
        Ok(())
    }
}

/// The client's connection, and what counts it among the WebSockets that there may be.
fn opened(
    session: &Session,
    exchange: &Exchange,
) -> Result<(Arc<ClientConnection>, OpenWebSocket), Rejection> {
    let connection = Arc::clone(client_connection::of(session).ok_or(Rejection::NoWebSocket)?);
    let counted = exchange.active.open_websocket().map_err(|_full| Rejection::TooManyWebSockets)?;
    Ok((connection, counted))
}

/// Passes on that the upstream agrees.
pub(super) fn open(response: &mut ResponseHeader, exchange: &mut Exchange) -> pingora::Result<()> {
    response.insert_header(CONNECTION, "Upgrade")?;
    response.insert_header(UPGRADE, "websocket")?;
    if let Some(tunnel) = &mut exchange.answer.tunnel {
        tunnel.open(Instant::now());
    }
    Ok(())
}

impl Exchange {
    /// Whether a WebSocket is open: nothing in HTTP can be said to its client any more.
    pub(super) fn is_tunnel(&self) -> bool {
        self.answer.tunnel.as_ref().is_some_and(Tunnel::is_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_page_of_another_host_may_ask_only_where_the_operator_says_so() {
        let cors = Cors { origins: vec!["https://chat.example".to_owned()], max_age: Duration::from_secs(1) };
        let may = |origin: &str, cors: Option<&Cors>| {
            check_origin(&headers(&[("host", "gateway:8080"), ("origin", origin)]), cors).is_ok()
        };
        assert!(may("http://gateway:8080", None) && may("https://chat.example", Some(&cors)));
        for origin in ["https://chat.example", "null", "", "http://gateway", "http://evil.example"] {
            assert!(!may(origin, None), "{origin}");
        }
        assert!(!may("https://other.example", Some(&cors)));
        assert!(check_origin(&headers(&[("host", "gateway")]), None).is_ok());
    }
}
