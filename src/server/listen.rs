//! Owns the listening sockets and their certificates.
//!
//! Knows nothing of what they serve.

use super::ServeError;
use crate::control::{Contents, FileWatch};
use crate::policy::ListenerTls;
use crate::snapshot::Live;
use async_trait::async_trait;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::listeners::{ListenerConfig, TcpSocketOptions, TlsAccept};
use pingora::protocols::ALPN;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::protocols::tls::TlsRef;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use socket2::{Domain, Protocol, Socket, Type};
use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// An address to listen on; port 0 has become a real one, held until the server listens.
pub(super) struct ReservedAddress {
    address: SocketAddr,
    /// Bound but not listening: it keeps the port ours without taking a connection.
    reservation: Option<Socket>,
}

impl ReservedAddress {
    pub(super) fn new(wanted: SocketAddr) -> std::io::Result<Self> {
        if wanted.port() != 0 {
            return Ok(Self { address: wanted, reservation: None });
        }
        let socket = reusable(wanted)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(wanted);
        Ok(Self { address, reservation: Some(socket) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Configures the listener; its TLS, if it has any, is shaken once a connection has its place.
    pub(super) fn config(&self, is_tls: bool) -> ListenerConfig {
        let buffers = L4BufferSettings::default();
        // Bodies are read into a buffer of their own: another before it would be one more copy, and 64 KiB a client.
        let buffers = if is_tls { buffers } else { buffers.read(0) };
        ListenerConfig::tcp(self.address.to_string()).tcp_socket_options(self.options()).l4_buffer(buffers)
    }

    fn options(&self) -> TcpSocketOptions {
        let mut options = TcpSocketOptions::default();
        options.so_reuseport = self.reservation.is_some().then_some(true);
        options
    }
}

/// Listens on a socket from [`reusable`]; it must be called on a runtime.
pub(super) fn listen(socket: Socket) -> std::io::Result<tokio::net::TcpListener> {
    const BACKLOG: i32 = 128;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket.into())
}

/// Fails where another process listens already: with `SO_REUSEPORT` both would get connections, and without it Pingora
/// would retry for ever.
pub(super) fn ensure_free(address: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// Binds an address that a successor can bind too while it takes over; no connection arrives before it listens.
pub(super) fn reusable(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Waits until the listeners take connections, for a bounded time.
pub(super) async fn until_reachable(addresses: &[SocketAddr]) {
    const STEP: Duration = Duration::from_millis(5);
    const TIMEOUT: Duration = Duration::from_secs(10);
    for &address in addresses {
        let ip = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            ip if ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
            _ => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        let reach = async {
            while tokio::net::TcpStream::connect((ip, address.port())).await.is_err() {
                tokio::time::sleep(STEP).await;
            }
        };
        if tokio::time::timeout(TIMEOUT, reach).await.is_err() {
            tracing::warn!(%address, "the listener does not take connections yet");
        }
    }
}

/// A listener's certificate, which may be replaced on disk at any time.
pub(super) struct ListenerCertificate {
    files: ListenerTls,
    current: RwLock<Arc<CertifiedKey>>,
    /// What the Gateways of the port that clients know have for the name that a client asks for; it comes first.
    live: Arc<Live>,
    port: u16,
}

impl fmt::Debug for ListenerCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ListenerCertificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ListenerCertificate {
    pub(super) fn load(files: &ListenerTls, port: u16, live: Arc<Live>) -> Result<Arc<Self>, ServeError> {
        let current = RwLock::new(Arc::new(read(files)?));
        Ok(Arc::new(Self { files: files.clone(), current, live, port }))
    }

    /// Makes what shakes hands with the certificate in force.
    pub(super) fn acceptor(self: &Arc<Self>) -> Result<Acceptor, ServeError> {
        let mut settings = TlsSettings::with_callbacks(Box::new(NoteServerName)).map_err(|error| {
            ServeError::Certificate { file: self.files.cert_file.clone(), reason: error.to_string() }
        })?;
        settings.set_alpn(ALPN::H2H1);
        settings.set_cert_resolver(Arc::<Self>::clone(self));
        Ok(settings.build())
    }

    /// Reloads the files whenever they change, for ever.
    pub(super) async fn follow(self: Arc<Self>) {
        let files: Vec<PathBuf> = vec![self.files.cert_file.clone(), self.files.key_file.clone()];
        let watch = FileWatch::new(&files);
        let mut known = Contents::of(&files);
        loop {
            watch.changed().await;
            let now = Contents::of(&files);
            if now == known {
                continue;
            }
            known = now;
            match read(&self.files) {
                Ok(fresh) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                    tracing::info!(file = %self.files.cert_file.display(), "certificate reloaded");
                }
                Err(error) => tracing::error!(%error, "certificate refused; the one in force stays"),
            }
        }
    }
}

/// The name that a client asked for when it shook hands, as the connection's digest carries it.
pub(super) struct ServerName(pub(super) String);

/// Notes the name once hands are shaken.
struct NoteServerName;

#[async_trait]
impl TlsAccept for NoteServerName {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::new(ServerName(tls.server_name()?.to_owned())))
    }
}

impl ResolvesServerCert for ListenerCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let live = self.live.load();
        let of_gateway = live
            .layers
            .routed()
            .and_then(|routed| routed.traffic.certificates.find(self.port, hello.server_name()));
        if let Some(certificate) = of_gateway {
            return Some(Arc::clone(certificate.certified()));
        }
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(files: &ListenerTls) -> Result<CertifiedKey, ServeError> {
    let wrong = |reason: String| ServeError::Certificate { file: files.cert_file.clone(), reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.cert_file)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(error.to_string()));
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(|error| wrong(error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain?, key, &provider).map_err(|error| wrong(error.to_string()))
}
