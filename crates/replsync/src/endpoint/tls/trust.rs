//! Whose certificates are taken.

use std::sync::Arc;

use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::error::is_of_ca;
use super::{ClientConfig, CryptoProvider, DEFAULT_VERSIONS, Tls, TlsError, identity};

impl Tls {
    /// The part of a connection's settings that says whom we trust.
    pub(super) fn builder(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(DEFAULT_VERSIONS).map_err(TlsError::other)?;
        let Some(path) = &self.ca_file else {
            if self.any_name {
                return Err(TlsError::AnyNameOfAnyCa);
            }
            return Ok(builder.with_root_certificates(system_roots()?));
        };
        let given = identity::certificates(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in &given {
            roots.add(certificate.clone()).map_err(|error| TlsError::Pem {
                path: path.clone(),
                what: "certificate",
                reason: error.to_string(),
            })?;
        }
        let standard = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let standard = standard.build().map_err(TlsError::other)?;
        let verifier = Arc::new(Verifier { standard, given, any_name: self.any_name });
        // "Dangerous" since a verifier may take anything. This one asks the standard one first.
        Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
    }
}

/// What the system trusts: SSL_CERT_FILE and SSL_CERT_DIR, or the distribution's folder.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "some of the system's CA certificates cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

/// The standard verifier with the CAs of a file, and two certificates more that it would not take.
#[derive(Debug)]
struct Verifier {
    standard: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.standard.verify_server_cert(end_entity, intermediates, name, ocsp_response, now) {
            // The chain is checked before the name.
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if self.any_name =>
            {
                Ok(ServerCertVerified::assertion())
            }
            // A certificate that signed itself mostly says that it is a CA's, and those are taken for no server's. Its
            // dates are checked before that (webpki, check_issuer_independent_properties).
            Err(Error::InvalidCertificate(wrong)) if is_of_ca(&wrong) && self.given.contains(end_entity) => {
                if !self.any_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.standard.supported_verify_schemes()
    }
}
