//! TLS: whom we trust, what we show of ourselves, and the handshake.
//!
//! Certificates are always checked. There is no switch that leaves that out: a server whose certificate nobody signed is
//! trusted by naming that very certificate as the CA, and one whose certificate has no name by
//! [`any_name`](Tls::any_name), which is what servers' own replicas do (`tls.c`, `connTLSConnect` sets no host to check).

mod error;
mod identity;
mod stream;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, DEFAULT_VERSIONS};

pub use error::TlsError;
use identity::Shown;
pub use stream::TlsSocket;

/// How the connections to a server are encrypted, with TLS 1.2 or 1.3.
///
/// The files are read at every connection, so that a certificate that was renewed counts from the next one on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) of the CAs that are trusted, instead of those of the system. A server's own certificate is
    /// trusted when it is in here, whether or not it is a CA's.
    pub ca_file: Option<PathBuf>,
    /// The name that the server's certificate must have, where that is not the host of the URL.
    pub server_name: Option<String>,
    /// Whether the certificate may have any name, or none. Only with a [`ca_file`](Self::ca_file): among the CAs of the
    /// system, anybody can get a certificate for some name.
    pub any_name: bool,
    /// What we show to a server that wants to know who its clients are (`tls-auth-clients`, on by default).
    pub identity: Option<Identity>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate (PEM), with those between it and the CA behind it.
    pub certificate_file: PathBuf,
    /// Its private key (PEM), not encrypted.
    pub key_file: PathBuf,
}

impl Tls {
    /// Reads the files as a connection does, so that what is wrong with them is known before.
    pub fn check(&self) -> Result<(), TlsError> {
        if let Some(name) = &self.server_name {
            server_name(name)?;
        }
        self.config().map(drop)
    }

    /// The handshake over a connection to `host`, for at most `limit`.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        limit: Duration,
    ) -> Result<TlsSocket, TlsError> {
        let name = server_name(self.server_name.as_deref().unwrap_or(host))?;
        let (config, shown) = self.config()?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match timeout(limit, handshake).await {
            Ok(Ok(stream)) => Ok(TlsSocket::new(stream, shown)),
            Ok(Err(error)) => Err(TlsError::of_handshake(error, &self.trusted(), &shown)),
            Err(_) => Err(TlsError::Silent { after: limit }),
        }
    }

    fn config(&self) -> Result<(ClientConfig, Arc<Shown>), TlsError> {
        let provider = Arc::new(ring::default_provider());
        let shown = Arc::new(Shown::new(self.identity.as_ref(), &provider)?);
        let config = self.builder(provider)?.with_client_cert_resolver(shown.clone());
        Ok((config, shown))
    }

    fn trusted(&self) -> String {
        match &self.ca_file {
            Some(path) => format!("a CA in {}", path.display()),
            None => "a CA that this system trusts".to_owned(),
        }
    }
}

/// The name or address to be found in a certificate.
fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))
}
