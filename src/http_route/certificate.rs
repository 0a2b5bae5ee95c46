//! Owns which certificate a connection with TLS is shown, by the name that its client asks for. Refuses to know where
//! certificates come from.

use super::host::HostPattern;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A certificate with its chain and key.
#[derive(Clone)]
pub struct ServerCertificate {
    chain: Vec<u8>,
    key: Vec<u8>,
    certified: Arc<CertifiedKey>,
}

impl ServerCertificate {
    /// Reads a certificate and its key, both PEM; says what is wrong with them.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let certificates = certificates.map_err(|error| format!("the certificate is no PEM: {error}"))?;
        if certificates.is_empty() {
            return Err("the certificate is no PEM".to_owned());
        }
        let private =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key is no PEM: {error}"))?;
        let provider = rustls::crypto::ring::default_provider();
        let certified =
            CertifiedKey::from_der(certificates, private, &provider).map_err(|error| error.to_string())?;
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), certified: Arc::new(certified) })
    }

    /// What a handshake goes by.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl PartialEq for ServerCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key == other.key
    }
}

impl Eq for ServerCertificate {}

/// Shows no key.
impl fmt::Debug for ServerCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerCertificate").finish_non_exhaustive()
    }
}

/// The certificates of all ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SniCertificates {
    /// The most specific host first.
    ports: BTreeMap<u16, Vec<(HostPattern, Arc<ServerCertificate>)>>,
}

impl SniCertificates {
    /// Adds the certificate of a listener; of equals the first holds.
    pub fn add(&mut self, port: u16, host: HostPattern, certificate: Arc<ServerCertificate>) {
        let of_port = self.ports.entry(port).or_default();
        of_port.push((host, certificate));
        of_port.sort_by(|(a, _), (b, _)| a.by_precedence(b));
    }

    /// The certificate for a name, or for a client that names none.
    pub fn find(&self, port: u16, name: Option<&str>) -> Option<&Arc<ServerCertificate>> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let of_port = self.ports.get(&port)?;
        of_port.iter().find(|(host, _)| host.matches(&name)).map(|(_, certificate)| certificate)
    }
}
