//! A proxy that passes one command at a time, so that a test can act between any two: what is a race elsewhere happens
//! here for certain.
//!
//! Each command waits for its reply before the next one goes on, on every connection by itself. The replies come in
//! order, so a client that sends many at once notices nothing but the time. A connection that says PSYNC passes freely.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Conn, int, text};
use crate::server::TestServer;

/// What is done after each command, once the server has answered it and before its client reads that.
type Hook = dyn FnMut(&[Vec<u8>]) + Send;

/// A gate in front of a server. It lives as long as the test's process does.
pub struct Gate {
    port: u16,
}

impl Gate {
    /// Listens on a free port; `hook` is called with each command and its arguments, after its reply.
    pub fn start(server: &TestServer, hook: impl FnMut(&[Vec<u8>]) + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (port, server) = (listener.local_addr()?.port(), server.port());
        let hook: Arc<Mutex<Hook>> = Arc::new(Mutex::new(hook));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let hook = hook.clone();
                std::thread::spawn(move || drop(pass(&client, server, &hook)));
            }
        });
        Ok(Self { port })
    }

    /// `redis://…`, the server behind it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// Kills the connections that have sent this command last, and says how many there were.
pub fn kill_who_sent(conn: &mut Conn, command: &[u8]) -> Result<u64> {
    let name = String::from_utf8_lossy(command).to_lowercase();
    let is_it = |line: &&str| line.split_once(" cmd=").is_some_and(|(_, last)| last.starts_with(&*name));
    let list = text(&conn.words("CLIENT LIST TYPE normal")?);
    let ids = list.lines().filter(is_it).filter_map(|line| line.strip_prefix("id=")?.split(' ').next());
    ids.map(|id| Ok(int(&conn.call(&["CLIENT", "KILL", "ID", id])?).unwrap_or(0).unsigned_abs())).sum()
}

fn pass(client: &TcpStream, server: u16, hook: &Mutex<Hook>) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut commands, mut replies) = (BufReader::new(client), BufReader::new(&server));
    let (mut to_client, mut to_server) = (client, &server);
    loop {
        let mut raw = Vec::new();
        let Some(command) = read_command(&mut commands, &mut raw)? else { break };
        to_server.write_all(&raw)?;
        if command.first().is_some_and(|name| name.eq_ignore_ascii_case(b"PSYNC")) {
            return pass_freely(client, commands.buffer(), &server);
        }
        let mut reply = Vec::new();
        read_reply(&mut replies, &mut reply)?;
        hook.lock().expect("no hook panics")(&command);
        to_client.write_all(&reply)?;
    }
    let _ = server.shutdown(Shutdown::Both);
    Ok(())
}

/// Nothing has been read from the server yet but whole replies.
fn pass_freely(client: &TcpStream, ahead: &[u8], server: &TcpStream) -> Result<()> {
    let (mut client, mut server) = (client, server);
    server.write_all(ahead)?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = std::io::copy(&mut client, &mut server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// A command's words; `None` at the end. Inline commands are not for clients like ours.
fn read_command(from: &mut impl BufRead, raw: &mut Vec<u8>) -> Result<Option<Vec<Vec<u8>>>> {
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let (kind, count) = head(from, raw)?;
    ensure!(kind == b'*', "not a command");
    let mut words = Vec::new();
    for _ in 0..count {
        let (kind, len) = head(from, raw)?;
        ensure!(kind == b'$', "not a command's word");
        let begun = raw.len();
        from.take(len as u64 + 2).read_to_end(raw)?;
        ensure!(raw.len() - begun == len as usize + 2, "closed within a command");
        words.push(raw[begun..raw.len() - 2].to_vec());
    }
    Ok(Some(words))
}

fn read_reply(from: &mut impl BufRead, raw: &mut Vec<u8>) -> Result<()> {
    let begun = raw.len();
    let (kind, len) = match from.fill_buf()?.first() {
        Some(b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(') => {
            from.read_until(b'\n', raw)?;
            return Ok(());
        }
        Some(_) => head(from, raw)?,
        None => bail!("the server closed the connection"),
    };
    match kind {
        b'$' | b'=' | b'!' => {
            let body = if len < 0 { 0 } else { len as u64 + 2 };
            let copied = from.take(body).read_to_end(raw)?;
            ensure!(copied as u64 == body, "closed within a reply");
        }
        b'*' | b'~' | b'>' => (0..len).try_for_each(|_| read_reply(from, raw))?,
        b'%' => (0..2 * len).try_for_each(|_| read_reply(from, raw))?,
        _ => bail!("no reply begins so: {}", raw[begun..].escape_ascii()),
    }
    Ok(())
}

/// A line of a type and a number.
fn head(from: &mut impl BufRead, raw: &mut Vec<u8>) -> Result<(u8, i64)> {
    let begun = raw.len();
    from.read_until(b'\n', raw)?;
    let line = raw[begun..].strip_suffix(b"\r\n").context("a line without an end")?;
    let (kind, number) = line.split_first().context("an empty line")?;
    Ok((*kind, std::str::from_utf8(number)?.parse()?))
}
