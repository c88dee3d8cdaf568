//! A master that speaks the protocol wrongly on purpose, and a target that answers nonsense.
//!
//! The fake master stands in front of a real server: every command goes there, and its replies come back, until PSYNC.
//! From there on the bytes are ours. So only what is to be wrong is wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::server::TestServer;

/// What a fake sends once it was asked for the stream.
#[derive(Clone)]
pub struct Script {
    bytes: Vec<u8>,
    stay: bool,
}

impl Script {
    /// `+FULLRESYNC` with the server's own replid and offset, then those bytes.
    pub fn full_resync(server: &TestServer, bytes: &[u8]) -> Result<Self> {
        let field = |name: &str| server.client(0).info_field(name);
        let replid = field("master_replid")?.unwrap_or_default();
        let offset = field("master_repl_offset")?.unwrap_or_default();
        let line = format!("+FULLRESYNC {} {}\r\n", replid.trim(), offset.trim());
        Ok(Self { bytes: [line.as_bytes(), bytes].concat(), stay: true })
    }

    /// Those bytes in the place of an answer to PSYNC.
    pub fn answer(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), stay: true }
    }

    /// Closes the connection afterwards, instead of falling silent.
    pub fn then_close(mut self) -> Self {
        self.stay = false;
        self
    }
}

/// `$<len>` and the payload, as a master sends a file.
pub fn with_length(rdb: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", rdb.len()).as_bytes(), rdb].concat()
}

/// `$EOF:<mark>`, the payload, and the mark, as a diskless master sends it.
pub fn with_mark(rdb: &[u8]) -> Vec<u8> {
    let mark = [b'm'; 40];
    [b"$EOF:", &mark[..], b"\r\n", rdb, &mark[..]].concat()
}

/// Listens on a free port and answers PSYNC by a script, all else as the server behind it. Returns its address.
pub fn master(server: &TestServer, script: Script) -> Result<String> {
    let port = server.port();
    let script = Arc::new(script);
    listen(move |client| {
        let script = script.clone();
        let _ = relay_until_psync(client, port, &script);
    })
}

/// Listens on a free port and passes everything to the server behind it, but answers commands of the name `word`
/// with those bytes. Returns its address.
pub fn target(server: &TestServer, word: &'static str, reply: Vec<u8>) -> Result<String> {
    let port = server.port();
    let reply = Arc::new(reply);
    listen(move |client| {
        let _ = relay(client, port, word.as_bytes(), |client| {
            let _ = client.write_all(&reply);
            std::thread::sleep(Duration::from_secs(20));
        });
    })
}

fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("redis://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(client));
        }
    });
    Ok(address)
}

fn relay_until_psync(client: TcpStream, port: u16, script: &Script) -> Result<()> {
    relay(client, port, b"PSYNC", |client| {
        if client.write_all(&script.bytes).is_err() {
            return;
        }
        if script.stay {
            // Acknowledgements are read and ignored until the other side has enough.
            let mut buffer = [0; 4096];
            while client.read(&mut buffer).is_ok_and(|len| len > 0) {}
        }
        let _ = client.shutdown(Shutdown::Both);
    })
}

/// Passes bytes both ways until the client says that command, in capitals here; what the client said before is answered first.
fn relay(mut client: TcpStream, port: u16, word: &[u8], at_word: impl FnOnce(&mut TcpStream)) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
    });
    let word = [b"\r\n", word, b"\r\n"].concat();
    let mut buffer = [0; 65536];
    loop {
        let len = client.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        let said = buffer[..len].to_ascii_uppercase();
        let mut ends = (0..said.len()).filter(|&at| said[at..].starts_with(&word));
        if let Some(begun) = ends.find_map(|at| begin_of_command(&said[..at])) {
            // What came before it in the same packet is answered by the server.
            server.write_all(&buffer[..begun])?;
            std::thread::sleep(Duration::from_millis(100));
            at_word(&mut client);
            break;
        }
        server.write_all(&buffer[..len])?;
    }
    let _ = server.shutdown(Shutdown::Both);
    Ok(())
}

/// Where a command begins whose name would follow `bytes`: at the end of them is `*2\r\n$5`. A word among the arguments
/// of another command is no name.
fn begin_of_command(bytes: &[u8]) -> Option<usize> {
    let begun = bytes.iter().rposition(|&byte| byte == b'*')?;
    let head = std::str::from_utf8(&bytes[begun + 1..]).ok()?;
    let (count, len) = head.split_once("\r\n$")?;
    [count, len].iter().all(|number| number.parse::<u32>().is_ok()).then_some(begun)
}
