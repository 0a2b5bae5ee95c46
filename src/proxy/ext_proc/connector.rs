//! Owns the connection to an endpoint picker: one HTTP/2 connection each, made when it is first needed and made anew
//! when it is lost.

use crate::policy::{ExternalPicker, PickerTls, PickerTrust};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Error};

/// Until a connection is established, TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a connection is asked whether it still lives, and how long it may stay silent then.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection is read and written through.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Makes the channel to a picker, which connects when it is first used.
pub(super) fn channel(picker: &ExternalPicker) -> Result<Channel, Error> {
    let host = if picker.host.contains(':') { format!("[{}]", picker.host) } else { picker.host.clone() };
    let authority = format!("{host}:{}", picker.port);
    let mut endpoint = Endpoint::from_shared(format!("http://{authority}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let tls = picker.tls.as_ref();
    if tls.is_some()
        && let Ok(origin) = Uri::try_from(format!("https://{authority}"))
    {
        endpoint = endpoint.origin(origin);
    }
    let address = Arc::new((picker.host.clone(), picker.port));
    let tls = tls.map(|tls| Arc::new(TlsSettings::new(tls)));
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let (address, tls) = (Arc::clone(&address), tls.clone());
        async move { connect(&address.0, address.1, tls.as_deref()).await.map(TokioIo::new) }
    })))
}

async fn connect(host: &str, port: u16, tls: Option<&TlsSettings>) -> io::Result<Box<dyn Socket>> {
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(socket)) };
    let server_name = ServerName::try_from(tls.server_name.clone()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::clone(&tls.config)).connect(server_name, socket).await?))
}

/// TLS as all connections to one picker have it.
struct TlsSettings {
    server_name: String,
    config: Arc<ClientConfig>,
}

impl TlsSettings {
    fn new(tls: &PickerTls) -> Self {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions");
        let mut config = match &tls.trust {
            PickerTrust::Anything => config.dangerous().with_custom_certificate_verifier(Arc::new(
                AnyCertificate(provider.signature_verification_algorithms),
            )),
            PickerTrust::System => config.with_root_certificates(system_roots()),
            PickerTrust::Authorities(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
                config.with_root_certificates(roots)
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { server_name: tls.server_name.clone(), config: Arc::new(config) }
    }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Takes any certificate, as `insecure_skip_verify` says; that its holder has its key is still checked.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
