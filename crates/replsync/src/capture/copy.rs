//! One request and what becomes of its replies: a sandwich of INFO, keys, INFO.

mod pages;

use bytes::Bytes;

use self::pages::page_len;
use super::big::Big;
use super::change::{Change, Value};
use super::dialect::{Commands, Dialect, Expiry, Replies, expires, expiring_hashes, refused};
use super::ids::{Id, Owner};
use super::ledger::Ledger;
use super::mutant::lacks;
use super::run::Run;
use super::streams::{Ask, StreamReader};
use super::{Error, parts};
use crate::psync::ReplId;
use crate::rdb::{DataType, Kind, dump, quoted};
use crate::resp::Reply;

/// What is asked about one thing.
pub(super) enum Item {
    /// A key that is likely a small string: its first bytes.
    Text(Id, Bytes),
    /// A key: how large it is.
    Size(Id, Bytes),
    /// A large key: what it is.
    Type(Id, Bytes, u64),
    /// A key of known size: all of it.
    Whole(Id, Bytes),
    /// The functions.
    Functions,
    /// The next names of the space.
    Scan(Bytes),
    /// The next part of a big value.
    Page(u32),
    /// The next part of a big stream.
    Stream(u32, Ask),
    /// A big value's key's expiry.
    Expiry(u32),
    /// Elements of a big value of this type.
    Elements(u32, DataType, Vec<(Id, Bytes)>),
    /// The expiries of fields that were just read with their values.
    FieldExpiries(u32, Vec<(Id, Bytes, Bytes)>),
}

/// A request in flight.
pub(super) struct Batch {
    pub db: u32,
    pub space: u32,
    pub items: Vec<Item>,
    /// Whether keys' expiries are asked for: not where the database seems to have none.
    pub asks_expiries: bool,
    /// The same for fields.
    pub asks_fields: bool,
    /// Whether the connection has another database selected.
    pub selects: bool,
    /// How many bytes the replies have at most, as far as is known.
    pub reply_bytes: u64,
    /// The most bytes of a text.
    pub text_bytes: u64,
    /// How many names a page has.
    pub page_len: u64,
    /// How many bytes a part of a big value may have.
    pub page_bytes: u64,
}

impl Batch {
    /// The request for it.
    pub fn commands(&self, dialect: &Dialect, ledger: &Ledger) -> Commands {
        let mut out = Commands::default();
        out.add(&[b"INFO", b"replication"]);
        out.add(&[b"INFO", b"keyspace"]);
        if self.selects {
            out.add(&[b"SELECT", self.db.to_string().as_bytes()]);
        }
        let last = (self.text_bytes.max(1) - 1).to_string();
        for item in &self.items {
            match item {
                Item::Text(_, key) => {
                    let value: [&[u8]; 4] = [b"GETRANGE", key, b"0", last.as_bytes()];
                    ask_value(&mut out, dialect, self.asks_expiries, key, &value);
                }
                Item::Size(_, key) => out.add(&[b"MEMORY", b"USAGE", key]),
                Item::Type(_, key, _) => out.add(&[b"TYPE", key]),
                Item::Whole(_, key) => ask_value(&mut out, dialect, true, key, &[b"DUMP", key]),
                Item::Functions => out.add(&[b"FUNCTION", b"DUMP"]),
                Item::Scan(cursor) => {
                    out.add(&[b"SCAN", cursor, b"COUNT", self.page_len.to_string().as_bytes()])
                }
                Item::Page(big) => {
                    if let Some(big) = ledger.get_big(*big) {
                        let len = page_len(big, self.page_bytes);
                        parts::ask_page(&mut out, &big.key, big.data_type, &big.reading, len);
                    }
                }
                Item::Stream(big, ask) => {
                    if let Some(big) = ledger.get_big(*big) {
                        ask.put(&mut out, &big.key);
                    }
                }
                Item::Expiry(big) => {
                    if let Some(big) = ledger.get_big(*big) {
                        dialect.ask_expiry(&mut out, &big.key);
                    }
                }
                Item::Elements(big, data_type, elements) => {
                    if let Some(big) = ledger.get_big(*big) {
                        parts::ask_elements(
                            &mut out,
                            dialect,
                            &big.key,
                            *data_type,
                            elements,
                            self.asks_fields,
                        );
                    }
                }
                Item::FieldExpiries(big, fields) => {
                    if let Some(big) = ledger.get_big(*big) {
                        let fields = fields.iter().map(|(_, field, _)| field);
                        parts::ask_field_expiries(&mut out, &big.key, fields);
                    }
                }
            }
        }
        out.add(&[b"INFO", b"replication"]);
        out
    }
}

