//! The sweep: expiries that were written out of a target's reach are put right, or read again, or out of reach again.
//!
//! Nothing else may write to the target meanwhile, so a value that was read is still the one to be replaced.

use bytes::Bytes;

use super::{Error, Throttle};
use crate::clock::now_ms;
use crate::endpoint::{self, Client, Pipelined};
use crate::resp::Reply;
use crate::server::Server;
use crate::shift::Shift;

/// Where a SCAN begins, and what it answers when it is over.
const START: Bytes = Bytes::from_static(b"0");
/// Keys that SCAN is asked for at a time, and fields that HSCAN is.
const SCAN_COUNT: &str = "1000";
/// Hashes that are asked for a page of fields at once.
const HASHES_MAX: usize = 100;
/// Fields of one HPEXPIRETIME.
const FIELDS_MAX: usize = 1000;
/// Before 7.0 an expiry is exact when the clock showed the same millisecond before and after; so often it is tried.
const EXACT_TRIES: usize = 20;

/// Which way expiries are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Shifted ones are put right.
    Off,
    /// Those in reach are shifted again.
    On,
    /// Shifted ones stay shifted, but are read again from a source before 7.0.
    Again,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Keys that were looked at; SCAN may name one twice.
    pub keys_seen: u64,
    /// Keys whose expiry was moved.
    pub keys: u64,
    /// Hash fields whose expiry was moved.
    pub fields: u64,
    /// The earliest of the expiries put right that the source may yet have renewed, in milliseconds since the epoch: see
    /// [`Sweeper::renewable_from`].
    pub soonest_ms: Option<i64>,
    /// Expiries of a source before 7.0 that it could not be asked for again: they count from when the command that
    /// set them arrived.
    pub inexact: u64,
    /// Whether that source could not be asked at all, or not to the end.
    pub without_source: bool,
}

/// Tries whether this user may do on the target what a sweep does, before anything is shifted. It changes nothing.
///
/// # Errors
/// [`endpoint::Error::Refused`] with the command that is not allowed, or not there.
pub async fn try_sweep(target: &mut Client, server: Server) -> Result<(), endpoint::Error> {
    // A name that nobody has.
    let nobody = format!("replsync:{}:{:x}", std::process::id(), now_ms());
    let at = "1";
    target.ask(&["SCAN", "0", "COUNT", "1"]).await?;
    if server.has((7, 0), None) {
        target.ask(&["PEXPIRETIME", &nobody]).await?;
    } else {
        target.ask(&["PTTL", &nobody]).await?;
        target.ask(&["TIME"]).await?;
    }
    target.ask(&["PEXPIREAT", &nobody, at]).await?;
    if server.has((7, 4), Some((9, 0))) {
        target.ask(&["HSCAN", &nobody, "0", "COUNT", "1", "NOVALUES"]).await?;
        target.ask(&["HPEXPIRETIME", &nobody, "FIELDS", "1", "f"]).await?;
        target.ask(&["HPEXPIREAT", &nobody, at, "FIELDS", "1", "f"]).await?;
    }
    Ok(())
}

/// Moves the expiries of a target. See [`sweep`](Sweeper::sweep).
#[derive(Debug)]
pub struct Sweeper<'a> {
    target: &'a mut Client,
    server: Server,
    throttle: &'a mut Throttle,
    /// Whether the source is older than 7.0, and sends relative expiries …
    relative: bool,
    /// … which it alone can place.
    source: Option<&'a mut Client>,
    direction: Direction,
    renewable_from_ms: i64,
    swept: Swept,
}

impl<'a> Sweeper<'a> {
    /// A sweeper of the server at the other end of `target`.
    pub fn new(
        target: &'a mut Client,
        server: Server,
        throttle: &'a mut Throttle,
        direction: Direction,
    ) -> Self {
        let (relative, source, renewable_from_ms, swept) = (false, None, 0, Swept::default());
        Self { target, server, throttle, relative, source, direction, renewable_from_ms, swept }
    }

    /// All that the source wrote before that time (by its clock, in milliseconds since the epoch) is on the target: what
    /// expired before can not be renewed any more.
    pub fn renewable_from(mut self, ms: i64) -> Self {
        self.renewable_from_ms = ms;
        self
    }

