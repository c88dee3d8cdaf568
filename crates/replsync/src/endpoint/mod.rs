//! Servers by URL: addresses, connections (plain or TLS), and who answers there.

mod client;
mod clock;
mod error;
mod info;
mod socket;
mod tls;
mod url;

pub use client::{Client, Pipelined};
pub use clock::Clock;
pub use error::Error;
pub use info::{Info, InfoError, Keyspace, ReplicaLine, Role};
pub use socket::Socket;
pub use tls::{Identity, Tls, TlsError, TlsSocket};
pub use url::{Address, Endpoint, UrlError};
