//! What we show of ourselves, and whether we were asked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{Identity, TlsError};

/// Hands out the client certificate, and remembers whether the server asked for one: what it says when it then turns us
/// away need not tell.
#[derive(Debug)]
pub(super) struct Shown {
    certificate: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl Shown {
    pub fn new(identity: Option<&Identity>, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let certificate = identity.map(|identity| read(identity, provider)).transpose()?;
        Ok(Self { certificate: certificate.map(Arc::new), asked: AtomicBool::new(false) })
    }

    /// Whether the server asked who we are.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether there was something to show.
    pub fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certificate.clone()
    }

    /// Said even without one, so that we are told when the server asks.
    fn has_certs(&self) -> bool {
        true
    }
}

fn read(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let certificates = certificates(&identity.certificate_file)?;
    let key_file = &identity.key_file;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unreadable(key_file, KEY, error))?;
    CertifiedKey::from_der(certificates, key, provider).map_err(|error| TlsError::Identity {
        certificate_file: identity.certificate_file.clone(),
        key_file: key_file.clone(),
        reason: error.to_string(),
    })
}

/// All certificates of a file, of which there must be one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| unreadable(path, "certificate", error);
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

const KEY: &str = "private key";

fn unreadable(path: &Path, what: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    let reason = match error {
        pem::Error::Io(source) => return TlsError::File { path, what, source },
        pem::Error::NoItemsFound if what == KEY => {
            "it holds none in PEM (one that is encrypted does not count: openssl pkey decrypts it)".to_owned()
        }
        pem::Error::NoItemsFound => "it holds none in PEM".to_owned(),
        error => error.to_string(),
    };
    TlsError::Pem { path, what, reason }
}
