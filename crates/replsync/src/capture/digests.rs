//! A sink that adds a keyspace up: of each key and of each element of a big value its digest is kept, and no value but that
//! of big streams.

use std::collections::HashMap;
use std::io::{self, Read};

use bytes::Bytes;

use super::change::{BigValue, Change, Cut, Form, Sink, Value};
use super::ids::Id;
use crate::checksum::key_slot;
use crate::clock::now_signed_ms;
use crate::digest::{self, ElementDigest, KeyDigest, KeyHasher, Keyspace, Sum};
use crate::rdb::encode::{self, KeptField};
use crate::rdb::{self, Buffered, DataType, Element, FileWriter, Item, Kind, Limits, Magic, Reader, Slice};
use crate::spool::{self, Body, Config, Gauge, Latest, Log};

/// Keeps digests in [logs](Log), one for each space, of which the last of each key counts: 19 bytes of a key without an
/// expiry, 51 of one with. Big collections without an order are logs of elements; strings and lists are summed as they
/// come. Of big streams alone the values wait on disk.
pub struct Digests {
    config: Config,
    with_slots: bool,
    hasher: KeyHasher,
    spaces: HashMap<u32, Log>,
    bigs: HashMap<u32, Big>,
    functions: Bytes,
    record: Vec<u8>,
}

/// Why a keyspace could not be added up.
#[derive(Debug, thiserror::Error)]
pub enum DigestsError {
    /// The disk.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// A value that cannot be read.
    #[error("{key} cannot be read: {source}")]
    Value {
        /// The key, quoted.
        key: String,
        /// What is wrong.
        source: rdb::Error,
    },
    /// A value that is read in order was not.
    #[error("the parts of {key} came in another order than they were asked for")]
    Order {
        /// The key, quoted.
        key: String,
    },
    /// The functions cannot be read.
    #[error("the functions cannot be read: {0}")]
    Functions(#[from] digest::Error),
    /// What was kept is not what was written.
    #[error("a digest that waited on disk is not what was written there")]
    Record,
}

/// A big value under way.
struct Big {
    key: Bytes,
    form: Form,
    parts: Parts,
}

enum Parts {
    /// Summed as they come; the place of the next.
    InOrder(KeyHasher, u64),
    /// The digest of each, of which the last counts.
    Each(Box<Log>),
    /// The value as it stands in an RDB, part after part: a stream, whose nodes mean something only together with what
    /// comes before them. These wait on disk.
    Raw(Box<Log>, u64),
}

impl Digests {
    /// Digests wait as `config` says; those of each slot of a cluster are added up, too, where that is asked.
    pub fn new(config: Config, with_slots: bool) -> Self {
        Self {
            config,
            with_slots,
            hasher: KeyHasher::new(),
            spaces: HashMap::new(),
            bigs: HashMap::new(),
            functions: Bytes::new(),
            record: Vec::new(),
        }
    }
}

impl Sink for Digests {
    type Output = Keyspace;
    type Error = DigestsError;

    fn spooled(&self) -> Gauge {
        self.config.budget.gauge()
    }

    fn change(&mut self, change: Change) -> Result<(), DigestsError> {
        match change {
            Change::Opened { space, .. } => _ = self.spaces.insert(space, Log::new(&self.config)),
            Change::Dropped { space } => _ = self.spaces.remove(&space),
            // Which database has which space is told at the cut.
            Change::Swapped { .. } => {}
            Change::Value(value) => self.value(&value)?,
            Change::Absent { space, id, .. } => {
                if let Some(log) = self.spaces.get_mut(&space) {
                    log.remove(id.0)?;
                }
            }
            Change::BigBegun { big, key, form, .. } => {
                _ = self.bigs.insert(big, Big::new(key, form, &self.config));
            }
            Change::Part { big, id, body } => {
                if let Some(big) = self.bigs.get_mut(&big) {
                    big.part(&mut self.hasher, id, body.as_deref())?;
                }
            }
            Change::BigVoid { big } => _ = self.bigs.remove(&big),
            Change::Functions(functions) => self.functions = functions,
        }
        Ok(())
    }

