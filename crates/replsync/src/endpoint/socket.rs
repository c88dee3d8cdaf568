//! A connected socket: TCP, TLS or unix.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::{Address, Endpoint, Error, TlsSocket};

/// A connection to a server. What is written must be flushed: TLS may hold some of it back until then.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP, without Nagle's delay.
    Tcp(TcpStream),
    /// The same, encrypted.
    Tls(Box<TlsSocket>),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Connects to `endpoint`, for at most `limit`.
    pub async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Self, Error> {
        let started = Instant::now();
        let connecting = async {
            match &endpoint.address {
                Address::Tcp(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Ok(Self::Tcp(stream))
                }
                Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
            }
        };
        let socket = match timeout(limit, connecting).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(source)) => return Err(Error::Connect { server: endpoint.to_string(), source }),
            Err(_) => {
                let (server, what) = (endpoint.to_string(), "connecting".to_owned());
                return Err(Error::Timeout { server, what, after: limit });
            }
        };
        match (socket, &endpoint.tls, &endpoint.address) {
            (Self::Tcp(stream), Some(tls), Address::Tcp(host, _)) => {
                let encrypted = tls.connect(stream, host, limit.saturating_sub(started.elapsed())).await;
                let encrypted =
                    encrypted.map_err(|source| Error::Tls { server: endpoint.to_string(), source })?;
                Ok(Self::Tls(Box::new(encrypted)))
            }
            (socket, _, _) => Ok(socket),
        }
    }
}

macro_rules! delegate {
    ($self:ident, $method:ident, $($arg:expr),*) => {
        match $self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).$method($($arg),*),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).$method($($arg),*),
            Socket::Unix(stream) => Pin::new(stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown, cx)
    }
}
