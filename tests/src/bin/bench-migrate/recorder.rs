//! A proxy that remembers what clients send to a server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};

use anyhow::{Context, Result, anyhow};

/// Bytes passed on at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What clients sent: of each connection, in the order of their opening.
pub type Recording = Vec<Vec<u8>>;

/// A proxy in front of a server.
pub struct Recorder {
    port: u16,
    over: Arc<AtomicBool>,
    connections: JoinHandle<io::Result<Recording>>,
}

impl Recorder {
    /// Starts one in front of the server on that port of 127.0.0.1.
    pub fn start(server: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let connections = spawn(move || {
            let mut passing = Vec::new();
            loop {
                let (client, _) = listener.accept()?;
                if seen.load(Ordering::SeqCst) {
                    let ended = passing.into_iter().map(|passing: JoinHandle<_>| passing.join());
                    return ended
                        .map(|sent| sent.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
                        .collect();
                }
                let server = TcpStream::connect(("127.0.0.1", server))?;
                passing.push(spawn(move || pass_on(client, server)));
            }
        });
        Ok(Self { port, over, connections })
    }

    /// Where clients find the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What they sent; all of them must have left.
    pub fn finish(self) -> Result<Recording> {
        self.over.store(true, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", self.port))?;
        let recording = self.connections.join().map_err(|_| anyhow!("the recording thread panicked"))?;
        recording.context("recording what was sent to the target")
    }
}

/// Passes bytes on in both directions until the client leaves, and returns what it sent.
fn pass_on(mut client: TcpStream, mut server: TcpStream) -> io::Result<Vec<u8>> {
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
    }
    let (mut replies, mut back) = (server.try_clone()?, client.try_clone()?);
    let replying = spawn(move || io::copy(&mut replies, &mut back));
    let (mut sent, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        // Whoever leaves in the middle of something ends like one who says goodbye: what was sent counts.
        let len = client.read(&mut piece).unwrap_or(0);
        if len == 0 {
            break;
        }
        sent.extend_from_slice(&piece[..len]);
        server.write_all(&piece[..len])?;
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = replying.join();
    Ok(sent)
}
