//! Streams: listpack nodes of entries, then what the stream knows of itself, its groups and its producers.
//!
//! Source: `rdbLoadObject` in `src/rdb.c`, the comment above `STREAM_ITEM_FLAG_NONE` in `src/t_stream.c`, and for
//! RDB 13 and 14 `elementStreamLP` in `src/lib/parser.c` of librdb.

use super::{Scratch, copy_string, string};
use crate::rdb::element::{Element, Idmp, StreamId};
use crate::rdb::input::Input;
use crate::rdb::listpack;
use crate::rdb::packed::{Packed, Text, Wrong};
use crate::rdb::primitive::{array, length, millis};
use crate::rdb::{Error, Kind, Limits};

/// Decodes a stream of any version.
pub(super) fn stream<I: Input, E: From<Error>>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let version = match kind {
        Kind::Stream1 => 1,
        Kind::Stream2 => 2,
        Kind::Stream3 => 3,
        Kind::Stream4 => 4,
        _ => 5,
    };
    for _ in 0..length(input)? {
        let offset = input.offset();
        let corrupt = |what| Error::Corrupt { what, offset };
        let key = string(input, limits, &mut scratch.first)?;
        let master =
            StreamId::from_key(key).ok_or_else(|| corrupt("a stream node's key is not an id of 16 bytes"))?;
        let offset = input.offset();
        let blob = string(input, limits, &mut scratch.first)?;
        node(blob, offset, master, limits, sink)?;
    }
    sink(meta(version, input)?)?;
    for _ in 0..length(input)? {
        group(version, input, limits, scratch, sink)?;
    }
    if version >= 4 {
        producers(input, limits, scratch, sink)?;
    }
    Ok(())
}

impl StreamId {
    /// From two big-endian numbers, so that they sort as bytes (`streamEncodeID`).
    fn from_key(key: &[u8]) -> Option<Self> {
        let (ms, seq) = key.split_first_chunk()?;
        Some(Self { ms: u64::from_be_bytes(*ms), seq: u64::from_be_bytes(seq.try_into().ok()?) })
    }

    fn read_key<I: Input>(input: &mut I) -> Result<Self, Error> {
        Ok(Self { ms: u64::from_be_bytes(array(input)?), seq: u64::from_be_bytes(array(input)?) })
    }

    fn read<I: Input>(input: &mut I) -> Result<Self, Error> {
        Ok(Self { ms: length(input)?, seq: length(input)? })
    }
}

fn meta<I: Input>(version: u8, input: &mut I) -> Result<Element<'static>, Error> {
    let (length_, last_id) = (length(input)?, StreamId::read(input)?);
    let (mut first_id, mut max_deleted_id, mut entries_added) = (None, None, None);
    if version >= 2 {
        first_id = Some(StreamId::read(input)?);
        max_deleted_id = Some(StreamId::read(input)?);
        entries_added = Some(length(input)?);
    }
    Ok(Element::StreamMeta { length: length_, last_id, first_id, max_deleted_id, entries_added })
}

/// The items of a node, read as what they must be.
struct Node<'a> {
    items: listpack::Items<'a>,
}

impl<'a> Node<'a> {
    fn next(&mut self) -> Result<Packed<'a>, Wrong> {
        self.items.next().unwrap_or(Err("a stream node ends within an entry"))
    }

    fn int(&mut self) -> Result<i64, Wrong> {
        match self.next()? {
            Packed::Int(number) => Ok(number),
            Packed::Bytes(_) => Err("a stream node has text where a number must be"),
        }
    }

    fn count(&mut self) -> Result<u64, Wrong> {
        u64::try_from(self.int()?).map_err(|_| "a stream node has a negative count")
    }
}

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// A node: a master entry (counts, and the fields that most entries have), then the entries, their ids relative
/// to the node's.
fn node<E: From<Error>>(
    blob: &[u8],
    offset: u64,
    master: StreamId,
    limits: &Limits,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let corrupt = |what| Error::Corrupt { what, offset };
    let within = |count: u64| match count {
        len if len > limits.max_stream_fields => {
            Err(Error::TooLong { offset, len, limit: limits.max_stream_fields })
        }
        count => Ok(count),
    };
    let mut node = Node { items: listpack::Items::new(blob).map_err(corrupt)? };
    let mut left = (node.count().map_err(corrupt)?, node.count().map_err(corrupt)?);
    let mut master_fields = Vec::new();
    for _ in 0..within(node.count().map_err(corrupt)?)? {
        master_fields.push(Text::from(node.next().map_err(corrupt)?));
    }
    if node.int().map_err(corrupt)? != 0 {
        return Err(corrupt("a stream node's master entry does not end in 0").into());
    }
    let mut texts = Vec::new();
    while let Some(flags) = node.items.next() {
        let Packed::Int(flags) = flags.map_err(corrupt)? else {
            return Err(corrupt("a stream entry's flags are no number").into());
        };
        let (ms, seq) = (node.int().map_err(corrupt)?, node.int().map_err(corrupt)?);
        let id = StreamId { ms: master.ms.wrapping_add_signed(ms), seq: master.seq.wrapping_add_signed(seq) };
        let same = flags & SAME_FIELDS != 0;
        let count = if same { master_fields.len() as u64 } else { within(node.count().map_err(corrupt)?)? };
        let items = if same { count } else { count * 2 };
        texts.clear();
        for _ in 0..items {
            texts.push(Text::from(node.next().map_err(corrupt)?));
        }
        // flags, two of id, the items, and where the entry has its own fields their count
        if node.count().map_err(corrupt)? != items + if same { 3 } else { 4 } {
            return Err(corrupt("a stream entry does not end in its own length").into());
        }
        let counter = if flags & DELETED == 0 { &mut left.0 } else { &mut left.1 };
        *counter = counter.checked_sub(1).ok_or_else(|| corrupt("a stream node's counts are wrong"))?;
        if flags & DELETED == 0 {
            let fields: Vec<(&[u8], &[u8])> = if same {
                master_fields
                    .iter()
                    .zip(&texts)
                    .map(|(field, value)| (field.as_bytes(), value.as_bytes()))
                    .collect()
            } else {
                texts.chunks_exact(2).map(|pair| (pair[0].as_bytes(), pair[1].as_bytes())).collect()
            };
            sink(Element::StreamEntry { id, fields: &fields })?;
        }
    }
    if left != (0, 0) {
        return Err(corrupt("a stream node's counts are wrong").into());
    }
    Ok(())
}

