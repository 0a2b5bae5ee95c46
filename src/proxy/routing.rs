//! Owns where the routes of a cluster send a request: which rule it follows, or how it ends by that.
//!
//! Refuses to know where routes come from; which rule matches is the table's.

use super::exchange::Exchange;
use super::{Gateway, client_connection, cors};
use crate::http_route::{CorsRequest, Redirect, RouteQuery, RouteRule};
use crate::openai::Rejection;
use crate::route::{FollowedRule, PlainRequest, Plan, RouteEnd, follow_plainly, follow_routes};
use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A port as clients know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicPort {
    /// Its number.
    pub number: u16,
    /// Whether it has TLS.
    pub is_tls: bool,
}

/// The listeners, by the ports that the process itself listens on.
pub type PublicPorts = BTreeMap<u16, PublicPort>;

impl Gateway {
    /// Lets the routes of a cluster say where requests go that come to these ports.
    #[must_use]
    pub fn with_ports(self, ports: Option<PublicPorts>) -> Self {
        Self { ports: ports.map(Arc::new), ..self }
    }
}

/// The host that a client asks for, with its port if it names one.
pub(super) fn client_host(header: &RequestHeader) -> &str {
    let host = header.headers.get(HOST).and_then(|host| host.to_str().ok());
    header.uri.authority().map(http::uri::Authority::as_str).or(host).unwrap_or_default()
}

/// The host that a request asks for which is no session's any more.
pub(super) fn asked_host(parts: &Parts) -> Option<String> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    parts.uri.authority().map(http::uri::Authority::as_str).or(host).map(str::to_owned)
}

/// Where a client is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RedirectAnswer {
    pub(super) status: StatusCode,
    pub(super) location: String,
}

/// How a request ends whose route leads to no backend.
pub(super) enum RouteStop {
    Reject(Rejection),
    Redirect(RedirectAnswer),
}

/// Turns a plan to the backends of the routes that the request follows, where those are followed.
pub(super) fn follow(
    ports: Option<&PublicPorts>,
    session: &Session,
    exchange: &Exchange,
    plan: &mut Plan,
) -> Result<(), RouteStop> {
    let Some(routed) = exchange.live.layers.routed() else { return Ok(()) };
    let (header, port) = (session.req_header(), public_port(ports, session)?);
    let query = query(header, port);
    let followed = follow_routes(&exchange.live.policy, routed, plan, query, rand::random());
    followed.map_err(|end| stop(end, header, port))
}

/// Finds the backends of a request that is of no inference API.
pub(super) fn follow_plain(
    ports: Option<&PublicPorts>,
    session: &Session,
    exchange: &Exchange,
    has_body: bool,
) -> Result<Vec<Arc<FollowedRule>>, RouteStop> {
    let routed = exchange.live.layers.routed().ok_or(RouteStop::Reject(Rejection::NoRoute))?;
    let (header, port) = (session.req_header(), public_port(ports, session)?);
    let request = PlainRequest { query: query(header, port), has_body };
    let followed = follow_plainly(&exchange.live.policy, routed, request, rand::random());
    followed.map_err(|end| stop(end, header, port))
}

/// The port that a client knows the one by which it came; no route is there for another.
fn public_port(ports: Option<&PublicPorts>, session: &Session) -> Result<PublicPort, RouteStop> {
    let local = session.as_downstream().server_addr().and_then(|local| local.as_inet()).map(SocketAddr::port);
    local.and_then(|local| ports?.get(&local).copied()).ok_or(RouteStop::Reject(Rejection::NoRoute))
}

/// Refuses a request whose connection was made for another listener than the one that has its host.
pub(super) fn check_listener(
    ports: Option<&PublicPorts>,
    session: &Session,
    exchange: &Exchange,
) -> Result<(), Rejection> {
    let Some(routed) = exchange.live.layers.routed() else { return Ok(()) };
    let name = client_connection::of(session).and_then(|connection| connection.server_name());
    let (Some(name), Ok(port)) = (name, public_port(ports, session)) else { return Ok(()) };
    let host = client_host(session.req_header());
    if routed.traffic.table.is_misdirected(port.number, name, host) {
        return Err(Rejection::Misdirected);
    }
    Ok(())
}