    fn finish(mut self, cut: Cut) -> Result<Keyspace, DigestsError> {
        let now_ms = now_signed_ms();
        let mut keyspace = match self.with_slots {
            true => Keyspace::with_slots(now_ms),
            false => Keyspace::new(now_ms),
        };
        add_functions(&self.functions, cut.rdb_version, &mut keyspace)?;
        for (db, space) in &cut.spaces {
            let Some(log) = self.spaces.remove(space) else { continue };
            let mut keys = log.latest()?;
            while let Some(body) = keys.next()? {
                let Body::Whole(record) = body else { return Err(DigestsError::Record) };
                let (slot, key) = parse(record).ok_or(DigestsError::Record)?;
                keyspace.add_by_slot(*db, || slot, &key);
            }
        }
        for of_cut in &cut.bigs {
            let (Some(db), Some(big)) = (cut.database_of(of_cut.space), self.bigs.remove(&of_cut.big)) else {
                continue;
            };
            if let Some(key) = big.finish(&mut self.hasher, of_cut, cut.rdb_version)? {
                keyspace.add(db, &of_cut.key, &key);
            }
        }
        Ok(keyspace)
    }
}

impl Digests {
    fn value(&mut self, value: &Value) -> Result<(), DigestsError> {
        let Some(log) = self.spaces.get_mut(&value.space) else { return Ok(()) };
        let key = of_raw(&mut self.hasher, &value.key, value.expiry_ms, value.kind, &value.raw)?;
        self.record.clear();
        put(&mut self.record, key_slot(&value.key), &key);
        log.put(value.id.0, &[&self.record], value.expiry_ms.is_some())?;
        Ok(())
    }
}

/// The digest of a key, from its value as it stands in an RDB.
fn of_raw(
    hasher: &mut KeyHasher,
    key: &[u8],
    expiry_ms: Option<i64>,
    kind: Kind,
    raw: &[u8],
) -> Result<KeyDigest, DigestsError> {
    hasher.start(key, expiry_ms);
    let decoded = rdb::decode(kind, raw, &Limits::default(), &mut |element| {
        hasher.element(&element);
        Ok::<_, rdb::Error>(())
    });
    decoded.map_err(|source| DigestsError::Value { key: rdb::quoted(key, KEY_SHOWN), source })?;
    Ok(hasher.finish(kind.data_type()))
}

const KEY_SHOWN: usize = 80;

/// Functions are read as those of a file without keys.
fn add_functions(raw: &[u8], rdb_version: u16, keyspace: &mut Keyspace) -> Result<(), DigestsError> {
    let failed = |source: std::io::Error| {
        let source = rdb::Error::Io { offset: 0, source };
        DigestsError::Functions(digest::Error::Rdb { source, at: digest::At::default() })
    };
    let mut file = FileWriter::new(Vec::new(), Magic::of_version(rdb_version), rdb_version);
    file.functions(raw).map_err(failed)?;
    let file = file.finish().map_err(failed)?.out;
    digest::read(Reader::new(Slice::new(&file)), keyspace)?;
    Ok(())
}

impl Big {
    fn new(key: Bytes, form: Form, config: &Config) -> Self {
        let parts = match form {
            Form::String | Form::List => {
                let mut hasher = KeyHasher::new();
                hasher.start(&key, None);
                Parts::InOrder(hasher, 0)
            }
            Form::Set | Form::Hash | Form::Zset => Parts::Each(Box::new(Log::new(config))),
            Form::Stream(_) => Parts::Raw(Box::new(Log::new(config)), 0),
        };
        Self { key, form, parts }
    }

