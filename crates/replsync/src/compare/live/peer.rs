//! One of the two servers, asked.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::Side;
use super::error::{At, Error};
use super::expiry::{Expiry, tells_expiries};
use crate::endpoint::{self, Client, Endpoint, Info, Pipelined};
use crate::resp::Reply;

/// Names that SCAN is asked for at once.
const SCAN_COUNT: &str = "512";
/// Keys in one EXISTS.
const EXISTS_KEYS: usize = 100;
/// The most time that may go by while times to live are asked for.
const WITHIN_MS_MAX: i64 = 1_000;
/// An answer may take as long as a huge value takes to be dumped and sent.
const ANSWER: Duration = Duration::from_secs(60);

/// A server.
#[derive(Debug)]
pub(super) struct Peer {
    side: Side,
    address: String,
    client: Client,
    pub info: Info,
    db: u32,
    /// False while `db` is beyond those that the server is configured for: nothing is in it.
    db_exists: bool,
}

/// The function libraries of both servers and their code, by name.
pub(super) type Functions = [BTreeMap<Vec<u8>, Bytes>; 2];

/// A key as one server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is not there.
    Absent,
    /// It came or went between two questions, or these were too far apart to tell when it expires.
    Changing,
    /// It is there.
    Value {
        /// The answer to DUMP.
        payload: Bytes,
        /// When it expires.
        expiry: Expiry,
    },
}

/// How far SCAN has got.
pub(super) struct Scan {
    cursor: Option<Bytes>,
    named: Named,
}

impl Scan {
    pub fn new() -> Self {
        Self { cursor: Some(Bytes::from_static(b"0")), named: Named::default() }
    }
}

/// So many names are remembered.
const NAMED: usize = 1 << 16;

/// The names that came last. SCAN names a key twice where a table shrinks meanwhile: then it visits a bucket anew of
/// which it has just visited parts (`dictScan` in `src/dict.c`), so the second time is soon after the first.
#[derive(Default)]
struct Named {
    hashes: HashSet<u128>,
    in_order: VecDeque<u128>,
}

impl Named {
    /// Whether it was not named lately.
    fn is_new(&mut self, name: &[u8]) -> bool {
        let hash = xxhash_rust::xxh3::xxh3_128(name);
        if !self.hashes.insert(hash) {
            return false;
        }
        self.in_order.push_back(hash);
        if self.in_order.len() > NAMED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
        true
    }
}

