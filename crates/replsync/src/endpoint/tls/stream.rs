//! A TLS connection that ends as a plain one does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Shown, TlsError};

/// A connection over TLS. What is written is on its way once it is flushed.
#[derive(Debug)]
pub struct TlsSocket {
    stream: TlsStream<TcpStream>,
    shown: Arc<Shown>,
    heard: bool,
}

impl TlsSocket {
    pub(super) fn new(stream: TlsStream<TcpStream>, shown: Arc<Shown>) -> Self {
        let (_, session) = stream.get_ref();
        tracing::debug!(version = ?session.protocol_version(), cipher = ?session.negotiated_cipher_suite(), "TLS");
        Self { stream, shown, heard: false }
    }
}

impl AsyncRead for TlsSocket {
    /// In TLS 1.3 our handshake is over before the server looks at our certificate: what it thinks of it is read first.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let error = match read {
            Ok(()) if buf.filled().len() > before => {
                self.heard = true;
                return Poll::Ready(Ok(()));
            }
            Ok(()) => io::ErrorKind::UnexpectedEof.into(),
            Err(error) => error,
        };
        Poll::Ready(match TlsError::of_our_certificate(&error, &self.shown, self.heard) {
            Some(refusal) => Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal)),
            // Servers that end say no farewell (close_notify). Replies, the RDB and commands show for themselves
            // whether they are whole.
            None if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            None => Err(error),
        })
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