/// What the browser of a page is told of what that may, where the rule of its request says so; with whether it only asks.
pub(super) fn cors_answer(
    ports: Option<&PublicPorts>,
    session: &Session,
    exchange: &Exchange,
) -> Option<CorsAnswer> {
    let routed = exchange.live.layers.routed()?;
    let header = session.req_header();
    let text = |name| header.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let origin = text(ORIGIN)?;
    let is_preflight = cors::is_preflight(header);
    let asked = text(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| is_preflight);
    // What matters is the request that is to follow.
    let method = asked.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let query = query(header, public_port(ports, session).ok()?);
    let query = RouteQuery { method: method.as_ref().unwrap_or(query.method), ..query };
    let rule = routed.traffic.table.cors(&query)?;
    let headers = text(ACCESS_CONTROL_REQUEST_HEADERS);
    Some(CorsAnswer { headers: rule.answer(CorsRequest { origin, method: asked, headers }), is_preflight })
}

/// What a browser is told.
pub(super) struct CorsAnswer {
    pub(super) headers: Vec<(&'static str, String)>,
    /// Whether it only asks.
    pub(super) is_preflight: bool,
}

fn query(header: &RequestHeader, port: PublicPort) -> RouteQuery<'_> {
    RouteQuery {
        port: port.number,
        host: client_host(header),
        method: &header.method,
        path: header.uri.path(),
        query: header.uri.query(),
        headers: &header.headers,
        model: None,
    }
}

fn stop(end: RouteEnd, header: &RequestHeader, port: PublicPort) -> RouteStop {
    RouteStop::Reject(match end {
        RouteEnd::NoRoute => Rejection::NoRoute,
        RouteEnd::InvalidBackend => Rejection::InvalidBackend,
        RouteEnd::Unchecked => Rejection::UncheckedRequest,
        RouteEnd::Redirected { rule, prefix } => return redirect(&rule, prefix.as_deref(), header, port),
    })
}

fn redirect(rule: &RouteRule, prefix: Option<&str>, header: &RequestHeader, port: PublicPort) -> RouteStop {
    let Some(redirect) = &rule.filters.redirect else { return RouteStop::Reject(Rejection::NoRoute) };
    let location = location(redirect, prefix, header, port);
    let status = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
    RouteStop::Redirect(RedirectAnswer { status, location })
}

/// Where a redirect leads: what it does not say is the request's own.
fn location(redirect: &Redirect, prefix: Option<&str>, header: &RequestHeader, port: PublicPort) -> String {
    let own = if port.is_tls { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(own);
    let asked = client_host(header);
    let is_port = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let bare = asked.rsplit_once(':').filter(|(_, rest)| is_port(rest)).map_or(asked, |(host, _)| host);
    let host = redirect.host.as_deref().unwrap_or(bare);
    let usual = if scheme == "https" { 443 } else { 80 };
    // A scheme has its usual port; without one the listener's stays.
    let number = redirect.port.unwrap_or(if redirect.scheme.is_some() { usual } else { port.number });
    let number = if number == usual { String::new() } else { format!(":{number}") };
    let path = match &redirect.path {
        Some(rewrite) => rewrite.apply(header.uri.path(), prefix),
        None => header.uri.path().to_owned(),
    };
    let query = header.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{host}{number}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_route::PathRewrite;

    fn request(target: &str, host: &str) -> RequestHeader {
        let mut header = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        header.insert_header(HOST, host).unwrap();
        header
    }

    #[test]
    fn a_redirect_keeps_of_the_request_what_it_does_not_say() {
        let header = request("/a/b?q=1", "Example.com:8080");
        let (clear, tls) =
            (PublicPort { number: 80, is_tls: false }, PublicPort { number: 8443, is_tls: true });
        let to = |redirect: Redirect, port| location(&redirect, Some("/a"), &header, port);
        assert_eq!(to(Redirect::default(), clear), "http://Example.com/a/b?q=1");
        assert_eq!(to(Redirect::default(), tls), "https://Example.com:8443/a/b?q=1");
        let https = Redirect { scheme: Some("https".to_owned()), ..Redirect::default() };
        assert_eq!(to(https.clone(), clear), "https://Example.com/a/b?q=1");
        assert_eq!(to(Redirect { port: Some(8443), ..https }, clear), "https://Example.com:8443/a/b?q=1");
        let elsewhere = Redirect {
            host: Some("other.org".to_owned()),
            path: Some(PathRewrite::Prefix("/x".to_owned())),
            ..Redirect::default()
        };
        assert_eq!(to(elsewhere, clear), "http://other.org/x/b?q=1");
    }
}