/// Asks for a key's expiry, then for its value: a key whose time is over between the two is no value then, and never
/// one without an expiry.
fn ask_value(out: &mut Commands, dialect: &Dialect, asks_expiry: bool, key: &[u8], value: &[&[u8]]) {
    let value_first = lacks("expiry-before-dump");
    if value_first {
        out.add(value);
    }
    if asks_expiry {
        dialect.ask_expiry(out, key);
    }
    if !value_first {
        out.add(value);
    }
}

/// Reads what [`ask_value`] has asked for.
fn value(
    replies: &mut Replies,
    dialect: &Dialect,
    asks_expiry: bool,
) -> Result<(Option<Expiry>, Reply), Error> {
    if lacks("expiry-before-dump") {
        let reply = replies.next()?;
        let expiry = asks_expiry.then(|| dialect.expiry(replies)).transpose()?;
        let unseen = |expiry| if expiry == Expiry::NoKey { Expiry::Never } else { expiry };
        return Ok((expiry.map(unseen), reply));
    }
    let expiry = asks_expiry.then(|| dialect.expiry(replies)).transpose()?;
    Ok((expiry, replies.next()?))
}

/// An answer whose offsets are known: `since` from the INFO before, `until` from the one behind.
pub(super) struct Answered {
    pub batch: Batch,
    replies: Vec<Reply>,
    pub since: u64,
    pub until: u64,
    /// Whether keys of the database have expiries.
    pub expires: bool,
    /// Whether fields have.
    pub field_expiries: bool,
}

impl Answered {
    pub fn new(batch: Batch, mut replies: Vec<Reply>, replid: ReplId) -> Result<Self, Error> {
        let nonsense = || Error::Nonsense { command: "INFO".to_owned() };
        let until = Replies::new(vec![replies.pop().ok_or_else(nonsense)?]).offset(replid)?;
        let mut all = Replies::new(replies);
        let since = all.offset(replid)?;
        let since = if lacks("first-offset") { until } else { since };
        let keyspace = match all.next()? {
            Reply::Bulk(text) => text,
            Reply::Error(text) => return Err(refused("INFO keyspace", &text)),
            _ => return Err(nonsense()),
        };
        if batch.selects {
            match all.next()? {
                Reply::Error(text) => return Err(refused("SELECT", &text)),
                reply if reply.is_ok() => {}
                _ => return Err(Error::Nonsense { command: "SELECT".to_owned() }),
            }
        }
        let (has_expires, field_expiries) =
            (expires(&keyspace, batch.db) > 0, expiring_hashes(&keyspace, batch.db) > 0);
        Ok(Self { batch, replies: all.rest(), since, until, expires: has_expires, field_expiries })
    }
}

