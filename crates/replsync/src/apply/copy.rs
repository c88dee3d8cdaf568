//! An RDB's entries as commands, each value in the cheapest way that the target understands.

use std::sync::Arc;

use bytes::BytesMut;

use super::batch::{Batcher, Expect};
use super::error::{At, Loss};
use super::pieces::Pieces;
use super::{Batch, Error, Eviction, Place, Target};
use crate::rdb::{self, DataType, Entry, Input, Item, Kind, Reader};
use crate::resp::write_bulk;

/// So many small strings go into one MSET: a target spends about half as long on them as on SETs.
const MSET_KEYS: usize = 50;
/// What counts as a small string, in bytes of its RDB form.
const SMALL_STRING_BYTES: usize = 4 * 1024;
/// A stream is loaded whole up to this size, since only a whole one keeps pending entries whose entry is gone.
const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A module's value is loaded whole or not at all: servers take no longer argument (`proto-max-bulk-len`).
const MODULE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// What the copy may do.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Values of more bytes than this (in RDB form) are not sent whole but built by commands, piece by piece.
    pub big_value_bytes: usize,
    /// Whether to go on without what modules keep outside the keyspace.
    pub allow_module_aux_loss: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { big_value_bytes: 1024 * 1024, allow_module_aux_loss: false }
    }
}

/// What was copied, and what was left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Keys in the RDB.
    pub keys: u64,
    /// Keys among them that were built by commands because they are big or of a type that the target does not load.
    pub keys_by_commands: u64,
    /// Function libraries.
    pub functions: u64,
    /// Lua scripts of the script cache.
    pub scripts: u64,
    /// LRU or LFU hints that are of no use to the target.
    pub hints_dropped: u64,
    /// Fields of module data outside the keyspace that were left behind, as was allowed.
    pub module_aux_dropped: u64,
    /// Streams whose memory of idempotent producers was left behind: the target has none.
    pub idempotent_streams: u64,
    /// Bytes of the RDB that were read.
    pub rdb_bytes: u64,
    /// The database that the stream behind the RDB begins in, where the RDB says so (`repl-stream-db`).
    pub stream_db: Option<u32>,
}

/// Turns an RDB into batches. Plain code that reads and calls back; it belongs on a thread of its own.
pub struct Copier<F> {
    pub(super) target: Arc<Target>,
    options: CopyOptions,
    emit: F,
    pub(super) batcher: Batcher,
    mset: Mset,
    /// The last hash with field expiries as it was written anew; kept for its room.
    hash: Vec<u8>,
    pub(super) copied: Copied,
    /// Whether copies of one key may follow each other, as in a capture.
    pub(super) is_capture: bool,
}