    fn part(&mut self, hasher: &mut KeyHasher, id: Id, body: Option<&[u8]>) -> Result<(), DigestsError> {
        let quoted = |key: &[u8]| rdb::quoted(key, KEY_SHOWN);
        match (&mut self.parts, body) {
            (Parts::InOrder(..) | Parts::Raw(..), None) => {
                return Err(DigestsError::Order { key: quoted(&self.key) });
            }
            (Parts::InOrder(_, next) | Parts::Raw(_, next), Some(_)) if id.0 != u128::from(*next) => {
                return Err(DigestsError::Order { key: quoted(&self.key) });
            }
            (Parts::InOrder(hasher, next), Some(body)) => {
                *next += 1;
                match self.form {
                    Form::String => hasher.string_piece(body),
                    _ => {
                        let item = rdb::decode_string(body);
                        let item =
                            item.map_err(|source| DigestsError::Value { key: quoted(&self.key), source })?;
                        hasher.element(&Element::ListItem(&item));
                    }
                }
            }
            (Parts::Each(log), None) => log.remove(id.0)?,
            (Parts::Each(log), Some(body)) => {
                hasher.start(&self.key, None);
                let digest = of_element(hasher, self.form, body)
                    .map_err(|source| DigestsError::Value { key: quoted(&self.key), source })?;
                let (data, expiries) = (digest.data.0.to_le_bytes(), digest.expiries.0.to_le_bytes());
                match digest.field_expires {
                    0 => log.put(id.0, &[&data], false)?,
                    _ => log.put(id.0, &[&data, &expiries], false)?,
                }
            }
            (Parts::Raw(log, next), Some(body)) => {
                *next += 1;
                log.put(id.0, &[body], false)?;
            }
        }
        Ok(())
    }

