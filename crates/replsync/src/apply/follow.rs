//! A stream's commands as batches: databases kept, transactions whole, each command rewritten for the target.

use std::sync::Arc;

use super::batch::{Batcher, Expect};
use super::doubts::{Doubts, OfKey};
use super::error::At;
use super::{Batch, Error, Place, Target};
use crate::command::{self, Class, Rewritten, Touched};
use crate::resp::StreamCommand;
use crate::server::Server;

/// Fields of one HPEXPIREAT.
const FIELDS_MAX: usize = 1000;
/// A transaction is held until its EXEC; one that is larger than this ends the job.
const TRANSACTION_BYTES_MAX: usize = 512 * 1024 * 1024;

/// What was left out on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Messages to subscribers: PUBLISH and SPUBLISH.
    pub messages: u64,
    /// Commands that mean nothing to the target.
    pub others: u64,
}

/// Turns the stream's commands into batches. Plain code without I/O.
pub struct Follower {
    target: Arc<Target>,
    /// Whether the source keeps pending entries whose entry was deleted, and the target does not.
    watches_claims: bool,
    /// Fields that may have expired on the source, where that tells its replicas late.
    doubts: Option<Doubts>,
    batcher: Batcher,
    /// The database that the stream has selected; unknown until it says so.
    db: Option<u32>,
    /// The transaction under way: its commands, each with the offset behind it.
    transaction: Option<Transaction>,
    /// The offset behind the last transaction or command that is in a batch.
    boundary: u64,
    dropped: Dropped,
}

#[derive(Default)]
struct Transaction {
    commands: Vec<(StreamCommand, u64)>,
    bytes: usize,
}

/// A command as it will be sent.
enum Planned {
    Raw(u32, u64, Expect, StreamCommand),
    Args(u32, u64, Vec<bytes::Bytes>),
}

impl Follower {
    /// A follower of `source` from `offset` on; `db` is the database that the stream has selected there, where that
    /// is known.
    pub fn new(target: Arc<Target>, source: Server, offset: u64, db: Option<u32>) -> Self {
        // `streamPropagateXCLAIM` and `xclaimCommand` in `src/t_stream.c`, before and from 7.0.
        let watches_claims = !source.has((7, 0), None) && target.server().has((7, 0), None);
        let both_expire_fields =
            [source, target.server()].iter().all(|server| server.has((7, 4), Some((9, 0))));
        Self {
            target,
            watches_claims,
            doubts: both_expire_fields.then(|| Doubts::new(source)),
            batcher: Batcher::default(),
            db,
            transaction: None,
            boundary: offset,
            dropped: Dropped::default(),
        }
    }

    /// Takes the next command, whose end is at `offset`. `now_ms` is the time of its arrival, in milliseconds
    /// since the epoch: what relative expiries count from.
    pub fn command(&mut self, command: StreamCommand, offset: u64, now_ms: u64) -> Result<(), Error> {
        match (command::classify(&command.args), &mut self.transaction) {
            (Class::Multi, None) => {
                self.transaction = Some(Transaction::default());
                self.batcher.batch().commands += 1;
                return Ok(());
            }
            (Class::Multi, Some(_)) => return Err(self.nonsense("MULTI inside MULTI", offset)),
            (Class::Exec, None) => return Err(self.nonsense("EXEC without MULTI", offset)),
            (Class::Exec, Some(transaction)) => {
                let commands = std::mem::take(&mut transaction.commands);
                self.transaction = None;
                self.exec(commands, offset, now_ms)?;
            }
            (_, Some(transaction)) => {
                transaction.bytes += command.cost_bytes();
                transaction.commands.push((command, offset));
                if transaction.bytes > TRANSACTION_BYTES_MAX {
                    let at = At { db: self.db, place: Some(Place::Stream(offset)), ..At::default() };
                    return Err(Error::TransactionTooLarge {
                        limit_bytes: TRANSACTION_BYTES_MAX,
                        at: Box::new(at),
                    });
                }
                self.batcher.batch().commands += 1;
                return Ok(());
            }
            (_, None) => {
                let mut plan = Vec::new();
                self.plan(command, offset, now_ms, &mut plan)?;
                // What became several commands goes as one.
                self.encode(plan, offset);
            }
        }
        self.batcher.batch().commands += 1;
        self.batcher.batch().offset = Some(offset);
        self.batcher.batch().arrived_ms = Some(now_ms);
        self.boundary = offset;
        Ok(())
    }

    /// The batch under way, if anything is in it. Call it when [`is_full`](Self::is_full), and when no more
    /// commands are at hand.
    pub fn take(&mut self) -> Option<Batch> {
        self.batcher.take()
    }

    /// Whether the batch under way should be sent.
    pub fn is_full(&self) -> bool {
        self.batcher.is_full()
    }

    /// The stream's offset that the batches cover, to the last one: never inside a transaction.
    pub fn boundary(&self) -> u64 {
        self.boundary
    }

