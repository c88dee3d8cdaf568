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
    target: Arc<Target>,
    options: CopyOptions,
    emit: F,
    batcher: Batcher,
    mset: Mset,
    /// The last hash with field expiries as it was written anew; kept for its room.
    hash: Vec<u8>,
    copied: Copied,
}

/// Small strings that wait to be sent together.
#[derive(Default)]
struct Mset {
    db: u32,
    /// Where the first of them stands in the RDB.
    place: u64,
    count: usize,
    /// Keys and values, encoded.
    args: BytesMut,
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
        }
    }

    /// Copies the whole RDB, which must end where the input does.
    pub fn copy<I: Input>(mut self, input: I) -> Result<Copied, Error> {
        let mut reader = Reader::new(input);
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Entry(entry) => self.entry(&mut reader, &entry)?,
                Item::Aux { key, value } => self.aux(&key, &value, reader.offset()),
                Item::Function(code) => self.function(&code, reader.offset())?,
                Item::ModuleAux(aux) if self.options.allow_module_aux_loss => {
                    tracing::warn!(module = aux.id.name(), "leaving module data outside the keyspace behind");
                    self.copied.module_aux_dropped += 1;
                }
                Item::ModuleAux(aux) => {
                    return Err(loss(
                        Loss::ModuleAux(aux.id.name()),
                        At { place: Some(Place::Rdb(reader.offset())), ..At::default() },
                    ));
                }
                Item::Header { .. }
                | Item::ResizeDb { .. }
                | Item::SlotInfo { .. }
                | Item::SlotImport { .. } => {}
                Item::End { .. } => {}
            }
            if self.batcher.is_full() {
                self.hand_on()?;
            }
        }
        self.flush_mset();
        self.hand_on()?;
        self.copied.rdb_bytes = reader.offset();
        let mut input = reader.into_input();
        match input.peek(1) {
            Err(rdb::Error::Truncated { .. }) => Ok(self.copied),
            Err(error) => Err(error.into()),
            Ok(_) => Err(Error::BehindRdb(self.copied.rdb_bytes)),
        }
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

    fn function(&mut self, code: &[u8], offset: u64) -> Result<(), Error> {
        let place = Place::Rdb(offset);
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
        let server = self.target.server();
        if entry.metadata_classes > 0 {
            return Err(loss(Loss::KeyMetadata, at(entry, reader.key())));
        }
        let hint = self.hint(entry);
        let expiry_ms = match entry.expiry_ms.map(|at_ms| (at_ms, self.target.dialect.expiries.of_key(at_ms)))
        {
            Some((at_ms, None)) => return Err(loss(Loss::ExpiryOutOfRange(at_ms), at(entry, reader.key()))),
            expiry => expiry.and_then(|(_, written)| written),
        };
        // From here on as it is to be written.
        let entry = &Entry { expiry_ms, ..*entry };
        let whole_max = match entry.kind.data_type() {
            DataType::Stream => STREAM_BYTES_MAX,
            DataType::Module => MODULE_BYTES_MAX,
            _ => 0,
        };
        let whole_max = whole_max.max(self.options.big_value_bytes);
        let (key, raw) = reader.key_and_raw_value(whole_max)?;
        // What the target does not load may have an older form in the same bytes.
        let mut hash = std::mem::take(&mut self.hash);
        let expiring = match raw {
            Some(raw) => self.expiring_hash(entry, key, raw, &mut hash)?,
            None => None,
        };
        let whole = raw.and_then(|raw| match rdb::readable(entry.kind, server) {
            _ if expiring.is_some() => Some((expiring?, &hash[..])),
            true => Some((entry.kind, raw)),
            false => {
                let older = rdb::older_form(entry.kind, raw, server)?;
                self.copied.idempotent_streams += u64::from(older.is_poorer);
                Some((older.kind, older.raw))
            }
        });
        self.copied.keys += 1;
        match (whole, raw) {
            (Some((Kind::String, raw)), _) if hint.is_none() && self.string(entry, key, raw)? => {}
            (Some((kind, raw)), _) => self.restore(entry, kind, key, raw, hint),
            (None, Some(raw)) => {
                self.copied.keys_by_commands += 1;
                let mut pieces = Pieces::new(&self.target, &mut self.batcher, &mut self.emit, entry, key);
                rdb::decode(entry.kind, raw, &rdb::Limits::default(), &mut |element| {
                    pieces.element(element)
                })?;
                pieces.finish()?;
            }
            (None, None) => {
                self.copied.keys_by_commands += 1;
                let key = key.to_vec();
                let mut pieces = Pieces::new(&self.target, &mut self.batcher, &mut self.emit, entry, &key);
                reader.decode_value(&mut |_: &[u8], element| pieces.element(element))?;
                pieces.finish()?;
            }
        }
        self.hash = hash;
        Ok(())
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
            target.expiries.of_field(at_ms).ok_or_else(|| loss(out_of_range(), at(entry, key)))
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
                let place = Place::Rdb(entry.offset);
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
    fn hint(&mut self, entry: &Entry) -> Option<(&'static [u8], u64)> {
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
    fn restore(&mut self, entry: &Entry, kind: Kind, key: &[u8], raw: &[u8], hint: Option<(&[u8], u64)>) {
        let version = rdb::restore_version(self.target.server());
        let args = if hint.is_some() { 8 } else { 6 };
        let mut command = self.batcher.command(entry.db, Place::Rdb(entry.offset), Expect::NoError, args);
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
            self.mset.place = entry.offset;
        }
        self.mset.count += 1;
        write_bulk(&mut self.mset.args, key);
        write_bulk(&mut self.mset.args, value);
    }

    fn flush_mset(&mut self) {
        let Mset { db, place, count, .. } = self.mset;
        if count == 0 {
            return;
        }
        let mut command = self.batcher.command(db, Place::Rdb(place), Expect::NoError, 1 + 2 * count);
        command.arg(b"MSET");
        command.encoded(2 * count, &self.mset.args);
        drop(command);
        self.batcher.batch().keys += count as u64;
        self.mset.args.clear();
        self.mset.count = 0;
    }
}

fn at(entry: &Entry, key: &[u8]) -> At {
    At { db: Some(entry.db), key: Some(key.to_vec()), place: Some(Place::Rdb(entry.offset)) }
}

fn loss(loss: Loss, at: At) -> Error {
    Error::Loss { loss, at: Box::new(at) }
}
