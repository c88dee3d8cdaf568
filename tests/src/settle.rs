//! Waiting, from outside, until what one server was told has arrived at another.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::{Batch, Conn, array, bytes, int, text};

/// The key that marks a place in the stream. It is written to database 0 and stays there.
const MARK: &str = "replsync-tests:mark";

/// How long a server may take to delete hash fields that are past their time.
const FIELDS_GO_WITHIN: Duration = Duration::from_secs(20);

/// Lets everything with a short expiry expire on the source. A key that is past its time is only deleted, and its
/// deletion sent on, when somebody looks at it or the server comes by: so every key is looked at.
pub fn expire(source: &str) -> Result<()> {
    std::thread::sleep(Duration::from_millis(400));
    let mut conn = Conn::open(source)?;
    fields_unlike_said(&mut conn)?;
    // Hash fields go when the server comes by, ten times a second, a few hashes at a time. Valkey counts those that it
    // does not show any more; with the last one the key goes.
    std::thread::sleep(Duration::from_millis(400));
    let deadline = Instant::now() + FIELDS_GO_WITHIN;
    while fields_unlike_said(&mut conn)? > 0 {
        if Instant::now() > deadline {
            bail!("hash fields that are past their time are not deleted");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Looks at every key. Returns how many hashes say that they have more fields than they show.
fn fields_unlike_said(conn: &mut Conn) -> Result<usize> {
    let mut unlike = 0;
    for db in conn.databases()? {
        conn.select(db)?;
        let mut cursor = b"0".to_vec();
        loop {
            let reply = array(conn.call(&[&b"SCAN"[..], &cursor, b"COUNT", b"2000"])?);
            let [next, names] = reply.try_into().unwrap_or_default();
            let mut batch = Batch::default();
            for name in array(names).into_iter().map(bytes) {
                // Of another type, both are errors.
                batch.add(&[&b"HLEN"[..], &name]);
                batch.add(&[&b"HKEYS"[..], &name]);
            }
            for reply in conn.send(batch)?.chunks(2) {
                let shown = array(reply[1].clone()).len() as i64;
                unlike += usize::from(int(&reply[0]).is_some_and(|said| said != shown));
            }
            cursor = bytes(next);
            if cursor == b"0" {
                break;
            }
        }
    }
    Ok(unlike)
}

/// Writes a mark to the source and waits until the target has it: all that was written before has arrived too.
/// `alive` is asked meanwhile, and its error ends the wait.
pub fn pass_mark(
    source: &str,
    target: &str,
    timeout: Duration,
    mut alive: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mark = format!("{:016x}", fastrand::u64(..));
    let (mut source, mut target) = (Conn::open(source)?, Conn::open(target)?);
    let deadline = Instant::now() + timeout;
    loop {
        // Again and again: a FLUSHDB or SWAPDB of a live writer may take it away.
        source.call(&["SET", MARK, &mark])?;
        for _ in 0..10 {
            alive()?;
            if target.call(&["GET", MARK]).is_ok_and(|value| text(&value) == mark) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if Instant::now() > deadline {
            bail!("what was written to the source did not arrive at the target within {timeout:?}");
        }
    }
}
