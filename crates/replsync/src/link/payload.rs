//! The RDB's way from the socket to the thread that parses it.
//!
//! Parsing is CPU work and reads synchronously; the link's task must not wait. Between them is a bounded
//! channel: async on the link's side, [`std::io::Read`] on the parser's.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

enum Piece {
    Bytes(Bytes),
    End,
}

/// The link's side. Dropped without [`end`](Self::end), it makes the reader fail.
pub struct PayloadSender(mpsc::Sender<Piece>);

/// The parser's side.
pub struct PayloadReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

/// A channel for an RDB's bytes that holds at most `pieces` of them.
pub fn payload_channel(pieces: usize) -> (PayloadSender, PayloadReader) {
    let (sender, receiver) = mpsc::channel(pieces);
    (PayloadSender(sender), PayloadReader { pieces: receiver, current: Bytes::new(), ended: false })
}

impl PayloadSender {
    /// Passes bytes on; waits while the parser is behind. False when the parser has left.
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.0.send(Piece::Bytes(bytes)).await.is_ok()
    }

    /// Says that the payload ended where it should.
    pub async fn end(self) {
        // A parser that has left has said why.
        let _ = self.0.send(Piece::End).await;
    }
}

impl Read for PayloadReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the link broke inside the RDB",
                    ));
                }
            }
        }
        let len = self.current.len().min(buf.len());
        self.current.copy_to_slice(&mut buf[..len]);
        Ok(len)
    }
}
