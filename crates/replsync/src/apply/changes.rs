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
