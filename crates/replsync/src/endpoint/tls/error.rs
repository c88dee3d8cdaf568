//! Why there is no TLS with a server, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError, OtherError};

use super::Shown;

/// No TLS with a server. The options that are named exist with `--to-` for a target, too.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of ours cannot be read.
    #[error("cannot read the {what} in {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file of ours does not hold what it should.
    #[error("no {what} can be read from {}: {reason}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Client certificate and key are of no use together.
    #[error(
        "the certificate in {} and the key in {} are of no use: {reason}",
        certificate_file.display(),
        key_file.display()
    )]
    Identity {
        /// Where the certificate is.
        certificate_file: PathBuf,
        /// Where its key is.
        key_file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system trusts nobody.
    #[error(
        "this system has no CA certificates to check the server's with: install the package ca-certificates, or name the \
         CA's by --from-tls-ca FILE"
    )]
    NoRoots,
    /// Any name of any CA's would be anybody.
    #[error("with any name allowed anybody could be the server: name its CA, too, by --from-tls-ca FILE")]
    AnyNameOfAnyCa,
    /// What stands for the host can be in no certificate.
    #[error(
        "{0:?} is no host name or address to look for in a certificate: --from-tls-server-name NAME says it"
    )]
    Name(String),
    /// Signed by nobody we trust.
    #[error(
        "its certificate was not signed by {trusted}; name the certificate of the CA that signed it by --from-tls-ca FILE"
    )]
    UnknownIssuer {
        /// Whom we trust.
        trusted: String,
    },
    /// Signed by somebody of the right name with another key: by a CA that was made anew, say.
    #[error(
        "its certificate was not signed by {trusted}, but by one of the same name with another key (was the CA made anew?); \
         name the certificate of the CA that signed it by --from-tls-ca FILE"
    )]
    NamesakeIssuer {
        /// Whom we trust.
        trusted: String,
    },
    /// It is no server's, but a CA's, as most of those are that signed themselves.
    #[error(
        "its certificate is a CA's own, or signed itself: to trust it all the same, name this very certificate by \
         --from-tls-ca FILE"
    )]
    OfCa,
    /// It is in a form that no name fits in.
    #[error(
        "its certificate is of X.509 version 1, which is not taken (openssl x509 -req makes such ones): make one of version 3, \
         by -extfile with a line subjectAltName=DNS:host"
    )]
    Version1,
    /// The server's certificate, or one that it was signed with, is too old.
    #[error(
        "its certificate, or its CA's, expired {} ago by this machine's clock: renew it (CONFIG SET tls-cert-file on the \
         server loads it again)",
        in_words(*ago)
    )]
    Expired {
        /// For how long.
        ago: Duration,
    },
    /// It is too young.
    #[error(
        "its certificate, or its CA's, is valid only {} from now by this machine's clock: is that clock right?",
        in_words(*ahead)
    )]
    NotYetValid {
        /// For how long still.
        ahead: Duration,
    },
    /// It is of another host.
    #[error(
        "its certificate is for {presented}, not for {expected}: use a name that it has, in the URL or by \
         --from-tls-server-name NAME; --from-tls-any-name looks at no name"
    )]
    WrongName {
        /// The name that was looked for.
        expected: String,
        /// Those that it has.
        presented: String,
    },
    /// It is not acceptable for another reason.
    #[error("its certificate is not acceptable: {reason}")]
    Certificate {
        /// What is wrong.
        reason: String,
    },
    /// What it answers is not TLS.
    #[error(
        "it speaks no TLS on this port: redis:// is for such a port, rediss:// for the server's tls-port"
    )]
    NotTls,
    /// It answered nothing.
    #[error(
        "no answer to the TLS handshake within {:.1} s; a server that speaks no TLS on this port stays silent like that: \
         redis:// is for such a port, rediss:// for the server's tls-port",
        after.as_secs_f32()
    )]
    Silent {
        /// How long was waited.
        after: Duration,
    },
    /// It wants to know who we are.
    #[error(
        "the server wants a client certificate (tls-auth-clients): show it one by --from-tls-cert FILE and --from-tls-key FILE"
    )]
    WantsCertificate,
    /// It does not take our certificate.
    #[error(
        "the server does not take our client certificate ({reason}): has it expired, and did a CA sign it that the server \
         knows (tls-ca-cert-file)?"
    )]
    RefusesCertificate {
        /// Its alert.
        reason: String,
    },
    /// No version or cipher in common.
    #[error(
        "no version of TLS, or no cipher, in common ({reason}): we speak TLS 1.2 and 1.3; look at the server's tls-protocols, \
         tls-ciphers and tls-ciphersuites"
    )]
    NothingInCommon {
        /// What was said of it.
        reason: String,
    },
    /// The connection ended meanwhile.
    #[error(
        "the connection broke during the TLS handshake: {0}; a server that has its maxclients closes it like that"
    )]
    Broken(io::Error),
    /// Something else.
    #[error("the TLS handshake failed: {0}")]
    Other(String),
}

