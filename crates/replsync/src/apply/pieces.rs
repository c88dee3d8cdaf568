//! A value built by commands, piece by piece: a big one, or one that the target does not load.

use bytes::BytesMut;

use super::batch::{Batcher, Expect};
use super::error::{At, Loss};
use super::{Batch, Error, Place, Target};
use crate::rdb::{Element, Entry, StreamId};
use crate::resp::write_bulk;
use crate::server::Server;

/// A command takes at most this many elements …
const ELEMENTS: usize = 256;
/// … and about as many bytes, unless one element is longer.
const BYTES: usize = 64 * 1024;

/// Builds one key, whose expiry `entry` holds as it is to be written. Feed it the value's elements in order, then [`finish`](Self::finish).
///
/// Nobody reads the target yet, so the key may be seen half built; should the copy fail, the target is not to be
/// used.
pub(super) struct Pieces<'a, F> {
    target: &'a Target,
    server: Server,
    batcher: &'a mut Batcher,
    emit: &'a mut F,
    entry: &'a Entry,
    place: Place,
    key: &'a [u8],
    /// The command under way: its name, and the elements that it takes so far.
    verb: &'static str,
    elements: BytesMut,
    args: usize,
    /// Fields of the HSET under way that expire.
    field_expiries: Vec<(u64, Vec<u8>)>,
    begun: bool,
    /// Entries of a stream that were added.
    stream_entries: u64,
}

impl<'a, F: FnMut(Batch) -> Result<(), Error>> Pieces<'a, F> {
    pub fn new(
        target: &'a Target,
        batcher: &'a mut Batcher,
        emit: &'a mut F,
        entry: &'a Entry,
        place: Place,
        key: &'a [u8],
    ) -> Self {
        Self {
            target,
            server: target.server(),
            batcher,
            emit,
            entry,
            place,
            key,
            verb: "",
            elements: BytesMut::new(),
            args: 0,
            field_expiries: Vec::new(),
            begun: false,
            stream_entries: 0,
        }
    }

    /// Takes the value's next element.
    pub fn element(&mut self, element: Element<'_>) -> Result<(), Error> {
        if !self.begun {
            self.begun = true;
            self.push(Expect::NoError, &[b"UNLINK", self.key])?;
        }
        match element {
            Element::StringPart(part) => {
                // The first part also makes an empty string.
                self.gather("APPEND", &[part])?;
                self.flush()
            }
            Element::ListItem(item) => self.gather("RPUSH", &[item]),
            Element::SetMember(member) => self.gather("SADD", &[member]),
            // Rust prints the shortest text that reads back as the same number; servers read it with strtod.
            Element::ZsetMember { member, score } => {
                self.gather("ZADD", &[score.to_string().as_bytes(), member])
            }
            Element::HashField { field, value, expiry_ms } => {
                if let Some(expiry_ms) = expiry_ms {
                    if !self.server.has((7, 4), Some((9, 0))) {
                        return Err(self.loss(Loss::FieldExpiries(self.server.to_string())));
                    }
                    let Some(written) = self.target.dialect.expiries.of_field(expiry_ms) else {
                        let at_ms = i64::try_from(expiry_ms).unwrap_or(i64::MAX);
                        return Err(self.loss(Loss::ExpiryOutOfRange(at_ms)));
                    };
                    self.field_expiries.push((written, field.to_vec()));
                }
                self.gather("HSET", &[field, value])
            }
            Element::StreamEntry { id, fields } => {
                self.stream_entries += 1;
                let id = id.to_string();
                let mut args = vec![b"XADD".as_slice(), self.key, id.as_bytes()];
                args.extend(fields.iter().flat_map(|(field, value)| [*field, *value]));
                self.push(Expect::NoError, &args)
            }
            Element::StreamMeta { last_id, max_deleted_id, entries_added, .. } => {
                self.stream_meta(last_id, max_deleted_id, entries_added)
            }
            Element::StreamGroup { name, last_id, entries_read } => {
                let (last_id, read) = (last_id.to_string(), entries_read.unwrap_or(-1).to_string());
                let mut args = vec![b"XGROUP".as_slice(), b"CREATE", self.key, name, last_id.as_bytes()];
                if entries_read.is_some() && self.server.has((7, 0), None) {
                    args.extend([b"ENTRIESREAD".as_slice(), read.as_bytes()]);
                }
                self.push(Expect::NoError, &args)
            }
            // Before 6.2 a consumer comes to be when it reads; this one reads what it has pending, nothing.
            Element::StreamConsumer { group, name, .. } if !self.server.has((6, 2), None) => {
                let read = [b"XREADGROUP".as_slice(), b"GROUP", group, name, b"STREAMS", self.key, b"0"];
                self.push(Expect::NoError, &read)
            }
            Element::StreamConsumer { group, name, .. } => {
                self.push(Expect::NoError, &[b"XGROUP", b"CREATECONSUMER", self.key, group, name])
            }
            // It answers with the ids that it claimed. An entry that is gone cannot be claimed: from 7.0 on that
            // drops it from the pending ones, which must not go unseen.
            Element::StreamPending { group, consumer, id, delivery_time_ms, delivery_count } => self.push(
                Expect::Elements(1),
                &[
                    b"XCLAIM",
                    self.key,
                    group,
                    consumer,
                    b"0",
                    id.to_string().as_bytes(),
                    b"TIME",
                    delivery_time_ms.max(0).to_string().as_bytes(),
                    b"RETRYCOUNT",
                    delivery_count.to_string().as_bytes(),
                    b"FORCE",
                    b"JUSTID",
                ],
            ),
            Element::StreamNacked { .. } => Err(self.loss(Loss::NackedEntries(self.server.to_string()))),
            // A memory of what producers sent, which the target does not keep.
            Element::StreamIdmp(_) => Ok(()),
            Element::ArrayMeta { .. }
            | Element::ArrayItem { .. }
            | Element::ModuleValue { .. }
            | Element::ModulePart(_) => Err(self.loss(Loss::Value {
                kind: self.entry.kind.data_type().name(),
                type_byte: self.entry.type_byte,
                target: self.server.to_string(),
            })),
        }
    }