impl Run {
    /// Keeps what an answer says, once the stream was read to the INFO behind it.
    pub(super) fn settle(&mut self, answered: Answered) -> Result<(), Error> {
        let Answered { batch, replies, since, expires, field_expiries, .. } = answered;
        // Where expiries were not asked for, nobody had one at `since`; who has got one later was touched.
        let expiries_unknown = !batch.asks_expiries && expires;
        let fields_unknown = !batch.asks_fields && field_expiries;
        let mut replies = Replies::new(replies);
        let place = Place { db: batch.db, space: batch.space, since };
        for item in batch.items {
            match item {
                Item::Text(id, key) => {
                    let (expiry, reply) = value(&mut replies, &self.dialect, batch.asks_expiries)?;
                    self.settle_text(&place, id, key, expiry, reply, batch.text_bytes, expiries_unknown)?;
                }
                Item::Size(id, key) => match replies.next()? {
                    Reply::Integer(bytes) => {
                        let bytes = bytes.unsigned_abs();
                        let is_big = bytes > self.limits.big;
                        let queue = self.queue(place.space);
                        match is_big {
                            true => queue.types.push_back((id, key, bytes)),
                            false => queue.wholes.push_back((id, key, bytes)),
                        }
                    }
                    Reply::Nil => self.keep(&place, id, key, None),
                    Reply::Error(text) => return Err(refused("MEMORY USAGE", &text)),
                    _ => return Err(replies.nonsense("MEMORY USAGE")),
                },
                Item::Type(id, key, bytes) => {
                    let reply = replies.next()?;
                    if let Reply::Error(text) = &reply {
                        return Err(refused("TYPE", text));
                    }
                    let Some(text) = reply.text() else { return Err(replies.nonsense("TYPE")) };
                    self.settle_type(&place, id, key, bytes, &text)?;
                }
                Item::Whole(id, key) => {
                    let (expiry, reply) = value(&mut replies, &self.dialect, true)?;
                    self.settle_whole(&place, id, key, expiry.unwrap_or(Expiry::Unclear), reply)?;
                }
                Item::Functions => match replies.next()? {
                    Reply::Bulk(payload) => {
                        let read = dump::functions(&payload);
                        let (code, version) = read.map_err(|source| Error::Functions { source })?;
                        self.rdb_version = Some(version);
                        if self.ledger.settle_functions(since) {
                            self.push(Change::Functions(payload.slice_ref(code)));
                        }
                    }
                    Reply::Error(text) => return Err(refused("FUNCTION DUMP", &text)),
                    _ => return Err(replies.nonsense("FUNCTION DUMP")),
                },
                Item::Scan(_) => {
                    let reply = replies.next()?;
                    let Some((cursor, names)) = reply.scan_page() else {
                        return Err(match reply.error() {
                            Some(text) => refused("SCAN", &text.into()),
                            None => replies.nonsense("SCAN"),
                        });
                    };
                    self.settle_scan(&place, cursor, names);
                }
                Item::Page(big) => {
                    let fields = batch.asks_fields || field_expiries;
                    self.settle_page(&place, big, &mut replies, fields, batch.page_bytes)?;
                }
                Item::Stream(big, ask) => self.settle_stream(&place, big, replies.take(ask.replies()))?,
                Item::Expiry(big) => {
                    let expiry = self.dialect.expiry(&mut replies)?;
                    let is_void = self.ledger.is_void(batch.db, batch.space, since);
                    if let Some(big) = self.ledger.big(big) {
                        match is_void || expiry == Expiry::Unclear {
                            true => big.expiry_is_asked = false,
                            false => _ = big.settle_expiry(since, expiry.ms()),
                        }
                    }
                }
                Item::Elements(big, data_type, elements) => {
                    let asked = batch.asks_fields;
                    let bodies = parts::elements(&mut replies, &self.dialect, data_type, &elements, asked)?;
                    let fields_unknown = fields_unknown && data_type == DataType::Hash;
                    self.settle_elements(&place, big, elements, bodies, fields_unknown);
                }
                Item::FieldExpiries(big, fields) => {
                    let at = parts::field_expiries(&mut replies, fields.len())?;
                    for (n, (id, field, value)) in fields.into_iter().enumerate() {
                        let body = at.get(n).and_then(|at| at.field(&field, &value));
                        // The value was read before: what counts is whether it was touched since it is in flight.
                        if self.ledger.settle_element(big, id, &field, place.db, 0) {
                            self.push_part(big, id, body);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "they are what one reply means")]
    fn settle_text(
        &mut self,
        place: &Place,
        id: Id,
        key: Bytes,
        expiry: Option<Expiry>,
        reply: Reply,
        text_bytes: u64,
        expiries_unknown: bool,
    ) -> Result<(), Error> {
        let text = match reply {
            Reply::Bulk(text) => text,
            Reply::Error(text) if text.starts_with(b"WRONGTYPE") => {
                self.guess.learn(&key, false);
                self.queue(place.space).sizes.push_back((id, key));
                return Ok(());
            }
            Reply::Error(text) => return Err(refused("GETRANGE", &text)),
            _ => return Err(Error::Nonsense { command: "GETRANGE".to_owned() }),
        };
        match expiry {
            _ if text.len() as u64 >= text_bytes => self.queue(place.space).sizes.push_back((id, key)),
            Some(Expiry::NoKey) if text.is_empty() => self.keep(place, id, key, None),
            // Empty, or not there.
            None if text.is_empty() => self.queue(place.space).wholes.push_back((id, key, 64)),
            Some(Expiry::NoKey | Expiry::Unclear) => self.ledger.again(Owner::Space(place.space), id, &key),
            None if expiries_unknown => self.ledger.again(Owner::Space(place.space), id, &key),
            expiry => {
                let mut raw = Vec::with_capacity(text.len() + 5);
                parts::string(&mut raw, &text);
                let expiry_ms = expiry.and_then(Expiry::ms);
                self.keep(place, id, key, Some((expiry_ms, Kind::String, raw.into())));
            }
        }
        Ok(())
    }

    fn settle_whole(
        &mut self,
        place: &Place,
        id: Id,
        key: Bytes,
        expiry: Expiry,
        reply: Reply,
    ) -> Result<(), Error> {
        let payload = match reply {
            Reply::Bulk(payload) => payload,
            Reply::Nil => {
                self.keep(place, id, key, None);
                return Ok(());
            }
            Reply::Error(text) => return Err(refused("DUMP", &text)),
            _ => return Err(Error::Nonsense { command: "DUMP".to_owned() }),
        };
        let parsed = dump::parse(&payload);
        let parsed =
            parsed.map_err(|source| Error::Payload { db: place.db, key: quoted(&key, KEY_SHOWN), source })?;
        self.rdb_version = Some(parsed.rdb_version);
        let is_text = parsed.kind == Kind::String && (payload.len() as u64) < self.limits.text;
        self.guess.learn(&key, is_text);
        if matches!(expiry, Expiry::NoKey | Expiry::Unclear) {
            self.ledger.again(Owner::Space(place.space), id, &key);
            return Ok(());
        }
        let (kind, len) = (parsed.kind, parsed.raw.len());
        self.keep(place, id, key, Some((expiry.ms(), kind, payload.slice(1..=len))));
        Ok(())
    }

    /// A large key's type: it is read in parts, or at once where that is not possible.
    fn settle_type(
        &mut self,
        place: &Place,
        id: Id,
        key: Bytes,
        bytes: u64,
        text: &str,
    ) -> Result<(), Error> {
        let data_type = match text {
            "string" => Some(DataType::String),
            "list" => Some(DataType::List),
            "set" => Some(DataType::Set),
            "zset" => Some(DataType::Zset),
            "hash" => Some(DataType::Hash),
            "stream" if self.dialect.stream_kind.is_some() => Some(DataType::Stream),
            "none" => {
                self.keep(place, id, key, None);
                return Ok(());
            }
            _ => None,
        };
        let is_hot = self.is_hot(id);
        if is_hot && !self.pausing && self.options.max_pause.is_some() {
            self.defer(place.space, id, key, bytes);
            return Ok(());
        }
        // A stream is read at once where a command does not show all of it, or where there is no time for pages.
        let at_once = self.unreadable.contains(&id) || (is_hot && bytes <= self.limits.dump);
        match data_type.filter(|data_type| *data_type != DataType::Stream || !at_once) {
            Some(data_type) => {
                let (space, name) = (place.space, key.clone());
                let stream = self.dialect.stream_kind.filter(|_| data_type == DataType::Stream);
                let page_bytes = self.limits.page;
                let make = |number| match stream {
                    Some(kind) => {
                        Big::stream(number, space, name, StreamReader::new(kind, bytes, page_bytes))
                    }
                    None => Big::new(number, space, name, data_type),
                };
                if let Some(big) = self.ledger.begin_big(place.db, place.space, id, &key, place.since, make) {
                    self.active.push_back(big);
                    self.stats.big_values += 1;
                }
            }
            None if bytes > self.limits.dump => {
                return Err(Error::TooBig {
                    db: place.db,
                    key: quoted(&key, KEY_SHOWN),
                    what: text.to_owned(),
                    bytes,
                    limit_bytes: self.limits.dump,
                });
            }
            None => self.queue(place.space).wholes.push_back((id, key, bytes)),
        }
        Ok(())
    }

    fn settle_scan(&mut self, place: &Place, cursor: Bytes, names: Vec<Bytes>) {
        self.scanning.remove(&place.space);
        if !self.ledger.scanned(place.db, place.space, place.since, cursor) {
            return;
        }
        let queue_bytes: usize = names.iter().map(Bytes::len).sum();
        self.note_names(names.len(), queue_bytes);
        for name in names {
            let id = self.ledger.id(Owner::Space(place.space), &name);
            if self.ledger.big_of(id).is_none() {
                self.queue(place.space).first.push_back((id, name));
            }
        }
    }

    /// A key's value, or that there is none: kept if it holds.
    fn keep(&mut self, place: &Place, id: Id, key: Bytes, value: Option<(Option<i64>, Kind, Bytes)>) {
        let space = place.space;
        self.stats.copied += 1;
        if let Some((_, _, raw)) = &value {
            self.stats.copied_bytes += raw.len() as u64;
        }
        let holds = self.ledger.settle(place.db, space, id, &key, place.since);
        let is_big = self.ledger.big_of(id).is_some();
        if is_big || !(holds || self.is_lenient) {
            return;
        }
        self.push(match value {
            Some((expiry_ms, kind, raw)) => Change::Value(Value { space, id, key, expiry_ms, kind, raw }),
            None => Change::Absent { space, id, key },
        });
    }
}

/// So many bytes of a key are shown.
pub(super) const KEY_SHOWN: usize = 80;

/// Where and since when something was read.
struct Place {
    db: u32,
    space: u32,
    since: u64,
}
