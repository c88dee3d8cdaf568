//! One word for a server: `redis://[user[:password]@]host[:port][/db]`, `rediss://…` (over TLS) or `unix:///path`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::Tls;
use crate::psync::Credentials;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host (name or address) and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// A server, as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Who we are there.
    pub credentials: Option<Credentials>,
    /// The database that the URL names.
    pub db: Option<u32>,
    /// Set where connections are encrypted (`rediss://`).
    pub tls: Option<Tls>,
}

/// A URL that names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// A scheme that is to come.
    #[error("{0}:// is not supported yet: name one server, redis://host:port")]
    NotYet(&'static str),
    /// A scheme that nobody knows, or none.
    #[error("{0:?} does not begin with redis://, rediss:// or unix://")]
    Scheme(String),
    /// No host, or one that cannot be.
    #[error("no host in the URL: redis://[user[:password]@]host[:port][/db]")]
    Host,
    /// A port that is no number from 1 to 65535.
    #[error("{0:?} is not a port (1 to 65535)")]
    Port(String),
    /// A path behind the host that is no database number.
    #[error("{0:?} is not a database number")]
    Database(String),
    /// A password or user that is no UTF-8 once decoded.
    #[error("the user or password is not UTF-8 once %xx is decoded")]
    Credentials,
    /// `unix://` without an absolute path.
    #[error("unix:// wants an absolute path: unix:///run/redis.sock")]
    UnixPath,
}

impl Endpoint {
    /// Sets the password, keeping the URL's user.
    pub fn with_password(mut self, password: String) -> Self {
        let user = self.credentials.and_then(|credentials| credentials.user);
        self.credentials = Some(Credentials { user, password });
        self
    }

    /// Whether a password is known.
    pub fn has_password(&self) -> bool {
        self.credentials.as_ref().is_some_and(|credentials| !credentials.password.is_empty())
    }

    /// What to authenticate with: a password, or a user who may have none (`nopass`).
    pub fn login(&self) -> Option<&Credentials> {
        self.credentials.as_ref().filter(|credentials| credentials.user.is_some() || self.has_password())
    }
}

impl FromStr for Endpoint {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        // What stands before the @ may be a password: it is quoted in no error.
        let scheme_error = || UrlError::Scheme(url.rsplit('@').next().unwrap_or_default().to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(scheme_error)?;
        match scheme {
            "redis" | "valkey" => tcp(rest),
            "rediss" | "valkeys" => Ok(Endpoint { tls: Some(Tls::default()), ..tcp(rest)? }),
            "unix" => unix(rest),
            "sentinel" => Err(UrlError::NotYet("sentinel")),
            "cluster" => Err(UrlError::NotYet("cluster")),
            _ => Err(scheme_error()),
        }
    }
}

fn tcp(rest: &str) -> Result<Endpoint, UrlError> {
    let (user_info, rest) = match rest.rsplit_once('@') {
        Some((user_info, rest)) => (Some(user_info), rest),
        None => (None, rest),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or(UrlError::Host)?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':').ok_or(UrlError::Host)?)),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(UrlError::Host);
    }
    let port = match port {
        None => 6379,
        Some(text) => {
            text.parse().ok().filter(|port| *port > 0).ok_or_else(|| UrlError::Port(text.to_owned()))?
        }
    };
    let db = match path.trim_end_matches('/') {
        "" => None,
        text => Some(text.parse().map_err(|_| UrlError::Database(text.to_owned()))?),
    };
    let address = Address::Tcp(host.to_owned(), port);
    Ok(Endpoint { address, credentials: credentials(user_info)?, db, tls: None })
}

fn unix(rest: &str) -> Result<Endpoint, UrlError> {
    let (user_info, path) = match rest.split_once('@') {
        Some((user_info, path)) if !user_info.starts_with('/') => (Some(user_info), path),
        _ => (None, rest),
    };
    if !path.starts_with('/') {
        return Err(UrlError::UnixPath);
    }
    let address = Address::Unix(path.into());
    Ok(Endpoint { address, credentials: credentials(user_info)?, db: None, tls: None })
}

/// `user:password`, `:password`, or `user` alone, whose password comes from elsewhere.
fn credentials(user_info: Option<&str>) -> Result<Option<Credentials>, UrlError> {
    let Some(user_info) = user_info.filter(|text| !text.is_empty()) else { return Ok(None) };
    let decode = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(UrlError::Credentials),
    };
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    Ok(Some(Credentials { user, password: decode(password)? }))
}

/// The address alone: no user, no password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Endpoint {
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn urls_are_read() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        assert_eq!(parse("redis://legacy").address, tcp("legacy", 6379));
        assert_eq!(parse("redis://[::1]:7000/").address, tcp("::1", 7000));
        assert_eq!(parse("unix:///run/r@x.sock").address, Address::Unix("/run/r@x.sock".into()));
        let full = parse("redis://me:p%40ss:w@10.0.0.1:7001/3");
        assert_eq!((full.address.clone(), full.db), (tcp("10.0.0.1", 7001), Some(3)));
        let credentials = full.credentials.clone().unwrap();
        assert_eq!((credentials.user.as_deref(), &credentials.password[..]), (Some("me"), "p@ss:w"));
        assert_eq!((full.tls, parse("rediss://h:1").tls), (None, Some(Tls::default())));
        assert_eq!(parse("valkeys://me:x@h").address, parse("rediss://h").address);
        assert_eq!(parse("redis://:secret@h").credentials.unwrap().user, None);
        assert_eq!(
            parse("redis://me@h").with_password("x".into()).credentials.unwrap().user.as_deref(),
            Some("me")
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        let endpoint = parse("redis://me:hush@h:1");
        assert!(!format!("{endpoint} {endpoint:?}").contains("hush"));
        let error = "rediz://me:hush@h:1".parse::<Endpoint>().unwrap_err();
        assert!(!error.to_string().contains("hush"));
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for (url, error) in [
            ("legacy:6379", UrlError::Scheme("legacy:6379".into())),
            ("cluster://h:1", UrlError::NotYet("cluster")),
            ("sentinel://h:1/m", UrlError::NotYet("sentinel")),
            ("redis://", UrlError::Host),
            ("rediss://", UrlError::Host),
            ("redis://[::1", UrlError::Host),
            ("redis://h:0", UrlError::Port("0".into())),
            ("redis://h:70000", UrlError::Port("70000".into())),
            ("redis://h/x", UrlError::Database("x".into())),
            ("unix://x", UrlError::UnixPath),
        ] {
            assert_eq!(url.parse::<Endpoint>(), Err(error), "{url}");
        }
    }
}
