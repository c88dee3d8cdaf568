//! Encoded commands that remember what each of them is about.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::error::At;
use crate::command;
use crate::resp::{Command, CommandScanner, Frame, Reply};

/// A batch is handed on when it holds this much: each costs three tasks a turn, and larger ones win no more.
const BYTES: usize = 128 * 1024;
/// … or so many commands.
const COMMANDS: usize = 2048;

/// Where in the source something comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A byte of the RDB.
    Rdb(u64),
    /// An offset of the replication stream.
    Stream(u64),
    /// A copy of a capture.
    Capture,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Rdb(offset) => write!(f, "RDB byte {offset}"),
            Place::Stream(offset) => write!(f, "stream offset {offset}"),
            Place::Capture => f.write_str("copied"),
        }
    }
}

/// What a reply must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// Whatever it is.
    Anything,
    /// Anything but an error.
    NoError,
    /// An array of so many elements.
    Elements(u32),
    /// EXEC's array, with one reply for each of so many commands before it, each as that one expects.
    Exec(u32),
}

impl Expect {
    /// What is wrong with `reply`, other than being an error.
    fn fault(self, reply: &Reply) -> Option<String> {
        match (self, reply) {
            (Expect::Anything | Expect::NoError, _) => None,
            (Expect::Elements(count) | Expect::Exec(count), Reply::Array(replies))
                if replies.len() == count as usize =>
            {
                None
            }
            (Expect::Exec(_), _) => Some("the transaction was not executed".to_owned()),
            (Expect::Elements(count), Reply::Array(replies)) => {
                Some(format!("it did {} of {count} things", replies.len()))
            }
            (Expect::Elements(_), _) => Some("it did nothing".to_owned()),
        }
    }
}

/// A command that was encoded.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Where it begins in the batch's bytes.
    start: usize,
    db: u32,
    place: Place,
    expect: Expect,
    /// Inside MULTI: the reply is `QUEUED`, and what is expected comes in EXEC's.
    is_queued: bool,
}

/// Commands to be sent together, and what their replies must be.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Bytes,
    sent: Vec<Sent>,
    /// Keys of the copy that this batch completes.
    pub keys: u64,
    /// Commands of the stream that this batch covers, those dropped among them.
    pub commands: u64,
    /// The stream's offset once this batch is applied, where it is of the stream.
    pub offset: Option<u64>,
    /// When the last command of the stream in it arrived, in milliseconds since the epoch by our clock.
    pub arrived_ms: Option<u64>,
}

impl Batch {
    /// A batch without commands: once it is through, all before it is, and the target is at `offset`.
    pub fn marker(offset: u64) -> Self {
        Self { offset: Some(offset), ..Self::default() }
    }

    /// A batch that does nothing but be answered, were it by NOPERM.
    pub(super) fn ping() -> Self {
        let bytes = Bytes::from_static(b"*1\r\n$4\r\nPING\r\n");
        let (place, expect) = (Place::Stream(0), Expect::Anything);
        let sent = Sent { start: 0, db: 0, place, expect, is_queued: false };
        Self { bytes, sent: vec![sent], ..Self::default() }
    }

    /// How long its commands are, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many replies the target will send.
    pub fn replies(&self) -> usize {
        self.sent.len()
    }

    /// Whether there is nothing to send and nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.commands == 0 && self.offset.is_none()
    }

    /// Judges the reply to command number `index`. On failure: the command's name, what it was about, and the
    /// reason.
    pub(super) fn judge(&self, index: usize, reply: &Reply) -> Result<(), (String, At, String)> {
        let Some(sent) = self.sent.get(index) else { return Ok(()) };
        let expect = if sent.is_queued { Expect::NoError } else { sent.expect };
        self.check(index, expect, reply)?;
        if let (Expect::Exec(_), Reply::Array(replies)) = (sent.expect, reply) {
            for (command, reply) in (index - replies.len()..).zip(replies) {
                self.check(command, self.sent[command].expect, reply)?;
            }
        }
        Ok(())
    }

    fn check(&self, index: usize, expect: Expect, reply: &Reply) -> Result<(), (String, At, String)> {
        if expect == Expect::Anything {
            return Ok(());
        }
        let Some(mut reason) = reply.error().or_else(|| expect.fault(reply)) else { return Ok(()) };
        let (name, at) = self.describe(index);
        if name.eq_ignore_ascii_case("XCLAIM") && reply.error().is_none() {
            reason = "the entry of a pending entry was deleted, and the target keeps no pending entry without one \
                      (Redis 7.0 and newer, Valkey)"
                .to_owned();
        }
        Err((name, at, reason))
    }

    /// The name of a command in this batch, and what it is about.
    fn describe(&self, index: usize) -> (String, At) {
        let Some(sent) = self.sent.get(index) else { return Default::default() };
        let mut rest = BytesMut::from(&self.bytes[sent.start..]);
        let args = match CommandScanner::default().next(&mut rest) {
            Ok(Some(Frame::Command(command))) => command.args,
            _ => Vec::new(),
        };
        let name = args.first().map(|name| String::from_utf8_lossy(name).into_owned());
        let key = command::first_key(&args).map(|key| key.to_vec());
        (name.unwrap_or_default(), At { db: Some(sent.db), key, place: Some(sent.place) })
    }
}

