//! A capture's changes as commands: copies of keys in the order in which they were made, the last of each counts.

use super::batch::Expect;
use super::error::At;
use super::{Batch, Copied, Copier, Error, Place};
use crate::rdb::{Entry, Input, Kind};

impl<F: FnMut(Batch) -> Result<(), Error>> Copier<F> {
    /// The same copier, for copies of which a later one supersedes those of its key before it.
    pub fn of_changes(mut self) -> Self {
        self.is_capture = true;
        self
    }

    /// A key has this value now, with an expiry in milliseconds since the epoch, and its bytes as they stand in an RDB.
    ///
    /// # Errors
    /// When the target cannot hold it, or `emit` says so; the same with all that follow.
    pub fn value(
        &mut self,
        db: u32,
        key: &[u8],
        expiry_ms: Option<i64>,
        kind: Kind,
        raw: &[u8],
    ) -> Result<(), Error> {
        let entry = Entry {
            db,
            kind,
            type_byte: kind.type_byte(),
            expiry_ms,
            idle_seconds: None,
            freq: None,
            metadata_classes: 0,
            offset: 0,
        };
        self.keep_order(db, key);
        let entry = self.as_written(&entry, key)?;
        self.whole(&entry, key, raw, None).map_err(|error| match error {
            Error::Rdb(source) => {
                let at = At { db: Some(db), key: Some(key.to_vec()), place: None };
                Error::Value { source, at: Box::new(at) }
            }
            error => error,
        })?;
        self.copied.rdb_bytes += (key.len() + raw.len()) as u64;
        self.hand_on_full()
    }

    /// A key is not there.
    ///
    /// # Errors
    /// See [`value`](Self::value).
    pub fn absent(&mut self, db: u32, key: &[u8]) -> Result<(), Error> {
        self.keep_order(db, key);
        self.batcher.push(db, Place::Capture, Expect::NoError, &[b"DEL", key]);
        self.hand_on_full()
    }

    /// A database holds nothing.
    ///
    /// # Errors
    /// See [`value`](Self::value).
    pub fn flush_database(&mut self, db: u32) -> Result<(), Error> {
        self.flush_mset();
        self.batcher.push(db, Place::Capture, Expect::NoError, &["FLUSHDB"]);
        self.hand_on_full()
    }

    /// Two databases exchanged what they hold.
    ///
    /// # Errors
    /// See [`value`](Self::value).
    pub fn swap_databases(&mut self, a: u32, b: u32) -> Result<(), Error> {
        self.flush_mset();
        let (first, second) = (a.to_string(), b.to_string());
        self.batcher.push(a, Place::Capture, Expect::NoError, &["SWAPDB", &first, &second]);
        self.hand_on_full()
    }

    /// These are the functions, in an RDB that holds nothing else.
    ///
    /// # Errors
    /// See [`value`](Self::value).
    pub fn functions<I: Input>(&mut self, rdb: I) -> Result<(), Error> {
        if std::mem::take(&mut self.copied.functions) > 0 {
            self.batcher.push(0, Place::Capture, Expect::NoError, &["FUNCTION", "FLUSH"]);
        }
        self.rdb(rdb)
    }

    /// Copies what an RDB holds, behind all that came before.
    ///
    /// # Errors
    /// When it cannot be read, and see [`value`](Self::value).
    pub fn rdb<I: Input>(&mut self, rdb: I) -> Result<(), Error> {
        self.flush_mset();
        self.read(rdb)
    }

    /// Hands on what is left, and says what was copied.
    ///
    /// # Errors
    /// What `emit` says.
    pub fn copied(self) -> Result<Copied, Error> {
        self.finish()
    }

    /// What waits to be sent together is encoded first, where this key is among it.
    fn keep_order(&mut self, db: u32, key: &[u8]) {
        if self.mset_has(db, key) {
            self.flush_mset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;

    use super::*;
    use crate::apply::{CopyOptions, Eviction, Target};
    use crate::command::{self, Expiries};
    use crate::rdb::{FileWriter, Magic, Slice};
    use crate::resp::{CommandScanner, Frame};
    use crate::server::Server;

    type Emit<'a> = Box<dyn FnMut(Batch) -> Result<(), Error> + 'a>;

    /// What would be sent, each command without its values.
    fn sent(changes: impl FnOnce(&mut Copier<Emit<'_>>) -> Result<(), Error>) -> Vec<String> {
        let dialect =
            command::Target { server: Server::redis(7, 4), commands: None, expiries: Expiries::Plain };
        let target = Arc::new(Target { dialect, eviction: Eviction::Other });
        let mut bytes = BytesMut::new();
        let emit: Emit<'_> = Box::new(|batch: Batch| {
            bytes.extend_from_slice(&batch.bytes);
            Ok(())
        });
        let mut copier = Copier::new(target, CopyOptions::default(), emit).of_changes();
        changes(&mut copier).unwrap();
        copier.copied().unwrap();
        let (mut scanner, mut sent) = (CommandScanner::default(), Vec::new());
        while let Ok(Some(Frame::Command(command))) = scanner.next(&mut bytes) {
            let shown = if command.args[0] == "RESTORE" { &command.args[..2] } else { &command.args[..] };
            sent.push(shown.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" "));
        }
        sent
    }

    const LIST: &[u8] = b"\x01\x01a";

    #[test]
    fn no_change_overtakes_a_string_that_waits() {
        let string =
            |copier: &mut Copier<Emit<'_>>, key: &[u8]| copier.value(0, key, None, Kind::String, b"\x01v");
        let changed = sent(|copier| {
            string(copier, b"a")?;
            string(copier, b"b")?;
            copier.value(0, b"a", None, Kind::List, LIST)?;
            string(copier, b"c")?;
            copier.absent(0, b"c")?;
            string(copier, b"c")
        });
        assert_eq!(changed, ["SELECT 0", "MSET a v b v", "RESTORE a", "MSET c v", "DEL c", "MSET c v"]);
        let other = sent(|copier| {
            string(copier, b"a")?;
            copier.value(0, b"l", None, Kind::List, LIST)?;
            copier.absent(0, b"x")?;
            string(copier, b"b")
        });
        assert_eq!(other, ["SELECT 0", "RESTORE l", "DEL x", "MSET a v b v"], "other keys may");
        let flushed = sent(|copier| {
            string(copier, b"a")?;
            copier.flush_database(0)?;
            string(copier, b"b")?;
            copier.swap_databases(0, 3)?;
            string(copier, b"c")
        });
        assert_eq!(flushed, ["SELECT 0", "MSET a v", "FLUSHDB", "MSET b v", "SWAPDB 0 3", "MSET c v"]);
    }

    #[test]
    fn functions_that_are_sent_again_take_the_place_of_the_first() {
        let rdb = |codes: &[&[u8]]| {
            let mut file = FileWriter::new(Vec::new(), Magic::Redis, 10);
            codes.iter().for_each(|code| file.function(code).unwrap());
            file.finish().unwrap().out
        };
        let loaded = sent(|copier| {
            copier.functions(Slice::new(&rdb(&[b"one", b"two"])))?;
            copier.functions(Slice::new(&rdb(&[b"two"])))?;
            copier.functions(Slice::new(&rdb(&[])))?;
            copier.functions(Slice::new(&rdb(&[])))
        });
        let load = |name: &str| format!("FUNCTION LOAD REPLACE {name}");
        let flush = || "FUNCTION FLUSH".to_owned();
        assert_eq!(loaded, ["SELECT 0".to_owned(), load("one"), load("two"), flush(), load("two"), flush()]);
    }
}