/// What RESTORE is told of a key's use: an argument's name and its value.
type Hint = (&'static [u8], u64);

/// Small strings that wait to be sent together.
#[derive(Default)]
struct Mset {
    db: u32,
    /// Where the first of them stands.
    place: Option<Place>,
    count: usize,
    /// Keys and values, encoded.
    args: BytesMut,
    /// Of a capture, hashes of the keys: another copy of one of them must not come before this one.
    hashes: Vec<u64>,
}

impl<F: FnMut(Batch) -> Result<(), Error>> Copier<F> {
    /// A copier that hands its batches to `emit`.
    pub fn new(target: Arc<Target>, options: CopyOptions, emit: F) -> Self {
        Self {
            target,
            options,
            emit,
            batcher: Batcher::default(),
            mset: Mset::default(),
            hash: Vec::new(),
            copied: Copied::default(),
            is_capture: false,
        }
    }

    /// Copies the whole RDB, which must end where the input does.
    pub fn copy<I: Input>(mut self, input: I) -> Result<Copied, Error> {
        self.read(input)?;
        self.finish()
    }

    /// Copies an RDB, which must end where the input does.
    pub(super) fn read<I: Input>(&mut self, input: I) -> Result<(), Error> {
        let mut reader = Reader::new(input);
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Entry(entry) => self.entry(&mut reader, &entry)?,
                Item::Aux { key, value } => self.aux(&key, &value, reader.offset()),
                Item::Function(code) => self.function(&code, self.place(reader.offset()))?,
                Item::ModuleAux(aux) if self.options.allow_module_aux_loss => {
                    tracing::warn!(module = aux.id.name(), "leaving module data outside the keyspace behind");
                    self.copied.module_aux_dropped += 1;
                }
                Item::ModuleAux(aux) => {
                    let place = Some(Place::Rdb(reader.offset()));
                    return Err(loss(Loss::ModuleAux(aux.id.name()), At { place, ..At::default() }));
                }
                Item::Header { .. }
                | Item::ResizeDb { .. }
                | Item::SlotInfo { .. }
                | Item::SlotImport { .. } => {}
                Item::End { .. } => {}
            }
            self.hand_on_full()?;
        }
        let rdb_bytes = reader.offset();
        self.copied.rdb_bytes += rdb_bytes;
        let mut input = reader.into_input();
        match input.peek(1) {
            Err(rdb::Error::Truncated { .. }) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(Error::BehindRdb(rdb_bytes)),
        }
    }

    /// Hands on what is left, and says what was copied.
    pub(super) fn finish(mut self) -> Result<Copied, Error> {
        self.flush_mset();
        self.hand_on()?;
        Ok(self.copied)
    }

    pub(super) fn hand_on_full(&mut self) -> Result<(), Error> {
        if self.batcher.is_full() { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> Result<(), Error> {
        match self.batcher.take() {
            Some(batch) => (self.emit)(batch),
            None => Ok(()),
        }
    }

    fn aux(&mut self, key: &[u8], value: &[u8], offset: u64) {
        match key {
            b"repl-stream-db" => {
                let db = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                self.copied.stream_db = db;
            }
            // Before 7.0 replicas get the script cache, since EVALSHA may come in the stream.
            b"lua" => {
                self.batcher.push(
                    0,
                    Place::Rdb(offset),
                    Expect::NoError,
                    &[b"SCRIPT", b"LOAD".as_slice(), value],
                );
                self.copied.scripts += 1;
            }
            _ => {}
        }
    }

    fn place(&self, offset: u64) -> Place {
        if self.is_capture { Place::Capture } else { Place::Rdb(offset) }
    }

    fn function(&mut self, code: &[u8], place: Place) -> Result<(), Error> {
        let server = self.target.server();
        if !server.has((7, 0), None) {
            return Err(loss(
                Loss::Functions(server.to_string()),
                At { place: Some(place), ..At::default() },
            ));
        }
        self.batcher.push(0, place, Expect::NoError, &[b"FUNCTION", b"LOAD".as_slice(), b"REPLACE", code]);
        self.copied.functions += 1;
        Ok(())
    }

    fn entry<I: Input>(&mut self, reader: &mut Reader<I>, entry: &Entry) -> Result<(), Error> {
        if entry.metadata_classes > 0 {
            return Err(loss(Loss::KeyMetadata, self.at(entry, reader.key())));
        }
        let hint = self.hint(entry);
        let entry = self.as_written(entry, reader.key())?;
        let whole_max = match entry.kind.data_type() {
            DataType::Stream => STREAM_BYTES_MAX,
            DataType::Module => MODULE_BYTES_MAX,
            _ => 0,
        };
        let whole_max = whole_max.max(self.options.big_value_bytes);
        let (key, raw) = reader.key_and_raw_value(whole_max)?;
        if let Some(raw) = raw {
            return self.whole(&entry, key, raw, hint);
        }
        self.count_by_commands();
        let (key, place) = (key.to_vec(), self.place(entry.offset));
        let mut pieces = Pieces::new(&self.target, &mut self.batcher, &mut self.emit, &entry, place, &key);
        reader.decode_value(&mut |_: &[u8], element| pieces.element(element))?;
        pieces.finish()
    }

    /// The entry with the expiry that is to be written.
    pub(super) fn as_written(&self, entry: &Entry, key: &[u8]) -> Result<Entry, Error> {
        let Some(at_ms) = entry.expiry_ms else { return Ok(*entry) };
        match self.target.dialect.expiries.of_key(at_ms) {
            Some(written) => Ok(Entry { expiry_ms: Some(written), ..*entry }),
            None => Err(loss(Loss::ExpiryOutOfRange(at_ms), self.at(entry, key))),
        }
    }

    /// Copies a value that is there as a whole. `entry` is as it is to be written, `hint` what RESTORE is told of its use.
    pub(super) fn whole(
        &mut self,
        entry: &Entry,
        key: &[u8],
        raw: &[u8],
        hint: Option<Hint>,
    ) -> Result<(), Error> {
        let server = self.target.server();
        // What the target does not load may have an older form in the same bytes.
        let mut hash = std::mem::take(&mut self.hash);
        let whole = match self.expiring_hash(entry, key, raw, &mut hash)? {
            Some(kind) => Some((kind, &hash[..])),
            None if rdb::readable(entry.kind, server) => Some((entry.kind, raw)),
            None => rdb::older_form(entry.kind, raw, server).map(|older| {
                self.copied.idempotent_streams += u64::from(older.is_poorer);
                (older.kind, older.raw)
            }),
        };
        match whole {
            Some((Kind::String, raw)) if hint.is_none() && self.string(entry, key, raw)? => {
                self.copied.keys += 1;
            }
            Some((kind, raw)) => {
                self.copied.keys += 1;
                self.restore(entry, kind, key, raw, hint);
            }
            None => {
                self.count_by_commands();
                let place = self.place(entry.offset);
                let mut pieces =
                    Pieces::new(&self.target, &mut self.batcher, &mut self.emit, entry, place, key);
                rdb::decode(entry.kind, raw, &rdb::Limits::default(), &mut |element| {
                    pieces.element(element)
                })?;
                pieces.finish()?;
            }
        }
        self.hash = hash;
        Ok(())
    }

    fn count_by_commands(&mut self) {
        self.copied.keys += 1;
        self.copied.keys_by_commands += 1;
    }

    /// Writes a hash with field expiries anew into `out`, for the target and with the expiries that it is to have.
    /// `None` when it is no such hash, or the target has no field expiries.
    fn expiring_hash(
        &self,
        entry: &Entry,
        key: &[u8],
        raw: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Kind>, Error> {
        let target = &self.target.dialect;
        let mut written = |at_ms: u64| {
            let out_of_range = || Loss::ExpiryOutOfRange(i64::try_from(at_ms).unwrap_or(i64::MAX));
            target.expiries.of_field(at_ms).ok_or_else(|| loss(out_of_range(), self.at(entry, key)))
        };
        rdb::rewrite_field_expiries(entry.kind, raw, target.server, out, &mut written)
    }

    /// Copies a small string by SET or MSET, which cost a target less than RESTORE. False where that does not do.
    fn string(&mut self, entry: &Entry, key: &[u8], raw: &[u8]) -> Result<bool, Error> {
        if raw.len() > SMALL_STRING_BYTES || rdb::is_compressed(raw) {
            return Ok(false);
        }
        let value = rdb::decode_string(raw)?;
        match entry.expiry_ms {
            None => self.mset(entry, key, &value),
            Some(expiry_ms) if self.target.server().has((6, 2), None) => {
                let place = self.place(entry.offset);
                let mut command = self.batcher.command(entry.db, place, Expect::NoError, 5);
                command.arg(b"SET");
                command.arg(key);
                command.arg(&value);
                command.arg(b"PXAT");
                command.number(expiry_ms);
                drop(command);
                self.batcher.batch().keys += 1;
            }
            Some(_) => return Ok(false),
        }
        Ok(true)
    }

    /// The access hint as RESTORE's arguments, where the target has a use for it.
    fn hint(&mut self, entry: &Entry) -> Option<Hint> {
        let hint = match (self.target.eviction, entry.idle_seconds, entry.freq) {
            (_, None, None) => return None,
            (Eviction::Lru, Some(idle_seconds), _) => Some((&b"IDLETIME"[..], idle_seconds)),
            (Eviction::Lfu, _, Some(freq)) => Some((&b"FREQ"[..], u64::from(freq))),
            _ => None,
        };
        self.copied.hints_dropped += u64::from(hint.is_none());
        hint
    }

    /// `RESTORE key expiry payload REPLACE ABSTTL [hint]`
    fn restore(&mut self, entry: &Entry, kind: Kind, key: &[u8], raw: &[u8], hint: Option<Hint>) {
        let version = rdb::restore_version(self.target.server());
        let args = if hint.is_some() { 8 } else { 6 };
        let place = self.place(entry.offset);
        let mut command = self.batcher.command(entry.db, place, Expect::NoError, args);
        command.arg(b"RESTORE");
        command.arg(key);
        command.number(entry.expiry_ms.unwrap_or(0));
        command.arg_with(rdb::dump::payload_len(raw.len()), |out| {
            rdb::dump::write(out, kind.type_byte(), raw, version)
        });
        command.arg(b"REPLACE");
        command.arg(b"ABSTTL");
        if let Some((name, value)) = hint {
            command.arg(name);
            command.number(value);
        }
        drop(command);
        self.batcher.batch().keys += 1;
    }

    /// Adds a string to those that go together.
    fn mset(&mut self, entry: &Entry, key: &[u8], value: &[u8]) {
        if self.mset.db != entry.db || self.mset.count == MSET_KEYS {
            self.flush_mset();
            self.mset.db = entry.db;
        }
        if self.mset.count == 0 {
            self.mset.place = Some(self.place(entry.offset));
        }
        self.mset.count += 1;
        if self.is_capture {
            self.mset.hashes.push(rdb::distinct::hash(key));
        }
        write_bulk(&mut self.mset.args, key);
        write_bulk(&mut self.mset.args, value);
    }

    /// Whether one of the strings that wait may be this key's.
    pub(super) fn mset_has(&self, db: u32, key: &[u8]) -> bool {
        self.mset.count > 0 && self.mset.db == db && self.mset.hashes.contains(&rdb::distinct::hash(key))
    }

    pub(super) fn flush_mset(&mut self) {
        let Mset { db, place: Some(place), count: count @ 1.., .. } = self.mset else { return };
        let mut command = self.batcher.command(db, place, Expect::NoError, 1 + 2 * count);
        command.arg(b"MSET");
        command.encoded(2 * count, &self.mset.args);
        drop(command);
        self.batcher.batch().keys += count as u64;
        self.mset.args.clear();
        self.mset.hashes.clear();
        self.mset.count = 0;
    }

    fn at(&self, entry: &Entry, key: &[u8]) -> At {
        At { db: Some(entry.db), key: Some(key.to_vec()), place: Some(self.place(entry.offset)) }
    }
}

fn loss(loss: Loss, at: At) -> Error {
    Error::Loss { loss, at: Box::new(at) }
}