/// Encodes commands into batches and keeps the target's database selected.
#[derive(Debug, Default)]
pub(super) struct Batcher {
    bytes: BytesMut,
    batch: Batch,
    /// The database that the target has selected behind what was encoded.
    selected: Option<u32>,
    /// Between MULTI and EXEC.
    in_multi: bool,
}

impl Batcher {
    /// The batch under way.
    pub fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Begins a command of `args` arguments for database `db`.
    pub fn command(&mut self, db: u32, place: Place, expect: Expect, args: usize) -> Command<'_> {
        self.begin(db, place, expect);
        Command::new(&mut self.bytes, args)
    }

    /// Encodes a whole command.
    pub fn push<A: AsRef<[u8]>>(&mut self, db: u32, place: Place, expect: Expect, args: &[A]) {
        let mut command = self.command(db, place, expect, args.len());
        for arg in args {
            command.arg(arg.as_ref());
        }
    }

    /// Appends a command that is encoded already.
    pub fn push_raw(&mut self, db: u32, place: Place, expect: Expect, raw: &[u8]) {
        self.begin(db, place, expect);
        self.bytes.extend_from_slice(raw);
    }

    /// Notes the command that comes next, behind a SELECT where one is needed.
    fn begin(&mut self, db: u32, place: Place, expect: Expect) {
        if self.selected != Some(db) {
            self.selected = Some(db);
            self.sent(db, place, Expect::NoError);
            let mut select = Command::new(&mut self.bytes, 2);
            select.arg(b"SELECT");
            select.number(db);
        }
        self.sent(db, place, expect);
    }

    fn sent(&mut self, db: u32, place: Place, expect: Expect) {
        let (start, is_queued) = (self.bytes.len(), self.in_multi);
        self.batch.sent.push(Sent { start, db, place, expect, is_queued });
    }

    /// Encodes MULTI, what `commands` encodes, and EXEC.
    pub fn transaction(&mut self, db: u32, place: Place, commands: impl FnOnce(&mut Self)) {
        self.push(db, place, Expect::NoError, &["MULTI"]);
        self.in_multi = true;
        let before = self.batch.sent.len();
        commands(self);
        self.in_multi = false;
        // SELECTs among them answer, too.
        let count = (self.batch.sent.len() - before) as u32;
        self.push(self.selected.unwrap_or(db), place, Expect::Exec(count), &["EXEC"]);
    }

    /// Whether the batch under way should be handed on.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BYTES || self.batch.sent.len() >= COMMANDS
    }

    /// Hands on the batch under way, if anything is in it.
    pub fn take(&mut self) -> Option<Batch> {
        if self.batch.is_empty() {
            return None;
        }
        self.batch.bytes = self.bytes.split().freeze();
        Some(std::mem::take(&mut self.batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut batcher = Batcher::default();
        let place = Place::Stream(7);
        batcher.transaction(3, place, |batcher| {
            batcher.push(3, place, Expect::NoError, &["SET", "a", "1"]);
            batcher.push(3, Place::Stream(9), Expect::NoError, &["LPUSH", "b\n", "1"]);
            batcher.push(
                3,
                Place::Stream(9),
                Expect::Elements(1),
                &["XCLAIM", "s", "g", "c", "0", "1-1", "JUSTID"],
            );
        });
        batcher.take().unwrap()
    }

    fn error(text: &'static str) -> Reply {
        Reply::Error(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_refusal_names_the_command_and_what_it_was_about() {
        let batch = batch();
        assert_eq!(batch.replies(), 6, "SELECT comes first");
        assert_eq!(batch.judge(0, &Reply::Simple(Bytes::from_static(b"OK"))), Ok(()));
        let (name, at, reason) = batch.judge(2, &error("OOM command not allowed")).unwrap_err();
        assert_eq!((&name[..], &reason[..]), ("SET", "OOM command not allowed"));
        assert_eq!(at.to_string(), " (key \"a\", database 3, stream offset 7)");
    }

    #[test]
    fn what_is_wrong_inside_exec_is_found_at_its_command() {
        let batch = batch();
        assert_eq!(batch.judge(4, &Reply::Simple(Bytes::from_static(b"QUEUED"))), Ok(()));
        let claimed = || Reply::Array(vec![Reply::Nil]);
        let exec = |second, third| batch.judge(5, &Reply::Array(vec![Reply::Integer(1), second, third]));
        assert_eq!(exec(Reply::Nil, claimed()), Ok(()));
        let (name, at, _) = exec(error("WRONGTYPE x"), claimed()).unwrap_err();
        assert_eq!(
            (&name[..], at.to_string()),
            ("LPUSH", " (key \"b\\n\", database 3, stream offset 9)".to_owned())
        );
        let (name, _, reason) = exec(Reply::Nil, Reply::Array(vec![])).unwrap_err();
        assert!(name == "XCLAIM" && reason.contains("was deleted"), "{name}: {reason}");
        assert!(batch.judge(5, &Reply::Nil).is_err());
        assert!(batch.judge(5, &Reply::Array(vec![Reply::Nil])).is_err());
        assert!(batch.judge(5, &error("EXECABORT")).is_err());
    }
}