impl TlsError {
    pub(super) fn other(error: impl ToString) -> Self {
        Self::Other(error.to_string())
    }

    /// What a handshake failed with, in our words.
    pub(super) fn of_handshake(error: io::Error, trusted: &str, shown: &Shown) -> Self {
        if let Some(error) = Self::of_our_certificate(&error, shown, false) {
            return error;
        }
        let Some(tls) = tls(&error) else { return Self::Broken(error) };
        match tls {
            rustls::Error::InvalidCertificate(wrong) => Self::of_their_certificate(wrong, trusted),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::AlertReceived(
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity,
            )
            | rustls::Error::PeerIncompatible(_) => Self::NothingInCommon { reason: tls.to_string() },
            error => Self::other(error),
        }
    }

    /// When it is about what we show of ourselves, or do not.
    pub(super) fn of_our_certificate(error: &io::Error, shown: &Shown, heard: bool) -> Option<Self> {
        if !shown.was_asked() {
            return None;
        }
        let reason = match tls(error) {
            Some(rustls::Error::AlertReceived(alert)) => match alert {
                AlertDescription::CertificateRequired
                | AlertDescription::HandshakeFailure
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                // … which OpenSSL says when the CA has the right name and another key.
                | AlertDescription::DecryptError => format!("{alert:?}"),
                _ => return None,
            },
            Some(_) => return None,
            // It may also just go.
            None if heard || shown.has_certificate() => return None,
            None => String::new(),
        };
        Some(match shown.has_certificate() {
            true => Self::RefusesCertificate { reason },
            false => Self::WantsCertificate,
        })
    }

    fn of_their_certificate(wrong: &CertificateError, trusted: &str) -> Self {
        let past = |from: u64, to: u64| Duration::from_secs(to.saturating_sub(from));
        match wrong {
            CertificateError::UnknownIssuer => Self::UnknownIssuer { trusted: trusted.to_owned() },
            CertificateError::BadSignature => Self::NamesakeIssuer { trusted: trusted.to_owned() },
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { ago: past(not_after.as_secs(), time.as_secs()) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { ahead: past(time.as_secs(), not_before.as_secs()) }
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                Self::WrongName { expected: expected.to_str().into_owned(), presented: names(presented) }
            }
            wrong if is_of_ca(wrong) => Self::OfCa,
            wrong if is_other(wrong, "UnsupportedCertVersion") => Self::Version1,
            wrong => Self::Certificate { reason: wrong.to_string() },
        }
    }
}

/// Whether a certificate was not taken for the only reason that it is a CA's.
pub(super) fn is_of_ca(wrong: &CertificateError) -> bool {
    is_other(wrong, "CaUsedAsEndEntity")
}

/// Whether it is that error of webpki's, which rustls passes on without naming its type.
fn is_other(wrong: &CertificateError, name: &str) -> bool {
    matches!(wrong, CertificateError::Other(OtherError(wrong)) if wrong.to_string() == name)
}

fn tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The names of a certificate, which come as `DnsName("redis.example")` and `IpAddress(192.0.2.1)`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| match name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')) {
        Some(plain) => plain.trim_matches('"').to_owned(),
        None => name.clone(),
    };
    match presented {
        [] => "no name at all".to_owned(),
        names => names.iter().map(plain).collect::<Vec<_>>().join(", "),
    }
}

fn in_words(time: Duration) -> String {
    let counted = |count: u64, unit: &str| match count {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    };
    match time.as_secs() {
        s @ 0..120 => counted(s, "second"),
        s @ 120..7_200 => counted(s / 60, "minute"),
        s @ 7_200..172_800 => counted(s / 3_600, "hour"),
        s => counted(s / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_certificate_says_is_put_in_words() {
        assert_eq!(names(&[]), "no name at all");
        let presented = ["DnsName(\"a.example\")", "IpAddress(127.0.0.1)"].map(str::to_owned);
        assert_eq!(names(&presented), "a.example, 127.0.0.1");
        let times = [1, 119, 7_199, 7_200, 172_799, 172_800].map(|s| in_words(Duration::from_secs(s)));
        assert_eq!(times, ["1 second", "119 seconds", "119 minutes", "2 hours", "47 hours", "2 days"]);
    }
}