    /// What was left out so far.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// How many hash fields the target may hold though they have expired on the source, which has yet to say so.
    pub fn in_doubt(&self) -> u64 {
        self.doubts.as_ref().map_or(0, Doubts::count)
    }

    /// Whether they are so many that the source should be asked soon.
    pub fn doubts_much(&self) -> bool {
        self.doubts.as_ref().is_some_and(Doubts::are_many)
    }

    /// The source cannot be asked: they stay in doubt.
    pub fn doubts_stay(&mut self) {
        self.doubts.iter_mut().for_each(Doubts::stay);
    }

    /// These fields: the source is to be asked which of them it has. What is written from now on stays in doubt.
    pub fn ask_what_is_in_doubt(&mut self) -> Vec<OfKey> {
        self.doubts.as_mut().map(Doubts::ask).unwrap_or_default()
    }

    /// Gives a time that is past to what the source, when it was asked, had not; the stream must have been taken in since up
    /// to where the source was then. It is not deleted: with its last field a hash would go, which on the source is still
    /// there, with its own expiry.
    pub fn expire_what_is_gone(&mut self, gone: Vec<OfKey>) {
        let (Some(doubts), Some(past)) = (&mut self.doubts, self.target.dialect.expiries.of_field(1)) else {
            return;
        };
        let (place, past) = (Place::Stream(self.boundary), past.to_string());
        for OfKey { db, key, fields } in doubts.answered(gone) {
            for fields in fields.chunks(FIELDS_MAX) {
                let mut command = self.batcher.command(db, place, Expect::NoError, 5 + fields.len());
                command.arg(b"HPEXPIREAT");
                command.arg(&key);
                command.arg(past.as_bytes());
                command.arg(b"FIELDS");
                command.arg(fields.len().to_string().as_bytes());
                for field in fields {
                    command.arg(field);
                }
            }
        }
    }

    /// Plans a whole transaction before any of it is sent.
    fn exec(&mut self, commands: Vec<(StreamCommand, u64)>, offset: u64, now_ms: u64) -> Result<(), Error> {
        let mut plan = Vec::with_capacity(commands.len());
        for (command, offset) in commands {
            self.plan(command, offset, now_ms, &mut plan)?;
        }
        self.encode(plan, offset);
        Ok(())
    }

    fn plan(
        &mut self,
        command: StreamCommand,
        offset: u64,
        now_ms: u64,
        plan: &mut Vec<Planned>,
    ) -> Result<(), Error> {
        match command::classify(&command.args) {
            Class::Select(db) => {
                self.db = Some(db);
                return Ok(());
            }
            Class::Publish => {
                self.dropped.messages += 1;
                return Ok(());
            }
            Class::Ping | Class::GetAck | Class::Multi | Class::Exec => return Ok(()),
            Class::Write => {}
        }
        // Functions, scripts and whole servers belong to no database.
        let anywhere = || {
            matches!(
                command::touched(&command.args),
                Touched::Functions | Touched::Nothing | Touched::EveryDatabase
            )
        };
        let Some(db) = self.db.or_else(|| anywhere().then_some(0)) else {
            let what = "a command came before the database was selected, so nobody knows where it belongs";
            return Err(self.nonsense(what, offset));
        };
        if let Some(doubts) = &mut self.doubts {
            doubts.note(db, &command.args);
        }
        match command::rewrite(&command.args, &self.target.dialect, now_ms) {
            Ok(Rewritten::AsIs) => {
                // It names one entry, and answers with those that it claimed.
                let claims = self.watches_claims && command.name().eq_ignore_ascii_case(b"XCLAIM");
                let expect = if claims { Expect::Elements(1) } else { Expect::NoError };
                plan.push(Planned::Raw(db, offset, expect, command));
            }
            Ok(Rewritten::Replaced(commands)) => {
                plan.extend(commands.into_iter().map(|args| Planned::Args(db, offset, args)));
            }
            Ok(Rewritten::Dropped(_)) => self.dropped.others += 1,
            Err(source) => {
                let key = command::first_key(&command.args).map(|key| key.to_vec());
                let at = At { db: Some(db), key, place: Some(Place::Stream(offset)) };
                return Err(Error::NoRule { source, at: Box::new(at) });
            }
        }
        Ok(())
    }

    /// Encodes what belongs together, as a transaction where it is more than one command.
    fn encode(&mut self, plan: Vec<Planned>, offset: u64) {
        let Some(Planned::Raw(db, ..) | Planned::Args(db, ..)) = plan.first() else { return };
        let (db, place) = (*db, Place::Stream(offset));
        if plan.len() > 1 {
            self.batcher.transaction(db, place, |batcher| encode(batcher, &plan));
        } else {
            encode(&mut self.batcher, &plan);
        }
    }

    fn nonsense(&self, what: &'static str, offset: u64) -> Error {
        let at = At { db: self.db, place: Some(Place::Stream(offset)), ..At::default() };
        Error::Stream { what, at: Box::new(at) }
    }
}