/// A pending entry as the group lists it, until a consumer claims it.
struct Pending {
    id: StreamId,
    delivery_time_ms: i64,
    delivery_count: u64,
}

fn group<I: Input, E: From<Error>>(
    version: u8,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let group = string(input, limits, &mut scratch.first)?.to_vec();
    let last_id = StreamId::read(input)?;
    // -1 where the server does not know (`SCG_INVALID_ENTRIES_READ`)
    let entries_read =
        if version >= 2 { Some(length(input)?.cast_signed()).filter(|&read| read >= 0) } else { None };
    sink(Element::StreamGroup { name: &group, last_id, entries_read })?;

    let offset = input.offset();
    let corrupt = |what| Error::Corrupt { what, offset };
    let mut pending = Vec::new();
    for _ in 0..length(input)? {
        let id = StreamId::read_key(input)?;
        pending.push(Pending { id, delivery_time_ms: millis(input)?, delivery_count: length(input)? });
    }
    pending.sort_by_key(|entry| entry.id);
    let mut claimed = vec![false; pending.len()];
    let mut claim = |id: StreamId| {
        let index = pending
            .binary_search_by_key(&id, |entry| entry.id)
            .map_err(|_| corrupt("a consumer has a pending entry that its group has not"))?;
        if std::mem::replace(&mut claimed[index], true) {
            return Err(corrupt("a pending entry has two owners"));
        }
        Ok(&pending[index])
    };

    for _ in 0..length(input)? {
        copy_string(input, limits, &mut scratch.first)?;
        let name = &scratch.first;
        let seen_time_ms = millis(input)?;
        let active_time_ms = if version >= 3 { Some(millis(input)?) } else { None };
        sink(Element::StreamConsumer { group: &group, name, seen_time_ms, active_time_ms })?;
        for _ in 0..length(input)? {
            let Pending { id, delivery_time_ms, delivery_count } = *claim(StreamId::read_key(input)?)?;
            sink(Element::StreamPending {
                group: &group,
                consumer: name,
                id,
                delivery_time_ms,
                delivery_count,
            })?;
        }
    }
    if version >= 5 {
        for _ in 0..length(input)? {
            let Pending { id, delivery_time_ms, delivery_count } = *claim(StreamId::read_key(input)?)?;
            sink(Element::StreamNacked { group: &group, id, delivery_time_ms, delivery_count })?;
        }
    }
    if claimed.contains(&false) {
        return Err(corrupt("a group has a pending entry that no consumer has").into());
    }
    Ok(())
}

fn producers<I: Input, E: From<Error>>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let (duration_seconds, max_entries, producers) = (length(input)?, length(input)?, length(input)?);
    sink(Element::StreamIdmp(Idmp::Config { duration_seconds, max_entries, producers }))?;
    for _ in 0..producers {
        copy_string(input, limits, &mut scratch.first)?;
        for _ in 0..length(input)? {
            copy_string(input, limits, &mut scratch.second)?;
            let (producer, message_id) = (&scratch.first, &scratch.second);
            let id = StreamId::read(input)?;
            sink(Element::StreamIdmp(Idmp::Entry { producer, message_id, id }))?;
        }
    }
    let (added, duplicates) = (length(input)?, length(input)?);
    sink(Element::StreamIdmp(Idmp::Counters { added, duplicates }))
}
