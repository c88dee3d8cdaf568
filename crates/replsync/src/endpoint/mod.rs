//! Servers by URL: addresses, connections, and who answers there.

mod client;
mod error;
mod info;
mod socket;
mod url;

pub use client::{Client, Pipelined};
pub use error::Error;
pub use info::{Info, InfoError, Keyspace, Role};
pub use socket::Socket;
pub use url::{Address, Endpoint, UrlError};