fn encode(batcher: &mut Batcher, plan: &[Planned]) {
    for planned in plan {
        match planned {
            Planned::Raw(db, offset, expect, command) => {
                batcher.push_raw(*db, Place::Stream(*offset), *expect, &command.raw);
            }
            Planned::Args(db, offset, args) => {
                batcher.push(*db, Place::Stream(*offset), Expect::NoError, args);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Eviction;
    use crate::resp::{CommandScanner, Frame, write_command};
    use bytes::BytesMut;

    fn target() -> Arc<Target> {
        let dialect = command::Target {
            server: Server::redis(7, 4),
            commands: None,
            expiries: command::Expiries::Plain,
        };
        Arc::new(Target { dialect, eviction: Eviction::Other })
    }

    fn command(line: &str) -> StreamCommand {
        let mut buf = BytesMut::new();
        write_command(&mut buf, &line.split(' ').collect::<Vec<_>>());
        match CommandScanner::default().next(&mut buf) {
            Ok(Some(Frame::Command(command))) => command,
            other => panic!("{other:?}"),
        }
    }

    /// Feeds `lines` with offsets 10, 20, …: what would be sent, line by line, and the boundary.
    fn follow(lines: &[&str]) -> Result<(Vec<String>, u64), Error> {
        let mut follower = Follower::new(target(), Server::redis(6, 2), 0, None);
        for (index, line) in lines.iter().enumerate() {
            follower.command(command(line), 10 * (index as u64 + 1), 1_000)?;
        }
        let mut bytes = BytesMut::from(&follower.take().map(|batch| batch.bytes).unwrap_or_default()[..]);
        let (mut scanner, mut sent) = (CommandScanner::default(), Vec::new());
        while let Ok(Some(Frame::Command(command))) = scanner.next(&mut bytes) {
            sent.push(
                command.args.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" "),
            );
        }
        Ok((sent, follower.boundary()))
    }

    #[test]
    fn databases_are_selected_where_they_are_needed() {
        let (sent, boundary) =
            follow(&["SELECT 0", "SELECT 3", "SET a 1", "PING", "SET b 1", "SELECT 0", "DEL a"]).unwrap();
        assert_eq!(sent, ["SELECT 3", "SET a 1", "SET b 1", "SELECT 0", "DEL a"]);
        assert_eq!(boundary, 70);
    }

    #[test]
    fn a_transaction_is_sent_whole_or_not_at_all() {
        let (sent, boundary) =
            follow(&["SELECT 1", "SET a 1", "MULTI", "INCR n", "SELECT 2", "INCR n"]).unwrap();
        assert_eq!((sent, boundary), (vec!["SELECT 1".to_owned(), "SET a 1".to_owned()], 20));
        let (sent, boundary) =
            follow(&["SELECT 1", "MULTI", "INCR n", "SELECT 2", "INCR n", "EXEC", "DEL n"]).unwrap();
        assert_eq!(sent, ["SELECT 1", "MULTI", "INCR n", "SELECT 2", "INCR n", "EXEC", "DEL n"]);
        assert_eq!(boundary, 70);
    }

    #[test]
    fn a_transaction_of_one_command_needs_no_multi() {
        assert_eq!(follow(&["SELECT 0", "MULTI", "INCR n", "EXEC"]).unwrap().0, ["SELECT 0", "INCR n"]);
        assert_eq!(follow(&["SELECT 0", "MULTI", "PUBLISH c m", "EXEC"]).unwrap(), (vec![], 40));
    }

    #[test]
    fn what_no_rule_covers_stops_before_its_transaction() {
        let error = follow(&["SELECT 0", "MULTI", "SET a 1", "FROBNICATE k v", "EXEC"]).unwrap_err();
        assert!(matches!(&error, Error::NoRule { .. }), "{error}");
        assert!(error.to_string().contains("stream offset 40"), "{error}");
    }

    #[test]
    fn what_the_source_has_not_gets_a_time_that_is_past() {
        let mut follower = Follower::new(target(), Server::valkey(9, 0), 0, Some(3));
        for (at, line) in [(10, "HPERSIST h FIELDS 2 a d"), (20, "HPERSIST g FIELDS 2 a d")] {
            follower.command(command(line), at, 1_000).unwrap();
        }
        drop(follower.take());
        let mut gone = follower.ask_what_is_in_doubt();
        follower.command(command("HSET g a v"), 30, 1_000).unwrap();
        drop(follower.take());
        gone.iter_mut().for_each(|one| one.fields.truncate(1));
        follower.expire_what_is_gone(gone);
        let sent = follower.take().unwrap().bytes;
        assert!(sent.ends_with(&command("HPEXPIREAT h 1 FIELDS 1 a").raw), "{sent:?}");
        assert_eq!(sent.iter().filter(|byte| **byte == b'*').count(), 1, "{sent:?}");
        assert_eq!(follower.in_doubt(), 2);
    }

    #[test]
    fn a_stream_that_makes_no_sense_is_refused() {
        for lines in [&["SET a 1"][..], &["EXEC"], &["MULTI", "MULTI"]] {
            assert!(matches!(follow(lines), Err(Error::Stream { .. })), "{lines:?}");
        }
    }
}