    /// The digest of the key at the cut; nothing where it has no elements, and so is no key.
    fn finish(
        self,
        hasher: &mut KeyHasher,
        big: &BigValue,
        rdb_version: u16,
    ) -> Result<Option<KeyDigest>, DigestsError> {
        let data_type = match self.form {
            Form::String => DataType::String,
            Form::List => DataType::List,
            Form::Set => DataType::Set,
            Form::Hash => DataType::Hash,
            Form::Zset => DataType::Zset,
            Form::Stream(kind) => kind.data_type(),
        };
        let key = match self.parts {
            Parts::InOrder(mut hasher, _) if self.form == Form::String => {
                hasher.string_piece(b"");
                hasher.finish(data_type)
            }
            Parts::InOrder(_, 0) => return Ok(None),
            Parts::InOrder(mut hasher, _) => hasher.finish(data_type),
            Parts::Each(log) => {
                let mut elements = log.latest()?;
                if elements.is_empty() {
                    return Ok(None);
                }
                hasher.start(&self.key, None);
                while let Some(body) = elements.next()? {
                    let Body::Whole(record) = body else { return Err(DigestsError::Record) };
                    hasher.add(&parse_element(record).ok_or(DigestsError::Record)?);
                }
                hasher.finish(data_type)
            }
            Parts::Raw(log, _) => match self.form {
                Form::Stream(kind) => {
                    let parts = log.latest()?;
                    let head = big.head(parts.len(), parts.bytes());
                    hasher.start(&self.key, None);
                    of_parts(hasher, &self.key, kind, &head, parts, rdb_version).map_err(|source| {
                        DigestsError::Value { key: rdb::quoted(&self.key, KEY_SHOWN), source }
                    })?;
                    hasher.finish(data_type)
                }
                _ => return Err(DigestsError::Record),
            },
        };
        Ok(Some(key.with_expiry(&self.key, big.expiry_ms)))
    }
}

/// Feeds the hasher with a value that is in parts, as with the one key of a file, so that little of it is held.
fn of_parts(
    hasher: &mut KeyHasher,
    key: &[u8],
    kind: Kind,
    head: &[u8],
    parts: Latest,
    rdb_version: u16,
) -> Result<(), rdb::Error> {
    let failed = |source| rdb::Error::Io { offset: 0, source };
    let file = FileWriter::new(Vec::new(), Magic::of_version(rdb_version), rdb_version);
    let mut before = file.finish().map_err(failed)?.out;
    // Without its end: the opcode and the checksum.
    before.truncate(before.len().saturating_sub(9));
    encode::entry(&mut before, None, kind.type_byte(), key, head);
    let parts = Joined { parts, body: Vec::new(), at: 0 };
    let mut reader = Reader::new(Buffered::new(io::Cursor::new(before).chain(parts)));
    while let Some(item) = reader.next_item()? {
        if matches!(item, Item::Entry(_)) {
            return reader.decode_value(&mut |_, element| {
                hasher.element(&element);
                Ok::<_, rdb::Error>(())
            });
        }
    }
    Err(rdb::Error::Corrupt { what: "no key where one was written", offset: 0 })
}

/// Parts, one behind the other.
struct Joined {
    parts: Latest,
    body: Vec<u8>,
    at: usize,
}

impl Read for Joined {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.body.len() {
            self.body.clear();
            self.at = 0;
            match self.parts.next().map_err(io::Error::other)? {
                None => return Ok(0),
                Some(Body::Whole(body)) => self.body.extend_from_slice(body),
                Some(Body::Large(mut pieces)) => _ = pieces.read_to_end(&mut self.body)?,
            }
        }
        let len = out.len().min(self.body.len() - self.at);
        out[..len].copy_from_slice(&self.body[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// The digest of an element of the hasher's key, from how it stands in an RDB; that of a field as
/// [`kept_field`](encode::kept_field) writes it.
fn of_element(hasher: &KeyHasher, form: Form, body: &[u8]) -> Result<ElementDigest, rdb::Error> {
    let (data_type, kept) = match form {
        Form::Hash => (DataType::Hash, KeptField::parse(body)?),
        Form::Zset => (DataType::Zset, KeptField { expiry_ms: None, pair: body }),
        _ => (DataType::Set, KeptField { expiry_ms: None, pair: body }),
    };
    // A collection of one.
    let mut one = Vec::with_capacity(1 + kept.pair.len());
    encode::length(&mut one, 1);
    one.extend_from_slice(kept.pair);
    let mut digest = None;
    let kind = encode::plain_kind(data_type).unwrap_or(Kind::String);
    rdb::decode(kind, &one, &Limits::default(), &mut |element| {
        digest = hasher.alone(&match element {
            Element::HashField { field, value, .. } => {
                Element::HashField { field, value, expiry_ms: kept.expiry_ms }
            }
            element => element,
        });
        Ok::<_, rdb::Error>(())
    })?;
    digest.ok_or(rdb::Error::Corrupt { what: "no element where one was kept", offset: 0 })
}

// --- records -----------------------------------------------------------------------------------------------------------

/// Whether a key has an expiry; whether it or a field has.
const EXPIRES: u8 = 1;
const ANY_EXPIRES: u8 = 2;

/// Puts down what [`parse`] reads.
fn put(out: &mut Vec<u8>, slot: u16, key: &KeyDigest) {
    let any = key.expiry_ms.is_some() || key.field_expires > 0;
    out.push(if key.expiry_ms.is_some() { EXPIRES } else { 0 } | if any { ANY_EXPIRES } else { 0 });
    out.extend_from_slice(&slot.to_le_bytes());
    out.extend_from_slice(&key.data.0.to_le_bytes());
    if any {
        out.extend_from_slice(&key.expiries.0.to_le_bytes());
        out.extend_from_slice(&key.field_expires.to_le_bytes());
        out.extend_from_slice(&key.expiry_ms.unwrap_or(0).to_le_bytes());
    }
}

/// A key's slot and its digest.
fn parse(record: &[u8]) -> Option<(u16, KeyDigest)> {
    let (&flags, mut rest) = record.split_first()?;
    let slot = u16::from_le_bytes(take(&mut rest)?);
    let mut key = KeyDigest { data: Sum(u128::from_le_bytes(take(&mut rest)?)), ..KeyDigest::default() };
    if flags & ANY_EXPIRES != 0 {
        key.expiries = Sum(u128::from_le_bytes(take(&mut rest)?));
        key.field_expires = u64::from_le_bytes(take(&mut rest)?);
        let expiry_ms = i64::from_le_bytes(take(&mut rest)?);
        key.expiry_ms = (flags & EXPIRES != 0).then_some(expiry_ms);
    }
    rest.is_empty().then_some((slot, key))
}

fn parse_element(mut record: &[u8]) -> Option<ElementDigest> {
    let data = Sum(u128::from_le_bytes(take(&mut record)?));
    if record.is_empty() {
        return Some(ElementDigest { data, ..ElementDigest::default() });
    }
    let expiries = Sum(u128::from_le_bytes(take(&mut record)?));
    record.is_empty().then_some(ElementDigest { data, expiries, field_expires: 1 })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}