    /// Ends the key: what is left, and its expiry.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        if let Some(expiry_ms) = self.entry.expiry_ms {
            let expiry = expiry_ms.to_string();
            self.push(Expect::NoError, &[b"PEXPIREAT", self.key, expiry.as_bytes()])?;
        }
        self.batcher.batch().keys += 1;
        Ok(())
    }

    /// The last id, and from 7.0 what the stream counts; a stream without entries is made first.
    fn stream_meta(
        &mut self,
        last_id: StreamId,
        max_deleted_id: Option<StreamId>,
        added: Option<u64>,
    ) -> Result<(), Error> {
        let last = last_id.to_string();
        if self.stream_entries == 0 {
            // The group is the only way to an empty stream that never had an entry.
            self.push(Expect::NoError, &[b"XGROUP", b"CREATE", self.key, b"replsync", b"0", b"MKSTREAM"])?;
            self.push(Expect::NoError, &[b"XGROUP", b"DESTROY", self.key, b"replsync"])?;
        }
        let (added, deleted) =
            (added.unwrap_or(0).to_string(), max_deleted_id.unwrap_or_default().to_string());
        let mut args = vec![b"XSETID".as_slice(), self.key, last.as_bytes()];
        if self.server.has((7, 0), None) && max_deleted_id.is_some() {
            args.extend([b"ENTRIESADDED".as_slice(), added.as_bytes(), b"MAXDELETEDID", deleted.as_bytes()]);
        }
        self.push(Expect::NoError, &args)
    }

    /// Adds elements to a command that takes many.
    fn gather(&mut self, verb: &'static str, elements: &[&[u8]]) -> Result<(), Error> {
        self.verb = verb;
        for element in elements {
            write_bulk(&mut self.elements, element);
            self.args += 1;
        }
        if self.args >= ELEMENTS || self.elements.len() >= BYTES { self.flush() } else { Ok(()) }
    }

    /// Encodes the command under way, and for fields of a hash the expiries that go with it.
    fn flush(&mut self) -> Result<(), Error> {
        if self.args > 0 {
            let mut command = self.batcher.command(self.entry.db, self.place, Expect::NoError, 2 + self.args);
            command.arg(self.verb.as_bytes());
            command.arg(self.key);
            command.encoded(self.args, &self.elements);
            drop(command);
            self.elements.clear();
            self.args = 0;
        }
        let mut expiries = std::mem::take(&mut self.field_expiries);
        expiries.sort_by_key(|(expiry_ms, _)| *expiry_ms);
        for same in expiries.chunk_by(|a, b| a.0 == b.0) {
            let (expiry, count) = (same[0].0.to_string(), same.len().to_string());
            let mut args =
                vec![b"HPEXPIREAT".as_slice(), self.key, expiry.as_bytes(), b"FIELDS", count.as_bytes()];
            args.extend(same.iter().map(|(_, field)| field.as_slice()));
            self.push(Expect::Elements(same.len() as u32), &args)?;
        }
        self.hand_on()
    }

    fn push(&mut self, expect: Expect, args: &[&[u8]]) -> Result<(), Error> {
        self.batcher.push(self.entry.db, self.place, expect, args);
        self.hand_on()
    }

    fn hand_on(&mut self) -> Result<(), Error> {
        match self.batcher.is_full() {
            true => self.batcher.take().map_or(Ok(()), &mut self.emit),
            false => Ok(()),
        }
    }

    fn loss(&self, loss: Loss) -> Error {
        let at = At { db: Some(self.entry.db), key: Some(self.key.to_vec()), place: Some(self.place) };
        Error::Loss { loss, at: Box::new(at) }
    }
}
