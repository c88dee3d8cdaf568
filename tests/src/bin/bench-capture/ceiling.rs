//! The rate to be held against: how fast a server answers pipelined PEXPIRETIME and DUMP on one connection, to a
//! client that throws the replies away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use replsync_tests::client::{Batch, array, bytes};
use replsync_tests::server::TestServer;

/// Keys asked for at once.
const KEYS_PER_BATCH: usize = 200;
/// Batches sent and not yet answered: the server never waits for us, and its reply buffer stays small.
const BATCHES_IN_FLIGHT: usize = 4;

/// All names by database, read before anything is timed.
pub type Names = Vec<(u32, Vec<Vec<u8>>)>;

/// The names of all keys.
pub fn names(server: &TestServer) -> Result<Names> {
    let mut conn = server.client(0);
    let mut all = Vec::new();
    for db in conn.databases()? {
        conn.select(db)?;
        let (mut names, mut cursor) = (Vec::new(), b"0".to_vec());
        loop {
            let mut reply = array(conn.call(&[&b"SCAN"[..], &cursor, b"COUNT", b"5000"])?);
            names.extend(array(reply.pop().context("SCAN's reply is short")?).into_iter().map(bytes));
            cursor = bytes(reply.pop().context("SCAN's reply is short")?);
            if cursor == b"0" {
                break;
            }
        }
        names.sort();
        names.dedup();
        all.push((db, names));
    }
    Ok(all)
}

/// Asks for the expiry (where the server knows PEXPIRETIME, PTTL elsewhere) and the DUMP of each; returns the seconds
/// that it took.
pub fn dump_all(server: &TestServer, names: &Names) -> Result<f64> {
    let expiry: &[u8] = if server.version().is_7_0() { b"PEXPIRETIME" } else { b"PTTL" };
    let mut socket = TcpStream::connect(("127.0.0.1", server.port()))?;
    socket.set_nodelay(true)?;
    let mut replies = BufReader::with_capacity(1 << 18, socket.try_clone()?);
    let (sent, batches) = sync_channel::<usize>(BATCHES_IN_FLIGHT);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || -> Result<()> {
            let mut line = Vec::new();
            for count in batches {
                for _ in 0..count {
                    skip_reply(&mut replies, &mut line)?;
                }
            }
            Ok(())
        });
        for (db, names) in names {
            let mut batch = Batch::default();
            batch.add(&["SELECT", &db.to_string()]);
            for names in names.chunks(KEYS_PER_BATCH) {
                for name in names {
                    batch.add(&[expiry, name]);
                    batch.add(&[&b"DUMP"[..], name]);
                }
                let batch = std::mem::take(&mut batch);
                socket.write_all(batch.packed())?;
                if sent.send(batch.len()).is_err() {
                    break;
                }
            }
        }
        drop(sent);
        reading.join().expect("reading does not panic")
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Reads one integer, status or bulk reply and forgets it.
fn skip_reply(replies: &mut BufReader<TcpStream>, line: &mut Vec<u8>) -> Result<()> {
    line.clear();
    ensure!(replies.read_until(b'\n', line)? > 2, "the server closed the connection");
    match line[0] {
        b':' | b'+' => Ok(()),
        b'$' => {
            let len: i64 = std::str::from_utf8(&line[1..line.len() - 2])?.parse()?;
            let len = if len < 0 { 0 } else { len as u64 + 2 };
            let skipped = std::io::copy(&mut replies.take(len), &mut std::io::sink())?;
            ensure!(skipped == len, "the server closed the connection");
            Ok(())
        }
        _ => bail!("the server said {}", String::from_utf8_lossy(line).trim_end()),
    }
}
