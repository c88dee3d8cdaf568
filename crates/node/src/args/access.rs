//! Arguments that say how to get into a server: its password, and TLS.

use std::path::{Path, PathBuf};

use replsync::endpoint::{Endpoint, Identity, Tls};

use crate::exit::Failure;

/// How to get into the source.
#[derive(Debug, clap::Args)]
pub struct FromAccess {
    /// A file that holds the source's password
    #[arg(long, value_name = "FILE")]
    pub from_password_file: Option<PathBuf>,
    /// The CA certificates (PEM) to trust instead of the system's; a server's own, too, is trusted when it is in there
    #[arg(long, value_name = "FILE", help_heading = FROM_TLS)]
    pub from_tls_ca: Option<PathBuf>,
    /// Show this client certificate (PEM), which servers want unless `tls-auth-clients` says otherwise
    #[arg(long, value_name = "FILE", requires = "from_tls_key", help_heading = FROM_TLS)]
    pub from_tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "from_tls_cert", help_heading = FROM_TLS)]
    pub from_tls_key: Option<PathBuf>,
    /// The name that the server's certificate must have, where that is not the host in the URL
    #[arg(long, value_name = "NAME", help_heading = FROM_TLS)]
    pub from_tls_server_name: Option<String>,
    /// Take a certificate whatever its name, as servers' own replicas do; it must still be signed by a CA in --from-tls-ca
    #[arg(long, requires = "from_tls_ca", conflicts_with = "from_tls_server_name", help_heading = FROM_TLS)]
    pub from_tls_any_name: bool,
}

const FROM_TLS: &str = "TLS to the source (rediss://)";

/// How to get into the target.
#[derive(Debug, clap::Args)]
pub struct ToAccess {
    /// A file that holds the target's password
    #[arg(long, value_name = "FILE")]
    pub to_password_file: Option<PathBuf>,
    /// The CA certificates (PEM) to trust instead of the system's; a server's own, too, is trusted when it is in there
    #[arg(long, value_name = "FILE", help_heading = TO_TLS)]
    pub to_tls_ca: Option<PathBuf>,
    /// Show this client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "to_tls_key", help_heading = TO_TLS)]
    pub to_tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "to_tls_cert", help_heading = TO_TLS)]
    pub to_tls_key: Option<PathBuf>,
    /// The name that the server's certificate must have, where that is not the host in the URL
    #[arg(long, value_name = "NAME", help_heading = TO_TLS)]
    pub to_tls_server_name: Option<String>,
    /// Take a certificate whatever its name; it must still be signed by a CA in --to-tls-ca
    #[arg(long, requires = "to_tls_ca", conflicts_with = "to_tls_server_name", help_heading = TO_TLS)]
    pub to_tls_any_name: bool,
}

const TO_TLS: &str = "TLS to the target (rediss://)";

impl FromAccess {
    /// The source with its password and how its connections are encrypted.
    pub fn apply(&self, from: &str) -> Result<Endpoint, Failure> {
        let tls = Tls {
            ca_file: self.from_tls_ca.clone(),
            server_name: self.from_tls_server_name.clone(),
            any_name: self.from_tls_any_name,
            identity: identity(self.from_tls_cert.as_ref(), self.from_tls_key.as_ref()),
        };
        with_tls(with_password(from, "FROM", self.from_password_file.as_deref())?, "FROM", tls)
    }
}

impl ToAccess {
    /// The target with its password and how its connections are encrypted.
    pub fn apply(&self, to: &str) -> Result<Endpoint, Failure> {
        let tls = Tls {
            ca_file: self.to_tls_ca.clone(),
            server_name: self.to_tls_server_name.clone(),
            any_name: self.to_tls_any_name,
            identity: identity(self.to_tls_cert.as_ref(), self.to_tls_key.as_ref()),
        };
        with_tls(with_password(to, "TO", self.to_password_file.as_deref())?, "TO", tls)
    }
}

fn identity(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<Identity> {
    Some(Identity { certificate_file: certificate?.clone(), key_file: key?.clone() })
}

/// What is wrong with the files is said before anything is connected.
fn with_tls(mut endpoint: Endpoint, side: &str, tls: Tls) -> Result<Endpoint, Failure> {
    match &mut endpoint.tls {
        Some(of_endpoint) => {
            tls.check().map_err(|error| Failure::usage(format!("{side}: {error}")))?;
            *of_endpoint = tls;
        }
        None if tls != Tls::default() => {
            let option = side.to_lowercase();
            return Err(Failure::usage(format!(
                "{side}: --{option}-tls-… is for a server over TLS: rediss://host:port"
            )));
        }
        None => {}
    }
    Ok(endpoint)
}

/// A file comes first, then the URL, then the environment. URL and environment are read here and not by clap, whose
/// help and errors show values.
fn with_password(url: &str, side: &str, file: Option<&Path>) -> Result<Endpoint, Failure> {
    let endpoint: Endpoint = url.parse().map_err(|error| Failure::usage(format!("{side}: {error}")))?;
    if let Some(db) = endpoint.db {
        return Err(Failure::usage(format!("{side}: all databases are moved; leave /{db} out of the URL")));
    }
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read the password file {}: {error}", path.display()))
        })?;
        let password = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(endpoint
            .clone()
            .with_password(password.strip_suffix('\r').unwrap_or(password).to_owned()));
    }
    if endpoint.has_password() {
        tracing::warn!(
            "the password in the URL of {side} can be seen with ps: REPLSYNC_{side}_PASSWORD hides it"
        );
        return Ok(endpoint);
    }
    match std::env::var(format!("REPLSYNC_{side}_PASSWORD")) {
        Ok(password) if !password.is_empty() => Ok(endpoint.with_password(password)),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(endpoint),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("REPLSYNC_{side}_PASSWORD is not UTF-8")))
        }
    }
}
