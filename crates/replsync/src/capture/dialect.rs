//! What a source is asked, by what its version has, and how its answers are read.

use bytes::{Bytes, BytesMut};

use super::Error;
use crate::psync::ReplId;
use crate::rdb::{Kind, encode};
use crate::resp::{Reply, write_command};
use crate::server::Server;

/// What the source has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// PEXPIRETIME and functions.
    pub is_seven: bool,
    /// ZMSCORE and SMISMEMBER.
    pub asks_many: bool,
    /// CLIENT PAUSE … WRITE.
    pub pauses_writes: bool,
    /// Fields with expiries.
    pub field_expiries: bool,
    /// How it writes its streams.
    pub stream_kind: Option<Kind>,
}

impl Dialect {
    pub fn of(server: Server) -> Self {
        Self {
            is_seven: server.has((7, 0), None),
            asks_many: server.has((6, 2), None),
            pauses_writes: server.has((6, 2), None),
            field_expiries: server.has((7, 4), Some((9, 0))),
            stream_kind: encode::stream_kind(server),
        }
    }

    /// Asks for a key's expiry.
    pub fn ask_expiry(&self, out: &mut Commands, key: &[u8]) {
        if self.is_seven {
            out.add(&[b"PEXPIRETIME", key]);
        } else {
            out.add(&[b"TIME"]);
            out.add(&[b"PTTL", key]);
            out.add(&[b"TIME"]);
        }
    }

    /// Reads what [`ask_expiry`](Self::ask_expiry) has asked for.
    pub fn expiry(&self, replies: &mut Replies) -> Result<Expiry, Error> {
        if self.is_seven {
            return Ok(match replies.integer("PEXPIRETIME")? {
                -2 => Expiry::NoKey,
                -1 => Expiry::Never,
                at_ms => Expiry::At(at_ms),
            });
        }
        let before = replies.time_us()?;
        let left_ms = replies.integer("PTTL")?;
        let after = replies.time_us()?;
        Ok(match left_ms {
            -2 => Expiry::NoKey,
            -1 => Expiry::Never,
            // In another millisecond than the one that it counts from, it may be one off.
            _ if before / 1000 != after / 1000 => Expiry::Unclear,
            left_ms => Expiry::At(before / 1000 + left_ms),
        })
    }
}

/// A key's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// There is no such key.
    NoKey,
    /// None.
    Never,
    /// In milliseconds since the epoch.
    At(i64),
    /// The clock went on meanwhile: to be asked again.
    Unclear,
}

impl Expiry {
    pub fn ms(self) -> Option<i64> {
        match self {
            Self::At(at_ms) => Some(at_ms),
            _ => None,
        }
    }
}

/// Commands under way into one request.
#[derive(Default)]
pub(super) struct Commands {
    pub bytes: BytesMut,
    pub count: usize,
}

impl Commands {
    pub fn add(&mut self, args: &[&[u8]]) {
        write_command(&mut self.bytes, args);
        self.count += 1;
    }
}

/// The replies of one request.
pub(super) struct Replies {
    replies: std::vec::IntoIter<Reply>,
}

impl Replies {
    pub fn new(replies: Vec<Reply>) -> Self {
        Self { replies: replies.into_iter() }
    }

    pub fn next(&mut self) -> Result<Reply, Error> {
        self.replies.next().ok_or_else(|| self.nonsense("too few replies"))
    }

    pub fn integer(&mut self, command: &str) -> Result<i64, Error> {
        match self.next()? {
            Reply::Integer(number) => Ok(number),
            Reply::Error(text) => Err(refused(command, &text)),
            _ => Err(self.nonsense(command)),
        }
    }

    /// The source's clock, in microseconds since the epoch.
    fn time_us(&mut self) -> Result<i64, Error> {
        match self.next()? {
            Reply::Error(text) => Err(refused("TIME", &text)),
            reply => reply.time_us().ok_or_else(|| self.nonsense("TIME")),
        }
    }

    /// The first and last of each request: the stream's offset.
    pub fn offset(&mut self, replid: ReplId) -> Result<u64, Error> {
        match self.next()? {
            Reply::Bulk(text) => offset(&text, replid),
            Reply::Error(text) => Err(refused("INFO replication", &text)),
            _ => Err(self.nonsense("INFO replication")),
        }
    }

    /// The next of them; fewer where there are no more.
    pub fn take(&mut self, count: usize) -> Vec<Reply> {
        self.replies.by_ref().take(count).collect()
    }

    /// Those that are left.
    pub fn rest(self) -> Vec<Reply> {
        self.replies.collect()
    }

    pub fn nonsense(&self, command: &str) -> Error {
        Error::Nonsense { command: command.to_owned() }
    }
}

/// The offset that INFO replication says, of the history `replid`.
fn offset(info: &[u8], replid: ReplId) -> Result<u64, Error> {
    let missing = || Error::Nonsense { command: "INFO replication".to_owned() };
    let said = field(info, b"master_replid:").ok_or_else(missing)?;
    if said != replid.as_str().as_bytes() {
        let said = String::from_utf8_lossy(said).into_owned();
        return Err(Error::AnotherHistory { was: replid.to_string(), is: said });
    }
    let offset = field(info, b"master_repl_offset:").and_then(|text| std::str::from_utf8(text).ok());
    offset.and_then(|text| text.parse().ok()).ok_or_else(missing)
}

/// How many keys of `db` have an expiry, as INFO keyspace says.
pub(super) fn expires(info: &[u8], db: u32) -> u64 {
    number_of(info, db, b"expires=")
}

/// How many hashes of `db` have fields with an expiry.
pub(super) fn expiring_hashes(info: &[u8], db: u32) -> u64 {
    number_of(info, db, b"subexpiry=").max(number_of(info, db, b"keys_with_volatile_items="))
}

fn number_of(info: &[u8], db: u32, name: &[u8]) -> u64 {
    let Some(line) = field(info, format!("db{db}:").as_bytes()) else { return 0 };
    let mut parts = line.split(|byte| *byte == b',');
    let number = parts.find_map(|part| std::str::from_utf8(part.strip_prefix(name)?).ok()?.parse().ok());
    number.unwrap_or(0)
}

/// What stands behind `name` at the beginning of a line.
fn field<'a>(info: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = memchr::memmem::find_iter(info, name);
    let at = lines.find(|at| *at == 0 || info[at - 1] == b'\n')? + name.len();
    let len = memchr::memchr2(b'\r', b'\n', &info[at..]).unwrap_or(info.len() - at);
    Some(&info[at..at + len])
}

/// An error reply, as an error that names the command.
pub(super) fn refused(command: &str, text: &Bytes) -> Error {
    Error::Refused { command: command.to_owned(), reply: String::from_utf8_lossy(text).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let info = format!(
            "# Replication\r\nrole:master\r\nmaster_replid:{id}\r\nmaster_replid2:{}\r\nmaster_repl_offset:42\r\nsecond_repl_offset:-1\r\n",
            "0".repeat(40)
        );
        assert_eq!(offset(info.as_bytes(), id.parse().unwrap()).unwrap(), 42);
        assert!(matches!(
            offset(info.as_bytes(), "1".repeat(40).parse().unwrap()),
            Err(Error::AnotherHistory { .. })
        ));
        let info = b"# Keyspace\r\ndb0:keys=5,expires=0,avg_ttl=0\r\ndb10:keys=5,expires=3,avg_ttl=0,subexpiry=2\r\n";
        assert_eq!(
            (expires(info, 0), expires(info, 10), expires(info, 1), expiring_hashes(info, 10)),
            (0, 3, 0, 2)
        );
    }
}
