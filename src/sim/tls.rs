//! Certificates made at start: an authority of its own, and server configurations that it vouches for.
//! It refuses to know who listens with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority that lives as long as the process.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority with a fresh key and this common name.
    ///
    /// # Panics
    ///
    /// When the system gives no randomness.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("the system gives randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a fresh key signs");
        Self { issuer }
    }

    /// The authority's own certificate, for those who are to trust it.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for DNS names and IP addresses, and its key, both PEM.
    ///
    /// # Panics
    ///
    /// When a name is not ASCII.
    pub fn cert_pem(&self, names: &[&str]) -> (String, String) {
        let (certificate, key) = self.certificate(names);
        (certificate.pem(), key.serialize_pem())
    }

    /// A server's TLS configuration with a certificate for these names, offering h2 and HTTP/1.1.
    ///
    /// # Panics
    ///
    /// When a name is not ASCII.
    pub fn server_config(&self, names: &[&str]) -> Arc<ServerConfig> {
        let (certificate, key) = self.certificate(names);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        server_config(vec![certificate.der().clone()], key).expect("a fresh certificate fits its key")
    }

    fn certificate(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("server names are ASCII");
        params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("the system gives randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        (certificate, key)
    }
}

/// Why a certificate or key cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: pem::Error,
    },
    /// The certificate and the key do not go together.
    #[error("the certificate and the key cannot be served: {0}")]
    Unusable(#[from] rustls::Error),
}

/// A TLS configuration from a PEM certificate chain and its PEM key.
pub fn server_config_of_files(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let bad = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let certificates =
        CertificateDer::pem_file_iter(chain).and_then(Iterator::collect).map_err(bad(chain))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(bad(key))?;
    Ok(server_config(certificates, key)?)
}

/// A TLS configuration that offers h2 and HTTP/1.1 under the given certificate chain.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