    /// Has expiries read again from `source`, a server before 7.0, where it can be asked: its stream holds relative
    /// ones, which nobody but itself can place.
    pub fn reading_again_from(mut self, source: Option<&'a mut Client>) -> Self {
        (self.relative, self.source) = (true, source);
        self
    }

    /// Moves all of them; `seen` is told how many keys were looked at.
    ///
    /// # Errors
    /// When a server cannot be asked, or the target refuses.
    pub async fn sweep(mut self, mut seen: impl FnMut(u64)) -> Result<Swept, Error> {
        let info = self.target.info().await?;
        for (&db, keyspace) in &info.keyspace {
            let db = db.to_string();
            self.target.ask(&["SELECT", &db]).await?;
            if let Some(source) = &mut self.source
                && let Err(error) = source.ask(&["SELECT", &db]).await
            {
                self.go_on_without_source(&error);
            }
            if keyspace.expires > 0 {
                self.keys(&mut seen).await?;
            }
            if keyspace.expiring_hashes > 0 && self.direction != Direction::Again {
                self.hashes(&mut seen).await?;
            }
        }
        self.swept.without_source = self.relative && self.source.is_none();
        Ok(self.swept)
    }

    /// The expiries of keys in the selected database.
    async fn keys(&mut self, seen: &mut impl FnMut(u64)) -> Result<(), Error> {
        let mut cursor = START;
        loop {
            let page = self.target.ask(&[b"SCAN", &cursor[..], b"COUNT", SCAN_COUNT.as_bytes()]).await?;
            let (next, names) = self.page(&["SCAN"], page)?;
            let expiries = if self.server.has((7, 0), None) {
                ask_each(self.target, "PEXPIRETIME", &names).await?
            } else {
                let on = self.direction == Direction::On;
                let wanted = |ttl_ms| if on { ttl_ms >= 0 } else { Shift::KEY.is_in_ttl(ttl_ms) };
                exact_expiries(self.target, &names, wanted).await?
            };
            let mut moved = Vec::new();
            for (name, expiry_ms) in names.iter().zip(expiries) {
                if let Some(to_ms) = self.moved(Shift::KEY, expiry_ms) {
                    moved.push((name, to_ms));
                }
            }
            self.read_again(&mut moved).await;
            self.write(&moved).await?;
            self.swept.keys_seen += names.len() as u64;
            seen(self.swept.keys_seen);
            if next == START {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// What becomes of an expiry; `None` when it stays.
    fn moved(&self, shift: Shift, expiry_ms: i64) -> Option<i64> {
        match self.direction {
            Direction::Off | Direction::Again => shift.off(expiry_ms),
            Direction::On if expiry_ms < 0 || shift.off(expiry_ms).is_some() => None,
            Direction::On => shift.on(expiry_ms),
        }
    }

    /// Replaces what the stream of an old source said by what the source itself says now.
    async fn read_again(&mut self, moved: &mut [(&Bytes, i64)]) {
        if !self.relative || self.direction == Direction::On || moved.is_empty() {
            return;
        }
        let names: Vec<_> = moved.iter().map(|(name, _)| (*name).clone()).collect();
        let expiries = match &mut self.source {
            Some(source) => exact_expiries(source, &names, |ttl_ms| ttl_ms >= 0).await,
            None => Ok(vec![-1; names.len()]),
        };
        let expiries = expiries.unwrap_or_else(|error| {
            self.go_on_without_source(&error);
            vec![-1; names.len()]
        });
        for ((_, to_ms), expiry_ms) in moved.iter_mut().zip(expiries) {
            match expiry_ms {
                0.. => *to_ms = expiry_ms,
                _ => self.swept.inexact += 1,
            }
        }
    }

    /// An expiry that is off by a little is better than one that stays shifted.
    fn go_on_without_source(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(
            "expiries cannot be read again from the source, and count from when they arrived: {error}"
        );
        self.source = None;
    }

    async fn write(&mut self, moved: &[(&Bytes, i64)]) -> Result<(), Error> {
        if moved.is_empty() {
            return Ok(());
        }
        let mut commands = Pipelined::default();
        for (name, to_ms) in moved {
            let to_ms = match self.direction {
                Direction::Off | Direction::On => *to_ms,
                Direction::Again => Shift::KEY.on(*to_ms).unwrap_or(*to_ms),
            };
            commands.add(&[b"PEXPIREAT", &name[..], to_ms.to_string().as_bytes()]);
        }
        self.throttle.admit(commands.len_bytes() as u64, || 0).await?;
        // 0: the key has gone meanwhile.
        expect_integers(self.target, "PEXPIREAT", &commands).await?;
        self.swept.keys += moved.len() as u64;
        if self.direction == Direction::Off {
            self.note_soonest(moved.iter().map(|(_, to_ms)| *to_ms));
        }
        Ok(())
    }

    /// The expiries of hash fields in the selected database.
    async fn hashes(&mut self, seen: &mut impl FnMut(u64)) -> Result<(), Error> {
        let mut cursor = START;
        loop {
            let page = self
                .target
                .ask(&[b"SCAN", &cursor[..], b"COUNT", SCAN_COUNT.as_bytes(), b"TYPE", b"hash"])
                .await?;
            let (next, names) = self.page(&["SCAN"], page)?;
            self.swept.keys_seen += names.len() as u64;
            for names in self.maybe_expiring(names).await?.chunks(HASHES_MAX) {
                self.fields_of(names).await?;
            }
            seen(self.swept.keys_seen);
            if next == START {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Those of these hashes whose fields may have expiries. A packed one with expiries is a `listpackex` in Redis, and
    /// none is packed in Valkey 9 (OBJECT ENCODING of 7.4, 8.6 and Valkey 9).
    async fn maybe_expiring(&mut self, mut names: Vec<Bytes>) -> Result<Vec<Bytes>, Error> {
        let mut commands = Pipelined::default();
        for name in &names {
            commands.add(&[b"OBJECT", &b"ENCODING"[..], name]);
        }
        // Without the right to ask, all of them are looked at.
        let mut encodings = self.target.pipeline("OBJECT ENCODING", &commands).await?.into_iter();
        names.retain(
            |_| !matches!(encodings.next(), Some(Reply::Bulk(encoding)) if &encoding[..] == b"listpack"),
        );
        Ok(names)
    }

    /// The expiries of the fields of these hashes.
    async fn fields_of(&mut self, names: &[Bytes]) -> Result<(), Error> {
        let mut commands = Pipelined::default();
        for name in names {
            commands.add(&hscan(name, &START));
        }
        let pages = self.target.pipeline("HSCAN", &commands).await?;
        let mut fields = Vec::new();
        for (name, page) in names.iter().zip(pages) {
            let (mut next, mut some) = self.page(&["HSCAN"], page)?;
            while next != START {
                self.fields(&[(name, some)]).await?;
                let page = self.target.ask(&hscan(name, &next)).await?;
                (next, some) = self.page(&["HSCAN"], page)?;
            }
            fields.push((name, some));
        }
        self.fields(&fields).await
    }

    /// The expiries of these fields of these hashes.
    async fn fields(&mut self, hashes: &[(&Bytes, Vec<Bytes>)]) -> Result<(), Error> {
        let chunks: Vec<_> = hashes
            .iter()
            .flat_map(|(name, fields)| fields.chunks(FIELDS_MAX).map(move |fields| (&name[..], fields)))
            .collect();
        let mut commands = Pipelined::default();
        for (name, fields) in &chunks {
            let count = fields.len().to_string();
            let mut args = vec![b"HPEXPIRETIME".as_slice(), name, b"FIELDS", count.as_bytes()];
            args.extend(fields.iter().map(|field| &field[..]));
            commands.add(&args);
        }
        let replies = self.target.pipeline("HPEXPIRETIME", &commands).await?;
        let (mut writes, mut moved) = (Pipelined::default(), Vec::new());
        for ((name, fields), reply) in chunks.iter().zip(replies) {
            let Reply::Array(expiries) = reply else {
                return Err(self.target.unexpected(&["HPEXPIRETIME"], &reply).into());
            };
            for (field, expiry) in fields.iter().zip(expiries) {
                let Reply::Integer(expiry_ms) = expiry else { continue };
                if let Some(to_ms) = self.moved(Shift::FIELD, expiry_ms) {
                    let at = to_ms.to_string();
                    writes.add(&[b"HPEXPIREAT".as_slice(), name, at.as_bytes(), b"FIELDS", b"1", &field[..]]);
                    moved.push(to_ms);
                }
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        self.throttle.admit(writes.len_bytes() as u64, || 0).await?;
        for reply in self.target.pipeline("HPEXPIREAT", &writes).await? {
            if !matches!(reply, Reply::Array(_)) {
                return Err(self.target.unexpected(&["HPEXPIREAT"], &reply).into());
            }
        }
        self.swept.fields += moved.len() as u64;
        self.note_soonest(moved.into_iter());
        Ok(())
    }

    fn note_soonest(&mut self, moved: impl Iterator<Item = i64>) {
        let soonest = moved.filter(|to_ms| *to_ms >= self.renewable_from_ms).min();
        self.swept.soonest_ms = self.swept.soonest_ms.into_iter().chain(soonest).min();
    }

    /// SCAN's reply: the next cursor, and names.
    fn page(&self, command: &[&str], reply: Reply) -> Result<(Bytes, Vec<Bytes>), Error> {
        reply.scan_page().ok_or_else(|| self.target.unexpected(command, &reply).into())
    }
}

fn hscan<'a>(name: &'a [u8], cursor: &'a [u8]) -> [&'a [u8]; 6] {
    [b"HSCAN", name, cursor, b"COUNT", SCAN_COUNT.as_bytes(), b"NOVALUES"]
}

/// The number that `command` answers for each of `names`.
async fn ask_each(client: &mut Client, command: &str, names: &[Bytes]) -> Result<Vec<i64>, Error> {
    let mut commands = Pipelined::default();
    for name in names {
        commands.add(&[command.as_bytes(), &name[..]]);
    }
    Ok(expect_integers(client, command, &commands).await?)
}

async fn expect_integers(
    client: &mut Client,
    command: &str,
    commands: &Pipelined,
) -> Result<Vec<i64>, endpoint::Error> {
    let replies = client.pipeline(command, commands).await?;
    let number = |reply: &Reply| match reply {
        Reply::Integer(number) => Ok(*number),
        reply => Err(client.unexpected(&[command], reply)),
    };
    replies.iter().map(number).collect()
}

/// The expiries of keys on a server before 7.0, in milliseconds since the epoch, of those whose TTL is `wanted`; for
/// others a negative number.
async fn exact_expiries(
    client: &mut Client,
    names: &[Bytes],
    wanted: impl Fn(i64) -> bool,
) -> Result<Vec<i64>, endpoint::Error> {
    let ms = |micros: i64| micros / 1000;
    let mut expiries = vec![-1; names.len()];
    let mut left: Vec<usize> = (0..names.len()).collect();
    for _ in 0..EXACT_TRIES {
        if left.is_empty() {
            break;
        }
        let mut commands = Pipelined::default();
        commands.add(&["TIME"]);
        for &at in &left {
            commands.add(&[b"PTTL", &names[at][..]]);
            commands.add(&["TIME"]);
        }
        let replies = client.pipeline("PTTL", &commands).await?;
        let mut again = Vec::new();
        for (&at, around) in left.iter().zip(replies.windows(3).step_by(2)) {
            let [before, ttl, after] = around else { continue };
            let Reply::Integer(ttl_ms) = ttl else { return Err(client.unexpected(&["PTTL"], ttl)) };
            if !wanted(*ttl_ms) {
                continue;
            }
            match (before.time_us().map(ms), after.time_us().map(ms)) {
                (Some(before), Some(after)) if before == after => expiries[at] = before + ttl_ms,
                (Some(_), Some(_)) => again.push(at),
                _ => return Err(client.unexpected(&["TIME"], before)),
            }
        }
        left = again;
    }
    match left.is_empty() {
        true => Ok(expiries),
        false => Err(client.slow("PTTL while TIME stands still")),
    }
}