impl Peer {
    pub async fn connect(side: Side, endpoint: &Endpoint, timeout: Duration) -> Result<Self, Error> {
        let mut client = Client::connect(endpoint, timeout).await?;
        let info = client.info().await?;
        if info.server.has((7, 2), None) {
            // So that looking at a key is no access to it. Who may not say so compares all the same.
            match client.ask(&["CLIENT", "NO-TOUCH", "ON"]).await {
                Ok(_) | Err(endpoint::Error::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        client.set_limit(timeout.max(ANSWER));
        Ok(Self { side, address: endpoint.to_string(), client, info, db: 0, db_exists: true })
    }

    /// Asks for INFO again: which databases there are.
    pub async fn look(&mut self) -> Result<(), Error> {
        self.info = self.client.info().await?;
        Ok(())
    }

    pub async fn select(&mut self, db: u32) -> Result<(), Error> {
        if self.db == db {
            return Ok(());
        }
        self.db_exists = match self.client.ask(&["SELECT", &db.to_string()]).await {
            Ok(_) => true,
            Err(endpoint::Error::Refused { reply, .. }) if reply.contains("out of range") => false,
            Err(error) => return Err(self.not_asked("SELECT", At::db(db), error)),
        };
        self.db = db;
        Ok(())
    }

    /// The next names of the selected database, hardly ever one again; `None` at the end.
    pub async fn scan(&mut self, scan: &mut Scan) -> Result<Option<Vec<Bytes>>, Error> {
        let Some(cursor) = scan.cursor.take().filter(|_| self.db_exists) else { return Ok(None) };
        let args: [&[u8]; 4] = [b"SCAN", &cursor, b"COUNT", SCAN_COUNT.as_bytes()];
        let reply = match self.client.ask(&args).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.not_asked("SCAN", At::db(self.db), error)),
        };
        let Some((next, mut names)) = reply.scan_page() else {
            return Err(self.client.unexpected(&args, &reply).into());
        };
        scan.cursor = Some(next).filter(|next| next != "0");
        names.retain(|name| scan.named.is_new(name));
        Ok(Some(names))
    }

    /// Those of the keys that the selected database lacks.
    pub async fn lacks(&mut self, keys: Vec<Bytes>) -> Result<Vec<Bytes>, Error> {
        if !self.db_exists {
            return Ok(keys);
        }
        // In cluster mode a command's keys must be in one slot: there each is asked for alone.
        let at_once = if self.info.is_cluster() { 1 } else { EXISTS_KEYS };
        let counts = self.exist(keys.chunks(at_once)).await?;
        let some_missing = keys.chunks(at_once).zip(counts).filter(|(keys, count)| *count < keys.len());
        let doubtful: Vec<Bytes> = some_missing.flat_map(|(keys, _)| keys.iter().cloned()).collect();
        let counts = self.exist(doubtful.chunks(1)).await?;
        Ok(doubtful.into_iter().zip(counts).filter(|(_, count)| *count == 0).map(|(key, _)| key).collect())
    }

    /// How many keys of each group there are.
    async fn exist(&mut self, groups: impl Iterator<Item = &[Bytes]>) -> Result<Vec<usize>, Error> {
        let mut asked = Pipelined::default();
        for group in groups {
            let mut args = vec![&b"EXISTS"[..]];
            args.extend(group.iter().map(|key| &key[..]));
            asked.add(&args);
        }
        let replies = self.client.pipeline("EXISTS", &asked).await?;
        let count = |reply| match reply {
            Reply::Integer(count) => Ok(usize::try_from(count).unwrap_or(0)),
            reply => Err(self.bad_reply("EXISTS", At::db(self.db), &reply)),
        };
        replies.into_iter().map(count).collect()
    }

    /// Reads keys of the selected database: for each its expiry, then its value.
    pub async fn read<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<Vec<Seen>, Error> {
        if !self.db_exists {
            return Ok(vec![Seen::Absent; keys.len()]);
        }
        let mut asked = Pipelined::default();
        if tells_expiries(&self.info) {
            for key in keys {
                asked.add(&[b"PEXPIRETIME", key.as_ref()]);
                asked.add(&[b"DUMP", key.as_ref()]);
            }
            let replies = self.client.pipeline("PEXPIRETIME and DUMP", &asked).await?;
            let pairs = keys.iter().zip(replies.chunks_exact(2));
            let seen = pairs.map(|(key, pair)| self.seen(key.as_ref(), &pair[0], (0, 0), &pair[1]));
            return seen.collect();
        }
        // A time to live counts from some moment between the two times, which are near each other: values are read
        // later.
        asked.add(&["TIME"]);
        keys.iter().for_each(|key| asked.add(&[b"PTTL", key.as_ref()]));
        asked.add(&["TIME"]);
        keys.iter().for_each(|key| asked.add(&[b"DUMP", key.as_ref()]));
        let mut replies = self.client.pipeline("PTTL and DUMP", &asked).await?.into_iter();
        let first_ms = self.time(replies.next())?;
        let ttls: Vec<Reply> = replies.by_ref().take(keys.len()).collect();
        let since_ms = (first_ms, self.time(replies.next())?);
        let each = keys.iter().zip(ttls.iter().zip(replies));
        each.map(|(key, (ttl, payload))| self.seen(key.as_ref(), ttl, since_ms, &payload)).collect()
    }

    /// A key from the answers about its expiry, which counts from a moment between two times, and to DUMP.
    fn seen(&self, key: &[u8], expiry: &Reply, since_ms: (i64, i64), dump: &Reply) -> Result<Seen, Error> {
        let at = || At::key(self.db, key);
        let command = if tells_expiries(&self.info) { "PEXPIRETIME" } else { "PTTL" };
        let Reply::Integer(expiry) = *expiry else { return Err(self.bad_reply(command, at(), expiry)) };
        let expiry_ms = (since_ms.0.saturating_add(expiry), since_ms.1.saturating_add(expiry));
        match dump {
            Reply::Nil if expiry == -2 => Ok(Seen::Absent),
            Reply::Nil => Ok(Seen::Changing),
            Reply::Bulk(_) if expiry == -2 => Ok(Seen::Changing),
            Reply::Bulk(payload) => {
                let payload = payload.clone();
                match expiry {
                    -1 => Ok(Seen::Value { payload, expiry: Expiry::Never }),
                    _ if since_ms.1.saturating_sub(since_ms.0) > WITHIN_MS_MAX => Ok(Seen::Changing),
                    _ => Ok(Seen::Value { payload, expiry: Expiry::Within(expiry_ms.0, expiry_ms.1) }),
                }
            }
            other => Err(self.bad_reply("DUMP", at(), other)),
        }
    }

    /// The answer to TIME, seconds and microseconds, in milliseconds.
    fn time(&self, reply: Option<Reply>) -> Result<i64, Error> {
        let reply = reply.unwrap_or(Reply::Nil);
        let time_ms = reply.time_us().map(|micros| micros / 1_000);
        time_ms.ok_or_else(|| self.bad_reply("TIME", At::default(), &reply))
    }

    /// Its function libraries and their code. Servers before 7.0 have none.
    pub async fn functions(&mut self) -> Result<BTreeMap<Vec<u8>, Bytes>, Error> {
        if !self.info.server.has((7, 0), None) {
            return Ok(BTreeMap::new());
        }
        let args = ["FUNCTION", "LIST", "WITHCODE"];
        let reply = match self.client.ask(&args).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.not_asked("FUNCTION LIST", At::default(), error)),
        };
        let libraries = match &reply {
            Reply::Array(libraries) => libraries.iter().map(library).collect(),
            _ => None,
        };
        libraries.ok_or_else(|| self.client.unexpected(&args, &reply).into())
    }

    fn not_asked(&self, command: &'static str, at: At, error: endpoint::Error) -> Error {
        match error {
            endpoint::Error::Refused { reply, .. } => self.refused(command, at, reply),
            error => error.into(),
        }
    }

    fn bad_reply(&self, command: &'static str, at: At, reply: &Reply) -> Error {
        match reply.error() {
            Some(reply) => self.refused(command, at, reply),
            None => self.client.unexpected(&[command], reply).into(),
        }
    }

    fn refused(&self, command: &'static str, at: At, reply: String) -> Error {
        Error::Refused { side: self.side, server: self.address.clone(), command, at, reply }
    }
}

/// A library of FUNCTION LIST: names and values in turn.
fn library(reply: &Reply) -> Option<(Vec<u8>, Bytes)> {
    let Reply::Array(parts) = reply else { return None };
    let value = |name: &str| {
        let pair = parts.chunks_exact(2).find(|pair| pair[0].text().is_some_and(|text| text == name))?;
        pair[1].bulk()
    };
    Some((value("library_name")?.to_vec(), value("library_code")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_twice_soon_is_known() {
        let mut named = Named::default();
        let name = |number: usize| number.to_string().into_bytes();
        assert!((0..NAMED).all(|number| named.is_new(&name(number))));
        assert!(!named.is_new(&name(0)) && !named.is_new(&name(NAMED - 1)));
        assert!(named.is_new(&name(NAMED)));
        assert_eq!((named.hashes.len(), named.in_order.len()), (NAMED, NAMED));
        assert!(named.is_new(&name(0)), "it was forgotten");
    }
}
