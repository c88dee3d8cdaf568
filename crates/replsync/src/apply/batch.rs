//! Encoded commands that remember what each of them is about.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::error::At;
use crate::command;
use crate::resp::{Command, CommandScanner, Frame, Reply};

/// A batch is handed on when it holds this much.
const BYTES: usize = 64 * 1024;
/// … or so many commands.
const COMMANDS: usize = 1024;

/// Where in the source something comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A byte of the RDB.
    Rdb(u64),
    /// An offset of the replication stream.
    Stream(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Rdb(offset) => write!(f, "RDB byte {offset}"),
            Place::Stream(offset) => write!(f, "stream offset {offset}"),
        }
    }
}

/// What a reply must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// Anything but an error.
    NoError,
    /// EXEC's array, with one reply for each of so many commands before it, none an error.
    Exec(u32),
    /// An array of so many elements.
    Elements(u32),
}

/// A command that was encoded.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Where it begins in the batch's bytes.
    start: usize,
    db: u32,
    place: Place,
    expect: Expect,
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
}

impl Batch {
    /// A batch without commands: once it is through, all before it is, and the target is at `offset`.
    pub fn marker(offset: u64) -> Self {
        Self { offset: Some(offset), ..Self::default() }
    }

    /// A batch that does nothing but be answered.
    pub(super) fn ping() -> Self {
        let bytes = Bytes::from_static(b"*1\r\n$4\r\nPING\r\n");
        let sent = Sent { start: 0, db: 0, place: Place::Stream(0), expect: Expect::NoError };
        Self { bytes, sent: vec![sent], ..Self::default() }
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
        let refuse = |index: usize, reason: String| {
            let (name, at) = self.describe(index);
            Err((name, at, reason))
        };
        match (sent.expect, reply) {
            (_, Reply::Error(_)) => refuse(index, reply.error().unwrap_or_default()),
            (Expect::NoError, _) => Ok(()),
            (Expect::Exec(count), Reply::Array(replies)) if replies.len() == count as usize => {
                match replies.iter().position(|reply| reply.error().is_some()) {
                    Some(bad) => {
                        refuse(index - replies.len() + bad, replies[bad].error().unwrap_or_default())
                    }
                    None => Ok(()),
                }
            }
            (Expect::Exec(_), _) => refuse(index, "the transaction was not executed".to_owned()),
            (Expect::Elements(count), Reply::Array(replies)) if replies.len() == count as usize => Ok(()),
            (Expect::Elements(count), _) => {
                refuse(index, format!("it answered {reply:?} where {count} elements were due"))
            }
        }
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
    pub fn push_raw(&mut self, db: u32, place: Place, raw: &[u8]) {
        self.begin(db, place, Expect::NoError);
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
        self.batch.sent.push(Sent { start: self.bytes.len(), db, place, expect });
    }

    /// How many commands the batch under way holds.
    pub fn sent_count(&self) -> usize {
        self.batch.sent.len()
    }

    /// The database that is selected behind what was encoded.
    pub fn selected(&self) -> Option<u32> {
        self.selected
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
        batcher.push(3, place, Expect::NoError, &["MULTI"]);
        batcher.push(3, place, Expect::NoError, &["SET", "a", "1"]);
        batcher.push(3, Place::Stream(9), Expect::NoError, &["LPUSH", "b\n", "1"]);
        batcher.push(3, place, Expect::Exec(2), &["EXEC"]);
        batcher.take().unwrap()
    }

    fn error(text: &'static str) -> Reply {
        Reply::Error(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_refusal_names_the_command_and_what_it_was_about() {
        let batch = batch();
        assert_eq!(batch.replies(), 5, "SELECT comes first");
        assert_eq!(batch.judge(0, &Reply::Simple(Bytes::from_static(b"OK"))), Ok(()));
        let (name, at, reason) = batch.judge(2, &error("OOM command not allowed")).unwrap_err();
        assert_eq!((&name[..], &reason[..]), ("SET", "OOM command not allowed"));
        assert_eq!(at.to_string(), " (key \"a\", database 3, stream offset 7)");
    }

    #[test]
    fn an_error_inside_exec_is_found_at_its_command() {
        let batch = batch();
        let reply = Reply::Array(vec![Reply::Integer(1), error("WRONGTYPE x")]);
        let (name, at, _) = batch.judge(4, &reply).unwrap_err();
        assert_eq!(
            (&name[..], at.to_string()),
            ("LPUSH", " (key \"b\\n\", database 3, stream offset 9)".to_owned())
        );
        assert!(batch.judge(4, &Reply::Nil).is_err());
        assert!(batch.judge(4, &Reply::Array(vec![Reply::Nil])).is_err());
        assert!(batch.judge(4, &error("EXECABORT")).is_err());
        assert_eq!(batch.judge(4, &Reply::Array(vec![Reply::Nil, Reply::Nil])), Ok(()));
    }
}
